"""Loss on feature maps: the difference of channel Gram matrices, and maps averaged to one size."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from udcd_bench.losses._numeric import to_float64, use_full_precision


class _ChannelGram(torch.autograd.Function):
    """Root mean square of AAᵀ − TTᵀ for A (B, F, s), T (B, F, s), and its gradient with respect to A.

    With Δ = A − T and S = A + T the difference is (ΔSᵀ + SΔᵀ)/2, which loses nothing when A ≈ T. Its squared
    norm is (⟨ΔᵀΔ, SᵀS⟩ + ⟨ΔᵀS, SᵀΔ⟩)/2, from s×s products alone, and the norm's gradient (Δ·SᵀA + S·ΔᵀA)·2.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        a, t = to_float64(student), to_float64(teacher)
        batch, channels, pixels = a.shape
        scale = 1 / (channels * pixels)
        delta, total = a - t, a + t
        if pixels <= channels:
            dd, ds, ss = delta.mT @ delta, delta.mT @ total, total.mT @ total
            squared = ((dd * ss).sum() + (ds * ds.mT).sum()).clamp_min(0) / 2
            gradient = None
            if ctx.needs_input_grad[0]:  # A = (Δ + S) / 2, so these products hold SᵀA and ΔᵀA
                gradient = torch.baddbmm(delta @ (ss + ds.mT), total, ds + dd)
        else:
            half = delta @ total.mT
            difference = (half + half.mT) / 2
            squared = difference.square().sum()
            gradient = 4 * (difference @ a) if ctx.needs_input_grad[0] else None
        loss = scale / channels * (squared / batch).sqrt()
        if gradient is not None:  # dL = scale² / (2·B·F²·L) · d(squared), and 0 where L is 0
            factor = (scale**2 / (2 * batch * channels**2) / loss).masked_fill(loss <= 0, 0.0)
            ctx.save_for_backward((gradient * factor).to(student.dtype))
        return loss.to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None


def average_to_smaller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Average maps (B, F, h, w) and (B, F', h', w') down to (min(h, h'), min(w, w')), axis by axis.

    A map that has that size is returned unchanged.
    """
    size = min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])
    one, other = (x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size) for x in (first, second))
    return one, other


@use_full_precision
def channel_gram(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compute the root mean square difference of the maps' channel Gram matrices, a scalar ≥ 0.

    Both maps are (B, F, h, w), of one shape, otherwise a ValueError. A Gram matrix is (F, F), divided by F·h·w. The
    teacher gets no gradient; equal maps give 0 and a zero gradient. Computed in float64, without an F×F matrix as long
    as h·w ≤ F.
    Wang et al., SSD-KD: a self-supervised diverse knowledge distillation method for lightweight skin lesion
    classification, Medical Image Analysis 2023 (channel-wise relations).
    """
    if student_map.shape != teacher_map.shape or student_map.dim() != 4:
        raise ValueError(
            f"The maps must be (B, F, h, w) and alike, not {tuple(student_map.shape)} "
            f"and {tuple(teacher_map.shape)}."
        )
    loss: Tensor = _ChannelGram.apply(student_map.flatten(2), teacher_map.detach().flatten(2))
    return loss
