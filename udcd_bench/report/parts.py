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
    from udcd_bench.grid.cells import Ask
    from udcd_bench.judging.uncertainty import Evidence, Place
    from udcd_bench.judging.verdicts import Column, Judged, Rules
    from udcd_bench.paper.published import Published
    from udcd_bench.render.sheet import Cell, Sheet
    from udcd_bench.runs.store import Store

SYMBOLS = {
    "reproduced": "=", "higher": "▲", "lower": "▼", "underpowered": "~", "impossible": "!", "failed": "✕",
    "not run": "○", ABSENT: "○",
    "holds": "✓", "fails": "✕", "cannot tell": "?",
    "done": "✓", "running": "…", "interrupted": "‖", "damaged": "✕",
}  # fmt: skip
"""Beside every verdict's word, so that no verdict is told by its colour alone."""


@dataclass(frozen=True)
class Shown:
    """One cell: as laid out, the figure it is sorted by (NaN: none), and its verdict, empty where none is due."""

    cell: Cell
    value: float
    verdict: str


@dataclass(frozen=True)
class Line:
    """A row of a band. ruled: a rule stands above it. below: what stands below its title."""

    title: str
    note: str
    ruled: bool
    below: str
    cells: tuple[Shown, ...]


@dataclass(frozen=True)
class Band:
    """Groups of columns side by side. metrics: (title, whether higher is better), the same in each group."""

    groups: tuple[str, ...]
    metrics: tuple[tuple[str, bool], ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class TablePart:
    """A table of the suite. done: its runs that are finished; with none it has no sheet."""

    name: str
    title: str
    done: int
    planned: int
    commands: tuple[str, ...]
    sheet: Sheet | None = None
    bands: tuple[Band, ...] = ()
    judged: tuple[Judged, ...] = ()
    columns: tuple[Column, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many cells have each verdict."""
        return verdicts.counts(self.judged)


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
    about: str = ""
    files: tuple[str, ...] = ()


# --- tables -------------------------------------------------------------------------------------------------


def tables(ask: Ask, there: Evidence, store: Store, rules: Rules) -> Iterator[TablePart]:
    """Every table of the suite; those of the paper first, with what the leak is worth where both splits were run."""
    for name in sorted(plugins.names("tables"), key=lambda name: published.find(name) is None):
        made: Table = plugins.load_class("tables", name)()
        specs = made.runs(ask)
        done = sum(spec in there.records for spec in specs)
        told = any(spec in there.states for spec in specs)
        command = artefact_command("run", name, ask)
        if not told:
            yield TablePart(name, made.title, done, len(specs), (command,))
            continue
        frame = made.build(ask, there.records, there.states)
        sheet = made.sheet(ask, there.records, there.states)
        judged: list[Judged] = []
        columns: list[Column] = []
        commands = [command]
        if frame["published"].notna().any():
            figures = published.load(name)
            judged, columns = _judge(made, ask, there, store, rules, frame, figures)
            commands.append(artefact_command("check", name, ask))
        bands = tuple(_bands(sheet, frame, {_place(cell): cell.verdict for cell in judged}))
        yield TablePart(
            name, made.title, done, len(specs), tuple(commands), sheet, bands, tuple(judged), tuple(columns)
        )
        if published.find(name):
            yield from _leak(made, ask, there, store)


def _leak(made: Table, ask: Ask, there: Evidence, store: Store) -> Iterator[TablePart]:
    specs = [spec for split in leak.SPLITS for spec in made.runs(replace(ask, split=split))]
    done = [spec for spec in specs if spec in there.records]
    if len({spec.split for spec in done}) < len(leak.SPLITS):
        return
    frame = leak.build(made, ask, there.records, there.states, store)
    sheet = leak.sheet(made, ask, frame, there.records)
    command = artefact_command("run", made.name, replace(ask, split="both"))
    bands = _bands(sheet, frame.assign(ours=frame["leak"], verdict=STAND_IN), {})
    there_are = tuple(band for band in bands if any(map(_has_figure, band.lines)))
    if there_are:
        yield TablePart(sheet.name, sheet.title, len(done), len(specs), (command,), sheet, there_are)


def _has_figure(line: Line) -> bool:
    return any(not math.isnan(shown.value) for shown in line.cells)


def _judge(
    made: Table,
    ask: Ask,
    there: Evidence,
    store: Store,
    rules: Rules,
    frame: pd.DataFrame,
    figures: Sequence[Published],
) -> tuple[list[Judged], list[Column]]:
    """As ``udcd-bench check`` does."""
    found = uncertainty.drawn(made, ask, there, store, rules)
    theirs = {figure.place: figure.percent for figure in figures}
    impossible = verdicts.impossible(made.name, figures)
    judged = verdicts.cells(frame[frame["published"].notna()], theirs, found, rules, impossible)
    return judged, verdicts.columns(judged, figures, found)


def _place(cell: Judged) -> Place:
    return cell.dataset, cell.rho, cell.method, cell.metric


def _bands(sheet: Sheet, frame: pd.DataFrame, judged: Mapping[Place, str]) -> Iterator[Band]:
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
            cells: list[Shown] = []
            for block, here in zip(row.blocks, by_method[start : start + len(band.groups)], strict=True):
                rows = here[method].to_dict("records")
                # what stands once across a group of columns stands in each, where they can be sorted
                wide = block if len(block) == len(rows) else block[:1] * len(rows)
                cells += [
                    Shown(cell, row["ours"], judged.get(verdicts.place_of(row)) or _unjudged(row["verdict"]))
                    for cell, row in zip(wide, rows, strict=True)
                ]
            below = "published" if row.published else "no counterpart" if judged else ""
            lines.append(Line(row.title, row.note, row.ruled, below, tuple(cells)))
        yield Band(band.groups, metrics, tuple(lines))
        start += len(band.groups)


def _unjudged(verdict: str) -> str:
    """What is said of a cell that is not compared: nothing where it has a figure, for that is said above or beside."""
    return "" if verdict in (STAND_IN, "no counterpart", "not judged") else verdict


# --- figures ------------------------------------------------------------------------------------------------


def figures(ask: Ask, store: Store) -> Iterator[FigurePart]:
    """Every figure of the suite, from the files that ``udcd-bench plot`` has left."""
    from PIL import Image

    split = "" if ask.split == "paper" else f"-{ask.split}"
    for name in plugins.names("figures"):
        declared = plugins.declared("figures", name)
        title, command = str(declared.get("title", name)), artefact_command("plot", name, ask)
        stand_ins = map(profiles.profile(ask.profile).dataset, declared.get("datasets", ()))
        synthetic = any(map(sources.is_synthetic, stand_ins))
        file = store.root / ask.profile / f"{name}{split}.png"
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
            name, title, command, synthetic, uri, width, height, about, _beside(file, f"{name}{split}")
        )


def _beside(file: Path, stem: str) -> tuple[str, ...]:
    """The CSVs and the PDF of a figure; those of the same name's other splits are another's."""
    others = tuple(f"{stem}-{split}" for split in ("grouped",))
    names = (path.name for kind in ("csv", "pdf") for path in file.parent.glob(f"{stem}*.{kind}"))
    return tuple(
        sorted(n for n in names if n.startswith((f"{stem}.", f"{stem}-")) and not n.startswith(others))
    )


# --- commands -----------------------------------------------------------------------------------------------


def artefact_command(verb: str, name: str, ask: Ask) -> str:
    """The shell line that makes or checks an artefact with the folds and seeds of the ask."""
    words = ["udcd-bench", verb, name, "--profile", ask.profile]
    words += ["--split", ask.split] if ask.split != "paper" else []
    if verb != "check":  # which takes those there are
        words += ["--folds", ",".join(map(str, ask.folds))] if ask.folds != (0,) else []
        words += ["--seeds", str(max(ask.seeds) + 1)] if max(ask.seeds) else []
    return shlex.join(words)


def number(value: float, digits: int = 2) -> str:
    """A figure with its digits; a dash for none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
