"""The paper's Figure 3c: macro F1 on APTOS 2019 with four families of backbones.

Differs from the paper:
1. It names families ("Resnet50, Efficientnet, Mobilenet, etc"); their members are chosen here (S).
2. 95 % intervals are drawn; dots, since bars would have to start at zero.
A profile may train small members of the same families in their place, and the axis says which were trained.
Methods share their test images, so intervals that overlap may still differ: ``udcd-bench claims`` compares them.
The runs on the profile's own backbone are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

from udcd_bench.artefacts import figure
from udcd_bench.render import plots
from udcd_bench.stats.metrics import METRICS


class Figure(figure.Figure):
    """A group of dots with their intervals for each backbone; a row of panels for each data set."""

    name = "backbones"
    title = "Four families of backbones, laid out as the paper's Fig. 3c"
    measured = "In percent: macro F1, the mean of the per-class F1."
    datasets = ("aptos",)
    metrics = ("f1",)
    backbones = ("densenet121", "resnet50", "efficientnet_b0", "mobilenetv2_100")
    rows: ClassVar = {"crckd": "CRCKD", "ssd-kd": "SSD-KD", "udcd": "UDCD"}
    shown = ("dataset", "backbone", "method", "figure", "low", "high", "n", "state")

    def build_frames(self, data):
        return {".csv": data.build_values_frame()}

    def describe(self, data, frames):
        return [f"Lines are {data.describe_interval()}"]

    def draw(self, data, frames, **texts):
        by_dataset = data.split_by_dataset(frames[".csv"])
        legend = [
            plots.make_legend_entry(data.styles[row.name], data.format_label(row), line=False)
            for row in data.rows
        ]
        page = plots.FigurePage((plots.WIDE, 2.1 * len(by_dataset)), legend=legend, **texts)
        names = list(dict.fromkeys(group.backbone for group in data.column_groups))
        for (axes,), (title, frame) in zip(page.add_panels(len(by_dataset), 1), by_dataset):
            draw_groups(axes, data.styles, names, frame)
            axes.set_ylabel(f"{METRICS[self.metrics[0]].title} (%)")
            axes.set_title(title, loc="left")
        return page


def draw_groups(axes, styles, backbones, frame):
    """Draw a group of dots with their intervals for each backbone, of the lines of a data set's frame."""
    plots.tidy_axes(axes)
    step = 0.66 / len(styles)
    for index, (name, style) in enumerate(styles.items()):
        for group, backbone in enumerate(backbones):
            x = group + (index - (len(styles) - 1) / 2) * step
            values = frame[(frame["method"] == name) & (frame["backbone"] == backbone)]
            if values.empty or not values["n"].iloc[0]:
                text = values["state"].iloc[0] if len(values) else "not in the suite yet"
                axes.text(
                    x, 0.5, text, transform=axes.get_xaxis_transform(), ha="center", va="center",
                    rotation=90, style="italic", color=plots.GREY,
                )  # fmt: skip
                continue
            value = values.iloc[0]
            axes.vlines(x, value["low"], value["high"], color=style.colour)
            axes.plot(
                x, value["figure"], style.marker, color=style.colour, markersize=5, markeredgecolor="black",
                markeredgewidth=0.3,
            )  # fmt: skip
    labels = [plots.truncate_text(name, 480 / len(backbones)) for name in backbones]
    axes.set_xticks(range(len(backbones)), labels)
    axes.set_xlim(-0.5, len(backbones) - 0.5)
    axes.tick_params(axis="x", length=0)
