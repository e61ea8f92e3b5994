"""Training speeds of the methods on this machine, as ``udcd-bench bench --json`` has measured them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from udcd_bench.errors import UserError
from udcd_bench.storage.checksums import from_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.profiles import Protocol


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

    def estimate_seconds(self, job: Job, protocol: Protocol, n_train: int) -> float | None:
        """Estimate the seconds of a run, every stage at the main one's speed; None if that was not measured.

        n_train: the number of training images.
        """
        measured = (self.backbone, self.image_size, self.batch)
        if measured != (job.spec.backbone, protocol.image_size, protocol.batch_size):
            return None
        rate = self.images_per_s.get(job.spec.method)
        return job.epochs * n_train / rate if rate else None


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
