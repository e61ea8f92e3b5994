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
    from udcd_bench.grid.cells import Ask, Group
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.verdicts import Rules
    from udcd_bench.runs.store import Store

Place = tuple[str, float | None, str, str]
"""Data set, imbalance as shown, method, metric."""
Drawn = dict[Place, Floats]
"""A cell's figure in each draw, percent."""
Record = Mapping[str, Any]

ASSUMED_WEIGHT = 2
"""S: degrees of freedom that the assumed noise of training counts for, beside those of repeated seeds."""


@dataclass(frozen=True)
class Evidence:
    """Records of finished runs, newest of each spec, and the states of those that failed.

    draws: those made so far, by what they are of; a report asks for most of them again and again.
    """

    records: Mapping[RunSpec, Record]
    states: Mapping[RunSpec, str]
    draws: dict[object, dict[str, Floats]] = field(default_factory=dict)


def gather(store: Store) -> Evidence:
    """Everything a results folder holds, whatever it was made of; needs no data and starts nothing."""
    ages = {}
    for key in store.keys():  # noqa: SIM118
        ages[key] = (store.runs / key / "record.json").stat().st_mtime_ns
    found = [completed(store.record(key), store) for key in sorted(ages, key=lambda key: (ages[key], key))]
    records = {RunSpec.from_dict(record["spec"]): record for record in found}
    states = dict.fromkeys(records, "done")
    for path in sorted(store.failures.glob("[!.]*.json")):
        if (report := store.failure(path.stem)) is not None:
            states.setdefault(RunSpec.from_dict(report["spec"]), f"failed: {report['message']}")
    return Evidence(records, states)


def completed(record: Record, store: Store) -> Record:
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
    stored = store.scores(record["key"])
    made = figures_of.summaries(stored["scores"], stored["labels"], ordered=record["ordered"])
    return {**record, "figures": {rule: made[rule] | there.get(rule, {}) for rule in made}}


def has_scores(record: Record, store: Store) -> bool:
    """Whether the run's per-image scores are in the folder still."""
    return bool((store.runs / record["key"] / "scores.npz").exists())


def repeats(ask: Ask, evidence: Evidence, folds: Sequence[int] | None, seeds: Sequence[int] | None) -> Ask:
    """The ask with all folds and seeds that the profile and split have in the folder, unless they are given."""
    there = [s for s in evidence.states if (s.profile, s.split) == (ask.profile, ask.split)]
    return replace(
        ask,
        folds=tuple(folds if folds is not None else sorted({s.fold for s in there}) or ask.folds),
        seeds=tuple(seeds if seeds is not None else sorted({s.seed for s in there}) or ask.seeds),
    )


def drawn(grid: Grid, ask: Ask, evidence: Evidence, store: Store, rules: Rules) -> Drawn:
    """Each cell's figure under chance, of a grid with neither fractions nor backbones, whose cells have a place."""
    return {
        (group.source, group.shown_rho, row, metric): values
        for group in grid.groups(ask)
        for (row, metric), values in of_group(grid, ask, group, evidence, store, rules).items()
    }


def of_group(
    grid: Grid, ask: Ask, group: Group, evidence: Evidence, store: Store, rules: Rules
) -> dict[tuple[str, str], Floats]:
    """(row, metric) → the cell's figure in each draw, percent, of every row in a group of columns with a finished run.

    Methods tested on the same images share their draws, so they compare. A cell of which a run has lost its scores
    has no draws.
    """
    rows = {
        line.row: [spec for spec in grid.cell(ask, line, group) if spec in evidence.records]
        for line in grid.lines(ask)
    }
    where = [group.source, group.shown_rho]
    where += [group.fraction, group.backbone] if (group.fraction, group.backbone) != (1.0, "") else []
    where += [ask.split] if ask.split != "paper" else []
    return of_rows(rows, grid.metrics, ask.rule, where, evidence, store, rules)


def of_rows(
    rows: Mapping[str, Sequence[RunSpec]],
    metrics: Sequence[str],
    rule: str,
    where: Sequence[object],
    evidence: Evidence,
    store: Store,
    rules: Rules,
) -> dict[tuple[str, str], Floats]:
    """As ``of_group``, of rows with the finished runs behind them. where: names the column, for its own draws."""
    known = [metric for metric in metrics if metric in statistics.METRICS]
    of_run = of_runs(list(itertools.chain(*rows.values())), known, rule, evidence, store, rules)
    made = {}
    for (row, specs), metric in itertools.product(rows.items(), known):
        if not specs or not all(spec in of_run for spec in specs):
            continue
        values = [of_run[spec][metric] for spec in specs]
        figures = {
            (spec.fold, spec.seed): 100 * evidence.records[spec]["figures"][rule][metric] for spec in specs
        }
        noise = np.random.default_rng(derive_seed("training", *where, row, metric))
        training = noise.normal(0, training_error(figures, rules.noise(metric)), rules.draws)
        made[row, metric] = 100 * np.mean(values, axis=0) + training
    return made


def training_error(figures: Mapping[tuple[int, int], float], assumed: float) -> float:
    """Standard error that training leaves in the mean of figures by (fold, seed)."""
    free = len(figures) - len({fold for fold, _ in figures})
    seen = statistics.spread(figures).seeds if free else 0.0
    variance = (free * seen**2 + ASSUMED_WEIGHT * assumed**2) / (free + ASSUMED_WEIGHT)
    return math.sqrt(variance / len(figures))


def of_runs(
    specs: Sequence[RunSpec],
    metrics: Sequence[str],
    rule: str,
    evidence: Evidence,
    store: Store,
    rules: Rules,
) -> dict[RunSpec, dict[str, Floats]]:
    """Draws of each run that has its scores, as fractions; runs of one fold on the same images are drawn together."""
    tests: dict[tuple[int, str], list[RunSpec]] = {}
    for spec in specs:
        if not has_scores(evidence.records[spec], store):
            continue
        tests.setdefault((spec.fold, evidence.records[spec]["split_hash"]), []).append(spec)
    made = {}
    for test, together in tests.items():
        # in one order, so that the same runs get the same draws whoever asks
        members = sorted(together, key=lambda spec: str(evidence.records[spec]["key"]))
        of = (*test, rule, rules.draws, *members)
        if of not in evidence.draws:
            stored = [store.scores(evidence.records[spec]["key"]) for spec in members]
            labels, groups = stored[0]["labels"], stored[0]["groups"]
            scores = [reported(arrays["scores"], rule, labels) for arrays in stored]
            generator = np.random.default_rng(derive_seed("check", members[0].dataset, *test))
            known = statistics.METRICS
            evidence.draws[of] = statistics.joint(scores, labels, groups, known, rules.draws, generator)
        found = evidence.draws[of]
        for place, spec in enumerate(members):
            made[spec] = {metric: found[metric][:, place] for metric in metrics}
    return made


def reported(scores: Floats, rule: str, labels: Any) -> Floats:
    """The epochs (E, n, C) that the reporting rule takes its figures from."""
    if rule == "mean":
        return scores
    if rule == "last":
        return scores[-1:]
    best = int(np.argmax([(epoch.argmax(1) == labels).mean() for epoch in scores]))
    return scores[best : best + 1]
