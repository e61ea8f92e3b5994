"""``digits``: scikit-learn's 8×8 real handwriting (UCI Optical Recognition), made long-tailed with ρ = 4.

Class c of C keeps round(n_max · ρ^(−c/(C−1))) images, n_max as large as every class allows; which ones is decided by a
fixed seed. The images come with scikit-learn: a real data set without any download.
"""

from __future__ import annotations

import hashlib

import numpy as np

from udcd_bench.data.layouts.image_arrays import ImageArrays
from udcd_bench.data.layouts.source import Source

SOURCE = Source(
    "digits", "Digits (long-tailed, ρ = 4)", "scikit-learn's 8×8 real handwriting, made long-tailed"
)
RHO = 4.0
SEED = 2020
VERSION = 1


def compute_counts(available: list[int], rho: float = RHO) -> list[int]:
    """Count the images that each class keeps.

    available: images of each class. rho: the first class, the largest, over the last, the smallest.
    """
    share = [rho ** (-c / (len(available) - 1)) for c in range(len(available))]
    n_max = int(min(n / s for n, s in zip(available, share, strict=True)))
    return [round(n_max * s) for s in share]


def compute_checksum() -> str:
    """Compute the checksum that changes when this set does."""
    return hashlib.sha256(repr((SOURCE.name, VERSION, RHO, SEED)).encode()).hexdigest()


def read_arrays() -> ImageArrays:
    """Read the long-tailed digits, n images (8, 8) uint8."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    keep = compute_counts(np.bincount(labels).tolist())
    rows = np.sort(
        np.concatenate(
            [
                np.random.default_rng([SEED, c]).permutation(np.flatnonzero(labels == c))[:n]
                for c, n in enumerate(keep)
            ]
        )
    )
    grey = (pixels.reshape(-1, 8, 8) * (255 / 16) + 0.5).astype(np.uint8)
    return ImageArrays(
        name=SOURCE.name,
        title=SOURCE.title,
        classes=tuple(str(c) for c in range(len(keep))),
        ids=[f"digit-{row:04d}" for row in rows],
        labels=labels[rows].astype(np.int64),
        images=list(grey[rows]),
        source="scikit-learn load_digits",
    )
