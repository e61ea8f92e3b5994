"""ROC and precision-recall curves of weighted test sets agree with scikit-learn's of the images written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from udcd_bench.stats import curves
from udcd_bench.stats.resampling import Resampling, sample_weights


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=2, max_size=30))
def test_they_agree_with_scikit_learns(images):
    values, positive, times = (np.array(column) for column in zip(*images))
    got = curves.compute_curves(values / 4, positive, times[None].astype(float))
    kept = np.repeat(np.arange(len(times)), times)
    score, truth = values[kept] / 4, positive[kept]
    if truth.all() or not truth.any():
        assert all(np.isnan(array).all() for array in got)
        return
    assert got.auroc[0] == pytest.approx(roc_auc_score(truth, score))
    assert got.auprc[0] == pytest.approx(average_precision_score(truth, score))
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    assert got.sensitivity[0] == pytest.approx(tpr[fpr <= 0.1 + 1e-12].max())
    for place in (0, 25, 50, 100):
        x = curves.GRID[place]
        after = np.searchsorted(fpr, x + 1e-12)  # the first point beyond x
        before = after - 1
        expected = tpr[before]
        if after < len(fpr):
            expected += (tpr[after] - tpr[before]) * (x - fpr[before]) / (fpr[after] - fpr[before])
        assert got.tpr[0, place] == pytest.approx(expected)
    precision, recall, _ = precision_recall_curve(truth, score)
    for place in (
        1,
        25,
        50,
        100,
    ):  # both fall with the threshold: the last that reaches the recall is the highest
        reaching = np.flatnonzero(recall >= curves.GRID[place] - 1e-12)
        assert got.precision[0, place] == pytest.approx(precision[reaching[-1]])
    assert got.precision[0, 0] == got.precision[0, 1]


def test_several_sets_are_computed_at_once():
    rng = np.random.default_rng(0)
    values, positive, weights = rng.random(40), rng.random(40) < 0.4, rng.integers(0, 3, (5, 40))
    together = curves.compute_curves(values, positive, weights)
    for row in range(5):
        alone = curves.compute_curves(values, positive, weights[row : row + 1])
        for one, several in zip(alone, together):
            np.testing.assert_allclose(one[0], several[row])


def test_groups_are_resampled_whole_and_within_their_class():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    groups = np.array([5, 5, 2, 3, 9, 9, 1, 7])
    weights = sample_weights(Resampling(labels, groups, 400, np.random.default_rng(1)))
    assert weights.shape == (400, 8) and (weights == weights.astype(int)).all()
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 4] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all() and (weights[:, [4, 6]].sum(1) == 2).all()
    assert (weights[:, 7] == 1).all(), "a class of one group is always in"
    assert np.abs(weights[:, :4].mean(0) - 1).max() < 0.2
    assert sample_weights(Resampling([0, 0, 1], [1, 1, 2], 10, np.random.default_rng(1))) is None
