"""Which images train and which test: folds, imbalance and scarcity, each drawn from a seed that names what it is for.

A split never depends on the method, so methods are compared in pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.data.dataset import Dataset, Ints, compute_fingerprint
from udcd_bench.errors import UserError
from udcd_bench.runs.spec import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterable

SPLIT_KINDS = ("paper", "grouped")
FOLDS = 5
RANDOM_STATE = 2020
"""Of the stratified folds (O:CRCKD; the paper states no split)."""


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of a dataset that train and that test, and a hash of the ids on either side."""

    kind: str
    fold: int
    train: Ints
    test: Ints
    hash: str


def compute_resampled_counts(counts: Ints, rho: float, imbalance: str = "power") -> Ints:
    """Class counts (C,) at imbalance ``rho`` = largest / smallest class, never more than there are.

    ``power`` (S): n' = n_ref · (n / n_ref)^γ with γ = ln ρ' / ln ρ; n_ref is the largest class when ρ' > ρ and the
    smallest when ρ' < ρ. ``truncate`` caps every class at ρ' · n_min and can only lower ρ.
    """
    if not 1 <= rho < np.inf:
        raise UserError(f"rho is {rho:g}; it is largest / smallest class, so give 1 or more.")
    if counts.min() == 0:
        raise UserError("There is a class without images, so the data have no rho; leave the class out.")
    n = counts.astype(np.float64)
    own = n.max() / n.min()
    if imbalance == "truncate":
        if rho > own:
            raise UserError(
                f"imbalance=truncate can only lower rho, and the data's own is {own:.1f} < {rho:g}."
            )
        capped: Ints = np.minimum(counts, np.floor(rho * n.min())).astype(np.int64)
        return capped
    if imbalance != "power":
        raise UserError(f"imbalance is {imbalance!r}; it is one of power, truncate.")
    if own == 1:
        # no exponent makes equal classes unequal, so the rank decides, as in the long-tailed benchmarks
        rank = np.arange(len(n)) / max(len(n) - 1, 1)
        return np.maximum(1, np.rint(n * rho**-rank)).astype(np.int64)
    reference = n.max() if rho > own else n.min()
    target = reference * (n / reference) ** (np.log(rho) / np.log(own))
    drawn: Ints = np.minimum(counts, np.maximum(1, np.rint(target))).astype(np.int64)
    return drawn


def _subsample_per_class(rows: Ints, labels: Ints, keep: Iterable[int], seed: int) -> Ints:
    """The first ``keep[c]`` of class c's rows in a seeded order, so that smaller draws nest in larger ones."""
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


def _split_fold(dataset: Dataset, rows: Ints, kind: str, fold: int) -> tuple[Ints, Ints]:
    labels = dataset.labels[rows]
    counts = np.bincount(labels, minlength=len(dataset.classes))
    if counts.min() < FOLDS:
        short = dataset.classes[int(counts.argmin())]
        raise UserError(
            f"{dataset.name}: class {short!r} has {counts.min()} images here and {FOLDS} folds need at least "
            f"{FOLDS}; add images, raise rho, or leave the class out."
        )
    if kind == "paper":
        is_test = _assign_folds(labels) == fold
        return rows[~is_test], rows[is_test]
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=RANDOM_STATE)
    train, test = list(folds.split(rows, labels, dataset.groups[rows]))[fold]
    return rows[train], rows[test]


def split_dataset(
    dataset: Dataset,
    *,
    kind: str = "paper",
    fold: int = 0,
    rho: float | None = None,
    imbalance: str = "power",
    fraction: float = 1.0,
    seed: int = 0,
) -> Split:
    """Draw one fold of a dataset.

    kind: ``paper`` (stratified by class, image by image) or ``grouped`` (moreover no group on both sides). A source
        with a split of its own keeps it: its ``train`` trains, its ``test`` tests, its ``val`` is left out.
    rho: resample the whole set to this imbalance before splitting; None leaves it alone.
    fraction: of the training side to keep, stratified; the test side stays.
    seed: of the two draws above; the folds themselves depend on the data alone.

    Raises UserError when a value is out of range or a class would be missing from the training side.
    """
    if kind not in SPLIT_KINDS:
        raise UserError(f"split {kind!r} is unknown; it is one of {', '.join(SPLIT_KINDS)}.")
    if not 0 <= fold < FOLDS:
        raise UserError(f"fold {fold} does not exist; folds are 0 to {FOLDS - 1}.")
    if not 0 < fraction <= 1:
        raise UserError(f"fraction is {fraction:g}; it is the share of the training fold to keep, in (0, 1].")
    rows = np.arange(len(dataset.labels), dtype=np.int64)
    if rho is not None:
        keep = compute_resampled_counts(dataset.count_labels(), rho, imbalance)
        rows = _subsample_per_class(rows, dataset.labels, keep, derive_seed("rho", dataset.name, seed))
    if dataset.own_split is not None:
        if fold:
            raise UserError(f"{dataset.name} comes with a split of its own, so there is only fold 0.")
        side = dataset.own_split[rows]
        train, test = rows[side == "train"], rows[side == "test"]
        if kind == "grouped":
            train = train[~np.isin(dataset.groups[train], dataset.groups[test])]
    else:
        train, test = _split_fold(dataset, rows, kind, fold)
    if fraction < 1:
        counts = np.bincount(dataset.labels[train], minlength=len(dataset.classes))
        keep = np.minimum(counts, np.maximum(1, np.rint(counts * fraction))).astype(np.int64)
        train = _subsample_per_class(
            train, dataset.labels, keep, derive_seed("fraction", dataset.name, fold, seed)
        )
    missing = np.bincount(dataset.labels[train], minlength=len(dataset.classes)) == 0
    if missing.any():
        raise UserError(
            f"{dataset.name}: no training image of class {dataset.classes[int(missing.argmax())]!r} in fold {fold} "
            f"of split {kind!r}; choose another fold or add images."
        )
    ids = np.asarray(dataset.ids)
    return Split(
        kind, fold, train, test, compute_fingerprint(sorted(ids[train].tolist()), sorted(ids[test].tolist()))
    )
