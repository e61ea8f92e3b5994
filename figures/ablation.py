"""The paper's Figure 3b: UDCD on HAM10000 without each of its components in turn.

Differs from the paper:
1. It names neither data set nor metric ("the significance of all components"); see the claim
   ``every-component-matters``. Rows are UDCD without each loss, without its confidence weights, and Scratch (S).
2. Macro F1 stands beside accuracy; 95 % intervals are drawn; dots, since bars would have to start at zero.
Where removing a component costs less than the width of the interval, the figure shows neither that it matters nor
that it does not.
UDCD's and Scratch's runs are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

from udcd_bench.artefacts import figure
from udcd_bench.render import plots
from udcd_bench.stats.metrics import METRICS


class Figure(figure.Figure):
    """A dot with its interval for each variant; a panel for each metric, a row of panels for each data set."""

    name = "ablation"
    title = "UDCD without its components, laid out as the paper's Fig. 3b"
    measured = "In percent: accuracy (ACC) and macro F1, the mean of the per-class F1. Dotted: the first row's figure."
    datasets = ("ham10000",)
    metrics = ("acc", "f1")
    rows: ClassVar = {
        "udcd": "UDCD",
        "udcd:lambda_kl=0": "without consistency, λ₁ = 0",
        "udcd:lambda_scl=0": "without contrast, λ₂ = 0",
        "udcd:lambda_cra=0": "without relations, λ₃ = 0",
        "udcd:confidence=none": "without confidence weights",
        "scratch": "Scratch",
    }
    shown = ("dataset", "method", "metric", "figure", "low", "high", "n", "state")

    def build_frames(self, data):
        return {".csv": data.build_values_frame()}

    def describe(self, data, frames):
        return [f"Lines are {data.describe_interval()}"]

    def draw(self, data, frames, **texts):
        by_dataset = data.split_by_dataset(frames[".csv"])
        page = plots.FigurePage((plots.WIDE, (0.55 + 0.21 * len(data.rows)) * len(by_dataset)), **texts)
        panels = page.add_panels(len(by_dataset), len(self.metrics), sharey=True)
        for across, (title, frame) in zip(panels, by_dataset):
            across[0].set_title(title, loc="left")
            for axes, metric in zip(across, self.metrics):
                draw_dots(axes, data.rows, frame[frame["metric"] == metric].set_index("method"))
                axes.set_xlabel(f"{METRICS[metric].title} (%)")
        return page


def draw_dots(axes, rows, values):
    """Draw a dot with its interval for each row, one below another. values: lines of the frame by method."""
    plots.tidy_axes(axes, grid="x")
    for y, row in enumerate(rows):
        value, style = values.loc[row.name], plots.pick_style(y)
        if value["n"] == 0:
            axes.text(
                0.5, y, value["state"], transform=axes.get_yaxis_transform(), ha="center", va="center",
                style="italic", color=plots.GREY,
            )  # fmt: skip
            continue
        axes.hlines(y, value["low"], value["high"], color=style.colour)
        axes.plot(
            value["figure"], y, style.marker, color=style.colour, markersize=5, markeredgecolor="black",
            markeredgewidth=0.3,
        )  # fmt: skip
    first = values["figure"].iloc[0]
    axes.axvline(first, color=plots.GREY, linestyle=(0, (1, 2)), linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(rows)), [plots.truncate_text(row.title, 150) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
