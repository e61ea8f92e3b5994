"""Losses on a batch's relation to class anchors, and the anchors themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from udcd_bench.losses._numeric import check_reduction, normalize_rows, reduce, use_full_precision
from udcd_bench.losses.logits import kl_rows


@use_full_precision
def class_anchors(memory: Tensor, labels: Tensor, n_classes: int, rectify: bool = True) -> Tensor:
    """Compute the mean of each class's rows, (C, D).

    memory: (N, D). labels: (N,) in [0, C). rectify: average relu(row) (CRCKD, MICCAI 2021, as released), otherwise the
    row itself (UDCD, MICCAI 2024, eq. 3). A class without a row gives zeros.

    >>> class_anchors(torch.tensor([[1.0, -1.0], [3.0, 1.0]]), torch.tensor([0, 0]), 2, rectify=False)
    tensor([[2., 0.],
            [0., 0.]])
    """
    members = (labels == torch.arange(n_classes, device=labels.device)[:, None]).to(memory.dtype)
    total = members @ (memory.relu() if rectify else memory)
    return total / members.sum(1, keepdim=True).clamp_min(1)


@use_full_precision
def anchor_logits(z: Tensor, anchors: Tensor, temperature: float = 0.07) -> Tensor:
    """Compute the relations of ``crp``, z·Aᵀ/τ, (B, C), with the anchors scaled to unit length.

    z: (B, D). anchors: (C, D), without gradient; the relation to a zero anchor is 0.
    CRCKD, MICCAI 2021, category relation preserving.
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
    """Compute category relation preservation, KL(softmax(r_t)‖softmax(r_s)) of r = ``anchor_logits``, a scalar ≥ 0.

    student, teacher: (B, D). Anchors: (C, D), those of each network's own memory. Only ``student`` gets a gradient.
    With reduction="none" (B,); any other ``reduction`` is a ValueError.
    Xing et al., Categorical Relation-Preserving Contrastive Knowledge Distillation (CRCKD), MICCAI 2021, category
    relation preserving.
    """
    check_reduction(reduction)
    relation_t = anchor_logits(teacher.detach(), teacher_anchors, temperature)
    relation_s = anchor_logits(student, student_anchors, temperature)
    return reduce(kl_rows(relation_s, relation_t), reduction)


@use_full_precision
def relation_matrix(z: Tensor, anchors: Tensor) -> Tensor:
    """Compute softmax(z·Aᵀ) over the classes, without a temperature: (B, C), rows of sum 1.

    z: (B, D). anchors: (C, D). UDCD (MICCAI 2024), eq. 3.
    """
    return (z @ anchors.T).softmax(1)
