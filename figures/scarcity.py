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
"""That can be told apart where they overlap."""


class Figure(figure.Figure):
    """A line a method, a panel a metric, a row of panels a data set."""

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
        sets = data.split_by_dataset(frames[".csv"])
        legend = [
            plots.make_legend_entry(place, data.format_label(line)) for place, line in enumerate(data.rows)
        ]
        page = plots.FigurePage(plots.WIDE, 2.3 * len(sets), legend=legend, **texts)
        panels = page.add_panels(len(sets), len(self.metrics), sharex=True)
        for row, (title, of_set) in zip(panels, sets):
            for axes, metric in zip(row, self.metrics):
                plots.tidy_axes(axes)
                for place, line in enumerate(data.rows):
                    chosen = (of_set["method"] == line.name) & (of_set["metric"] == metric)
                    here = of_set[chosen].sort_values("fraction")
                    x, look_of = 100 * here["fraction"], plots.pick_style(place)
                    if len(data.rows) > MAX_BANDS:
                        axes.vlines(x, here["low"], here["high"], color=look_of.colour, linewidth=0.6)
                    else:
                        axes.fill_between(
                            x, here["low"], here["high"], color=look_of.colour, alpha=0.15, linewidth=0
                        )
                    axes.plot(
                        x, here["figure"], color=look_of.colour, marker=look_of.marker, linestyle=look_of.dash,
                        markeredgecolor="black", markeredgewidth=0.3,
                    )  # fmt: skip
                axes.set_ylabel(f"{METRICS[metric].title} (%)")
                axes.set_xticks([100 * fraction for fraction in self.fractions])
            row[0].set_title(title, loc="left")
        for axes in panels[-1]:
            axes.set_xlabel("share of the training fold (%)")
        return page
