"""Losses for data in which some classes have far more images than others."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from udcd_bench.losses._numeric import TINY, check_reduction, reduce, to_float64, use_full_precision


@use_full_precision
def logit_adjusted_cross_entropy(
    logits: Tensor, target: Tensor, class_counts: Tensor, tau: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """Compute the cross-entropy of logits + τ·log π, a scalar ≥ 0; π_c is the share of the training images of class c.

    logits: (B, C). target: (B,) int64 in [0, C). class_counts: (C,) ≥ 0, images of each class, without gradient; a
    class without any counts as a share of 1e-12. With reduction="none" (B,); any other ``reduction`` is a ValueError.
    Menon et al., Long-tail learning via logit adjustment, ICLR 2021, eq. 10. With τ = 1 it is also the balanced softmax
    of Ren et al., Balanced meta-softmax for long-tailed visual recognition, NeurIPS 2020, eq. 4, whose log n_c differs
    from log π_c by a constant.

    >>> logits, target = torch.zeros(2, 2), torch.tensor([0, 1])
    >>> logit_adjusted_cross_entropy(logits, target, torch.tensor([3, 1]), reduction="none")  # -log 3/4, -log 1/4
    tensor([0.2877, 1.3863])
    """
    check_reduction(reduction)
    counts = to_float64(class_counts.detach())
    prior = (counts / counts.sum().clamp_min(1)).clamp_min(TINY)
    adjusted = logits + (tau * prior.log()).to(logits.dtype)
    return reduce(F.cross_entropy(adjusted, target, reduction="none"), reduction)
