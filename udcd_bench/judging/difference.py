"""The error of a published figure, and the verdict on a table as a whole.

A published figure is a measurement too, and nobody has its scores. Assumed of it, here and in ``docs/statistics.md``:

- **size**: it comes from ``published.folds`` of ``tables/tolerances.toml`` test folds of the size of ours, or from
  ``--their-n`` images. Accuracy's error is binomial at that size,
  of the accuracy that ours and theirs have together; a macro average's is that of our own draws at it.
- **training**: one training a fold, which varies as ours do.
- **independence**: its test images are others than ours. Where they are the same the difference varies less, so the
  assumption errs towards passing.
- **shared images**: its rows were tested on the same images, and their errors are correlated as our rows' are.

The table has one verdict because its cells are many: each is judged at its own level, so of a table that is true some
cell is ``lower`` more often than not. Each cell's shortfall is measured in standard errors, and compared with the
greatest of all cells' in each joint draw, which holds the correlation of the rows (Westfall & Young 1993, single step,
``max T``). What the draws take for independent, the metrics' noise of training and settings that share images, is
correlated in truth, and that only makes the greatest of them smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.errors import format_count
from udcd_bench.judging.uncertainty import Bootstrap, select_group_runs
from udcd_bench.judging.verdicts import VERDICTS, is_higher_better
from udcd_bench.runs.spec import RunSpec, derive_seed
from udcd_bench.stats import statistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.tolerances import Tolerances
    from udcd_bench.judging.uncertainty import BootstrapDraws, CellKey
    from udcd_bench.judging.verdicts import ErrorDraws, JudgedCell
    from udcd_bench.runs.results import Results
    from udcd_bench.stats.metrics import Floats


@dataclass(frozen=True)
class TableVerdict:
    """The verdict on all cells of a table together.

    verdict: ``lower`` where some cell is worse at the level of the whole table, else ``not lower``.
    level: share of true tables that are called lower, at most. cells: how many were judged together.
    p: the smallest of the cells'. worse: the names of the cells that are worse. where: the same by data set and row.
    """

    verdict: str
    level: float
    cells: int
    p: float
    worse: tuple[str, ...]
    where: str = ""

    def describe(self) -> str:
        """Describe the verdict in a sentence."""
        if not self.cells:
            return "The table as a whole cannot be judged: no cell has an interval."
        many = f"{format_count(self.cells, 'cell')} together"
        count = f"{format_count(len(self.worse), 'cell')} {'is' if len(self.worse) == 1 else 'are'} worse"
        worse = f"{count}: {self.where}" if self.worse else "no cell is worse"
        return f"The table as a whole, {many} at {100 * self.level:g} %: {worse} (smallest p {self.p:.3f})."


# --- the error of a published figure --------------------------------------------------------------------------


def draw_published_errors(
    grid: Grid,
    request: TableRequest,
    results: Results,
    theirs: Mapping[CellKey, float],
    tolerances: Tolerances,
) -> BootstrapDraws:
    """Draw the error of each published figure (draws,), points around 0, where our runs show how large it is.

    theirs: the published figures, percent.
    """
    bootstrap = Bootstrap(results, request.rule, tolerances)
    metrics = [metric for metric in grid.metrics if metric in statistics.CONFUSION_METRICS]
    errors: BootstrapDraws = {}
    for group in grid.list_column_groups(request):
        setting = (group.source, group.shown_rho)
        runs = select_group_runs(grid, request, group, results)
        cells = {key: percent for key, percent in theirs.items() if key[:2] == setting and runs.get(key[2])}
        firsts = {row: _select_one_seed(specs) for row, specs in runs.items()}
        draws = bootstrap.draw_runs([spec for specs in runs.values() for spec in specs], metrics)
        # the draws of our own test images in another order: correlated between rows, independent of ours
        order = np.random.default_rng(derive_seed("published", *setting)).permutation(tolerances.draws)
        for key, percent in cells.items():
            row, metric = key[2:]
            if metric in metrics and all(spec in draws for spec in runs[row]):
                by_fold = [draws[spec][metric][order] for spec in firsts[row]]
                n = float(np.mean([results.records[spec]["n_test"] for spec in firsts[row]]))
                test = draw_test_error(by_fold, n, percent if metric == "acc" else None, tolerances)
                errors[key] = test + bootstrap.draw_training(
                    runs[row][0], metric, tolerances.their_folds, ("published training", *key)
                )
    return errors


def _select_one_seed(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Select one run of each fold, that of the lowest seed: a published figure is one training's a fold."""
    return list({spec.fold: spec for spec in sorted(specs, key=lambda s: (s.fold, -s.seed))}.values())


def draw_test_error(
    by_fold: Sequence[Floats], n: float, accuracy: float | None, tolerances: Tolerances
) -> Floats:
    """Draw what the choice of their test images does to a figure (draws,), points around 0.

    by_fold: draws of our figure on each of our folds, fractions. n: test images in one of them.
    accuracy: the published one, percent, whose error is binomial; None for another metric.
    """
    their_n = tolerances.their_n or n * tolerances.their_folds
    # of one fold's size, whatever the number of ours
    one_fold = 100 * sum(draws - draws.mean() for draws in by_fold) / math.sqrt(len(by_fold))
    error: Floats = one_fold * math.sqrt(n / their_n)
    if accuracy is None:
        return error
    # of both together, as where they are the same: by their own, a lucky figure would seem to vary less
    ours, our_n = 100 * float(np.mean(by_fold)), n * len(by_fold)
    pooled = (our_n * ours + their_n * accuracy) / (our_n + their_n)
    binomial = math.sqrt(max(0.0, pooled * (100 - pooled)) / their_n)
    spread = float(error.std())
    # our rows may have no error to show how theirs go together
    return error * (binomial / spread) if spread > 0 else np.resize((-binomial, binomial), error.shape)


# --- the table as a whole ---------------------------------------------------------------------------------------


def judge_table(
    cells: Sequence[JudgedCell], draws: ErrorDraws, level: float
) -> tuple[list[JudgedCell], TableVerdict]:
    """Judge a table's cells together: the cells with their p, and the verdict on the table.

    level: of the cells' intervals. A table fails by a cell that fails alone and, among all of them, too.
    """
    together = [cell for cell in cells if VERDICTS[cell.verdict].compared and cell.their_error > 0]
    if not together:
        return list(cells), TableVerdict("not lower", round(1 - level, 6), 0, math.nan, ())
    signs = np.array([1 if is_higher_better(cell.metric) else -1 for cell in together])
    differences = np.stack([draws.draw_difference(cell.key, cell.theirs) for cell in together], axis=1)
    shortfalls = -signs * np.array([cell.ours - cell.theirs for cell in together])
    p_values = compute_joint_p(shortfalls, -signs * (differences - differences.mean(0)))
    p_by_key = {cell.key: float(p) for cell, p in zip(together, p_values)}
    judged_cells = [
        replace(cell, p_table=p_by_key[cell.key], fails_table=cell.fails and p_by_key[cell.key] <= 1 - level)
        if cell.key in p_by_key
        else cell
        for cell in cells
    ]
    worse = tuple(cell.name for cell in judged_cells if cell.fails_table)
    verdict = "lower" if worse else "not lower"
    where = describe_worse([cell for cell in judged_cells if cell.key in p_by_key])
    least = float(min(p_values))
    return judged_cells, TableVerdict(verdict, round(1 - level, 6), len(together), least, worse, where)


def describe_worse(cells: Sequence[JudgedCell]) -> str:
    """Describe which of the cells that were judged together are worse: by data set, rows that are so in a metric."""
    columns: dict[str, dict[str, list[JudgedCell]]] = {}
    for cell in cells:
        columns.setdefault(cell.setting, {}).setdefault(cell.metric_title, []).append(cell)
    settings: dict[str, list[str]] = {}
    for setting, by_metric in columns.items():
        metrics: dict[str, list[str]] = {}
        for title, column in by_metric.items():
            if any(cell.fails_table for cell in column):
                metrics.setdefault(_describe_worse_rows(column), []).append(title)
        text = "; ".join(f"{rows} in {_join_words(titles)}" for rows, titles in metrics.items())
        settings.setdefault(text, []).append(setting)
    return "; ".join(f"on {_join_words(names)}, {text}" for text, names in settings.items() if text)


def _describe_worse_rows(column: Sequence[JudgedCell]) -> str:
    worse = [cell.method for cell in column if cell.fails_table]
    others = [cell.method for cell in column if not cell.fails_table]
    if len(worse) == 1:
        return worse[0]
    if not others:
        return f"all {len(column)} rows"
    names = f"not {', '.join(others)}" if len(others) < len(worse) else ", ".join(worse)
    return f"{len(worse)} of {len(column)} rows ({names})"


def _join_words(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def compute_joint_p(shortfalls: Floats, errors: Floats) -> Floats:
    """Compute each cell's one-sided p of no shortfall, corrected over all cells (cells,).

    shortfalls: (cells,). errors: draws of each one's error around 0 (draws, cells), joint.
    """
    spreads = errors.std(0)
    greatest = np.sort((errors / spreads).max(1))
    beyond = len(greatest) - np.searchsorted(greatest, shortfalls / spreads, side="left")
    p: Floats = (beyond + 1) / (len(greatest) + 1)
    return p
