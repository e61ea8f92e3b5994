"""Losses on a batch's relation to class anchors, and the anchors themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from udcd_bench.losses._numeric import check_reduction, normalize_rows, reduce, use_full_precision
from udcd_bench.losses.logits import kl_rows


@use_full_precision
def class_anchors(memory: Tensor, labels: Tensor, n_classes: int, rectify: bool = True) -> Tensor:
    """The mean of each class's rows, (C, D).

    `memory` (N, D), `labels` (N,) in [0, C). The mean is of relu(row) with `rectify` (CRCKD, MICCAI 2021,
    as released), of the row itself without (UDCD, MICCAI 2024, eq. 3). A class with no row gives zeros.
    """
    members = (labels == torch.arange(n_classes, device=labels.device)[:, None]).to(memory.dtype)
    total = members @ (memory.relu() if rectify else memory)
    return total / members.sum(1, keepdim=True).clamp_min(1)


@use_full_precision
def anchor_logits(z: Tensor, anchors: Tensor, temperature: float = 0.07) -> Tensor:
    """The relations of `crp`, z·Aᵀ/τ, (B, C): anchors (C, D) of unit length and without gradient.

    A zero anchor relates to everything with 0. CRCKD, MICCAI 2021, category relation preserving.
    """
    return z @ normalize_rows(anchors.detach()).T / temperature


@use_full_precision
def crp(
    student: Tensor,
    student_anchors: Tensor,
    teacher: Tensor,
    teacher_anchors: Tensor,
    temperature: float = 0.07,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Category relation preservation: KL between the two models' relations to their class anchors.

    `student` and `teacher` (B, D), anchors (C, D); KL(softmax(r_t)‖softmax(r_s)) of r = `anchor_logits`.
    Gradient for `student` alone. Returns a scalar or, with reduction="none", (B,); any other `reduction` is
    a ValueError. Xing et al., Categorical Relation-Preserving Contrastive Knowledge Distillation (CRCKD),
    MICCAI 2021, category relation preserving.
    """
    check_reduction(reduction)
    wanted = anchor_logits(teacher.detach(), teacher_anchors, temperature)
    return reduce(kl_rows(anchor_logits(student, student_anchors, temperature), wanted), reduction)


@use_full_precision
def relation_matrix(z: Tensor, anchors: Tensor) -> Tensor:
    """Softmax over the classes of z·Aᵀ, without temperature: z (B, D), anchors (C, D), returns (B, C).

    UDCD (MICCAI 2024), eq. 3.
    """
    return (z @ anchors.T).softmax(1)
