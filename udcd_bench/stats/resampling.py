"""Bootstrap: metrics of many resampled test sets at once, through confusion counts instead of images.

Images of one lesion, and duplicates, are not independent, so *groups* are resampled and not images (Davison
& Hinkley 1997, section 3.8), within classes, so that every draw has the test set's class sizes. A group's class is
that of its first image.

Groups whose images were predicted alike are exchangeable, so a draw is one multinomial over the different
patterns of predictions instead of n indices: the same distribution, hundreds of times faster.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from udcd_bench.stats.metrics import Floats, count_confusions

CONFUSION_METRICS = ("acc", "ap", "rec", "f1", "f1_of_means")
"""Metrics that a confusion matrix determines."""


@dataclass(frozen=True, eq=False)
class Resampling:
    """What a bootstrap resamples, how often, and by which random numbers.

    labels: (n,), the true class of each test image, 0 to C - 1.
    groups: (n,), images of one group are resampled together.
    n_draws: resampled test sets, at least 1.
    generator: every bootstrap advances it, so a second one with the same object draws other test sets.
    """

    labels: npt.ArrayLike
    groups: npt.ArrayLike
    n_draws: int
    generator: np.random.Generator


def compute_confusion_metrics(counts: npt.ArrayLike) -> dict[str, Floats]:
    """Compute ``CONFUSION_METRICS`` of confusion matrices (…, C, C), each (…), as ``metrics.compute_metrics`` does."""
    matrix = np.asarray(counts, dtype=np.float64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    predicted, true = matrix.sum(-2), matrix.sum(-1)
    present = true > 0
    n_present = np.maximum(present.sum(-1), 1)

    def macro(divisor: Floats, share: float = 1.0) -> Floats:
        mean: Floats = (share * hits / np.maximum(divisor, 1) * present).sum(-1) / n_present
        return mean

    ap, rec = macro(predicted), macro(true)
    return {
        "acc": hits.sum(-1) / np.maximum(true.sum(-1), 1),
        "ap": ap,
        "rec": rec,
        "f1": macro(predicted + true, 2.0),
        "f1_of_means": 2 * ap * rec / np.where(ap + rec > 0, ap + rec, 1),
    }


def bootstrap_jointly(
    scores: Sequence[npt.ArrayLike], metrics: Sequence[str], resampling: Resampling
) -> dict[str, Floats]:
    """Bootstrap the metrics of several models on the same resampled test sets: metric → (draws, models).

    scores: of each model (n, C), or (E, n, C), whose metric is the mean over the epochs, as tables report it.

    All draws are NaN when no class has two groups.
    Raises ValueError when shapes do not match or a metric is not among ``CONFUSION_METRICS``.
    """
    if unknown := set(metrics) - set(CONFUSION_METRICS):
        raise ValueError(
            f"no confusion matrix gives {', '.join(sorted(unknown))}; it gives {CONFUSION_METRICS}"
        )
    sums = {metric: np.zeros((resampling.n_draws, len(scores))) for metric in metrics}
    epochs = np.zeros(len(scores))
    for model, counts in _draw_counts(scores, resampling):
        values = compute_confusion_metrics(counts)
        epochs[model] += 1
        for metric in metrics:
            sums[metric][:, model] += values[metric]
    with np.errstate(invalid="ignore"):  # without any draw it is 0 / 0
        return {metric: total / epochs for metric, total in sums.items()}


def bootstrap_classes(scores: Sequence[npt.ArrayLike], resampling: Resampling) -> dict[str, Floats]:
    """Bootstrap ``compute_class_metrics`` of several models on the same resampled test sets: (draws, models, C).

    scores, and what is NaN: as in ``bootstrap_jointly``.
    """
    sums: dict[str, Floats] = {}
    epochs = np.zeros((len(scores), 1))
    for model, counts in _draw_counts(scores, resampling):
        epochs[model] += 1
        for metric, values in compute_class_metrics(counts).items():
            shape = (resampling.n_draws, len(scores), values.shape[-1])
            sums.setdefault(metric, np.zeros(shape))[:, model] += values
    return {metric: total / epochs for metric, total in sums.items()}


def compute_class_metrics(counts: npt.ArrayLike) -> dict[str, Floats]:
    """Compute each class's recall, precision and F1 from confusion matrices (…, C, C), each (…, C).

    All are NaN for a class without images; precision is 0 for a class that is never predicted.
    """
    matrix = np.asarray(counts, dtype=np.float64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    predicted, true = matrix.sum(-2), matrix.sum(-1)
    absent = np.where(true > 0, 0.0, math.nan)
    return {
        "recall": hits / np.maximum(true, 1) + absent,
        "precision": hits / np.maximum(predicted, 1) + absent,
        "f1": 2 * hits / np.maximum(predicted + true, 1) + absent,
    }


def _draw_counts(
    scores: Sequence[npt.ArrayLike], resampling: Resampling
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Draw confusion matrices: each model's index and (draws, C, C) for each of its epochs, in order.

    None where no class has two groups. Raises ValueError when shapes do not match.
    """
    n_draws = resampling.n_draws
    predictions, y, n_classes = _predict_classes(scores, resampling.labels)
    if n_draws < 1:
        raise ValueError(f"n_draws is {n_draws}; give 1 or more")
    bounds = np.cumsum([0, *(len(model) for model in predictions)])
    stacked = np.concatenate(predictions)
    times, patterns = _sample_patterns(
        np.vstack([y, stacked]), np.asarray(resampling.groups), n_draws, resampling.generator
    )
    if times is None:
        return
    # patterns are sorted, their labels first
    of_label = np.searchsorted(patterns[0], np.arange(n_classes + 1))
    for model, (start, end) in enumerate(itertools.pairwise(bounds)):
        for epoch in patterns[1 + start : 1 + end]:
            predicted = np.eye(n_classes, dtype=np.float32)[epoch]
            counts = np.empty((n_draws, n_classes, n_classes), dtype=np.float32)
            for label, (low, high) in enumerate(itertools.pairwise(of_label)):
                counts[:, label] = times[:, low:high] @ predicted[low:high]
            yield model, counts


def sample_weights(resampling: Resampling) -> Floats | None:
    """Sample test sets as ``bootstrap_jointly`` does: how often each image is in each, (draws, n).

    None when no class has two groups.
    """
    labels, groups = np.asarray(resampling.labels), np.asarray(resampling.groups)
    _, first, of_group = np.unique(groups, return_index=True, return_inverse=True)
    times = np.zeros((resampling.n_draws, len(first)))
    of_class = labels[first]
    if np.bincount(of_class).max() < 2:
        return None
    for label in np.unique(of_class):
        members = np.flatnonzero(of_class == label)
        shares = np.full(len(members), 1 / len(members))
        times[:, members] = resampling.generator.multinomial(len(members), shares, size=resampling.n_draws)
    weights: Floats = times[:, of_group.reshape(-1)]
    return weights


def compute_point_estimates(scores: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """Compute ``CONFUSION_METRICS`` of scores (n, C), or their means over the epochs of (E, n, C)."""
    epochs = [compute_confusion_metrics(count_confusions(epoch, labels)) for epoch in _as_epochs(scores)]
    return {metric: float(np.mean([epoch[metric] for epoch in epochs])) for metric in CONFUSION_METRICS}


def _as_epochs(scores: npt.ArrayLike) -> Floats:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or not len(array):
        raise ValueError(f"scores have the shape (n, C) or (E, n, C), not {np.shape(scores)}")
    return array


def _predict_classes(
    scores: Sequence[npt.ArrayLike], labels: npt.ArrayLike
) -> tuple[list[npt.NDArray[np.int64]], npt.NDArray[np.int64], int]:
    """Return the predicted classes (E, n) of each model, the labels (n,), and the number of classes."""
    models = [_as_epochs(model) for model in scores]
    if not models or len({model.shape[-1] for model in models}) != 1:
        raise ValueError("one model or more, of the same classes")
    for model in models:
        for epoch in model:
            count_confusions(epoch, labels)  # raises for what cannot be measured
    y = np.asarray(labels).astype(np.int64)
    return [model.argmax(-1).astype(np.int64) for model in models], y, models[0].shape[-1]


def _sample_patterns(
    labels_and_predictions: npt.NDArray[np.int64],
    groups: npt.NDArray[np.generic],
    n_draws: int,
    generator: np.random.Generator,
) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.int64]]:
    """Count how often each pattern of an image's label and predictions is in each draw.

    labels_and_predictions: (1 + k, n), the labels first. Returns counts (draws, P), or None when no class has two
    groups, and the patterns (1 + k, P).
    """
    if groups.shape != labels_and_predictions.shape[1:]:
        raise ValueError(
            f"groups are one an image: {groups.shape} for {labels_and_predictions.shape[1]} images"
        )
    patterns, of_image = np.unique(labels_and_predictions, axis=1, return_inverse=True)
    kinds = _count_kinds(labels_and_predictions[0], groups, of_image.reshape(-1))
    if all(sum(of_class.values()) < 2 for of_class in kinds.values()):
        return None, patterns
    # a draw is a column, so that what is added below lies together
    times = np.zeros((patterns.shape[1], n_draws), dtype=np.float32)
    for _, of_class in sorted(kinds.items()):
        n_groups = np.array(list(of_class.values()))
        sampled = generator.multinomial(n_groups.sum(), n_groups / n_groups.sum(), size=n_draws)
        for kind, counts in zip(of_class, sampled.T.astype(np.float32)):
            for pattern in np.frombuffer(kind, dtype=np.int64):
                times[pattern] += counts
    return times.T, patterns


def _count_kinds(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.generic], of_image: npt.NDArray[np.int64]
) -> dict[int, dict[bytes, int]]:
    """Count the groups of each class that hold the same patterns: class → their patterns, sorted → how many groups.

    of_image: (n,), the pattern of each image.
    """
    _, first, of_group = np.unique(groups, return_index=True, return_inverse=True)
    by_group = of_image[np.lexsort((of_image, of_group.reshape(-1)))].astype(np.int64)
    ends = np.cumsum(np.bincount(of_group.reshape(-1))).tolist()
    patterns, size = by_group.tobytes(), by_group.itemsize
    kinds: dict[int, dict[bytes, int]] = {}
    for label, start, end in zip(labels[first].tolist(), [0, *ends], ends):
        kind, of_class = patterns[size * start : size * end], kinds.setdefault(label, {})
        of_class[kind] = of_class.get(kind, 0) + 1
    return kinds
