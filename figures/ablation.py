"""The paper's Figure 3b: UDCD on HAM10000 without each of its components in turn.

Differs from the paper:
1. It names neither data set nor metric ("the significance of all components"); see the claim
   ``every-component-matters``. Rows are UDCD without each loss, without its confidence weights, and Scratch (S).
2. Macro F1 stands beside accuracy. What is drawn are differences from UDCD in pairs, on the same test images, folds and
   seeds, with their 95 % intervals; the figures themselves stand in the CSV.
Where an interval covers zero, the figure shows neither that the component matters nor that it does not.
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
    measured = (
        "Each row minus the first, in points of accuracy (ACC) and of macro F1, the mean of the per-class F1, in pairs "
        "of the same test images, folds and seeds. Lines: 95 % intervals of the difference, of test images and of "
        "training."
    )
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
    shown = (
        "dataset",
        "method",
        "metric",
        "figure",
        "difference",
        "difference_low",
        "difference_high",
        "p_holm",
        "state",
    )

    def build_frames(self, data):
        return {".csv": data.build_differences_frame(data.rows[0])}

    def draw(self, data, frames, **texts):
        by_dataset = data.split_by_dataset(frames[".csv"])
        page = plots.FigurePage((plots.WIDE, (0.55 + 0.21 * len(data.rows)) * len(by_dataset)), **texts)
        panels = page.add_panels(len(by_dataset), len(self.metrics), sharey=True)
        for across, (title, frame) in zip(panels, by_dataset):
            across[0].set_title(title, loc="left")
            for axes, metric in zip(across, self.metrics):
                draw_dots(axes, data, frame[frame["metric"] == metric].set_index("method"))
                axes.set_xlabel(f"{METRICS[metric].title}, points above {data.rows[0].title}")
        return page


def draw_dots(axes, data, values):
    """Draw each row's difference with its interval, one below another. values: lines of the frame by method."""
    plots.tidy_axes(axes, grid="x")
    axes.axvline(0, color=plots.GREY, linestyle=(0, (1, 2)), linewidth=0.8, zorder=0)
    for y, row in enumerate(data.rows):
        value, style = values.loc[row.name], data.styles[row.name]
        is_first = y == 0 and value["n"] > 0
        if value["n"] == 0 or (value["n_pairs"] == 0 and not is_first):
            state = value["state"] if value["n"] == 0 else "no pair with the first row"
            axes.text(
                0.5, y, state, transform=axes.get_yaxis_transform(), ha="center", va="center",
                style="italic", color=plots.GREY,
            )  # fmt: skip
            continue
        axes.hlines(y, value["difference_low"], value["difference_high"], color=style.colour)
        axes.plot(
            0 if is_first else value["difference"], y, style.marker, color=style.colour, markersize=5,
            markeredgecolor="black", markeredgewidth=0.3,
        )  # fmt: skip
    axes.set_yticks(range(len(data.rows)), [plots.truncate_text(row.title, 150) for row in data.rows])
    axes.set_ylim(len(data.rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
