"""The split and the groups that a data set brings: what a record says of them, and what they must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.errors import UserError
from udcd_bench.runs.names import FOLDER
from udcd_bench.runs.spec import parse_split

if TYPE_CHECKING:
    from collections.abc import Set

    from udcd_bench.data.dataset import Dataset, Ints
    from udcd_bench.data.splits import Split


@dataclass(frozen=True)
class OwnSplit:
    """The split that a data set brings, as a record and a caption state it.

    Attributes
    ----------
    whose: ``own``, or ``official`` where those who published the data made it.
    unused: the part that neither trains nor tests, ``val`` or ``test``; n_unused: its images.
    n_left_out: training images left out because they share a group with a test image.
    """

    whose: str
    unused: str
    n_unused: int
    n_left_out: int


def describe_own_split(dataset: Dataset, split: Split) -> OwnSplit | None:
    """Describe the split that a data set brings; None where it brings none, and of a set joined with its test."""
    kind, test_part = parse_split(split.kind)
    if dataset.own_split is None or kind == "official":
        return None
    unused = "val" if test_part == "test" else "test"
    n_left_out = count_left_out(dataset, split.test, split.kind)
    whose = "own" if dataset.name.startswith(FOLDER) else "official"
    n_validating = int((dataset.own_split[split.validation] == unused).sum())
    return OwnSplit(whose, unused, int((dataset.own_split == unused).sum()) - n_validating, n_left_out)


def count_shared(dataset: Dataset, rows: Ints, others: Ints) -> int:
    """Count the rows that share a group with another set of rows."""
    return int(np.isin(dataset.groups[rows], dataset.groups[others]).sum())


def count_left_out(dataset: Dataset, test: Ints, kind: str) -> int:
    """Count the training images that a grouped split leaves out of a source's own because of their group."""
    if dataset.own_split is None or parse_split(kind)[0] != "grouped":
        return 0
    return count_shared(dataset, np.flatnonzero(dataset.own_split == "train"), test)


def check_parts(name: str, parts: Set[str], test_part: str) -> None:
    """Check that a source's own split has a part to train on and one to test on. Raises UserError with the fix."""
    has = " and ".join(part for part in ("train", "val", "test") if part in parts)
    if "train" not in parts:
        raise UserError(f"{name} has {has} and no train; give it training images.")
    if test_part in parts:
        return
    if test_part == "val":
        fix = "leave out --test val"
    elif "val" in parts:
        fix = "add --test val to test on val, and tables say so, or give it test images"
    else:
        fix = "give it test images"
    raise UserError(f"{name} has {has} and no {test_part}; {fix}.")


def refuse_without_groups(dataset: Dataset) -> None:
    """Raise UserError when nothing says which of one's own images must not be separated."""
    is_grouped = dataset.group_column or len(np.unique(dataset.groups)) < len(dataset.groups)
    if dataset.name.startswith(FOLDER) and not is_grouped:
        raise UserError(
            f"{dataset.name} has no groups, so --split grouped would divide image by image: leave it out, or list the "
            "images in a CSV with a column such as patient_id (--group-column names another)."
        )
