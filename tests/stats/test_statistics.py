"""Intervals and tests against slow loops written from their definitions, and against cases with a known answer."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from scipy import stats

from udcd_bench.stats import metrics, statistics
from udcd_bench.stats.statistics import CONFUSION_METRICS, Resampling


def made(n=60, classes=3, right=0.7, seed=0, per_group=1, epochs=0):
    """Scores, labels and groups: the images of a group are near copies."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, -(-n // per_group)).repeat(per_group)[:n]
    groups = np.arange(-(-n // per_group)).repeat(per_group)[:n]
    shape = (max(epochs, 1), n, classes)
    scores = draw.normal(size=shape)
    hit = draw.random(shape[:2]) < right
    scores[hit, np.broadcast_to(labels, shape[:2])[hit]] += 5
    return scores if epochs else scores[0], labels, groups


def generator(seed=1):
    return np.random.default_rng(seed)


def slow_figure(predicted, labels, metric):
    """One figure by its definition, class by class."""
    there = sorted(set(labels))
    pairs = list(zip(predicted, labels))
    ap, rec, f1 = 0.0, 0.0, 0.0
    for c in there:
        hits = sum(p == y == c for p, y in pairs)
        said, true = sum(p == c for p, _ in pairs), sum(y == c for _, y in pairs)
        ap += (hits / said if said else 0) / len(there)
        rec += hits / true / len(there)
        f1 += 2 * hits / (said + true) / len(there)
    acc = sum(p == y for p, y in pairs) / len(pairs)
    means = 2 * ap * rec / (ap + rec) if ap + rec else 0.0
    return {"acc": acc, "ap": ap, "rec": rec, "f1": f1, "f1_of_means": means}[metric]


def slow_draws(models, labels, groups, metric, draws, draw):
    """Loops: groups by class, drawn with replacement, their images put together and measured."""
    members = {g: [i for i in range(len(labels)) if groups[i] == g] for g in sorted(set(groups))}
    by_class = {}
    for group, images in members.items():
        by_class.setdefault(labels[images[0]], []).append(group)
    predicted = [scores.argmax(1).tolist() for scores in models]
    y = labels.tolist()
    rows = []
    for _ in range(draws):
        images = []
        for there in by_class.values():
            for pick in draw.integers(0, len(there), len(there)):
                images += members[there[pick]]
        drawn = [y[i] for i in images]
        rows.append([slow_figure([answers[i] for i in images], drawn, metric) for answers in predicted])
    return np.array(rows)


# --- rates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_the_metrics(seed):
    scores, labels, _ = made(40, 5, 0.4, seed)
    labels[labels == 3] = 2  # a class without a test image
    wanted, got = (
        metrics.compute_metrics(scores, labels),
        statistics.compute_confusion_metrics(metrics.count_confusions(scores, labels)),
    )
    assert {m: float(got[m]) for m in CONFUSION_METRICS} == pytest.approx(
        {m: wanted[m] for m in CONFUSION_METRICS}
    )
    assert statistics.compute_point_estimates(scores, labels) == pytest.approx(
        {m: wanted[m] for m in CONFUSION_METRICS}
    )


def test_rates_of_many_matrices_at_once():
    matrices = generator().integers(0, 9, (4, 2, 3, 3))
    got = statistics.compute_confusion_metrics(matrices)
    for place in itertools.product(range(4), range(2)):
        one = statistics.compute_confusion_metrics(matrices[place])
        assert {m: got[m][place] for m in CONFUSION_METRICS} == pytest.approx(
            {m: float(one[m]) for m in CONFUSION_METRICS}
        )


# --- the bootstrap ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_group", [1, 3])
@pytest.mark.parametrize("metric", CONFUSION_METRICS)
def test_the_draws_are_distributed_as_the_loops(metric, per_group):
    scores, labels, groups = made(45, per_group=per_group)
    slow = slow_draws([scores], labels, groups, metric, 600, generator(2))[:, 0]
    resampling = Resampling(labels, groups, 4000, generator())
    fast = statistics.bootstrap_jointly([scores], [metric], resampling)[metric][:, 0]
    assert fast.mean() == pytest.approx(slow.mean(), abs=4 * slow.std() / math.sqrt(600) + 1e-9)
    assert fast.std() == pytest.approx(slow.std(), rel=0.15)
    assert stats.ks_2samp(slow, fast).pvalue > 1e-3


def test_groups_of_mixed_labels_go_with_their_first_image():
    scores, labels, _ = made(40)
    groups = np.arange(40) // 4  # labels are mixed inside
    slow = slow_draws([scores], labels, groups, "f1", 600, generator(2))[:, 0]
    resampling = Resampling(labels, groups, 4000, generator())
    fast = statistics.bootstrap_jointly([scores], ["f1"], resampling)["f1"][:, 0]
    assert stats.ks_2samp(slow, fast).pvalue > 1e-3


def test_models_share_their_draws():
    scores, labels, groups = made(45)
    other = made(45, seed=7)[0]
    slow = slow_draws([scores, other], labels, groups, "acc", 600, generator(2))
    resampling = Resampling(labels, groups, 4000, generator())
    fast = statistics.bootstrap_jointly([scores, other], ["acc"], resampling)["acc"]
    assert (fast[:, 0] - fast[:, 1]).std() == pytest.approx((slow[:, 0] - slow[:, 1]).std(), rel=0.15)
    resampling = Resampling(labels, groups, 50, generator())
    twice = statistics.bootstrap_jointly([scores, scores], ["acc"], resampling)["acc"]
    assert (twice[:, 0] == twice[:, 1]).all()


def test_epochs_are_averaged_within_a_draw():
    scores, labels, groups = made(50, epochs=3)
    whole = statistics.bootstrap_jointly(
        [scores], CONFUSION_METRICS, Resampling(labels, groups, 200, generator())
    )
    parts = statistics.bootstrap_jointly(
        list(scores), CONFUSION_METRICS, Resampling(labels, groups, 200, generator())
    )
    for metric in CONFUSION_METRICS:
        assert whole[metric][:, 0] == pytest.approx(parts[metric].mean(1))
    got = statistics.bootstrap_intervals(
        scores, CONFUSION_METRICS, Resampling(labels, groups, 200, generator())
    )
    assert got["f1"].value == pytest.approx(metrics.summarize_epochs(scores, labels)["mean"]["f1"])


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Copies of 150 lesions, true accuracy 0.8; an interval that takes copies for images is too narrow."""
    draw, covered, naive, worlds = generator(5), 0, 0, 300
    for _ in range(worlds):
        labels = np.repeat([0, 1], 75).repeat(4)
        right = (draw.random(150) < 0.8).repeat(4)
        scores = np.eye(2)[np.where(right, labels, 1 - labels)]
        groups = np.arange(150).repeat(4)
        for unit in (groups, np.arange(600)):
            resampling = Resampling(labels, unit, 400, draw)
            found = statistics.bootstrap_intervals(scores, ["acc"], resampling)["acc"]
            inside = found.low <= 0.8 <= found.high
            covered, naive = covered + (inside and unit is groups), naive + (inside and unit is not groups)
    assert 0.91 <= covered / worlds <= 0.98
    assert naive / worlds < 0.8


def test_two_thousand_draws_of_two_thousand_images_are_quick():
    scores, labels, groups = made(2000, 7)
    start = time.perf_counter()
    statistics.bootstrap_intervals(scores, CONFUSION_METRICS, Resampling(labels, groups, 2000, generator()))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("seed", [0, 1])
def test_the_global_seed_has_no_part_in_it(seed):
    scores, labels, groups = made(60)
    other = made(60, seed=3)[0]

    def everything():
        return (
            statistics.bootstrap_intervals(
                scores, CONFUSION_METRICS, Resampling(labels, groups, 50, generator())
            ),
            statistics.bootstrap_difference(scores, other, "f1", Resampling(labels, groups, 50, generator())),
            statistics.estimate_probability_of_best(
                {"a": scores, "b": other}, "rec", "a", Resampling(labels, groups, 50, generator())
            ),
        )

    before = everything()
    np.random.seed(seed)
    state = np.random.get_state()[1].copy()
    assert everything() == before
    assert (np.random.get_state()[1] == state).all()
    assert (
        statistics.bootstrap_intervals(
            scores, CONFUSION_METRICS, Resampling(labels, groups, 50, generator(9))
        )
        != before[0]
    )


# --- what cannot vary ------------------------------------------------------------------------------------


def test_one_image_or_one_group_has_a_figure_and_no_interval():
    scores, labels, _ = made(12)
    for images, groups in ((slice(0, 1), np.zeros(1)), (slice(None), np.zeros(12))):
        got = statistics.bootstrap_intervals(
            scores[images], CONFUSION_METRICS, Resampling(labels[images], groups, 20, generator())
        )
        for metric, interval in got.items():
            assert interval.value == pytest.approx(
                metrics.compute_metrics(scores[images], labels[images])[metric]
            )
            assert math.isnan(interval.low) and math.isnan(interval.high)
        paired = statistics.bootstrap_difference(
            scores[images], -scores[images], "acc", Resampling(labels[images], groups, 20, generator())
        )
        assert math.isfinite(paired.difference) and math.isnan(paired.p)
        models = {"a": scores[images], "b": -scores[images]}
        share = statistics.estimate_probability_of_best(
            models, "acc", "a", Resampling(labels[images], groups, 20, generator())
        )
        assert math.isnan(share)


def test_an_absent_class_and_a_class_of_one_group_are_finite():
    scores, labels, groups = made(40, 4)
    labels[labels == 2] = 1
    labels[0], labels[1:][labels[1:] == 3] = 3, 0
    got = statistics.bootstrap_intervals(
        scores, CONFUSION_METRICS, Resampling(labels, groups, 100, generator())
    )
    assert np.isfinite([tuple(interval) for interval in got.values()]).all()


def test_predictions_that_are_all_right_or_all_one_class_are_finite():
    _, labels, groups = made(30)
    right = statistics.bootstrap_intervals(
        np.eye(3)[labels], CONFUSION_METRICS, Resampling(labels, groups, 50, generator())
    )
    assert set(right.values()) == {(1.0, 1.0, 1.0)}
    constant = statistics.bootstrap_intervals(
        np.tile([1.0, 0, 0], (30, 1)), CONFUSION_METRICS, Resampling(labels, groups, 50, generator())
    )
    assert constant["rec"] == pytest.approx((1 / 3,) * 3)
    wrong = statistics.bootstrap_intervals(
        np.eye(3)[(labels + 1) % 3], CONFUSION_METRICS, Resampling(labels, groups, 50, generator())
    )
    assert set(wrong.values()) == {(0.0, 0.0, 0.0)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metrics": ["auroc"]}, "auroc"),
        ({"groups": np.zeros(3)}, "one an image"),
        ({"scores": np.zeros(10)}, "shape"),
        ({"scores": np.full((10, 3), np.nan)}, "not finite"),
        ({"labels": np.full(10, 7)}, "whole numbers"),
        ({"n_draws": 0}, "give 1 or more"),
        ({"scores": np.zeros((0, 3)), "labels": np.zeros(0, int), "groups": np.zeros(0)}, "no test image"),
    ],
)
def test_what_does_not_go_together_is_refused(change, says):
    scores, labels, groups = made(10)
    asked = {"scores": scores, "labels": labels, "groups": groups, "metrics": ["acc"], "n_draws": 10} | change
    resampling = Resampling(asked["labels"], asked["groups"], asked["n_draws"], generator())
    with pytest.raises(ValueError, match=says):
        statistics.bootstrap_intervals(asked["scores"], asked["metrics"], resampling)


# --- comparisons -----------------------------------------------------------------------------------------


def test_a_difference_that_is_there_is_found_and_one_that_is_not_is_not():
    good, labels, groups = made(400, right=0.9)
    poor = made(400, right=0.5, seed=4)[0]
    found = statistics.bootstrap_difference(good, poor, "acc", Resampling(labels, groups, 999, generator()))
    assert found.low > 0 and found.p == pytest.approx(2 / 1000)
    turned = statistics.bootstrap_difference(poor, good, "acc", Resampling(labels, groups, 999, generator()))
    assert turned.difference == -found.difference and turned.p == found.p
    same = statistics.bootstrap_difference(good, good * 2, "f1", Resampling(labels, groups, 99, generator()))
    assert same == (0.0, 0.0, 0.0, 1.0)


def test_p_is_as_often_small_as_it_may_be():
    """Two models equally good, independent mistakes: p below 0.05 in about one world of twenty."""
    small = 0
    for world in range(300):
        a, labels, groups = made(200, right=0.7, seed=2 * world)
        b = made(200, right=0.7, seed=2 * world)[0]
        draw = generator(world)
        for scores in (a, b):
            hit = draw.random(200) < 0.7
            scores[:] = np.eye(3)[np.where(hit, labels, (labels + 1) % 3)]
        p = statistics.bootstrap_difference(a, b, "acc", Resampling(labels, groups, 199, draw)).p
        small += p < 0.05
    assert 0.02 <= small / 300 <= 0.09


def test_probability_of_best():
    good, labels, groups = made(300, right=0.9)
    poor = made(300, right=0.4, seed=4)[0]

    def probability(models, winner):
        return statistics.estimate_probability_of_best(
            models, "acc", winner, Resampling(labels, groups, 200, generator())
        )

    assert probability({"a": good, "b": poor}, "a") == 1
    assert probability({"a": good, "b": poor}, "b") == 0
    assert probability({"a": good, "b": good, "c": poor}, "b") == pytest.approx(1 / 2)
    assert probability({"a": good}, "a") == 1
    with pytest.raises(ValueError, match="'x' is not one of a"):
        probability({"a": good}, "x")


# --- spreads and tests -----------------------------------------------------------------------------------


def test_folds_and_seeds_are_never_pooled():
    by_fold = statistics.compute_spread({(f, s): 10.0 * f for f in range(3) for s in range(2)})
    assert by_fold == (10.0, 0.0, 3, 2)
    by_seed = statistics.compute_spread({(f, s): 1.0 * s for f in range(3) for s in range(2)})
    assert by_seed == pytest.approx((0.0, math.sqrt(0.5), 3, 2))


def test_between_seeds_is_the_variance_within_folds():
    figures = {(0, 0): 1.0, (0, 1): 3.0, (0, 2): 5.0, (1, 0): 7.0, (1, 1): 8.0}
    within = (np.var([1, 3, 5], ddof=1) * 2 + np.var([7, 8], ddof=1) * 1) / 3
    got = statistics.compute_spread(figures)
    assert got == pytest.approx((np.std([3, 7.5], ddof=1), math.sqrt(within), 2, 3))


def test_one_fold_or_one_seed_has_no_spread():
    assert math.isnan(statistics.compute_spread({(0, 0): 1.0}).folds)
    assert math.isnan(statistics.compute_spread({(0, 0): 1.0}).seeds)
    assert math.isnan(statistics.compute_spread({(0, 0): 1.0, (1, 0): 2.0}).seeds)
    assert math.isnan(statistics.compute_spread({(0, 0): 1.0, (0, 1): 2.0}).folds)
    assert statistics.compute_spread({})[2:] == (0, 0)


def slow_holm(p):
    """Step down: the i-th smallest times what is left, never below the one before."""
    order, corrected, least = sorted(range(len(p)), key=lambda i: p[i]), [0.0] * len(p), 0.0
    for step, place in enumerate(order):
        least = max(least, min(1.0, p[place] * (len(p) - step)))
        corrected[place] = least
    return corrected


def test_holm():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    for seed in range(5):
        p = generator(seed).random(7) ** 3
        assert statistics.holm(p) == pytest.approx(slow_holm(list(p)))
    with_nan = statistics.holm([0.01, math.nan, 0.04])
    assert math.isnan(with_nan[1]) and with_nan[[0, 2]] == pytest.approx([0.02, 0.04])
    assert len(statistics.holm([])) == 0 and statistics.holm([0.9, 0.8]).tolist() == [1, 1]


def test_the_corrected_t_is_the_papers():
    """Equation of Nadeau & Bengio 2003, section 4.1.2, in plain arithmetic; and with no overlap the usual t."""
    d = [1.0, 2.0, 4.0, 1.0, 2.0]
    mean = sum(d) / 5
    variance = sum((x - mean) ** 2 for x in d) / 4
    t = mean / math.sqrt((1 / 5 + 200 / 800) * variance)
    got = statistics.corrected_resampled_t(d, 800, 200)
    assert got == pytest.approx((t, 2 * stats.t.cdf(-t, 4)))
    usual = stats.ttest_1samp(d, 0)
    far = statistics.corrected_resampled_t(d, 10**12, 1)
    assert far == pytest.approx((usual.statistic, usual.pvalue))
    assert got.p > usual.pvalue


def test_a_t_without_variance_is_defined():
    assert statistics.corrected_resampled_t([0.0, 0.0], 8, 2) == (0, 1)
    for d in ([1.0, 1.0], [1.0], [], [1.0, math.nan]):
        assert all(math.isnan(value) for value in statistics.corrected_resampled_t(d, 8, 2))
    with pytest.raises(ValueError, match="at least 1"):
        statistics.corrected_resampled_t([1.0, 2.0], 0, 2)


@pytest.mark.parametrize("seed", range(30))
def test_ranks_are_correlated_as_scipy_does_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 20))
    one, other = [0.0, 1.0, *rng.integers(0, 9, n) / 7], [1.0, 0.0, *rng.random(n)]
    assert statistics.correlate_ranks(one, other) == stats.spearmanr(one, other).statistic


def test_classes_are_drawn_as_their_averages_are():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 120)
    scores = rng.normal(size=(2, 120, 4)) + 1.2 * np.eye(4)[labels]

    def resample():
        return statistics.Resampling(labels, np.arange(120) // 2, 400, np.random.default_rng(1))

    drawn = statistics.bootstrap_classes([scores, scores[:1]], resample())
    joint = statistics.bootstrap_jointly([scores, scores[:1]], ["rec", "ap", "f1"], resample())
    for metric, macro in (("recall", "rec"), ("precision", "ap"), ("f1", "f1")):
        assert drawn[metric].shape == (400, 2, 4) and np.isnan(drawn[metric][..., 3]).all()
        assert drawn[metric][..., :3].mean(-1) == pytest.approx(joint[macro])
    alone = statistics.Resampling([0, 1], [0, 1], 10, np.random.default_rng(0))
    assert statistics.bootstrap_classes([np.eye(2)], alone) == {}, "no class has two groups"
