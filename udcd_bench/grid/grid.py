"""Rows of methods by groups of columns: the runs they need, and the long frame of their figures.

Tables lay it out, figures plot it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from udcd_bench import plugins
from udcd_bench.data import sources
from udcd_bench.errors import UserError, nearest
from udcd_bench.grid import cells
from udcd_bench.grid.cells import Ask, Group, Line, heading, method_of
from udcd_bench.paper import published
from udcd_bench.runs import planner, profiles
from udcd_bench.runs.spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from udcd_bench.grid.cells import Records, States
    from udcd_bench.runs.spec import Overrides

COLUMNS = ("dataset", "rho", "method", "metric", "published", "ours", "spread", "n", "verdict")
"""The first of the long frame. spread: between folds where there are several, else between seeds."""
CHANCE = ("low", "high", "spread_folds", "spread_seeds", "n_folds", "n_seeds")
"""Those that follow: ends of the 95 % interval, spreads apart, how many folds and seeds."""


class Grid:
    """A row a method or a variant of one, a group of columns a data set, imbalance, fraction and backbone.

    Class attributes
    ----------------
    rows: row → title, in order; a row is a method's name, or ``udcd:lambda_cra=0,epochs=3``.
    further: whether the suite's other methods follow below; where they do not, ``--methods`` may still add them.
    datasets: the paper's, each replaced by what the profile has in its place. metrics: keys of ``METRICS``.
    rhos: imbalances, None for the data's own. own_rho: what the paper prints for the data's own, if it does.
    fractions: of the training fold. backbones: the paper's, each replaced by the profile's; none: the ask's alone.
    """

    name: ClassVar[str]
    rows: ClassVar[Mapping[str, str]]
    further: ClassVar[bool] = False
    datasets: ClassVar[tuple[str, ...]]
    metrics: ClassVar[tuple[str, ...]] = ("acc", "ap", "rec", "f1")
    rhos: ClassVar[tuple[float | None, ...]] = (None,)
    own_rho: ClassVar[float | None] = None
    fractions: ClassVar[tuple[float, ...]] = (1.0,)
    backbones: ClassVar[tuple[str, ...]] = ()

    # --- what is asked for ---------------------------------------------------------------------------------

    def groups(self, ask: Ask) -> list[Group]:
        """The groups of columns, in order. Raises UserError for a data set that does not exist."""
        profile = profiles.profile(ask.profile)
        backbones = (ask.backbone,) if ask.backbone else tuple(map(profile.backbone_for, self.backbones))
        groups = []
        for source in dict.fromkeys(profile.dataset(name) for name in ask.datasets or self.datasets):
            title, synthetic = sources.title(source), sources.is_synthetic(source)
            has = source in self.datasets and not synthetic and ask.profile != "demo"
            for rho, fraction, backbone in itertools.product(self.rhos, self.fractions, backbones or ("",)):
                shown = rho if rho is not None else self.own_rho if source in self.datasets else None
                printed = (source, shown) if has else None
                told = backbone if self.backbones else ""
                groups.append(Group(source, title, synthetic, rho, shown, printed, fraction, told))
        return groups

    def lines(self, ask: Ask) -> list[Line]:
        """The rows, in order: its own, then further methods. Raises UserError for an unknown method."""
        suite = plugins.names("methods")
        others = [name for name in suite if name not in self.rows]
        own_methods = {method_of(row) for row in self.rows}
        for name in ask.methods or ():
            if name not in {*self.rows, *own_methods, *suite}:
                raise UserError(f"There is no method {name!r}{nearest(name, {*own_methods, *suite})}")

        def wanted(row: str) -> bool:
            if ask.methods is None:
                return row in self.rows or self.further
            return row in ask.methods or (row in self.rows and method_of(row) in ask.methods)

        return [
            Line(row, self.rows.get(row) or _method_title(row), row in self.rows, method_of(row) in suite)
            for row in [*self.rows, *others]
            if wanted(row)
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
        protocol, hparams = profiles.divide(line.settings)
        spec = RunSpec(
            line.method,
            group.source,
            ask.profile,
            group.backbone or ask.backbone or profiles.profile(ask.profile).backbone,
            # a running average is its student's likeness
            ask.teacher_backbone if declared.get("teacher") in ("trained", "own") else "",
            split=ask.split,
            fraction=group.fraction,
            rho=group.rho,
            # of two settings of one name the last counts: the row is what it says
            hparams=tuple(dict([*_known(ask.hparams, declared), *hparams]).items()),
            protocol=tuple(dict([*ask.protocol, *protocol]).items()),
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
        """A line for each group of columns, row and metric, in this order; percent.

        Columns: ``COLUMNS`` and ``CHANCE``, from ``cells.summarise``, low and high NaN (``verdicts.into`` has
        them); then method_title, dataset_title, profile, backbone, fraction, split, split_hash, rule, incomplete,
        note.
        """
        import pandas as pd

        groups = self.groups(ask)
        printed = {}
        if published.find(self.name) and any(group.printed for group in groups):
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
                "fraction": group.fraction,
                "split": ask.split,
                "split_hash": _joined(record["split_hash"] for record in records.values()),
                "rule": ask.rule,
                "incomplete": _joined(record["incomplete"] for record in records.values()),
                "note": cells.note(line, specs, records, states),
            }
            for metric in self.metrics:
                there = None
                if group.printed and not synthetic:
                    there = printed.get((*group.printed, line.row, metric))
                figure = there.percent if there else math.nan
                kept = {(s.fold, s.seed): r["figures"][ask.rule].get(metric) for s, r in records.items()}
                ours = cells.summarise({run: 100 * v for run, v in kept.items() if v is not None})
                verdict = cells.verdict(line, specs, ours.n, states, synthetic=synthetic, figure=figure)
                place = (group.source, group.shown_rho, line.row, metric)
                values = (*place, figure, ours.mean, ours.spread, ours.n, verdict)
                chance = (math.nan, math.nan, ours.folds, ours.seeds, ours.n_folds, ours.n_seeds)
                rows.append({**dict(zip((*COLUMNS, *CHANCE), (*values, *chance))), **about})
        return pd.DataFrame(rows).astype({"rho": float})


def _method_title(name: str) -> str:
    return str(plugins.declared("methods", name).get("title", name))


def _known(hparams: Overrides, declared: Mapping[str, Any]) -> Overrides:
    """Those of the overrides asked for that are the method's."""
    return tuple((key, value) for key, value in hparams if key in declared.get("hparams", {}))


def _joined(texts: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(text for text in texts if text))
