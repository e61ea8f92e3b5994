"""The published sizes of data sets: how many images a run trains on, before there is an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.data import official
from udcd_bench.data.layouts import aptos, ham10000
from udcd_bench.data.splits import FOLDS, compute_resampled_counts
from udcd_bench.data.validation import measure_share

if TYPE_CHECKING:
    from udcd_bench.data.dataset import Ints
    from udcd_bench.data.splits import SplitOptions

_PUBLISHED = {
    aptos.SOURCE.name: aptos.EXPECTED_COUNTS,
    ham10000.SOURCE.name: ham10000.EXPECTED_COUNTS,
    ham10000.TEST_SOURCE.name: ham10000.TEST_COUNTS,
}


def find_counts(name: str) -> Ints | None:
    """Find the published number of images of each class of a data set (C,); None where it is not known here."""
    if name not in _PUBLISHED:
        return None
    return np.array(list(_PUBLISHED[name].counts.values()), dtype=np.int64)


def count_training_images(name: str, options: SplitOptions) -> int:
    """Count the images that a split of a data set of published size trains on.

    It is exact where images are divided one by one and all are kept; a grouped split has about as many, and a share
    of the training images is rounded class by class once they are there.
    """
    counts = find_counts(name)
    assert counts is not None, name
    if options.rho is not None:
        counts = compute_resampled_counts(counts, options.rho, options.imbalance)
    n = int(counts.sum())
    if options.kind != official.SPLIT:  # which trains on all
        n -= len(range(options.fold, n, FOLDS))
    return round(n * options.fraction * (1 - measure_share(options.validation)))
