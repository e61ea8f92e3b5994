"""Separation of the classes in an embedding: silhouette, purity of neighbours, and t-SNE. Pure functions.

Rows are scaled to unit length first: contrastive losses act on directions, and lengths differ between methods.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from udcd_bench.stats.metrics import Floats, Metric

NEIGHBOURS = 10
"""Nearest neighbours that ``Separation.purity`` looks at."""
PERPLEXITY = 30.0
"""Perplexity of t-SNE for large enough sets (van der Maaten & Hinton 2008 advise 5 to 50)."""


SEPARATION_METRICS = {
    metric.name: metric
    for metric in (
        Metric("silhouette", "silhouette", "mean silhouette of the test images' embeddings, cosine, × 100"),
        Metric("purity", "purity", f"share of an embedding's {NEIGHBOURS} nearest neighbours of its class"),
    )
}
"""What ``measure_images`` measures, by name; no column of a table."""


class Separation(NamedTuple):
    """How well classes are separated.

    silhouette: mean over images, cosine distance, in [-1, 1]; NaN for a single class.
    purity: share of an image's nearest neighbours that are of its class, mean over images, in [0, 1].
    chance: that share in a random embedding.
    """

    silhouette: float
    purity: float
    chance: float


def measure_separation(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike, neighbours: int = NEIGHBOURS
) -> Separation:
    """Measure the separation of the classes of embeddings (n, D) with labels (n,); NaN for n < 2.

    Of fewer images than ``neighbours`` + 1, all others are neighbours.
    """
    y = np.asarray(labels)
    if len(y) < 2:
        return Separation(math.nan, math.nan, math.nan)
    counts = np.unique(y, return_counts=True)[1]
    values = measure_images(embeddings, y, neighbours)
    chance = float((counts * (counts - 1)).sum() / (len(y) * (len(y) - 1)))
    return Separation(float(values["silhouette"].mean()), float(values["purity"].mean()), chance)


def measure_images(
    embeddings: npt.ArrayLike, labels: npt.ArrayLike, neighbours: int = NEIGHBOURS
) -> dict[str, Floats]:
    """Measure how well each image of embeddings (n, D), n ≥ 2, lies among its class: silhouette and purity (n,).

    The silhouette is NaN for a single class, and where every image is a class.
    """
    from sklearn.metrics import silhouette_samples
    from sklearn.neighbors import NearestNeighbors

    z, y = normalize_rows(embeddings), np.asarray(labels)
    near = NearestNeighbors(n_neighbors=min(neighbours, len(y) - 1), algorithm="brute").fit(z)
    # called without rows, it leaves each row itself out
    purity = (y[near.kneighbors(return_distance=False)] == y[:, None]).mean(1)
    some = 2 <= len(np.unique(y)) < len(y)
    silhouette = silhouette_samples(z, y, metric="cosine") if some else np.full(len(y), math.nan)
    return {"silhouette": silhouette.astype(np.float64), "purity": purity}


def choose_perplexity(n: int) -> float:
    """Choose the perplexity of t-SNE of n images: 30, or a third of n − 1 for few images."""
    return min(PERPLEXITY, max(1.0, (n - 1) / 3))


def compute_tsne(embeddings: npt.ArrayLike, seed: int) -> Floats:
    """Compute t-SNE (n, 2) of embeddings (n, D), n ≥ 4, from their first two principal components.

    It uses one thread, so that the same seed gives the same result.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    z = normalize_rows(embeddings)
    if not np.ptp(z, axis=0).any():
        return np.zeros((len(z), 2))
    tsne = TSNE(perplexity=choose_perplexity(len(z)), init="pca", random_state=seed, n_jobs=1)
    # several threads would add up in any order
    with threadpool_limits(1):
        return np.asarray(tsne.fit_transform(z), dtype=np.float64)


def normalize_rows(embeddings: npt.ArrayLike) -> Floats:
    """Scale the rows of embeddings (n, D) to unit length; a row of zeros stays zero."""
    x = np.asarray(embeddings, dtype=np.float64)
    unit_rows: Floats = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit_rows
