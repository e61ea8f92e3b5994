"""What tables and figures are made of: the runs they need, their long frame, and files beside the store.

An artefact never trains. It says which runs it needs (``runs``), and is built from the records of those that
are done (``build``); what is missing or failed stays visible in its place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from udcd_bench import captions, cells, planner, plugins, profiles, published, store
from udcd_bench.cells import Ask, Group, Line, heading
from udcd_bench.data import sources
from udcd_bench.errors import UserError, nearest
from udcd_bench.render import Sheet, console, csv, lay_out
from udcd_bench.spec import RunSpec

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from udcd_bench.cells import Records, States

__all__ = ["Artefact", "Ask", "Rendered", "Table"]

COLUMNS = ("dataset", "rho", "method", "metric", "published", "ours", "spread", "n", "verdict")
"""The first of a table's long frame."""


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

    def build(self, ask: Ask, found: Records, states: States) -> pd.DataFrame:
        """The long frame, from the records of finished runs and the states of the others."""
        raise NotImplementedError

    def render(self, ask: Ask, found: Records, states: States, out: Path) -> Rendered:
        """Build it and write its files to ``out``/profile, each whole or not at all."""
        raise NotImplementedError


class Table(Artefact):
    """A table of figures: a row a method, a group of columns a data set.

    Class attributes
    ----------------
    rows: method → title, as the paper prints them, in its order. Further methods of the suite follow below.
    datasets: the paper's, each replaced by what the profile has in its place. metrics: keys of ``METRICS``.
    rhos: imbalances, None for the data's own. own_rho: what the paper prints for the data's own, if it does.
    groups_per_band: groups of columns side by side.
    """

    rows: ClassVar[Mapping[str, str]]
    datasets: ClassVar[tuple[str, ...]]
    metrics: ClassVar[tuple[str, ...]] = ("acc", "ap", "rec", "f1")
    rhos: ClassVar[tuple[float | None, ...]] = (None,)
    own_rho: ClassVar[float | None] = None
    groups_per_band: ClassVar[int] = 2

    # --- what is asked for ---------------------------------------------------------------------------------

    def groups(self, ask: Ask) -> list[Group]:
        """The groups of columns, in order. Raises UserError for a data set that does not exist."""
        profile = profiles.profile(ask.profile)
        groups = []
        for source in dict.fromkeys(profile.dataset(name) for name in ask.datasets or self.datasets):
            title, synthetic = sources.title(source), sources.is_synthetic(source)
            for rho in self.rhos:
                has = source in self.datasets and not synthetic and ask.profile != "demo"
                shown = rho if rho is not None else self.own_rho if source in self.datasets else None
                groups.append(Group(source, title, synthetic, rho, shown, (source, shown) if has else None))
        return groups

    def lines(self, ask: Ask) -> list[Line]:
        """The rows, in order: the paper's, then further methods. Raises UserError for an unknown method."""
        suite = plugins.names("methods")
        known = [*self.rows, *(name for name in suite if name not in self.rows)]
        for name in ask.methods or ():
            if name not in known:
                raise UserError(f"There is no method {name!r}{nearest(name, known)}")
        return [
            Line(name, self.rows.get(name) or _method_title(name), name in self.rows, name in suite)
            for name in known
            if ask.methods is None or name in ask.methods
        ]

    def runs(self, ask: Ask) -> list[RunSpec]:
        """Every cell's runs; a teacher's is the planner's to add."""
        lines = [line for line in self.lines(ask) if line.in_suite]
        self._check_hparams(ask, lines)
        cells = [(line, group) for group in self.groups(ask) for line in lines]
        return [spec for line, group in cells for spec in self.cell(ask, line, group)]

    def cell(self, ask: Ask, line: Line, group: Group) -> list[RunSpec]:
        """The runs behind one row in one group of columns, a fold and seed each."""
        if not line.in_suite:
            return []
        declared = plugins.declared("methods", line.method)
        spec = RunSpec(
            line.method,
            group.source,
            ask.profile,
            ask.backbone or profiles.profile(ask.profile).backbone,
            # a running average is its student's likeness
            ask.teacher_backbone if declared.get("teacher") in ("trained", "own") else "",
            split=ask.split,
            rho=group.rho,
            hparams=tuple((key, value) for key, value in ask.hparams if key in declared.get("hparams", {})),
            protocol=ask.protocol,
        )
        spec = planner.check(spec)
        return [replace(spec, fold=fold, seed=seed) for fold in ask.folds for seed in ask.seeds]

    @staticmethod
    def _check_hparams(ask: Ask, lines: Sequence[Line]) -> None:
        known = {key for line in lines for key in plugins.declared("methods", line.method).get("hparams", {})}
        for key, _ in ask.hparams:
            if key not in known:
                rows = ", ".join(line.method for line in lines)
                raise UserError(f"No row ({rows}) has a hyper-parameter {key!r}{nearest(key, known)}")

    # --- what is found -------------------------------------------------------------------------------------

    def build(self, ask: Ask, found: Records, states: States) -> pd.DataFrame:
        """One row a group of columns, method and metric, in this order; percent.

        Columns: ``COLUMNS``, where ours, spread and n are ``cells.summarise``'s; then method_title,
        dataset_title, profile, backbone, split, split_hash, rule, incomplete, note.
        """
        import pandas as pd

        groups = self.groups(ask)
        printed = {}
        if any(group.printed for group in groups):
            printed = published.lookup(published.load(self.name))
        rows = []
        for group, line in itertools.product(groups, self.lines(ask)):
            specs = self.cell(ask, line, group)
            records = {spec: found[spec] for spec in specs if spec in found}
            synthetic = group.synthetic or any(record["synthetic"] for record in records.values())
            about = {
                "method_title": line.title,
                "dataset_title": heading(group),
                "profile": ask.profile,
                "backbone": specs[0].backbone if specs else "",
                "split": ask.split,
                "split_hash": _joined(record["split_hash"] for record in records.values()),
                "rule": ask.rule,
                "incomplete": _joined(record["incomplete"] for record in records.values()),
                "note": cells.note(line, specs, records, states),
            }
            for metric in self.metrics:
                there = None
                if group.printed and not synthetic:
                    there = printed.get((*group.printed, line.method, metric))
                figure = there.percent if there else math.nan
                mean, spread, n = cells.summarise(
                    {(s.fold, s.seed): 100 * r["figures"][ask.rule][metric] for s, r in records.items()}
                )
                verdict = cells.verdict(line, specs, n, states, synthetic=synthetic, figure=figure)
                place = (group.source, group.shown_rho, line.method, metric)
                rows.append({**dict(zip(COLUMNS, (*place, figure, mean, spread, n, verdict))), **about})
        return pd.DataFrame(rows).astype({"rho": float})

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
            caption=captions.sentences(ask, self.metrics, records, len(self.runs(ask)), frame),
            further=frozenset(line.method for line in lines if not line.in_paper),
            groups_per_band=self.groups_per_band,
        )

    def render(self, ask: Ask, found: Records, states: States, out: Path) -> Rendered:
        """CSV, LaTeX and PNG."""
        from udcd_bench.latex import latex
        from udcd_bench.picture import png

        frame, sheet = self.build(ask, found, states), self.sheet(ask, found, states)
        files = {"csv": csv(frame).encode(), "tex": latex(sheet).encode(), "png": png(sheet)}
        paths = tuple(out / ask.profile / f"{self.name}.{ending}" for ending in files)
        for path, data in zip(paths, files.values()):
            store.write_atomically(path, data)
        return Rendered(frame, console(sheet), paths)


def _method_title(name: str) -> str:
    return str(plugins.declared("methods", name).get("title", name))


def _joined(texts: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(text for text in texts if text))
