"""Tables as pictures, drawn like those in a paper: rules, bold and underlined figures, a caption."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from udcd_bench.errors import make_printable
from udcd_bench.render.plots import COMMAND_KEY
from udcd_bench.render.sheet import Sheet, SheetBand, SheetCell, SheetRow
from udcd_bench.render.typeset import (
    FONT_SIZE,
    StyledText,
    ignore_missing_glyphs,
    make_font,
    measure_width,
    wrap_text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 250
LINE_HEIGHT = 15.0
MARGIN = 14.0
COLUMN_GAP = 10.0
RULE_WIDTHS = {"thick": 1.1, "thin": 0.5}
GREY = "#606060"
WARNING_COLOUR = "#a02000"


class _Pen:
    """Draws text and rules on a canvas measured in points from its top left corner; with no size, nothing."""

    def __init__(self, size: tuple[float, float] | None = None) -> None:
        from matplotlib.figure import Figure

        self.size = size
        self.figure: Figure | None = None
        if size is not None:
            self.width, self.height = size
            self.figure = Figure((self.width / 72, self.height / 72), dpi=DPI, facecolor="white")

    def write(self, x: float, y: float, pieces: Sequence[StyledText], align: str = "left") -> None:
        """Write pieces one after another with their base line at y, points from the top."""
        if self.figure is None:
            return
        x -= {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * measure_width(pieces)
        for piece in pieces:
            end = x + measure_width([piece])
            self.figure.text(
                x / self.width,
                1 - (y - piece.rise) / self.height,
                piece.text,
                fontproperties=make_font(piece),
                color=piece.colour,
                va="baseline",
                parse_math=False,
            )
            if piece.underlined:
                self.draw_rule(x, end, y + 1.8, "thin")
            x = end

    def draw_rule(self, left: float, right: float, y: float, kind: str) -> None:
        """Draw a horizontal rule. kind: ``thick`` or ``thin``."""
        from matplotlib.lines import Line2D

        if self.figure is not None:
            ends, heights = [left / self.width, right / self.width], [1 - y / self.height] * 2
            line = Line2D(ends, heights, color="black", linewidth=RULE_WIDTHS[kind], solid_capstyle="butt")
            self.figure.add_artist(line)


def _make_note(letter: str) -> StyledText:
    return StyledText(letter, FONT_SIZE * 0.7, rise=FONT_SIZE * 0.35)


def _make_suffix(cell: SheetCell) -> list[StyledText]:
    return [StyledText(f" ± {cell.spread}", FONT_SIZE * 0.75)] * bool(cell.spread) + [_make_note(cell.note)]


def _make_value(cell: SheetCell) -> StyledText:
    return StyledText(cell.text, bold=cell.mark == "best", underlined=cell.mark == "second")


def _make_name(row: SheetRow) -> list[StyledText]:
    return [StyledText(make_printable(row.title)), _make_note(row.note)]


@dataclass(frozen=True)
class _Widths:
    """Widths in points: of the column of names, of a figure, of what follows it, of a group of columns."""

    name: float
    value: float
    suffix: float
    group: float


def _measure_widths(sheet: Sheet) -> _Widths:
    rows = [row for band in sheet.bands for row in band.rows]
    cells = [cell for row in rows for block in row.blocks for cell in block if not cell.span]
    metrics = [StyledText(metric) for band in sheet.bands for metric in band.metrics]
    names = max(measure_width(_make_name(row)) for row in rows)
    main = max([measure_width([piece]) for piece in [*map(_make_value, cells), StyledText("00.00")]])
    # a heading stands in the middle above the figures and may reach beyond them on either side
    beyond = max(0.0, max(measure_width([piece]) for piece in metrics) - main) / 2
    after = max([beyond, *(measure_width(_make_suffix(cell)) for cell in cells)])
    groups = max(
        measure_width([StyledText(make_printable(group))]) for band in sheet.bands for group in band.groups
    )
    group = max(len(sheet.bands[0].metrics) * (beyond + main + after + COLUMN_GAP), groups + 2 * COLUMN_GAP)
    return _Widths(max(names, 60.0) + COLUMN_GAP, main, after, group)


def render_png(sheet: Sheet) -> bytes:
    """Render the table as a PNG of 250 dots an inch; its warning, caption and command are in the file's
    metadata."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with ignore_missing_glyphs():
        widths = _measure_widths(sheet)
        groups = max(len(band.groups) for band in sheet.bands)
        inner = max(widths.name + groups * widths.group, 330.0)
        height = _draw_sheet(_Pen(), sheet, widths, inner)
        pen = _Pen((inner + 2 * MARGIN, height))
        _draw_sheet(pen, sheet, widths, inner)
        assert pen.figure is not None
        buffer = io.BytesIO()
        description = " ".join([sheet.warning, *sheet.caption]).strip()
        metadata = {"Title": sheet.title, "Description": description}
        metadata |= {COMMAND_KEY: sheet.command} if sheet.command else {}
        FigureCanvasAgg(pen.figure).print_png(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _draw_sheet(pen: _Pen, sheet: Sheet, widths: _Widths, inner: float) -> float:
    """Draw everything in a width of ``inner`` points; returns the height it takes, points."""
    left, right, y = MARGIN, MARGIN + inner, MARGIN + FONT_SIZE
    for line in wrap_text(f"{sheet.title}.", inner, StyledText("", FONT_SIZE * 1.05, bold=True)):
        pen.write(left, y, [line])
        y += LINE_HEIGHT
    for line in wrap_text(
        sheet.warning, inner, StyledText("", FONT_SIZE * 0.95, bold=True, colour=WARNING_COLOUR)
    ):
        pen.write(left, y, [line])
        y += LINE_HEIGHT
    y -= LINE_HEIGHT - 6
    for index, band in enumerate(sheet.bands):
        pen.draw_rule(left, right, y, "thin" if index else "thick")
        y = _draw_band(pen, band, widths, right, y)
    pen.draw_rule(left, right, y, "thick")
    y += LINE_HEIGHT
    small = StyledText("", FONT_SIZE * 0.85)
    for letter, text in sheet.notes:
        for number, line in enumerate(wrap_text(text, inner - 8, small)):
            pen.write(left, y, [_make_note("" if number else letter)])
            pen.write(left + 8, y, [line])
            y += LINE_HEIGHT * 0.8
    y += 4 if sheet.notes else 0
    for line in wrap_text(" ".join([sheet.describe_marks(), *sheet.caption]), inner, small):
        pen.write(left, y, [line])
        y += LINE_HEIGHT * 0.8
    return y - LINE_HEIGHT * 0.8 + MARGIN


def _draw_band(pen: _Pen, band: SheetBand, widths: _Widths, right: float, y: float) -> float:
    """Draw a band from y downwards, between the left margin and ``right``; returns where it ends, points."""
    left = MARGIN
    starts = [left + widths.name + index * widths.group for index in range(len(band.groups))]
    # what a wide heading leaves over goes between the columns
    step = widths.group / len(band.metrics)
    y += LINE_HEIGHT - 2
    pen.write(left, y, [StyledText("Method")])
    for start, group in zip(starts, band.groups):
        pen.write(start + (widths.group + COLUMN_GAP) / 2, y, [StyledText(make_printable(group))], "centre")
        pen.draw_rule(start + COLUMN_GAP, start + widths.group, y + 4.5, "thin")
    y += LINE_HEIGHT + 2
    for start in starts:
        for column, metric in enumerate(band.metrics):
            middle = start + (column + 1) * step - widths.suffix - widths.value / 2
            pen.write(middle, y, [StyledText(metric)], "centre")
    y += 5
    pen.draw_rule(left, right, y, "thin")
    for row in band.rows:
        if row.ruled:
            y += 5
            pen.draw_rule(left, right, y, "thin")
        y += LINE_HEIGHT - 1
        pen.write(left, y, _make_name(row))
        for start, block in zip(starts, row.blocks):
            _draw_block(pen, block, start, y, widths)
        if row.published:
            y += LINE_HEIGHT * 0.72
            pen.write(left + 10, y, [_make_published("published")])
            for start, block in zip(starts, row.blocks):
                for column, cell in enumerate(block):
                    end = start + (column + 1) * step - widths.suffix
                    pen.write(end, y, [_make_published(cell.published)], "right")
    return y + 5


def _draw_block(pen: _Pen, block: Sequence[SheetCell], start: float, y: float, widths: _Widths) -> None:
    """Draw a row's cells of one group of columns, which begins at ``start``, with their base line at y, points."""
    if block[0].span:
        pieces = [StyledText(block[0].text, italic=True, colour=GREY), _make_note(block[0].note)]
        pen.write(start + (widths.group + COLUMN_GAP) / 2, y, pieces, "centre")
        return
    step = widths.group / len(block)
    for column, cell in enumerate(block):
        end = start + (column + 1) * step - widths.suffix
        if cell.text[:1].isdigit():
            pen.write(end, y, [_make_value(cell)], "right")
        else:
            pen.write(end - widths.value / 2, y, [_make_value(cell)], "centre")
        pen.write(end, y, _make_suffix(cell))


def _make_published(text: str) -> StyledText:
    return StyledText(text, FONT_SIZE * 0.85, italic=True, colour=GREY)
