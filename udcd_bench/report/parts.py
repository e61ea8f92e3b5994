"""What the report shows of tables and figures: the sheet, with a verdict and the published figure in each cell."""

from __future__ import annotations

import base64
import io
import math
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from udcd_bench import plugins
from udcd_bench.artefacts import leak
from udcd_bench.data import sources
from udcd_bench.grid.cells import ABSENT, STAND_IN
from udcd_bench.judging import uncertainty, verdicts
from udcd_bench.paper import published
from udcd_bench.runs import profiles
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.judging.uncertainty import CellKey, Results
    from udcd_bench.judging.verdicts import JudgedCell, RankedColumn, Tolerances
    from udcd_bench.paper.published import PublishedValue
    from udcd_bench.render.sheet import Sheet, SheetCell
    from udcd_bench.runs.store import Store

SYMBOLS = {
    "reproduced": "=", "higher": "▲", "lower": "▼", "underpowered": "~", "impossible": "!", "failed": "✕",
    "not run": "○", ABSENT: "○",
    "holds": "✓", "fails": "✕", "cannot tell": "?",
    "done": "✓", "running": "…", "interrupted": "‖", "damaged": "✕",
}  # fmt: skip
"""Beside every verdict's word, so that no verdict is told by its colour alone."""


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
    """A table of the suite. done: its runs that are finished; with none it has no sheet."""

    name: str
    title: str
    done: int
    planned: int
    commands: tuple[str, ...]
    sheet: Sheet | None = None
    bands: tuple[ReportBand, ...] = ()
    judged: tuple[JudgedCell, ...] = ()
    columns: tuple[RankedColumn, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many cells have each verdict."""
        return verdicts.count_verdicts(self.judged)


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


def build_tables(
    request: TableRequest, results: Results, store: Store, tolerances: Tolerances
) -> Iterator[TablePart]:
    """Every table of the suite; those of the paper first, with what the leak is worth where both splits were run."""
    for name in sorted(plugins.list_names("tables"), key=lambda name: published.find_csv(name) is None):
        made: Table = plugins.load_class("tables", name)()
        specs = made.list_runs(request)
        done = sum(spec in results.records for spec in specs)
        told = any(spec in results.states for spec in specs)
        command = format_artefact_command("run", name, request)
        if not told:
            yield TablePart(name, made.title, done, len(specs), (command,))
            continue
        frame = made.build_frame(request, results.records, results.states)
        sheet = made.build_sheet(request, results.records, results.states)
        judged: list[JudgedCell] = []
        columns: list[RankedColumn] = []
        commands = [command]
        if frame["published"].notna().any():
            figures = published.load_table(name)
            judged, columns = _judge_table(made, request, results, store, tolerances, frame, figures)
            commands.append(format_artefact_command("check", name, request))
        bands = tuple(_build_bands(sheet, frame, {_get_cell_key(cell): cell.verdict for cell in judged}))
        yield TablePart(
            name, made.title, done, len(specs), tuple(commands), sheet, bands, tuple(judged), tuple(columns)
        )
        if published.find_csv(name):
            yield from _build_leak(made, request, results, store)


def _build_leak(table: Table, request: TableRequest, results: Results, store: Store) -> Iterator[TablePart]:
    specs = [spec for split in leak.SPLITS for spec in table.list_runs(replace(request, split=split))]
    done = [spec for spec in specs if spec in results.records]
    if len({spec.split for spec in done}) < len(leak.SPLITS):
        return
    frame = leak.build_frame(table, request, results.records, results.states, store)
    sheet = leak.build_sheet(table, request, frame, results.records)
    command = format_artefact_command("run", table.name, replace(request, split="both"))
    bands = _build_bands(sheet, frame.assign(ours=frame["leak"], verdict=STAND_IN), {})
    there_are = tuple(band for band in bands if any(map(_has_value, band.rows)))
    if there_are:
        yield TablePart(sheet.name, sheet.title, len(done), len(specs), (command,), sheet, there_are)


def _has_value(row: ReportRow) -> bool:
    return any(not math.isnan(shown.value) for shown in row.cells)


def _judge_table(
    table: Table,
    request: TableRequest,
    results: Results,
    store: Store,
    tolerances: Tolerances,
    frame: pd.DataFrame,
    published_values: Sequence[PublishedValue],
) -> tuple[list[JudgedCell], list[RankedColumn]]:
    """As ``udcd-bench check`` does."""
    found = uncertainty.bootstrap_table(table, request, results, store, tolerances)
    theirs = {figure.key: figure.percent for figure in published_values}
    impossible = verdicts.find_contradicted_cells(table.name, published_values)
    judged = verdicts.judge_cells(frame[frame["published"].notna()], theirs, found, tolerances, impossible)
    return judged, verdicts.rank_columns(judged, published_values, found)


def _get_cell_key(cell: JudgedCell) -> CellKey:
    return cell.dataset, cell.rho, cell.method, cell.metric


def _build_bands(sheet: Sheet, frame: pd.DataFrame, judged: Mapping[CellKey, str]) -> Iterator[ReportBand]:
    """The sheet's bands, each cell with its line of the long frame: groups, methods and metrics are in its order."""
    groups = [group for _, group in frame.groupby(["dataset", "rho"], sort=False, dropna=False)]
    by_method = [{str(name): rows for name, rows in group.groupby("method", sort=False)} for group in groups]
    metrics = tuple(
        (METRICS[name].title, METRICS[name].better == "higher") for name in frame["metric"].unique()
    )
    start = 0
    for band in sheet.bands:
        lines = []
        for row, method in zip(band.rows, frame["method"].unique(), strict=True):
            cells: list[ReportCell] = []
            for block, here in zip(row.blocks, by_method[start : start + len(band.groups)], strict=True):
                rows = here[method].to_dict("records")
                # what stands once across a group of columns stands in each, where they can be sorted
                wide = block if len(block) == len(rows) else block[:1] * len(rows)
                cells += [
                    ReportCell(
                        cell,
                        row["ours"],
                        judged.get(verdicts.get_cell_key(row)) or _describe_unjudged(row["verdict"]),
                    )
                    for cell, row in zip(wide, rows, strict=True)
                ]
            below = "published" if row.published else "no counterpart" if judged else ""
            lines.append(ReportRow(row.title, row.note, row.ruled, below, tuple(cells)))
        yield ReportBand(band.groups, metrics, tuple(lines))
        start += len(band.groups)


def _describe_unjudged(verdict: str) -> str:
    """What is said of a cell that is not compared: nothing where it has a figure, for that is said above or beside."""
    return "" if verdict in (STAND_IN, "no counterpart", "not judged") else verdict


# --- figures ------------------------------------------------------------------------------------------------


def build_figures(request: TableRequest, store: Store) -> Iterator[FigurePart]:
    """Every figure of the suite, from the files that ``udcd-bench plot`` has left."""
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
            about = str(picture.info.get("Description", ""))
        uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        synthetic = synthetic or STAND_IN in about.lower()
        yield FigurePart(
            name,
            title,
            command,
            synthetic,
            uri,
            width,
            height,
            about,
            _find_companion_files(file, f"{name}{split}"),
        )


def _find_companion_files(file: Path, stem: str) -> tuple[str, ...]:
    """The CSVs and the PDF of a figure; those of the same name's other splits are another's."""
    others = tuple(f"{stem}-{split}" for split in ("grouped",))
    names = (path.name for kind in ("csv", "pdf") for path in file.parent.glob(f"{stem}*.{kind}"))
    return tuple(
        sorted(n for n in names if n.startswith((f"{stem}.", f"{stem}-")) and not n.startswith(others))
    )


# --- commands -----------------------------------------------------------------------------------------------


def format_artefact_command(verb: str, name: str, request: TableRequest) -> str:
    """The shell line that makes or checks an artefact with the folds and seeds of the ask."""
    words = ["udcd-bench", verb, name, "--profile", request.profile]
    words += ["--split", request.split] if request.split != "paper" else []
    if verb != "check":  # which takes those there are
        words += ["--folds", ",".join(map(str, request.folds))] if request.folds != (0,) else []
        words += ["--seeds", str(max(request.seeds) + 1)] if max(request.seeds) else []
    return shlex.join(words)


def format_number(value: float, digits: int = 2) -> str:
    """A figure with its digits; a dash for none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
