"""How long runs take: by finished runs, by what ``bench --json`` measured here, by rates measured elsewhere."""

from __future__ import annotations

import sys
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec

from udcd_bench.errors import UserError
from udcd_bench.runs.spec import RunSpec
from udcd_bench.storage.checksums import from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from udcd_bench.runs.profiles import Protocol
    from udcd_bench.runs.store import Store

Planned = TypeVar("Planned", bound="PlannedRun")


class PlannedRun(typing.Protocol):
    """What an estimate of a run's time needs of it: a ``Job`` has it, and so has a run whose key is not known yet."""

    @property
    def spec(self) -> RunSpec:
        """Which run it is."""

    @property
    def epochs(self) -> int:
        """Of all its stages together."""


@dataclass(frozen=True)
class Rates:
    """Training speeds. images_per_s: method → images per second of a training step at this backbone and these sizes."""

    backbone: str
    image_size: int
    batch: int
    images_per_s: Mapping[str, float]

    def describe(self) -> str:
        """Describe what was measured, in words."""
        return f"{self.backbone}, {self.image_size} pixels, batches of {self.batch}"

    def estimate_seconds(self, job: PlannedRun, protocol: Protocol, n_train: int) -> float | None:
        """Estimate the seconds of a run, every stage at the main one's speed; None if that was not measured.

        n_train: the number of training images.
        """
        measured = (self.backbone, self.image_size, self.batch)
        if measured != (job.spec.backbone, protocol.image_size, protocol.batch_size):
            return None
        rate = self.images_per_s.get(job.spec.method)
        return job.epochs * n_train / rate if rate else None


MEASURED_ON = "one core of an AMD EPYC (Zen 4), fp32"
"""Of ``MEASURED``, in docs/performance.md with its conditions. No rate has been measured on a GPU."""
MEASURED = (
    Rates("densenet121", 224, 16, {
        "scratch": 3.9, "udcd": 3.0, "mtg": 2.9, "kd": 3.1, "crckd": 3.0, "udcd-released": 3.0, "crd": 3.0, "rkd": 3.2,
        "scl-ikd": 3.2, "sskd": 0.79, "ssd-kd": 0.80,
    }),
    Rates("densenet121", 128, 16, {
        "scratch": 11.0, "udcd": 8.2, "mtg": 8.9, "kd": 8.6, "crckd": 8.8, "udcd-released": 8.8, "crd": 9.5, "rkd": 8.3,
        "scl-ikd": 8.3, "sskd": 2.3, "ssd-kd": 2.4,
    }),
    Rates("tf_efficientnet_lite0", 64, 64, {
        "scratch": 121.0, "udcd": 88.0, "mtg": 96.0, "kd": 94.0, "crckd": 86.0, "udcd-released": 90.0, "crd": 91.0,
        "rkd": 90.0, "scl-ikd": 92.0, "sskd": 18.0, "ssd-kd": 15.0, "at": 92.0, "balanced-softmax": 124.0,
        "class-balanced": 119.0, "dist": 94.0, "dkd": 90.0, "fitnet": 91.0, "focal": 122.0, "kd-standardized": 93.0,
        "ldam-drw": 121.0, "logit-adjustment": 120.0, "mean-teacher-smooth": 86.0, "mlkd": 41.0, "pkt": 97.0,
        "ps-kd": 126.0, "reviewkd": 42.0, "sp": 98.0,
    }),
)  # fmt: skip


def compare_steps(method: str, baseline: str) -> float | None:
    """Compare a step of a method with the baseline's: how many times as long it takes, an image; None if not measured.

    Of ``MEASURED`` the first counts that has both, as the ratios of sizes hardly differ.
    """
    for measured in MEASURED:
        speeds = measured.images_per_s
        if method in speeds and baseline in speeds:
            return speeds[baseline] / speeds[method]
    return None


def estimate_core_seconds(job: PlannedRun, image_size: int, n_train: int) -> float | None:
    """Estimate roughly, from ``MEASURED``, the seconds of a core that a run takes; None if that was not measured.

    n_train: the number of training images. Batches of other sizes take about as long an image.
    """
    for measured in MEASURED:
        if (measured.backbone, measured.image_size) == (job.spec.backbone, image_size):
            rate = measured.images_per_s.get(job.spec.method)
            return job.epochs * n_train / rate if rate else None
    return None


class _Sizes(msgspec.Struct):
    backbone: str
    image_size: int
    batch: int


class _MethodRate(msgspec.Struct):
    method: str
    images_per_s: Annotated[float, msgspec.Meta(gt=1e-9, le=sys.float_info.max)]


class _RatesFile(msgspec.Struct):
    """What is used of a file of ``bench --json``."""

    ask: _Sizes
    methods: Annotated[list[_MethodRate], msgspec.Meta(min_length=1)]


def read_rates(path: Path) -> Rates:
    """Read a file that ``bench --json`` wrote. Raises UserError when it is something else."""
    try:
        file = msgspec.convert(from_json(path.read_bytes()), _RatesFile)
    except OSError as error:
        raise UserError(f"--rates {path}: it cannot be read ({error.strerror or error}).") from error
    except (ValueError, msgspec.ValidationError) as error:
        raise UserError(
            f"--rates {path}: it is not what `udcd-bench bench --json FILE` writes ({error!s:.100})."
        ) from error
    images_per_s = {row.method: row.images_per_s for row in file.methods}
    return Rates(file.ask.backbone, file.ask.image_size, file.ask.batch, images_per_s)


def estimate_seconds(
    jobs: Iterable[Planned], store: Store, known_seconds: Callable[[Planned], float | None] = lambda job: None
) -> tuple[float, list[Planned]]:
    """Estimate the seconds the jobs take one after another, and list the jobs without an estimate.

    known_seconds: returns a job's time where it is known, else None. Other jobs are estimated from finished runs of
    the same method, data set and backbone, else of the same method and backbone, else of the same backbone, else of
    the same profile, in proportion to the share of the training images.
    """
    epoch_seconds: dict[tuple[str, ...], list[float]] = {}
    for record in store.read_records():
        spec = RunSpec.from_dict(record["spec"])
        each = record["seconds"] / max(1, record["epochs"]) / max(spec.fraction, 0.001)
        for group in _list_similarity_keys(spec):
            epoch_seconds.setdefault(group, []).append(each)
    total, unknown = 0.0, []
    for job in jobs:
        groups = [group for group in _list_similarity_keys(job.spec) if group in epoch_seconds]
        if (seconds := known_seconds(job)) is not None:
            total += seconds
        elif not groups:
            unknown.append(job)
        else:
            similar = epoch_seconds[groups[0]]
            total += job.epochs * job.spec.fraction * sum(similar) / len(similar)
    return total, unknown


def _list_similarity_keys(s: RunSpec) -> tuple[tuple[str, ...], ...]:
    """List what a run may have in common with others that take about as long, the most similar first."""
    profile, method, data = (s.profile, s.backbone), ("method", s.method), ("data", s.data_identity)
    return (*profile, *method, *data), (*profile, *method), profile, (s.profile,)
