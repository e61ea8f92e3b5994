"""``Grid``: rows of methods by groups of columns, the runs they need, and the long frame of their figures.

Tables lay the frame out, figures plot it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from udcd_bench import plugins
from udcd_bench.data import official, sources
from udcd_bench.errors import UserError
from udcd_bench.grid import cells, mistakes, notes, row_settings
from udcd_bench.grid.cells import ColumnGroup, TableRequest, TableRow, format_heading, parse_row_method
from udcd_bench.paper import published
from udcd_bench.runs import planner, profiles
from udcd_bench.runs.spec import RunSpec
from udcd_bench.stats.rules import BEST_VALIDATION

if TYPE_CHECKING:
    import pandas as pd

    from udcd_bench.grid.cells import CellSummary
    from udcd_bench.runs.profiles import Profile
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.results import Results

COLUMNS = ("dataset", "rho", "method", "metric", "published", "ours", "spread", "n", "verdict")
"""The first of the long frame. spread: between folds where there are several, else between seeds."""
UNCERTAINTY_COLUMNS = ("low", "high", "spread_folds", "spread_seeds", "n_folds", "n_seeds")
"""Those that follow: ends of the 95 % interval, spreads apart, how many folds and seeds."""

PAPER_ROWS = {
    "scratch": "Scratch",
    "mtg": "MTG",
    "rkd": "RKD",
    "sskd": "SSKD",
    "crckd": "CRCKD",
    "crd": "CRD",
    "scl-ikd": "SCL-IKD",
    "ssd-kd": "SSD-KD",
    "udcd": "UDCD",
}
"""Rows of the paper's Table 2, in the printed order."""


class Grid:
    """Rows are methods or variants of one; a group of columns is a data set, imbalance, fraction and backbone.

    Class attributes
    ----------------
    rows: row → title, in order; a row is a method's name, or ``udcd:lambda_cra=0,epochs=3``. Default: ``PAPER_ROWS``.
    further: whether the suite's other methods follow below; where they do not, ``--methods`` may still add them.
    datasets: the paper's, each replaced by what the profile has in its place. metrics: keys of ``METRICS``.
    rhos: imbalances, None for the data's own. own_rho: what the paper prints for the data's own, if it does.
    fractions: of the training fold.
    backbones: the paper's, each replaced by the profile's; empty for the request's alone.
    pairs: (of the teacher, of the student) backbones, in place of ``backbones``.
    references: rows that stand beside the others and take no part in the marks.
    """

    name: ClassVar[str]
    rows: ClassVar[Mapping[str, str]] = PAPER_ROWS
    further: ClassVar[bool] = False
    datasets: ClassVar[tuple[str, ...]]
    metrics: ClassVar[tuple[str, ...]] = ("acc", "ap", "rec", "f1")
    rhos: ClassVar[tuple[float | None, ...]] = (None,)
    own_rho: ClassVar[float | None] = None
    fractions: ClassVar[tuple[float, ...]] = (1.0,)
    backbones: ClassVar[tuple[str, ...]] = ()
    pairs: ClassVar[tuple[tuple[str, str], ...]] = ()
    references: ClassVar[tuple[str, ...]] = ()
    _request: TableRequest | None = None
    _cell_runs: dict[tuple[TableRow, ColumnGroup], list[RunSpec]]

    # --- rows, columns and runs ----------------------------------------------------------------------------

    def list_column_groups(self, request: TableRequest) -> list[ColumnGroup]:
        """List the groups of columns, in order. Raises UserError for a data set that does not exist."""
        profile = profiles.find_profile(request.profile)
        pairs = self._list_backbones(request, profile)
        groups = []
        for source in self._list_sources(request, profile):
            title, synthetic = sources.find_title(source), sources.is_synthetic(source)
            in_paper = source in self.datasets and not synthetic and request.profile != "demo"
            for rho, fraction, (teacher, backbone) in itertools.product(self.rhos, self.fractions, pairs):
                shown = rho if rho is not None else self.own_rho if source in self.datasets else None
                group = ColumnGroup(
                    source=source,
                    title=title,
                    synthetic=synthetic,
                    rho=rho,
                    shown_rho=shown,
                    paper_setting=(source, shown) if in_paper else None,
                    fraction=fraction,
                    backbone=backbone,
                    teacher_backbone=teacher,
                )
                groups.append(group)
        return groups

    def _list_backbones(self, request: TableRequest, profile: Profile) -> list[tuple[str, str]]:
        """List the (teacher's, student's) backbones of the columns; empty for those of the request or the profile."""
        if self.pairs:
            resolve = profile.resolve_backbone
            pairs = [
                (request.teacher_backbone or resolve(teacher), request.backbone or resolve(student))
                for teacher, student in self.pairs
            ]
            return list(dict.fromkeys(pairs))
        if not self.backbones:
            return [("", "")]
        return (
            [("", request.backbone)]
            if request.backbone
            else [("", profile.resolve_backbone(name)) for name in self.backbones]
        )

    def _list_sources(self, request: TableRequest, profile: Profile) -> list[str]:
        """List the data sets that are asked for or, for the official split, those of the table's that have one."""
        resolved = [profile.resolve_dataset(name) for name in request.datasets or self.datasets]
        if request.split == official.SPLIT and request.datasets is None:
            resolved = [name for name in resolved if name in official.TESTS] or resolved
        for name in resolved if request.split == official.SPLIT else ():
            _refuse_stand_in(name, request)
        for name in resolved:
            official.name_images(name, request.split)
        return list(dict.fromkeys(resolved))

    def list_rows(self, request: TableRequest) -> list[TableRow]:
        """List the rows, in order: its own, then further methods, as far as their files can be read.

        Raises UserError for an unknown method, and for a mistake in the file of one that is asked for.
        """
        suite = plugins.list_names("methods")
        others = [name for name in suite if name not in self.rows]
        own_methods = {parse_row_method(row) for row in self.rows}
        for name in request.methods or ():
            if name not in {*self.rows, *own_methods, *suite}:
                hint = plugins.suggest_content("methods", name, {*own_methods, *suite})
                raise UserError(f"There is no method {name!r}{hint}")

        def wanted(row: str) -> bool:
            if request.methods is None:
                return row in self.rows or (self.further and not plugins.find_mistake(row))
            return row in request.methods or (row in self.rows and parse_row_method(row) in request.methods)

        rows = [
            TableRow(
                name=row,
                title=self.rows.get(row) or str(plugins.read_attributes("methods", row).get("title", row)),
                listed=row in self.rows,
                in_suite=parse_row_method(row) in suite,
            )
            for row in [*self.rows, *others]
            if wanted(row)
        ]
        return row_settings.expand_rows(request.hparams, rows)

    def list_runs(self, request: TableRequest) -> list[RunSpec]:
        """List every cell's runs; the planner adds those of teachers."""
        if request.methods is None and self.further:
            mistakes.warn_of_mistakes()
        rows = [row for row in self.list_rows(request) if row.in_suite]
        row_settings.check_settings(request.hparams, rows)
        groups = self.list_column_groups(request)
        specs = [s for group in groups for row in rows for s in self.list_cell_runs(request, row, group)]
        if request.rule == BEST_VALIDATION:
            _check_validation(specs)
        return specs

    def list_cell_runs(self, request: TableRequest, row: TableRow, group: ColumnGroup) -> list[RunSpec]:
        """List the runs behind one row in one group of columns, one for each fold and seed."""
        if not row.in_suite:
            return []
        if self._request is not request:  # a table asks for the same cells many times over
            self._request, self._cell_runs = request, {}
        if (row, group) not in self._cell_runs:
            self._cell_runs[row, group] = self._make_cell_runs(request, row, group)
        return list(self._cell_runs[row, group])

    def _make_cell_runs(self, request: TableRequest, row: TableRow, group: ColumnGroup) -> list[RunSpec]:
        settings = row_settings.select_settings(request.hparams, row)
        spec = RunSpec(
            method=row.method,
            dataset=group.source,
            profile=request.profile,
            backbone=group.backbone or request.backbone or profiles.find_profile(request.profile).backbone,
            teacher_backbone=group.teacher_backbone or request.teacher_backbone,
            teacher=request.teacher,
            split=request.split,
            fraction=group.fraction,
            rho=group.rho,
            # of two settings of one name the last counts, so the row is as its name states
            hparams=tuple(dict([*settings, *row.overrides]).items()),
            protocol=request.protocol,
        )
        spec = planner.normalize_spec(spec)
        return [replace(spec, fold=fold, seed=seed) for fold in request.folds for seed in request.seeds]

    # --- the long frame ------------------------------------------------------------------------------------

    def build_frame(self, request: TableRequest, results: Results) -> pd.DataFrame:
        """Build the long frame: a line for each group of columns, row and metric, in this order; percent.

        Columns: ``COLUMNS`` and ``UNCERTAINTY_COLUMNS``, low and high NaN (``judging.paper_check.add_verdicts``
        fills them); then method_title, dataset_title, profile, backbone, fraction, split, split_hash, rule,
        incomplete, note. A cell with a figure of ours and one of the paper's is ``not judged`` here.
        """
        import pandas as pd

        groups = self.list_column_groups(request)
        printed = {}
        if published.find_csv(self.name) and any(group.paper_setting for group in groups):
            printed = published.index_by_key(published.load_table(self.name))
        lines = []
        for group, row in itertools.product(groups, self.list_rows(request)):
            specs = self.list_cell_runs(request, row, group)
            records = results.select_records(specs)
            synthetic = group.synthetic or any(record["synthetic"] for record in records.values())
            metadata = self._describe_cell(request, row, group, results)
            for metric in self.metrics:
                theirs = None
                if group.paper_setting and not synthetic:
                    theirs = printed.get((*group.paper_setting, row.name, metric))
                ours = _summarize_metric(records, request.rule, metric)
                state = "not judged" if theirs else "no counterpart"
                if not row.in_suite or not ours.n:
                    state = cells.find_cell_state(row, specs, results)
                elif synthetic:
                    state = cells.STAND_IN
                key = (group.name, group.shown_rho, row.name, metric)
                values = (*key, theirs.percent if theirs else math.nan, ours.mean, ours.spread, ours.n, state)
                spreads = (math.nan, math.nan, ours.folds, ours.seeds, ours.n_folds, ours.n_seeds)
                lines.append(dict(zip((*COLUMNS, *UNCERTAINTY_COLUMNS), (*values, *spreads))) | metadata)
        return pd.DataFrame(lines).astype({"rho": float})

    def _describe_cell(
        self, request: TableRequest, row: TableRow, group: ColumnGroup, results: Results
    ) -> dict[str, Any]:
        """Describe a cell's runs: the last columns of the long frame."""
        specs = self.list_cell_runs(request, row, group)
        records = results.select_records(specs).values()
        return {
            "method_title": row.title,
            "dataset_title": format_heading(group),
            "profile": request.profile,
            "backbone": specs[0].backbone if specs else "",
            "fraction": group.fraction,
            "split": request.split,
            "split_hash": _join_unique(record["split_hash"] for record in records),
            "rule": request.rule,
            "incomplete": _join_unique(record["incomplete"] for record in records),
            "note": notes.format_notes(request, row, specs, results),
        }

    def describe_untested(self, request: TableRequest, results: Results) -> list[str]:
        """Return sentences on the classes without a test image, each group's once."""
        sentences = {
            f"{format_heading(group)}: {text}": None
            for group, row in itertools.product(self.list_column_groups(request), self.list_rows(request))
            for text in cells.describe_untested_classes(self.list_cell_runs(request, row, group), results)
        }
        return list(sentences)


def _check_validation(specs: Sequence[RunSpec]) -> None:
    """Raise UserError when a run has no validation images to choose its epoch on."""
    for spec in specs:
        if planner.resolve_protocol(spec).validation == "none":
            raise UserError(
                f"{spec.method} has no validation images to choose an epoch on; add --validation 0.2, or --validation "
                "own where the data bring a val."
            )


def _summarize_metric(records: Mapping[RunSpec, Record], rule: str, metric: str) -> CellSummary:
    """Summarise a metric over a cell's finished runs, percent; a run without it does not count."""
    values = {(spec.fold, spec.seed): r["figures"][rule].get(metric) for spec, r in records.items()}
    return cells.summarize_values({run: 100 * value for run, value in values.items() if value is not None})


def _refuse_stand_in(name: str, request: TableRequest) -> None:
    """Raise UserError when a data set without an official test stands for one that has it, in this profile."""
    for other in official.TESTS:
        if profiles.find_profile(request.profile).resolve_dataset(other) == name != other:
            choices = [p.name for p in profiles.PROFILES.values() if p.resolve_dataset(other) == other]
            raise UserError(
                f"Profile {request.profile} has {name} in place of {other}, whose official test set it is; add "
                f"--profile {' or '.join(choices)}."
            )


def _join_unique(texts: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(text for text in texts if text))
