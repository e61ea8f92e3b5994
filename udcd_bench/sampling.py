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
        by_class = labels.argsort(stable=True)
        # twice over, so that from the end of any class on come all others' images and then its own
        self.by_class = torch.cat([by_class, by_class])
        self.class_counts = counts
        self.class_ends = counts.cumsum(0)
        self.own_sizes = sizes
        self.other_sizes = [len(labels) - size for size in sizes]

    def sample(self, index: Tensor) -> Tensor:
        """Rows for the images `index` (B,): (B, P + K), the image itself, P − 1 positives, K negatives.

        Each image's K negatives are a uniform draw from the other classes, without replacement while those hold
        at least K images and with replacement otherwise (O:CRD). Likewise the P − 1 further positives from its
        own class, of which the image is a member as good as any (O:CRCKD). Nothing is read back from the device.
        """
        label = self.labels[index]
        own, end = self.class_counts[label, None], self.class_ends[label, None]
        others = len(self.labels) - own
        # the highest of random keys are a uniform draw; those of a class and of the others serve two independent ones
        key = self._sample_uint31(len(index), len(self.labels))
        is_own = torch.arange(key.shape[1], device=index.device) >= others
        columns = [index[:, None]]
        if self.n_positives > 1:
            n = self.n_positives - 1
            again = others + self._sample_below(own, n) if min(self.own_sizes) < n else None
            columns.append(self._pick_rows(key.where(is_own, -1), end, own, n, self.own_sizes, again))
        if self.n_negatives:
            n = self.n_negatives
            again = self._sample_below(others, n) if min(self.other_sizes) < n else None
            key.masked_fill_(is_own, -1)
            columns.append(self._pick_rows(key, end, others, n, self.other_sizes, again))
        return torch.cat(columns, 1)

    def _pick_rows(
        self, key: Tensor, end: Tensor, pool_sizes: Tensor, n: int, sizes: list[int], fallback: Tensor | None
    ) -> Tensor:
        """The n images of highest key, or those at the places `again` for a pool of fewer.

        Places are counted from the `end` of the image's class. sizes: all that a pool can have.
        """
        if max(sizes) < n:
            assert fallback is not None
            place = fallback
        else:
            place = key.topk(n, sorted=False).indices
            if fallback is not None:
                place = torch.where(pool_sizes >= n, place, fallback)
        return self.by_class.expand(len(place), -1).gather(1, place + end)

    def _sample_uint31(self, rows: int, columns: int) -> Tensor:
        """Numbers from 0 to 2³¹ − 1."""
        # a serial generator gives two halves of 64 bits sooner than two numbers of 31
        pairs = torch.empty((rows * columns + 1) // 2, dtype=torch.int64, device=self.labels.device)
        pairs.random_(-(2**63), None, generator=self.generator)
        return pairs.view(torch.int32)[: rows * columns].view(rows, columns).bitwise_and_(2**31 - 1)

    def _sample_below(self, pool_sizes: Tensor, n: int) -> Tensor:
        """n numbers below each of `pool` (B, 1), with replacement."""
        return (self._sample_uint31(len(pool_sizes), n) * pool_sizes).bitwise_right_shift_(31)
