"""Pages of figures: a column's or two columns' width, with a head, panels, a legend and a caption, in one style.

Colours are those of Okabe & Ito (2008), which the colour-blind tell apart; markers and dashes serve in greyscale.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from udcd_bench.render.fonts import use_fallbacks
from udcd_bench.render.typeset import StyledText, ignore_missing_glyphs, make_font, measure_width, wrap_text

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

NARROW, WIDE = 3.5, 7.2
"""Inches: a column of a two-column page, and both."""
DPI = 300
MIN_FONT_SIZE = 7.0
"""Points, at the size printed."""
COLOURS = ("#0072B2", "#E69F00", "#000000", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#8C8C8C")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h", "d")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
GREY = "#606060"
COMMAND_KEY = "Comment"
"""Name of the PNG's text that holds the command that drew it."""
WARNING_COLOUR = "#a02000"

_TITLE_STYLE = StyledText("", 9.5, bold=True)
_WARNING_STYLE = StyledText("", 8.0, bold=True, colour=WARNING_COLOUR)
_CAPTION_STYLE = StyledText("", 7.5)
_LINE_HEIGHT = 1.25
_MARGIN = 5.0
_LEGEND_SIZE = 7.5
_RC_PARAMS = {
    "font.family": ["DejaVu Sans", "STIXGeneral"],
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": MIN_FONT_SIZE,
    "ytick.labelsize": MIN_FONT_SIZE,
    "legend.fontsize": _LEGEND_SIZE,
    "axes.linewidth": 0.6,
    "axes.titlepad": 4.0,
    "axes.labelpad": 2.5,
    "axes.axisbelow": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "figure.facecolor": "white",
}


class Style(NamedTuple):
    """Look of a row or a class: no two of the first 117 agree, and the first 13 differ in shape."""

    colour: str
    marker: str
    dash: Any


def pick_style(index: int, variant: int = 0) -> Style:
    """Return the style of the row or class with this index, from 0; its variants differ in marker and dash alone."""
    shape = index + variant
    return Style(COLOURS[index % len(COLOURS)], MARKERS[shape % len(MARKERS)], DASHES[shape % len(DASHES)])


@contextmanager
def apply_style() -> Iterator[None]:
    """Draw in the suite's style, whatever the user's own settings are."""
    import matplotlib.style

    with matplotlib.style.context(["default", _RC_PARAMS]), ignore_missing_glyphs():
        yield


class LegendEntry(NamedTuple):
    """One entry of a legend."""

    handle: Artist
    label: str


def make_legend_entry(style: Style, label: str, *, line: bool = True) -> LegendEntry:
    """Make the legend's entry of a style. line: show a line beside the marker."""
    from matplotlib.lines import Line2D

    handle = Line2D(
        [], [], color=style.colour, marker=style.marker, linestyle=style.dash if line else "none",
        markeredgecolor="black", markeredgewidth=0.3,
    )  # fmt: skip
    return LegendEntry(handle, label)


class FigurePage:
    """A picture with a head, panels, a legend and a caption.

    size: width of the whole and height of the panels, inches; head, legend and caption add to the height.
    warning: stands below the title where images are synthetic. caption: sentences below the panels.
    command: what draws the page; both files hold it.
    """

    def __init__(
        self,
        size: tuple[float, float],
        *,
        title: str,
        warning: str,
        caption: Sequence[str],
        legend: Sequence[LegendEntry] = (),
    ) -> None:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        width, height = size
        self.title, self.description, self.command = title, " ".join([warning, *caption]).strip(), ""
        inner = 72 * width - 2 * _MARGIN
        heading = f"{title}." if title else ""
        head = [*wrap_text(heading, inner, _TITLE_STYLE), *wrap_text(warning, inner, _WARNING_STYLE)]
        foot = [*wrap_text(" ".join(caption), inner, _CAPTION_STYLE)]
        columns, deep = _arrange_legend([entry.label for entry in legend], inner)
        keys = deep * _LEGEND_SIZE * 1.5 + 6 if legend else 0.0
        above, below = _measure_height(head) + keys + _MARGIN + 3, _measure_height(foot) + _MARGIN + 3
        total = 72 * height + above + below
        self.figure = Figure((width, total / 72), dpi=DPI)
        box = (0.0, below / total, 1.0, 1 - (above + below) / total)
        self.figure.set_layout_engine(ConstrainedLayoutEngine(rect=box, w_pad=0.04, h_pad=0.04))
        self._write(head, total - _MARGIN, width, total)
        self._write(foot, below - 3, width, total)
        if legend:
            top = 1 - (_MARGIN + _measure_height(head) + 4) / total
            self.figure.legend(
                [entry.handle for entry in legend], [truncate_text(entry.label, inner - 40) for entry in legend],
                loc="upper center", bbox_to_anchor=(0.5, top), ncols=columns, frameon=False, borderaxespad=0,
                borderpad=0, handlelength=2.4, columnspacing=1.2, handletextpad=0.5,
            ).set_in_layout(False)  # fmt: skip

    def _write(self, lines: Sequence[StyledText], top: float, width: float, total: float) -> None:
        for line in lines:
            top -= line.size * _LINE_HEIGHT
            text = self.figure.text(
                _MARGIN / 72 / width, (top + 0.25 * line.size) / total, line.text, color=line.colour,
                fontproperties=make_font(line), va="baseline",
            )  # fmt: skip
            text.set_in_layout(False)

    def add_panels(self, rows: int, columns: int, **options: Any) -> npt.NDArray[Any]:
        """Add panels; returns their axes (rows, columns)."""
        axes: npt.NDArray[Any] = self.figure.subplots(rows, columns, squeeze=False, **options)
        return axes

    def encode_files(self, *endings: str) -> Mapping[str, bytes]:
        """Encode the page by file ending: PNG of ``DPI`` dots an inch, PDF with its fonts; always the same bytes.

        endings: of the files that are wanted; without any, both.
        """
        use_fallbacks(self.figure)
        # matplotlib would lay out and draw everything once more before each file
        if self.figure.axes and (engine := self.figure.get_layout_engine()) is not None:
            engine.execute(self.figure)
        self.figure.set_layout_engine(None)
        return {ending: self._encode_file(ending) for ending in endings or (".png", ".pdf")}

    def _encode_file(self, ending: str) -> bytes:
        buffer = io.BytesIO()
        if ending == ".png":
            metadata = {"Title": self.title, "Description": self.description, "Software": None}
            metadata |= {COMMAND_KEY: self.command} if self.command else {}
            self.figure.savefig(buffer, format="png", dpi=DPI, metadata=metadata)
        else:
            metadata = {"Title": self.title, "Subject": self.description, "CreationDate": None}
            metadata |= {"Creator": self.command} if self.command else {}
            self.figure.savefig(buffer, format="pdf", metadata=metadata)
        return buffer.getvalue()


def _measure_height(lines: Sequence[StyledText]) -> float:
    return sum(line.size * _LINE_HEIGHT for line in lines)


def _arrange_legend(labels: Sequence[str], inner: float) -> tuple[int, int]:
    """Compute a legend's columns and rows. inner: width of the page's text, points."""
    widest = max((measure_text(label) for label in labels), default=0.0) + 4.5 * _LEGEND_SIZE
    most = max(1, min(len(labels), int(inner / widest)))
    deep = math.ceil(len(labels) / most)
    return math.ceil(len(labels) / max(1, deep)), deep


def measure_text(text: str, size: float = _LEGEND_SIZE) -> float:
    """Measure a label's width, points."""
    return measure_width([StyledText(text, size, sans=True)])


def truncate_text(text: str, width: float, size: float = _LEGEND_SIZE) -> str:
    """Cut a text that is wider than ``width`` points."""
    if measure_text(text, size) <= width:
        return text
    while text and measure_text(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def cut_middle(text: str, width: float, size: float = _LEGEND_SIZE) -> str:
    """Cut a text that is wider than ``width`` points in its middle, so that both ends can be read."""
    length, cut = len(text), text
    while length > 2 and measure_text(cut, size) > width:
        length -= 1
        cut = f"{text[: length - length // 2].rstrip()}…{text[len(text) - length // 2 :].lstrip()}"
    return cut


def fit_names(names: Sequence[str], width: float, size: float = _LEGEND_SIZE) -> list[str]:
    """Cut names to ``width`` points so that they stay apart: the words that all begin with go first."""
    if all(measure_text(name, size) <= width for name in names):
        return list(names)
    common, rest = split_common_words(names)
    shorter = [f"… {name}" if common else name for name in rest]
    cut = [cut_middle(name, width, size) for name in shorter]
    if len(set(cut)) == len(set(names)):
        return cut
    numbers = [f"{number} " for number in range(1, len(names) + 1)]
    widest = max(measure_text(number, size) for number in numbers)
    return [number + cut_middle(name, width - widest, size) for number, name in zip(numbers, shorter)]


def split_common_words(names: Sequence[str]) -> tuple[str, list[str]]:
    """Split names into the words that all begin with, and the names without them."""
    split = [name.split() for name in names]
    common = 0
    while all(len(words) > common + 1 for words in split) and len({words[common] for words in split}) == 1:
        common += 1
    return " ".join(split[0][:common]), [" ".join(words[common:]) for words in split]


def draw_placeholder(axes: Axes, text: str) -> None:
    """Draw an empty panel with the reason in it."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(linestyle=(0, (3, 3)), color=GREY)
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", style="italic", color=GREY)


def widen_axis(axes: Axes, least: float) -> None:
    """Widen the y axis to both sides where it spans less than ``least``, so that noise does not fill it."""
    low, high = axes.get_ylim()
    if (missing := least - (high - low)) > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)


def tidy_axes(axes: Axes, *, grid: str = "y") -> None:
    """Remove the box's upper and right side, and draw a faint grid on an axis: ``x``, ``y`` or ``both``."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid)  # type: ignore[arg-type]
