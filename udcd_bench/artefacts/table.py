"""What tables and figures are made of: the runs they need, their long frame, and files beside the store.

An artefact never trains. It says which runs it needs (``runs``), and is built from the records of those that
are done (``build``); what is missing or failed stays visible in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from udcd_bench.artefacts import captions
from udcd_bench.grid.cells import Ask, heading
from udcd_bench.grid.grid import COLUMNS, Grid
from udcd_bench.judging import uncertainty, verdicts
from udcd_bench.paper import published
from udcd_bench.render.sheet import Sheet, console, csv, lay_out
from udcd_bench.runs import store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from udcd_bench.grid.cells import Records, States
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

__all__ = ["COLUMNS", "Artefact", "Ask", "Rendered", "Table"]


@dataclass(frozen=True)
class Rendered:
    """A finished artefact: its long frame, its text for the console, its files."""

    frame: pd.DataFrame
    text: str
    files: tuple[Path, ...]


class Artefact:
    """Base of tables and figures. ``name`` is the file's; ``title`` heads what is printed."""

    name: ClassVar[str]
    title: ClassVar[str]

    def runs(self, ask: Ask) -> list[RunSpec]:
        """Every run this needs. Raises UserError when the ask names what does not exist."""
        raise NotImplementedError

    def render(self, ask: Ask, found: Records, states: States, there: Store) -> Rendered:
        """Build it from the records of finished runs and the states of the others, and write its files.

        They go to the folder of ``ask.profile`` in the store's, each whole or not at all.
        """
        raise NotImplementedError

    def write(self, ask: Ask, there: Store, files: Mapping[str, bytes]) -> tuple[Path, ...]:
        """Write what is called ``name`` + key, where the split's name follows ``name`` unless it is the paper's."""
        split = "" if ask.split == "paper" else f"-{ask.split}"
        paths = tuple(there.root / ask.profile / f"{self.name}{split}{ending}" for ending in files)
        for path, data in zip(paths, files.values()):
            store.write_atomically(path, data)
        return paths


class Table(Grid, Artefact):
    """A table of figures: a row a method, a group of columns a data set. groups_per_band: how many side by side."""

    further: ClassVar[bool] = True
    groups_per_band: ClassVar[int] = 2

    def judged(self, ask: Ask, found: Records, states: States, there: Store) -> pd.DataFrame:
        """``build`` with intervals from the runs' stored scores, and verdicts on the published figures."""
        frame, rules = self.build(ask, found, states), verdicts.rules()
        drawn = uncertainty.drawn(self, ask, uncertainty.Evidence(found, states), there, rules)
        printed = frame["published"].notna().any()
        contradicted = verdicts.impossible(self.name, published.load(self.name)) if printed else {}
        return verdicts.into(frame, drawn, rules, contradicted)

    def sheet(self, ask: Ask, found: Records, states: States) -> Sheet:
        """The table laid out, with its caption."""
        return self._set(ask, found, self.build(ask, found, states))

    def _set(self, ask: Ask, found: Records, frame: pd.DataFrame) -> Sheet:
        lines, groups = self.lines(ask), self.groups(ask)
        needed = self.runs(ask)
        records = {spec: found[spec] for spec in needed if spec in found}
        drawn = [group.source for group in groups if group.synthetic]
        return lay_out(
            frame,
            name=self.name,
            title=self.title,
            headings=[heading(group) for group in groups],
            warning=captions.warning(drawn),
            caption=(
                *self.remarks(frame),
                *captions.sentences(ask, self.metrics, records, len(needed), frame, verdicts.rules()),
            ),
            further=frozenset(line.row for line in lines if not line.listed),
            groups_per_band=self.groups_per_band,
        )

    def remarks(self, frame: pd.DataFrame) -> tuple[str, ...]:
        """Sentences on what this table's figures say, for the caption; a table may have its own."""
        return ()

    def render(self, ask: Ask, found: Records, states: States, there: Store) -> Rendered:
        """CSV, LaTeX, PNG and Markdown."""
        from udcd_bench.render.latex import latex
        from udcd_bench.render.markdown import markdown
        from udcd_bench.render.picture import png

        frame = self.judged(ask, found, states, there)
        sheet = self._set(ask, found, frame)
        files = {".csv": csv(frame).encode(), ".tex": latex(sheet).encode(), ".png": png(sheet)}
        files[".md"] = markdown(sheet).encode()
        return Rendered(frame, console(sheet), self.write(ask, there, files))
