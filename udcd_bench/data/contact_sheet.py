"""The contact sheet of a data set: samples by class, class counts, and augmented views of some images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.data.dataset import Dataset, Images, Ints
from udcd_bench.render import fonts
from udcd_bench.render.typeset import ignore_missing_glyphs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]
"""Left, bottom, width, height in fractions of the figure."""

SAMPLES_PER_CLASS = 8
MAX_CLASSES = 20
"""Beyond that the sheet says how many classes it leaves out."""
N_AUGMENTED = 3
"""Images shown with their two augmented views."""
CELL = 1.05
"""Inches a side."""
LABEL_SIZE = 11
"""Points."""
GAP = 0.04
"""Between neighbours, as a fraction of a cell."""
TOP = 0.95
"""Inches of the header."""
INK, BAR, WARN = "#222222", "#4c72b0", "#b3261e"


@dataclass(frozen=True)
class _Sheet:
    """A figure divided into cells; width and height in inches."""

    figure: Figure
    width: float
    height: float

    def compute_box(self, column: float, y: float, across: float = 1.0, down: float = 1.0) -> Box:
        """Compute a box from its column, its distance ``y`` from the top in inches, and its size in cells."""
        return (
            (column * CELL) / self.width,
            1 - (y + down * CELL) / self.height,
            (across - GAP) * CELL / self.width,
            (down - GAP) * CELL / self.height,
        )

    def write_label(self, y: float, text: str) -> None:
        """Write a label to the left of a row of cells."""
        x, bottom, _, high = self.compute_box(2.0, y)
        self.figure.text(x, bottom + high / 2, text, fontsize=LABEL_SIZE, color=INK, ha="right", va="center")

    def draw_image(self, column: float, y: float, image: Images) -> None:
        """Draw an image into a cell."""
        axes = self.figure.add_axes(self.compute_box(column, y))
        axes.imshow(image, interpolation="nearest" if len(image) < 64 else "antialiased")
        axes.set_axis_off()


def draw_sheet(dataset: Dataset, out: Path, *, seed: int = 0) -> Path:
    """Draw ``dataset`` to the PNG file ``out``; which samples are shown depends on ``seed`` only."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n_classes = min(len(dataset.classes), MAX_CLASSES)
    foot = 0.4 if dataset.incomplete else 0.15
    width, height = CELL * (SAMPLES_PER_CLASS + 6.2), TOP + CELL * (n_classes + 1.45) + foot
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    sheet = _Sheet(figure, width, height)
    rng = np.random.default_rng(seed)
    _draw_header(sheet, dataset)
    _draw_samples(sheet, dataset, n_classes, rng)
    _draw_bars(sheet, dataset.count_labels()[:n_classes], len(dataset.labels))
    y = TOP + CELL * (n_classes + 0.4)
    if len(dataset.classes) > n_classes:
        more = f"and {len(dataset.classes) - n_classes} classes more"
        figure.text(0.01, 1 - (y - 0.15) / height, more, color=INK)
    sheet.write_label(y, "an image and two\naugmented views of it")
    _draw_augmented(sheet, y, dataset, rng)
    if dataset.incomplete:
        figure.text(0.01, 0.12 / height, _shorten(dataset.incomplete, 150), fontsize=9, color=WARN)
    out.parent.mkdir(parents=True, exist_ok=True)
    with ignore_missing_glyphs():
        fonts.use_fallbacks(figure)
        figure.savefig(out, dpi=110)
    return out


def _draw_samples(sheet: _Sheet, dataset: Dataset, n_classes: int, rng: np.random.Generator) -> None:
    """Draw one row of random samples per class."""
    from udcd_bench.render import plots

    width = 72 * CELL * (2 - 2 * GAP)
    labels = plots.fit_names(fonts.label_classes(dataset.classes[:n_classes]), width, LABEL_SIZE)
    for c in range(n_classes):
        rows = np.flatnonzero(dataset.labels == c)
        rows = np.sort(rng.permutation(rows)[:SAMPLES_PER_CLASS])
        y = TOP + c * CELL
        sheet.write_label(y, _escape(labels[c]))
        for column, row in enumerate(rows):
            sheet.draw_image(column + 2.1, y, dataset.images[row])


def _draw_header(sheet: _Sheet, dataset: Dataset) -> None:
    """Draw the title, the size of the set, and for a synthetic one a badge that says so."""
    figure, width, height = sheet.figure, sheet.width, sheet.height
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


def _shorten(text: str, most: int) -> str:
    """Cut a text to ``most`` characters."""
    return _escape(text if len(text) <= most else text[: most - 1] + "…")


def _escape(text: str) -> str:
    """Escape dollar signs, which must not start mathematics."""
    return text.replace("$", r"\$")


def _draw_bars(sheet: _Sheet, counts: Ints, total: int) -> None:
    """Draw a bar per class with its number of images, ``counts`` (C,), and its share of all ``total`` images."""
    axes = sheet.figure.add_axes(sheet.compute_box(SAMPLES_PER_CLASS + 2.5, TOP, 3.4, len(counts)))
    axes.barh(range(len(counts)), counts, color=BAR, height=0.5)
    for c, n in enumerate(counts):
        share = f" {_format_count(int(n))}  ({100 * n / total:.1f} %)"
        axes.text(n, c, share, va="center", fontsize=10, color=INK)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_xlim(0, max(int(counts.max()), 1) * 1.6)
    axes.set_axis_off()


def _draw_augmented(sheet: _Sheet, y: float, dataset: Dataset, rng: np.random.Generator) -> None:
    """Draw some images, each with two augmented views, in the row at ``y``."""
    import torch

    from udcd_bench.data.batches import augment

    rows = np.sort(rng.choice(len(dataset.labels), min(N_AUGMENTED, len(dataset.labels)), replace=False))
    images = torch.from_numpy(np.ascontiguousarray(dataset.images[rows])).permute(0, 3, 1, 2).float() / 255
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    views = augment.make_random_views(images, 2, generator)
    for k, row in enumerate(rows):
        column = 2.1 + k * 3.5
        sheet.draw_image(column, y, dataset.images[row])
        for v, view in enumerate(views):
            pixels = (view[k].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
            sheet.draw_image(column + 1 + v, y, pixels)
