"""Learning curves of rows of Table 2: the training loss after each epoch, and the test accuracy of the reported ones.

Differs from the paper: it shows none.
A method's loss is the sum of its own terms, so losses of different methods do not compare; only their courses do.
Epochs of a method of several stages follow one another. The test accuracy has no earlier epochs: the test set is looked
at in the reported epochs alone, so that nothing can be chosen by it, and so a curve of it from the first epoch would
need runs of their own.
The runs are Table 2's.
"""

from __future__ import annotations

import math
from typing import ClassVar

import pandas as pd

from udcd_bench.artefacts import figure
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import Bootstrap
from udcd_bench.render import plots


class Figure(figure.Figure):
    """One line for each method; loss and accuracy side by side, a row of panels for each data set."""

    name = "learning"
    title = "Learning curves"
    measured = (
        "Left: the sum of a method's loss terms over the training images, on a logarithmic scale, the epochs of its "
        "stages one after another; losses of different methods do not compare. Right: test accuracy after each "
        "reported epoch, in percent; no other epoch looks at the test set, so that nothing can be chosen by it. The "
        "axis spans no less than a single accuracy may be off, 95 %, by its test images and its training. Means over "
        "folds and seeds; bands and upright lines: ± their standard deviation."
    )
    datasets = ("aptos", "ham10000")
    metrics = ()
    rows: ClassVar = {"scratch": "Scratch", "crckd": "CRCKD", "ssd-kd": "SSD-KD", "udcd": "UDCD"}
    shown = ("dataset", "method", "epoch", "loss", "acc", "n", "state")
    ending = "-last.csv"

    main_columns = ("dataset", "method", "epoch", "reported", "loss", "acc", "synthetic")

    def build_cell(self, data, records):
        histories = pd.concat([data.load_history(record) for record in records.values()])
        lines, reported = [], 0
        for epoch, of_epoch in histories.groupby("epochs"):
            line = {"epoch": epoch, "stage": of_epoch["stage"].iloc[0]}
            for column, scale in (("loss", 1), ("acc", 100)):
                line[column] = scale * of_epoch[column].mean()
                line[f"{column}_spread"] = scale * of_epoch[column].std(ddof=1)
            reported += bool(of_epoch["acc"].notna().any())
            lines.append(line | {"reported": reported or None})
        return lines, lines[-1:]

    def draw(self, data, frames, **texts):
        by_dataset = data.split_by_dataset(frames[".csv"])
        legend = [plots.make_legend_entry(data.styles[row.name], data.format_label(row)) for row in data.rows]
        page = plots.FigurePage((plots.WIDE, 2.1 * len(by_dataset)), legend=legend, **texts)
        panels = page.add_panels(len(by_dataset), 2, gridspec_kw={"width_ratios": [1.6, 1]})
        for (left, right), (title, frame) in zip(panels, by_dataset):
            left.set_title(title, loc="left")
            draw_curves(left, data.styles, frame, "epoch", "loss")
            draw_curves(right, data.styles, frame, "reported", "acc")
            if len(frame):
                plots.widen_axis(right, compute_noise(data, frame))
                right.set_xlim(0.5, frame["reported"].max() + 0.5)
                left.set_ylabel("training loss")
                right.set_ylabel("test ACC (%)")
                left.set_yscale("log", subs=[2, 5])
                left.yaxis.set_major_formatter("{x:g}")
                left.yaxis.set_minor_formatter("{x:g}")
        for axes, name in zip(panels[-1], ("epoch", "reported epoch")):
            axes.set_xlabel(name)
        return page


def compute_noise(data, frame):
    """Compute the width of the 95 % interval of one run's accuracy on a data set, points: test images and training."""
    records = {spec: r for spec, r in data.records.items() if spec.dataset in set(frame["dataset"])}
    bootstrap = Bootstrap(data.results, data.request.rule, load_tolerances())
    training = bootstrap.find_training_noise(next(iter(records)), "acc").deviation
    accuracy, fewest = frame["acc"].mean(), min(record["n_test"] for record in records.values())
    return 2 * 1.96 * math.sqrt(accuracy * (100 - accuracy) / fewest + training**2)


def draw_curves(axes, styles, frame, x, y):
    """Draw a line with its band for each row, of the columns x and y of a data set's frame."""
    plots.tidy_axes(axes)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    if frame.empty:
        plots.draw_placeholder(axes, "No run is done.")
    elif frame[x].nunique() == 1:
        axes.set_xticks(frame[x].dropna().unique())  # of one epoch the locator would name fractions
    for name, style in styles.items():
        curve = frame[frame["method"] == name].dropna(subset=[y])
        if curve.empty:
            continue
        spread = curve[f"{y}_spread"].fillna(0)
        axes.fill_between(
            curve[x], curve[y] - spread, curve[y] + spread, color=style.colour, alpha=0.15, linewidth=0
        )
        if len(curve) == 1:  # a band of one epoch has no width
            axes.vlines(curve[x], curve[y] - spread, curve[y] + spread, color=style.colour, linewidth=0.8)
        axes.plot(
            curve[x], curve[y], color=style.colour, linestyle=style.dash, marker=style.marker,
            markevery=max(1, len(curve) // 8), markeredgecolor="black", markeredgewidth=0.3,
        )  # fmt: skip
