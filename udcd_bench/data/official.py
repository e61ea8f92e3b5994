"""``--split official``: a data set joined with its challenge's own test set, as one set with a split of its own.

The joined set is written beside the two it is made from, in ``<data>/NAME-official/<size>``, and again when either
changes.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from udcd_bench.data.dataset import Dataset

SPLIT = "official"
TESTS = {"ham10000": "isic2018-test"}
"""Data set → the set that tests what was trained on all of it."""
_SUFFIX = "-official"


def name_images(dataset: str, split: str) -> str:
    """Name the images of a run: the data set's, or those of the joined set for the official split.

    Raises UserError when the data set has no official test set.
    """
    if split != SPLIT:
        return dataset
    if dataset not in TESTS:
        raise UserError(f"{dataset} has no official test set; --split {SPLIT} is for {', '.join(TESTS)}.")
    return dataset + _SUFFIX


def split_name(name: str) -> tuple[str, str] | None:
    """Split the name of a joined set into those of its training and its test images; None for any other name."""
    dataset = name.removesuffix(_SUFFIX)
    return (dataset, TESTS[dataset]) if dataset != name and dataset in TESTS else None


def join(train: Dataset, test: Dataset, target: Path, *, check_pixels: bool = False) -> Dataset:
    """Join two prepared sets of the same classes and size: the first trains, the second tests.

    Two images whose prepared pixels are equal share a group. Seeds are those of the first set.
    check_pixels: compare what was joined before with its checksum, as ``sources.LoadOptions`` has it.
    """
    from udcd_bench.data.cache import prepare, prepared

    checksum = hashlib.sha256(f"{train.fingerprint} {test.fingerprint}".encode()).hexdigest()
    if prepare.find_existing(target, checksum, check_pixels=check_pixels) is None:
        _write(train, test, target, checksum)
    return replace(prepared.load(target), name=train.name, identity=train.identity)


def _write(train: Dataset, test: Dataset, target: Path, checksum: str) -> None:
    import numpy as np

    from udcd_bench.data.cache import prepared, staging

    n, size = len(train.labels) + len(test.labels), train.size
    with staging.open_staging_dir(target, n, size) as folder:
        with (folder / prepared.ARRAY).open("r+b") as file:
            file.seek(prepared.HEADER_BYTES)
            for dataset in (train, test):
                for start in range(0, len(dataset.images), 256):
                    file.write(np.ascontiguousarray(dataset.images[start : start + 256]).data)
        rows = prepared.Rows(
            name=target.parent.name,
            title=train.title,
            classes=train.classes,
            ids=[*train.ids, *test.ids],
            labels=np.concatenate([train.labels, test.labels]).tolist(),
            groups=_merge_groups(train, test),
            source_sha256=checksum,
            own_split=["train"] * len(train.labels) + ["test"] * len(test.labels),
            ordered=train.ordered,
            incomplete=" ".join(dataset.incomplete for dataset in (train, test) if dataset.incomplete),
            copies=" and ".join(dict.fromkeys(dataset.copies for dataset in (train, test) if dataset.copies)),
            source=f"{train.name} and {test.name}",
            report=[*train.report, *test.report],
        )
        staging.commit(folder, target, rows, size)


def _merge_groups(train: Dataset, test: Dataset) -> list[int]:
    from udcd_bench.data.cache import prepare

    keys = []
    for side, dataset in (("train", train), ("test", test)):
        for image, group in zip(dataset.images, dataset.groups, strict=True):
            keys.append([f"{side} {group}", hashlib.sha256(image.tobytes()).hexdigest()])
    return prepare.merge_groups(keys)
