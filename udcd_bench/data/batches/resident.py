"""The training images on the device, or streamed to it, and the batches drawn from them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from udcd_bench.data.batches.augment import PAPER_AFFINE, AffineRange, make_imagenet_stats, make_random_views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from udcd_bench.data.dataset import Images, Ints


def compute_memory_budget(device: torch.device) -> int:
    """Bytes that a data set may take: half of what a GPU has free, half of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class Batch(NamedTuple):
    """What every method is given at a step.

    views: independent draws of the same images, each (B, 3, H, W), normalised; the student's first.
    labels: (B,) int64. index: (B,) int64, places in the training set, 0 to n_train − 1.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of that name


class DeviceDataset:
    """The chosen images, and the generators that order and augment them.

    images: (n, H, W, 3) uint8, possibly a memory map; rows: those to hold, in this order. They are held on the device
    where there is ``room``; elsewhere each batch is fetched while the one before it is trained on. The batches are
    the same, bit for bit.
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
        affine_range: AffineRange = PAPER_AFFINE,
    ) -> None:
        self.labels = torch.from_numpy(labels[rows]).to(device)
        self.order_rng = torch.Generator().manual_seed(order_seed)
        self.augment_rng = torch.Generator(device=device).manual_seed(augment_seed)
        self.device = device
        self.affine_range = affine_range
        mean, std = make_imagenet_stats(device)
        self.offset = mean / std
        # as long as a row of pixels: dividing by three numbers over and over takes a CPU longer than all the rest
        self.scale = std.flatten().repeat(images.shape[2])
        self.images, self.rows = images, rows
        self.device_images: Tensor | None = None
        if len(rows) * images[:1].nbytes <= compute_memory_budget(device):
            self.device_images = torch.from_numpy(np.ascontiguousarray(images[rows])).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def count_steps(self, batch_size: int) -> int:
        """Batches an epoch has; a last batch of a single image, which has no variance, is left out."""
        whole, rest = divmod(len(self), batch_size)
        return whole + (rest > 1)

    def iterate_batches(self, batch_size: int, n_views: int) -> Iterator[Batch]:
        """Every image once, in a new order, each view with its own draw."""
        # from pinned memory, so that the device is not waited for
        order = torch.randperm(len(self), generator=self.order_rng, pin_memory=self.device.type == "cuda")
        for index, pixels in self._fetch(order, batch_size, self.count_steps(batch_size)):
            drawn = make_random_views(pixels, n_views, self.augment_rng, self.affine_range)
            views = tuple(x.sub_(self.offset).contiguous(memory_format=torch.channels_last) for x in drawn)
            yield Batch(views, self.labels[index], index)

    def iterate_images(self, batch_size: int) -> Iterator[Tensor]:
        """Every image once, in order, as it is: (≤ B, 3, H, W), normalised."""
        order = torch.arange(len(self))
        for _, pixels in self._fetch(order, batch_size):
            yield pixels.sub_(self.offset)

    def _fetch(
        self, order: Tensor, batch_size: int, steps: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The parts of an order, each with its images as floats (B, 3, H, W) on the device.

        They are divided by the standard deviation, once for all views; black is 0 still, as it is outside an image.
        """
        there = torch.split(order.to(self.device, non_blocking=True), batch_size)[:steps]
        if self.device_images is not None:
            for index in there:
                yield index, self._to_floats(self.device_images.index_select(0, index))
            return
        with ThreadPoolExecutor(1) as reader:
            reads = (
                reader.submit(self._read_images, part) for part in torch.split(order, batch_size)[:steps]
            )
            ahead = next(reads, None)
            for index in there:
                assert ahead is not None
                pixels = ahead.result().to(self.device, non_blocking=True)
                ahead = next(reads, None)
                yield index, self._to_floats(pixels)

    def _read_images(self, index: Tensor) -> Tensor:
        """These images in host memory, pinned for a GPU; the allocator keeps a block until its copy is over."""
        rows = self.rows[index.numpy()]
        shape = (len(rows), *self.images.shape[1:])
        out = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        np.take(self.images, rows, axis=0, out=out.numpy(), mode="clip")  # other modes write twice
        return out

    def _to_floats(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 as (B, 3, H, W) float32, divided by the deviation: channels_last, without a copy."""
        return images.flatten(2).float().div_(self.scale).view(images.shape).permute(0, 3, 1, 2)

    def get_state(self) -> dict[str, Tensor]:
        """The generators' states."""
        return {"order": self.order_rng.get_state(), "draws": self.augment_rng.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Set the generators to what ``state`` returned."""
        self.order_rng.set_state(state["order"])
        self.augment_rng.set_state(state["draws"])
