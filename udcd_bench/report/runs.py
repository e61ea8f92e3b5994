"""Runs of the report: each one, its row's figures by class, and learning curves."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench import plugins
from udcd_bench.errors import format_count
from udcd_bench.grid.cells import ColumnGroup, format_heading
from udcd_bench.report.classes import ClassFigures, build_classes
from udcd_bench.report.views import has_method
from udcd_bench.runs import names, planner, profiles
from udcd_bench.runs.spec import RunSpec, format_overrides, format_teacher

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from udcd_bench.report.views import View
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.store import Store

WIDTH, HEIGHT, EDGE = 220.0, 64.0, 3.0
"""Size of a learning curve and its margin, CSS pixels."""
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class ReportRun:
    """One run that is done or failed.

    setting: what it was trained and tested on. title: of its row. command: the line that makes it again.
    record: None for a failed run. reason: a failed run's message.
    """

    spec: RunSpec
    setting: str
    title: str
    command: str
    record: Record | None = None
    reason: str = ""


@dataclass(frozen=True)
class LearningCurve:
    """Learning curves of one row: of each run a line of the total loss and one of the test accuracy, in SVG's units.

    description: the same in words. stages: x of the borders between the training's stages.
    """

    losses: tuple[str, ...]
    accuracies: tuple[str, ...]
    dots: tuple[tuple[float, float], ...]
    stages: tuple[float, ...]
    description: str


@dataclass(frozen=True)
class RowRuns:
    """The finished runs of one row in one setting."""

    title: str
    n: int
    classes: ClassFigures
    curve: LearningCurve


@dataclass(frozen=True)
class Setting:
    """A data set, imbalance, fraction and backbone."""

    title: str
    synthetic: bool
    rows: tuple[RowRuns, ...]


def list_runs(views: Sequence[View], results: Results) -> list[ReportRun]:
    """List every run of the views, done or failed."""
    runs, places = [], planner.CommandPlaces(Path("data"), Path("results"))
    failed = _read_failed_commands(results)
    data_names: dict[str, str] = {}
    for view, stored_spec in ((each, spec) for each in views for spec in each.specs):
        record = results.records.get(stored_spec)
        # two laboratories may have called the same images differently
        name = data_names.setdefault(stored_spec.data_identity, stored_spec.dataset)
        spec = replace(stored_spec, dataset=name)
        setting = format_setting(spec, record) + (f"; {view.title}" if len(views) > 1 else "")
        runs.append(
            ReportRun(
                spec=spec,
                setting=setting,
                title=_format_title(spec, record, view),
                command=failed.get(stored_spec) or planner.format_command(spec, places),
                record=record,
                reason="" if record else results.find_failure(spec) or "",
            )
        )
    return sorted(runs, key=_make_sort_key)


def _read_failed_commands(results: Results) -> dict[RunSpec, str]:
    """Read the lines that try failed runs again, which name each one's suite also where it is not in use here."""
    reports = filter(None, map(results.store.read_failure, results.store.list_failed()))
    commands = {RunSpec.from_dict(report["spec"]): str(report.get("command", "")) for report in reports}
    return {spec: command for spec, command in commands.items() if spec not in results.records}


def _format_title(spec: RunSpec, record: Record | None, view: View) -> str:
    """Format the method's title in tables, and the overrides that not all runs of the view have."""
    title = spec.method
    if record:
        title = record["method_title"]
    elif has_method(spec):
        title = plugins.read_attributes("methods", spec.method).get("title", spec.method)
    shared = {key for key, _ in view.request.protocol}
    own = tuple(pair for pair in spec.protocol if pair[0] not in shared)
    return ", ".join([title, *format_overrides((*spec.hparams, *own))])


def _make_sort_key(run: ReportRun) -> tuple[object, ...]:
    s = run.spec
    setting = (s.dataset, -(s.rho or math.inf), -s.fraction, s.backbone, s.teacher_backbone, s.teacher)
    return *setting, run.title.casefold(), s.fold, s.seed, run.command


def group_by_setting(report_runs: Iterable[ReportRun], store: Store, rule: str) -> list[Setting]:
    """Group the finished runs by setting and row, and read their scores, of the epochs of a rule, and histories."""
    by_setting: dict[str, dict[RunSpec, list[ReportRun]]] = {}
    for run in report_runs:
        if run.record is not None:
            row = replace(run.spec, fold=0, seed=0)
            by_setting.setdefault(run.setting, {}).setdefault(row, []).append(run)
    settings = []
    for title, rows in by_setting.items():
        records = [run.record for members in rows.values() for run in members]
        settings.append(
            Setting(
                title=title,
                synthetic=any(record and record["synthetic"] for record in records),
                rows=tuple(
                    RowRuns(
                        title=members[0].title,
                        n=len(members),
                        classes=build_classes([run.record for run in members if run.record], store, rule),
                        curve=build_curve(members, store),
                    )
                    for members in rows.values()
                ),
            )
        )
    return settings


def format_setting(spec: RunSpec, record: Record | None) -> str:
    """Format what a run was trained and tested on, for people."""
    title = names.format_data_title(spec.dataset)
    if record and not spec.dataset.startswith(names.FOLDER):
        title = record["dataset_title"]
    synthetic = bool(record and record["synthetic"])
    usual = profiles.find_profile(spec.profile).backbone
    backbones = "" if spec.backbone == usual else spec.backbone
    if spec.teacher or spec.teacher_backbone:
        teacher = format_teacher(spec.teacher, spec.teacher_backbone)[0].partition(" ")[2]
        backbones = f"{spec.backbone} taught by {teacher}"
    return format_heading(
        ColumnGroup(
            source=spec.dataset,
            title=title,
            synthetic=synthetic,
            rho=spec.rho,
            shown_rho=spec.rho,
            fraction=spec.fraction,
            backbone=backbones,
        )
    )


def list_splits(report_runs: Iterable[ReportRun]) -> list[tuple[str, int, int, int, str]]:
    """List (setting, fold, training images, test images, split hash) of the finished runs, once each."""
    records = [(run, run.record) for run in report_runs if run.record]
    return sorted(
        {(run.setting, run.spec.fold, r["n_train"], r["n_test"], r["split_hash"]) for run, r in records}
    )


def count_environments(report_runs: Iterable[ReportRun]) -> list[tuple[str, list[tuple[str, int]]]]:
    """Count what the finished runs ran on: name → each value and the number of runs that have it."""
    counts: dict[str, Counter[str]] = {}
    for run in report_runs:
        for name, value in (run.record["environment"] if run.record else {}).items():
            counts.setdefault(name, Counter())[str(value)] += 1
    return [(name, sorted(values.items())) for name, values in sorted(counts.items())]


# --- learning curves ----------------------------------------------------------------------------------------


def build_curve(members: Sequence[ReportRun], store: Store) -> LearningCurve:
    """Build a row's learning curves over the epochs of all stages.

    The loss is scaled between its least and its greatest value, the accuracy between 0 and 1.
    """
    histories = []
    for run in members:
        assert run.record is not None
        histories.append(store.read_history(run.record["key"]))
    losses = [_select_points(history, "loss") for history in histories]
    accuracies = [_select_points(history, "acc") for history in histories]
    epochs = max(len(history) for history in histories)
    ys = [y for points in losses for _, y in points]
    least, greatest = (min(ys), max(ys)) if ys else (0.0, 1.0)
    span = (greatest - least) or 1.0
    scaled = [[(x, (y - least) / span) for x, y in points] for points in losses]
    changes = [
        _scale_x(epoch - 0.5, epochs)
        for epoch, (before, after) in enumerate(zip(histories[0], histories[0][1:]), 1)
        if before["stage"] != after["stage"]
    ]
    dots = [_scale_point(point, epochs) for points in accuracies for point in points]
    description = [format_count(epochs, "epoch")]
    if all(losses):
        first, last = (np.mean([points[end][1] for points in losses]) for end in (0, -1))
        description.append(f"loss {first:.3g} to {last:.3g}")
    if any(accuracies):
        at_end = np.mean([points[-1][1] for points in accuracies if points])
        description.append(f"test accuracy {100 * at_end:.1f} % at the end")
    return LearningCurve(
        losses=tuple(_format_polyline(points, epochs) for points in scaled if points),
        accuracies=tuple(_format_polyline(points, epochs) for points in accuracies if len(points) > 1),
        dots=tuple(dots),
        stages=tuple(changes),
        description=", ".join(description),
    )


def _select_points(history: Sequence[Mapping[str, Any]], name: str) -> Points:
    """Select (epoch, value) of the epochs with a finite value."""
    return [(float(epoch), row[name]) for epoch, row in enumerate(history) if math.isfinite(row[name])]


def _scale_x(epoch: float, epochs: int) -> float:
    return round(EDGE + (WIDTH - 2 * EDGE) * epoch / max(epochs - 1, 1), 1)


def _scale_point(point: tuple[float, float], epochs: int) -> tuple[float, float]:
    return _scale_x(point[0], epochs), round(EDGE + (HEIGHT - 2 * EDGE) * (1 - point[1]), 1)


def _format_polyline(points: Points, epochs: int) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in (_scale_point(point, epochs) for point in points))
