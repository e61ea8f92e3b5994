"""Simulated tables of which the paper is true: our folds and theirs are other test images of the same methods.

A method is a recall for each class, by two numbers such that accuracy and macro recall are the published ones. Errors
of two rows on one image are correlated by 0.8. A training adds points to a whole row, of the standard deviation that
``tables/tolerances.toml`` assumes or a multiple of it, which pairs of seeds may show. Judged by the product's own
functions, from the bootstrap on.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from udcd_bench import plugins
from udcd_bench.data import splits
from udcd_bench.data.layouts import aptos, ham10000
from udcd_bench.judging import difference, verdicts
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.paper import published
from udcd_bench.stats import resampling, statistics

CORRELATION = 0.8
METRICS = ("acc", "ap", "rec", "f1")
FOLDS = (1, 3, 5)
COUNTS = {"ham10000": ham10000.EXPECTED_COUNTS.counts, "aptos": aptos.EXPECTED_COUNTS.counts}


@dataclass(frozen=True, eq=False)
class Fold:
    """One test fold: figures (rows, metrics) and their bootstrap draws (draws, rows, metrics), percent; n images."""

    figures: np.ndarray
    draws: np.ndarray | None
    n: int


class Setting:
    """A data set at an imbalance: its published rows, and folds of it."""

    def __init__(self, table, dataset, rho):
        self.dataset, self.rho = dataset, rho
        counts = np.array(list(COUNTS[dataset].values()))
        own_rho = plugins.read_attributes("tables", table).get("own_rho")
        if rho is not None and rho != own_rho:
            counts = splits.compute_resampled_counts(counts, rho)
        self.labels = np.repeat(np.arange(len(counts)), counts // splits.FOLDS)
        rows = [v for v in published.load_table(table) if (v.dataset, v.rho) == (dataset, rho)]
        self.rows = list(dict.fromkeys(value.method for value in rows))
        printed = {(value.method, value.metric): value.percent / 100 for value in rows}
        shares = counts / counts.sum()
        others = np.where(np.eye(len(counts)), 0, shares)
        self.confusions = np.cumsum(others / others.sum(1, keepdims=True), axis=1)[:, :-1]
        self.recalls = np.array(
            [fit_recalls(shares, printed[r, "acc"], printed[r, "rec"]) for r in self.rows]
        )

    def draw_fold(self, rng, n_draws=0):
        """Draw a fold's predictions of every row."""
        y, shape = self.labels, (len(self.rows), len(self.labels))
        shared = rng.random(shape) < math.sqrt(CORRELATION)
        luck = np.where(shared, rng.random(shape[1]), rng.random(shape))
        n_classes = int(y.max()) + 1
        taken = np.where(shared, rng.random(shape[1]), rng.random(shape))
        # a wrong answer is another class, in proportion to its size
        wrong = (taken[..., None] > self.confusions[y]).sum(-1)
        predicted = np.where(luck < self.recalls[:, y], y, wrong)
        counts = np.stack([np.bincount(y * n_classes + row, minlength=n_classes**2) for row in predicted])
        figures = resampling.compute_confusion_metrics(counts.reshape(-1, n_classes, n_classes))
        draws = None
        if n_draws:
            how = resampling.Resampling(y, np.arange(len(y)), n_draws, rng)
            joint = resampling.bootstrap_jointly(list(np.eye(n_classes)[predicted]), METRICS, how)
            draws = 100 * np.stack([joint[metric] for metric in METRICS], axis=-1)
        return Fold(100 * np.stack([figures[metric] for metric in METRICS], axis=-1), draws, len(y))


def fit_recalls(shares, accuracy, macro_recall):
    """Recall of each class, as a logistic curve over its size, of which accuracy and macro recall are these."""

    def recalls(parameters):
        return 1 / (1 + np.exp(-(parameters[0] + parameters[1] * np.log(shares * len(shares)))))

    def misses(parameters):
        values = recalls(parameters)
        return values @ shares - accuracy, values.mean() - macro_recall

    return recalls(least_squares(misses, (1.5, 0.3)).x)


@cache
def list_settings(table):
    return [
        Setting(table, *place)
        for place in dict.fromkeys((v.dataset, v.rho) for v in published.load_table(table))
    ]


@dataclass(frozen=True, eq=False)
class Judged:
    """A simulated table as it was judged: its cells, the verdict, and what a deficit would need to be found."""

    cells: list
    verdict: difference.TableVerdict
    spreads: np.ndarray
    critical: float

    def fails_with(self, deficit, mask):
        """Whether the table fails when ours are lower by so many points in these cells (cells,)."""
        short, high, tolerance = self._numbers
        short, high = short + deficit * mask, high - deficit * mask
        return bool(((short > tolerance) & (high < 0) & (short / self.spreads > self.critical)).any())

    @cached_property
    def _numbers(self):
        """Of the cells: how far ours are short, the upper end of the difference, the tolerance; (3, cells)."""
        cells = self.cells
        return np.array([(cell.theirs - cell.ours, cell.difference_high, cell.tolerance) for cell in cells]).T


def draw_deviations(settings, noise, pairs, rng):
    """What is taken for training's noise of each data set, from pairs of seeds: per metric draws (draws,), points."""
    tolerances, taken = load_tolerances(), {}
    for dataset in {setting.dataset for setting in settings}:
        seeds = rng.normal(0, 1, (pairs, 2))
        pooled = [
            statistics.pool_training_noise(seeds * points, tolerances.get_noise(metric))
            for metric, points in zip(METRICS, noise)
        ]
        # one generator for all metrics, as the product has it
        seed = rng.integers(2**32)
        taken[dataset] = [
            each.draw_deviation(np.random.default_rng(seed), tolerances.draws) for each in pooled
        ]
    return taken


def judge_true_table(settings, pools, n_folds, rng, *, training=1.0, pairs=0):
    """Judge a table whose figures are ours of some folds of each pool, and theirs of a fold of their own.

    training: how many times as far as assumed trainings differ in truth. pairs: of seeds on each data set that show it.
    """
    tolerances = load_tolerances()
    noise = training * np.array([tolerances.get_noise(metric) for metric in METRICS])
    taken = draw_deviations(settings, noise, pairs, rng)
    lines, theirs, ours_draws, their_draws = [], {}, {}, {}
    for setting, pool in zip(settings, pools):
        chosen = [pool[i] for i in rng.choice(len(pool), n_folds, replace=False)]
        luck = rng.normal(0, 1 / math.sqrt(n_folds), (len(setting.rows), 1)) * noise
        figures = np.mean([fold.figures for fold in chosen], axis=0) + luck
        printed = setting.draw_fold(rng).figures + rng.normal(0, 1, (len(setting.rows), 1)) * noise
        mean_draws = np.mean([fold.draws for fold in chosen], axis=0)
        order = rng.permutation(tolerances.draws)
        shuffled = [np.ascontiguousarray(np.moveaxis(fold.draws[order] / 100, 0, -1)) for fold in chosen]
        for (r, row), (m, metric) in itertools.product(enumerate(setting.rows), enumerate(METRICS)):
            key = (setting.dataset, setting.rho, row, metric)
            theirs[key] = round(float(np.clip(printed[r, m], 0, 100)), 2)
            luck_draws = rng.normal(0, 1, (2, tolerances.draws)) * taken[setting.dataset][m]
            ours_draws[key] = mean_draws[:, r, m] + luck_draws[0] / math.sqrt(n_folds)
            by_fold = [fold_draws[r, m] for fold_draws in shuffled]
            accuracy = theirs[key] if metric == "acc" else None
            their_draws[key] = (
                difference.draw_test_error(by_fold, chosen[0].n, accuracy, tolerances) + luck_draws[1]
            )
            lines.append((*key, figures[r, m], n_folds, "not judged", ""))
    columns = ["dataset", "rho", "method", "metric", "ours", "n", "verdict", "note"]
    frame = pd.DataFrame(lines, columns=columns).astype({"rho": float})
    draws = verdicts.ErrorDraws(ours_draws, their_draws)
    alone = verdicts.judge_cells(frame, theirs, draws, tolerances)
    cells, verdict = difference.judge_table(alone, draws, tolerances.level)
    errors = np.stack([draws.draw_difference(cell.key, cell.theirs) for cell in cells], axis=1)
    spreads = errors.std(0)
    greatest = np.sort(((errors.mean(0) - errors) / spreads).max(1))
    # the least shortfall, in standard errors, whose p is small enough
    critical = greatest[-math.floor((1 - tolerances.level) * (len(greatest) + 1))]
    return Judged(cells, verdict, spreads, float(critical))
