"""Metrics of a test set: pure functions of logits (n, C) and labels (n,), as fractions.

AP is macro-averaged precision, which is what the released code computes under that name. F1 is the mean of
the per-class F1; ``f1_of_means``, 2·AP·REC/(AP + REC), is the other value that the paper's tables print as F1
and is never below it (Opitz & Burst 2019, arXiv:1911.03347).

Macro averages run over the classes the test labels contain, so that REC is balanced accuracy: a class without
a test image has no recall, and its precision would be 0 by convention and not by measurement. AUROC and AUPRC
run over the classes with test images on both sides. What is not defined takes its value at chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ECE_BINS = 15
"""Equal-width bins of the expected calibration error (Guo et al. 2017)."""


@dataclass(frozen=True)
class Metric:
    """A metric's name, its title in tables, its description, and whether higher or lower is better."""

    name: str
    title: str
    description: str
    better: Literal["higher", "lower"] = "higher"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("acc", "ACC", "accuracy"),
        Metric("ap", "AP", "macro-averaged precision"),
        Metric("rec", "REC", "macro-averaged recall (balanced accuracy)"),
        Metric("f1", "F1", "macro F1, the mean of the per-class F1"),
        Metric("f1_of_means", "F1 of means", "harmonic mean of AP and REC"),
        Metric("auroc", "AUROC", "area under the ROC curve, one class against the rest, macro-averaged"),
        Metric(
            "auprc", "AUPRC", "average precision of the ranking, one class against the rest, macro-averaged"
        ),
        Metric("kappa", "κ", "Cohen's kappa, quadratically weighted where the classes are ordered"),
        Metric("ece", "ECE", f"expected calibration error, {ECE_BINS} equal-width bins", "lower"),
    )
}


def compute_metrics(
    scores: npt.ArrayLike, labels: npt.ArrayLike, *, ordered: bool = False
) -> dict[str, float]:
    """Compute every metric of ``METRICS`` on logits (n, C) and labels (n,) in [0, C).

    ordered: the classes are grades, so kappa takes quadratic weights.

    Raises ValueError when there is no image, a logit is not finite, or a label is out of range.
    """
    z, y = _check_inputs(scores, labels)
    p = softmax(z)
    matrix = _count_pairs(y, p.argmax(1), z.shape[1])
    present = matrix.sum(1) > 0
    precision, recall, f1 = (values[present] for values in compute_class_metrics(matrix))
    ap, rec = float(precision.mean()), float(recall.mean())
    return {
        "acc": float(np.trace(matrix) / matrix.sum()),
        "ap": ap,
        "rec": rec,
        "f1": float(f1.mean()),
        "f1_of_means": 2 * ap * rec / (ap + rec) if ap + rec else 0.0,
        "auroc": _auroc(p, y),
        "auprc": _auprc(p, y),
        "kappa": kappa(matrix, quadratic=ordered),
        "ece": compute_calibration_error(p, y),
    }


def summarize_epochs(
    scores: npt.ArrayLike, labels: npt.ArrayLike, *, ordered: bool = False
) -> dict[str, dict[str, float]]:
    """Compute the metrics of the reported epochs, scores (E, n, C), by each reporting rule.

    ``mean`` of the epochs' metrics; ``last`` epoch; ``best`` epoch, the first with the highest accuracy on
    the test set itself, hence optimistic.
    """
    array = np.asarray(scores)
    if array.ndim != 3 or len(array) == 0:
        raise ValueError(f"scores of epochs have the shape (E, n, C), not {array.shape}")
    epochs = [compute_metrics(epoch, labels, ordered=ordered) for epoch in array]
    return {
        "mean": {name: float(np.mean([epoch[name] for epoch in epochs])) for name in epochs[0]},
        "last": epochs[-1],
        "best": max(epochs, key=lambda epoch: epoch["acc"]),
    }


def count_labels(labels: npt.ArrayLike, n_classes: int) -> list[int]:
    """Count labels (n,) by class; empty for no labels."""
    array = np.asarray(labels, dtype=np.int64)
    return np.bincount(array, minlength=n_classes).tolist() if len(array) else []


def count_confusions(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Ints:
    """Count confusions (C, C) of logits (n, C) and labels (n,): rows are true classes, columns predicted ones."""
    z, y = _check_inputs(scores, labels)
    return _count_pairs(y, z.argmax(1), z.shape[1])


def compute_class_metrics(matrix: Ints) -> tuple[Floats, Floats, Floats]:
    """Compute precision, recall and F1 of every class, (C,) each, from counts (C, C); 0/0 is 0."""
    hits = np.diag(matrix).astype(np.float64)
    predicted, true = matrix.sum(0), matrix.sum(1)
    return (
        hits / np.maximum(predicted, 1),
        hits / np.maximum(true, 1),
        2 * hits / np.maximum(predicted + true, 1),
    )


def kappa(matrix: Ints, *, quadratic: bool = False) -> float:
    """Compute Cohen's kappa of counts (C, C), in [-1, 1]; 0 when the disagreement expected by chance is 0.

    quadratic: weights grow with the squared distance between classes.
    """
    n_classes = len(matrix)
    rank = np.arange(n_classes)
    distance = (rank[:, None] - rank[None, :]) ** 2
    weight = distance if quadratic else (distance > 0).astype(np.int64)
    chance = np.outer(matrix.sum(1), matrix.sum(0)) / matrix.sum()
    expected = float((weight * chance).sum())
    return 1 - float((weight * matrix).sum()) / expected if expected else 0.0


def compute_calibration_error(p: Floats, y: Ints, bins: int = ECE_BINS) -> float:
    """Compute the expected calibration error of probabilities (n, C), in [0, 1].

    It is the mean over images of |accuracy − confidence| of their bin. The bins of the highest probability are
    (0, 1/bins], …, (1 − 1/bins, 1].
    """
    confidence = p.max(1)
    right = (p.argmax(1) == y).astype(np.float64)
    bin_index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(bin_index, right - confidence, minlength=bins)).sum() / len(y))


def softmax(scores: Floats) -> Floats:
    """Compute probabilities (n, C) of logits (n, C)."""
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    result: Floats = shifted / shifted.sum(1, keepdims=True)
    return result


def _check_inputs(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Ints]:
    z = np.asarray(scores, dtype=np.float64)
    y = np.asarray(labels)
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise ValueError(f"logits (n, C) and labels (n,) do not go together: {z.shape} and {y.shape}")
    if not len(y):
        raise ValueError("there is no test image, so there is nothing to measure")
    if not np.isfinite(z).all():
        raise ValueError(
            f"{int((~np.isfinite(z)).any(1).sum())} of {len(z)} test images have a logit that is not finite"
        )
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= z.shape[1]:
        raise ValueError(f"labels are whole numbers from 0 to {z.shape[1] - 1}")
    return z, y.astype(np.int64)


def _count_pairs(y: Ints, predicted: Ints, n_classes: int) -> Ints:
    counts = np.bincount(y * n_classes + predicted, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).astype(np.int64)


def _auroc(p: Floats, y: Ints) -> float:
    """Compute Mann–Whitney's U over its maximum, one class against the rest; ties count one half."""
    positive = y[:, None] == np.arange(p.shape[1])
    n_positive = positive.sum(0)
    both = (n_positive > 0) & (n_positive < len(y))
    if not both.any():
        return 0.5
    positive, n_positive = positive[:, both], n_positive[both]
    ranks = np.apply_along_axis(compute_ranks, 0, p[:, both])
    u = (ranks * positive).sum(0) - n_positive * (n_positive + 1) / 2
    return float((u / (n_positive * (len(y) - n_positive))).mean())


def compute_ranks(values: Floats) -> Floats:
    """Ranks (n,) of values (n,) from 1, equal values sharing the mean of theirs: ``scipy.stats.rankdata``."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[codes]
    return ranks


def _auprc(p: Floats, y: Ints) -> float:
    positive = y[:, None] == np.arange(p.shape[1])
    both = positive.any(0) & ~positive.all(0)
    if not both.any():
        return 1.0
    return float(np.mean([_compute_average_precision(positive[:, c], p[:, c]) for c in np.flatnonzero(both)]))


def _compute_average_precision(positive: npt.NDArray[np.bool_], values: Floats) -> float:
    """Precision at every threshold, weighted by the recall gained: scikit-learn's ``average_precision_score``.

    positive: (n,), at least one true. values: (n,). Importing scipy and scikit-learn would take each worker a second.
    """
    order = np.argsort(-values, kind="stable")
    last = np.append(
        np.flatnonzero(np.diff(values[order])), len(values) - 1
    )  # of the images of each threshold
    hits = np.cumsum(positive[order], dtype=np.float64)[last]
    # from the lowest threshold to the highest, as scikit-learn adds them up
    gained = -np.diff(np.append((hits / hits[-1])[::-1], 0.0))
    return float(max(0.0, np.sum(gained * (hits / (last + 1))[::-1])))
