"""Batched augmentation on the device: every image gets its own random turn, shift and flip.

Pixels from outside the image are black.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class AffineRange(NamedTuple):
    """The range of the random affine maps; the defaults are the ``paper`` protocol's (R, O:CRCKD).

    Attributes
    ----------
    rotation: largest angle in degrees, in both directions. translation: largest shift along each axis, in both
        directions, as a fraction of the side. flip: probability of a horizontal mirror image.
    """

    rotation: float = 10.0
    translation: float = 0.02
    flip: float = 0.5


PAPER_AFFINE = AffineRange()

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def sample_affine_matrices(
    n: int, generator: torch.Generator, affine_range: AffineRange = PAPER_AFFINE
) -> Tensor:
    """Sample n inverse affine maps, (n, 2, 3) float32 on the generator's device, in ``affine_grid``'s coordinates."""
    device = generator.device
    draws = torch.rand(n, 4, generator=generator, device=device)
    angle = (draws[:, 0] * 2 - 1) * (affine_range.rotation * torch.pi / 180)
    # the side is 2 long in these coordinates
    shift = (draws[:, 1:3] * 2 - 1) * (2 * affine_range.translation)
    flip = torch.where(draws[:, 3] < affine_range.flip, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * flip, -sin, shift[:, 0], sin * flip, cos, shift[:, 1]]
    return torch.stack(rows, dim=1).view(n, 2, 3)


def make_random_views(
    images: Tensor, n: int, generator: torch.Generator, affine_range: AffineRange = PAPER_AFFINE
) -> list[Tensor]:
    """Make n views of float images (B, 3, H, W): each image turned, shifted and mirrored at random, bilinearly.

    Returns n tensors (B, 3, H, W).
    """
    return move_randomly([images] * n, generator, affine_range)


def move_randomly(
    originals: Sequence[Tensor], generator: torch.Generator, affine_range: AffineRange = PAPER_AFFINE
) -> list[Tensor]:
    """Make one view of each of n tensors of float images (B, 3, H, W), all of one shape, as ``make_random_views``."""
    first, n = originals[0], len(originals)
    theta = sample_affine_matrices(n * len(first), generator, affine_range).to(first.device, first.dtype)
    grids = make_affine_grid(theta, *first.shape[2:]).chunk(n)
    return [
        F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
        for images, grid in zip(originals, grids)
    ]


def make_affine_grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Make the sampling grid (n, H, W, 2) of the maps ``theta`` (n, 2, 3); pixels are areas, not points.

    One thin matrix product adds the terms of rows and of columns, so that the cost is that of writing the result.
    """
    like: dict[str, Any] = {"dtype": theta.dtype, "device": theta.device}
    x, y = ((2 * torch.arange(side, **like) + 1) / side - 1 for side in (width, height))
    row_terms = theta[:, None, :, 1] * y[:, None] + theta[:, None, :, 2]
    column_terms = (theta[:, None, :, 0] * x[:, None]).flatten(1)
    ones = torch.ones(len(theta), height, 1, **like)
    select = torch.eye(2, **like).repeat(1, width).expand(len(theta), 2, 2 * width)
    grid = torch.cat([ones, row_terms], 2) @ torch.cat([column_terms[:, None], select], 1)
    return grid.view(len(theta), height, width, 2)


def make_imagenet_stats(device: torch.device) -> tuple[Tensor, Tensor]:
    """Make ImageNet's mean and standard deviation of pixels in [0, 255], (3, 1, 1) float32 each."""
    mean, std = (
        255 * torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return mean, std
