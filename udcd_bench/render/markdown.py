"""Tables in GitHub's Markdown: one for each group of columns, one below another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from udcd_bench.errors import make_printable
from udcd_bench.render.sheet import Sheet, SheetBand, SheetCell

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARKUP = {"best": ("**", "**"), "second": ("<u>", "</u>"), "": ("", "")}


def escape_markdown(text: object) -> str:
    """Escape text, on one line, for Markdown and HTML, in a table's cell or outside."""
    line = make_printable(re.sub(r"\s+", " ", str(text)).strip())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$@!])", r"\\\1", line)


def render_markdown(sheet: Sheet) -> str:
    """Render the table with its title and warning above, footnotes, caption and command below."""
    lines = [f"**{escape_markdown(sheet.title)}.**", ""]
    lines += [f"**{escape_markdown(sheet.warning)}**", ""] if sheet.warning else []
    for band in sheet.bands:
        for index, group in enumerate(band.groups):
            lines += [f"**{escape_markdown(group)}**", "", *map(_format_row, _build_rows(band, index)), ""]
    for letter, text in sheet.notes:
        lines += [f"<sup>{letter}</sup> {escape_markdown(text)}", ""]
    lines.append(" ".join(map(escape_markdown, filter(None, (sheet.describe_marks(), *sheet.caption)))))
    lines += ["", f"Made by {escape_markdown(sheet.command)}"] if sheet.command else []
    return "\n".join(lines) + "\n"


def _format_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _build_rows(band: SheetBand, group_index: int) -> Iterator[list[str]]:
    yield ["Method", *map(escape_markdown, band.metrics)]
    yield [":--", *("--:" for _ in band.metrics)]
    for row in band.rows:
        block = row.blocks[group_index]
        cells = [_format_cell(cell) for cell in block]
        # a table in Markdown has no cell across several columns
        yield [
            escape_markdown(row.title) + _format_note(row.note),
            *(cells * len(band.metrics) if block[0].span else cells),
        ]
        if any(cell.published for cell in block):
            yield ["*published*", *(f"*{cell.published}*" if cell.published else "" for cell in block)]


def _format_cell(cell: SheetCell) -> str:
    before, after = _MARKUP[cell.mark]
    spread = f" ±{cell.spread}" if cell.spread else ""
    return f"{before}{escape_markdown(cell.text)}{after}{spread}{_format_note(cell.note)}"


def _format_note(letter: str) -> str:
    return f"<sup>{letter}</sup>" if letter else ""
