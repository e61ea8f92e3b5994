"""Losses on the shape that a batch makes: distances, angles, and triplets of relations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from udcd_bench.losses._numeric import TINY, check_reduction, double, full_precision, nothing, reduce

_CHUNK = {"cpu": 1 << 17}
_CHUNK_ELSEWHERE = 1 << 24


def _chunks(n: int, elements: int, device: torch.device) -> list[slice]:
    """Slices of range(n), each of as many rows of `elements` as a chunk may hold, at least one."""
    step = max(1, _CHUNK.get(device.type, _CHUNK_ELSEWHERE) // elements)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


class _SquaredDistances(torch.autograd.Function):
    """‖x_i − x_j‖² of the rows of x (B, F), from differences, so that close rows keep their digits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x - x.mean(0)
        ctx.save_for_backward(x)
        return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        both = grad + grad.T
        gradient: Tensor = 2 * (both.sum(1, keepdim=True) * x - both @ x)
        return gradient


class _AngleLoss(torch.autograd.Function):
    """Mean smooth-L1 between the cosines of all triples, from squared distances (B, B).

    With d the squared distances, (x_j − x_i)·(x_k − x_i) = (d_ij + d_ik − d_jk) / 2: no feature is touched,
    and the errors are those of the distances at hand, however close the rows. The gradient with respect to
    the student's distances is summed up chunk by chunk over the vertex i; no B³ tensor outlives its chunk.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        n = student.shape[0]
        inverse = [torch.where(d > TINY**2, d, torch.inf).rsqrt() for d in (student, teacher)]
        loss = student.new_zeros(())
        gradient = torch.zeros_like(student) if ctx.needs_input_grad[0] else None
        for rows in _chunks(n, n * n, student.device):
            cosines = _cosines(student, inverse[0], rows)
            error = cosines - _cosines(teacher, inverse[1], rows)
            slope = error.clamp(-1, 1)
            loss += torch.dot(slope.flatten(), error.sub_(slope, alpha=0.5).flatten())
            if gradient is not None:
                v = inverse[0][rows]
                pull = torch.bmm(slope, v[:, :, None]).squeeze(2)  # Σ_k slope_ijk v_ik
                turn = cosines.mul_(slope).sum(2)  # Σ_k slope_ijk a_ijk
                gradient[rows] += v * (pull - v * turn)
                gradient -= torch.einsum("ijk,ij,ik->jk", slope, v, v) / 2
        if gradient is not None:
            ctx.save_for_backward(gradient / n**3)
        return loss / n**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None


def _cosines(squared: Tensor, inverse: Tensor, rows: slice) -> Tensor:
    """Cosine at vertex i between j and k, (rows, B, B), 0 where j or k coincides with i."""
    d, v = squared[rows], inverse[rows]
    inner = (d[:, :, None] + d[:, None, :]).sub_(squared)
    return inner.mul_(v[:, :, None] / 2).mul_(v[:, None, :])


@full_precision
def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth-L1 between the batch's distances, each model's divided by their mean.

    `student` (B, F); `teacher` (B, F'), without gradient. Squared distances are clamped at 1e-12 before the
    root, the diagonal is 0; the mean is over all B² entries; 0 for a single row. In float64.
    Park et al., Relational Knowledge Distillation, CVPR 2019, section 3.2.1.
    """
    n = student.shape[0]
    if n < 2:
        return nothing(student)
    aside = torch.eye(n, dtype=torch.bool, device=student.device)

    def normalised(x: Tensor) -> Tensor:
        squared: Tensor = _SquaredDistances.apply(double(x))
        distances = squared.clamp_min(1e-12).sqrt().masked_fill(aside, 0.0)
        return distances / (distances.sum() / (n * (n - 1)))

    loss = F.smooth_l1_loss(normalised(student), normalised(teacher.detach()))
    return loss.to(student.dtype)


@full_precision
def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth-L1 between the cosines at every vertex of every triple of the batch.

    `student` (B, F); `teacher` (B, F'), without gradient. The mean is over all B³ entries, in which a
    direction between coinciding rows is zero. In float64, from the B² distances.
    Park et al., Relational Knowledge Distillation, CVPR 2019, section 3.2.2.
    """
    if student.shape[0] < 2:
        return nothing(student)
    squared = [_SquaredDistances.apply(double(x)) for x in (student, teacher.detach())]
    loss: Tensor = _AngleLoss.apply(*squared)
    return loss.to(student.dtype)


class _TripletLoss(torch.autograd.Function):
    """The rows of `cra` from two (B, C) matrices, B > 2, with the student's gradient.

    Works through the anchors p in chunks and keeps one (B, C, B) tensor: the gradient of row p with respect
    to R_p − R_q. φ is symmetric in q and r, so the gradient of u_pq is Σ_r 2·h'(φ_s − φ_t)·h'(u_pq − u_pr).
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, delta: float) -> Tensor:
        n, classes = student.shape
        scale = 1 / ((n - 1) * (n - 2))
        s, inverse = _directions(student)
        t, _ = _directions(teacher)
        losses, gradient = [], torch.empty_like(s) if ctx.needs_input_grad[0] else None
        for rows in _chunks(n, n * n * classes, student.device):
            error = _spread(s[rows], delta).sub_(_spread(t[rows], delta))
            for axis in (1, 2):  # q and r must differ from p; for q = r the error is 0 anyway
                error.diagonal(rows.start, 0, axis).zero_()
            slope = error.clamp(-delta, delta)
            losses.append(error.sub_(slope, alpha=0.5).mul_(slope).sum((1, 2)))
            if gradient is not None:
                steps = (s[rows, :, :, None] - s[rows, :, None, :]).clamp_(-delta, delta)
                gradient[rows] = steps.mul_(slope[:, None]).sum(3)
        if gradient is not None:
            inward = s * (s * gradient).sum(1, keepdim=True)
            ctx.save_for_backward((gradient - inward).mul_(inverse[:, None]).mul_(2 * scale))
        return torch.cat(losses) * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        weighted = gradient * grad[:, None, None]
        return weighted.sum(2) - weighted.sum(0).T, None, None


def _directions(relation: Tensor) -> tuple[Tensor, Tensor]:
    """Unit u_pq = (R_p − R_q)/‖·‖ laid out (p, C, q), and 1/‖·‖ (p, q); both 0 where rows coincide."""
    difference = relation[:, :, None] - relation.T
    squared = difference.square().sum(1)
    inverse = torch.where(squared > TINY**2, squared, torch.inf).rsqrt()
    return difference.mul_(inverse[:, None]), inverse


def _spread(u: Tensor, delta: float) -> Tensor:
    """φ_pqr = Σ_c huber(u_pq,c − u_pr,c) for u (p, C, q)."""
    shape = (*u.shape, u.shape[2])
    return F.huber_loss(
        u[:, :, :, None].expand(shape), u[:, :, None, :].expand(shape), reduction="none", delta=delta
    ).sum(1)


@full_precision
def cra(
    student_relation: Tensor, teacher_relation: Tensor, delta: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """Categorical relation alignment: the teacher's spread of directions at every anchor, for the student.

    Both relations are (B, C), `delta` > 0 (ValueError otherwise); gradient for the student alone. With
    u_pq = (R_p − R_q)/‖R_p − R_q‖ (0 when equal) and φ_pqr = Σ_c huber_δ(u_pq,c − u_pr,c), the mean of
    huber_δ(φ_t − φ_s) over ordered triples of distinct p, q, r; 0 for fewer than three rows. reduction="none"
    returns the mean over (q, r) of each p, (B,); any other `reduction` is a ValueError.
    UDCD (MICCAI 2024), eqs. 4-5.
    """
    check_reduction(reduction)
    if delta <= 0:
        raise ValueError(f"delta must be positive, not {delta}.")
    if student_relation.shape[0] < 3:
        return reduce((student_relation * 0).sum(1), reduction)
    rows: Tensor = _TripletLoss.apply(student_relation, teacher_relation.detach(), delta)
    return reduce(rows, reduction)
