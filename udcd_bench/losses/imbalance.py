"""Losses for data in which some classes have far more images than others, and the class weights of one of them."""

from __future__ import annotations

import math

import torch
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


@use_full_precision
def focal_factor(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Compute the focal loss's factor (1 − p_y)^γ of each row's cross-entropy, (B,) in [0, 1], with its gradient.

    logits: (B, C). target: (B,) int64 in [0, C). gamma: γ ≥ 0; 1 for γ = 0. p is the softmax.
    Lin et al., Focal loss for dense object detection, ICCV 2017, eq. 4, there with a sigmoid.

    >>> focal_factor(torch.zeros(1, 4), torch.tensor([2]))  # (3/4)²
    tensor([0.5625])
    """
    # of p near 1, and 1 − p near 0, without their difference; the bound keeps the gradient finite for γ < 1
    wrong = -torch.expm1(-F.cross_entropy(logits, target, reduction="none"))
    return wrong.clamp_min(TINY).pow(gamma)


@use_full_precision
def effective_number_weights(class_counts: Tensor, beta: float = 0.9999) -> Tensor:
    """Compute class weights (1 − β)/(1 − β^n), scaled to a sum of C: (C,) ≥ 0, float32 for counts that are integers.

    class_counts: (C,) ≥ 0, images of each class. beta: β in [0, 1); 0 weighs all classes alike. A class without images
    has the weight 0, and the sum is C all the same.
    Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019, proposition 1 and section 4.

    >>> effective_number_weights(torch.tensor([1, 1, 2]), beta=0.5)  # 1, 1, 2/3
    tensor([1.1250, 1.1250, 0.7500])
    """
    counts = to_float64(class_counts)
    # β^n near 1 without a difference; β = 0 has no logarithm
    effective = -torch.expm1(counts * math.log(beta)) if beta > 0 else (counts > 0).to(counts.dtype)
    weights = effective.masked_fill(counts == 0, torch.inf).reciprocal()
    weights = weights * len(weights) / weights.sum().clamp_min(TINY)
    return weights.to(class_counts.dtype if class_counts.is_floating_point() else torch.float32)


@use_full_precision
def ldam_logits(
    cosines: Tensor, target: Tensor, class_counts: Tensor, max_margin: float = 0.5, scale: float = 30.0
) -> Tensor:
    """Compute s·(cos − m) with the margin m_y at the label and 0 elsewhere, (B, C): logits for a cross-entropy.

    cosines: (B, C) in [-1, 1], of embeddings and class vectors. target: (B,) int64 in [0, C). class_counts: (C,) ≥ 0,
    images of each class, without gradient; m_c is n_c^(−1/4), scaled so that the largest is ``max_margin``, and a class
    without images counts as if it had one. scale: s.
    Cao et al., Learning imbalanced datasets with label-distribution-aware margin loss, NeurIPS 2019, section 3.2.

    >>> ldam_logits(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([16, 1]), scale=1.0)  # m = 1/2 · 16^(-1/4)
    tensor([[-0.2500,  0.0000]])
    """
    margins = to_float64(class_counts.detach()).clamp_min(1).pow(-0.25)
    margins = (max_margin * margins / margins.max()).to(cosines.dtype)
    at_label = target[:, None] == torch.arange(cosines.shape[1], device=target.device)
    return scale * (cosines - at_label * margins)
