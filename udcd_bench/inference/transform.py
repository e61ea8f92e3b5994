"""From an image to what a run's network was tested on, by the run's record alone.

The path is that of training: ``data.cache.decode`` decodes and resizes, ``DeviceDataset`` divides and subtracts.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
from PIL import Image

from udcd_bench.data.batches.augment import IMAGENET_MEAN, IMAGENET_STD
from udcd_bench.data.batches.resident import DeviceDataset
from udcd_bench.data.cache import decode
from udcd_bench.data.cache.options import RELEASED, Decoding
from udcd_bench.data.files.report import PROBLEM_KINDS
from udcd_bench.engines.environment import use_default_settings
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from udcd_bench.data.dataset import Images
    from udcd_bench.runs.records import Record

_RESIZED = {
    "squash": "the whole image to size x size, proportions not kept",
    "pad": "the whole image into size x size, proportions kept, black borders around it",
    "crop": "the largest square around the centre to size x size",
}

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any]
"""A file's path, a Pillow image, or an array (H, W, 3) uint8 RGB."""


def is_path(image: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether an image is given by its file's path."""
    return isinstance(image, str | os.PathLike)


def list_images(images: ImageLike | Sequence[ImageLike]) -> list[ImageLike]:
    """List one image or several: of arrays, one of three dimensions is one. Raises UserError for anything else."""
    if is_path(images) or isinstance(images, Image.Image):
        return [images]
    if isinstance(images, np.ndarray):
        return [images] if images.ndim == 3 else list(images)
    if not isinstance(images, Iterable):
        raise UserError(f"{type(images).__name__} is no image; give a path, a Pillow image or an array.")
    return list(images)


@dataclass(frozen=True)
class Transform:
    """The preprocessing of a run's test images.

    size: the side that an image is resized to. decoding: how files were read, and what became of proportions.
    Called with one image, a path, a Pillow image or an array (H, W, 3) uint8, it returns (3, size, size) float32.
    """

    size: int
    decoding: Decoding = RELEASED

    def __call__(self, image: ImageLike) -> Tensor:
        """Return the image as the network takes it, (3, size, size) float32. Raises UserError for what is no image."""
        return self.normalize(self.read_pixels(image)[None], torch.device("cpu"))[0]

    def read_pixels(self, image: ImageLike) -> Images:
        """Return an image resized, (size, size, 3) uint8. Raises UserError for what is no image."""
        return decode.resize(self._open(image), self.size, self.decoding.resize)

    def _open(self, image: ImageLike) -> Image.Image:
        if isinstance(image, Image.Image):
            if image.mode.startswith(("I", "F")):  # Pillow would cut its values, and training did not
                raise UserError(
                    f"a Pillow image of mode {image.mode} has more than 8 bits; give its file's path."
                )
            return _load(image)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise UserError(
                    f"an array of shape {image.shape} and type {image.dtype} is no image; give (H, W, 3) of uint8, RGB."
                )
            return Image.fromarray(image)
        if not is_path(image):
            raise UserError(f"{type(image).__name__} is no image; give a path, a Pillow image or an array.")
        try:
            decoded = decode.decode_bytes(Path(image).read_bytes(), self.decoding)
        except Exception as error:  # decoders raise anything for a file that is not an image
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or "not an image"
            raise UserError(f"{os.fspath(image)} cannot be read as an image ({reason}).") from error
        for kind in decoded.dropped:
            logging.getLogger(__name__).warning("%s is among %s.", os.fspath(image), PROBLEM_KINDS[kind][0])
        return decoded.image

    def normalize(self, pixels: Images, device: torch.device) -> Tensor:
        """Return images (B, size, size, 3) uint8 on the device as (B, 3, size, size) float32, as tests see them."""
        n = len(pixels)
        rows = np.arange(n)
        with use_default_settings():
            images = DeviceDataset(pixels, rows, rows, device=device, order_seed=0, augment_seed=0)
            return next(images.iterate_images(n))

    def describe(self) -> dict[str, object]:
        """Describe the preprocessing in words and numbers, for the metadata of an exported network."""
        return {
            "input": "images (batch, 3, size, size) float32, RGB, value / 255, minus mean, divided by std",
            "size": self.size,
            "resize": f"{_RESIZED[self.decoding.resize]}, bilinear with antialiasing",
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
            "bits_of_16_bit_grey": self.decoding.depth or decode.MAX_DEPTH,
            "exif_orientation": {"apply": "applied", "ignore": "ignored"}[self.decoding.exif],
        }


def _load(image: Image.Image) -> Image.Image:
    """Return a Pillow image as RGB. Raises UserError for one without pixels, or whose file ends early."""
    if 0 in image.size:
        raise UserError(f"a Pillow image of {image.width}×{image.height} pixels is no image.")
    try:
        return image.convert("RGB")
    except OSError as error:
        raise UserError(f"a Pillow image cannot be read ({error}).") from error


def make_transform(record: Record, size: int) -> Transform:
    """Make the transform of a run from its record. size: the side of its images in pixels."""
    stored = record.get("decoding", {})
    exif, resize = (stored.get(name) or getattr(RELEASED, name) for name in ("exif", "resize"))
    return Transform(size, Decoding(stored.get("depth"), exif, resize))
