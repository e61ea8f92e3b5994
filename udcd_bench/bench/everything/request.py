"""What ``bench --everything`` is asked to measure, and the images that its short runs are made on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench.data import sources

if TYPE_CHECKING:
    from udcd_bench.bench.step import BenchConfig

REAL_SETS = ("ham10000", "aptos")
"""Sources of real images, the first that is prepared in the size of the runs is taken."""
STAND_IN = "synthetic-lesions"
BATCHES_OF_A_STAND_IN = 30
"""Images that are drawn where no real ones are prepared, in batches."""


@dataclass(frozen=True)
class Request:
    """What to measure, on what.

    methods: of the steps. image_sizes: of the steps, in pixels a side; the runs have the first.
    device: by name. batch, threads, rounds: as of ``BenchConfig``. data: the folder of prepared data.
    """

    methods: tuple[str, ...]
    backbone: str
    image_sizes: tuple[int, ...]
    batch: int
    device: str
    threads: int
    rounds: int
    data: Path

    def make_config(self, image_size: int, *methods: str) -> BenchConfig:
        """Make the configuration of the steps of some methods at a size."""
        from udcd_bench.bench.step import BenchConfig

        return BenchConfig(
            methods, self.backbone, image_size, self.batch, self.device, self.threads, self.rounds
        )


class RunImages(NamedTuple):
    """The images of the short runs: a source, and the number of images that are drawn, 0 for real ones."""

    dataset: str
    n_drawn: int

    def describe(self, image_size: int) -> str:
        """Describe them in words."""
        if self.n_drawn:
            return f"{self.n_drawn} drawn stand-ins ({self.dataset}) at {image_size}²: no real images are prepared"
        return f"real images, {self.dataset} at {image_size}²"


def choose_images(request: Request) -> RunImages:
    """Choose real images where some are prepared in the size of the runs, otherwise stand-ins."""
    size = str(request.image_sizes[0])
    for name in REAL_SETS:
        if any(path.name == size for path in sources.list_prepared(name, request.data)):
            return RunImages(name, 0)
    return RunImages(STAND_IN, BATCHES_OF_A_STAND_IN * request.batch)
