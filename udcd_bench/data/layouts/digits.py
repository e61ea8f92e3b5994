"""``digits``: scikit-learn's 8×8 real handwriting (UCI Optical Recognition), made long-tailed with ρ = 4.

Class c of C keeps round(n_max · ρ^(−c/(C−1))) images, n_max as large as every class allows; which ones is
drawn once, with a fixed seed. It comes with scikit-learn: a real data set without any download.
"""

from __future__ import annotations

import numpy as np

from udcd_bench.data.layouts.arrays import ImageArrays

NAME = "digits"
TITLE = "Digits (long-tailed, ρ = 4)"
RHO = 4.0
SEED = 2020
VERSION = 1


def compute_counts(available: list[int], rho: float = RHO) -> list[int]:
    """Images each class keeps of those it has; the first class is the largest, `rho` times the last."""
    share = [rho ** (-c / (len(available) - 1)) for c in range(len(available))]
    n_max = int(min(n / s for n, s in zip(available, share, strict=True)))
    return [round(n_max * s) for s in share]


def read_arrays() -> ImageArrays:
    """The long-tailed digits at their own 8×8 pixels, as (8, 8) uint8."""
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
        name=NAME,
        title=TITLE,
        classes=tuple(str(c) for c in range(len(keep))),
        ids=[f"digit-{row:04d}" for row in rows],
        labels=labels[rows].astype(np.int64),
        images=list(grey[rows]),
        source="scikit-learn load_digits",
    )
