"""Losses that compare a student's feature map with its teacher's, place by place."""

from __future__ import annotations

import torch
from torch import Tensor

from udcd_bench.losses._numeric import normalize_rows, reduce, use_full_precision

COARSER_SIDES = (4, 2, 1)
"""Sides to which ``hcl`` averages maps beside their own."""


@use_full_precision
def hint(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compute the mean square difference of two maps, a scalar ≥ 0.

    Both are (B, F, h, w), of one shape, otherwise a ValueError; the student's comes from its regressor. The teacher
    gets no gradient. An empty batch gives 0.
    Romero et al., FitNets: hints for thin deep nets, ICLR 2015, eq. 3, as a mean in place of half the sum.
    """
    _check_alike(student_map.shape, teacher_map.shape)
    return reduce((student_map - teacher_map.detach()).square(), "mean")


@use_full_precision
def at(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compute the mean square difference of the maps' attention, a scalar ≥ 0.

    The maps are (B, F, h, w) and (B, F', h, w); other sizes are a ValueError. The attention of an image is the mean of
    squares over the channels at each place, scaled to length one over all places; 0 where the map is 0. The teacher
    gets no gradient.
    Zagoruyko, Komodakis, Paying more attention to attention, ICLR 2017, eq. 2, as a mean as in its code.
    """
    _check_alike((len(student_map), *student_map.shape[2:]), (len(teacher_map), *teacher_map.shape[2:]))
    student, teacher = (
        normalize_rows(x.square().mean(1).flatten(1)) for x in (student_map, teacher_map.detach())
    )
    return reduce((student - teacher).square(), "mean")


@use_full_precision
def hcl(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compute the hierarchical context loss: ``hint`` of the maps and of their averages over ever larger parts.

    Both are (B, F, h, w), of one shape, otherwise a ValueError. Averages are of 4², 2² and 1² parts, as far as that is
    fewer than h, and weigh half of what came before; the weights sum to one. The teacher gets no gradient.
    Chen et al., Distilling knowledge via knowledge review, CVPR 2021, with the weights of its code.
    """
    _check_alike(student_map.shape, teacher_map.shape)
    difference, weight, total = student_map - teacher_map.detach(), 1.0, 1.0
    loss = reduce(difference.square(), "mean")
    for side in COARSER_SIDES:
        if side < difference.shape[2]:
            weight /= 2
            total += weight
            loss = loss + weight * reduce(_average_parts(difference, side).square(), "mean")
    return loss / total


def _average_parts(x: Tensor, side: int) -> Tensor:
    """Average (B, F, h, w) over side × side parts, as adaptive pooling does; on a GPU its gradient is deterministic."""
    rows, columns = (_make_averages(length, side, x) for length in x.shape[2:])
    return rows @ x @ columns.T


def _make_averages(length: int, parts: int, like: Tensor) -> Tensor:
    """Make the matrix (parts, length) whose rows average a line's parts, which overlap where they must."""
    place = torch.arange(length, device=like.device)
    part = torch.arange(parts, device=like.device)[:, None]
    first, end = part * length // parts, -((part + 1) * -length // parts)
    inside = ((place >= first) & (place < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def _check_alike(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    """Raise ValueError unless two shapes are one."""
    if tuple(student) != tuple(teacher):
        raise ValueError(
            f"The maps of student and teacher must be alike, not {tuple(student)} and {tuple(teacher)}."
        )
