"""Sets that come as small arrays rather than as files: resized into the same cache."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from udcd_bench.data.cache import prepared
from udcd_bench.data.cache.decode import resize
from udcd_bench.data.cache.prepare import PreparedSet, check_size, find_existing, merge_groups
from udcd_bench.data.cache.prepared import Rows
from udcd_bench.data.dataset import Images, Ints
from udcd_bench.data.layouts.image_index import ValidationReport


@dataclass(frozen=True)
class ImageArrays:
    """Images of any size in memory, (h, w) grey or (h, w, 3), uint8, and what belongs to them."""

    name: str
    title: str
    classes: tuple[str, ...]
    ids: Sequence[str]
    labels: Ints
    images: Sequence[Images]
    own_split: Sequence[str] | None = None
    ordered: bool = False
    source: str = ""


def prepare_arrays(arrays: ImageArrays, target: Path, size: int, source_sha256: str) -> PreparedSet:
    """Resize `arrays` (bilinear, antialiased) into `target` unless that has been done."""
    check_size(size)
    if done := find_existing(target, source_sha256, True):
        return done
    n = len(arrays.images)
    digests = [
        hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest() for image in arrays.images
    ]
    report = _report_duplicates(arrays, digests)
    with prepared.open_staging_dir(target, n, size) as work:
        if done := find_existing(target, source_sha256, True):
            return done
        with (work / prepared.ARRAY).open("r+b") as file:
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
            source_sha256=source_sha256,
            own_split=arrays.own_split,
            ordered=arrays.ordered,
            source=arrays.source,
            report=report,
        )
        prepared.commit(work, target, rows, size)
    return PreparedSet(target, report, True, "")


def _report_duplicates(arrays: ImageArrays, digests: Sequence[str]) -> list[str]:
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
