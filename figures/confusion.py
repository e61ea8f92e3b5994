"""Confusion matrices of rows of Table 2, and each class's recall and precision.

Differs from the paper: it shows none; a macro average hides which class pays for which.
Counts are means over the reported epochs and over seeds, and sums over folds, so that each test image counts once;
hence they need not be whole. Rates are of these counts, so their macro mean over several folds or epochs is not quite
the mean of the epochs' figures that the tables print. The runs are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from udcd_bench.artefacts import figure
from udcd_bench.render import plots
from udcd_bench.stats import metrics

MAX_CLASSES = 9
"""With whose number a cell has room for its figure."""
MAX_LABEL_WIDTH = 72
"""Points of a class's name; what is longer is cut, and stands whole in the CSV."""


class Figure(figure.Figure):
    """A matrix a row of the table; rows of panels a data set."""

    name = "confusion"
    title = "Confusion matrices"
    measured = (
        "Rows: the true class; columns: the predicted one; each row in percent of its images, so that the diagonal "
        "is the class's recall. Counts are means over the reported epochs and seeds and sums over folds."
    )
    datasets = ("aptos", "ham10000")
    metrics = ()
    rows: ClassVar = {"scratch": "Scratch", "crckd": "CRCKD", "ssd-kd": "SSD-KD", "udcd": "UDCD"}
    shown = ("dataset", "method", "class", "support", "recall", "precision", "n", "state")
    ending = "-classes.csv"

    def build_frames(self, data):
        cells, classes = [], []
        for group in data.groups:
            for line in data.rows:
                about, runs = data.describe_cell(line, group), data.find_records(line, group)
                if not runs:
                    classes.append(about)
                    continue
                names = next(iter(runs.values()))["classes"]
                counts = compute_mean_counts({at: data.load_scores(record) for at, record in runs.items()})
                shares = counts / np.maximum(counts.sum(1, keepdims=True), 1e-12)
                for true, predicted in np.ndindex(*counts.shape):
                    where = {"true": names[true], "predicted": names[predicted]}
                    here = {"count": counts[true, predicted], "percent": 100 * shares[true, predicted]}
                    cells.append(about | where | here)
                hits, taken = np.diag(counts), counts.sum(0)
                for place, name in enumerate(names):
                    of_class = {"class": name, "support": counts[place].sum()}
                    of_class |= {"recall": 100 * shares[place, place], "predicted": taken[place]}
                    of_class |= {"precision": 100 * hits[place] / taken[place] if taken[place] else np.nan}
                    classes.append(about | of_class)
        empty = pd.DataFrame(
            columns=["dataset", "method", "true", "predicted", "count", "percent", "synthetic"]
        )
        return {".csv": pd.DataFrame(cells) if cells else empty, "-classes.csv": pd.DataFrame(classes)}

    def draw(self, data, frames, **texts):
        rows, columns = data.compute_panel_shape()
        width = plots.WIDE if columns > 1 else plots.NARROW
        of_sets = frames[".csv"].groupby("dataset")["true"].unique()
        long = max(measure_label(name) for of_set in of_sets for name in plots.split_common_words(of_set)[1])
        side = min((width - 0.45 - long / 72) / columns - 0.1, 3.0)
        page = plots.FigurePage(width, rows * (side + 0.5 + long / 72), **texts)
        panels = page.add_panels(rows, columns)
        for axes in panels.flat:
            axes.set_axis_off()
        for row, column, line, group in data.iterate_panels():
            axes = panels[row, column]
            axes.set_axis_on()
            axes.set_box_aspect(1)
            axes.set_title(plots.truncate_text(line.title, 66 * side))
            cells = frames[".csv"]
            here = cells[(cells["dataset"] == group.source) & (cells["method"] == line.name)]
            if here.empty:
                plots.draw_placeholder(axes, data.describe_state(line, group))
                continue
            full = list(dict.fromkeys(here["true"]))
            common, names = plots.split_common_words(full)
            matrix = here["percent"].to_numpy(dtype=float).reshape(len(names), -1)
            axes.imshow(matrix, cmap="Greys", vmin=0, vmax=100, aspect="auto")
            small = [plots.truncate_text(name, MAX_LABEL_WIDTH, plots.MIN_FONT_SIZE) for name in names]
            flat = max(map(plots.measure_text, small)) < 72 * side / len(names) - 4
            axes.set_xticks(range(len(names)), small, rotation=0 if flat else 90)
            axes.set_yticks(range(len(names)), small if column == 0 else [])
            axes.tick_params(length=0)
            if len(names) <= MAX_CLASSES:
                for (y, x), value in np.ndenumerate(matrix):
                    colour = "white" if value > 55 else "black" if value >= 0.5 else "#b0b0b0"
                    axes.text(
                        x, y, f"{value:.0f}", ha="center", va="center", color=colour, size=plots.MIN_FONT_SIZE
                    )
            axes.set_xlabel("predicted")
            if column == 0:
                true = f"true ({common} …)" if common else "true"
                axes.set_ylabel(
                    "\n".join(plots.truncate_text(text, 72 * side + 12) for text in (group.title, true))
                )
        return page


def measure_label(name):
    """Points that a class takes at the side."""
    return min(MAX_LABEL_WIDTH, plots.measure_text(name, plots.MIN_FONT_SIZE))


def compute_mean_counts(arrays_by_run):
    """Counts (C, C) of runs' scores by (fold, seed): means over epochs and the seeds of a fold, sums over folds."""
    by_fold = {}
    for (fold, _), arrays in arrays_by_run.items():
        epochs = [metrics.count_confusions(epoch, arrays["labels"]) for epoch in arrays["scores"]]
        by_fold.setdefault(fold, []).append(np.mean(epochs, axis=0))
    return np.sum([np.mean(seeds, axis=0) for seeds in by_fold.values()], axis=0)
