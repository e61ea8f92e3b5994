"""Paired comparisons of a table's rows with one of them: on the same test images, folds and seeds.

A difference is the mean over the (fold, seed) that both rows have. Its interval and p hold two kinds of chance: the
test images' (paired bootstrap over groups: both rows are drawn on the same images) and training's (√2 times that of a
cell, pooled over the rows of the data set: ``judging.uncertainty``). So p is of the methods, not of these networks.
That the folds' training sets overlap is not in it; the corrected resampled t-test (Nadeau & Bengio 2003), over the
folds' mean differences, allows for it.

p is corrected (Holm 1979) over the rows compared in one column: a data set, imbalance and metric.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.errors import UserError, suggest_nearest
from udcd_bench.grid.cells import format_heading
from udcd_bench.judging.pairing import pair_rows
from udcd_bench.judging.uncertainty import Bootstrap
from udcd_bench.render import csv_text
from udcd_bench.render.sheet import format_percent
from udcd_bench.runs.names import identify_data
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from udcd_bench.grid.cells import ColumnGroup, TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.pairing import FoldAndSeed, SpecsByRun
    from udcd_bench.judging.tolerances import Tolerances
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.stats.metrics import Floats

DEFAULT_ROW = "udcd"
"""The row that others are compared with unless another is asked for."""
N_DRAWS = 5000
"""p is at least 2/(draws + 1), which Holm multiplies by the number of rows."""


@dataclass(frozen=True)
class Comparison:
    """A row beside ``other`` in one column; percent and points, NaN where a number does not exist.

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


@dataclass(frozen=True)
class _ColumnValues:
    """A metric in one group of columns: each row's percent by (fold, seed), and its draws (draws,), percent."""

    group: ColumnGroup
    metric: str
    percent: Mapping[str, Mapping[FoldAndSeed, float]]
    draws: Mapping[str, Mapping[FoldAndSeed, Floats]]


def compare_rows(
    grid: Grid, request: TableRequest, results: Results, other: str, tolerances: Tolerances
) -> list[Comparison]:
    """Compare every row with ``other``, in every column that predictions determine.

    Raises UserError when the table has no such row.
    """
    rows = [row.name for row in grid.list_rows(request)]
    if other not in rows:
        raise UserError(
            f"--with {other!r} is no row of this table as asked for{suggest_nearest(other, rows)}"
        )
    bootstrap = Bootstrap(results, request.rule, replace(tolerances, draws=N_DRAWS))
    return [
        comparison
        for group in grid.list_column_groups(request)
        for comparison in compare_group(grid, request, group, other, bootstrap)
    ]


def compare_group(
    grid: Grid, request: TableRequest, group: ColumnGroup, other: str, bootstrap: Bootstrap
) -> list[Comparison]:
    """Compare every row with ``other`` in one group of columns."""
    metrics = [metric for metric in grid.metrics if metric in statistics.CONFUSION_METRICS]
    rows = grid.list_rows(request)
    runs = {
        row.name: bootstrap.results.select_records(grid.list_cell_runs(request, row, group)) for row in rows
    }
    paired, reasons = pair_rows(runs, other, bootstrap.results)
    draws = bootstrap.draw_runs([spec for specs in paired.values() for spec in specs.values()], metrics)
    comparisons = []
    for metric in metrics:
        column = _collect_column(group, metric, paired, draws, bootstrap)
        best = _find_winner(column, paired, bootstrap)
        unfilled = [
            Comparison(
                dataset=group.name,
                rho=group.shown_rho,
                metric=metric,
                method=row.name,
                other=other,
                method_title=row.title,
                dataset_title=format_heading(group),
                best=best.get(row.name, math.nan),
                reason=reasons[row.name],
            )
            for row in rows
            if row.name != other or row.name in best
        ]
        filled = [
            row
            if row.reason or row.method == other
            else _compare_pair(row, column, paired[row.method], bootstrap)
            for row in unfilled
        ]
        comparisons += _correct_p_values(filled)
    return comparisons


def _collect_column(
    group: ColumnGroup,
    metric: str,
    paired: Mapping[str, SpecsByRun],
    draws: Mapping[RunSpec, Mapping[str, Floats]],
    bootstrap: Bootstrap,
) -> _ColumnValues:
    records, rule = bootstrap.results.records, bootstrap.rule
    return _ColumnValues(
        group=group,
        metric=metric,
        percent={
            row: {run: 100 * records[spec]["figures"][rule][metric] for run, spec in specs.items()}
            for row, specs in paired.items()
        },
        draws={
            row: {run: 100 * draws[spec][metric] for run, spec in specs.items()}
            for row, specs in paired.items()
        },
    )


def _compare_pair(
    comparison: Comparison, column: _ColumnValues, specs: SpecsByRun, bootstrap: Bootstrap
) -> Comparison:
    """Fill in the figures of a comparison. specs: of its row."""
    row, other = comparison.method, comparison.other
    ours, theirs = column.percent[row], column.percent[other]
    shared = sorted(ours.keys() & theirs.keys())
    differences = {run: ours[run] - theirs[run] for run in shared}
    rng_key = ("compare", identify_data(comparison.dataset), comparison.rho, row, other, column.metric)
    # two trainings differ by √2 times what one does
    noise = math.sqrt(2) * bootstrap.draw_training(specs[shared[0]], column.metric, len(shared), rng_key)
    pairs = [column.draws[row][run] - column.draws[other][run] for run in shared]
    draws = np.mean(pairs, axis=0) + noise
    low, high = statistics.compute_interval(draws, bootstrap.tolerances.level)
    by_fold = defaultdict(list)
    for (fold, _), value in differences.items():
        by_fold[fold].append(value)
    records = [bootstrap.results.records[specs[run]] for run in shared]
    test = statistics.corrected_resampled_t(
        [float(np.mean(values)) for values in by_fold.values()],
        round(np.mean([record["n_train"] for record in records])),
        round(np.mean([record["n_test"] for record in records])),
    )
    return replace(
        comparison,
        ours=float(np.mean([ours[run] for run in shared])),
        theirs=float(np.mean([theirs[run] for run in shared])),
        difference=float(np.mean(list(differences.values()))),
        low=low,
        high=high,
        p=statistics.compute_p_value(draws),
        t=test.t,
        p_t=test.p,
        n=len(shared),
        n_folds=len(by_fold),
        n_seeds=len({seed for _, seed in shared}),
    )


def _find_winner(
    column: _ColumnValues, paired: Mapping[str, SpecsByRun], bootstrap: Bootstrap
) -> dict[str, float]:
    """Find the column's winner, and the probability that it is truly best, over the runs that all rows have."""
    rows = list(column.percent)
    shared = sorted(set.intersection(*map(set, column.percent.values()))) if len(rows) > 1 else []
    if not shared:
        return {}
    sign = 1 if METRICS[column.metric].better == "higher" else -1
    means = [sign * float(np.mean([column.percent[row][run] for run in shared])) for row in rows]
    draws = []
    for row in rows:
        rng_key = ("best", identify_data(column.group.source), column.group.shown_rho, row, column.metric)
        noise = bootstrap.draw_training(paired[row][shared[0]], column.metric, len(shared), rng_key)
        draws.append(sign * (np.mean([column.draws[row][run] for run in shared], axis=0) + noise))
    winner = int(np.argmax(means))
    return {rows[winner]: statistics.compute_best_share(np.stack(draws, 1), winner)}


def _correct_p_values(column: Sequence[Comparison]) -> list[Comparison]:
    """Correct p and p_t over the rows of one column (Holm)."""
    p = statistics.holm([row.p for row in column])
    p_t = statistics.holm([row.p_t for row in column])
    return [replace(row, p_holm=float(a), p_t_holm=float(b)) for row, a, b in zip(column, p, p_t)]


def build_comparison_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Build a line for each comparison, in this order."""
    import pandas as pd

    names = [field.name for field in fields(Comparison)]
    return pd.DataFrame([[getattr(row, name) for name in names] for row in comparisons], columns=names)


def format_csv(comparisons: Sequence[Comparison]) -> str:
    """Format the frame as CSV: percentages and points with two decimals, empty where a number does not exist."""
    frame = build_comparison_frame(comparisons)
    for name in ("ours", "theirs", "difference", "low", "high"):
        frame[name] = [format_percent(value) for value in frame[name]]
    for name in ("p", "p_holm", "t", "p_t", "p_t_holm", "best"):
        frame[name] = ["" if math.isnan(value) else f"{value:.4f}" for value in frame[name]]
    frame["rho"] = ["" if value is None or math.isnan(value) else f"{value:g}" for value in frame["rho"]]
    return csv_text.format_csv(frame)


def group_by_column(comparisons: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    """Group comparisons by column, each with its name."""

    def name(row: Comparison) -> str:
        return f"{row.dataset_title} {METRICS[row.metric].title}"

    return [(title, list(rows)) for title, rows in itertools.groupby(comparisons, name)]


def count_tests(comparisons: Sequence[Comparison]) -> int:
    """Count the rows that p was corrected over in a column."""
    return sum(math.isfinite(row.p) for row in comparisons)


def describe_fields(tolerances: Tolerances, other: str, noise: Sequence[str]) -> dict[str, str]:
    """Describe what the figures are, by name, for whoever reads them. noise: sentences on training's noise."""
    return {
        "difference": f"the row minus {other}, in points, the mean over the folds and seeds that both have",
        "interval": (
            f"{100 * tolerances.level:g} %: test images (paired bootstrap over groups within classes, "
            f"{N_DRAWS} draws) and training's noise; not that folds share training images"
        ),
        **({"noise": " ".join(noise).rstrip(".")} if noise else {}),
        "p": "of no difference, by the draws of the interval, two-sided",
        "Holm": "p corrected over the rows of one column: a data set, imbalance and metric",
        "t": "corrected resampled t-test over folds (Nadeau & Bengio 2003), which allows for shared training images",
        "best": (
            "the probability that the column's winner, over the folds and seeds that all rows have, is truly the best, "
            "by the same kinds of chance"
        ),
    }
