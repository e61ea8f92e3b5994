"""How far the classes of an embedding lie apart, as numbers and in a plane. Pure functions.

Rows are brought to unit length first: contrastive losses act on directions, and lengths differ between methods.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 10
PERPLEXITY = 30.0
"""Of t-SNE where there are images enough (van der Maaten & Hinton 2008 advise 5 to 50)."""


class Separation(NamedTuple):
    """silhouette: mean over images, cosine distance, in [-1, 1]; NaN for a single class.

    purity: share of an image's nearest neighbours that are of its class, mean over images, in [0, 1].
    chance: that share in an embedding without any order.
    """

    silhouette: float
    purity: float
    chance: float


def measure_separation(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike, neighbours: int = NEIGHBOURS
) -> Separation:
    """Of embeddings (n, D) and labels (n,), n ≥ 2; of fewer images than neighbours + 1, all others are neighbours."""
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    z, y = normalize_rows(embeddings), np.asarray(labels)
    if len(y) < 2:
        return Separation(math.nan, math.nan, math.nan)
    counts = np.unique(y, return_counts=True)[1]
    near = NearestNeighbors(n_neighbors=min(neighbours, len(y) - 1), algorithm="brute").fit(z)
    # asked without rows, it leaves each row itself out
    purity = float((y[near.kneighbors(return_distance=False)] == y[:, None]).mean())
    chance = float((counts * (counts - 1)).sum() / (len(y) * (len(y) - 1)))
    some = 2 <= len(counts) < len(y)
    return Separation(float(silhouette_score(z, y, metric="cosine")) if some else math.nan, purity, chance)


def choose_perplexity(n: int) -> float:
    """Of t-SNE of n images: 30, or a third of the others where they are few, for no image has more neighbours."""
    return min(PERPLEXITY, max(1.0, (n - 1) / 3))


def compute_tsne(embeddings: npt.ArrayLike, seed: int) -> Floats:
    """t-SNE (n, 2) of embeddings (n, D), n ≥ 4, from their first two principal components; one thread, repeatable."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    z = normalize_rows(embeddings)
    if not np.ptp(z, axis=0).any():
        return np.zeros((len(z), 2))
    made = TSNE(perplexity=choose_perplexity(len(z)), init="pca", random_state=seed, n_jobs=1)
    # sums of several threads come in any order
    with threadpool_limits(1):
        return np.asarray(made.fit_transform(z), dtype=np.float64)


def normalize_rows(embeddings: npt.ArrayLike) -> Floats:
    """Rows of unit length; a row of zeros stays one."""
    x = np.asarray(embeddings, dtype=np.float64)
    made: Floats = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return made
