"""Sampling of the contrast memory's rows that an image is compared with: positives and negatives, on the device."""

from __future__ import annotations

import torch
from torch import Tensor


class ContrastSampler:
    """Samples positives of an image's class and negatives of all other classes.

    labels: (N,) int64 in [0, classes), of the training images; read back from the device once, at construction.
    n_positives: P ≥ 1, the image itself included. n_negatives: K ≥ 0.
    generator: the only source of randomness, on the labels' device.
    Raises ValueError for other counts, and for negatives where all labels are of one class.

    >>> labels = torch.tensor([0, 0, 1, 1, 1])
    >>> sampler = ContrastSampler(labels, 2, 1, 2, torch.Generator().manual_seed(0))
    >>> rows = sampler.sample(torch.tensor([0, 4]))
    >>> rows[:, 0], labels[rows]
    (tensor([0, 4]), tensor([[0, 1, 1],
            [1, 0, 0]]))
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
        # repeated, so that the end of any class is followed by all other classes' images and then its own
        self.by_class = torch.cat([by_class, by_class])
        self.class_counts = counts
        self.class_ends = counts.cumsum(0)
        self.own_sizes = sizes
        self.other_sizes = [len(labels) - size for size in sizes]

    def sample(self, index: Tensor) -> Tensor:
        """Sample rows for the images ``index`` (B,): (B, P + K), the image itself, P − 1 positives, K negatives.

        Each image's K negatives are uniform over the other classes, without replacement if those have at least K
        images and with replacement otherwise (O:CRD). Likewise the P − 1 further positives over its own class, the
        image itself among them (O:CRCKD). Nothing is read back from the device.
        """
        label = self.labels[index]
        own, end = self.class_counts[label, None], self.class_ends[label, None]
        others = len(self.labels) - own
        # the n highest of random keys are a uniform sample; the class's keys and the others' give two independent ones
        key = self._sample_uint31(len(index), len(self.labels))
        is_own = torch.arange(key.shape[1], device=index.device) >= others
        columns = [index[:, None]]
        if self.n_positives > 1:
            n = self.n_positives - 1
            fallback = others + self._sample_below(own, n) if min(self.own_sizes) < n else None
            own_key = key.where(is_own, -1)
            columns.append(self._pick_rows(own_key, end, own, n, self.own_sizes, fallback))
        if self.n_negatives:
            n = self.n_negatives
            fallback = self._sample_below(others, n) if min(self.other_sizes) < n else None
            key.masked_fill_(is_own, -1)
            columns.append(self._pick_rows(key, end, others, n, self.other_sizes, fallback))
        return torch.cat(columns, 1)

    def _pick_rows(
        self,
        key: Tensor,
        end: Tensor,
        pool_sizes: Tensor,
        n: int,
        all_pool_sizes: list[int],
        fallback: Tensor | None,
    ) -> Tensor:
        """Pick the n images of highest key (B, N); for a pool of fewer than n images, those at ``fallback``.

        Positions are counted from the ``end`` (B, 1) of the image's class.
        all_pool_sizes: every size that a pool can have.
        """
        if max(all_pool_sizes) < n:
            assert fallback is not None
            position = fallback
        else:
            position = key.topk(n, sorted=False).indices
            if fallback is not None:
                position = torch.where(pool_sizes >= n, position, fallback)
        return self.by_class.expand(len(position), -1).gather(1, position + end)

    def _sample_uint31(self, rows: int, columns: int) -> Tensor:
        """Sample integers from 0 to 2³¹ − 1, (rows, columns) int32."""
        # a serial generator makes one number of 64 bits, split in halves, faster than two of 31
        pairs = torch.empty((rows * columns + 1) // 2, dtype=torch.int64, device=self.labels.device)
        pairs.random_(-(2**63), None, generator=self.generator)
        return pairs.view(torch.int32)[: rows * columns].view(rows, columns).bitwise_and_(2**31 - 1)

    def _sample_below(self, pool_sizes: Tensor, n: int) -> Tensor:
        """Sample n integers below each of ``pool_sizes`` (B, 1), with replacement, (B, n)."""
        return (self._sample_uint31(len(pool_sizes), n) * pool_sizes).bitwise_right_shift_(31)
