"""``Sheet``: a table laid out in bands of cells, for LaTeX, Markdown, a picture or the console; and its CSV."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from udcd_bench.errors import make_printable
from udcd_bench.render.csv_text import format_csv
from udcd_bench.stats.metrics import METRICS

Cell = dict[Hashable, Any]
"""A cell of the long frame, by column."""

DASH = "–"


@dataclass(frozen=True)
class SheetCell:
    """One cell of a table, or a whole group of columns when ``span`` is set.

    spread: one figure, or two as ``1.20/0.40``, between folds and between seeds. mark: ``best``, ``second`` or
    empty. note: letter of a footnote. published: what the paper prints.
    """

    text: str
    spread: str = ""
    mark: str = ""
    note: str = ""
    published: str = ""
    span: bool = False


@dataclass(frozen=True)
class SheetRow:
    """A method's row in one band: its title, a footnote's letter, a block of cells for each group of columns.

    ruled: a rule stands above it.
    """

    title: str
    note: str
    blocks: tuple[tuple[SheetCell, ...], ...]
    ruled: bool = False

    @property
    def published(self) -> bool:
        """Whether a line with the paper's figures stands below the row."""
        return any(cell.published for block in self.blocks for cell in block)


@dataclass(frozen=True)
class SheetBand:
    """Groups of columns side by side; a table with many stacks several bands."""

    groups: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[SheetRow, ...]


@dataclass(frozen=True)
class Sheet:
    """A table ready to be set.

    caption: sentences. notes: (letter, sentence). warning: for synthetic images, empty where there are none.
    marks: what a mark means, with {best} and {second} for how it looks; empty where nothing is to be said.
    stem: of its files' names. command: what makes it.
    """

    name: str
    title: str
    warning: str
    caption: tuple[str, ...]
    notes: tuple[tuple[str, str], ...]
    bands: tuple[SheetBand, ...]
    marks: str = ""
    stem: str = ""
    command: str = ""

    def describe_marks(self, best: str = "bold", second: str = "underlined") -> str:
        """Describe the marks in a sentence. best, second: how a figure so marked looks."""
        text = self.marks.format(best=best, second=second)
        return text[:1].upper() + text[1:]


@dataclass
class _Footnotes:
    letters: dict[str, str] = field(default_factory=dict)

    def assign_letter(self, text: str) -> str:
        """Return the letter of a note's text, a new one for a new text; empty for none."""
        return self.letters.setdefault(text, _format_letter(len(self.letters))) if text else ""


def _format_letter(index: int) -> str:
    """Format a count from 0 as a, b, …, z, aa, ab, …"""
    more, rest = divmod(index, 26)
    return (_format_letter(more - 1) if more else "") + chr(ord("a") + rest)


def lay_out(
    frame: pd.DataFrame,
    headings: Sequence[str],
    groups_per_band: int = 2,
    below_rule: Collection[str] = (),
) -> tuple[tuple[SheetBand, ...], tuple[tuple[str, str], ...]]:
    """Arrange a long frame (see ``Grid.build_frame``) that has a ``mark`` too: a group of columns for each setting.

    A setting is a (dataset, rho).
    headings: one for each group. below_rule: methods that the paper has no row of; a rule stands above the first.
    Returns a sheet's bands and its footnotes (letter, sentence).
    """
    notes = _Footnotes()
    frame = frame.assign(spread_text=_format_spreads(frame))
    metrics = tuple(METRICS[metric].title for metric in dict.fromkeys(frame["metric"]))
    groups = [
        group_by_method(group.to_dict("records"))
        for _, group in frame.groupby(["dataset", "rho"], sort=False, dropna=False)
    ]
    bands = []
    for start in range(0, len(groups), groups_per_band):
        part = slice(start, start + groups_per_band)
        rows = tuple(_build_rows(groups[part], below_rule, notes))
        bands.append(SheetBand(tuple(headings[part]), metrics, rows))
    return tuple(bands), tuple((letter, text) for text, letter in notes.letters.items())


def group_by_method(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Group the cells of one setting by their methods, in order."""
    by_method: dict[str, list[Cell]] = {}
    for cell in cells:
        by_method.setdefault(cell["method"], []).append(cell)
    return by_method


def _build_rows(
    groups: Sequence[Mapping[str, Sequence[Cell]]], below_rule: Collection[str], notes: _Footnotes
) -> Iterator[SheetRow]:
    """Build the rows of one band, whose groups of columns have the same methods."""
    has_rule = False
    for index, method in enumerate(groups[0]):
        parts = [group[method] for group in groups]
        texts = {cell["note"] for part in parts for cell in part}
        # a note that all cells share stands at the row's title
        note = texts.pop() if len(texts) == 1 else None
        blocks = tuple(_build_block(part, notes, note is None) for part in parts)
        ruled = method in below_rule and not has_rule and index > 0
        has_rule = has_rule or ruled
        title = str(parts[0][0]["method_title"])
        yield SheetRow(title, notes.assign_letter(note or ""), blocks, ruled)


def _build_block(cells: Sequence[Cell], notes: _Footnotes, noted: bool) -> tuple[SheetCell, ...]:
    """Build the cells of one method in one group of columns. noted: whether cells have their own footnotes."""
    letters = [notes.assign_letter(cell["note"]) if noted else "" for cell in cells]
    published = [format_percent(cell["published"]) for cell in cells]
    figures = [format_percent(cell["ours"]) for cell in cells]
    states = {cell["verdict"] for cell in cells}
    if not any(figures) and not any(published) and states & {"failed", "not run"}:
        return (SheetCell(states.pop(), note=letters[0], span=True),)
    return tuple(
        SheetCell(
            text=figure or (cell["verdict"] if cell["verdict"] in ("failed", "not run") else DASH),
            spread=cell["spread_text"],
            mark=cell["mark"],
            note=letter,
            published=printed,
        )
        for cell, figure, letter, printed in zip(cells, figures, letters, published)
    )


def has_both_spreads(frame: pd.DataFrame) -> bool:
    """Tell whether cells show two spreads, between folds and between seeds of one fold."""
    return bool(frame["spread_folds"].notna().any() and frame["spread_seeds"].notna().any())


def _format_spreads(frame: pd.DataFrame) -> list[str]:
    """Format each cell's spread, or both with a dash for a missing one; empty for a single run."""
    pairs = [
        (format_percent(a), format_percent(b)) for a, b in zip(frame["spread_folds"], frame["spread_seeds"])
    ]
    if has_both_spreads(frame):
        return [f"{folds or DASH}/{seeds or DASH}" if folds or seeds else "" for folds, seeds in pairs]
    return [folds or seeds for folds, seeds in pairs]


def format_percent(value: float | None) -> str:
    """Format a percentage with two decimals; empty for None and NaN."""
    return "" if value is None or pd.isna(value) else f"{value:.2f}"


# --- CSV ------------------------------------------------------------------------------------------


def format_table_csv(frame: pd.DataFrame) -> str:
    """Format the long frame as CSV: percentages with two decimals, empty where a number does not exist."""
    text = frame.copy()
    for column in ("published", "ours", "spread", "low", "high", "spread_folds", "spread_seeds"):
        text[column] = [format_percent(value) for value in frame[column]]
    text["rho"] = ["" if pd.isna(value) else f"{value:g}" for value in frame["rho"]]
    return format_csv(text)


# --- console --------------------------------------------------------------------------------------

_CONSOLE_MARKS = {"best": "*", "second": "+", "": " "}


def render_console(sheet: Sheet, width: int = 100) -> str:
    """Render plain text, at most ``width`` characters wide where a group of columns fits."""
    lines = [f"{sheet.name}: {sheet.title}"]
    if sheet.warning:
        lines += wrap_paragraph(f"!! {sheet.warning}", width)
    for band in sheet.bands:
        cells = [
            [_format_cell(cell) for cell in block]
            for row in band.rows
            for block in row.blocks
            if not block[0].span
        ]
        wide = max((len(text) for block in cells for text in block), default=0)
        wide = max(wide, *(len(metric) for metric in band.metrics), 6) + 2
        names = [_shorten(row.title) + (f" [{row.note}]" if row.note else "") for row in band.rows]
        first = max(len(name) for name in [*names, "  published"])
        block_width = max(wide * len(band.metrics), 2 + max(len(group) for group in band.groups))
        fit = max(1, (width - first) // (block_width + 1))
        for start in range(0, len(band.groups), fit):
            part = slice(start, start + fit)
            lines += ["", *_render_band(band, names, part, (first, wide, block_width))]
    lines += ["", *wrap_paragraph(sheet.describe_marks("*", "+"), width)]
    for letter, text in sheet.notes:
        lines += wrap_paragraph(f"[{letter}] {text}", width)
    for sentence in sheet.caption:
        lines += wrap_paragraph(sentence, width)
    return "\n".join(make_printable(line.rstrip()) for line in lines) + "\n"


def _render_band(
    band: SheetBand, names: Sequence[str], part: slice, widths: tuple[int, int, int]
) -> Iterator[str]:
    """Render the groups of columns in ``part``. widths: of the titles, of a cell and of a group, characters."""
    title_width, cell_width, block_width = widths

    def block(texts: Sequence[str]) -> str:
        spanning = len(texts) < len(band.metrics)
        text = texts[0].center(block_width) if spanning else "".join(text.rjust(cell_width) for text in texts)
        return " " + text.ljust(block_width)

    def blocks(texts: Sequence[Sequence[str]]) -> str:
        return "".join(map(block, texts))

    groups = band.groups[part]
    yield " " * title_width + "".join(" " + group.center(block_width) for group in groups)
    yield " " * title_width + blocks([[f"{metric} " for metric in band.metrics]] * len(groups))
    rule = "-" * (title_width + len(groups) * (block_width + 1))
    yield rule
    for name, row in zip(names, band.rows):
        if row.ruled:
            yield rule
        yield name.ljust(title_width) + blocks(
            [[_format_cell(cell) for cell in block] for block in row.blocks[part]]
        )
        if row.published:
            printed = [[f"{cell.published} " for cell in block] for block in row.blocks[part]]
            yield "  published".ljust(title_width) + blocks(printed)
    yield rule


def _shorten(title: str, width: int = 28) -> str:
    title = make_printable(title)
    return title if len(title) <= width else title[: width - 1] + "…"


def _format_cell(cell: SheetCell) -> str:
    note = f"[{cell.note}]" if cell.note else ""
    if cell.span:
        return cell.text + note
    return cell.text + (f" ±{cell.spread}" if cell.spread else "") + _CONSOLE_MARKS[cell.mark] + note


def wrap_paragraph(text: str, width: int) -> list[str]:
    """Break text into lines of at most ``width`` characters, all but the first indented."""
    import textwrap

    return textwrap.wrap(text, width, break_long_words=False, subsequent_indent="  ")
