"""One DICOM file as an 8-bit RGB image: its first frame, through the window that the file itself states.

pydicom, an extra, reads it. A file that states no window is scaled by all bits that it may use, so that no image is
scaled by its own darkest and brightest pixel.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import Dataset

    from udcd_bench.data.dataset import Images
    from udcd_bench.stats.metrics import Floats

_DEFLATED = b"1.2.840.10008.1.2.1.99"
"""A transfer syntax that pydicom inflates as a whole, whatever it grows to."""


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM by its bytes."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes) -> tuple[Image.Image, tuple[str, ...]]:
    """Read a DICOM file as 8-bit RGB, and what is to be said of it, as kinds of the validation report.

    Raises ImportError without pydicom, and ValueError for a file that cannot be read.
    """
    import pydicom

    if _DEFLATED in data:
        raise ValueError("deflated DICOM, which is not read: save it uncompressed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's of values that the standard does not allow
        try:
            dataset = pydicom.dcmread(BytesIO(data))
            if int(dataset.Rows) * int(dataset.Columns) > (Image.MAX_IMAGE_PIXELS or 0):
                raise ValueError("more pixels than any photograph")
            pixels, has_window = _read_first_frame(dataset)
        except Exception as error:  # of a damaged file pydicom raises what its parts raise
            raise ValueError(f"pydicom cannot read it: {error}") from error
    dropped = ["dicom"] if has_window else ["dicom", "unwindowed"]
    dropped += ["frames"] if int(dataset.get("NumberOfFrames") or 1) > 1 else []
    return Image.fromarray(pixels).convert("RGB"), tuple(dropped)


def _read_first_frame(dataset: Dataset) -> tuple[Images, bool]:
    """Read the first frame as uint8, (h, w) grey or (h, w, 3) colour, and whether the file says how to show it."""
    from pydicom.pixels import processing, utils

    frame = utils.pixel_array(dataset, index=0)  # YBR comes as RGB
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        frame = processing.apply_color_lut(frame, dataset)
        return np.asarray(frame >> 8 * (frame.dtype.itemsize - 1), np.uint8), True
    if frame.ndim == 3:
        return np.asarray(frame >> max(0, int(dataset.BitsStored) - 8), np.uint8), True
    values = np.asarray(processing.apply_modality_lut(frame, dataset))
    black, white = _find_ends(dataset)
    has_window = all(dataset.get(name) not in (None, "") for name in ("WindowCenter", "WindowWidth"))
    if has_window:
        values = processing.apply_windowing(values, dataset)
    elif "VOILUTSequence" in dataset:
        values = _look_up(values, dataset.VOILUTSequence[0])
        black, white = _count_values(dataset.VOILUTSequence)
    else:
        black, white = sorted((black, white))
    grey = np.clip((values - black) / (white - black), 0, 1)
    if photometric == "MONOCHROME1":  # 0 is white
        grey = 1 - grey
    return np.asarray(np.rint(255 * grey), np.uint8), has_window or "VOILUTSequence" in dataset


def _look_up(values: Floats, item: Dataset) -> Floats:
    """Look values up in a table of the VOI LUT module: pydicom 3's wraps at 256 where entries have eight bits."""
    data = item.LUTData
    table = np.asarray(np.frombuffer(data, "<u2") if isinstance(data, bytes) else data, np.float64)
    rows = np.rint(values).astype(np.int64) - int(item.LUTDescriptor[1])
    looked_up: Floats = table[np.clip(rows, 0, len(table) - 1)]
    return looked_up


def _find_ends(dataset: Dataset) -> tuple[float, float]:
    """Find what the least and the greatest value become that a pixel may have: the ends of what a window returns."""
    if "ModalityLUTSequence" in dataset:
        return _count_values(dataset.ModalityLUTSequence)
    n_values = 2 ** int(dataset.BitsStored)
    least = -n_values // 2 if dataset.PixelRepresentation else 0
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if slope is None or intercept is None:
        return least, least + n_values - 1
    return least * float(slope) + float(intercept), (least + n_values - 1) * float(slope) + float(intercept)


def _count_values(sequence: Sequence[Dataset]) -> tuple[float, float]:
    """Count the values of a lookup table's entries: the least and the greatest that its bits can hold."""
    return 0, 2 ** int(sequence[0].LUTDescriptor[2]) - 1
