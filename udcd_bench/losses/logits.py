"""Losses on logits: distillation whole, decoupled or weighted by uncertainty; standardised logits; cross-entropies."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from udcd_bench.losses._numeric import TINY, check_reduction, reduce, use_full_precision


def kl_rows(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Compute KL(softmax(teacher)‖softmax(student)) of every row, (B,) ≥ 0; both arguments get a gradient."""
    student, teacher = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


@use_full_precision
def kd(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0, *, reduction: str = "mean"
) -> Tensor:
    """Compute the knowledge-distillation loss T² · KL(softmax(t/T)‖softmax(s/T)), a scalar ≥ 0.

    Both arguments are (B, C) logits; temperature: T > 0; the teacher gets no gradient. 0 for equal logits and for an
    empty batch. With reduction="none" (B,); any other ``reduction`` is a ValueError.
    Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2.

    >>> student, teacher = torch.zeros(1, 2), torch.tensor([[4.0, 0.0]])
    >>> f"{kd(student_logits=student, teacher_logits=teacher, temperature=4.0):.4f}"
    '1.7751'
    """
    check_reduction(reduction)
    rows = kl_rows(student_logits / temperature, teacher_logits.detach() / temperature)
    return reduce(rows * temperature**2, reduction)


@use_full_precision
def target_class_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 4.0,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Compute T² · the divergence of (p_y, 1 − p_y), the teacher's from the student's, a scalar ≥ 0; p at T.

    Logits and ``reduction`` as of ``kd``. target: (B,) int64 in [0, C), at least two classes.
    Zhao et al., Decoupled knowledge distillation, CVPR 2022, eq. 5, TCKD; ``kd`` is TCKD + (1 − p_y of the teacher) ·
    NCKD in every row (eq. 6).
    """
    check_reduction(reduction)
    student, teacher = (
        _join_others(x / temperature, target) for x in (student_logits, teacher_logits.detach())
    )
    return reduce(kl_rows(student, teacher) * temperature**2, reduction)


@use_full_precision
def other_class_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float = 4.0,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Compute T² · the divergence of the softmax over all classes but the target's, a scalar ≥ 0.

    Arguments as of ``target_class_kd``; 0 with two classes, of which one remains.
    Zhao et al., Decoupled knowledge distillation, CVPR 2022, eq. 5, NCKD.
    """
    check_reduction(reduction)
    student, teacher = (
        _select_others(x / temperature, target) for x in (student_logits, teacher_logits.detach())
    )
    return reduce(kl_rows(student, teacher) * temperature**2, reduction)


def _select_others(logits: Tensor, target: Tensor) -> Tensor:
    """Select the logits of all classes but the target's, (B, C − 1), without waiting for the device."""
    others = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(logits), -1)
    return logits.gather(1, others + (others >= target[:, None]))


def _join_others(logits: Tensor, target: Tensor) -> Tensor:
    """Join all classes but the target's in one: the logits of (p_y, 1 − p_y), (B, 2)."""
    others = _select_others(logits, target).logsumexp(1, keepdim=True)
    return torch.cat([logits.gather(1, target[:, None]), others], 1)


@use_full_precision
def standardize_logits(logits: Tensor) -> Tensor:
    """Standardise each row to mean 0 and standard deviation 1 over the classes, (B, C), with its gradient.

    logits: (B, C). The deviation has C − 1 in its denominator and 1e-7 added, as its authors' code. Equal logits give
    zeros, without gradient.
    Sun et al., Logit standardization in knowledge distillation, CVPR 2024, algorithm 1.

    >>> standardize_logits(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[-1.0000,  0.0000,  1.0000]])
    """
    centred = logits - logits.mean(-1, keepdim=True)
    freedom = max(logits.shape[-1] - 1, 1)
    deviation: Tensor = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / math.sqrt(freedom)
    return centred * (deviation + 1e-7).reciprocal().masked_fill(deviation <= TINY, 0)


@use_full_precision
def soft_cross_entropy(logits: Tensor, soft_target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Compute the cross-entropy with soft labels, −Σ_c q_c·log p_c, a scalar ≥ 0; q gets no gradient.

    logits: (B, C). soft_target: (B, C), rows of sum 1. With reduction="none" (B,); any other is a ValueError.
    """
    check_reduction(reduction)
    return reduce(-(soft_target.detach() * logits.log_softmax(-1)).sum(-1), reduction)


@use_full_precision
def uncertainty_kl(student_logits: Tensor, teacher_logits: Tensor, *, reduction: str = "mean") -> Tensor:
    """Compute KL(softmax(t)‖softmax(s)) weighted by the entropy of softmax(s) over log C, a scalar ≥ 0.

    Both arguments are (B, C) logits and both get a gradient through the divergence; the weight gets none and has
    log(p + 1e-6) inside its entropy. With one class the weight is 0. ``reduction`` as in ``kd``.
    The code released with UDCD (MICCAI 2024), eqs. 6-7 as written there.
    """
    check_reduction(reduction)
    p = student_logits.detach().softmax(-1)
    entropy = -(p * (p + 1e-6).log()).sum(-1)
    weight = entropy / math.log(p.shape[-1]) if p.shape[-1] > 1 else entropy * 0
    return reduce(weight * kl_rows(student_logits, teacher_logits), reduction)


@use_full_precision
def normalized_entropy(logits: Tensor) -> Tensor:
    """Compute the uncertainty ψ₁ = H(softmax(logits)) / log C of each row, (B,) in [0, 1]; ψ₂ is 1 − ψ₁.

    logits: (B, C); they get no gradient. 1 for equal logits, 0 for a certain prediction and with one class.
    UDCD (MICCAI 2024), eqs. 6-7.

    >>> normalized_entropy(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    tensor([1.0000, 0.8399])
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
    """Compute the cross-entropy in which a row of class y has the weight w_y, a scalar ≥ 0.

    logits: (B, C). target: (B,) int64 in [0, C). class_weights: (C,) ≥ 0, without gradient.
    normalise: "weights" divides Σ w·CE by Σ w (0 if that is 0), "batch" by B; anything else is a ValueError.
    With reduction="none" w_y·CE of each row, (B,), whatever ``normalise`` is.
    UDCD (MICCAI 2024), section 3; "batch" is what its released code computes.

    >>> logits, target = torch.zeros(2, 2), torch.tensor([0, 1])
    >>> weighted_cross_entropy(logits, target, torch.tensor([3.0, 1.0]))  # log 2, as the weights cancel
    tensor(0.6931)
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
