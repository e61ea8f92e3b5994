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
ColumnToBox = Callable[[float], Box]

SAMPLES_PER_CLASS = 8  # a class
MAX_CLASSES = 20  # beyond that the sheet says how many it leaves out
GAP = 0.04  # between neighbours, of a cell
N_AUGMENTED = 3  # images shown with their two augmented views
INK, BAR, WARN = "#222222", "#4c72b0", "#b3261e"


def draw_sheet(dataset: Dataset, out: Path, *, seed: int = 0) -> Path:
    """Draw `dataset` to the PNG file `out`; which samples are shown depends on `seed` only."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = min(len(dataset.classes), MAX_CLASSES)
    cell = 1.05  # inches
    width, top, foot = cell * (SAMPLES_PER_CLASS + 6.2), 0.95, 0.4 if dataset.incomplete else 0.15
    height = top + cell * (shown + 1.45) + foot
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    _draw_header(figure, dataset, width, height)

    def compute_box(column: float, y: float, across: float = 1.0, down: float = 1.0) -> Box:
        """A rectangle in figure fractions: columns from the left, inches from the top."""
        return (
            (column * cell) / width,
            1 - (y + down * cell) / height,
            (across - GAP) * cell / width,
            (down - GAP) * cell / height,
        )

    def write_label(y: float, text: str) -> None:
        x, bottom, _, high = compute_box(2.0, y)
        figure.text(x, bottom + high / 2, text, fontsize=11, color=INK, ha="right", va="center")

    rng = np.random.default_rng(seed)
    counts = dataset.count_labels()
    for c in range(shown):
        rows = np.flatnonzero(dataset.labels == c)
        rows = np.sort(rng.permutation(rows)[:SAMPLES_PER_CLASS])
        y = top + c * cell
        write_label(y, _shorten(dataset.classes[c]))
        for column, row in enumerate(rows):
            _draw_image(figure, compute_box(column + 2.1, y), dataset.images[row])
    _draw_bars(figure, compute_box(SAMPLES_PER_CLASS + 2.5, top, 3.4, shown), counts[:shown])
    y = top + cell * (shown + 0.4)
    if len(dataset.classes) > shown:
        figure.text(
            0.01, 1 - (y - 0.15) / height, f"and {len(dataset.classes) - shown} classes more", color=INK
        )
    write_label(y, "an image and two\naugmented views of it")
    _draw_augmented(figure, dataset, rng, lambda column: compute_box(column, y))
    if dataset.incomplete:
        figure.text(0.01, 0.12 / height, _shorten(dataset.incomplete, 150), fontsize=9, color=WARN)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    return out


def _draw_header(figure: Figure, dataset: Dataset, width: float, height: float) -> None:
    y = 1 - 0.36 / height
    figure.text(
        0.1 / width, y, _shorten(dataset.title, 60), fontsize=17, color=INK, va="center", weight="bold"
    )
    groups = len(np.unique(dataset.groups))
    size = dataset.size
    facts = (
        f"{_format_count(len(dataset.labels))} images in {_format_count(groups)} groups, {size}×{size} pixels"
    )
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


def _format_count(n: int) -> str:
    return f"{n:,}".replace(",", "\u2009")


def _shorten(text: str, most: int = 22) -> str:
    # A dollar sign would start mathematics.
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")


def _draw_image(figure: Figure, box: Box, image: Images) -> None:
    axes = figure.add_axes(box)
    axes.imshow(image, interpolation="nearest" if len(image) < 64 else "antialiased")
    axes.set_axis_off()


def _draw_bars(figure: Figure, box: Box, counts: Ints) -> None:
    axes = figure.add_axes(box)
    axes.barh(range(len(counts)), counts, color=BAR, height=0.5)
    total = max(int(counts.sum()), 1)
    for c, n in enumerate(counts):
        share = f" {_format_count(int(n))}  ({100 * n / total:.1f} %)"
        axes.text(n, c, share, va="center", fontsize=10, color=INK)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_xlim(0, max(int(counts.max()), 1) * 1.6)
    axes.set_axis_off()


def _draw_augmented(
    figure: Figure, dataset: Dataset, rng: np.random.Generator, column_box: ColumnToBox
) -> None:
    import torch

    from udcd_bench.data.batches import augment

    rows = np.sort(rng.choice(len(dataset.labels), min(N_AUGMENTED, len(dataset.labels)), replace=False))
    images = torch.from_numpy(np.ascontiguousarray(dataset.images[rows])).permute(0, 3, 1, 2).float() / 255
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    views = augment.make_random_views(images, 2, generator)
    for k, row in enumerate(rows):
        column = 2.1 + k * 3.5
        _draw_image(figure, column_box(column), dataset.images[row])
        for v, view in enumerate(views):
            pixels = (view[k].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
            _draw_image(figure, column_box(column + 1 + v), pixels)
