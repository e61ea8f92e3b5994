"""Preparing sets that come as arrays in memory: resize and commit to the decoded cache."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from udcd_bench.data.cache import prepared, staging
from udcd_bench.data.cache.decode import resize
from udcd_bench.data.cache.options import PreparedSet
from udcd_bench.data.cache.prepare import check_size, find_existing, merge_groups
from udcd_bench.data.cache.prepared import Rows
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.layouts.image_arrays import ImageArrays


def prepare_arrays(
    read_arrays: Callable[[], ImageArrays], target: Path, size: int, checksum: str
) -> PreparedSet:
    """Resize arrays (bilinear, antialiased) into ``target``, unless the same set is prepared there already.

    read_arrays: called when there is something to do. size: side of the images in pixels. checksum: changes when the
    arrays do.
    """
    check_size(size)
    if existing := find_existing(target, checksum):
        return existing
    arrays = read_arrays()
    digests = [
        hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest() for image in arrays.images
    ]
    report = _report_duplicates(arrays, digests)
    with staging.open_staging_dir(target, len(arrays.images), size) as folder:
        if existing := find_existing(target, checksum):  # another process prepared it while this one waited
            return existing
        with (folder / prepared.ARRAY).open("r+b") as file:
            file.seek(prepared.HEADER_BYTES)
            for image in arrays.images:
                file.write(resize(Image.fromarray(image).convert("RGB"), size).tobytes())
        rows = Rows(
            name=arrays.name,
            title=arrays.title,
            classes=arrays.classes,
            ids=arrays.ids,
            labels=arrays.labels.tolist(),
            groups=merge_groups([[digest] for digest in digests]),
            source_sha256=checksum,
            own_split=arrays.own_split,
            ordered=arrays.ordered,
            source=arrays.source,
            report=report,
        )
        staging.commit(folder, target, rows, size)
    return PreparedSet(target, report, fresh=True, incomplete="")


def _report_duplicates(arrays: ImageArrays, digests: Sequence[str]) -> list[str]:
    """Report images that are the same, and those of them whose labels differ."""
    report = ValidationReport()
    rows: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        if rows[digest]:
            report.add("bytes", f"{arrays.ids[row]} = {arrays.ids[rows[digest][0]]}")
        rows[digest].append(row)
    for same in rows.values():
        if len(np.unique(arrays.labels[same])) > 1:
            report.add(
                "disputed", " = ".join(f"{arrays.ids[row]} ({arrays.labels[row]})" for row in same[:4])
            )
    return report.format_lines()
