"""Losses on the geometry of a batch: distances, angles, and triplets of relations."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from udcd_bench.losses._numeric import (
    check_reduction,
    compute_inverse_root,
    make_zero_with_grad,
    reduce,
    to_float64,
    use_full_precision,
)

_CHUNK_PER_CPU_THREAD = 1 << 18
"""Elements of a chunk for one CPU thread: few enough for its cache, enough to outweigh the cost of the calls."""
_CHUNK_ON_ACCELERATOR = 1 << 22
"""Elements of a chunk on a GPU."""


def _split_into_chunks(n: int, elements: int, device: torch.device) -> list[slice]:
    """Split range(n) into slices, each of as many rows of ``elements`` as a chunk may hold, at least one."""
    limit = _CHUNK_PER_CPU_THREAD * _count_cpu_threads() if device.type == "cpu" else _CHUNK_ON_ACCELERATOR
    step = max(1, limit // elements)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _count_cpu_threads() -> int:
    """Count the CPU threads; a compiler is told of one, since it cannot trace the question."""
    return 1 if torch.compiler.is_compiling() else torch.get_num_threads()


class _SquaredDistances(torch.autograd.Function):
    """‖x_i − x_j‖² of the rows of x (B, F), from differences, so that close rows do not lose digits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x - x.mean(0)
        ctx.save_for_backward(x)
        distances = x.new_zeros(x.shape[0], x.shape[0])
        i, j = torch.triu_indices(x.shape[0], x.shape[0], 1, device=x.device)
        distances[i, j] = F.pdist(x)
        return (distances + distances.T).square_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        both = grad + grad.T
        gradient: Tensor = 2 * (both.sum(1, keepdim=True) * x - both @ x)
        return gradient


class _AngleLoss(torch.autograd.Function):
    """Mean smooth-L1 between the cosines of all triples, from squared distances (B, B).

    With d the squared distances, (x_j − x_i)·(x_k − x_i) = (d_ij + d_ik − d_jk) / 2: the features are not read,
    and the errors are those of the distances, however close the rows. The gradient with respect to the student's
    distances is summed chunk by chunk over the vertex i; no B³ tensor outlives its chunk.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        n = student.shape[0]
        inverse = [compute_inverse_root(d) for d in (student, teacher)]
        loss = student.new_zeros(())
        gradient = torch.zeros_like(student) if ctx.needs_input_grad[0] else None
        chunks = _split_into_chunks(n, n * n, student.device)
        buffers = student.new_empty(3, chunks[0].stop, n, n)  # reused: new memory costs more than the sums
        for rows in chunks:
            for_cosines, for_error, for_slope = buffers[:, : rows.stop - rows.start]
            cosines = _compute_cosines(student, inverse[0], rows, for_cosines)
            error = _compute_cosines(teacher, inverse[1], rows, for_error)
            torch.sub(cosines, error, out=error)
            slope = torch.clamp(error, -1, 1, out=for_slope)
            loss += torch.dot(slope.flatten(), error.sub_(slope, alpha=0.5).flatten())
            if gradient is not None:
                v = inverse[0][rows]  # v_ij = 1/√d_ij
                cosine_sum = cosines.mul_(slope).sum(2)  # Σ_k slope_ijk cosine_ijk
                inverse_sum = slope.mul_(v[:, None, :]).sum(2)  # Σ_k slope_ijk v_ik
                gradient[rows] += v * (inverse_sum - v * cosine_sum)
                gradient -= slope.mul_(v[:, :, None]).sum(0) / 2
        if gradient is not None:
            ctx.save_for_backward(gradient / n**3)
        return loss / n**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None


def _compute_cosines(squared: Tensor, inverse: Tensor, rows: slice, out: Tensor) -> Tensor:
    """Compute the cosine at vertex i between j and k, (rows, B, B); 0 if j or k coincides with i."""
    d, v = squared[rows], inverse[rows]
    torch.add(d[:, :, None], d[:, None, :], out=out)
    return out.sub_(squared).mul_(v[:, :, None] / 2).mul_(v[:, None, :])


@use_full_precision
def rkd_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare the batch's distances by smooth-L1, each network's divided by their mean; a scalar ≥ 0.

    student: (B, F). teacher: (B, F'), of any width; it gets no gradient. Squared distances are clamped at 1e-12 before
    the root, the diagonal is 0; the mean is over all B² entries; 0 for a single row. Computed in float64.
    Park et al., Relational Knowledge Distillation, CVPR 2019, section 3.2.1.

    >>> x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> rkd_distance(student=x, teacher=10 * x + 1), rkd_distance(student=x, teacher=x[:, :1]) > 0
    (tensor(0.), tensor(True))
    """
    n = student.shape[0]
    if n < 2:
        return make_zero_with_grad(student)
    diagonal = torch.eye(n, dtype=torch.bool, device=student.device)

    def normalise(x: Tensor) -> Tensor:
        squared: Tensor = _SquaredDistances.apply(to_float64(x))
        distances = squared.clamp_min(1e-12).sqrt().masked_fill(diagonal, 0.0)
        return distances / (distances.sum() / (n * (n - 1)))

    loss = F.smooth_l1_loss(normalise(student), normalise(teacher.detach()))
    return loss.to(student.dtype)


@use_full_precision
def rkd_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare the cosines at every vertex of every triple of the batch by smooth-L1, a scalar in [0, 1.5].

    student: (B, F). teacher: (B, F'), of any width; it gets no gradient. The mean is over all B³ entries, in which a
    direction between coinciding rows is zero; 0 for a single row. Computed in float64, from the B² distances.
    Park et al., Relational Knowledge Distillation, CVPR 2019, section 3.2.2.
    """
    if student.shape[0] < 2:
        return make_zero_with_grad(student)
    squared = [_SquaredDistances.apply(to_float64(x)) for x in (student, teacher.detach())]
    loss: Tensor = _AngleLoss.apply(*squared)
    return loss.to(student.dtype)


class _TripletLoss(torch.autograd.Function):
    """The rows of ``cra`` from two (B, C) matrices, B > 2, with the student's gradient.

    φ_pqr is symmetric in q and r, so r = q + k (mod B) for the shifts k = 1 … B/2 visits every pair once
    (twice at k = B/2, which then has half the weight). Laid out (C, q, p), the u_pr of a shift are a window of
    u written twice, so every operation reads memory in order. Shifts come in chunks; the one tensor that is saved is
    (C, B, B), the gradient of row p with respect to R_p − R_q.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, delta: float) -> Tensor:
        n, classes = student.shape
        scale = 2 / ((n - 1) * (n - 2))
        (s, inverse), (t, _) = _compute_directions(student), _compute_directions(teacher)
        s2, t2 = torch.cat((s, s), 1), torch.cat((t, t), 1)
        other = 1 - torch.eye(n, dtype=s.dtype, device=s.device)  # q, and r, must differ from p
        other2 = torch.cat((other, other))[None]
        weight = torch.full((n // 2, 1), scale, dtype=s.dtype, device=s.device)
        if n % 2 == 0:
            weight[-1] /= 2
        losses, gradient = student.new_zeros(n), torch.zeros_like(s) if ctx.needs_input_grad[0] else None
        chunks = _split_into_chunks(n // 2, n * n * classes, student.device)
        space = s.new_empty(4, chunks[0].stop, classes, n * n)  # reused: new memory costs more than the sums
        for chunk in chunks:
            rows = chunk.stop - chunk.start
            a, b = space[0, :rows], space[1, :rows]
            error = _compute_spreads(t, t2, chunk, delta, a, b).neg_()
            error += _compute_spreads(s, s2, chunk, delta, a, b)
            error.mul_(other.flatten()).mul_(_view_windows(other2, chunk)[:, 0])
            slope = error.clamp(-delta, delta)
            error.sub_(slope, alpha=0.5)
            slope.mul_(weight[chunk])
            losses += error.mul_(slope).view(-1, n).sum(0)
            if gradient is not None:
                # a pull towards q, written twice so that a slanted view collects those on each r
                pulls = space[2:].view(-1, classes, 2, n * n)[:rows]
                torch.mul(b[:, :, None].expand_as(pulls), slope[:, None, None], out=pulls)
                gradient += pulls[:, :, 0].sum(0).view_as(s)
                slant, start = (2 * classes * n * n - n, 2 * n * n, 1), (n - 1 - chunk.start) * n
                each_r = pulls.flatten()[start:].as_strided((rows, classes, n * n), slant)
                gradient -= each_r.sum(0).view_as(s)
        if gradient is not None:
            inward = s * (s * gradient).sum(0)
            ctx.save_for_backward((gradient - inward).mul_(inverse))
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        weighted = gradient * grad
        return (weighted.sum(1) - weighted.sum(2)).T, None, None


def _compute_directions(relation: Tensor) -> tuple[Tensor, Tensor]:
    """Compute unit u_pq = (R_p − R_q)/‖·‖ laid out (C, q, p), and 1/‖·‖ (q, p); both 0 for coinciding rows."""
    columns = relation.T
    difference = columns[:, None, :] - columns[:, :, None]
    squared = difference.square().sum(0)
    inverse = compute_inverse_root(squared)
    return difference.mul_(inverse), inverse


def _view_windows(doubled: Tensor, chunk: slice) -> Tensor:
    """View the windows of (C, 2B, B) that start at row k, for k − 1 in the chunk: (k, C, B·B)."""
    classes, _, n = doubled.shape
    size, stride = (chunk.stop - chunk.start, classes, n * n), (n, 2 * n * n, 1)
    return doubled.as_strided(size, stride, (chunk.start + 1) * n)


def _compute_spreads(
    u: Tensor, doubled: Tensor, chunk: slice, delta: float, steps: Tensor, clipped: Tensor
) -> Tensor:
    """Compute φ = Σ_c huber(step_c), (k, q·p), of the steps u_pq − u_pr, r = q + k; huber'(step) into ``clipped``."""
    torch.sub(u.flatten(1), _view_windows(doubled, chunk), out=steps)
    torch.clamp(steps, -delta, delta, out=clipped)
    return steps.sub_(clipped, alpha=0.5).mul_(clipped).sum(1)


@use_full_precision
def cra(
    student_relation: Tensor, teacher_relation: Tensor, delta: float = 1.0, *, reduction: str = "mean"
) -> Tensor:
    """Compute categorical relation alignment: how the directions at each row spread, student against teacher, ≥ 0.

    Both relations are (B, C), rows of ``relation_matrix``; delta: Huber's δ > 0, otherwise a ValueError. With
    u_pq = (R_p − R_q)/‖R_p − R_q‖ (0 when equal) and φ_pqr = Σ_c huber_δ(u_pq,c − u_pr,c), the mean of
    huber_δ(φ_t − φ_s) over ordered triples of distinct p, q, r; 0 for fewer than three rows. The teacher gets no
    gradient. Returns a scalar or, with reduction="none", the mean over (q, r) of each p, (B,); any other
    ``reduction`` is a ValueError.
    UDCD (MICCAI 2024), eqs. 4-5.

    >>> r = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]])
    >>> cra(r, r), cra(r, r.flip(1)), cra(r[:2], r[:2])
    (tensor(0.), tensor(0.), tensor(0.))
    """
    check_reduction(reduction)
    if delta <= 0:
        raise ValueError(f"delta must be positive, not {delta}.")
    if student_relation.shape[0] < 3:
        return reduce((student_relation * 0).sum(1), reduction)
    rows: Tensor = _TripletLoss.apply(student_relation, teacher_relation.detach(), delta)
    return reduce(rows, reduction)
