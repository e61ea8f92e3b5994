"""Running averages of modules, by which a mean teacher follows its student."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


def compute_ema_decay(step: int, ceiling: float) -> float:
    """Compute α = min(1 − 1/(step+1), ceiling), steps counted from 0 (R, O:CRCKD)."""
    return min(1 - 1 / (step + 1), ceiling)


class EMA:
    """The running averages of a stage's modules. Their hundreds of parameters are looked up once.

    pairs: (source, its average). An average keeps its own buffers (R, O:CRCKD).
    """

    def __init__(self, pairs: Sequence[tuple[nn.Module, nn.Module]]) -> None:
        self.source: list[Tensor] = [p for module, _ in pairs for p in module.parameters()]
        self.averaged: list[Tensor] = [p for _, average in pairs for p in average.parameters()]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Set each average to decay·average + (1 − decay)·source."""
        if self.averaged:
            torch._foreach_lerp_(self.averaged, self.source, 1 - decay)
