"""What a results folder holds for a table: the newest run of each spec, and each cell's figure under chance.

A cell's interval has the test images' share of chance (bootstrap over groups within each fold; seeds of a fold
share their draws, folds are independent) and training's (normal, from the spread between seeds, shrunk towards
the assumption in ``tables/tolerances.toml``). That the folds' training sets overlap is not in it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench import statistics
from udcd_bench.resampling import Floats
from udcd_bench.spec import RunSpec, derive_seed

if TYPE_CHECKING:
    from udcd_bench.cells import Ask, Group
    from udcd_bench.grid import Grid
    from udcd_bench.store import Store
    from udcd_bench.verdicts import Rules

Place = tuple[str, float | None, str, str]
"""Data set, imbalance as shown, method, metric."""
Drawn = dict[Place, Floats]
"""A cell's figure in each draw, percent."""
Record = Mapping[str, Any]

ASSUMED_WEIGHT = 2
"""S: degrees of freedom that the assumed noise of training counts for, beside those of repeated seeds."""


@dataclass(frozen=True)
class Evidence:
    """Records of finished runs, newest of each spec, and the states of those that failed."""

    records: Mapping[RunSpec, Record]
    states: Mapping[RunSpec, str]


def gather(store: Store) -> Evidence:
    """Everything a results folder holds, whatever it was made of; needs no data and starts nothing."""
    ages = {}
    for key in store.keys():  # noqa: SIM118
        ages[key] = (store.runs / key / "record.json").stat().st_mtime_ns
    found = [store.record(key) for key in sorted(ages, key=lambda key: (ages[key], key))]
    records = {RunSpec.from_dict(record["spec"]): record for record in found}
    states = dict.fromkeys(records, "done")
    for path in sorted(store.failures.glob("[!.]*.json")):
        if (report := store.failure(path.stem)) is not None:
            states.setdefault(RunSpec.from_dict(report["spec"]), f"failed: {report['message']}")
    return Evidence(records, states)


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

    Methods tested on the same images share their draws, so they compare.
    """
    metrics = [metric for metric in grid.metrics if metric in statistics.METRICS]
    made = {}
    runs = {
        line.row: [spec for spec in grid.cell(ask, line, group) if spec in evidence.records]
        for line in grid.lines(ask)
    }
    of_run = _of_runs(list(itertools.chain(*runs.values())), metrics, ask.rule, evidence, store, rules)
    for (row, specs), metric in itertools.product(runs.items(), metrics):
        if not specs:
            continue
        values = [of_run[spec][metric] for spec in specs]
        figures = {
            (spec.fold, spec.seed): 100 * evidence.records[spec]["figures"][ask.rule][metric]
            for spec in specs
        }
        where = [group.source, group.shown_rho, row, metric]
        where += [group.fraction, group.backbone] if (group.fraction, group.backbone) != (1.0, "") else []
        where += [ask.split] if ask.split != "paper" else []
        noise = np.random.default_rng(derive_seed("training", *where))
        training = noise.normal(0, training_error(figures, rules.noise(metric)), rules.draws)
        made[row, metric] = 100 * np.mean(values, axis=0) + training
    return made


def training_error(figures: Mapping[tuple[int, int], float], assumed: float) -> float:
    """Standard error that training leaves in the mean of figures by (fold, seed)."""
    free = len(figures) - len({fold for fold, _ in figures})
    seen = statistics.spread(figures).seeds if free else 0.0
    variance = (free * seen**2 + ASSUMED_WEIGHT * assumed**2) / (free + ASSUMED_WEIGHT)
    return math.sqrt(variance / len(figures))


def _of_runs(
    specs: Sequence[RunSpec],
    metrics: Sequence[str],
    rule: str,
    evidence: Evidence,
    store: Store,
    rules: Rules,
) -> dict[RunSpec, dict[str, Floats]]:
    """Draws of each run, as fractions; runs of one fold on the same images are drawn together."""
    tests: dict[tuple[int, str], list[RunSpec]] = {}
    for spec in specs:
        tests.setdefault((spec.fold, evidence.records[spec]["split_hash"]), []).append(spec)
    made = {}
    for test, members in tests.items():
        stored = [store.scores(evidence.records[spec]["key"]) for spec in members]
        labels, groups = stored[0]["labels"], stored[0]["groups"]
        scores = [reported(arrays["scores"], rule, labels) for arrays in stored]
        generator = np.random.default_rng(derive_seed("check", members[0].dataset, *test))
        found = statistics.joint(scores, labels, groups, metrics, rules.draws, generator)
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
