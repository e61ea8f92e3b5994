"""Learning curves of rows of Table 2: the training loss after each epoch, and the test accuracy of the reported ones.

Differs from the paper: it shows none.
A method's loss is the sum of its own terms, so losses of different methods do not compare, only their course does.
Epochs of a method of several stages follow one another. The test set is looked at in the reported epochs alone.
The runs are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from udcd_bench.artefacts import figure
from udcd_bench.render import plots


class Figure(figure.Figure):
    """A line a method; loss and accuracy side by side, a row of panels a data set."""

    name = "learning"
    title = "Learning curves"
    measured = (
        "Left: the sum of a method's loss terms over the training images, on a logarithmic scale, the epochs of its "
        "stages one after another; losses of different methods do not compare. Right: test accuracy after each "
        "reported epoch, in percent. Means over folds and seeds; bands: ± their standard deviation."
    )
    datasets = ("aptos", "ham10000")
    metrics = ()
    rows: ClassVar = {"scratch": "Scratch", "crckd": "CRCKD", "ssd-kd": "SSD-KD", "udcd": "UDCD"}
    shown = ("dataset", "method", "epoch", "loss", "acc", "n", "state")
    ending = "-last.csv"

    def build_frames(self, data):
        rows, last = [], []
        for group in data.groups:
            for line in data.rows:
                about, runs = data.describe_cell(line, group), data.find_records(line, group)
                if not runs:
                    last.append(about)
                    continue
                kept = pd.concat([data.load_history(record) for record in runs.values()])
                reported = 0
                for epoch, of_epoch in kept.groupby("epochs"):
                    here = {"epoch": epoch, "stage": of_epoch["stage"].iloc[0]}
                    for column, scale in (("loss", 1), ("acc", 100)):
                        here[column] = scale * of_epoch[column].mean()
                        here[f"{column}_spread"] = scale * of_epoch[column].std(ddof=1)
                    reported += bool(of_epoch["acc"].notna().any())
                    here["reported"] = reported or None
                    rows.append(about | here)
                last.append(rows[-1])
        empty = pd.DataFrame(columns=["dataset", "method", "epoch", "reported", "loss", "acc", "synthetic"])
        return {".csv": pd.DataFrame(rows) if rows else empty, "-last.csv": pd.DataFrame(last)}

    def draw(self, data, frames, **texts):
        sets = data.split_by_dataset(frames[".csv"])
        legend = [
            plots.make_legend_entry(place, data.format_label(line)) for place, line in enumerate(data.rows)
        ]
        page = plots.FigurePage(plots.WIDE, 2.1 * len(sets), legend=legend, **texts)
        panels = page.add_panels(len(sets), 2, gridspec_kw={"width_ratios": [1.6, 1]})
        for row, (title, of_set) in zip(panels, sets):
            for axes, column, of in zip(row, ("loss", "acc"), ("epoch", "reported")):
                plots.tidy_axes(axes)
                for place, line in enumerate(data.rows):
                    here = of_set[of_set["method"] == line.name].dropna(subset=[column])
                    if here.empty:
                        continue
                    style, spread = plots.pick_style(place), here[f"{column}_spread"].fillna(0)
                    axes.fill_between(
                        here[of], here[column] - spread, here[column] + spread, color=style.colour, alpha=0.15,
                        linewidth=0,
                    )  # fmt: skip
                    axes.plot(
                        here[of], here[column], color=style.colour, linestyle=style.dash, marker=style.marker,
                        markevery=max(1, len(here) // 8), markeredgecolor="black", markeredgewidth=0.3,
                    )  # fmt: skip
                axes.xaxis.get_major_locator().set_params(integer=True)
                if len(of_set):
                    axes.set_ylabel("training loss" if column == "loss" else "test ACC (%)")
                else:
                    plots.draw_placeholder(axes, "No run is done.")
            if len(of_set):
                row[0].set_yscale("log", subs=[2, 5])
                for formats in (row[0].yaxis.set_major_formatter, row[0].yaxis.set_minor_formatter):
                    formats("{x:g}")
            row[0].set_title(title, loc="left")
        for axes, name in zip(panels[-1], ("epoch", "reported epoch")):
            axes.set_xlabel(name)
        return page
