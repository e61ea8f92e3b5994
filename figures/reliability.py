"""Reliability diagrams of rows of Table 2: how often predictions of a given confidence are right.

Guo et al., On calibration of modern neural networks, ICML 2017.

Differs from the paper: it shows none, though confidence is what its method weighs losses with.
Bins are those of the expected calibration error in ``metrics``. They hold the predictions of all reported epochs, folds
and seeds; the ECE is the tables', the mean over epochs, folds and seeds of each one's own. The runs are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from udcd_bench.artefacts import figure
from udcd_bench.render import plots
from udcd_bench.stats import metrics

MIN_PREDICTIONS = 10
"""A bin with fewer predictions is drawn hollow."""


class Figure(figure.Figure):
    """One diagram for each row; each data set begins a new row of panels."""

    name = "reliability"
    title = "Reliability diagrams"
    measured = (
        "Dots: accuracy of the predictions whose highest probability lies in one of 15 bins of equal width, at their "
        "mean confidence, hollow for fewer than 10; a perfectly calibrated network's lie on the diagonal, an "
        "overconfident one's below. Bars: share of the predictions in the bin. ECE: expected calibration error, in "
        "percent. Predictions of all reported epochs, folds and seeds together; the ECE is the mean of theirs."
    )
    datasets = ("aptos", "ham10000")
    metrics = ("ece",)
    rows: ClassVar = {"scratch": "Scratch", "crckd": "CRCKD", "ssd-kd": "SSD-KD", "udcd": "UDCD"}
    shown = ("dataset", "method", "ece", "n", "state")
    ending = "-ece.csv"

    main_columns = ("dataset", "method", "predictions", "confidence", "accuracy", "synthetic")
    measures = ("ece",)

    def build_cell(self, data, records):
        ece = [100 * record["figures"][data.request.rule]["ece"] for record in records.values()]
        arrays = [data.load_scores(record) for record in records.values()]
        return bin_predictions(arrays), [{"ece": np.mean(ece)}]

    def draw(self, data, frames, **texts):
        width, side = data.compute_panel_size(0.4)
        page = plots.FigurePage((width, data.count_panel_rows() * (side + 0.55)), **texts)
        bins, errors = frames[".csv"], frames["-ece.csv"].set_index(["dataset", "method"])
        for axes, column, row, group in data.add_panels(page):
            title = plots.truncate_text(row.title, 66 * side)
            of_cell = bins[(bins["dataset"] == group.source) & (bins["method"] == row.name)]
            if of_cell.empty:
                axes.set_title(f"{title}\n")
                plots.draw_placeholder(axes, data.describe_state(row, group))
                continue
            axes.set_title(f"{title}\nECE {errors.loc[(group.source, row.name), 'ece']:.1f} %")
            draw_diagram(axes, of_cell, data.styles[row.name].colour)
            axes.tick_params(labelleft=column == 0)
            if column == 0:
                axes.set_ylabel(f"{plots.truncate_text(group.title, 140)}\naccuracy, share")
        return page


def draw_diagram(axes, bins, colour):
    """Draw one diagram in a method's colour: bars of the shares, the diagonal, dots of the accuracies."""
    plots.tidy_axes(axes, grid="both")
    axes.bar(
        bins["low"], bins["share"], bins["high"] - bins["low"], align="edge", color="#c8c8c8", edgecolor="white",
        linewidth=0.4,
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color=plots.GREY, linestyle=(0, (4, 2)), linewidth=0.8)
    filled = bins.dropna(subset=["accuracy"])
    many = filled["predictions"] >= MIN_PREDICTIONS
    axes.plot(filled["confidence"][many], filled["accuracy"][many], color=colour, linewidth=0.8)
    for chosen, face in ((many, colour), (~many, "white")):
        axes.plot(
            filled["confidence"][chosen], filled["accuracy"][chosen], "o", markersize=3.5,
            markerfacecolor=face, markeredgecolor=colour, markeredgewidth=0.8,
        )  # fmt: skip
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    axes.set_xlabel("confidence")


def bin_predictions(run_arrays):
    """Bin the predictions of some runs: each bin's ends, number, share, mean confidence, accuracy; NaN where empty."""
    confidence, right = [], []
    for arrays in run_arrays:
        for epoch in arrays["scores"]:
            p = metrics.softmax(np.asarray(epoch, dtype=np.float64))
            confidence.append(p.max(1))
            right.append(p.argmax(1) == arrays["labels"])
    highest, hits = np.concatenate(confidence), np.concatenate(right)
    bin_of = np.clip(np.ceil(highest * metrics.ECE_BINS).astype(int) - 1, 0, metrics.ECE_BINS - 1)
    bins = []
    for number in range(metrics.ECE_BINS):
        inside = bin_of == number
        n = int(inside.sum())
        bins.append(
            {
                "bin": number + 1,
                "low": number / metrics.ECE_BINS,
                "high": (number + 1) / metrics.ECE_BINS,
                "predictions": n,
                "share": n / len(bin_of),
                "confidence": highest[inside].mean() if n else np.nan,
                "accuracy": hits[inside].mean() if n else np.nan,
            }
        )
    return bins
