"""Which figures of a table are marked: those that cannot be told from the best of their column, or the largest.

The best of a column is its highest mean over two runs or more, or its lowest where lower is better. Every other row is
compared with it in pairs, as ``udcd-bench compare`` does it: on the same test images, folds and seeds. From a single
run nobody knows what the next training would give, so a row with one run, or one pair, has no part in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from udcd_bench.judging.comparisons import compare_group
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import Bootstrap
from udcd_bench.judging.verdicts import get_cell_key
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from udcd_bench.grid.cells import ColumnGroup, TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.uncertainty import CellKey
    from udcd_bench.runs.results import Results

KINDS = ("tested", "largest")
"""Values of ``TableRequest.marks``."""
MIN_RUNS = 2
LARGEST = "{best}: the best of these figures, {second}: the second, as printed; chance is not considered."
ONE_RUN = "No figure is marked: each is of one run (n = 1), and one run does not show what another training would give."
NO_PAIRS = "No figure is marked: no two rows of several runs could be compared in pairs."


@dataclass(frozen=True)
class Marks:
    """The marks of a table. by_cell: ``best`` or ``second``. legend: with {best} and {second} for how they look."""

    by_cell: Mapping[CellKey, str]
    legend: str


def mark_figures(grid: Grid, request: TableRequest, results: Results, frame: pd.DataFrame) -> Marks:
    """Mark the figures of a table's long frame, but for references, in the way that the request wants."""
    frame = frame[~frame["method"].isin(grid.references)]
    if request.marks == "largest":
        by_cell = _mark_largest(frame)
        return Marks(by_cell, LARGEST if by_cell else "")
    by_cell = {}
    tolerances = load_tolerances()
    bootstrap = Bootstrap(results, request.rule, tolerances)
    for group in grid.list_column_groups(request):
        by_cell |= dict.fromkeys(_find_untold(grid, request, group, frame, bootstrap), "best")
    return Marks(by_cell, _describe_tested(frame, tolerances.level) if by_cell else _explain_none(frame))


def _describe_tested(frame: pd.DataFrame, level: float) -> str:
    titles = [
        METRICS[name].title for name in frame["metric"].unique() if name not in statistics.CONFUSION_METRICS
    ]
    return (
        f"{{best}}: cannot be told from the best of its column at {100 * (1 - level):g} %, compared in pairs of the "
        "same test images, folds and seeds, corrected for the number of rows (Holm)."
        + (" Rows with one run take no part." if (frame["n"] == 1).any() else "")
        + (f" {', '.join(titles)}: not compared." if titles else "")
    )


def _explain_none(frame: pd.DataFrame) -> str:
    """Explain why nothing is marked; empty where there is nothing to mark."""
    if (frame["n"] == 0).all():
        return ""
    return ONE_RUN if (frame["n"] < MIN_RUNS).all() else NO_PAIRS


def _find_untold(
    grid: Grid, request: TableRequest, group: ColumnGroup, frame: pd.DataFrame, bootstrap: Bootstrap
) -> list[CellKey]:
    """Find the cells of one group of columns that cannot be told from the best of their column, the best among them."""
    own_lines = [
        row for row in frame.to_dict("records") if get_cell_key(row)[:2] == (group.name, group.shown_rho)
    ]
    best_rows: dict[str, list[str]] = {}
    for metric in statistics.CONFUSION_METRICS:
        ours = {
            row["method"]: row["ours"]
            for row in own_lines
            if row["metric"] == metric and row["n"] >= MIN_RUNS
        }
        if len(ours) > 1:
            sign = 1 if METRICS[metric].better == "higher" else -1
            best_rows.setdefault(max(ours, key=lambda name: sign * ours[name]), []).append(metric)
    cells: list[CellKey] = []
    for best, metrics in best_rows.items():
        compared = compare_group(grid, request, group, best, bootstrap)
        for metric in metrics:
            rows = [
                row
                for row in compared
                if row.metric == metric and row.n >= MIN_RUNS and row.method not in grid.references
            ]
            p_values = statistics.holm([row.p for row in rows])
            close = [row.method for row, p in zip(rows, p_values) if p > 1 - bootstrap.tolerances.level]
            names = [best, *close] if rows else []
            cells += [(group.name, group.shown_rho, name, metric) for name in names]
    return cells


def _mark_largest(frame: pd.DataFrame) -> dict[CellKey, str]:
    """Mark the best and the second of each column by our figures as printed; equals share a mark."""
    columns: dict[tuple[str, float | None, str], list[tuple[CellKey, float]]] = {}
    for row in frame.to_dict("records"):
        dataset, rho, _, metric = key = get_cell_key(row)
        if not math.isnan(row["ours"]):
            columns.setdefault((dataset, rho, metric), []).append((key, round(row["ours"], 2)))
    marks: dict[CellKey, str] = {}
    for (_, _, metric), cells in columns.items():
        marks |= _rank_values(cells, METRICS[metric].better == "higher") if len(cells) > 1 else {}
    return marks


def _rank_values(cells: Sequence[tuple[CellKey, float]], higher: bool) -> dict[CellKey, str]:
    ranked = sorted({value for _, value in cells}, reverse=higher)
    words = dict(zip(ranked, ("best", "second")))
    return {key: words[value] for key, value in cells if value in words}
