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
        count, start = self.counts[label, None], self.starts[label, None]
        place = torch.arange(len(self.labels), device=index.device)
        own = (place >= start) & (place < start + count)
        # the highest of random keys are a uniform draw; those of a class and of the others serve two independent ones
        key = self._random(*own.shape)
        columns = [index[:, None]]
        if self.n_positives > 1:
            n = self.n_positives - 1
            again = start + self._below(count, n) if min(self.own_sizes) < n else None
            columns.append(self._rows(key.where(own, -1), count, n, self.own_sizes, again))
        if self.n_negatives:
            n, others = self.n_negatives, len(self.labels) - count
            again = None
            if min(self.other_sizes) < n:
                # the images sorted by class, with the own class's stretch left out
                again = self._below(others, n)
                again += count * (again >= start)
            columns.append(self._rows(key.masked_fill_(own, -1), others, n, self.other_sizes, again))
        return torch.cat(columns, 1)

    def _rows(self, key: Tensor, pool: Tensor, n: int, sizes: list[int], again: Tensor | None) -> Tensor:
        """The n rows of highest key, or those at the places `again` for a pool of fewer. sizes: all that can occur."""
        if max(sizes) < n:
            assert again is not None
            return self.by_class[again]
        distinct = key.topk(n, sorted=False).indices
        return self.by_class[distinct if again is None else torch.where(pool >= n, distinct, again)]

    def _random(self, rows: int, columns: int) -> Tensor:
        """Numbers from 0 to 2³¹ − 1."""
        empty = torch.empty(rows, columns, dtype=torch.int32, device=self.labels.device)
        return empty.random_(generator=self.generator)

    def _below(self, pool: Tensor, n: int) -> Tensor:
        """n numbers below each of `pool` (B, 1), with replacement."""
        return (self._random(len(pool), n) * pool) >> 31
