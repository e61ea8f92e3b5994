"""Published figures: what the paper prints, read from ``tables/*.csv``, the only place that holds them.

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
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.errors import UserError, suggest_nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CSV_COLUMNS = ("dataset", "rho", "method", "metric", "percent", "marks")
OPTIONAL_COLUMNS = ("rho", "marks")
MARKS = ("", "best", "second")


@dataclass(frozen=True)
class PublishedValue:
    """One printed figure. rho is None for the data's own imbalance; percent is as printed, 0 to 100."""

    dataset: str
    rho: float | None
    method: str
    metric: str
    percent: float
    marks: str = ""

    @property
    def key(self) -> tuple[str, float | None, str, str]:
        """Where in the table the figure stands."""
        return self.dataset, self.rho, self.method, self.metric


def find_csv(table: str) -> Path | None:
    """Find the file of a table's published figures; None for a table of which none were printed."""
    folder = plugins.find_root() / "tables"
    paths = [folder / f"{table}.csv"]
    if table in plugins.list_names("tables"):
        # a table from a folder of the user's own brings its own figures
        paths.insert(0, plugins.find_file("tables", table).with_suffix(".csv"))
    return next((path for path in paths if path.is_file()), None)


def require_csv(table: str) -> Path:
    """Find the file of a table's published figures. Raises UserError when there is none."""
    if (path := find_csv(table)) is not None:
        return path
    known = [file.stem for file in (plugins.find_root() / "tables").glob("*.csv")]
    raise UserError(f"There are no published figures for {table!r}{suggest_nearest(table, known)}")


def load_table(table: str) -> tuple[PublishedValue, ...]:
    """Load the published figures of a table of the suite, in the printed order.

    Raises UserError when the paper prints none.
    """
    return read_csv(require_csv(table))


def read_csv(file: Path) -> tuple[PublishedValue, ...]:
    """Read the published figures in a CSV. Raises UserError naming file, line and column of what is invalid."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a CSV of published figures: {error}") from error
    return _parse_csv(text, file)


@lru_cache(64)
def _parse_csv(text: str, file: Path) -> tuple[PublishedValue, ...]:
    """Parse a file's text, once while it is the same: a report reads each table dozens of times."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = _read_rows(lines, file)
    header = tuple(next(rows, []))
    if missing := [name for name in CSV_COLUMNS if name not in (*header, *OPTIONAL_COLUMNS)]:
        raise UserError(
            f"{file}, line 1: column {missing[0]!r} is missing; the columns are {', '.join(CSV_COLUMNS)}."
        )
    if twice := [name for name in CSV_COLUMNS if header.count(name) > 1]:
        raise UserError(f"{file}, line 1: column {twice[0]!r} appears twice.")
    figures: dict[tuple[str, float | None, str, str], PublishedValue] = {}
    for values in rows:
        location = f"{file}, line {lines.line_num}"
        if not any(values):
            continue
        if len(values) != len(header):
            raise UserError(f"{location}: {len(values)} values, and the header names {len(header)} columns.")
        figure = _parse_row(dict.fromkeys(OPTIONAL_COLUMNS, "") | dict(zip(header, values)), location)
        if figure.key in figures:
            raise UserError(f"{location}, column metric: {figure.method} {figure.metric} appears twice.")
        figures[figure.key] = figure
    if not figures:
        raise UserError(f"{file} holds no figure.")
    return tuple(figures.values())


def _read_rows(lines: Any, file: Path) -> Iterator[list[str]]:
    try:
        for values in lines:
            yield [value.strip() for value in values]
    except csv.Error as error:
        raise UserError(f"{file}, line {lines.line_num}: {error}.") from error


def index_by_key(
    values: Iterable[PublishedValue],
) -> dict[tuple[str, float | None, str, str], PublishedValue]:
    """Index figures by (dataset, rho, method, metric)."""
    return {figure.key: figure for figure in values}


def _parse_row(row: dict[str, str], location: str) -> PublishedValue:
    for column in ("dataset", "method", "metric"):
        if not row[column]:
            raise UserError(f"{location}, column {column}: it is empty.")
    if row["marks"] not in MARKS:
        raise UserError(f"{location}, column marks: {row['marks']!r} is not one of best, second or nothing.")
    rho = _parse_number(row["rho"], f"{location}, column rho") if row["rho"] else None
    if rho is not None and rho < 1:
        raise UserError(
            f"{location}, column rho: {row['rho']} is below 1, and it is largest / smallest class."
        )
    percent = _parse_number(row["percent"], f"{location}, column percent")
    if not 0 <= percent <= 100:
        raise UserError(f"{location}, column percent: {row['percent']} is not between 0 and 100.")
    return PublishedValue(row["dataset"], rho, row["method"], row["metric"], percent, row["marks"])


def _parse_number(text: str, location: str) -> float:
    # plain decimals: Python's own reader takes 1_0 and other scripts' digits too
    value = (
        float(text) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) else math.nan
    )
    if not math.isfinite(value):
        raise UserError(f"{location}: {text[:100]!r} is not a number.")
    return value
