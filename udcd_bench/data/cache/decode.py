"""Decoding and resizing one image file to one row of the decoded cache: the only module that reads pixels.

The whole image is resized to size×size, bilinear with antialiasing, without keeping its proportions, as the released
code's ``Resize((224, 224))`` does (source R). EXIF orientation is ignored, as in the released code. Of one's own images
``Decoding`` may say otherwise of both. Of several frames the first is used; transparency is dropped; 16-bit grey is
divided by 257, or scaled by the bits that ``--depth`` states; 16-bit colour keeps its upper eight bits; DICOM goes
through the window that the file states (``dicom``); everything becomes 8-bit RGB, and 0 is black.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from udcd_bench.data.cache import dicom
from udcd_bench.data.cache.endings import describe_lost_end, seems_cut
from udcd_bench.data.cache.options import RELEASED, Decoding
from udcd_bench.data.dataset import Images, Ints
from udcd_bench.data.files.archives import Archives, FileRef
from udcd_bench.data.files.kinds import describe_no_image
from udcd_bench.data.files.scan import make_forbidden_error

MIN_SIZE, MAX_SIZE = 32, 512
MIN_DEPTH, MAX_DEPTH = 8, 16
ORIENTATION = 0x0112
"""The EXIF tag."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation → what brings the image upright."""
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
"""TIFF tags; a photometric of 0 says that 0 is white."""
DARK = 15
"""An 8-bit image without a value above this is black to the eye."""
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
"""Accepted whatever a file is called: Pillow knows others, and hands one of them to a PostScript interpreter."""

_archives = Archives()  # one per process: a worker keeps its zips open from one chunk to the next
atexit.register(_archives.close)


@dataclass(frozen=True)
class DecodedFile:
    """The result of decoding one file.

    Attributes
    ----------
    row: its row in the array. file_sha256: of its bytes. pixels_sha256: of its pixels at full size.
    problem: empty, or what is wrong with it.
    deep_max: the largest value of a 16-bit image, but for a few pixels far above all others; -1 of any other image.
    is_colour: a 16-bit image is colour, or has transparency: its lower eight bits are not read.
    lowest, highest: of its 8-bit values.
    dropped: what it has and the cache has not, or what it seems to lack, as kinds of the validation report.
    width, height: in pixels, as it is stored.
    """

    row: int
    file_sha256: str = ""
    pixels_sha256: str = ""
    problem: str = ""
    deep_max: int = -1
    is_colour: bool = False
    lowest: int = 0
    highest: int = 255
    dropped: tuple[str, ...] = ()
    width: int = 0
    height: int = 0


class Decoded(NamedTuple):
    """An image as 8-bit RGB, and what ``DecodedFile`` says of it."""

    image: Image.Image
    deep_max: int
    is_colour: bool
    dropped: tuple[str, ...]


def to_rgb(data: bytes, decoding: Decoding = RELEASED) -> Image.Image:
    """Decode a whole image file to 8-bit RGB. Raises what Pillow raises, also for a truncated file."""
    return decode_bytes(data, decoding).image


def decode_bytes(data: bytes, decoding: Decoding) -> Decoded:
    """Decode a whole image file. Raises what Pillow raises, also for a truncated file."""
    if dicom.is_dicom(data):
        image, dropped = dicom.read_dicom(data)
        return Decoded(image, -1, is_colour=False, dropped=dropped)
    decoded, orientation = _decode_stored(data, decoding.depth or MAX_DEPTH)
    if orientation not in _TURNS:
        return decoded
    if decoding.exif == "ignore":
        return decoded._replace(dropped=(*decoded.dropped, "turned"))
    image = decoded.image.transpose(_TURNS[orientation])
    return decoded._replace(image=image, dropped=(*decoded.dropped, "upright"))


def _decode_stored(data: bytes, depth: int) -> tuple[Decoded, int]:
    """Decode a file as its pixels are stored; also returns its EXIF orientation, 1 for none."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # a global that other libraries set
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged EXIF and the like, which we do not use
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            image.load()
            if lost := describe_lost_end(data, image.format):
                raise ValueError(lost)
            dropped, orientation = _list_dropped(image), _read_orientation(image)
            if seems_cut(data, image):
                dropped = (*dropped, "cut")
            if image.mode == "F":
                raise ValueError("floating-point pixels have no defined range")
            if image.mode.startswith("I"):
                return _decode_grey(image, depth, dropped), orientation
            is_keyed = image.mode == "P" and "transparency" in image.info
            rgb = (image.convert("RGBA") if is_keyed else image).convert("RGB")
            if not _has_16_bits(image, data):
                return Decoded(rgb, -1, is_colour=False, dropped=dropped), orientation
            deep_max = 256 * _find_top(np.asarray(rgb).astype(np.int64), 255) + 255
            return Decoded(rgb, deep_max, is_colour=True, dropped=dropped), orientation


def _decode_grey(image: Image.Image, depth: int, dropped: tuple[str, ...]) -> Decoded:
    """Decode 16-bit grey. Raises ValueError when its values do not fit ``depth``, but for a few pixels."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0:
        raise ValueError("negative pixels: shift and scale them to 0 to 65535")
    if grey.max() >> MAX_DEPTH:
        raise ValueError("pixels of more than 16 bits")
    top = _find_top(grey, 2**MAX_DEPTH - 1)
    if top >> depth:
        raise ValueError(f"a value of {top} does not fit --depth {depth}")
    white = 2**depth - 1
    if grey.max() > white:
        dropped = (*dropped, "clipped")
        grey = np.minimum(grey, white)
    if image.format == "TIFF" and _read_tag(image, PHOTOMETRIC) == 0:  # Pillow turns it round for 8 bits only
        grey = white - grey
    scaled = Image.fromarray((grey * 255 // white).astype(np.uint8)).convert("RGB")
    return Decoded(scaled, top, is_colour=False, dropped=dropped)


def _find_top(values: Ints, saturated: int) -> int:
    """Find the largest value, but for a few that are at least four times all others: dead pixels, a burned-in mark.

    A few are a thousandth of all, or a twentieth where they are ``saturated``, the largest value that there may be.
    """
    flat = values.ravel()
    largest, n_saturated = int(flat.max()), int((flat == saturated).sum())
    few = max(len(flat) // 1000, n_saturated if n_saturated <= len(flat) // 20 else 0)
    rest = int(np.partition(flat, len(flat) - 1 - few)[len(flat) - 1 - few])
    return rest if largest >= 4 * rest else largest


def _has_16_bits(image: Image.Image, data: bytes) -> bool:
    """Whether a colour image's file has 16 bits a sample, of which Pillow drops the lower eight."""
    if image.format == "PNG":
        return data[24:25] == b"\x10"  # the bit depth, in the chunk that is always the first
    return image.format == "TIFF" and _read_tag(image, BITS_PER_SAMPLE) == MAX_DEPTH


def _read_tag(image: Image.Image, tag: int) -> Any:
    """Read a TIFF's tag, the first of its values; None if it has none."""
    value = getattr(image, "tag_v2", {}).get(tag)
    return value[0] if isinstance(value, tuple) and value else value


def _list_dropped(image: Image.Image) -> tuple[str, ...]:
    """List what an image has and its row has not: further frames, transparency."""
    dropped = []
    # a JPEG's second frame is the camera's preview
    if image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False):
        dropped.append("frames")
    if _is_transparent(image):
        dropped.append("alpha")
    return tuple(dropped)


def _read_orientation(image: Image.Image) -> int:
    """Read the EXIF orientation of an image; 1, which is upright, where there is none."""
    with contextlib.suppress(Exception):  # of damaged EXIF anything may come, and nothing is taken from it
        return int(image.getexif().get(ORIENTATION, 1))
    return 1


def _is_transparent(image: Image.Image) -> bool:
    """Whether any pixel is transparent: by a channel, by its place in a palette, or by a colour that stands for it."""
    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        return isinstance(key, int) and bool((np.asarray(image) == key).any())
    if image.mode not in ("RGBA", "LA", "PA"):
        if key is None:
            return False
        image = image.convert("RGBA")
    return bool(image.getchannel("A").getextrema()[0] != 255)


def resize(image: Image.Image, size: int, how: str = RELEASED.resize) -> Images:
    """Resize an RGB image to (size, size, 3) uint8. how: as ``Decoding.resize`` has it."""
    square, bilinear = (size, size), Image.Resampling.BILINEAR
    if how == "pad":
        return np.asarray(ImageOps.pad(image, square, bilinear))
    if how == "crop":
        return np.asarray(ImageOps.fit(image, square, bilinear))
    return np.asarray(image.resize(square, bilinear))


def hash_pixels(image: Image.Image) -> str:
    """Hash the pixels at full size, so that one picture saved in two files is recognised."""
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def decode_rows(
    path: str, start: int, size: int, chunk: Sequence[tuple[int, FileRef]], decoding: Decoding = RELEASED
) -> list[DecodedFile]:
    """Decode each (row, file) of a chunk into the array file ``path``, whose rows begin at byte ``start``.

    Rows are written with ``pwrite``, not through a memory map: a full disk is then an OSError, not a SIGBUS.

    Raises UserError for a file that may not be read: it is not damaged, and would be left out without a need.
    """
    decoded = []
    out = os.open(path, os.O_WRONLY)
    try:
        for row, file in chunk:
            file_result, image = decode_file(row, file, decoding)
            decoded.append(file_result)
            if image is None:
                continue
            pixels = resize(image, size, decoding.resize).tobytes()
            if os.pwrite(out, pixels, start + row * len(pixels)) < len(pixels):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(out)
    return decoded


def decode_file(row: int, file: FileRef, decoding: Decoding) -> tuple[DecodedFile, Image.Image | None]:
    """Decode one file to 8-bit RGB at its full size; no image where ``problem`` says what is wrong with it.

    Raises UserError for a file that may not be read. Its zip stays open until ``close_archives``.
    """
    data = b"?"
    try:
        data = _archives.read(file)
        image, deep_max, is_colour, dropped = decode_bytes(data, decoding)
    except PermissionError as error:
        raise make_forbidden_error(file.path, error) from error
    except Exception as error:  # decoders raise anything for a file that is not an image
        return DecodedFile(row, problem=describe_no_image(data) or _describe_error(error)), None
    sums = hashlib.sha256(data).hexdigest(), hash_pixels(image)
    extrema = np.asarray(image.getextrema())
    lowest, highest = int(extrema.min()), int(extrema.max())
    return DecodedFile(row, *sums, "", deep_max, is_colour, lowest, highest, dropped, *image.size), image


def close_archives() -> None:
    """Close the zips that this process holds open."""
    _archives.close()


def _describe_error(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    if isinstance(error, UnidentifiedImageError) or not text:
        return "not an image" if isinstance(error, OSError) else type(error).__name__
    if "exceeds limit" in text:
        return "more pixels than any photograph"
    return text
