"""RandAugment by torchvision: each view of each image altered by operations that are drawn for it alone.

Cubuk et al., RandAugment: practical automated data augmentation with a reduced search space, NeurIPS 2020.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator


class RandAugment:
    """Alters images by two operations of magnitude 9 of 30 each, torchvision's defaults; outside an image is black.

    generator: of the draws, on the CPU, where torchvision draws for any device.
    """

    def __init__(self, seed: int) -> None:
        from torchvision.transforms import v2  # a slow import, for runs that ask for it

        self.transform = v2.RandAugment()
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, images: Tensor) -> Tensor:
        """Return other images of the same shape, (B, H, W, 3) uint8."""
        with _draw_from(self.generator):
            altered = [self.transform(image) for image in images.permute(0, 3, 1, 2)]
        return torch.stack(altered).permute(0, 2, 3, 1)


@contextmanager
def _draw_from(generator: torch.Generator) -> Iterator[None]:
    """Let PyTorch's global generator on the CPU, torchvision's only one, go on as this one within the context."""
    others = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
        generator.set_state(torch.get_rng_state())
    finally:
        torch.set_rng_state(others)
