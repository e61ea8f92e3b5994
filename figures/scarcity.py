"""The paper's Figure 3a: accuracy on HAM10000 as the training images grow fewer; macro F1 beside it.

Differs from the paper:
1. It names neither metric nor fractions (its text: "even under significant data scarcity"); see the claim
   ``robust-under-scarcity``. Fractions are of the training fold, stratified and nested (S); the test fold is whole.
2. Macro F1 stands beside accuracy, which the majority class carries.
3. 95 % intervals are drawn; the paper has none.
The epochs stay the same, so a fraction of the images is that fraction of the steps: scarcity here is of both.
Methods share their test images, so bands that overlap may still differ: ``udcd-bench claims`` compares them.
The runs on all training images are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

from udcd_bench.artefacts import figure
from udcd_bench.render import plots
from udcd_bench.stats.metrics import METRICS

MAX_BANDS = 4
"""Most bands that can be told apart where they overlap."""


class Figure(figure.Figure):
    """One line for each method, a panel for each metric, a row of panels for each data set."""

    name = "scarcity"
    title = "Fewer training images, laid out as the paper's Fig. 3a"
    measured = (
        "In percent: accuracy (ACC) and macro F1, the mean of the per-class F1, on the whole test fold."
    )
    datasets = ("ham10000",)
    metrics = ("acc", "f1")
    fractions = (0.1, 0.25, 0.5, 0.75, 1.0)
    rows: ClassVar = {"crckd": "CRCKD", "ssd-kd": "SSD-KD", "udcd": "UDCD"}
    shown = ("dataset", "fraction", "method", "metric", "figure", "low", "high", "n", "state")

    def build_frames(self, data):
        return {".csv": data.build_values_frame()}

    def describe(self, data, frames):
        return [
            f"{'Upright lines' if len(data.rows) > MAX_BANDS else 'Bands'} are {data.describe_interval()}"
        ]

    def draw(self, data, frames, **texts):
        by_dataset = data.split_by_dataset(frames[".csv"])
        legend = [plots.make_legend_entry(data.styles[row.name], data.format_label(row)) for row in data.rows]
        page = plots.FigurePage((plots.WIDE, 2.3 * len(by_dataset)), legend=legend, **texts)
        panels = page.add_panels(len(by_dataset), len(self.metrics), sharex=True)
        for across, (title, frame) in zip(panels, by_dataset):
            across[0].set_title(title, loc="left")
            for axes, metric in zip(across, self.metrics):
                draw_lines(axes, data.styles, frame[frame["metric"] == metric])
                axes.set_ylabel(f"{METRICS[metric].title} (%)")
                axes.set_xticks([100 * fraction for fraction in self.fractions])
        for axes in panels[-1]:
            axes.set_xlabel("share of the training fold (%)")
        return page


def draw_lines(axes, styles, values):
    """Draw a line for each row over the fractions, with intervals as bands, or upright lines where rows are many."""
    plots.tidy_axes(axes)
    for name, style in styles.items():
        line = values[values["method"] == name].sort_values("fraction")
        x = 100 * line["fraction"]
        if len(styles) > MAX_BANDS:
            axes.vlines(x, line["low"], line["high"], color=style.colour, linewidth=0.6)
        else:
            axes.fill_between(x, line["low"], line["high"], color=style.colour, alpha=0.15, linewidth=0)
        axes.plot(
            x, line["figure"], color=style.colour, marker=style.marker, linestyle=style.dash,
            markeredgecolor="black", markeredgewidth=0.3,
        )  # fmt: skip
