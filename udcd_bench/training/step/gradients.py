"""The size of each loss term's gradient where it enters the student's backbone.

Of a method that reads the maps of all levels it is taken at the first of them, through which every term's gradient
passes; sizes of such a method's terms compare with each other, not with another method's.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn


@contextmanager
def watch_feature_maps(student: nn.Module) -> Iterator[list[Tensor]]:
    """Collect a feature map of each of the student's forward passes, in order, while the context is open."""
    maps: list[Tensor] = []
    hook = student.register_forward_hook(
        lambda module, args, features: maps.append((*features.levels, features.feature_map)[0])
    )
    try:
        yield maps
    finally:
        hook.remove()


def compute_gradient_norms(terms: Mapping[str, Tensor], feature_maps: Sequence[Tensor]) -> dict[str, Tensor]:
    """Compute the norm of each term's gradient at the feature maps of all the student's passes together.

    terms: scalars, each weighted as in the loss. feature_maps: (B, F, h, w) each.
    Returns scalars ≥ 0 on the terms' device, float32; empty where the student is not trained. The backward pass of the
    loss, which follows, gives the same gradients as it would have without this.
    """
    trained = [feature_map for feature_map in feature_maps if feature_map.requires_grad]
    if not trained:
        return {}
    norms = {}
    for name, term in terms.items():
        gradients = (
            torch.autograd.grad(term, trained, retain_graph=True, allow_unused=True)
            if term.requires_grad
            else ()
        )
        squares = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
        norms[name] = (
            torch.stack(squares).sum().sqrt() if squares else term.new_zeros((), dtype=torch.float32)
        )
    return norms
