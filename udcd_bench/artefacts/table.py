"""Bases of tables and figures: the runs they need, how they are built from results, and the files they write.

An artefact never trains. It lists the runs it needs (``list_runs``) and is rendered from a ``Results`` (``render``);
a run that is missing or failed stays visible in its cell.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from udcd_bench.artefacts import captions
from udcd_bench.artefacts.commands import format_artefact_command
from udcd_bench.artefacts.file_names import make_stem
from udcd_bench.artefacts.made_from import write_index
from udcd_bench.artefacts.marks import mark_figures
from udcd_bench.grid.cells import TableRequest, format_heading
from udcd_bench.grid.grid import COLUMNS, Grid
from udcd_bench.judging.paper_check import add_verdicts
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.verdicts import get_cell_key
from udcd_bench.render.csv_text import add_command, read_command
from udcd_bench.render.sheet import Sheet, format_table_csv, lay_out, render_console
from udcd_bench.storage.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import pandas as pd

    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import RunSpec

__all__ = ["COLUMNS", "Artefact", "RenderedArtefact", "Table", "TableRequest"]


@dataclass(frozen=True)
class RenderedArtefact:
    """A finished artefact: its long frame, its text for the console, its files."""

    frame: pd.DataFrame
    text: str
    files: tuple[Path, ...]


class Artefact(Grid):
    """Base of tables and figures, both of them grids. ``name`` is that of its file; ``title`` heads what is printed."""

    title: ClassVar[str]

    def render(self, request: TableRequest, results: Results) -> RenderedArtefact:
        """Build it from the results, and write its files, each whole or not at all.

        They go to the folder ``request.profile`` of the results folder.
        """
        raise NotImplementedError

    def write(
        self, request: TableRequest, results: Results, files: Mapping[str, bytes], specs: Iterable[RunSpec]
    ) -> tuple[Path, ...]:
        """Write files by the ending of their name, and beside them the keys of the runs they were made from.

        Before the ending stands what the request has in place of the full artefact, see ``file_names.make_stem``.
        specs: of those runs, finished or not.
        """
        folder, stem = results.store.root / request.profile, make_stem(self, request)
        paths = tuple(folder / f"{stem}{ending}" for ending in files)
        write_index(paths[0], {str(record["key"]) for record in results.select_records(specs).values()})
        for path, data in zip(paths, files.values()):
            _announce_other_command(path, data)
            write_atomically(path, data)
        return paths


def _announce_other_command(path: Path, data: bytes) -> None:
    """Log a warning when a CSV is about to be replaced that another command had made, as ``--name`` may bring about."""
    if path.suffix != ".csv" or not path.exists():
        return
    with path.open("rb") as file:
        earlier, now = (
            read_command(line.decode(errors="replace"))
            for line in (file.readline(), data[: data.find(b"\n")])
        )
    if earlier and earlier != now:
        logging.getLogger(__name__).warning(
            "%s is replaced; it was made by another command: %s", path, earlier
        )


class Table(Artefact):
    """A table of figures: rows are methods, groups of columns data sets.

    groups_per_band: groups of columns side by side.
    """

    further: ClassVar[bool] = True
    groups_per_band: ClassVar[int] = 2

    def build(self, request: TableRequest, results: Results) -> pd.DataFrame:
        """Build the long frame with intervals from the runs' stored scores, and verdicts on published figures."""
        frame = self.build_frame(request, results)
        return add_verdicts(self, request, results, frame, load_tolerances())

    def build_sheet(self, request: TableRequest, results: Results, frame: pd.DataFrame) -> Sheet:
        """Lay out a frame of ``build`` or ``build_frame``, with its caption."""
        groups = self.list_column_groups(request)
        marks = mark_figures(self, request, results, frame)
        frame = frame.assign(mark=[marks.by_cell.get(get_cell_key(r), "") for r in frame.to_dict("records")])
        if request.plain:
            frame = frame.assign(spread_folds=math.nan, spread_seeds=math.nan)
        bands, notes = lay_out(
            frame,
            [format_heading(group) for group in groups],
            self.groups_per_band,
            {row.name for row in self.list_rows(request) if not row.listed},
        )
        return Sheet(
            name=f"{self.name}{request.suffix}",
            stem=make_stem(self, request),
            command=format_artefact_command("run", self.name, request),
            title=captions.format_title(self.title, self, request),
            warning=captions.format_warning([group.source for group in groups if group.synthetic]),
            caption=(
                *self.describe(frame),
                *captions.build_table_caption(self, request, results, frame),
            ),
            notes=notes,
            bands=bands,
            marks=marks.legend,
        )

    def describe(self, frame: pd.DataFrame) -> tuple[str, ...]:
        """Return sentences on what this table's figures show, for the caption; a table may have its own."""
        return ()

    def render(self, request: TableRequest, results: Results) -> RenderedArtefact:
        """Write CSV, LaTeX, PNG and Markdown."""
        from udcd_bench.render.latex import render_latex
        from udcd_bench.render.markdown import render_markdown
        from udcd_bench.render.picture import render_png

        frame = self.build(request, results)
        sheet = self.build_sheet(request, results, frame)
        files = {
            ".csv": add_command(format_table_csv(frame), sheet.command),
            ".tex": render_latex(sheet).encode(),
            ".png": render_png(sheet),
            ".md": render_markdown(sheet).encode(),
        }
        paths = self.write(request, results, files, self.list_runs(request))
        return RenderedArtefact(frame, render_console(sheet), paths)
