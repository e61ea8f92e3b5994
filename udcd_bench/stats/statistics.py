"""What chance leaves of a figure: intervals, spreads and comparisons. Pure functions with their own generator.

Whoever calls gives the numpy ``Generator``; the global seed has no part in anything. What is resampled, and how,
is ``resampling``'s; the interval is the percentile interval (Efron & Tibshirani 1993, chapter 13).

A bootstrap knows of the test images' share of chance. Training's is seen by ``spread`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from udcd_bench.stats.resampling import (
    CONFUSION_METRICS,
    Floats,
    bootstrap_jointly,
    compute_confusion_metrics,
    compute_point_estimates,
)

__all__ = [
    "CONFUSION_METRICS",
    "Interval",
    "PairedDifference",
    "Spread",
    "TTest",
    "bootstrap_difference",
    "bootstrap_intervals",
    "bootstrap_jointly",
    "compute_best_share",
    "compute_confusion_metrics",
    "compute_interval",
    "compute_p_value",
    "compute_point_estimates",
    "compute_spread",
    "corrected_resampled_t",
    "estimate_probability_of_best",
    "holm",
]  # fmt: skip

N_DRAWS = 2000
CONFIDENCE_LEVEL = 0.95


class Interval(NamedTuple):
    """A figure and the interval about it; the ends are NaN where nothing can be resampled."""

    value: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """First minus second, its interval, and the two-sided p of no difference."""

    difference: float
    low: float
    high: float
    p: float


class Spread(NamedTuple):
    """Standard deviations between folds and between seeds of one fold; NaN where there is but one."""

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
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    metrics: Sequence[str],
    n_draws: int,
    generator: np.random.Generator,
    *,
    level: float = CONFIDENCE_LEVEL,
) -> dict[str, Interval]:
    """Percentile intervals of a model's figures; scores as in ``joint``."""
    found, here = (
        bootstrap_jointly([scores], labels, groups, metrics, n_draws, generator),
        compute_point_estimates(scores, labels),
    )
    return {
        metric: Interval(here[metric], *compute_interval(found[metric][:, 0], level)) for metric in metrics
    }


def bootstrap_difference(
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    metric: str,
    n_draws: int,
    generator: np.random.Generator,
    *,
    level: float = CONFIDENCE_LEVEL,
) -> PairedDifference:
    """How far a model lies above another on the same test images.

    p is the level at which the interval would just touch zero, (r + 1)/(draws + 1) counted on either side and
    doubled (Davison & Hinkley 1997, 4.2), hence never 0; models that predict alike have p = 1.
    """
    found = bootstrap_jointly([scores_a, scores_b], labels, groups, [metric], n_draws, generator)[metric]
    difference = found[:, 0] - found[:, 1]
    here = (
        compute_point_estimates(scores_a, labels)[metric] - compute_point_estimates(scores_b, labels)[metric]
    )
    if np.isnan(difference).all():
        return PairedDifference(here, math.nan, math.nan, math.nan)
    # sums in another order leave a last digit where there is no difference
    difference[np.abs(difference) < 1e-12] = 0
    return PairedDifference(here, *compute_interval(difference, level), compute_p_value(difference))


def compute_p_value(differences: Floats) -> float:
    """The two-sided p of no difference, of drawn differences; NaN when any is."""
    if np.isnan(differences).any():
        return math.nan
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    return min(1.0, 2 * (float(beyond) + 1) / (len(differences) + 1))


def estimate_probability_of_best(
    scores: Mapping[str, npt.ArrayLike],
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    metric: str,
    winner: str,
    n_draws: int,
    generator: np.random.Generator,
) -> float:
    """Share of the draws in which ``winner`` is the best of all models; a tie of k counts 1/k.

    A posterior probability under a flat prior, as bootstrap shares are (Rubin 1981). NaN as in ``joint``.
    """
    if winner not in scores:
        raise ValueError(f"{winner!r} is none of {', '.join(scores)}")
    found = bootstrap_jointly(list(scores.values()), labels, groups, [metric], n_draws, generator)[metric]
    return compute_best_share(found, list(scores).index(winner))


def compute_best_share(draws: Floats, winner: int) -> float:
    """``probability_of_best`` of drawn figures (draws, models)."""
    if np.isnan(draws).any():
        return math.nan
    best = draws >= draws.max(1, keepdims=True) - 1e-12
    return float((best[:, winner] / best.sum(1)).mean())


def compute_interval(draws: Floats, level: float = CONFIDENCE_LEVEL) -> tuple[float, float]:
    """The percentile interval of drawn values; NaN when any is."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compute_spread(metric_values: Mapping[tuple[int, int], float]) -> Spread:
    """Spreads of figures by (fold, seed), never pooled: folds differ in their images, seeds in chance alone.

    Between seeds: pooled over the folds, about each fold's own mean. Between folds: of the folds' means, in
    which the seeds' share is divided by their number but not taken out.
    """
    by_fold: dict[int, list[float]] = {}
    for (fold, _), figure in metric_values.items():
        by_fold.setdefault(fold, []).append(figure)
    means = [float(np.mean(values)) for values in by_fold.values()]
    free = len(metric_values) - len(by_fold)
    about = sum(float(np.square(np.array(v) - np.mean(v)).sum()) for v in by_fold.values())
    return Spread(
        float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
        math.sqrt(about / free) if free else math.nan,
        len(by_fold),
        len({seed for _, seed in metric_values}),
    )


def holm(p_values: npt.ArrayLike) -> Floats:
    """p corrected for their number (Holm 1979, Scand. J. Statist. 6); NaN stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, math.nan)
    order = [place for place in np.argsort(p, kind="stable") if not math.isnan(p[place])]
    if order:
        steps = p[order] * np.arange(len(order), 0, -1)
        corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def corrected_resampled_t(differences: npt.ArrayLike, n_train: int, n_test: int) -> TTest:
    """Nadeau & Bengio 2003 (Machine Learning 52): a t-test over J folds whose training sets overlap.

    The variance of the mean is (1/J + n_test/n_train) s². NaN for fewer than two folds, and for differences that
    are all equal, since s is 0; but t = 0, p = 1 when they are all zero.
    """
    from scipy.stats import t as student

    d = np.asarray(differences, dtype=np.float64)
    if n_train < 1 or n_test < 1:
        raise ValueError(f"{n_train} training and {n_test} test images: both are at least 1")
    if len(d) < 2 or np.isnan(d).any():
        return TTest(math.nan, math.nan)
    if np.ptp(d) == 0:
        return TTest(0.0, 1.0) if d[0] == 0 else TTest(math.nan, math.nan)
    t = float(d.mean() / math.sqrt((1 / len(d) + n_test / n_train) * d.var(ddof=1)))
    return TTest(t, 2 * float(student.sf(abs(t), len(d) - 1)))
