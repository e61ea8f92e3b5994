"""Folds, imbalance and scarcity: the images that train and those that test, each choice from a seed of its own.

A split never depends on the method, so methods are compared in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from udcd_bench.data.dataset import Dataset, Ints, compute_fingerprint
from udcd_bench.data.own_splits import check_parts, count_left_out, refuse_without_groups
from udcd_bench.data.validation import split_validation
from udcd_bench.errors import UserError
from udcd_bench.runs.spec import SPLITS, derive_seed, parse_split

if TYPE_CHECKING:
    from collections.abc import Iterable

Floats = npt.NDArray[np.float64]

FOLDS = 5
RANDOM_STATE = 2020
"""Of the stratified folds (O:CRCKD; the paper states no split)."""


@dataclass(frozen=True)
class SplitOptions:
    """Which split of a dataset.

    Attributes
    ----------
    kind: ``paper`` (stratified by class, image by image) or ``grouped`` (also no group on both sides). A source with a
        split of its own keeps it: its ``train`` trains, its ``test`` tests, its ``val`` is left out; with ``paper-val``
        and ``grouped-val`` its ``val`` tests and its ``test`` is left out. ``official`` is the own split of a set
        joined with its challenge's test (``data.official``).
    fold: 0 to 4.
    rho: resample the whole set to this imbalance before splitting, of the official split the training images; None
        keeps the set's own.
    imbalance: how it is resampled, as in ``compute_resampled_counts``.
    fraction: the share of the training side to keep, stratified; the test side stays.
    seed: of the two subsamplings above; the folds themselves depend on the data alone.
    validation: as of ``Protocol``: what of the training side validates, or that the source's own ``val`` does.
    """

    kind: str = "paper"
    fold: int = 0
    rho: float | None = None
    imbalance: str = "power"
    fraction: float = 1.0
    seed: int = 0
    validation: str = "none"


DEFAULT = SplitOptions()


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of a dataset that train, test and, where that is asked for, validate.

    hash: of the ids that train and those that test.
    """

    kind: str
    fold: int
    train: Ints
    test: Ints
    hash: str
    validation: Ints = field(default_factory=lambda: np.empty(0, np.int64))


def compute_resampled_counts(counts: Ints, rho: float, imbalance: str = "power") -> Ints:
    """Compute class counts (C,) at imbalance ``rho`` = largest / smallest class, never more than ``counts``.

    ``power`` (S): n' = n_ref · (n / n_ref)^γ with γ = ln ρ' / ln ρ; n_ref is the largest class when ρ' > ρ and the
    smallest when ρ' < ρ. ``truncate`` caps every class at ρ' · n_min and can only lower ρ.

    Raises UserError when ``rho`` cannot be reached.
    """
    if not 1 <= rho < np.inf:
        raise UserError(f"rho is {rho:g}; it is largest / smallest class, so give 1 or more.")
    if counts.min() == 0:
        raise UserError("There is a class without images, so the data have no rho; leave the class out.")
    n = counts.astype(np.float64)
    own_rho = n.max() / n.min()
    if imbalance == "truncate":
        if rho > own_rho:
            raise UserError(
                f"imbalance=truncate can only lower rho, and the data's own is {own_rho:.1f} < {rho:g}."
            )
        capped: Ints = np.minimum(counts, np.floor(rho * n.min())).astype(np.int64)
        return capped
    if imbalance != "power":
        raise UserError(f"imbalance is {imbalance!r}; it is one of power, truncate.")
    if own_rho == 1:
        # no exponent makes equal classes unequal, so the rank decides, as in the long-tailed benchmarks
        rank = np.arange(len(n)) / max(len(n) - 1, 1)
        return np.maximum(1, np.rint(n * rho**-rank)).astype(np.int64)
    reference = n.max() if rho > own_rho else n.min()
    target = reference * (n / reference) ** (np.log(rho) / np.log(own_rho))
    resampled: Ints = np.minimum(counts, np.maximum(1, np.rint(target))).astype(np.int64)
    return resampled


def _subsample_per_class(rows: Ints, labels: Ints, keep: Iterable[int], seed: int) -> Ints:
    """Keep the first ``keep[c]`` of class c's rows in a seeded order, so that smaller subsets nest in larger ones."""
    chosen = []
    for label, count in enumerate(keep):
        members = rows[labels[rows] == label]
        order = np.random.default_rng([seed, label]).permutation(len(members))
        chosen.append(members[order[:count]])
    return np.sort(np.concatenate(chosen))


def _assign_folds(labels: Ints) -> Ints:
    """Assign every image (n,) to a fold, 0 to ``FOLDS`` − 1, each class spread evenly.

    The folds are those of scikit-learn's ``StratifiedKFold`` at ``RANDOM_STATE``; its import takes a worker longer
    than all else that comes before the first step.
    """
    rng = np.random.RandomState(RANDOM_STATE)
    classes, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    codes = np.argsort(np.argsort(first))[codes]  # classes in the order of their first image
    ordered = np.sort(codes)
    shares = [np.bincount(ordered[fold::FOLDS], minlength=len(classes)) for fold in range(FOLDS)]
    folds = np.empty(len(labels), np.int64)
    for code, counts in enumerate(np.transpose(shares)):
        members = np.repeat(np.arange(FOLDS), counts)
        rng.shuffle(members)
        folds[codes == code] = members
    return folds


def _assign_grouped_folds(labels: Ints, groups: Ints) -> Ints:
    """Assign every image (n,) to a fold, no group to two, each class spread as evenly as its groups allow.

    The folds are those of ``StratifiedGroupKFold`` at ``RANDOM_STATE`` in scikit-learn 1.9; earlier releases leave
    folds empty.
    """
    rng = np.random.RandomState(RANDOM_STATE)
    _, codes, class_counts = np.unique(labels, return_inverse=True, return_counts=True)
    _, group_codes = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(group_codes.max()) + 1, len(class_counts)))
    np.add.at(counts, (group_codes, codes), 1)
    order = np.arange(len(counts))
    rng.shuffle(order)
    counts = counts[order]
    counts_by_fold = np.zeros((FOLDS, len(class_counts)))
    folds = np.empty(len(counts), np.int64)
    for group in np.argsort(-np.std(counts, axis=1), kind="stable"):
        fold = _find_evenest_fold(counts_by_fold, counts[group], class_counts)
        counts_by_fold[fold] += counts[group]
        folds[order[group]] = fold
    return folds[group_codes]


def _find_evenest_fold(counts_by_fold: Floats, group: Floats, class_counts: Ints) -> int:
    """Find the fold that a group leaves the classes most evenly spread in; of equals, the one with fewest images.

    counts_by_fold: (FOLDS, C) images so far. group: (C,) images of the group. class_counts: (C,) of all images.
    """
    trials = counts_by_fold + np.eye(FOLDS)[:, :, None] * group
    unevenness = np.std(trials / class_counts, axis=1).mean(axis=1)
    n_images = counts_by_fold.sum(1)
    best = 0
    for fold in range(1, FOLDS):
        difference = unevenness[fold] - unevenness[best]
        equal = abs(difference) <= 1e-8 + 1e-5 * unevenness[best]  # numpy.isclose
        if difference < 0 or (equal and n_images[fold] < n_images[best]):
            best = fold
    return best


def _split_fold(dataset: Dataset, rows: Ints, kind: str, fold: int) -> tuple[Ints, Ints]:
    """Divide rows into a fold and the others. Raises UserError when there are fewer images or groups than folds."""
    labels = dataset.labels[rows]
    counts = np.bincount(labels, minlength=len(dataset.classes))
    if counts.min() < FOLDS:
        short = int(counts.argmin())
        rho = "lower rho, " if counts[short] < dataset.count_labels()[short] else ""  # rho took images away
        raise UserError(
            f"{dataset.name}: class {dataset.classes[short]!r} has {counts.min()} images here and {FOLDS} folds need "
            f"at least {FOLDS}; add images, {rho}or leave the class out."
        )
    if kind == "paper":
        is_test = _assign_folds(labels) == fold
        return rows[~is_test], rows[is_test]
    groups = dataset.groups[rows]
    if (n_groups := len(np.unique(groups))) < FOLDS:
        raise UserError(
            f"{dataset.name} has {n_groups} groups and {FOLDS} folds need at least {FOLDS}; give it a split of its "
            "own, or --split paper, which puts images of one group on both sides."
        )
    is_test = _assign_grouped_folds(labels, groups) == fold
    return rows[~is_test], rows[is_test]


def _split_rows(dataset: Dataset, rows: Ints, options: SplitOptions) -> tuple[Ints, Ints]:
    """Divide rows into the training and the test side, by the source's own split if it has one."""
    kind, test_part = parse_split(options.kind)
    if kind == "grouped":
        refuse_without_groups(dataset)
    if dataset.own_split is None:
        if test_part == "val":
            raise UserError(
                f"{dataset.name} has no split of its own and so no val to test on; leave out --test val."
            )
        return _split_fold(dataset, rows, kind, options.fold)
    if options.fold:
        whose = (
            "is tested on the challenge's own images"
            if kind == "official"
            else "comes with a split of its own"
        )
        raise UserError(f"{dataset.name} {whose}, so there is only fold 0.")
    side = dataset.own_split[rows]
    train, test = rows[side == "train"], rows[side == test_part]
    if kind == "grouped":
        train = train[~np.isin(dataset.groups[train], dataset.groups[test])]
    return train, test


def _check_sides(dataset: Dataset, train: Ints, test: Ints, options: SplitOptions) -> None:
    """Check that there is something to train on and to test on. Raises UserError with the fix."""
    name, where = dataset.name, f"in fold {options.fold} of split {options.kind!r}"
    if dataset.own_split is not None:
        check_parts(name, set(dataset.own_split), parse_split(options.kind)[1])
    fix = "choose another fold or add images"
    if dataset.own_split is not None:
        fix = "add images"
    if n_shared := count_left_out(dataset, test, options.kind):
        where += f", where {n_shared} images of its train share a group with a test image and are left out"
        fix = "add images, or --split paper"
    if not len(test):
        raise UserError(f"{name}: no test image {where}; {fix}.")
    missing = np.bincount(dataset.labels[train], minlength=len(dataset.classes)) == 0
    if missing.any():
        short = int(missing.argmax())
        if (
            dataset.own_split is not None
            and not (dataset.labels[dataset.own_split == "train"] == short).any()
        ):
            fix = f"add images, or leave the class out of {parse_split(options.kind)[1]}"
        raise UserError(f"{name}: no training image of class {dataset.classes[short]!r} {where}; {fix}.")
    if len(train) < 2:
        raise UserError(f"{name}: one training image {where}, and batch statistics need two; {fix}.")


def _check_options(options: SplitOptions) -> None:
    if options.kind not in SPLITS:
        raise UserError(f"split {options.kind!r} is unknown; it is one of {', '.join(SPLITS)}.")
    if not 0 <= options.fold < FOLDS:
        raise UserError(f"fold {options.fold} does not exist; folds are 0 to {FOLDS - 1}.")
    if not 0 < options.fraction <= 1:
        raise UserError(
            f"fraction is {options.fraction:g}; it is the share of the training fold to keep, in (0, 1]."
        )


def split_dataset(dataset: Dataset, options: SplitOptions = DEFAULT) -> Split:
    """Compute one fold of a dataset.

    Raises UserError when a value is out of range, nothing would be tested, or a class would not be trained on.
    """
    _check_options(options)
    rows = np.arange(len(dataset.labels), dtype=np.int64)
    if options.rho is not None:
        fixed = dataset.own_split == "test" if options.kind == "official" else np.zeros(len(rows), bool)
        counts = np.bincount(dataset.labels[~fixed], minlength=len(dataset.classes)).astype(np.int64)
        keep = compute_resampled_counts(counts, options.rho, options.imbalance)
        seed = derive_seed("rho", dataset.identity, options.seed)
        rows = np.union1d(_subsample_per_class(rows[~fixed], dataset.labels, keep, seed), rows[fixed])
    train, test = _split_rows(dataset, rows, options)
    if options.fraction < 1:
        counts = np.bincount(dataset.labels[train], minlength=len(dataset.classes))
        keep = np.minimum(counts, np.maximum(1, np.rint(counts * options.fraction))).astype(np.int64)
        seed = derive_seed("fraction", dataset.identity, options.fold, options.seed)
        train = _subsample_per_class(train, dataset.labels, keep, seed)
    train, validating = split_validation(dataset, (train, test), options.kind, options.validation)
    _check_sides(dataset, train, test, options)
    ids = np.asarray(dataset.ids)
    fingerprint = compute_fingerprint(sorted(ids[train].tolist()), sorted(ids[test].tolist()))
    return Split(options.kind, options.fold, train, test, fingerprint, validating)
