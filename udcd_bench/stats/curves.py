"""ROC and precision-recall curves of one class against the rest, on resampled test sets at once, through weights.

A resampled test set is the same images counted again, so each is a row of weights, and a curve of all of them takes one
sort. Ties share a threshold. Between thresholds an ROC curve is straight; a precision-recall curve is not (Davis &
Goadrich, ICML 2006), so its value at a recall is the precision of the highest threshold that reaches it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from udcd_bench.stats.metrics import Floats

GRID: Floats = np.linspace(0, 1, 101)
"""Where curves are read: false-positive rates, and recalls."""
SPECIFICITY = 0.9
"""S: at which a sensitivity is read."""
_LEAST_RECALLS = np.maximum(GRID, np.finfo(float).tiny) - 1e-12


class Curves(NamedTuple):
    """Of k test sets, fractions; NaN where a set has no image of the class, or no other.

    tpr: (k, G) true-positive rate at each false-positive rate of ``GRID``. precision: (k, G) at each recall of it.
    auroc: (k,) area under the ROC curve. auprc: (k,) average precision. sensitivity: (k,) the most there is at a
    specificity of ``SPECIFICITY`` or more.
    """

    tpr: Floats
    precision: Floats
    auroc: Floats
    auprc: Floats
    sensitivity: Floats


def compute_curves(values: npt.ArrayLike, positive: npt.ArrayLike, weights: npt.ArrayLike) -> Curves:
    """Compute the curves of k test sets.

    values: (n,), higher for the class. positive: (n,), whether an image is of the class. weights: (k, n), how often
    each image is in each set.
    """
    score, truth = np.asarray(values, dtype=np.float64), np.asarray(positive, dtype=bool)
    counts = np.asarray(weights, dtype=np.float64)
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    hits = np.cumsum(counts[:, order] * truth[order], axis=1)[:, last]
    misses = np.cumsum(counts[:, order] * ~truth[order], axis=1)[:, last]
    n_positive, n_negative = hits[:, -1:], misses[:, -1:]
    defined = ((n_positive > 0) & (n_negative > 0))[:, 0]
    tpr = np.pad(hits / np.maximum(n_positive, 1), ((0, 0), (1, 0)))
    fpr = np.pad(misses / np.maximum(n_negative, 1), ((0, 0), (1, 0)))
    precision = hits / np.maximum(hits + misses, 1)
    allowed = (fpr <= 1 - SPECIFICITY + 1e-12).sum(1) - 1
    curves = Curves(
        tpr=np.stack([np.interp(GRID, x, y) for x, y in zip(fpr, tpr)]),
        precision=np.stack([_read_precision(x, y) for x, y in zip(tpr[:, 1:], precision)]),
        auroc=(np.diff(fpr) * (tpr[:, 1:] + tpr[:, :-1]) / 2).sum(1),
        auprc=(np.diff(tpr) * precision).sum(1),
        sensitivity=np.take_along_axis(tpr, allowed[:, None], 1)[:, 0],
    )
    for array in curves:
        array[~defined] = np.nan
    return curves


def _read_precision(recall: Floats, precision: Floats) -> Floats:
    """Read the precision of the highest threshold that reaches each recall of ``GRID``, and finds an image at all."""
    reached = np.searchsorted(recall, _LEAST_RECALLS)
    first = int(np.searchsorted(recall, 0, side="right"))
    chosen: Floats = precision[np.clip(reached, min(first, len(recall) - 1), len(recall) - 1)]
    return chosen
