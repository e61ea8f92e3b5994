"""Images on the device, or streamed to it, and the batches made of them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from udcd_bench.data.batches.augment import PAPER_AFFINE, AffineRange, make_imagenet_stats, move_randomly
from udcd_bench.data.batches.mixup import MixedIndex, Mixup
from udcd_bench.data.batches.randaugment import RandAugment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from udcd_bench.data.dataset import Images, Ints


def compute_memory_budget(device: torch.device) -> int:
    """Compute the bytes that a data set may take: half of a GPU's free memory, or half of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class Batch(NamedTuple):
    """One batch, as every method gets it at a step.

    Attributes
    ----------
    views: independently augmented views of the same images, each (B, 3, H, W), normalised; the student's first.
    labels: (B,) int64. index: (B,) int64, rows of the training set, 0 to n_train − 1. Of mixed images, whose labels are
        two, ``BaseMethod.cross_entropy`` and ``average_rows`` alone can read the labels, and nothing the index.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of that name


class DeviceDataset:
    """Some images of a data set, and the generators that order and augment them.

    images: (n, H, W, 3) uint8, possibly a memory map. labels: (n,) int64. rows: the images to use, in this order.
    order_seed, augment_seed: of the order of the batches, and of the augmentation. affine_range: of the augmentation.
    augment: ``Protocol.augment``.

    The images stay on the device if ``compute_memory_budget`` allows it; else each batch is read while the one before
    it is trained on. The batches are the same, bit for bit.
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
        augment: str = "paper",
    ) -> None:
        self.labels = torch.from_numpy(labels[rows]).to(device)
        self.order_rng = torch.Generator().manual_seed(order_seed)
        self.augment_rng = torch.Generator(device=device).manual_seed(augment_seed)
        self.device = device
        self.affine_range = affine_range
        # another stream of numbers than that of ``augment_rng``
        self.randaugment = RandAugment(augment_seed + 1) if augment == "randaugment" else None
        self.mixup = Mixup(augment_seed + 2) if augment == "mixup" else None
        mean, std = make_imagenet_stats(device)
        self.offset = mean / std
        # as long as a row of pixels: dividing by three numbers again and again takes a CPU longer than all the rest
        self.scale = std.flatten().repeat(images.shape[2])
        self.images, self.rows = images, rows
        self.device_images: Tensor | None = None
        if len(rows) * images[:1].nbytes <= compute_memory_budget(device):
            self.device_images = torch.from_numpy(np.ascontiguousarray(images[rows])).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def count_steps(self, batch_size: int) -> int:
        """Count the batches of an epoch; a last batch of a single image, which has no variance, is left out."""
        whole, rest = divmod(len(self), batch_size)
        return whole + (rest > 1)

    def iterate_batches(self, batch_size: int, n_views: int) -> Iterator[Batch]:
        """Yield the batches of an epoch: every image once, in a new order, each view augmented independently."""
        # pinned memory, so that nothing waits for the copy to the device
        order = torch.randperm(len(self), generator=self.order_rng, pin_memory=self.device.type == "cuda")
        for index, images in self._fetch(order, batch_size, self.count_steps(batch_size)):
            originals = self._make_originals(images, n_views)
            moved = move_randomly(originals, self.augment_rng, self.affine_range)
            views = tuple(x.sub_(self.offset).contiguous(memory_format=torch.channels_last) for x in moved)
            batch = Batch(views, self.labels[index], index)
            yield self._mix(batch) if self.mixup else batch

    def _mix(self, batch: Batch) -> Batch:
        assert self.mixup is not None
        mixed, labels = self.mixup.mix(batch.views, batch.labels)
        views = tuple(view.contiguous(memory_format=torch.channels_last) for view in mixed)
        return Batch(views, labels, MixedIndex(batch.index))

    def iterate_images(self, batch_size: int) -> Iterator[Tensor]:
        """Yield every image once, in order, without augmentation: (≤ B, 3, H, W), normalised."""
        order = torch.arange(len(self))
        for _, images in self._fetch(order, batch_size):
            yield self._to_floats(images).sub_(self.offset)

    def _make_originals(self, images: Tensor, n_views: int) -> list[Tensor]:
        """Make of images (B, H, W, 3) uint8 what each view is moved from, (B, 3, H, W) each, divided by the deviation.

        Black is still 0, as it is outside an image.
        """
        if self.randaugment is None:
            return [self._to_floats(images)] * n_views
        return [self._to_floats(self.randaugment(images)) for _ in range(n_views)]

    def _fetch(
        self, order: Tensor, batch_size: int, steps: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the parts of an order, each with its images (B, H, W, 3) uint8, on the device."""
        parts = torch.split(order.to(self.device, non_blocking=True), batch_size)[:steps]
        if self.device_images is not None:
            for index in parts:
                yield index, self.device_images.index_select(0, index)
            return
        with ThreadPoolExecutor(1) as reader:
            reads = (
                reader.submit(self._read_images, part) for part in torch.split(order, batch_size)[:steps]
            )
            ahead = next(reads, None)
            for index in parts:
                assert ahead is not None
                pixels = ahead.result().to(self.device, non_blocking=True)
                ahead = next(reads, None)
                yield index, pixels

    def _read_images(self, index: Tensor) -> Tensor:
        """Read images into host memory, pinned for a GPU; the allocator keeps a block until its copy is over."""
        rows = self.rows[index.numpy()]
        shape = (len(rows), *self.images.shape[1:])
        out = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        np.take(self.images, rows, axis=0, out=out.numpy(), mode="clip")  # other modes write twice
        return out

    def _to_floats(self, images: Tensor) -> Tensor:
        """Turn (B, H, W, 3) uint8 into (B, 3, H, W) float32, divided by the deviation; channels_last, no copy."""
        return images.flatten(2).float().div_(self.scale).view(images.shape).permute(0, 3, 1, 2)

    def get_state(self) -> dict[str, Tensor]:
        """Return the states of the generators."""
        states = {"order": self.order_rng.get_state(), "draws": self.augment_rng.get_state()}
        others = {"randaugment": self.randaugment, "mixup": self.mixup}
        return states | {name: each.generator.get_state() for name, each in others.items() if each}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Set the generators to what ``get_state`` returned."""
        self.order_rng.set_state(state["order"])
        self.augment_rng.set_state(state["draws"])
        if self.randaugment:
            self.randaugment.generator.set_state(state["randaugment"])
        if self.mixup:
            self.mixup.generator.set_state(state["mixup"])
