"""Batched augmentation on the device, with a draw of its own for every image.

The transform of the ``paper`` protocol (source R, O:CRCKD): rotation within ±10°, translation within ±2 % of the
side, horizontal flip with probability ½. Pixels that come from outside the image are black.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATION = 10.0
"""Largest rotation in degrees, either way (R, O:CRCKD)."""
TRANSLATION = 0.02
"""Largest shift as a fraction of the image's side, either way (R, O:CRCKD)."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def affine_matrices(n: int, generator: torch.Generator) -> Tensor:
    """Draw n inverse affine maps, (n, 2, 3) float32 on the generator's device, in ``affine_grid``'s coordinates."""
    device = generator.device
    draws = torch.rand(n, 4, generator=generator, device=device)
    angle = (draws[:, 0] * 2 - 1) * (ROTATION * torch.pi / 180)
    # the side is 2 long in these coordinates
    shift = (draws[:, 1:3] * 2 - 1) * (2 * TRANSLATION)
    flip = torch.where(draws[:, 3] < 0.5, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * flip, -sin, shift[:, 0], sin * flip, cos, shift[:, 1]]
    return torch.stack(rows, dim=1).view(n, 2, 3)


def random_affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, shift and mirror each of (B, 3, H, W) float images by its own draw, bilinearly."""
    theta = affine_matrices(len(images), generator).to(images.device, images.dtype)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def normalise(images: Tensor) -> Tensor:
    """Subtract ImageNet's mean and divide by its standard deviation; (B, 3, H, W) in [0, 1]."""
    mean = torch.tensor(MEAN, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    return (images - mean) / std


def four_turns(images: Tensor) -> Tensor:
    """Square images (B, 3, H, H) with their turns, (4B, 3, H, H): row 4i is image i, rows 4i+1 to 4i+3 it turned.

    By 90°, 180° and 270° anticlockwise, every pixel kept; laid out in memory as ``images`` is.
    """
    turned = images.repeat_interleave(4, 0)
    for k in range(1, 4):
        turned[k::4] = torch.rot90(images, k, (2, 3))
    return turned
