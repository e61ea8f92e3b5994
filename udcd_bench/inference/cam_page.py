"""A page of Grad-CAMs: each image, and beside it where its two classes are seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.inference.cam import ChosenImages, Explained, find_layer
from udcd_bench.render import fonts, plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from udcd_bench.inference.stored_run import StoredRun
    from udcd_bench.stats.metrics import Floats

CYAN = (0.0, 0.9, 1.0)
PER_ROW = 2
"""Images side by side, each with two maps."""
MEASURED = (
    "Grad-CAM (Selvaraju et al., ICCV 2017) of the last feature map with more than one place, {}×{}: for the "
    "predicted class, and for the true one where that is another, else for the runner-up. Each map goes from 0 (clear) "
    "to its own largest value (cyan), so that maps do not compare. It shows where evidence lies, not that it is sound."
)


def draw_page(run: StoredRun, images: ChosenImages, explained: Explained, warning: str, ending: str) -> bytes:
    """Draw the page. warning: stands above where images are synthetic. ending: of the file, ``.png`` or ``.pdf``."""
    names = fonts.label_classes(run.classes)
    rows = math.ceil(len(images.names) / PER_ROW)
    columns = 3 * min(PER_ROW, len(images.names))
    width = plots.WIDE if columns > 3 else plots.NARROW
    side = width / columns - 0.06
    chosen = (
        "The test images with the most confident wrong predictions." if (images.labels >= 0).all() else ""
    )
    sentences = (
        chosen,
        MEASURED.format(*find_layer(run)[1:]),
        fonts.describe_numbers(run.classes),
        f"Run {run.key}: {run.label}.",
    )
    with plots.apply_style():
        page = plots.FigurePage(
            (width, rows * (side + 0.42)),
            title=f"Grad-CAM of {run.record['method_title']} on {run.record['dataset_title']}",
            warning=warning,
            caption=tuple(sentence for sentence in sentences if sentence),
        )
        panels = page.add_panels(rows, columns)
        for axes in panels.flat:
            axes.set_axis_off()
        for index, name in enumerate(images.names):
            line, left = divmod(index, PER_ROW)
            three = panels[line, 3 * left : 3 * left + 3]
            label = int(images.labels[index])
            title = [plots.cut_middle(name, 70 * side, plots.MIN_FONT_SIZE)]
            title += [f"true: {names[label]}"] if label >= 0 else [""]
            _draw_image(three[0], images.pixels[index], title, side)
            for k, axes in enumerate(three[1:]):
                c = int(explained.classes[index, k])
                texts = [names[c], f"{100 * explained.probabilities[index, c]:.1f} %"]
                _draw_image(axes, images.pixels[index], texts, side)
                _draw_map(axes, explained.maps[index, k])
        return page.encode_files(ending)[ending]


def _draw_image(axes: Axes, pixels: Floats, texts: list[str], side: float) -> None:
    short = [plots.truncate_text(text, 70 * side, plots.MIN_FONT_SIZE) for text in texts]
    axes.set_title("\n".join(short), size=plots.MIN_FONT_SIZE)
    axes.imshow(pixels, interpolation="nearest")


def _draw_map(axes: Axes, values: Floats) -> None:
    """Lay a map over its image, the more opaque the larger its values."""
    # neither skin nor retina has this colour
    axes.imshow(np.broadcast_to(CYAN, (*values.shape, 3)), alpha=0.75 * values, interpolation="nearest")
