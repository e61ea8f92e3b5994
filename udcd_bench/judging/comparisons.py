"""Each row of a table against one of them, in pairs: on the same test images, folds and seeds.

A difference is the mean over the (fold, seed) that both rows have. Its interval and p hold two kinds of chance: the
test images' (paired bootstrap over groups: both rows are drawn on the same images) and training's (normal, from the
spread of the paired differences between seeds, shrunk towards √2 times the assumption in ``tables/tolerances.toml``,
as a cell's is). So p is of the methods, not of these networks. That the folds' training sets overlap is not in it;
the corrected resampled t-test (Nadeau & Bengio 2003), over the folds' mean differences, is there for that.

p is corrected (Holm 1979) over the rows compared in one column: a data set, imbalance and metric.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench.errors import UserError, suggest_nearest
from udcd_bench.grid.cells import format_heading
from udcd_bench.judging import uncertainty as kept
from udcd_bench.render.sheet import format_percent
from udcd_bench.runs.spec import RunSpec, derive_seed
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd

    from udcd_bench.grid.cells import ColumnGroup, TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.uncertainty import Results
    from udcd_bench.judging.verdicts import Tolerances
    from udcd_bench.runs.store import Store
    from udcd_bench.stats.resampling import Floats

N_DRAWS = 5000
"""p is at least 2/(draws + 1), which Holm multiplies by the number of rows."""
SpecsByRun = dict[tuple[int, int], RunSpec]
"""A row's finished runs by (fold, seed)."""


@dataclass(frozen=True)
class Comparison:
    """A row beside ``other`` in one column; percent and points. NaN where there is nothing to say.

    difference: ours minus the other's, over n pairs. p, p_holm: of no difference. t, p_t, p_t_holm: corrected
    resampled t-test, from two folds on. best: for the column's winner, the probability that it is truly the best of
    all rows. reason: why there is no figure.
    """

    dataset: str
    rho: float | None
    metric: str
    method: str
    other: str
    method_title: str
    dataset_title: str
    ours: float = math.nan
    theirs: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan
    t: float = math.nan
    p_t: float = math.nan
    p_t_holm: float = math.nan
    n: int = 0
    n_folds: int = 0
    n_seeds: int = 0
    best: float = math.nan
    reason: str = ""

    @property
    def refused(self) -> bool:
        """Whether both rows have runs that must not be paired."""
        return self.reason.startswith("refused")


def compare_rows(
    grid: Grid, request: TableRequest, results: Results, store: Store, tolerances: Tolerances, other: str
) -> list[Comparison]:
    """Every row against ``other``, in every column that predictions determine.

    Raises UserError where the table has no such row.
    """
    rows = [line.name for line in grid.list_rows(request)]
    if other not in rows:
        raise UserError(
            f"--with {other!r} is no row of this table as asked for{suggest_nearest(other, rows)}"
        )
    tolerances = replace(tolerances, draws=N_DRAWS)
    made = []
    for group in grid.list_column_groups(request):
        made += _compare_group(grid, request, group, results, store, tolerances, other)
    return made


def _compare_group(
    grid: Grid,
    request: TableRequest,
    group: ColumnGroup,
    results: Results,
    store: Store,
    tolerances: Tolerances,
    other: str,
) -> list[Comparison]:
    lines = grid.list_rows(request)
    metrics = [metric for metric in grid.metrics if metric in statistics.CONFUSION_METRICS]
    runs: dict[str, SpecsByRun] = {
        line.name: {
            (s.fold, s.seed): s for s in grid.list_cell_runs(request, line, group) if s in results.records
        }
        for line in lines
    }
    images = functools.cache(lambda spec: _hash_test_images(store.read_scores(results.records[spec]["key"])))
    reasons = {
        line.name: _explain_unpaired(runs[line.name], runs[other], results, store, images) for line in lines
    }
    runs = {
        row: {at: spec for at, spec in found.items() if at in runs[other]}
        for row, found in runs.items()
        if not reasons[row]
    }
    drawn = [spec for found in runs.values() for spec in found.values()]
    of_run = kept.bootstrap_runs(drawn, metrics, request.rule, results, store, tolerances)
    made = []
    for metric in metrics:
        column = []
        figures = {
            row: {at: 100 * results.records[s]["figures"][request.rule][metric] for at, s in found.items()}
            for row, found in runs.items()
        }
        draws = {row: {at: 100 * of_run[s][metric] for at, s in found.items()} for row, found in runs.items()}
        best = _find_winner(group, metric, figures, draws, tolerances)
        for line in lines:
            about = Comparison(
                group.source, group.shown_rho, metric, line.name, other, line.title, format_heading(group),
                best=best.get(line.name, math.nan), reason=reasons[line.name],
            )  # fmt: skip
            if not about.reason and line.name != other:
                about = _compare_pair(about, figures, draws, runs, results, tolerances)
            if line.name != other or line.name in best:
                column.append(about)
        made += _correct_p_values(column)
    return made


def _hash_test_images(test: Mapping[str, Any]) -> str:
    """What was tested on."""
    whole = hashlib.sha256()
    for name in ("ids", "labels", "groups"):
        whole.update(repr(test[name].tolist()).encode())
    return whole.hexdigest()


def _explain_unpaired(
    ours: SpecsByRun, theirs: SpecsByRun, results: Results, store: Store, images: Callable[[RunSpec], str]
) -> str:
    """Why two rows are not paired; empty when they are."""
    if not ours or not theirs:
        return "not run" if not ours else "the row to compare with is not run"
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return "no fold and seed in common"
    for at in shared:
        pair = [results.records[runs[at]] for runs in (ours, theirs)]
        where = f"refused: fold {at[0]}, seed {at[1]} "
        hashes = [record["split_hash"] for record in pair]
        if hashes[0] != hashes[1]:
            return f"{where}was tested on other images (split hashes {hashes[0]} and {hashes[1]})"
        if not all(kept.has_scores(record, store) for record in pair):
            return f"{where}has lost its scores"
        if images(ours[at]) != images(theirs[at]):
            return f"{where}was tested on other images, labels or groups, although the split hashes agree"
    return ""


def _compare_pair(
    comparison: Comparison,
    values_by_row: Mapping[str, Mapping[tuple[int, int], float]],
    draws: Mapping[str, Mapping[tuple[int, int], Floats]],
    runs: Mapping[str, SpecsByRun],
    results: Results,
    tolerances: Tolerances,
) -> Comparison:
    """The comparison with its figures."""
    ours, theirs = comparison.method, comparison.other
    shared = sorted(values_by_row[ours].keys() & values_by_row[theirs].keys())
    differences = {at: values_by_row[ours][at] - values_by_row[theirs][at] for at in shared}
    where = (comparison.dataset, comparison.rho, ours, theirs, comparison.metric)
    # two trainings differ by √2 times what one does
    error = kept.compute_training_error(differences, math.sqrt(2) * tolerances.get_noise(comparison.metric))
    noise = np.random.default_rng(derive_seed("compare", *where)).normal(0, error, tolerances.draws)
    drawn = np.mean([draws[ours][at] - draws[theirs][at] for at in shared], axis=0) + noise
    low, high = statistics.compute_interval(drawn, tolerances.level)
    by_fold = defaultdict(list)
    for (fold, _), value in differences.items():
        by_fold[fold].append(value)
    sizes = [results.records[runs[ours][at]] for at in shared]
    test = statistics.corrected_resampled_t(
        [float(np.mean(values)) for values in by_fold.values()],
        round(np.mean([record["n_train"] for record in sizes])),
        round(np.mean([record["n_test"] for record in sizes])),
    )
    return replace(
        comparison,
        ours=float(np.mean([values_by_row[ours][at] for at in shared])),
        theirs=float(np.mean([values_by_row[theirs][at] for at in shared])),
        difference=float(np.mean(list(differences.values()))),
        low=low,
        high=high,
        p=statistics.compute_p_value(drawn),
        t=test.t,
        p_t=test.p,
        n=len(shared),
        n_folds=len(by_fold),
        n_seeds=len({seed for _, seed in shared}),
    )


def _find_winner(
    group: ColumnGroup,
    metric: str,
    values_by_row: Mapping[str, Mapping[tuple[int, int], float]],
    draws: Mapping[str, Mapping[tuple[int, int], Floats]],
    tolerances: Tolerances,
) -> dict[str, float]:
    """The column's winner, and the probability that it is truly best, over the folds and seeds that all rows have."""
    rows = list(values_by_row)
    shared = (
        sorted(set.intersection(*(set(found) for found in values_by_row.values()))) if len(rows) > 1 else []
    )
    if not shared:
        return {}
    sign = 1 if METRICS[metric].better == "higher" else -1
    means = [sign * float(np.mean([values_by_row[row][at] for at in shared])) for row in rows]
    columns = []
    for row in rows:
        error = kept.compute_training_error(
            {at: values_by_row[row][at] for at in shared}, tolerances.get_noise(metric)
        )
        seed = derive_seed("best", group.source, group.shown_rho, row, metric)
        noise = np.random.default_rng(seed).normal(0, error, tolerances.draws)
        columns.append(sign * (np.mean([draws[row][at] for at in shared], axis=0) + noise))
    winner = int(np.argmax(means))
    return {rows[winner]: statistics.compute_best_share(np.stack(columns, 1), winner)}


def _correct_p_values(column: Sequence[Comparison]) -> list[Comparison]:
    p = statistics.holm([row.p for row in column])
    p_t = statistics.holm([row.p_t for row in column])
    return [replace(row, p_holm=float(a), p_t_holm=float(b)) for row, a, b in zip(column, p, p_t)]


def build_comparison_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """A row a comparison, in this order."""
    import pandas as pd

    names = [field.name for field in fields(Comparison)]
    return pd.DataFrame([[getattr(row, name) for name in names] for row in comparisons], columns=names)


def format_csv(comparisons: Sequence[Comparison]) -> str:
    """The frame; percentages and points with two decimals, nothing for what does not exist."""
    made = build_comparison_frame(comparisons)
    for name in ("ours", "theirs", "difference", "low", "high"):
        made[name] = [format_percent(value) for value in made[name]]
    for name in ("p", "p_holm", "t", "p_t", "p_t_holm", "best"):
        made[name] = ["" if math.isnan(value) else f"{value:.4f}" for value in made[name]]
    made["rho"] = ["" if value is None or math.isnan(value) else f"{value:g}" for value in made["rho"]]
    text: str = made.to_csv(index=False, lineterminator="\n")
    return text


def group_by_column(comparisons: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    """Comparisons by column, each with its name."""

    def name(row: Comparison) -> str:
        return f"{row.dataset_title} {METRICS[row.metric].title}"

    return [(title, list(rows)) for title, rows in itertools.groupby(comparisons, name)]


def count_tests(comparisons: Sequence[Comparison]) -> int:
    """How many rows p was corrected over in a column."""
    return sum(math.isfinite(row.p) for row in comparisons)


def describe_fields(tolerances: Tolerances, other: str) -> dict[str, Any]:
    """What the figures are, for whoever reads them."""
    return {
        "difference": f"the row minus {other}, in points, the mean over the folds and seeds that both have",
        "interval": (
            f"{100 * tolerances.level:g} %: test images (paired bootstrap over groups within classes, {N_DRAWS} draws) and "
            "training's noise (assumed, and what seeds show); not that folds share training images"
        ),
        "p": "of no difference, by the draws of the interval, two-sided",
        "Holm": "p corrected over the rows of one column: a data set, imbalance and metric",
        "t": "corrected resampled t-test over folds (Nadeau & Bengio 2003), which allows for shared training images",
        "best": "the probability that the column's winner is truly the best, by the same kinds of chance",
    }
