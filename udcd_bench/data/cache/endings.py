"""Image files that end too early and decode all the same: what lies at the end, and what a decoder put in its place.

Pillow sees that a JPEG is cut only where its bytes end, not where they go on with zeros or a marker of the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

SOF_BASELINE, SOF_EXTENDED, SOF_PROGRESSIVE, EOI, SOS = 0xC0, 0xC1, 0xC2, 0xD9, 0xDA
"""Markers of a JPEG: the kind of its frame, its end, a scan."""
FILL_BYTES = 16
"""From so many equal bytes on, the end of a file without a marker of its end is no picture."""
WEBP_FILL_BYTES = 64
"""A coded picture holds no such run of zeros: that many zeros would be read as very much."""
MIDDLE_GREY = 128
"""What a decoder fills in for the blocks of a JPEG that are missing."""
MISSING_SHARE = 8
"""An eighth of the rows and more of exactly this grey are taken for missing."""


def describe_lost_end(data: bytes, kind: str | None) -> str:
    """Say that an image file ends in filling instead of its picture; empty if it does not.

    kind: the format, as Pillow calls it.
    """
    n_filled = len(data) - len(data.rstrip(data[-1:]))
    if n_filled >= FILL_BYTES and (
        (kind in ("JPEG", "MPO") and EOI not in [marker for marker, _ in _list_markers(data)])
        or (kind == "PNG" and b"IEND" not in data)
    ):
        return f"its last {n_filled} bytes are all {data[-1]}, as of a copy that was not finished"
    if kind == "WEBP" and not (b"EXIF" in data or b"XMP " in data):
        end = 8 + int.from_bytes(data[4:8], "little")  # of the RIFF; what follows is not read
        n_filled = len(data[:end]) - len(data[:end].rstrip(b"\0"))
        if n_filled >= WEBP_FILL_BYTES:
            return f"its last {n_filled} bytes are zeros, as of a copy that was not finished"
    return ""


def seems_cut(data: bytes, image: Image.Image) -> bool:
    """Whether a decoded JPEG seems cut and closed: its lowest rows are filled in, or scans of it are missing."""
    if image.format not in ("JPEG", "MPO"):
        return False
    return _lacks_scans(data) or _has_filled_rows(image)


def _has_filled_rows(image: Image.Image) -> bool:
    if image.mode not in ("L", "RGB"):
        return False
    rows = image.height // MISSING_SHARE
    if rows == 0 or image.getpixel((image.width - 1, image.height - 1)) not in (
        MIDDLE_GREY,
        (MIDDLE_GREY,) * 3,
    ):
        return False
    lowest = image.crop((0, image.height - rows, image.width, image.height))
    return bool((np.asarray(lowest) == MIDDLE_GREY).all())


def _lacks_scans(data: bytes) -> bool:
    """Whether a progressive JPEG has not said every coefficient of every component to its last bit."""
    missing: dict[int, int] = {}
    for marker, segment in _list_markers(data):
        if marker in (SOF_BASELINE, SOF_EXTENDED):
            return False
        if marker == SOF_PROGRESSIVE and len(segment) > 5:
            missing = dict.fromkeys(segment[6::3], 2**64 - 1)
        elif marker == SOS and missing and len(segment) >= 4 + 2 * segment[0]:
            first, last, bits = segment[-3:]
            if bits & 15 == 0:  # the scan that brings the last bit
                for component in segment[1 : 1 + 2 * segment[0] : 2]:
                    missing[component] = missing.get(component, 0) & ~(2 ** (last + 1) - 2**first)
    return any(missing.values())


def _list_markers(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker of a JPEG with the bytes of its segment, up to the marker of the end."""
    at = 2
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        marker = data[at + 1]
        if marker == EOI:
            yield marker, b""
            return
        if marker == 0xFF:  # filling before a marker
            at += 1
        elif (
            marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8
        ):  # a byte of a scan, and markers without a segment
            at += 2
        else:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            yield marker, data[at + 4 : at + 2 + length]
            at += 2 + max(length, 2)
