"""The training images on the device, and the batches drawn from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from udcd_bench.data.augment import PAPER, Warp, normalise, random_affine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from udcd_bench.data.dataset import Images, Ints


class Batch(NamedTuple):
    """What every method is given at a step.

    views: independent draws of the same images, each (B, 3, H, W), normalised; the student's first.
    labels: (B,) int64. index: (B,) int64, places in the training set, 0 to n_train − 1.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of that name


class Resident:
    """Images held as uint8 on the device, with the generators that order and augment them.

    images: (n, H, W, 3) uint8, possibly a memory map; rows: those to hold, in this order.
    """

    def __init__(
        self,
        images: Images,
        labels: Ints,
        rows: Ints,
        *,
        device: torch.device,
        order_seed: int,
        augment_seed: int,
        warp: Warp = PAPER,
    ) -> None:
        # NHWC in memory, NCHW to the network: that is channels_last, without a copy
        self.images = torch.from_numpy(np.ascontiguousarray(images[rows])).to(device).permute(0, 3, 1, 2)
        self.labels = torch.from_numpy(labels[rows]).to(device)
        self.order = torch.Generator().manual_seed(order_seed)
        self.draws = torch.Generator(device=device).manual_seed(augment_seed)
        self.device = device
        self.warp = warp

    def __len__(self) -> int:
        return len(self.labels)

    def steps(self, batch_size: int) -> int:
        """Batches an epoch has; a last batch of a single image, which has no variance, is left out."""
        whole, rest = divmod(len(self), batch_size)
        return whole + (rest > 1)

    def epoch(self, batch_size: int, n_views: int) -> Iterator[Batch]:
        """Every image once, in a new order, each view with its own draw."""
        order = torch.randperm(len(self), generator=self.order).to(self.device)
        for step in range(self.steps(batch_size)):
            index = order[step * batch_size : (step + 1) * batch_size]
            images = self._floats(index)
            drawn = random_affine(images.repeat(n_views, 1, 1, 1), self.draws, self.warp)
            views = normalise(drawn).contiguous(memory_format=torch.channels_last).chunk(n_views)
            yield Batch(tuple(views), self.labels[index], index)

    def plain(self, batch_size: int) -> Iterator[Tensor]:
        """Every image once, in order, as it is: (≤ B, 3, H, W), normalised."""
        for index in torch.split(torch.arange(len(self), device=self.device), batch_size):
            yield normalise(self._floats(index))

    def _floats(self, index: Tensor) -> Tensor:
        return self.images.index_select(0, index).float().div_(255)

    def state(self) -> dict[str, Tensor]:
        """The generators' states."""
        return {"order": self.order.get_state(), "draws": self.draws.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Set the generators to what ``state`` returned."""
        self.order.set_state(state["order"])
        self.draws.set_state(state["draws"])
