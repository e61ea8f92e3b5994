"""What a results folder holds for a table: the newest run of each spec, and each cell's figure under chance.

A cell's interval has the test images' share of chance (bootstrap over groups within each fold; seeds of a fold
share their draws, folds are independent) and training's (normal, from the spread between seeds, shrunk towards
the assumption in ``tables/tolerances.toml``). That the folds' training sets overlap is not in it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench.runs.spec import RunSpec, derive_seed
from udcd_bench.stats import metrics as figures_of
from udcd_bench.stats import statistics
from udcd_bench.stats.resampling import Floats

if TYPE_CHECKING:
    from udcd_bench.grid.cells import ColumnGroup, TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.verdicts import Tolerances
    from udcd_bench.runs.store import Store

CellKey = tuple[str, float | None, str, str]
"""Data set, imbalance as shown, method, metric."""
BootstrapDraws = dict[CellKey, Floats]
"""A cell's figure in each draw, percent."""
Record = Mapping[str, Any]

ASSUMED_WEIGHT = 2
"""S: degrees of freedom that the assumed noise of training counts for, beside those of repeated seeds."""


@dataclass(frozen=True)
class Results:
    """Records of finished runs, newest of each spec, and the states of those that failed.

    draws: those made so far, by what they are of; a report asks for most of them again and again.
    """

    records: Mapping[RunSpec, Record]
    states: Mapping[RunSpec, str]
    draws: dict[object, dict[str, Floats]] = field(default_factory=dict)


def load_results(store: Store) -> Results:
    """Everything a results folder holds, whatever it was made of; needs no data and starts nothing."""
    ages = {}
    for key in store.list_keys():
        ages[key] = (store.runs / key / "record.json").stat().st_mtime_ns
    found = [
        fill_missing_metrics(store.read_record(key), store)
        for key in sorted(ages, key=lambda key: (ages[key], key))
    ]
    records = {RunSpec.from_dict(record["spec"]): record for record in found}
    states = dict.fromkeys(records, "done")
    for path in sorted(store.failures.glob("[!.]*.json")):
        if (report := store.read_failure(path.stem)) is not None:
            states.setdefault(RunSpec.from_dict(report["spec"]), f"failed: {report['message']}")
    return Results(records, states)


def fill_missing_metrics(record: Record, store: Store) -> Record:
    """The record with every figure that is defined today, so that a new metric or rule needs no training.

    What is missing is computed from the run's stored scores; what was stored stays. Where the scores are gone too,
    it stays missing.
    """
    there = record["figures"]
    rules = ("mean", "last", "best")
    if all(there.get(rule, {}).keys() >= figures_of.METRICS.keys() for rule in rules):
        return record
    if not has_scores(record, store):
        return record
    stored = store.read_scores(record["key"])
    made = figures_of.summarize_epochs(stored["scores"], stored["labels"], ordered=record["ordered"])
    return {**record, "figures": {rule: made[rule] | there.get(rule, {}) for rule in made}}


def has_scores(record: Record, store: Store) -> bool:
    """Whether the run's per-image scores are in the folder still."""
    return bool((store.runs / record["key"] / "scores.npz").exists())


def select_available_repeats(
    request: TableRequest, results: Results, folds: Sequence[int] | None, seeds: Sequence[int] | None
) -> TableRequest:
    """The ask with all folds and seeds that the profile and split have in the folder, unless they are given."""
    there = [s for s in results.states if (s.profile, s.split) == (request.profile, request.split)]
    return replace(
        request,
        folds=tuple(folds if folds is not None else sorted({s.fold for s in there}) or request.folds),
        seeds=tuple(seeds if seeds is not None else sorted({s.seed for s in there}) or request.seeds),
    )


def bootstrap_table(
    grid: Grid, request: TableRequest, results: Results, store: Store, tolerances: Tolerances
) -> BootstrapDraws:
    """Each cell's figure under chance, of a grid with neither fractions nor backbones, whose cells have a place."""
    return {
        (group.source, group.shown_rho, row, metric): values
        for group in grid.list_column_groups(request)
        for (row, metric), values in bootstrap_group(grid, request, group, results, store, tolerances).items()
    }


def bootstrap_group(
    grid: Grid,
    request: TableRequest,
    group: ColumnGroup,
    results: Results,
    store: Store,
    tolerances: Tolerances,
) -> dict[tuple[str, str], Floats]:
    """(row, metric) → the cell's figure in each draw, percent, of every row in a group of columns with a finished run.

    Methods tested on the same images share their draws, so they compare. A cell of which a run has lost its scores
    has no draws.
    """
    rows = {
        line.name: [spec for spec in grid.list_cell_runs(request, line, group) if spec in results.records]
        for line in grid.list_rows(request)
    }
    where = [group.source, group.shown_rho]
    where += [group.fraction, group.backbone] if (group.fraction, group.backbone) != (1.0, "") else []
    where += [request.split] if request.split != "paper" else []
    return bootstrap_rows(rows, grid.metrics, request.rule, where, results, store, tolerances)


def bootstrap_rows(
    rows: Mapping[str, Sequence[RunSpec]],
    metrics: Sequence[str],
    rule: str,
    rng_key: Sequence[object],
    results: Results,
    store: Store,
    tolerances: Tolerances,
) -> dict[tuple[str, str], Floats]:
    """As ``of_group``, of rows with the finished runs behind them. where: names the column, for its own draws."""
    known = [metric for metric in metrics if metric in statistics.CONFUSION_METRICS]
    of_run = bootstrap_runs(list(itertools.chain(*rows.values())), known, rule, results, store, tolerances)
    made = {}
    for (row, specs), metric in itertools.product(rows.items(), known):
        if not specs or not all(spec in of_run for spec in specs):
            continue
        values = [of_run[spec][metric] for spec in specs]
        figures = {
            (spec.fold, spec.seed): 100 * results.records[spec]["figures"][rule][metric] for spec in specs
        }
        noise = np.random.default_rng(derive_seed("training", *rng_key, row, metric))
        training = noise.normal(
            0, compute_training_error(figures, tolerances.get_noise(metric)), tolerances.draws
        )
        made[row, metric] = 100 * np.mean(values, axis=0) + training
    return made


def compute_training_error(values: Mapping[tuple[int, int], float], assumed: float) -> float:
    """Standard error that training leaves in the mean of figures by (fold, seed)."""
    free = len(values) - len({fold for fold, _ in values})
    seen = statistics.compute_spread(values).seeds if free else 0.0
    variance = (free * seen**2 + ASSUMED_WEIGHT * assumed**2) / (free + ASSUMED_WEIGHT)
    return math.sqrt(variance / len(values))


def bootstrap_runs(
    specs: Sequence[RunSpec],
    metrics: Sequence[str],
    rule: str,
    results: Results,
    store: Store,
    tolerances: Tolerances,
) -> dict[RunSpec, dict[str, Floats]]:
    """Draws of each run that has its scores, as fractions; runs of one fold on the same images are drawn together."""
    tests: dict[tuple[int, str], list[RunSpec]] = {}
    for spec in specs:
        if not has_scores(results.records[spec], store):
            continue
        tests.setdefault((spec.fold, results.records[spec]["split_hash"]), []).append(spec)
    made = {}
    for test, together in tests.items():
        # in one order, so that the same runs get the same draws whoever asks
        members = sorted(together, key=lambda spec: str(results.records[spec]["key"]))
        of = (*test, rule, tolerances.draws, *members)
        if of not in results.draws:
            stored = [store.read_scores(results.records[spec]["key"]) for spec in members]
            labels, groups = stored[0]["labels"], stored[0]["groups"]
            scores = [select_reported_epochs(arrays["scores"], rule, labels) for arrays in stored]
            generator = np.random.default_rng(derive_seed("check", members[0].dataset, *test))
            known = statistics.CONFUSION_METRICS
            results.draws[of] = statistics.bootstrap_jointly(
                scores, labels, groups, known, tolerances.draws, generator
            )
        found = results.draws[of]
        for place, spec in enumerate(members):
            made[spec] = {metric: found[metric][:, place] for metric in metrics}
    return made


def select_reported_epochs(scores: Floats, rule: str, labels: Any) -> Floats:
    """The epochs (E, n, C) that the reporting rule takes its figures from."""
    if rule == "mean":
        return scores
    if rule == "last":
        return scores[-1:]
    best = int(np.argmax([(epoch.argmax(1) == labels).mean() for epoch in scores]))
    return scores[best : best + 1]
