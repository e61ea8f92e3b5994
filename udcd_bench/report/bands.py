"""Bands of a table in the report: its sheet's cells, each with its figure to sort by and its verdict."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from udcd_bench.grid.cells import ABSENT, STAND_IN
from udcd_bench.judging.verdicts import get_cell_key
from udcd_bench.render.sheet import group_by_method
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    import pandas as pd

    from udcd_bench.judging.uncertainty import CellKey
    from udcd_bench.render.sheet import Sheet, SheetCell

NO_RUN = ("not run", ABSENT)
"""States of a cell of which nothing was tried."""


@dataclass(frozen=True)
class ReportCell:
    """One cell: as laid out, the figure it is sorted by (NaN: none), and its verdict, empty where none is due.

    key: where the cell stands in its table.
    """

    cell: SheetCell
    value: float
    verdict: str
    key: CellKey


@dataclass(frozen=True)
class ReportRow:
    """A row of a band. ruled: a rule stands above it. below: what stands below its title."""

    title: str
    note: str
    ruled: bool
    below: str
    cells: tuple[ReportCell, ...]


@dataclass(frozen=True)
class ReportBand:
    """Groups of columns side by side. metrics: (title, whether higher is better), the same in each group."""

    groups: tuple[str, ...]
    metrics: tuple[tuple[str, bool], ...]
    rows: tuple[ReportRow, ...]


def build_bands(sheet: Sheet, frame: pd.DataFrame, verdicts: Mapping[CellKey, str]) -> Iterator[ReportBand]:
    """Join the sheet's bands with the lines of the long frame: groups, methods and metrics are in its order."""
    groups = [group for _, group in frame.groupby(["dataset", "rho"], sort=False, dropna=False)]
    by_method = [group_by_method(group.to_dict("records")) for group in groups]
    metrics = tuple(
        (METRICS[name].title, METRICS[name].better == "higher") for name in frame["metric"].unique()
    )
    start = 0
    for band in sheet.bands:
        part = by_method[start : start + len(band.groups)]
        rows = []
        for row, method in zip(band.rows, frame["method"].unique(), strict=True):
            below = "published" if row.published else "no counterpart" if verdicts else ""
            lines = [group[method] for group in part]
            cells = tuple(
                cell
                for block, block_lines in zip(row.blocks, lines, strict=True)
                for cell in _build_cells(block, block_lines, verdicts)
            )
            rows.append(ReportRow(row.title, row.note, row.ruled, below, cells))
        yield ReportBand(band.groups, metrics, tuple(rows))
        start += len(band.groups)


def _build_cells(
    block: tuple[SheetCell, ...], lines: Sequence[Mapping[Hashable, Any]], verdicts: Mapping[CellKey, str]
) -> Iterator[ReportCell]:
    """Join a block of the sheet with its lines; a cell across the whole block stands in each, so that rows sort."""
    wide = block if len(block) == len(lines) else block[:1] * len(lines)
    for cell, line in zip(wide, lines, strict=True):
        verdict = verdicts.get(get_cell_key(line)) or _describe_unjudged(line["verdict"])
        yield ReportCell(cell, line["ours"], verdict, get_cell_key(line))


def _describe_unjudged(state: str) -> str:
    """Name the state of a cell that is not compared; empty where the cell has a figure."""
    return "" if state in (STAND_IN, "no counterpart", "not judged") else state


def drop_empty(bands: Iterator[ReportBand]) -> Iterator[ReportBand]:
    """Drop the groups of columns and the rows in which nothing was run."""
    for band in bands:
        n_metrics = len(band.metrics)

        def has_run(cells: Sequence[ReportCell]) -> bool:
            return any(
                cell.verdict not in (*NO_RUN, "impossible") or cell.value == cell.value for cell in cells
            )

        blocks = [slice(index * n_metrics, (index + 1) * n_metrics) for index in range(len(band.groups))]
        filled = [block for block in blocks if any(has_run(row.cells[block]) for row in band.rows)]
        rows = tuple(_keep_blocks(row, filled) for row in band.rows if has_run(row.cells))
        if rows:
            groups = tuple(band.groups[blocks.index(block)] for block in filled)
            yield replace(band, groups=groups, rows=rows)


def _keep_blocks(row: ReportRow, blocks: Sequence[slice]) -> ReportRow:
    """Keep the cells of these groups of columns; one in which nothing was run says nothing."""
    cells = tuple(
        replace(cell, verdict="") if cell.verdict in NO_RUN else cell
        for cell in itertools.chain(*(row.cells[block] for block in blocks))
    )
    is_published = any(cell.cell.published for cell in cells)
    return replace(row, cells=cells, below="" if row.below == "published" and not is_published else row.below)
