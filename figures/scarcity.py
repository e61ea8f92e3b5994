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

MOST_BANDS = 4
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

    def frames(self, look):
        return {".csv": look.figures()}

    def says(self, look, frames):
        return [f"{'Upright lines' if len(look.lines) > MOST_BANDS else 'Bands'} are {look.interval()}"]

    def paint(self, look, frames, **about):
        sets = look.datasets(frames[".csv"])
        legend = [plots.marked(place, look.label(line)) for place, line in enumerate(look.lines)]
        page = plots.Page(plots.WIDE, 2.3 * len(sets), legend=legend, **about)
        panels = page.panels(len(sets), len(self.metrics), sharex=True)
        for row, (title, of_set) in zip(panels, sets):
            for axes, metric in zip(row, self.metrics):
                plots.plain(axes)
                for place, line in enumerate(look.lines):
                    chosen = (of_set["method"] == line.row) & (of_set["metric"] == metric)
                    here = of_set[chosen].sort_values("fraction")
                    x, look_of = 100 * here["fraction"], plots.style(place)
                    if len(look.lines) > MOST_BANDS:
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
