"""A laid-out table as a picture, drawn like one in a paper: rules, bold and underlined figures, a caption."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from udcd_bench.errors import printable
from udcd_bench.render.sheet import Band, Cell, Row, Sheet
from udcd_bench.render.typeset import SIZE, Piece, font, length, quietly, wrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 250
LINE = 15.0
MARGIN = 14.0
GAP = 10.0
RULES = {"thick": 1.1, "thin": 0.5}
GREY = "#606060"
WARNING = "#a02000"


class _Pen:
    """Draws text and rules on a canvas measured in points from its top left corner; with no size, nothing."""

    def __init__(self, size: tuple[float, float] | None = None) -> None:
        from matplotlib.figure import Figure

        self.size = size
        self.figure: Figure | None = None
        if size is not None:
            self.width, self.height = size
            self.figure = Figure((self.width / 72, self.height / 72), dpi=DPI, facecolor="white")

    def write(self, x: float, y: float, pieces: Sequence[Piece], align: str = "left") -> None:
        """Pieces one after another with their base line at y."""
        if self.figure is None:
            return
        x -= {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * length(pieces)
        for piece in pieces:
            end = x + length([piece])
            self.figure.text(
                x / self.width,
                1 - (y - piece.rise) / self.height,
                piece.text,
                fontproperties=font(piece),
                color=piece.colour,
                va="baseline",
                parse_math=False,
            )
            if piece.underlined:
                self.rule(x, end, y + 1.8, "thin")
            x = end

    def rule(self, left: float, right: float, y: float, kind: str) -> None:
        """A horizontal rule."""
        from matplotlib.lines import Line2D

        if self.figure is not None:
            ends, heights = [left / self.width, right / self.width], [1 - y / self.height] * 2
            line = Line2D(ends, heights, color="black", linewidth=RULES[kind], solid_capstyle="butt")
            self.figure.add_artist(line)


def _note(letter: str) -> Piece:
    return Piece(letter, SIZE * 0.7, rise=SIZE * 0.35)


def _after(cell: Cell) -> list[Piece]:
    return [Piece(f" ± {cell.spread}", SIZE * 0.75)] * bool(cell.spread) + [_note(cell.note)]


def _main(cell: Cell) -> Piece:
    return Piece(cell.text, bold=cell.mark == "best", underlined=cell.mark == "second")


def _name(row: Row) -> list[Piece]:
    return [Piece(printable(row.title)), _note(row.note)]


@dataclass(frozen=True)
class _Widths:
    """Of the column of names; of a figure and of what follows it; of a group of columns."""

    name: float
    main: float
    after: float
    group: float


def _measure(sheet: Sheet) -> _Widths:
    rows = [row for band in sheet.bands for row in band.rows]
    cells = [cell for row in rows for block in row.blocks for cell in block if not cell.span]
    metrics = [Piece(metric) for band in sheet.bands for metric in band.metrics]
    names = max(length(_name(row)) for row in rows)
    main = max([length([piece]) for piece in [*map(_main, cells), Piece("00.00")]])
    # a heading stands in the middle above the figures and may reach beyond them on either side
    beyond = max(0.0, max(length([piece]) for piece in metrics) - main) / 2
    after = max([beyond, *(length(_after(cell)) for cell in cells)])
    groups = max(length([Piece(printable(group))]) for band in sheet.bands for group in band.groups)
    group = max(len(sheet.bands[0].metrics) * (beyond + main + after + GAP), groups + 2 * GAP)
    return _Widths(max(names, 60.0) + GAP, main, after, group)


def png(sheet: Sheet) -> bytes:
    """The table as a PNG of 250 dots an inch; its warning and caption are in the file's metadata too."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with quietly():
        widths = _measure(sheet)
        groups = max(len(band.groups) for band in sheet.bands)
        inner = max(widths.name + groups * widths.group, 330.0)
        height = _draw(_Pen(), sheet, widths, inner)
        pen = _Pen((inner + 2 * MARGIN, height))
        _draw(pen, sheet, widths, inner)
        assert pen.figure is not None
        buffer = io.BytesIO()
        about = " ".join([sheet.warning, *sheet.caption]).strip()
        metadata = {"Title": sheet.title, "Description": about}
        FigureCanvasAgg(pen.figure).print_png(buffer, metadata=metadata)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _draw(pen: _Pen, sheet: Sheet, widths: _Widths, inner: float) -> float:
    """Draw everything; returns the height it takes."""
    left, right, y = MARGIN, MARGIN + inner, MARGIN + SIZE
    for line in wrap(f"{sheet.title}.", inner, Piece("", SIZE * 1.05, bold=True)):
        pen.write(left, y, [line])
        y += LINE
    for line in wrap(sheet.warning, inner, Piece("", SIZE * 0.95, bold=True, colour=WARNING)):
        pen.write(left, y, [line])
        y += LINE
    y -= LINE - 6
    for index, band in enumerate(sheet.bands):
        pen.rule(left, right, y, "thin" if index else "thick")
        y = _draw_band(pen, band, widths, left, right, y)
    pen.rule(left, right, y, "thick")
    y += LINE
    small = Piece("", SIZE * 0.85)
    for letter, text in sheet.notes:
        for number, line in enumerate(wrap(text, inner - 8, small)):
            pen.write(left, y, [_note("" if number else letter)])
            pen.write(left + 8, y, [line])
            y += LINE * 0.8
    y += 4 if sheet.notes else 0
    for line in wrap(" ".join([sheet.marks, *sheet.caption]), inner, small):
        pen.write(left, y, [line])
        y += LINE * 0.8
    return y - LINE * 0.8 + MARGIN


def _draw_band(pen: _Pen, band: Band, widths: _Widths, left: float, right: float, y: float) -> float:
    starts = [left + widths.name + index * widths.group for index in range(len(band.groups))]
    # what a wide heading leaves over goes between the columns
    step = widths.group / len(band.metrics)
    y += LINE - 2
    pen.write(left, y, [Piece("Method")])
    for start, group in zip(starts, band.groups):
        pen.write(start + (widths.group + GAP) / 2, y, [Piece(printable(group))], "centre")
        pen.rule(start + GAP, start + widths.group, y + 4.5, "thin")
    y += LINE + 2
    for start in starts:
        for column, metric in enumerate(band.metrics):
            middle = start + (column + 1) * step - widths.after - widths.main / 2
            pen.write(middle, y, [Piece(metric)], "centre")
    y += 5
    pen.rule(left, right, y, "thin")
    for row in band.rows:
        if row.ruled:
            y += 5
            pen.rule(left, right, y, "thin")
        y += LINE - 1
        pen.write(left, y, _name(row))
        for start, block in zip(starts, row.blocks):
            _draw_block(pen, block, start, step, y, widths)
        if row.published:
            y += LINE * 0.72
            pen.write(left + 10, y, [_printed("published")])
            for start, block in zip(starts, row.blocks):
                for column, cell in enumerate(block):
                    end = start + (column + 1) * step - widths.after
                    pen.write(end, y, [_printed(cell.published)], "right")
    return y + 5


def _draw_block(
    pen: _Pen, block: Sequence[Cell], start: float, step: float, y: float, widths: _Widths
) -> None:
    if block[0].span:
        pieces = [Piece(block[0].text, italic=True, colour=GREY), _note(block[0].note)]
        pen.write(start + (widths.group + GAP) / 2, y, pieces, "centre")
        return
    for column, cell in enumerate(block):
        end = start + (column + 1) * step - widths.after
        if cell.text[:1].isdigit():
            pen.write(end, y, [_main(cell)], "right")
        else:
            pen.write(end - widths.main / 2, y, [_main(cell)], "centre")
        pen.write(end, y, _after(cell))


def _printed(text: str) -> Piece:
    return Piece(text, SIZE * 0.85, italic=True, colour=GREY)
