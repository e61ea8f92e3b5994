"""What is printed of a data set before anything trains: classes, groups, split, batches, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from support import factories
from udcd_bench.data import splits, understanding
from udcd_bench.data.contact_sheet import draw_sheet
from udcd_bench.data.dataset import Dataset
from udcd_bench.errors import UserError


def describe(dataset, *kinds, folds=(0,), batch_size=8):
    chosen = [
        splits.split_dataset(dataset, splits.SplitOptions(kind=kind, fold=fold))
        for kind in kinds or ("paper",)
        for fold in folds
    ]
    return understanding.describe_dataset(dataset, [(split, batch_size) for split in chosen])


def many_classes(n, each):
    """A set of n classes, each of so many black images."""
    rows = np.arange(n * each)
    names, ids = (
        tuple(f"{letter}{i:02d}" for i in range(count)) for letter, count in (("c", n), ("i", len(rows)))
    )
    images = np.zeros((len(rows), 32, 32, 3), np.uint8)
    return Dataset("many", "Many", images, rows % n, ids, rows, names, "f")


def own_split(n, *parts):
    return np.array(parts)[np.arange(n) % len(parts)]


def test_classes_groups_and_folds():
    lines = describe(
        factories.dataset(ordered=True, incomplete="Incomplete small: 2 left out."), folds=(0, 1)
    )
    assert lines == [
        "small: 40 images at 32×32 pixels.",
        "  4 classes, grades in this order: a (20), b (9), c (6), d (5).",
        "  20 groups of 2 or more images, 40 images in all.",
        "  Split paper, 5 folds by image: folds 0, 1, 32 training and 8 test images.",
        "  Up to 8 test images of split paper have a group or a copy among the training images; "
        "--split grouped keeps them apart.",
        "  Incomplete small: 2 left out.",
    ]


def test_no_more_than_a_dozen_classes_are_named():
    line = describe(many_classes(15, 7))[1]
    assert line.startswith("  15 classes: c00 ") and line.endswith(" and 3 more.") and "c12" not in line


def test_a_set_without_groups_says_what_a_grouped_split_comes_to():
    alone = factories.dataset(groups=np.arange(40), name="folder:set")
    text = "  No groups of 2 or more images are given, and no two are identical"
    assert describe(alone)[2] == f"{text}."
    with pytest.raises(
        UserError, match="folder:set has no groups, so --split grouped would divide image by image"
    ):
        describe(alone, "grouped")
    published = factories.dataset(groups=np.arange(40))
    assert describe(published, "grouped")[2] == f"{text}, so --split grouped divides image by image."
    images = factories.dataset().images.copy()
    images[7] = images[3]
    copies = factories.dataset(images=images, groups=np.where(np.arange(40) == 7, 3, np.arange(40)))
    assert describe(copies, "grouped")[2] == (
        "  No groups of 2 or more images are given; 2 have identical copies, so --split grouped keeps nothing together "
        "but copies."
    )


def test_what_is_left_out_of_an_own_split_is_said():
    dataset = factories.dataset(
        80, groups=np.arange(80), own_split=own_split(80, "train", "val", "train", "test")
    )
    assert describe(dataset)[3] == (
        "  Official split: 40 training and 20 test images; its val, 20 images, is left out."
    )
    assert describe(dataset, "paper-val")[3] == (
        "  Official split, tested on val: 40 training and 20 test images; its test, 20 images, is left out."
    )


def test_what_a_grouped_split_leaves_out_of_an_own_split_is_said():
    side = np.where(np.arange(80) == 79, "test", own_split(80, "train", "test"))
    dataset = factories.dataset(80, groups=np.arange(80) % 79, own_split=side, name="folder:set")
    assert describe(dataset, "grouped")[3] == (
        "  Own split, grouped: 39 training and 40 test images; 1 of its train, which share a group with a test image, "
        "are left out."
    )


def test_a_class_without_a_test_image_is_said():
    dataset = factories.dataset(groups=np.arange(40))
    side = np.where((dataset.labels == 2) | (np.arange(40) % 2 == 0), "train", "test")
    lines = describe(factories.dataset(groups=np.arange(40), own_split=side))
    assert "  c has no test image in fold 0: macro figures are over 3 of 4 classes there." in lines


def test_odd_batches_are_said():
    dataset = factories.dataset(groups=np.arange(40))
    assert describe(dataset)[-1].startswith("  Split paper")
    assert describe(dataset, batch_size=33)[-1] == (
        "  32 training images are fewer than batch_size 33: one step an epoch."
    )
    assert describe(dataset, batch_size=31)[-1] == (
        "  32 training images in batches of 31 leave one alone, which has no variance: each epoch leaves another "
        "one out."
    )


def test_a_stand_in_takes_a_line():
    assert describe(factories.dataset(synthetic=True), "paper", "grouped") == [
        "small: 40 drawn images of 4 classes at 32×32 pixels; split paper: fold 0, 32 training and 8 test images; "
        "split grouped: fold 0, 32 training and 8 test images."
    ]


def test_the_contact_sheets_shares_are_of_the_whole(tmp_path, monkeypatch):
    sheets = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: sheets.append(figure))
    draw_sheet(many_classes(30, 5), tmp_path / "a.png")
    shares = [text.get_text() for axes in sheets[0].axes for text in axes.texts]
    assert shares == [" 5  (3.3 %)"] * 20
