"""Tables of the report: each one's rows and columns that have a run, with the published figure and a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.artefacts import leak
from udcd_bench.artefacts.commands import format_artefact_command
from udcd_bench.grid.cells import ABSENT, STAND_IN
from udcd_bench.judging import comparisons
from udcd_bench.judging.paper_check import (
    TableComparison,
    add_verdicts,
    compare_with_paper,
    list_other_protocol,
)
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import describe_training_noise, list_training_noise
from udcd_bench.judging.verdicts import VERDICTS, count_verdicts, get_cell_key
from udcd_bench.paper import published
from udcd_bench.report.bands import NO_RUN, ReportBand, ReportRow, build_bands, drop_empty
from udcd_bench.stats.metrics import METRICS
from udcd_bench.tuning.tuned_table import TunedTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pandas as pd

    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.judging.comparisons import Comparison
    from udcd_bench.judging.paper_check import RankedColumn
    from udcd_bench.judging.uncertainty import CellKey
    from udcd_bench.judging.verdicts import JudgedCell
    from udcd_bench.render.sheet import Sheet
    from udcd_bench.report.views import View
    from udcd_bench.runs.results import Results

SYMBOLS = {
    **{word: verdict.symbol for word, verdict in VERDICTS.items()},
    ABSENT: "○",
    "holds": "✓", "fails": "✕", "cannot tell": "?",
    "done": "✓", "running": "…", "interrupted": "‖", "damaged": "✕",
}  # fmt: skip
"""Symbols beside the words of verdicts and states, so that colour alone tells nothing."""


@dataclass(frozen=True)
class TablePart:
    """A table with the rows and columns that have runs.

    done: its runs that are finished. not_run: those that are neither finished nor failed.
    name: of the table's file. anchor: its name on the page. whole: the table's verdict.
    noise: sentences on what was taken for training's noise.
    absent: names of its rows, and of its columns, without any run. lines: every cell as plain values.
    other, pairs: each row compared with this one, by column.
    """

    name: str
    anchor: str
    title: str
    done: int
    planned: int
    not_run: int
    commands: tuple[str, ...]
    sheet: Sheet
    bands: tuple[ReportBand, ...]
    cells: tuple[JudgedCell, ...] = ()
    whole: str = ""
    noise: tuple[str, ...] = ()
    columns: tuple[RankedColumn, ...] = ()
    absent: tuple[str, ...] = ()
    lines: tuple[dict[str, Any], ...] = ()
    other: str = ""
    pairs: tuple[tuple[str, tuple[Comparison, ...]], ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many cells that have runs have each verdict."""
        return count_verdicts(cell for cell in self.cells if cell.n or cell.verdict == "failed")

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """The footnotes (letter, sentence) of the rows and cells that are shown."""
        rows = [row for band in self.bands for row in band.rows]
        used = {row.note for row in rows} | {each.cell.note for row in rows for each in row.cells}
        return tuple(note for note in self.sheet.notes if note[0] in used)


def build_tables(view: View, results: Results, prefix: str) -> Iterator[TablePart]:
    """Build the tables of a view, with the leak's worth where both splits were run.

    prefix: of their names on the page.
    """
    shown: set[object] = set()
    for table, request in view.tables:
        runs = [spec for spec in table.list_runs(request) if spec in results.records]
        part = _build_table(table, request, results, f"{prefix}{table.name}")
        part = replace(part, lines=tuple({"setting": view.title} | line for line in part.lines))
        # what another table shows of the same runs compares as it does there
        yield _add_pairs(part, table, request, results) if set(runs) - shown else part
        shown.update(runs)
        if request.split == leak.SPLITS[0] and published.find_csv(table.name):
            yield from _build_leak(table, request, results, f"{prefix}{table.name}-leak")


def _build_table(table: Table, request: TableRequest, results: Results, anchor: str) -> TablePart:
    specs = table.list_runs(request)
    tolerances = load_tolerances()
    plain = table.build_frame(request, results)
    sheet = table.build_sheet(request, results, plain)
    frame = add_verdicts(table, request, results, plain, tolerances)
    comparison: TableComparison | None = None
    verbs = ["run"] if table.name in plugins.list_names("tables") else []
    if frame["published"].notna().any():
        comparison = compare_with_paper(table, request, results, plain, tolerances)
        verbs.append("check")
    cells = comparison.cells if comparison else []
    verdicts = {cell.key: cell.verdict for cell in cells}
    return TablePart(
        name=table.name,
        anchor=anchor,
        title=sheet.title,
        done=len(results.select_records(specs)),
        planned=len(specs),
        not_run=sum(spec not in results.states for spec in specs),
        commands=tuple(_list_commands(verbs, table, request)) or _list_search_command(table),
        sheet=sheet,
        bands=tuple(drop_empty(build_bands(sheet, plain, verdicts))),
        cells=tuple(cells),
        whole=_describe_whole(comparison, request),
        noise=tuple(describe_training_noise(list_training_noise(table, request, results))),
        columns=tuple(comparison.columns if comparison else ()),
        absent=tuple(_list_absent(plain)),
        lines=tuple(_list_lines(frame, verdicts)),
    )


def _list_commands(verbs: Iterable[str], table: Table, request: TableRequest) -> Iterator[str]:
    for verb in verbs:
        command = format_artefact_command(verb, table.name, request)
        # runs of another protocol are judged on request alone
        yield f"{command} --compare" if verb == "check" and list_other_protocol(request) else command


def _list_search_command(table: Table) -> tuple[str, ...]:
    return (table.command,) if isinstance(table, TunedTable) else ()


def _add_pairs(part: TablePart, table: Table, request: TableRequest, results: Results) -> TablePart:
    """Add the comparison of each row with UDCD, or with the first row that has runs where UDCD has none."""
    with_runs = [
        row.name
        for row in table.list_rows(request)
        if any(
            results.select_records(table.list_cell_runs(request, row, group))
            for group in table.list_column_groups(request)
        )
    ]
    if len(with_runs) < 2:
        return part
    other = comparisons.DEFAULT_ROW if comparisons.DEFAULT_ROW in with_runs else with_runs[0]
    compared = [
        row
        for row in comparisons.compare_rows(table, request, results, other, load_tolerances())
        if row.n and row.method != row.other
    ]
    titles = {row.name: row.title for row in table.list_rows(request)}
    pairs = tuple((title, tuple(rows)) for title, rows in comparisons.group_by_column(compared))
    return replace(part, other=titles[other], pairs=pairs)


def _list_absent(frame: pd.DataFrame) -> Iterator[str]:
    """List the rows and the columns of a table's frame in which nothing was run."""
    for column in ("method_title", "dataset_title"):
        for title, lines in frame.groupby(column, sort=False):
            if set(lines["verdict"]) <= set(NO_RUN):
                yield str(title)


def _list_lines(frame: pd.DataFrame, verdicts: Mapping[CellKey, str]) -> Iterator[dict[str, Any]]:
    """List the cells that have a run of a frame with intervals as plain values, for the page's filter."""
    for row in frame[frame["n"] > 0].to_dict("records"):
        values = {
            name: None if math.isnan(row[name]) else round(row[name], 2)
            for name in ("ours", "spread", "low", "high", "published")
        }
        yield {
            "data": row["dataset_title"],
            "row": row["method_title"],
            "metric": METRICS[row["metric"]].title,
            "n": int(row["n"]),
            "verdict": verdicts.get(get_cell_key(row), ""),
            **values,
        }


def _describe_whole(comparison: TableComparison | None, request: TableRequest) -> str:
    """Describe the verdict on a table as a whole, and whether it is one on the paper."""
    if comparison is None or comparison.table is None:
        return ""
    other = ", ".join(list_other_protocol(request))
    caveat = f" No verdict on the paper: the runs follow another protocol ({other})." if other else ""
    return f"{comparison.table.describe()}{caveat}"


def _build_leak(table: Table, request: TableRequest, results: Results, anchor: str) -> Iterator[TablePart]:
    by_split = [
        results.select_records(table.list_runs(replace(request, split=split))) for split in leak.SPLITS
    ]
    # what both splits have, so that they are means over as many runs
    folds, seeds = (
        sorted(set.intersection(*({getattr(spec, name) for spec in done} for done in by_split)))
        for name in ("fold", "seed")
    )
    if not folds or not seeds:
        return
    request = replace(request, folds=tuple(folds), seeds=tuple(seeds))
    specs = [spec for split in leak.SPLITS for spec in table.list_runs(replace(request, split=split))]
    done = results.select_records(specs)
    frame = leak.build_frame(table, request, results)
    sheet = leak.build_sheet(table, request, results, frame)
    bands = build_bands(sheet, frame.assign(ours=frame["leak"], verdict=STAND_IN), {})
    filled = (replace(band, rows=tuple(filter(_has_value, band.rows))) for band in bands)
    with_values = tuple(band for band in filled if band.rows)
    if with_values:
        yield TablePart(
            name=sheet.name,
            anchor=anchor,
            title=sheet.title,
            done=len(done),
            planned=len(specs),
            not_run=sum(spec not in results.states for spec in specs),
            commands=(format_artefact_command("run", table.name, replace(request, split="both")),),
            sheet=sheet,
            bands=with_values,
        )


def _has_value(row: ReportRow) -> bool:
    return any(not math.isnan(shown.value) for shown in row.cells)


def format_number(value: float, digits: int = 2) -> str:
    """Format a number with its digits; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
