"""What was understood of a data set and its splits, as the lines that are printed before anything trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.data.own_splits import count_shared, describe_own_split
from udcd_bench.data.splits import FOLDS
from udcd_bench.errors import format_count
from udcd_bench.runs.names import FOLDER
from udcd_bench.runs.spec import describe_split, format_own_split, parse_split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from udcd_bench.data.dataset import Dataset
    from udcd_bench.data.splits import Split

MAX_CLASSES = 12
"""Most classes that a line names."""


def describe_dataset(dataset: Dataset, runs: Sequence[tuple[Split, int]]) -> list[str]:
    """Describe a data set, and the splits and batches of the runs on it, a line each; a stand-in in one line.

    runs: split and batch size of each run, at least one.
    """
    splits = list(dict.fromkeys(split for split, _ in runs))
    n, size = len(dataset.labels), f"{dataset.size}×{dataset.size} pixels"
    by_name: dict[str, list[Split]] = {}
    for split in splits:
        by_name.setdefault(split.kind, []).append(split)
    if dataset.synthetic:
        sides = "; ".join(f"split {name}: {_describe_sizes(some)}" for name, some in by_name.items())
        return [f"{dataset.name}: {n} drawn images of {len(dataset.classes)} classes at {size}; {sides}."]
    lines = [_describe_classes(dataset), _describe_groups(dataset, by_name)]
    lines += [_describe_split(dataset, name, some) for name, some in by_name.items()]
    lines += _describe_shared_groups(dataset, by_name)
    counts = [
        (split.fold, np.bincount(dataset.labels[split.test], minlength=len(dataset.classes)))
        for split in splits
    ]
    lines += describe_untested(dataset.classes, counts)
    lines += _describe_batches({(len(split.train), batch_size) for split, batch_size in runs})
    lines += [dataset.incomplete] if dataset.incomplete else []
    lines += dataset.report
    return [f"{dataset.name}: {n} images at {size}.", *(f"  {line}" for line in lines)]


def describe_untested(classes: Sequence[str], runs: Iterable[tuple[int, Iterable[int]]]) -> list[str]:
    """Describe what classes without a test image do to macro figures, a sentence for each set of such classes.

    runs: of each its fold and its number of test images of each class.
    """
    folds: dict[tuple[str, ...], set[int]] = {}
    for fold, counts in runs:
        names = tuple(name for name, count in zip(classes, counts) if not count)
        if names:
            folds.setdefault(names, set()).add(fold)
    return [
        f"{_join_names(names)} {'have' if len(names) > 1 else 'has'} no test image in {_format_folds(some)}: "
        f"macro figures are over {len(classes) - len(names)} of {len(classes)} classes there."
        for names, some in folds.items()
    ]


def _join_names(names: Sequence[str]) -> str:
    more = [f"{len(names) - MAX_CLASSES} more"] if len(names) > MAX_CLASSES else []
    parts = [", ".join(names[:MAX_CLASSES]), *more]
    return " and ".join(parts) if more else parts[0]


def _format_folds(folds: Iterable[int]) -> str:
    numbers = sorted(set(folds))
    return f"fold{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _describe_classes(dataset: Dataset) -> str:
    counts = dataset.count_labels()
    names = [f"{name} ({count})" for name, count in zip(dataset.classes, counts)]
    order = ", grades in this order" if dataset.ordered else ""
    return f"{len(names)} classes{order}: {_join_names(names)}."


def _describe_groups(dataset: Dataset, names: Iterable[str]) -> str:
    """Describe the groups, and what a grouped split comes to where none is given."""
    _, first, codes, sizes = np.unique(
        dataset.groups, return_index=True, return_inverse=True, return_counts=True
    )
    shared = np.flatnonzero(sizes[codes] > 1)  # images whose group has others
    if not all(np.array_equal(dataset.images[row], dataset.images[first[codes[row]]]) for row in shared):
        by = f" by {dataset.group_column}" if dataset.group_column else ""
        return f"{int((sizes > 1).sum())} groups of 2 or more images{by}, {len(shared)} images in all."
    text = f"No groups of 2 or more images are given; {len(shared)} have identical copies"
    rest = "keeps nothing together but copies"
    if not len(shared):
        text, rest = (
            "No groups of 2 or more images are given, and no two are identical",
            "divides image by image",
        )
    if not any(parse_split(name)[0] == "grouped" for name in names):
        return f"{text}."
    fix = "; a CSV with a column such as patient_id gives them" if dataset.name.startswith(FOLDER) else ""
    return f"{text}, so --split grouped {rest}{fix}."


def _describe_split(dataset: Dataset, name: str, splits: Sequence[Split]) -> str:
    kind, test_part = parse_split(name)
    head = f"Split {describe_split(name)}"
    if kind == "official":
        return f"{head}, the challenge's: {_describe_sizes(splits)}."
    if dataset.own_split is None:
        unit = "group" if kind == "grouped" else "image"
        return f"{head}, {FOLDS} folds by {unit}: {_describe_sizes(splits)}."
    own = describe_own_split(dataset, splits[0])
    assert own is not None
    rest = f"; its {own.unused}, {own.n_unused} images, is left out" if own.n_unused else ""
    if kind == "grouped":
        rest += f"; {own.n_left_out} of its train, which share a group with a {test_part} image, are left out"
    name = format_own_split(name, own.whose)
    return f"{name[0].upper()}{name[1:]}: {_describe_counts(splits)}{rest}."


def _describe_sizes(splits: Sequence[Split]) -> str:
    return f"{_format_folds(split.fold for split in splits)}, {_describe_counts(splits)}"


def _describe_counts(splits: Sequence[Split]) -> str:
    train, validation, test = (
        [len(getattr(split, side)) for split in splits] for side in ("train", "validation", "test")
    )
    middle = f", {_format_range(validation)} validation" if max(validation) else ""
    return f"{_format_range(train)} training{middle} and {_format_range(test)} test images"


def _format_range(numbers: Sequence[int]) -> str:
    return "–".join(map(str, dict.fromkeys([min(numbers), max(numbers)])))


def _describe_shared_groups(dataset: Dataset, by_name: dict[str, list[Split]]) -> list[str]:
    """Describe groups on both sides of a split."""
    lines = []
    for name, splits in by_name.items():
        shared = max(count_shared(dataset, split.test, split.train) for split in splits)
        if shared:
            # another split would test on other images than the challenge's
            fix = "no other split has that test" if name == "official" else "--split grouped keeps them apart"
            own = describe_own_split(dataset, splits[0])
            shown = f"the {format_own_split(name, own.whose)}" if own else f"split {name}"
            lines.append(
                f"Up to {format_count(shared, 'test image')} of {shown} {'has' if shared == 1 else 'have'} "
                f"a group or a copy among the training images; {fix}."
            )
    return lines


def _describe_batches(runs: Iterable[tuple[int, int]]) -> list[str]:
    """Describe batches that are not of the size that the protocol names, or that leave an image out.

    runs: number of training images and batch size.
    """
    lines = []
    for n_train, batch_size in sorted(runs):
        if n_train < batch_size:
            lines.append(
                f"{n_train} training images are fewer than batch_size {batch_size}: one step an epoch."
            )
        elif n_train % batch_size == 1:
            lines.append(
                f"{n_train} training images in batches of {batch_size} leave one alone, which has no variance: "
                "each epoch leaves another one out."
            )
    return lines
