"""Confusion matrices of rows of Table 2, and each class's recall and precision.

Differs from the paper: it shows none. A macro average hides which classes are mistaken for which.
Counts are means over the reported epochs and over seeds, and sums over folds, so that each test image counts once;
hence they need not be whole. Rates are of these counts, so their macro mean over several folds or epochs is not quite
the mean of the epochs' figures that the tables print. The runs are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from udcd_bench.artefacts import figure
from udcd_bench.render import fonts, plots
from udcd_bench.stats import metrics

MAX_CLASSES = 9
"""With more classes a cell has no room for its number."""
MAX_LABEL_WIDTH = 72
"""Points; a longer name of a class is cut, and stands whole in the CSV."""


class Figure(figure.Figure):
    """One matrix for each row; each data set begins a new row of panels."""

    name = "confusion"
    title = "Confusion matrices"
    measured = (
        "Rows: the true class, with its test images; columns: the predicted one; each row in percent of its images, so "
        "that the diagonal "
        "is the class's recall. Counts are means over the reported epochs and seeds and sums over folds."
    )
    datasets = ("aptos", "ham10000")
    metrics = ()
    rows: ClassVar = {"scratch": "Scratch", "crckd": "CRCKD", "ssd-kd": "SSD-KD", "udcd": "UDCD"}
    shown = ("dataset", "method", "class", "support", "recall", "precision", "n", "state")
    ending = "-classes.csv"

    main_columns = ("dataset", "method", "true", "predicted", "count", "percent", "synthetic")

    def build_cell(self, data, records):
        names = next(iter(records.values()))["classes"]
        counts = compute_mean_counts({run: data.load_scores(record) for run, record in records.items()})
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1e-12)
        pairs = [
            {
                "true": names[true],
                "predicted": names[predicted],
                "count": counts[true, predicted],
                "percent": 100 * shares[true, predicted],
            }
            for true, predicted in np.ndindex(*counts.shape)
        ]
        hits, predictions = np.diag(counts), counts.sum(0)
        classes = [
            {
                "class": name,
                "support": counts[c].sum(),
                "recall": 100 * shares[c, c],
                "predicted": predictions[c],
                "precision": 100 * hits[c] / predictions[c] if predictions[c] else np.nan,
            }
            for c, name in enumerate(names)
        ]
        return pairs, classes

    def describe(self, data, frames):
        names = frames[".csv"].groupby("dataset")["true"].unique()
        return [sentence for sentence in map(fonts.describe_numbers, names) if sentence][:1]

    def draw(self, data, frames, **texts):
        cells = frames[".csv"]
        by_dataset = cells.groupby("dataset")["true"].unique()
        support = frames[self.ending].groupby(["dataset", "method", "class"], sort=False)["support"].first()
        long = max(measure_label(name) for names in by_dataset for name in split_labels(names)[1])
        counts = plots.measure_text(f" ({support.max():.0f})", plots.MIN_FONT_SIZE)
        width, side = data.compute_panel_size(0.45 + (long + counts) / 72)
        page = plots.FigurePage((width, data.count_panel_rows() * (side + 0.5 + long / 72)), **texts)
        for axes, column, row, group in data.add_panels(page):
            axes.set_title(plots.truncate_text(row.title, 66 * side))
            matrix = cells[(cells["dataset"] == group.source) & (cells["method"] == row.name)]
            if matrix.empty:
                plots.draw_placeholder(axes, data.describe_state(row, group))
                continue
            images = support[group.source, row.name].to_numpy() if column == 0 else None
            draw_matrix(axes, matrix, side, images)
            if column == 0:
                common, _ = split_labels(matrix["true"].unique())
                labels = (group.title, f"true ({common} …)" if common else "true")
                axes.set_ylabel("\n".join(plots.truncate_text(text, 72 * side + 12) for text in labels))
        return page


def draw_matrix(axes, cells, side, images):
    """Draw the lines of one matrix. side: of the panel, inches. images: of each true class, named where given."""
    _, names = split_labels(cells["true"].unique())
    matrix = cells["percent"].to_numpy(dtype=float).reshape(len(names), -1)
    axes.imshow(matrix, cmap="Greys", vmin=0, vmax=100, aspect="auto")
    labels = [plots.truncate_text(name, MAX_LABEL_WIDTH, plots.MIN_FONT_SIZE) for name in names]
    fits = max(map(plots.measure_text, labels)) < 72 * side / len(names) - 4
    axes.set_xticks(range(len(names)), labels, rotation=0 if fits else 90)
    named = [] if images is None else [f"{label} ({n:.0f})" for label, n in zip(labels, images)]
    axes.set_yticks(range(len(names)), named)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    if len(names) > MAX_CLASSES:
        return
    for (y, x), value in np.ndenumerate(matrix):
        colour = "white" if value > 55 else "black" if value >= 0.5 else "#b0b0b0"
        axes.text(x, y, f"{value:.0f}", ha="center", va="center", color=colour, size=plots.MIN_FONT_SIZE)


def split_labels(names):
    """Split the classes' names, or the numbers in their place, into the words all begin with and the rest."""
    return plots.split_common_words(fonts.label_classes(names))


def measure_label(name):
    """Measure what a class's name takes at the side, points."""
    return min(MAX_LABEL_WIDTH, plots.measure_text(name, plots.MIN_FONT_SIZE))


def compute_mean_counts(arrays_by_run):
    """Compute counts (C, C) of runs' scores by (fold, seed): means over epochs and a fold's seeds, sums over folds."""
    by_fold = {}
    for (fold, _), arrays in arrays_by_run.items():
        epochs = [metrics.count_confusions(epoch, arrays["labels"]) for epoch in arrays["scores"]]
        by_fold.setdefault(fold, []).append(np.mean(epochs, axis=0))
    return np.sum([np.mean(seeds, axis=0) for seeds in by_fold.values()], axis=0)
