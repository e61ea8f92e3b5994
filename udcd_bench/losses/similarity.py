"""Losses on how similar the images of a batch are to each other, to the student and to the teacher."""

from __future__ import annotations

from torch import Tensor

from udcd_bench.losses._numeric import TINY, normalize_rows, reduce, use_full_precision

PKT_EPSILON = 1e-7
"""What is added to lengths and probabilities in ``pkt`` (O)."""


@use_full_precision
def sp(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compute the mean square difference of two batches' similarities, a scalar ≥ 0.

    Both are (B, …), of any width each. A batch's similarities are QQᵀ, Q its images as rows, with each row scaled to
    length one; the row of an image of zeros is 0. The teacher gets no gradient.
    Tung, Mori, Similarity-preserving knowledge distillation, ICCV 2019, eqs. 1 to 3.
    """
    student, teacher = (
        normalize_rows(rows @ rows.T) for rows in (student_map.flatten(1), teacher_map.detach().flatten(1))
    )
    return reduce((student - teacher).square(), "mean")


@use_full_precision
def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the divergence of the probabilities with which images are each other's neighbours, a scalar.

    student: (B, D). teacher: (B, D'), without gradient. A neighbour's probability is its cosine similarity, brought to
    [0, 1], over the sum of the image's, itself included. The sum over all pairs is divided by B², as in the code.
    Passalis, Tefas, Learning deep representations with probabilistic knowledge transfer, ECCV 2018,
    with the cosine kernel.
    """
    p_student, p_teacher = (
        _compute_neighbour_probabilities(student),
        _compute_neighbour_probabilities(teacher.detach()),
    )
    ratio = (p_teacher + PKT_EPSILON) / (p_student + PKT_EPSILON)
    return reduce(p_teacher * ratio.log(), "mean")


def _compute_neighbour_probabilities(rows: Tensor) -> Tensor:
    squared = rows.square().sum(1, keepdim=True)
    is_zero = squared <= TINY**2
    length = squared.masked_fill(is_zero, 1.0).sqrt()
    unit = (rows / (length + PKT_EPSILON)).masked_fill(is_zero, 0.0)
    similarity = ((unit @ unit.T + 1) / 2).clamp_min(0)
    return similarity / similarity.sum(1, keepdim=True)
