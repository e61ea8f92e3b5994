"""A contact sheet: samples by class, how many there are of each, and what augmentation does to some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.data.dataset import Dataset, Images, Ints

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]  # left, bottom, width, height in fractions of the figure
Place = Callable[[float], Box]

SAMPLES = 8  # a class
CLASSES = 20  # beyond that the sheet says how many it leaves out
GAP = 0.04  # between neighbours, of a cell
VIEWS = 3  # images shown with their two augmented views
INK, BAR, WARN = "#222222", "#4c72b0", "#b3261e"


def draw(dataset: Dataset, out: Path, *, seed: int = 0) -> Path:
    """Draw `dataset` to the PNG file `out`; which samples are shown depends on `seed` only."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = min(len(dataset.classes), CLASSES)
    cell = 1.05  # inches
    width, top, foot = cell * (SAMPLES + 6.2), 0.95, 0.4 if dataset.incomplete else 0.15
    height = top + cell * (shown + 1.45) + foot
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    _head(figure, dataset, width, height)

    def at(column: float, y: float, across: float = 1.0, down: float = 1.0) -> Box:
        """A rectangle in figure fractions: columns from the left, inches from the top."""
        return (
            (column * cell) / width,
            1 - (y + down * cell) / height,
            (across - GAP) * cell / width,
            (down - GAP) * cell / height,
        )

    def label(y: float, text: str) -> None:
        x, bottom, _, high = at(2.0, y)
        figure.text(x, bottom + high / 2, text, fontsize=11, color=INK, ha="right", va="center")

    rng = np.random.default_rng(seed)
    counts = dataset.counts()
    for c in range(shown):
        rows = np.flatnonzero(dataset.labels == c)
        rows = np.sort(rng.permutation(rows)[:SAMPLES])
        y = top + c * cell
        label(y, _short(dataset.classes[c]))
        for column, row in enumerate(rows):
            _picture(figure, at(column + 2.1, y), dataset.images[row])
    _bars(figure, at(SAMPLES + 2.5, top, 3.4, shown), counts[:shown])
    y = top + cell * (shown + 0.4)
    if len(dataset.classes) > shown:
        figure.text(
            0.01, 1 - (y - 0.15) / height, f"and {len(dataset.classes) - shown} classes more", color=INK
        )
    label(y, "an image and two\naugmented views of it")
    _augmented(figure, dataset, rng, lambda column: at(column, y))
    if dataset.incomplete:
        figure.text(0.01, 0.12 / height, _short(dataset.incomplete, 150), fontsize=9, color=WARN)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    return out


def _head(figure: Figure, dataset: Dataset, width: float, height: float) -> None:
    y = 1 - 0.36 / height
    figure.text(0.1 / width, y, _short(dataset.title, 60), fontsize=17, color=INK, va="center", weight="bold")
    groups = len(np.unique(dataset.groups))
    size = dataset.size
    facts = f"{_number(len(dataset.labels))} images in {_number(groups)} groups, {size}×{size} pixels"
    figure.text(0.1 / width, y - 0.31 / height, facts, fontsize=10, color=INK, va="center")
    if dataset.synthetic:
        figure.text(
            1 - 0.15 / width,
            y,
            "synthetic stand-in: drawn, not photographed",
            fontsize=12,
            color="white",
            ha="right",
            va="center",
            bbox={"facecolor": WARN, "edgecolor": "none", "boxstyle": "round,pad=0.4"},
        )


def _number(n: int) -> str:
    return f"{n:,}".replace(",", "\u2009")


def _short(text: str, most: int = 22) -> str:
    # A dollar sign would start mathematics.
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")


def _picture(figure: Figure, where: Box, image: Images) -> None:
    axes = figure.add_axes(where)
    axes.imshow(image, interpolation="nearest" if len(image) < 64 else "antialiased")
    axes.set_axis_off()


def _bars(figure: Figure, where: Box, counts: Ints) -> None:
    axes = figure.add_axes(where)
    axes.barh(range(len(counts)), counts, color=BAR, height=0.5)
    total = max(int(counts.sum()), 1)
    for c, n in enumerate(counts):
        share = f" {_number(int(n))}  ({100 * n / total:.1f} %)"
        axes.text(n, c, share, va="center", fontsize=10, color=INK)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_xlim(0, max(int(counts.max()), 1) * 1.6)
    axes.set_axis_off()


def _augmented(figure: Figure, dataset: Dataset, rng: np.random.Generator, at: Place) -> None:
    import torch

    from udcd_bench.data.batches import augment

    rows = np.sort(rng.choice(len(dataset.labels), min(VIEWS, len(dataset.labels)), replace=False))
    images = torch.from_numpy(np.ascontiguousarray(dataset.images[rows])).permute(0, 3, 1, 2).float() / 255
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    views = augment.random_views(images, 2, generator)
    for k, row in enumerate(rows):
        column = 2.1 + k * 3.5
        _picture(figure, at(column), dataset.images[row])
        for v, view in enumerate(views):
            pixels = (view[k].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
            _picture(figure, at(column + 1 + v), pixels)
