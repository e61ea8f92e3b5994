"""Losses on a batch's predictions as a table of probabilities, (B, C): how its rows and its columns are related.

Both networks' tables are softmax(logits/T). Only the student gets a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from udcd_bench.losses._numeric import normalize_rows, use_full_precision

EPSILON = 1e-8
"""Added to a product of lengths, as DIST's code has it."""


def _soften(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compute both networks' tables of probabilities, (B, C) each; the teacher's without gradient."""
    student, teacher = student_logits / temperature, teacher_logits.detach() / temperature
    return student.softmax(1), teacher.softmax(1)


def _average_distance(x: Tensor, y: Tensor) -> Tensor:
    """Average 1 − Pearson's correlation of each row of x with that of y; 1 where a row is constant."""
    if not x.numel():
        return x.sum()
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    lengths: Tensor = torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(y, dim=1)
    cosines = (normalize_rows(x) * normalize_rows(y)).sum(1)
    return 1 - (cosines * lengths / (lengths + EPSILON)).mean()


@use_full_precision
def inter_class_distance(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute T² · the mean over images of 1 − Pearson's correlation of both networks' probabilities, a scalar ≥ 0.

    Both arguments are (B, C) logits. 0 for an empty batch; a constant row counts as uncorrelated and gets no gradient.
    Huang et al., Knowledge distillation from a stronger teacher (DIST), NeurIPS 2022, section 4, L_inter.

    >>> student = torch.tensor([[2.0, 1.0, 0.0]])
    >>> f"{inter_class_distance(student_logits=student, teacher_logits=student.flip(1)):.4f}"
    '1.8671'
    """
    student, teacher = _soften(student_logits, teacher_logits, temperature)
    return temperature**2 * _average_distance(student, teacher)


@use_full_precision
def intra_class_distance(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute T² · the mean over classes of 1 − Pearson's correlation over the batch's images, a scalar ≥ 0.

    Arguments as of ``inter_class_distance``. One image is constant in every class: its distance is 1, without gradient.
    DIST, NeurIPS 2022, section 4, L_intra.
    """
    student, teacher = _soften(student_logits, teacher_logits, temperature)
    return temperature**2 * _average_distance(student.T, teacher.T)


@use_full_precision
def batch_relation(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute the squared difference of both networks' P·Pᵀ, summed and divided by B, a scalar ≥ 0.

    Both arguments are (B, C) logits. 0 for equal logits and for an empty batch.
    Jin, Wang, Lin, Multi-level logit distillation, CVPR 2023, batch-level alignment.
    """
    student, teacher = _soften(student_logits, teacher_logits, temperature)
    return (teacher @ teacher.T - student @ student.T).square().sum() / max(len(student), 1)


@use_full_precision
def class_relation(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Compute the squared difference of both networks' Pᵀ·P, summed and divided by C, a scalar ≥ 0.

    Arguments as of ``batch_relation``.
    Jin, Wang, Lin, Multi-level logit distillation, CVPR 2023, class-level alignment.
    """
    student, teacher = _soften(student_logits, teacher_logits, temperature)
    return (teacher.T @ teacher - student.T @ student).square().sum() / student.shape[1]
