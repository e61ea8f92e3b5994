"""One image file to one row of the decoded cache: the only place where pixels are read.

The whole image is resized to size×size, bilinear with antialiasing, its proportions given up: what the
released code's ``Resize((224, 224))`` does (source R). Nothing is cropped; EXIF orientation is ignored, as in
the released code; of several frames the first is taken; transparency is dropped; 16-bit grey is divided by
257; everything becomes 8-bit RGB.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from udcd_bench.data.dataset import Images
from udcd_bench.data.layouts.files import Archives, FileRef

RESIZE = "whole image to size x size, bilinear, antialiased"
MIN_SIZE, MAX_SIZE = 32, 512
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
"""Whatever a file is called: Pillow knows others, and hands one of them to a PostScript interpreter."""

_archives = Archives()  # one per process: a worker keeps its zips open from one chunk to the next
atexit.register(_archives.close)


@dataclass(frozen=True)
class DecodedFile:
    """What became of one file: its row, and either two digests or what is wrong with it."""

    row: int
    file_sha256: str = ""
    pixels_sha256: str = ""
    problem: str = ""


def to_rgb(data: bytes) -> Image.Image:
    """Decode a whole image file to 8-bit RGB; raises what Pillow raises, and never pads a truncated one."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # a global that other libraries like to set
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF and the like, which we do not use
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            image.load()
            if image.mode == "F":
                raise ValueError("floating-point pixels have no defined range")
            if image.mode.startswith("I"):
                grey = np.asarray(image).astype(np.int64)
                if grey.min() < 0 or grey.max() > 0xFFFF:
                    raise ValueError("pixels of more than 16 bits")
                return Image.fromarray((grey // 257).astype(np.uint8)).convert("RGB")
            if image.mode == "P" and "transparency" in image.info:
                return image.convert("RGBA").convert("RGB")
            return image.convert("RGB")


def resize(image: Image.Image, size: int) -> Images:
    """(size, size, 3) uint8 of an RGB image, see the module's docstring."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def hash_pixels(image: Image.Image) -> str:
    """A digest of the pixels at full size, so that one picture saved twice is recognised."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def decode_rows(path: str, start: int, size: int, chunk: Sequence[tuple[int, FileRef]]) -> list[DecodedFile]:
    """Decode each (row, file) into the array in file `path`, whose rows begin at byte `start`.

    Rows are written with ``pwrite``, not through a memory map: a full disk is then an OSError, not a SIGBUS.
    """
    done = []
    out = os.open(path, os.O_WRONLY)
    try:
        for row, where in chunk:
            try:
                data = _archives.read(where)
                image = to_rgb(data)
            except Exception as error:  # a decoder raises what it likes on what is no image
                done.append(DecodedFile(row, problem=_describe_error(data_error=error)))
                continue
            pixels = resize(image, size).tobytes()
            if os.pwrite(out, pixels, start + row * len(pixels)) < len(pixels):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            done.append(DecodedFile(row, hashlib.sha256(data).hexdigest(), hash_pixels(image)))
    finally:
        os.close(out)
    return done


def close_archives() -> None:
    """Let go of the zips this process holds open."""
    _archives.close()


def _describe_error(data_error: BaseException) -> str:
    text = str(data_error).strip().split("\n")[0]
    if isinstance(data_error, UnidentifiedImageError) or not text:
        return "not an image" if isinstance(data_error, OSError) else type(data_error).__name__
    if "exceeds limit" in text:
        return "more pixels than any photograph"
    return text
