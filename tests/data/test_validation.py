"""Validation images: whole groups of the training fold, or a source's own val; the test side never moves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_splits import data, split

from udcd_bench.data import published_sizes
from udcd_bench.data.splits import SplitOptions
from udcd_bench.data.validation import split_validation
from udcd_bench.errors import UserError

COUNTS = (600, 300, 100, 40)


def count(dataset, rows):
    return np.bincount(dataset.labels[rows], minlength=len(dataset.classes))


@pytest.mark.parametrize("kind", ["paper", "grouped"])
@pytest.mark.parametrize("share", ["0.1", "0.2", "0.5"])
@pytest.mark.parametrize("group", [1, 3])
def test_a_share_of_each_class_of_the_training_fold_validates(kind, share, group):
    dataset = data(COUNTS, group=group)
    plain, ours = split(dataset, kind=kind, fold=2), split(dataset, kind=kind, fold=2, validation=share)
    assert_array_equal(ours.test, plain.test)
    assert_array_equal(np.union1d(ours.train, ours.validation), plain.train)
    assert not np.isin(dataset.groups[ours.validation], dataset.groups[ours.train]).any(), "whole groups"
    wanted = float(share) * count(dataset, plain.train)
    assert np.abs(count(dataset, ours.validation) - wanted).max() <= max(0.5, group / 2)
    assert ours.hash != plain.hash and not len(plain.validation)


def test_the_same_images_validate_for_all_methods_and_seeds_and_others_in_another_set():
    dataset = data(COUNTS)
    ours = split(dataset, validation="0.2")
    assert_array_equal(split(dataset, validation="0.2", seed=3).validation, ours.validation)
    renamed = data(COUNTS, identity="another")
    assert not np.array_equal(split(renamed, validation="0.2").validation, ours.validation)


def test_groups_of_several_classes_stay_whole_and_every_class_trains():
    rng = np.random.default_rng(4)
    dataset = data((90, 60, 8, 3), groups=rng.integers(0, 40, 161))
    for share in ("0.2", "0.5"):
        train, chosen = split_validation(dataset, (np.arange(161), np.empty(0, int)), "grouped", share)
        assert not np.isin(dataset.groups[chosen], dataset.groups[train]).any()
        assert count(dataset, train).min() > 0
        assert len(chosen) / 161 == pytest.approx(float(share), abs=0.08)


def test_a_class_of_one_group_trains():
    dataset = data((40, 6), group=1)
    alone = data((40, 6), groups=np.where(dataset.labels == 1, 999, np.arange(46)))
    train, chosen = split_validation(alone, (np.arange(46), np.empty(0, int)), "grouped", "0.5")
    assert count(alone, chosen).tolist() == [20, 0] and count(alone, train)[1] == 6
    one = data((1, 1))
    with pytest.raises(UserError, match=r"leaves none to validate on.*larger share"):
        split_validation(one, (np.arange(2), np.empty(0, int)), "paper", "0.2")


def test_a_sources_own_val_validates_and_takes_nothing_from_what_trains():
    parts = np.array(["train", "train", "train", "val", "test"])
    dataset = data((50, 50), own_split=parts[np.arange(100) % 5])
    plain, ours = split(dataset), split(dataset, validation="own")
    assert_array_equal(ours.train, plain.train)
    assert ours.hash == plain.hash and set(dataset.own_split[ours.validation]) == {"val"}
    assert len(ours.validation) == 20
    share = split(dataset, validation="0.25")
    assert set(dataset.own_split[share.validation]) == {"train"}
    grouped = data(
        (50, 50),
        own_split=dataset.own_split,
        groups=np.where(np.arange(100) < 50, np.arange(100) // 2, np.arange(100)),
    )
    apart = split(grouped, kind="grouped", validation="own")
    others = np.concatenate([apart.train, apart.test])
    assert 0 < len(apart.validation) < 20
    assert not np.isin(grouped.groups[apart.validation], grouped.groups[others]).any()


def test_a_val_that_is_not_there_or_tests_is_refused():
    with pytest.raises(UserError, match=r"made brings no val; give a share, such as validation=0\.2"):
        split(data(), validation="own")
    parts = np.array(["train", "val", "test", "train"])[np.arange(120) % 4]
    with pytest.raises(UserError, match="tests here and cannot validate"):
        split(data(own_split=parts), kind="paper-val", validation="own")
    together = data(own_split=parts, groups=np.zeros(120, int))
    with pytest.raises(UserError, match="shares a group with another side"):
        split_validation(together, (np.arange(60), np.arange(60)), "grouped", "own")


def test_published_sizes_count_what_trains():
    plain = published_sizes.count_training_images("aptos", SplitOptions())
    assert published_sizes.count_training_images("aptos", SplitOptions(validation="0.2")) == round(
        0.8 * plain
    )
    assert published_sizes.count_training_images("aptos", SplitOptions(validation="own")) == plain
