"""Folds, imbalance and scarcity: who trains, who tests, and that nothing else decides it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from udcd_bench.data import splits
from udcd_bench.data.dataset import Dataset
from udcd_bench.data.splits import (
    FOLDS,
    RANDOM_STATE,
    _assign_folds,
    _assign_grouped_folds,
    compute_resampled_counts,
    split_dataset,
)
from udcd_bench.errors import UserError

HAM = np.array([327, 514, 1099, 115, 1113, 6705, 142])
APTOS = np.array([1805, 370, 999, 193, 295])
COUNTS = (60, 30, 20, 10)
SPLIT_KINDS = ("paper", "grouped")
SKLEARN = tuple(map(int, sklearn.__version__.split(".")[:2]))
STORED = "baf1dd9f60d86dbb"
"""The hash of ``data()``'s fold 0: a change of it changes every figure there is."""
STORED_GROUPED = "6817a82f5b63a5a5"


def data(counts=COUNTS, group=1, seed=0, **changes):
    """A set of these counts, its labels in random order, ``group`` neighbours of a class to a group."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    groups = np.empty(len(labels), np.int64)
    first = 0
    for label in range(len(counts)):
        rows = np.flatnonzero(labels == label)
        groups[rows] = first + np.arange(len(rows)) // group
        first = groups.max() + 1
    made = {
        "name": "made",
        "title": "Made",
        "images": np.zeros((len(labels), 2, 2, 3), np.uint8),
        "labels": labels,
        "ids": tuple(f"i{i}" for i in range(len(labels))),
        "groups": groups,
        "classes": tuple("abcdefgh"[: len(counts)]),
        "fingerprint": "f",
    }
    return Dataset(**{**made, **changes})


def split(dataset, **options):
    return split_dataset(dataset, splits.SplitOptions(**options))


def counts(dataset, rows):
    return np.bincount(dataset.labels[rows], minlength=len(dataset.classes))


@pytest.mark.parametrize("kind", SPLIT_KINDS)
def test_folds_are_disjoint_and_cover_everything_once(kind):
    d = data(group=2)
    tested = [split(d, kind=kind, fold=fold).test for fold in range(FOLDS)]
    assert_array_equal(np.sort(np.concatenate(tested)), np.arange(len(d.labels)))
    for fold in range(FOLDS):
        s = split(d, kind=kind, fold=fold)
        assert_array_equal(np.sort(np.concatenate([s.train, s.test])), np.arange(len(d.labels)))


def test_folds_are_stratified():
    d = data()
    for fold in range(FOLDS):
        s = split(d, fold=fold)
        assert_array_equal(counts(d, s.test), np.array(COUNTS) // FOLDS)


@pytest.mark.parametrize("seed", range(20))
def test_the_folds_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(FOLDS, 60, rng.integers(1, 9))
    labels = rng.permutation(np.repeat(rng.permutation(len(counts)), counts))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=RANDOM_STATE)
    for fold, (_, test) in enumerate(folds.split(labels, labels)):
        assert_array_equal(np.flatnonzero(_assign_folds(labels) == fold), test)


@pytest.mark.skipif(SKLEARN < (1, 9), reason="earlier releases leave folds empty")
@pytest.mark.parametrize("seed", range(40))
def test_the_grouped_folds_are_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(FOLDS, 60, rng.integers(1, 20))
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    groups = rng.permutation(np.arange(len(labels)) % rng.integers(FOLDS, len(labels) + 1))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=RANDOM_STATE)
    assigned = _assign_grouped_folds(labels, groups)
    for fold, (_, test) in enumerate(folds.split(labels, labels, groups)):
        assert_array_equal(np.flatnonzero(assigned == fold), test)


def test_the_grouped_split_keeps_groups_together_and_the_other_does_not():
    d = data(group=3)
    shared = 0
    for fold in range(FOLDS):
        s = split(d, kind="grouped", fold=fold)
        assert not set(d.groups[s.train]) & set(d.groups[s.test])
        assert (np.abs(counts(d, s.test) - np.array(COUNTS) / FOLDS) <= 3).all(), "near to stratified"
        shared += len(set(d.groups[split(d, fold=fold).train]) & set(d.groups[split(d, fold=fold).test]))
    assert shared > 0


def test_a_split_is_the_same_for_ever_and_does_not_hear_the_global_seed():
    np.random.seed(1)
    first = split(data(), rho=3.0, fraction=0.5)
    np.random.seed(2)
    again = split(data(), rho=3.0, fraction=0.5)
    assert first.hash == again.hash and (first.train == again.train).all()
    assert split(data()).hash == STORED
    assert split(data(group=3), kind="grouped").hash == STORED_GROUPED


def test_the_hash_tells_splits_apart_and_names_ids_not_places():
    d = data()
    hashes = {split(d, fold=fold, kind=kind).hash for fold in range(FOLDS) for kind in SPLIT_KINDS}
    assert len(hashes) == 2 * FOLDS
    renamed = data(ids=tuple(f"j{i}" for i in range(len(d.labels))))
    assert split(renamed).hash != split(d).hash
    assert split(data(seed=1)).hash != split(d).hash
    assert split(d, fraction=0.5).hash != split(d).hash != split(d, rho=2.0).hash


def test_folds_do_not_hear_the_seed_but_the_draws_do():
    d = data()
    assert split(d, seed=0).hash == split(d, seed=1).hash
    assert split(d, seed=0, fraction=0.5).hash != split(d, seed=1, fraction=0.5).hash
    assert split(d, seed=0, rho=3.0).hash != split(d, seed=1, rho=3.0).hash


def test_a_source_keeps_its_own_split():
    side = np.array(["train", "val", "test"])[np.arange(sum(COUNTS)) % 3]
    d = data(group=2, own_split=side)
    s = split(d)
    assert set(side[s.train]) == {"train"} and set(side[s.test]) == {"test"}
    assert len(s.train) + len(s.test) == (side != "val").sum()
    grouped = split(d, kind="grouped")
    assert_array_equal(grouped.test, s.test)
    assert not set(d.groups[grouped.train]) & set(d.groups[grouped.test])
    assert 0 < len(grouped.train) < len(s.train)
    with pytest.raises(UserError, match="only fold 0"):
        split(d, fold=1)
    on_val = split(d, kind="paper-val")
    assert set(side[on_val.test]) == {"val"} and on_val.hash != s.hash
    assert_array_equal(on_val.train, s.train)
    large = data((90, 90), group=2, own_split=np.array(["train", "val", "test"])[np.arange(180) % 3])
    apart = split(large, kind="grouped-val")
    assert not set(large.groups[apart.train]) & set(large.groups[apart.test])
    assert set(large.groups[apart.train]) & set(large.groups[split(large, kind="grouped").test])


def test_why_an_own_split_has_no_training_image_is_said():
    n = sum(COUNTS)
    alternate = np.array(["train", "test"])[np.arange(n) % 2]
    shared = data(own_split=alternate)
    object.__setattr__(shared, "groups", np.arange(n) // 2)
    with pytest.raises(UserError, match=rf"where {n // 2} images of its train share a group .*--split paper"):
        split(shared, kind="grouped")
    side = np.where(data().labels == 2, "test", alternate)
    with pytest.raises(UserError, match=r"of class 'c' .*; add images, or leave the class out of test"):
        split(data(own_split=side))


@pytest.mark.parametrize(
    ("parts", "kind", "message"),
    [
        (("train", "val"), "paper", "made has train and val and no test; add --test val"),
        (("train", "val"), "grouped", "made has train and val and no test; add --test val"),
        (("train",), "paper", "made has train and no test; give it test images"),
        (("train", "test"), "paper-val", "made has train and test and no val; leave out --test val"),
        (("test",), "paper", "made has test and no train; give it training images"),
        (None, "paper-val", "no split of its own and so no val to test on; leave out --test val"),
    ],
)
def test_a_split_without_something_to_test_on_is_refused_with_the_fix(parts, kind, message):
    side = None if parts is None else np.array(parts)[np.arange(sum(COUNTS)) % len(parts)]
    with pytest.raises(UserError, match=message):
        split(data(own_split=side), kind=kind)


def test_fewer_groups_than_folds_are_refused():
    d = data(groups=np.arange(sum(COUNTS)) % 3)
    for fold in range(FOLDS):
        with pytest.raises(UserError, match="made has 3 groups and 5 folds need at least 5"):
            split(d, kind="grouped", fold=fold)


def test_a_class_of_one_group_trains_in_every_fold_but_one():
    labels = np.arange(60) % 3
    d = data((20, 20, 20), labels=labels, groups=np.where(labels == 2, 99, np.arange(60) // 6))
    refused = []
    for fold in range(FOLDS):
        try:
            made = split(d, kind="grouped", fold=fold)
        except UserError as error:
            assert f"no training image of class 'c' in fold {fold}" in str(error)
            refused.append(fold)
        else:
            assert len(made.test) and not counts(d, made.test)[2]
    assert len(refused) == 1


@pytest.mark.parametrize("own", [HAM, APTOS, np.array(COUNTS)], ids=["ham10000", "aptos", "made"])
@pytest.mark.parametrize("rho", [1.0, 4.0, 9.0, 17.0, 58.0, 144.0])
def test_the_power_rule_is_the_formula(own, rho):
    largest, smallest = int(own.max()), int(own.min())
    reference = largest if rho > largest / smallest else smallest
    gamma = np.log(rho) / np.log(largest / smallest)
    wanted = [max(1, round(reference * (int(n) / reference) ** gamma)) for n in own]
    got = compute_resampled_counts(own, rho)
    assert got.tolist() == wanted
    assert (got <= own).all()
    assert (np.argsort(got, kind="stable") == np.argsort(own, kind="stable")).all() or rho == 1
    if got.min() > 10:
        assert got.max() / got.min() == pytest.approx(rho, rel=0.05)


def test_the_power_rule_leaves_the_own_imbalance_alone_and_never_asks_for_more():
    assert_array_equal(compute_resampled_counts(HAM, 6705 / 115), HAM)
    rng = np.random.default_rng(0)
    for _ in range(200):
        own = rng.integers(1, 500, rng.integers(2, 9))
        got = compute_resampled_counts(own, float(rng.uniform(1, 300)))
        assert (got >= 1).all() and (got <= own).all()


def test_equal_classes_become_a_long_tail():
    got = compute_resampled_counts(np.array([80, 80, 80, 80]), 8.0)
    assert got.tolist() == [80, 40, 20, 10]


def test_truncation_caps_the_majority():
    assert_array_equal(compute_resampled_counts(HAM, 9.0, "truncate"), np.minimum(HAM, 9 * 115))
    with pytest.raises(UserError, match="only lower"):
        compute_resampled_counts(HAM, 144.0, "truncate")


def test_smaller_imbalances_nest_for_one_seed_and_differ_between_seeds():
    d = data((400, 200, 100, 40))
    whole = {}
    for rho in (2.0, 4.0, 8.0, 10.0):
        s = split(d, rho=rho)
        whole[rho] = set(s.train) | set(s.test)
        assert (
            counts(d, sorted(whole[rho])).tolist() == compute_resampled_counts(d.count_labels(), rho).tolist()
        )
    for low, high in combinations(sorted(whole), 2):
        assert whole[low] < whole[high]
    other = split(d, rho=4.0, seed=1)
    assert set(other.train) | set(other.test) != whole[4.0]


@pytest.mark.parametrize("kind", SPLIT_KINDS)
def test_fractions_are_nested_stratified_and_leave_the_test_side(kind):
    d = data((200, 100, 60, 40), group=2)
    full = split(d, kind=kind)
    drawn = [split(d, kind=kind, fraction=fraction) for fraction in (0.1, 0.25, 0.5, 0.75, 1.0)]
    for small, large in combinations(drawn, 2):
        assert set(small.train) < set(large.train)
    for s, fraction in zip(drawn, (0.1, 0.25, 0.5, 0.75, 1.0)):
        assert_array_equal(s.test, full.test)
        assert_array_equal(counts(d, s.train), np.rint(counts(d, full.train) * fraction))


def test_a_small_fraction_keeps_one_of_each_class():
    d = data()
    assert counts(d, split(d, fraction=0.001).train).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"kind": "by-lesion"}, "paper, grouped"),
        ({"fold": -1}, "0 to 4"),
        ({"fold": 5}, "0 to 4"),
        ({"fraction": 0.0}, r"\(0, 1\]"),
        ({"fraction": 1.5}, r"\(0, 1\]"),
        ({"fraction": float("nan")}, r"\(0, 1\]"),
        ({"rho": 0.5}, "1 or more"),
        ({"rho": float("nan")}, "1 or more"),
        ({"rho": float("inf")}, "1 or more"),
        ({"rho": 3.0, "imbalance": "smote"}, "power, truncate"),
    ],
    ids=str,
)
def test_values_that_will_not_do(how, says):
    with pytest.raises(UserError, match=says):
        split(data(), **how)


def test_too_few_images_name_the_class():
    with pytest.raises(UserError, match=r"class 'd' has 4 images"):
        split(data((30, 20, 10, 4)))
    with pytest.raises(UserError, match=r"class 'c' has 0 images"):
        split(data((30, 20, 0, 10)))
    with pytest.raises(UserError, match=r"class 'd' has 4 images .* add images, or leave the class out"):
        split(data((30, 20, 10, 4)))
    with pytest.raises(UserError, match=r"class 'c' has 1 images .* add images, lower rho, or leave"):
        split(data((300, 40, 20, 20)), rho=300.0)
    with pytest.raises(UserError, match="class without"):
        split(data((30, 20, 0, 10)), rho=2.0)
    side = np.where(data().labels == 2, "test", "train")
    with pytest.raises(UserError, match="no training image of class 'c'"):
        split(data(own_split=side))
