"""Series of drawn images: their labels in published proportions, and drawing all of them in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from udcd_bench.data import workers
from udcd_bench.data.dataset import Images, Ints
from udcd_bench.data.synthetic.drawing import compute_canvas_side

CHUNK = 16
"""Images that a worker draws per task: 2.4 MB at 224 pixels, so neither pickling nor waiting shows."""


class DrawFunction(Protocol):
    """A function that draws one image; a module-level one, so that worker processes can import it."""

    def __call__(self, index: int, label: int, size: int, seed: int, group: int) -> Images:
        """Draw image ``index``, (size, size, 3) uint8, from these arguments alone."""


def make_proportional_labels(n: int, counts: Sequence[int], seed: int, least: int = 10) -> Ints:
    """Make shuffled labels (n,) in the proportions of ``counts``, by largest remainder.

    Every class has at least ``least`` images when n allows it: a rare class is raised to it and the others share the
    rest.
    """
    C = len(counts)
    share = np.zeros(C, np.int64)
    free = np.ones(C, bool)
    while free.any():
        left = n - int(share[~free].sum())
        quota = np.where(free, counts, 0) * left / np.asarray(counts)[free].sum()
        floor = np.floor(quota).astype(np.int64)
        order = np.argsort(np.where(free, floor - quota, 1), kind="stable")
        floor[order[: left - int(floor.sum())]] += 1
        share[free] = floor[free]
        rare = free & (share < least)
        if n < least * C or not rare.any():
            break
        share[rare] = least
        free &= ~rare
    labels = np.repeat(np.arange(C, dtype=np.int64), share)
    return np.random.default_rng(np.random.SeedSequence([seed, n, C])).permutation(labels)


@dataclass(frozen=True)
class Series:
    """A series of images to draw.

    Attributes
    ----------
    draw: draws one image. labels, groups: (n,) of the images; a group is the lesion or eye that an image shows.
    size: side of the images in pixels. seed: of everything in them. start: index of the first image.
    """

    draw: DrawFunction
    labels: Ints
    groups: Ints
    size: int
    seed: int
    start: int = 0

    def cut(self) -> list[Series]:
        """Cut the series into tasks for workers."""
        return [
            replace(
                self,
                labels=self.labels[start : start + CHUNK],
                groups=self.groups[start : start + CHUNK],
                start=start,
            )
            for start in range(0, len(self.labels), CHUNK)
        ]


def _draw_task(task: Series) -> tuple[int, Images]:
    """Draw a worker's task; returns the index of its first image, and its images."""
    rows = [
        task.draw(task.start + i, int(label), task.size, task.seed, int(group))
        for i, (label, group) in enumerate(zip(task.labels, task.groups, strict=True))
    ]
    return task.start, np.stack(rows)


def draw_all(
    series: Series,
    *,
    jobs: int = 1,
    progress: Callable[[int], object] | None = None,
    out: Images | None = None,
) -> Images:
    """Draw a series in ``jobs`` processes, (n, size, size, 3) uint8; the pixels do not depend on how many.

    progress: called with the number of images of each finished task. out: takes the images in place of a new array;
    a memory map, for instance.
    """
    compute_canvas_side(series.size)  # a wrong size raises now, once, and not within a worker
    shape = (len(series.labels), series.size, series.size, 3)
    images = np.empty(shape, np.uint8) if out is None else out
    with closing(_draw_tasks(series.cut(), jobs)) as parts:  # the pool ends at once when the callback raises
        for start, rows in parts:
            images[start : start + len(rows)] = rows
            if progress is not None:
                progress(len(rows))
    return images


def _draw_tasks(tasks: Sequence[Series], jobs: int) -> Generator[tuple[int, Images], None, None]:
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(_draw_task, tasks)
        return
    with workers.open_pool(min(jobs, len(tasks))) as pool:
        try:
            for finished in as_completed(workers.submit_all(pool, _draw_task, ((task,) for task in tasks))):
                yield finished.result()
        except BaseException:
            workers.abandon(pool)
            raise
