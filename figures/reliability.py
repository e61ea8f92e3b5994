"""Reliability diagrams of rows of Table 2: how often predictions of a given confidence are right.

Guo et al., On calibration of modern neural networks, ICML 2017.

Differs from the paper: it shows none, though confidence is what its method weighs losses with.
Bins are those of the expected calibration error in ``metrics``. They hold the predictions of all reported epochs, folds
and seeds; the ECE is the tables', the mean over epochs, folds and seeds of each one's own. The runs are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from udcd_bench.artefacts import figure
from udcd_bench.render import plots
from udcd_bench.stats import metrics

MIN_PREDICTIONS = 10
"""A bin with fewer predictions is drawn hollow."""


class Figure(figure.Figure):
    """A panel a row of the table; rows of panels a data set."""

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

    def build_frames(self, data):
        bins, errors = [], []
        for group in data.groups:
            for line in data.rows:
                about, runs = data.describe_cell(line, group), data.find_records(line, group)
                ece = [100 * record["figures"][data.request.rule]["ece"] for record in runs.values()]
                errors.append(about | {"ece": np.mean(ece) if ece else np.nan})
                if runs:
                    kept = [data.load_scores(record) for record in runs.values()]
                    bins += [about | of_bin for of_bin in bin_predictions(kept)]
        empty = pd.DataFrame(
            columns=["dataset", "method", "predictions", "confidence", "accuracy", "synthetic"]
        )
        return {".csv": pd.DataFrame(bins) if bins else empty, "-ece.csv": pd.DataFrame(errors)}

    def draw(self, data, frames, **texts):
        rows, columns = data.compute_panel_shape()
        width = plots.WIDE if columns > 1 else plots.NARROW
        side = min((width - 0.4) / columns - 0.1, 3.0)
        page = plots.FigurePage(width, rows * (side + 0.55), **texts)
        panels = page.add_panels(rows, columns)
        for axes in panels.flat:
            axes.set_axis_off()
        bins, errors = frames[".csv"], frames["-ece.csv"].set_index(["dataset", "method"])
        for row, column, line, group in data.iterate_panels():
            axes = panels[row, column]
            axes.set_axis_on()
            axes.set_box_aspect(1)
            title = plots.truncate_text(line.title, 66 * side)
            here = bins[(bins["dataset"] == group.source) & (bins["method"] == line.name)]
            if here.empty:
                axes.set_title(f"{title}\n")
                plots.draw_placeholder(axes, data.describe_state(line, group))
                continue
            axes.set_title(f"{title}\nECE {errors.loc[(group.source, line.name), 'ece']:.1f} %")
            plots.tidy_axes(axes, grid="both")
            widths = here["high"] - here["low"]
            axes.bar(
                here["low"],
                here["share"],
                widths,
                align="edge",
                color="#c8c8c8",
                edgecolor="white",
                linewidth=0.4,
            )
            axes.plot([0, 1], [0, 1], color=plots.GREY, linestyle=(0, (4, 2)), linewidth=0.8)
            there = here.dropna(subset=["accuracy"])
            many = there["predictions"] >= MIN_PREDICTIONS
            axes.plot(
                there["confidence"][many], there["accuracy"][many], color=plots.COLOURS[0], linewidth=0.8
            )
            for chosen, face in ((many, plots.COLOURS[0]), (~many, "white")):
                axes.plot(
                    there["confidence"][chosen], there["accuracy"][chosen], "o", markersize=3.5,
                    markerfacecolor=face, markeredgecolor=plots.COLOURS[0], markeredgewidth=0.8,
                )  # fmt: skip
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            axes.set_xlabel("confidence")
            axes.tick_params(labelleft=column == 0)
            if column == 0:
                axes.set_ylabel(f"{plots.truncate_text(group.title, 140)}\naccuracy, share")
        return page


def bin_predictions(run_arrays):
    """Bins of the predictions of some runs: ends, number, share, mean confidence, accuracy; NaN where it is empty."""
    confidence, right = [], []
    for arrays in run_arrays:
        for epoch in arrays["scores"]:
            p = metrics.softmax(np.asarray(epoch, dtype=np.float64))
            confidence.append(p.max(1))
            right.append(p.argmax(1) == arrays["labels"])
    highest, hits = np.concatenate(confidence), np.concatenate(right)
    place = np.clip(np.ceil(highest * metrics.ECE_BINS).astype(int) - 1, 0, metrics.ECE_BINS - 1)
    made = []
    for number in range(metrics.ECE_BINS):
        inside = place == number
        n = int(inside.sum())
        ends = {"low": number / metrics.ECE_BINS, "high": (number + 1) / metrics.ECE_BINS}
        found = {"predictions": n, "share": n / len(place)}
        means = (highest[inside].mean(), hits[inside].mean()) if n else (np.nan, np.nan)
        made.append({"bin": number + 1} | ends | found | dict(zip(("confidence", "accuracy"), means)))
    return made
