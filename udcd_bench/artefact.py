"""What tables and figures are made of: the runs they need, their long frame, and files beside the store.

An artefact never trains. It says which runs it needs (``runs``), and is built from the records of those that
are done (``build``); what is missing or failed stays visible in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from udcd_bench import captions, store
from udcd_bench.cells import Ask, heading
from udcd_bench.grid import COLUMNS, Grid
from udcd_bench.render import Sheet, console, csv, lay_out

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from udcd_bench.cells import Records, States
    from udcd_bench.spec import RunSpec
    from udcd_bench.store import Store

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

    def sheet(self, ask: Ask, found: Records, states: States) -> Sheet:
        """The table laid out, with its caption."""
        lines, groups = self.lines(ask), self.groups(ask)
        frame = self.build(ask, found, states)
        records = {spec: found[spec] for spec in self.runs(ask) if spec in found}
        drawn = [group.source for group in groups if group.synthetic]
        return lay_out(
            frame,
            name=self.name,
            title=self.title,
            headings=[heading(group) for group in groups],
            warning=captions.warning(drawn),
            caption=(
                *self.remarks(frame),
                *captions.sentences(ask, self.metrics, records, len(self.runs(ask)), frame),
            ),
            further=frozenset(line.row for line in lines if not line.listed),
            groups_per_band=self.groups_per_band,
        )

    def remarks(self, frame: pd.DataFrame) -> tuple[str, ...]:
        """Sentences on what this table's figures say, for the caption; a table may have its own."""
        return ()

    def render(self, ask: Ask, found: Records, states: States, there: Store) -> Rendered:
        """CSV, LaTeX and PNG."""
        from udcd_bench.latex import latex
        from udcd_bench.picture import png

        frame, sheet = self.build(ask, found, states), self.sheet(ask, found, states)
        files = {".csv": csv(frame).encode(), ".tex": latex(sheet).encode(), ".png": png(sheet)}
        return Rendered(frame, console(sheet), self.write(ask, there, files))
