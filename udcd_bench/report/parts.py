"""Tables and figures of the report: each table's sheet with a verdict and the published figure in every cell."""

from __future__ import annotations

import base64
import io
import math
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.artefacts import leak
from udcd_bench.data import sources
from udcd_bench.grid.cells import ABSENT, STAND_IN
from udcd_bench.grid.stored_settings import format_settings, list_other_requests
from udcd_bench.judging.paper_check import TableComparison, compare_with_paper, list_other_protocol
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.verdicts import VERDICTS, count_verdicts, get_cell_key
from udcd_bench.paper import published
from udcd_bench.runs import profiles
from udcd_bench.runs.spec import SPLITS, format_split_options
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.judging.paper_check import RankedColumn
    from udcd_bench.judging.uncertainty import CellKey
    from udcd_bench.judging.verdicts import JudgedCell
    from udcd_bench.render.sheet import Sheet, SheetCell
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.store import Store

SYMBOLS = {
    **{word: verdict.symbol for word, verdict in VERDICTS.items()},
    ABSENT: "○",
    "holds": "✓", "fails": "✕", "cannot tell": "?",
    "done": "✓", "running": "…", "interrupted": "‖", "damaged": "✕",
}  # fmt: skip
"""Symbols beside the words of verdicts and states, so that colour alone tells nothing."""


@dataclass(frozen=True)
class ReportCell:
    """One cell: as laid out, the figure it is sorted by (NaN: none), and its verdict, empty where none is due."""

    cell: SheetCell
    value: float
    verdict: str


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


@dataclass(frozen=True)
class TablePart:
    """A table of the suite. done: its runs that are finished; with none it has no sheet. whole: the table's verdict.

    elsewhere: (number of runs, command that shows them) of its rows under other settings, where it has no sheet.
    """

    name: str
    title: str
    done: int
    planned: int
    commands: tuple[str, ...]
    sheet: Sheet | None = None
    bands: tuple[ReportBand, ...] = ()
    cells: tuple[JudgedCell, ...] = ()
    elsewhere: tuple[tuple[int, str], ...] = ()
    whole: str = ""
    columns: tuple[RankedColumn, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many cells have each verdict."""
        return count_verdicts(self.cells)


@dataclass(frozen=True)
class FigurePart:
    """A figure of the suite. image: a data URI, empty where it has not been drawn."""

    name: str
    title: str
    command: str
    synthetic: bool
    image: str = ""
    width: int = 0
    height: int = 0
    description: str = ""
    files: tuple[str, ...] = ()


# --- tables -------------------------------------------------------------------------------------------------


def build_tables(request: TableRequest, results: Results) -> Iterator[TablePart]:
    """Build every table of the suite, those of the paper first; with the leak's worth where both splits were run."""
    for name in sorted(plugins.list_names("tables"), key=lambda name: published.find_csv(name) is None):
        table: Table = plugins.load_class("tables", name)()
        yield _build_table(table, request, results)
        has_runs = any(spec in results.states for spec in table.list_runs(request))
        if has_runs and published.find_csv(name):
            yield from _build_leak(table, request, results)


def _build_table(table: Table, request: TableRequest, results: Results) -> TablePart:
    specs = table.list_runs(request)
    part = TablePart(
        name=table.name,
        title=table.title,
        done=len(results.select_records(specs)),
        planned=len(specs),
        commands=(format_artefact_command("run", table.name, request),),
    )
    if not any(spec in results.states for spec in specs):
        others = list_other_requests(table, request, results)
        lines = ((other.n, format_artefact_command("check", table.name, other.request)) for other in others)
        return replace(part, elsewhere=tuple(lines))
    frame = table.build_frame(request, results)
    sheet = table.build_sheet(request, results, frame)
    comparison: TableComparison | None = None
    commands = part.commands
    if frame["published"].notna().any():
        comparison = compare_with_paper(table, request, results, frame, load_tolerances())
        commands += (format_artefact_command("check", table.name, request),)
    cells = comparison.cells if comparison else []
    return replace(
        part,
        commands=commands,
        sheet=sheet,
        bands=tuple(_build_bands(sheet, frame, {cell.key: cell.verdict for cell in cells})),
        cells=tuple(cells),
        whole=_describe_whole(comparison, request),
        columns=tuple(comparison.columns if comparison else ()),
    )


def _describe_whole(comparison: TableComparison | None, request: TableRequest) -> str:
    """Describe the verdict on a table as a whole, and whether it is one on the paper."""
    if comparison is None or comparison.table is None:
        return ""
    other = ", ".join(list_other_protocol(request))
    caveat = f" No verdict on the paper: the runs follow another protocol ({other})." if other else ""
    return f"{comparison.table.describe()}{caveat}"


def _build_leak(table: Table, request: TableRequest, results: Results) -> Iterator[TablePart]:
    specs = [spec for split in leak.SPLITS for spec in table.list_runs(replace(request, split=split))]
    done = results.select_records(specs)
    if len({spec.split for spec in done}) < len(leak.SPLITS):
        return
    frame = leak.build_frame(table, request, results)
    sheet = leak.build_sheet(table, request, results, frame)
    bands = _build_bands(sheet, frame.assign(ours=frame["leak"], verdict=STAND_IN), {})
    with_values = tuple(band for band in bands if any(map(_has_value, band.rows)))
    if with_values:
        yield TablePart(
            name=sheet.name,
            title=sheet.title,
            done=len(done),
            planned=len(specs),
            commands=(format_artefact_command("run", table.name, replace(request, split="both")),),
            sheet=sheet,
            bands=with_values,
        )


def _has_value(row: ReportRow) -> bool:
    return any(not math.isnan(shown.value) for shown in row.cells)


def _build_bands(sheet: Sheet, frame: pd.DataFrame, verdicts: Mapping[CellKey, str]) -> Iterator[ReportBand]:
    """Join the sheet's bands with the lines of the long frame: groups, methods and metrics are in its order."""
    groups = [group for _, group in frame.groupby(["dataset", "rho"], sort=False, dropna=False)]
    by_method = [{str(name): rows for name, rows in group.groupby("method", sort=False)} for group in groups]
    metrics = tuple(
        (METRICS[name].title, METRICS[name].better == "higher") for name in frame["metric"].unique()
    )
    start = 0
    for band in sheet.bands:
        part = by_method[start : start + len(band.groups)]
        rows = []
        for row, method in zip(band.rows, frame["method"].unique(), strict=True):
            below = "published" if row.published else "no counterpart" if verdicts else ""
            lines = [group[method].to_dict("records") for group in part]
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
        yield ReportCell(cell, line["ours"], verdict)


def _describe_unjudged(state: str) -> str:
    """Name the state of a cell that is not compared; empty where the cell has a figure."""
    return "" if state in (STAND_IN, "no counterpart", "not judged") else state


# --- figures ------------------------------------------------------------------------------------------------


def build_figures(request: TableRequest, store: Store) -> Iterator[FigurePart]:
    """Build every figure of the suite, from the files that ``udcd-bench plot`` has left."""
    from PIL import Image

    split = "" if request.split == "paper" else f"-{request.split}"
    for name in plugins.list_names("figures"):
        declared = plugins.read_attributes("figures", name)
        title, command = str(declared.get("title", name)), format_artefact_command("plot", name, request)
        stand_ins = map(profiles.find_profile(request.profile).resolve_dataset, declared.get("datasets", ()))
        synthetic = any(map(sources.is_synthetic, stand_ins))
        file = store.root / request.profile / f"{name}{split}.png"
        if not file.is_file():
            yield FigurePart(name, title, command, synthetic)
            continue
        data = file.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
            description = str(picture.info.get("Description", ""))
        uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        synthetic = synthetic or STAND_IN in description.lower()
        yield FigurePart(
            name=name,
            title=title,
            command=command,
            synthetic=synthetic,
            image=uri,
            width=width,
            height=height,
            description=description,
            files=_find_companion_files(file, f"{name}{split}"),
        )


def _find_companion_files(file: Path, stem: str) -> tuple[str, ...]:
    """Find the CSVs and the PDF of a figure; those of other splits belong to another figure."""
    others = tuple(f"{stem}-{split}" for split in SPLITS if split != "paper")
    names = (path.name for kind in ("csv", "pdf") for path in file.parent.glob(f"{stem}*.{kind}"))
    return tuple(
        sorted(n for n in names if n.startswith((f"{stem}.", f"{stem}-")) and not n.startswith(others))
    )


# --- commands -----------------------------------------------------------------------------------------------


def format_artefact_command(verb: str, name: str, request: TableRequest) -> str:
    """Format the shell line that makes or checks an artefact with the folds and seeds of the request."""
    words = ["udcd-bench", verb, name, "--profile", request.profile]
    words += [*format_split_options(request.split), *format_settings(request)]
    if verb != "check":  # which takes all in the folder
        words += ["--folds", ",".join(map(str, request.folds))] if request.folds != (0,) else []
        words += ["--seeds", str(max(request.seeds) + 1)] if max(request.seeds) else []
    return shlex.join(words)


def format_number(value: float, digits: int = 2) -> str:
    """Format a number with its digits; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
