"""Losses on class scores: distillation, its uncertainty-weighted form, confidence, cross-entropy."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from udcd_bench.losses._numeric import check_reduction, reduce, use_full_precision


def kl_rows(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(softmax(teacher)‖softmax(student)) of every row, (B,); both arguments carry gradient."""
    student, teacher = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


@use_full_precision
def kd(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0, *, reduction: str = "mean"
) -> Tensor:
    """Knowledge distillation: T² · KL(softmax(t/T)‖softmax(s/T)).

    Both arguments are (B, C); `temperature` > 0; the teacher gets no gradient. Returns a scalar, 0 for an
    empty batch, or (B,) with reduction="none"; any other `reduction` is a ValueError.
    Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    check_reduction(reduction)
    rows = kl_rows(student_logits / temperature, teacher_logits.detach() / temperature)
    return reduce(rows * temperature**2, reduction)


@use_full_precision
def uncertainty_kl(student_logits: Tensor, teacher_logits: Tensor, *, reduction: str = "mean") -> Tensor:
    """KL(softmax(t)‖softmax(s)) weighted by the entropy of softmax(s) over log C.

    Both arguments are (B, C) and both carry gradient through the divergence; the weight carries none and
    has log(p + 1e-6) inside its entropy. With one class the weight is 0. Reduction as in `kd`.
    The code released with UDCD (MICCAI 2024), eqs. 6-7 as written there.
    """
    check_reduction(reduction)
    p = student_logits.detach().softmax(-1)
    entropy = -(p * (p + 1e-6).log()).sum(-1)
    weight = entropy / math.log(p.shape[-1]) if p.shape[-1] > 1 else entropy * 0
    return reduce(weight * kl_rows(student_logits, teacher_logits), reduction)


@use_full_precision
def normalized_entropy(logits: Tensor) -> Tensor:
    """The normalised uncertainty ψ₁ = H(softmax(logits)) / log C; ψ₂ is 1 − ψ₁.

    `logits` (B, C) gives (B,) in [0, 1], without gradient; with one class, zeros.
    UDCD (MICCAI 2024), eqs. 6-7.
    """
    log_p = logits.detach().log_softmax(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return (entropy / math.log(max(logits.shape[-1], 2))).clamp(0, 1)


@use_full_precision
def weighted_cross_entropy(
    logits: Tensor,
    target: Tensor,
    class_weights: Tensor,
    normalise: str = "weights",
    *,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy in which a row of class y counts w_y.

    `logits` (B, C), `target` (B,) integers, `class_weights` (C,). normalise="weights" divides Σ w·CE by Σ w
    (0 when that is 0), "batch" by B; anything else is a ValueError. reduction="none" returns w_y·CE, (B,).
    UDCD (MICCAI 2024), section 3; "batch" is what its released code computes.
    """
    check_reduction(reduction)
    if normalise not in ("weights", "batch"):
        raise ValueError(f'normalise must be "weights" or "batch", not {normalise!r}.')
    weights = class_weights.detach()[target]
    rows = weights * F.cross_entropy(logits, target, reduction="none")
    if reduction == "none" or normalise == "batch":
        return reduce(rows, reduction)
    total = weights.sum()
    return rows.sum() / total.masked_fill(total <= 0, 1.0)
