"""What tables and figures are made of: the runs they need, their long frame, and files beside the store.

An artefact never trains. It says which runs it needs (``runs``), and is built from the records of those that
are done (``build``); what is missing or failed stays visible in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from udcd_bench.artefacts import captions
from udcd_bench.grid.cells import TableRequest, format_heading
from udcd_bench.grid.grid import COLUMNS, Grid
from udcd_bench.judging import uncertainty, verdicts
from udcd_bench.paper import published
from udcd_bench.render.sheet import Sheet, format_table_csv, lay_out, render_console
from udcd_bench.storage.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from udcd_bench.grid.cells import Records, States
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

__all__ = ["COLUMNS", "Artefact", "RenderedArtefact", "Table", "TableRequest"]


@dataclass(frozen=True)
class RenderedArtefact:
    """A finished artefact: its long frame, its text for the console, its files."""

    frame: pd.DataFrame
    text: str
    files: tuple[Path, ...]


class Artefact:
    """Base of tables and figures. ``name`` is the file's; ``title`` heads what is printed."""

    name: ClassVar[str]
    title: ClassVar[str]

    def list_runs(self, request: TableRequest) -> list[RunSpec]:
        """Every run this needs. Raises UserError when the ask names what does not exist."""
        raise NotImplementedError

    def render(
        self, request: TableRequest, records: Records, states: States, run_store: Store
    ) -> RenderedArtefact:
        """Build it from the records of finished runs and the states of the others, and write its files.

        They go to the folder of ``ask.profile`` in the store's, each whole or not at all.
        """
        raise NotImplementedError

    def write(self, request: TableRequest, run_store: Store, files: Mapping[str, bytes]) -> tuple[Path, ...]:
        """Write what is called ``name`` + key, where the split's name follows ``name`` unless it is the paper's."""
        split = "" if request.split == "paper" else f"-{request.split}"
        paths = tuple(run_store.root / request.profile / f"{self.name}{split}{ending}" for ending in files)
        for path, data in zip(paths, files.values()):
            write_atomically(path, data)
        return paths


class Table(Grid, Artefact):
    """A table of figures: a row a method, a group of columns a data set. groups_per_band: how many side by side."""

    further: ClassVar[bool] = True
    groups_per_band: ClassVar[int] = 2

    def build_judged_frame(
        self, request: TableRequest, records: Records, states: States, run_store: Store
    ) -> pd.DataFrame:
        """``build`` with intervals from the runs' stored scores, and verdicts on the published figures."""
        frame, rules = self.build_frame(request, records, states), verdicts.load_tolerances()
        drawn = uncertainty.bootstrap_table(
            self, request, uncertainty.Results(records, states), run_store, rules
        )
        printed = frame["published"].notna().any()
        contradicted = (
            verdicts.find_contradicted_cells(self.name, published.load_table(self.name)) if printed else {}
        )
        return verdicts.add_verdicts(frame, drawn, rules, contradicted)

    def build_sheet(self, request: TableRequest, records: Records, states: States) -> Sheet:
        """The table laid out, with its caption."""
        return self._lay_out(request, records, self.build_frame(request, records, states))

    def _lay_out(self, request: TableRequest, all_records: Records, frame: pd.DataFrame) -> Sheet:
        lines, groups = self.list_rows(request), self.list_column_groups(request)
        needed = self.list_runs(request)
        records = {spec: all_records[spec] for spec in needed if spec in all_records}
        drawn = [group.source for group in groups if group.synthetic]
        return lay_out(
            frame,
            name=self.name,
            title=self.title,
            headings=[format_heading(group) for group in groups],
            warning=captions.format_warning(drawn),
            caption=(
                *self.describe(frame),
                *captions.build_table_caption(
                    request, self.metrics, records, len(needed), frame, verdicts.load_tolerances()
                ),
            ),
            further=frozenset(line.name for line in lines if not line.listed),
            groups_per_band=self.groups_per_band,
        )

    def describe(self, frame: pd.DataFrame) -> tuple[str, ...]:
        """Sentences on what this table's figures say, for the caption; a table may have its own."""
        return ()

    def render(
        self, request: TableRequest, records: Records, states: States, run_store: Store
    ) -> RenderedArtefact:
        """CSV, LaTeX, PNG and Markdown."""
        from udcd_bench.render.latex import render_latex
        from udcd_bench.render.markdown import render_markdown
        from udcd_bench.render.picture import render_png

        frame = self.build_judged_frame(request, records, states, run_store)
        sheet = self._lay_out(request, records, frame)
        files = {
            ".csv": format_table_csv(frame).encode(),
            ".tex": render_latex(sheet).encode(),
            ".png": render_png(sheet),
        }
        files[".md"] = render_markdown(sheet).encode()
        return RenderedArtefact(frame, render_console(sheet), self.write(request, run_store, files))
