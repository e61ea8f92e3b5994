"""What drives UDCD: the size of each loss term's gradient over the epochs, and beside it the terms themselves.

Differs from the paper: it shows neither; eq. 8 weighs four terms by λ that it does not print.
A gradient's size is measured where it enters the student's backbone, at the last feature map, in the first step of an
epoch; adaptive steps depend on it and not on the size of the loss. The runs are Table 2's.
"""

from __future__ import annotations

import math
from typing import ClassVar

import pandas as pd

from udcd_bench.artefacts import figure
from udcd_bench.render import plots

TERMS = {
    "ce": "cross-entropy",
    "kl": "KL to the teacher",
    "scl": "SCL, eq. 2",
    "cra": "CRA, eq. 5",
    "ccd": "contrast, released",
    "relation": "relations, released",
}
"""Term of UDCD or of its released code → its name in the legend."""


class Figure(figure.Figure):
    """A row of panels for each data set and method: gradients on the left, loss terms on the right."""

    name = "gradients"
    title = "The size of each loss term's gradient"
    measured = (
        "Left: the norm of each weighted term's gradient at the student's last feature map, in the first step of an "
        "epoch, on a logarithmic scale. Right: the weighted terms, means over an epoch's steps. Means over folds and "
        "seeds; bands: ± their standard deviation."
    )
    datasets = ("aptos", "ham10000")
    metrics = ()
    rows: ClassVar = {"udcd": "UDCD", "udcd-released": "UDCD (released code)"}
    reported = False
    shown = ("dataset", "method", "term", "gradient", "loss", "share", "n", "state")
    ending = "-last.csv"
    main_columns = ("dataset", "method", "epoch", "term", "gradient", "loss", "synthetic")

    def build_cell(self, data, records):
        """Build a line for each epoch and term; the second file has the last epoch's, and each one's share."""
        histories = pd.concat([data.load_history(record) for record in records.values()])
        terms = [name.removeprefix("loss_") for name in histories if name.startswith("loss_")]
        lines = []
        for epoch, of_epoch in histories.groupby("epochs"):
            for term in terms:
                line = {"epoch": epoch, "term": term}
                for quantity in ("gradient", "loss"):
                    values = of_epoch.get(f"{quantity}_{term}", pd.Series(dtype=float)).dropna()
                    line[quantity] = values.mean() if len(values) else math.nan
                    line[f"{quantity}_spread"] = values.std(ddof=1) if len(values) else math.nan
                if not math.isnan(line["loss"]):
                    lines.append(line)
        last = [line for line in lines if line["epoch"] == lines[-1]["epoch"]]
        total = sum(line["gradient"] for line in last)
        return lines, [
            line | {"share": 100 * line["gradient"] / total if total else math.nan} for line in last
        ]

    def describe(self, data, frames):
        """Return what share of the summed sizes the largest term has in the last epoch."""
        last = frames[self.ending]
        if "share" not in last or last["share"].isna().all():
            return ()
        parts = []
        for (_, _), cell in last.dropna(subset=["share"]).groupby(["dataset", "method"], sort=False):
            top = cell.loc[cell["share"].idxmax()]
            name = TERMS.get(top["term"], top["term"])
            parts.append(f"{top['method_title']} on {top['dataset_title']}: {name}, {top['share']:.0f} %")
        return (f"Largest share of the summed sizes in the last epoch: {'; '.join(parts)}.",)

    def draw(self, data, frames, **texts):
        by_dataset = data.split_by_dataset(frames[".csv"])
        names = [
            term
            for term in TERMS
            if any((frame["term"] == term).any() for _, frame in by_dataset if len(frame))
        ]
        legend = [
            plots.make_legend_entry(plots.pick_style(index), TERMS[term]) for index, term in enumerate(names)
        ]
        n_rows = len(by_dataset) * len(data.rows)
        page = plots.FigurePage((plots.WIDE, 1.8 * n_rows), legend=legend, **texts)
        panels = iter(page.add_panels(n_rows, 2))
        for title, frame in by_dataset:
            for row in data.rows:
                left, right = next(panels)
                left.set_title(f"{row.title}, {title}", loc="left")
                of_row = frame[frame["method"] == row.name] if len(frame) else frame
                for axes, quantity in ((left, "gradient"), (right, "loss")):
                    draw_terms(axes, names, of_row, quantity)
                if len(of_row) and of_row["gradient"].gt(0).any():
                    left.set_yscale("log", subs=[2, 5])
                    left.yaxis.set_major_formatter("{x:g}")
                    left.yaxis.set_minor_formatter("{x:g}")
                left.set_ylabel("gradient's norm")
                right.set_ylabel("weighted term")
        for axes in (left, right):
            axes.set_xlabel("epoch")
        return page


def draw_terms(axes, names, frame, quantity):
    """Draw a line with its band for each term."""
    plots.tidy_axes(axes)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if frame.empty or frame[quantity].isna().all():
        reason = "No run is done." if frame.empty else "These runs are from before it was measured."
        plots.draw_placeholder(axes, reason)
        return
    for index, term in enumerate(names):
        curve = frame[frame["term"] == term].dropna(subset=[quantity])
        style, spread = plots.pick_style(index), curve[f"{quantity}_spread"].fillna(0)
        lower = curve[quantity] - spread
        if quantity == "gradient":
            lower = lower.clip(lower=curve[quantity] / 100)  # a band has no lower end on a logarithmic scale
        axes.fill_between(
            curve["epoch"], lower, curve[quantity] + spread, color=style.colour, alpha=0.15, linewidth=0
        )
        axes.plot(
            curve["epoch"], curve[quantity], color=style.colour, linestyle=style.dash, marker=style.marker,
            markevery=max(1, len(curve) // 8), markeredgecolor="black", markeredgewidth=0.3,
        )  # fmt: skip
