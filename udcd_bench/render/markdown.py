"""A laid-out table in GitHub's Markdown: a table for each group of columns, one below another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from udcd_bench.errors import printable
from udcd_bench.render.sheet import Band, Cell, Sheet

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARK = {"best": ("**", "**"), "second": ("<u>", "</u>"), "": ("", "")}


def escape(text: object) -> str:
    """Text on one line that neither Markdown nor HTML takes for anything else, in a table's cell or out of it."""
    line = printable(re.sub(r"\s+", " ", str(text)).strip())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$@!])", r"\\\1", line)


def markdown(sheet: Sheet) -> str:
    """The table with its title and warning above, footnotes and caption below."""
    lines = [f"**{escape(sheet.title)}.**", ""]
    lines += [f"**{escape(sheet.warning)}**", ""] if sheet.warning else []
    for band in sheet.bands:
        for place, group in enumerate(band.groups):
            lines += [f"**{escape(group)}**", "", *map(_row, _rows(band, place)), ""]
    for letter, text in sheet.notes:
        lines += [f"<sup>{letter}</sup> {escape(text)}", ""]
    return "\n".join([*lines, " ".join(map(escape, filter(None, (sheet.marks, *sheet.caption))))]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(band: Band, place: int) -> Iterator[list[str]]:
    yield ["Method", *map(escape, band.metrics)]
    yield [":--", *("--:" for _ in band.metrics)]
    for row in band.rows:
        block = row.blocks[place]
        cells = [_cell(cell) for cell in block]
        # a table in Markdown has no cell across several columns
        yield [escape(row.title) + _note(row.note), *(cells * len(band.metrics) if block[0].span else cells)]
        if any(cell.published for cell in block):
            yield ["*published*", *(f"*{cell.published}*" if cell.published else "" for cell in block)]


def _cell(cell: Cell) -> str:
    before, after = _MARK[cell.mark]
    spread = f" ±{cell.spread}" if cell.spread else ""
    return f"{before}{escape(cell.text)}{after}{spread}{_note(cell.note)}"


def _note(letter: str) -> str:
    return f"<sup>{letter}</sup>" if letter else ""
