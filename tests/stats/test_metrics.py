"""The metrics against slow loops from their definitions, against scikit-learn, and where data degenerate."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn import metrics as sk

from udcd_bench.stats import metrics


def draw(n: int = 60, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    labels[:classes] = np.arange(classes)
    scores = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels]
    return scores, labels


def slow(scores: np.ndarray, labels: np.ndarray, ordered: bool) -> dict[str, float]:
    """Every figure by loops over images, pairs, thresholds and bins."""
    n, classes = scores.shape
    p = [[math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in scores.tolist()]
    guess = [max(range(classes), key=lambda c, row=row: row[c]) for row in p]
    true = labels.tolist()
    precisions, recalls, f1s, aurocs, auprcs = [], [], [], [], []
    for c in sorted(set(true)):
        tp = sum(t == c and g == c for t, g in zip(true, guess))
        said, are = guess.count(c), true.count(c)
        precision, recall = (tp / said if said else 0.0), tp / are
        precisions.append(precision)
        recalls.append(recall)
        f1s.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
        yes = [row[c] for row, t in zip(p, true) if t == c]
        no = [row[c] for row, t in zip(p, true) if t != c]
        if not no:
            continue
        wins = sum((a > b) + 0.5 * (a == b) for a, b in itertools.product(yes, no))
        aurocs.append(wins / (len(yes) * len(no)))
        area, before = 0.0, 0.0
        for threshold in sorted({row[c] for row in p}, reverse=True):
            found = sum(v >= threshold for v in yes)
            taken = found + sum(v >= threshold for v in no)
            area += (found / len(yes) - before) * found / taken
            before = found / len(yes)
        auprcs.append(area)
    seen = expected = 0.0
    for a, b in itertools.product(range(classes), repeat=2):
        weight = (a - b) ** 2 if ordered else a != b
        seen += weight * sum(t == a and g == b for t, g in zip(true, guess))
        expected += weight * true.count(a) * guess.count(b) / n
    ece = 0.0
    for k in range(15):
        inside = [i for i in range(n) if k / 15 < max(p[i]) <= (k + 1) / 15]
        if inside:
            right = sum(guess[i] == true[i] for i in inside) / len(inside)
            ece += len(inside) / n * abs(right - sum(max(p[i]) for i in inside) / len(inside))
    ap, rec = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return {
        "acc": sum(t == g for t, g in zip(true, guess)) / n,
        "ap": ap,
        "rec": rec,
        "f1": sum(f1s) / len(f1s),
        "f1_of_means": 2 * ap * rec / (ap + rec) if ap + rec else 0.0,
        "auroc": sum(aurocs) / len(aurocs) if aurocs else 0.5,
        "auprc": sum(auprcs) / len(auprcs) if auprcs else 1.0,
        "kappa": 1 - seen / expected if expected else 0.0,
        "ece": ece,
    }


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "classes"), [(60, 4), (25, 7), (12, 2)])
def test_every_figure_is_what_its_definition_says(n, classes, seed, ordered):
    scores, labels = draw(n, classes, seed)
    assert metrics.compute_metrics(scores, labels, ordered=ordered) == pytest.approx(
        slow(scores, labels, ordered)
    )


def test_tied_scores_count_half():
    scores, labels = draw(80, 3)
    scores = scores[np.random.default_rng(0).integers(0, 10, 80)]
    assert metrics.compute_metrics(scores, labels) == pytest.approx(slow(scores, labels, False))


def test_figures_are_those_of_scikit_learn():
    scores, labels = draw(200, 5, 4)
    got, guess, p = (
        metrics.compute_metrics(scores, labels, ordered=True),
        scores.argmax(1),
        metrics.softmax(scores),
    )
    assert got["acc"] == pytest.approx(sk.accuracy_score(labels, guess))
    assert got["ap"] == pytest.approx(sk.precision_score(labels, guess, average="macro"))
    assert got["rec"] == pytest.approx(sk.balanced_accuracy_score(labels, guess))
    assert got["f1"] == pytest.approx(sk.f1_score(labels, guess, average="macro"))
    assert got["kappa"] == pytest.approx(sk.cohen_kappa_score(labels, guess, weights="quadratic"))
    assert got["auroc"] == pytest.approx(sk.roc_auc_score(labels, p, multi_class="ovr", average="macro"))
    assert got["auprc"] == pytest.approx(sk.average_precision_score(np.eye(5)[labels], p, average="macro"))


@pytest.mark.parametrize("seed", range(30))
def test_ranks_and_average_precision_are_those_of_scipy_and_scikit_learn_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 400))
    values = rng.random(n) if seed % 3 else rng.integers(0, 20, n) / 7
    positive = rng.random(n) < rng.random()
    positive[0] = True
    assert (metrics.compute_ranks(values) == rankdata(values)).all()
    expected = sk.average_precision_score(positive, values)
    assert metrics._compute_average_precision(positive, values) == expected


def test_metrics_and_figures_have_the_same_names():
    assert list(metrics.compute_metrics(*draw())) == list(metrics.METRICS)
    assert all(metric.name == name for name, metric in metrics.METRICS.items())
    assert [name for name, m in metrics.METRICS.items() if m.better == "lower"] == ["ece"]


@pytest.mark.parametrize("seed", range(20))
def test_macro_f1_is_never_above_the_f1_of_the_means(seed):
    rng = np.random.default_rng(seed)
    got = metrics.compute_metrics(rng.normal(size=(30, 5)), rng.integers(0, 5, 30))
    assert got["f1"] <= got["f1_of_means"] + 1e-12


def test_a_class_without_a_test_image_does_not_count():
    scores, labels = draw(60, 4)
    keep = labels != 2
    got = metrics.compute_metrics(scores[keep], labels[keep])
    assert got == pytest.approx(slow(scores[keep], labels[keep], False))
    guess = scores[keep].argmax(1)
    assert 2 in guess
    for name, score in (("ap", sk.precision_score), ("rec", sk.recall_score), ("f1", sk.f1_score)):
        expected = score(labels[keep], guess, average="macro", labels=[0, 1, 3], zero_division=0)
        assert got[name] == pytest.approx(expected)


def test_a_class_that_is_never_predicted_has_precision_zero():
    scores, labels = draw(60, 4)
    scores[:, 1] = -50
    got = metrics.compute_metrics(scores, labels)
    assert got["ap"] == pytest.approx(
        sk.precision_score(labels, scores.argmax(1), average="macro", zero_division=0)
    )


@pytest.mark.parametrize("right", [True, False])
def test_one_image_gives_finite_figures(right):
    got = metrics.compute_metrics([[5.0, 0.0, 0.0]], [0 if right else 1], ordered=True)
    assert all(math.isfinite(value) for value in got.values())
    assert (got["acc"], got["auroc"], got["kappa"]) == (float(right), 0.5, 0.0)


def test_extreme_logits_give_finite_figures():
    got = metrics.compute_metrics(np.array([[1e30, -1e30], [-1e30, 1e30], [1e5, 1e5]]), [0, 1, 0])
    assert all(math.isfinite(value) for value in got.values())


def test_half_precision_logits_are_measured_in_double():
    scores, labels = draw()
    half = scores.astype(np.float16)
    assert metrics.compute_metrics(half, labels) == metrics.compute_metrics(half.astype(np.float64), labels)


def test_a_logit_that_is_not_finite_is_refused():
    scores, labels = draw()
    scores[3, 1] = np.nan
    scores[5, 0] = np.inf
    with pytest.raises(ValueError, match="2 of 60 test images"):
        metrics.compute_metrics(scores, labels)


@pytest.mark.parametrize(
    ("scores", "labels", "says"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "no test image"),
        (np.zeros((2, 3)), [0, 3], "from 0 to 2"),
        (np.zeros((2, 3)), [0, -1], "from 0 to 2"),
        (np.zeros((2, 3)), [0.0, 1.0], "whole numbers"),
        (np.zeros((2, 3)), [0], "do not go together"),
        (np.zeros(3), [0], "do not go together"),
    ],
)
def test_what_cannot_be_measured_is_refused(scores, labels, says):
    with pytest.raises(ValueError, match=says):
        metrics.compute_metrics(scores, labels)


def test_reporting_rules():
    scores, labels = draw(60, 4)
    epochs = np.stack([np.random.default_rng(1).normal(size=scores.shape), scores, -scores])
    each = [metrics.compute_metrics(epoch, labels) for epoch in epochs]
    got = metrics.summarize_epochs(epochs, labels)
    assert got["last"] == each[2]
    assert got["best"] == each[1]
    assert got["mean"]["auroc"] == pytest.approx(sum(e["auroc"] for e in each) / 3)
    with pytest.raises(ValueError, match=r"\(E, n, C\)"):
        metrics.summarize_epochs(scores, labels)


def test_confusion_counts_true_rows_and_predicted_columns():
    scores, labels = draw(60, 4)
    expected = sk.confusion_matrix(labels, scores.argmax(1))
    assert np.array_equal(metrics.count_confusions(scores, labels), expected)
    precision, recall, f1 = metrics.compute_class_metrics(expected)
    assert recall == pytest.approx(sk.recall_score(labels, scores.argmax(1), average=None))
    assert precision == pytest.approx(sk.precision_score(labels, scores.argmax(1), average=None))
    assert f1 == pytest.approx(sk.f1_score(labels, scores.argmax(1), average=None))


def test_ten_epochs_of_a_test_fold_are_measured_quickly():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(10, 2000, 7)), rng.integers(0, 7, 2000)
    metrics.summarize_epochs(scores[:1], labels)
    times = []
    for _ in range(3):
        start = time.process_time()
        metrics.summarize_epochs(scores, labels)
        times.append(time.process_time() - start)
    assert min(times) < 1
