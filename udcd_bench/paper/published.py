"""The figures the paper prints, as typed data. ``tables/*.csv`` is the only place where they stand.

Columns: dataset, rho (empty: the data's own imbalance), method, metric, percent, marks (``best``, ``second``
or empty, as the paper marks them, right or wrong; its bold marks did not survive in the text the figures were
taken from, so ``best`` is absent). Any CSV of this form can be read, such as another paper's, without rho and
marks where it has none.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

COLUMNS = ("dataset", "rho", "method", "metric", "percent", "marks")
OPTIONAL = ("rho", "marks")
MARKS = ("", "best", "second")


@dataclass(frozen=True)
class Published:
    """One printed figure. rho is None for the data's own imbalance; percent is as printed, 0 to 100."""

    dataset: str
    rho: float | None
    method: str
    metric: str
    percent: float
    marks: str = ""

    @property
    def place(self) -> tuple[str, float | None, str, str]:
        """Where in the table it stands."""
        return self.dataset, self.rho, self.method, self.metric


def find(table: str) -> Path | None:
    """The file of a table's published figures, beside the table; None for a table of which none were printed."""
    folder = plugins.root() / "tables"
    # a table from a folder of the user's own brings its own
    places = (plugins.files("tables").get(table, folder).with_suffix(".csv"), folder / f"{table}.csv")
    return next((place for place in places if place.is_file()), None)


def path(table: str) -> Path:
    """As ``find``. Raises UserError when there is none."""
    if (found := find(table)) is not None:
        return found
    known = [file.stem for file in (plugins.root() / "tables").glob("*.csv")]
    raise UserError(f"There are no published figures for {table!r}{nearest(table, known)}")


def load(table: str) -> tuple[Published, ...]:
    """The published figures of a table of the suite, in the printed order."""
    return read(path(table))


def read(file: Path) -> tuple[Published, ...]:
    """The published figures in a CSV. Raises UserError naming file, line and column of what does not fit."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a CSV of published figures: {error}") from error
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = _rows(lines, file)
    header = tuple(next(rows, []))
    if missing := [name for name in COLUMNS if name not in (*header, *OPTIONAL)]:
        raise UserError(
            f"{file}, line 1: column {missing[0]!r} is missing; the columns are {', '.join(COLUMNS)}."
        )
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        raise UserError(f"{file}, line 1: column {twice[0]!r} stands there twice.")
    figures: dict[tuple[str, float | None, str, str], Published] = {}
    for values in rows:
        where = f"{file}, line {lines.line_num}"
        if not any(values):
            continue
        if len(values) != len(header):
            raise UserError(f"{where}: {len(values)} values, and the header names {len(header)} columns.")
        figure = _parse(dict.fromkeys(OPTIONAL, "") | dict(zip(header, values)), where)
        if figure.place in figures:
            raise UserError(f"{where}, column metric: {figure.method} {figure.metric} stands there twice.")
        figures[figure.place] = figure
    if not figures:
        raise UserError(f"{file} holds no figure.")
    return tuple(figures.values())


def _rows(lines: Any, file: Path) -> Iterator[list[str]]:
    try:
        for values in lines:
            yield [value.strip() for value in values]
    except csv.Error as error:
        raise UserError(f"{file}, line {lines.line_num}: {error}.") from error


def lookup(figures: Iterable[Published]) -> dict[tuple[str, float | None, str, str], Published]:
    """Figures by (dataset, rho, method, metric)."""
    return {figure.place: figure for figure in figures}


def _parse(row: dict[str, str], where: str) -> Published:
    for column in ("dataset", "method", "metric"):
        if not row[column]:
            raise UserError(f"{where}, column {column}: it is empty.")
    if row["marks"] not in MARKS:
        raise UserError(f"{where}, column marks: {row['marks']!r} is not one of best, second or nothing.")
    rho = _number(row["rho"], f"{where}, column rho") if row["rho"] else None
    if rho is not None and rho < 1:
        raise UserError(f"{where}, column rho: {row['rho']} is below 1, and it is largest / smallest class.")
    percent = _number(row["percent"], f"{where}, column percent")
    if not 0 <= percent <= 100:
        raise UserError(f"{where}, column percent: {row['percent']} is not between 0 and 100.")
    return Published(row["dataset"], rho, row["method"], row["metric"], percent, row["marks"])


def _number(text: str, where: str) -> float:
    # plain decimals: Python's own reader takes 1_0 and other scripts' digits too
    value = (
        float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) else math.nan
    )
    if not math.isfinite(value):
        raise UserError(f"{where}: {text[:100]!r} is not a number.")
    return value
