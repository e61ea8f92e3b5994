"""Validation images: a part of the training fold by group, or the ``val`` that a source brings.

Epochs and settings are chosen on them, so that nothing is chosen on the test images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.errors import UserError
from udcd_bench.runs.spec import derive_seed, parse_split

if TYPE_CHECKING:
    import numpy.typing as npt

    from udcd_bench.data.dataset import Dataset, Ints

OWN = "own"


def measure_share(validation: str) -> float:
    """Return the share of the training fold that validates; 0 where none does, as where the source brings its own."""
    return 0.0 if validation in ("none", OWN) else float(validation)


def split_validation(
    dataset: Dataset, sides: tuple[Ints, Ints], kind: str, validation: str
) -> tuple[Ints, Ints]:
    """Divide the training side into what trains and what validates.

    sides: the rows of the training and of the test side. validation: as of ``Protocol``.
    A source's own ``val`` takes nothing from what trains.

    Raises UserError when there is nothing to validate on.
    """
    train, test = sides
    if validation == OWN:
        return train, _select_own(dataset, np.concatenate([train, test]), kind)
    if (share := measure_share(validation)) == 0:
        return train, np.empty(0, np.int64)
    is_chosen = _choose_groups(dataset, train, share)
    if not is_chosen.any():
        raise UserError(
            f"{dataset.name}: validation={validation} of {len(train)} training images leaves none to validate on, "
            "since each class keeps one group that trains; give a larger share, or add images."
        )
    return train[~is_chosen], train[is_chosen]


def _select_own(dataset: Dataset, others: Ints, kind: str) -> Ints:
    """Select a source's own ``val``; of a grouped split without what shares a group with the other sides."""
    if dataset.own_split is None or not (dataset.own_split == "val").any():
        raise UserError(f"{dataset.name} brings no val; give a share, such as validation=0.2.")
    if parse_split(kind)[1] == "val":
        raise UserError(
            f"The val of {dataset.name} tests here and cannot validate; give validation=0.2, or leave out --test val."
        )
    rows = np.flatnonzero(dataset.own_split == "val")
    if parse_split(kind)[0] == "grouped":
        rows = rows[~np.isin(dataset.groups[rows], dataset.groups[others])]
    if not len(rows):
        raise UserError(
            f"Every val image of {dataset.name} shares a group with another side; give validation=0.2 instead."
        )
    return rows


def _choose_groups(dataset: Dataset, rows: Ints, share: float) -> npt.NDArray[np.bool_]:
    """Choose the rows (n,) that validate: whole groups, and of every class as near to its share as groups allow.

    Also where folds divide image by image: an image that trains says much of another one of its lesion, and an epoch
    chosen on that one would be the one that remembers best. The rarest class chooses first, each in a seeded order,
    and keeps one group that trains.
    """
    labels, groups = dataset.labels[rows], np.unique(dataset.groups[rows], return_inverse=True)[1]
    counts = np.zeros((int(groups.max()) + 1, len(dataset.classes)), np.int64)
    np.add.at(counts, (groups, labels), 1)
    total = counts.sum(0)
    left = total.copy()
    is_chosen = np.zeros(len(counts), bool)
    for label in np.argsort(total, kind="stable"):
        least = total[label] - round(share * total[label])
        rng = np.random.default_rng(derive_seed("validation", dataset.identity, int(label)))
        for group in rng.permutation(np.flatnonzero((counts[:, label] > 0) & ~is_chosen)):
            missing, some = left[label] - least, counts[group]
            is_nearer = some[label] < 2 * missing
            if is_nearer and (left > some)[some > 0].all():
                is_chosen[group] = True
                left -= some
    chosen: npt.NDArray[np.bool_] = is_chosen[groups]
    return chosen
