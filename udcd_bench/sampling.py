"""Which rows of a contrast memory an image is compared with: drawn per image, in batch, on the device."""

from __future__ import annotations

import torch
from torch import Tensor


class ContrastSampler:
    """Draws positives of an image's class and negatives of all other classes.

    labels: (N,) int64 in [0, classes), of the training images; read once, here. n_positives ≥ 1 counts the image
    itself; n_negatives ≥ 0. Raises ValueError for other counts, and for labels that leave a class without negatives.
    generator: on the labels' device; nothing else is random.
    """

    def __init__(
        self, labels: Tensor, classes: int, n_positives: int, n_negatives: int, generator: torch.Generator
    ) -> None:
        counts = torch.bincount(labels, minlength=classes)
        sizes = [size for size in counts.tolist() if size]
        if n_positives < 1 or n_negatives < 0:
            raise ValueError(f"n_positives ≥ 1 and n_negatives ≥ 0, not {n_positives} and {n_negatives}.")
        if n_negatives and len(sizes) < 2:
            raise ValueError("The labels hold a single class, which leaves no negatives.")
        self.n_positives, self.n_negatives = n_positives, n_negatives
        self.labels, self.generator = labels, generator
        self.by_class = labels.argsort(stable=True)
        self.counts = counts
        self.starts = counts.cumsum(0) - counts
        self.own_sizes = sizes
        self.other_sizes = [len(labels) - size for size in sizes]

    def draw(self, index: Tensor) -> Tensor:
        """Rows for the images `index` (B,): (B, P + K), the image itself, P − 1 positives, K negatives.

        Each image's K negatives are a uniform draw from the other classes, without replacement while those hold
        at least K images and with replacement otherwise (O:CRD). Likewise the P − 1 further positives from its
        own class, of which the image is a member as good as any (O:CRCKD). Nothing is read back from the device.
        """
        label = self.labels[index]
        count, start = self.counts[label], self.starts[label]
        columns = [index[:, None]]
        if self.n_positives > 1:
            place = self._places(count, self.n_positives - 1, self.own_sizes)
            columns.append(self.by_class[start[:, None] + place])
        if self.n_negatives:
            place = self._places(len(self.labels) - count, self.n_negatives, self.other_sizes)
            # the images sorted by class, with the own class's stretch left out
            columns.append(self.by_class[place + count[:, None] * (place >= start[:, None])])
        return torch.cat(columns, 1)

    def _places(self, pool: Tensor, n: int, sizes: list[int]) -> Tensor:
        """For each pool size of `pool` (B,), n places in [0, size), (B, n). sizes: all that can occur."""
        device, generator = pool.device, self.generator
        again = distinct = None
        if min(sizes) < n:
            drawn = torch.randint(2**62, (len(pool), n), generator=generator, device=device)
            again = drawn % pool[:, None]
        if max(sizes) >= n:
            # the n highest of random keys
            shape = (len(pool), max(sizes))
            key = torch.randint(2**31 - 1, shape, generator=generator, device=device, dtype=torch.int32)
            key = key.masked_fill(torch.arange(shape[1], device=device) >= pool[:, None], -1)
            distinct = key.topk(n, sorted=False).indices
        if again is None or distinct is None:
            places = distinct if again is None else again
            assert places is not None
            return places
        return torch.where(pool[:, None] >= n, distinct, again)
