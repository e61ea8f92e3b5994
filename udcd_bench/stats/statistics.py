"""Bootstrap intervals, paired tests, spread between seeds and folds, and Holm's correction. Pure functions.

The caller gives the NumPy ``Generator``; the global seed is never used. ``resampling`` draws the test sets; the
interval is the percentile interval (Efron & Tibshirani 1993, chapter 13).

A bootstrap measures the variation due to the test images. Only ``compute_spread`` sees that of training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from udcd_bench.stats.metrics import Floats, compute_ranks
from udcd_bench.stats.resampling import (
    CONFUSION_METRICS,
    Resampling,
    bootstrap_classes,
    bootstrap_jointly,
    compute_class_metrics,
    compute_confusion_metrics,
    compute_point_estimates,
)

__all__ = [
    "ASSUMED_WEIGHT",
    "CONFUSION_METRICS",
    "Interval",
    "PairedDifference",
    "Resampling",
    "Spread",
    "TTest",
    "TrainingNoise",
    "bootstrap_classes",
    "bootstrap_difference",
    "bootstrap_intervals",
    "bootstrap_jointly",
    "compute_best_share",
    "compute_class_metrics",
    "compute_confusion_metrics",
    "compute_interval",
    "compute_joint_half_widths",
    "compute_p_value",
    "compute_point_estimates",
    "compute_spread",
    "corrected_resampled_t",
    "correlate_ranks",
    "estimate_probability_of_best",
    "holm",
    "pool_training_noise",
]  # fmt: skip

N_DRAWS = 2000
CONFIDENCE_LEVEL = 0.95
ASSUMED_WEIGHT = 1
"""S: degrees of freedom that the assumed noise of training counts for, beside those of repeated seeds."""


class Interval(NamedTuple):
    """A value and its interval; the ends are NaN when nothing can be resampled."""

    value: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """The first model minus the second, the interval, and the two-sided p of no difference."""

    difference: float
    low: float
    high: float
    p: float


class Spread(NamedTuple):
    """Standard deviations between folds, and between seeds of one fold; NaN when there is only one."""

    folds: float
    seeds: float
    n_folds: int
    n_seeds: int


class TTest(NamedTuple):
    """A statistic and its two-sided p."""

    t: float
    p: float


def bootstrap_intervals(
    scores: npt.ArrayLike,
    metrics: Sequence[str],
    resampling: Resampling,
    *,
    level: float = CONFIDENCE_LEVEL,
) -> dict[str, Interval]:
    """Compute percentile intervals of a model's metrics, at the confidence ``level`` (0 to 1).

    scores: (n, C), or (E, n, C), whose metric is the mean over the epochs.
    """
    draws = bootstrap_jointly([scores], metrics, resampling)
    values = compute_point_estimates(scores, resampling.labels)
    return {
        metric: Interval(values[metric], *compute_interval(draws[metric][:, 0], level)) for metric in metrics
    }


def bootstrap_difference(
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    metric: str,
    resampling: Resampling,
    *,
    level: float = CONFIDENCE_LEVEL,
) -> PairedDifference:
    """Compute how far a model lies above another on the same test images.

    p is the level at which the interval would just touch zero, (r + 1)/(draws + 1) counted on either side and
    doubled (Davison & Hinkley 1997, 4.2), hence never 0; models that predict alike have p = 1.
    """
    draws = bootstrap_jointly([scores_a, scores_b], [metric], resampling)[metric]
    difference = draws[:, 0] - draws[:, 1]
    value_a, value_b = (
        compute_point_estimates(scores, resampling.labels)[metric] for scores in (scores_a, scores_b)
    )
    value = value_a - value_b
    if np.isnan(difference).all():
        return PairedDifference(value, math.nan, math.nan, math.nan)
    # sums in another order differ in the last digit
    difference[np.abs(difference) < 1e-12] = 0
    return PairedDifference(value, *compute_interval(difference, level), compute_p_value(difference))


def compute_p_value(differences: Floats) -> float:
    """Compute the two-sided p of no difference from bootstrapped differences (draws,); NaN when any is NaN."""
    if np.isnan(differences).any():
        return math.nan
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    return min(1.0, 2 * (float(beyond) + 1) / (len(differences) + 1))


def estimate_probability_of_best(
    scores: Mapping[str, npt.ArrayLike], metric: str, winner: str, resampling: Resampling
) -> float:
    """Estimate the probability that ``winner`` is the best model: its share of the draws; a tie of k counts 1/k.

    Bootstrap shares are posterior probabilities under a flat prior (Rubin 1981). NaN as in ``bootstrap_jointly``.
    """
    if winner not in scores:
        raise ValueError(f"{winner!r} is not one of {', '.join(scores)}")
    draws = bootstrap_jointly(list(scores.values()), [metric], resampling)[metric]
    return compute_best_share(draws, list(scores).index(winner))


def compute_best_share(draws: Floats, winner: int) -> float:
    """Compute the share of draws in which model ``winner`` is the best, of a metric's draws (draws, models)."""
    if np.isnan(draws).any():
        return math.nan
    best = draws >= draws.max(1, keepdims=True) - 1e-12
    return float((best[:, winner] / best.sum(1)).mean())


def compute_interval(draws: Floats, level: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
    """Compute the percentile interval of values (draws,); NaN when any is NaN."""
    (interval,) = compute_intervals(draws[None], level)
    return interval


def compute_intervals(draws: Floats, level: float = CONFIDENCE_LEVEL) -> list[tuple[float, float]]:
    """Compute the percentile intervals of rows of values (rows, draws); NaN for a row with a NaN."""
    ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return [(float(low), float(high)) for low, high in ends.T]


def compute_joint_half_widths(differences: Floats, level: float = CONFIDENCE_LEVEL) -> Floats:
    """Compute half-widths of intervals that hold together at ``level``, of differences drawn jointly (draws, rows).

    In standard errors all are as wide as the largest error of each draw wants (max T, Westfall & Young 1993).
    """
    errors = differences - differences.mean(0)
    spreads = errors.std(0)
    in_spreads = np.abs(errors) / np.where(spreads > 0, spreads, 1)
    half: Floats = spreads * np.quantile(in_spreads.max(1), level)
    return half


def compute_spread(metric_values: Mapping[tuple[int, int], float]) -> Spread:
    """Compute the spreads of a metric by (fold, seed): folds differ in their images, seeds in chance alone.

    Between seeds: around each fold's own mean, pooled over the folds. Between folds: of the folds' means, in which
    the variance between seeds is divided by their number but not removed.
    """
    by_fold: dict[int, list[float]] = {}
    for (fold, _), figure in metric_values.items():
        by_fold.setdefault(fold, []).append(figure)
    means = [float(np.mean(values)) for values in by_fold.values()]
    free = len(metric_values) - len(by_fold)
    squares = sum(float(np.square(np.array(v) - np.mean(v)).sum()) for v in by_fold.values())
    return Spread(
        float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
        math.sqrt(squares / free) if free else math.nan,
        len(by_fold),
        len({seed for _, seed in metric_values}),
    )


@dataclass(frozen=True)
class TrainingNoise:
    """How far a metric differs between trainings that differ in their seed alone, in points of percent.

    assumed: standard deviation that is assumed before any seed is seen.
    seen: the one between seeds, NaN where no row has several. pairs: independent pairs of seeds behind it, its degrees
    of freedom.
    """

    assumed: float
    seen: float = math.nan
    pairs: int = 0

    @property
    def deviation(self) -> float:
        """The standard deviation that is taken: the seen one, the assumed one counting as ``ASSUMED_WEIGHT`` pairs."""
        if not self.pairs:
            return self.assumed
        squares = self.pairs * self.seen**2 + ASSUMED_WEIGHT * self.assumed**2
        return math.sqrt(squares / self.freedom)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the deviation; 0 for the assumption alone, which is taken as it stands."""
        return self.pairs + ASSUMED_WEIGHT if self.pairs else 0

    def draw_deviation(self, generator: np.random.Generator, draws: int) -> Floats:
        """Draw what the deviation may truly be (draws,): a normal of it is Student's t."""
        if not self.freedom:
            return np.full(draws, self.deviation)
        widening: Floats = np.sqrt(self.freedom / generator.chisquare(self.freedom, draws))
        return self.deviation * widening


def pool_training_noise(values: Iterable[Sequence[float]], assumed: float) -> TrainingNoise:
    """Pool the spread between seeds. values: figures of the seeds of one row on one fold, points, for each of them."""
    several = [np.asarray(of_row) for of_row in values if len(of_row) > 1]
    pairs = sum(len(of_row) - 1 for of_row in several)
    squares = sum(float(np.square(of_row - of_row.mean()).sum()) for of_row in several)
    return TrainingNoise(assumed, math.sqrt(squares / pairs), pairs) if pairs else TrainingNoise(assumed)


def correlate_ranks(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Compute Spearman's rank correlation of two lists (n,), neither of which holds the same value n times."""
    ranks, other_ranks = (compute_ranks(np.asarray(values, dtype=np.float64)) for values in (one, other))
    return float(np.corrcoef(ranks, other_ranks)[1, 0])


def holm(p_values: npt.ArrayLike) -> Floats:
    """Correct p values for their number (Holm 1979, Scand. J. Statist. 6); NaN stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, math.nan)
    order = [index for index in np.argsort(p, kind="stable") if not math.isnan(p[index])]
    if order:
        steps = p[order] * np.arange(len(order), 0, -1)
        corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def corrected_resampled_t(differences: npt.ArrayLike, n_train: int, n_test: int) -> TTest:
    """Test differences over J folds whose training sets overlap (Nadeau & Bengio 2003, Machine Learning 52).

    It is a t-test in which the variance of the mean is (1/J + n_test/n_train) s². NaN for fewer than two folds, and for
    differences that are all equal, since s is 0; but t = 0, p = 1 when they are all zero.
    """
    from scipy.special import stdtr  # scipy.stats has the same, and takes a second to import

    d = np.asarray(differences, dtype=np.float64)
    if n_train < 1 or n_test < 1:
        raise ValueError(f"{n_train} training and {n_test} test images: both are at least 1")
    if len(d) < 2 or np.isnan(d).any():
        return TTest(math.nan, math.nan)
    if np.ptp(d) == 0:
        return TTest(0.0, 1.0) if d[0] == 0 else TTest(math.nan, math.nan)
    t = float(d.mean() / math.sqrt((1 / len(d) + n_test / n_train) * d.var(ddof=1)))
    return TTest(t, 2 * float(stdtr(len(d) - 1, -abs(t))))
