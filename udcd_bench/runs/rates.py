"""How fast this machine trains each method, as ``udcd-bench bench --json`` has measured it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from udcd_bench.errors import UserError
from udcd_bench.storage.checksums import from_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.profiles import Protocol


@dataclass(frozen=True)
class Rates:
    """images_per_s: of a training step of each method, on images of that size in batches of that size."""

    backbone: str
    image_size: int
    batch: int
    images_per_s: Mapping[str, float]

    def describe(self) -> str:
        """What was measured, in words."""
        return f"{self.backbone}, {self.image_size} pixels, batches of {self.batch}"

    def estimate_seconds(self, job: Job, protocol: Protocol, n_train: int) -> float | None:
        """What a run of so many training images takes, every stage at the main one's rate; None if not measured."""
        measured = (self.backbone, self.image_size, self.batch)
        if measured != (job.spec.backbone, protocol.image_size, protocol.batch_size):
            return None
        rate = self.images_per_s.get(job.spec.method)
        return job.epochs * n_train / rate if rate else None


def read_rates(path: Path) -> Rates:
    """Raises UserError for a file that is not what ``bench --json`` writes."""
    try:
        found = from_json(path.read_bytes())
        ask = found["ask"]
        rates = {str(row["method"]): float(row["images_per_s"]) for row in found["methods"]}
        if not rates or not all(1e-9 < rate < math.inf for rate in rates.values()):
            raise ValueError("a rate is no number of images a second")
        return Rates(str(ask["backbone"]), int(ask["image_size"]), int(ask["batch"]), rates)
    except OSError as error:
        raise UserError(f"--rates {path}: it cannot be read ({error.strerror or error}).") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"--rates {path}: it is not what `udcd-bench bench --json FILE` writes ({error!s:.100})."
        ) from error
