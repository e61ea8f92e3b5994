"""Preparing the synthetic sets: draw every image into the decoded cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from udcd_bench.data.cache import prepared, staging
from udcd_bench.data.cache.options import PreparedSet, PrepareOptions
from udcd_bench.data.cache.prepare import check_size, find_existing
from udcd_bench.data.layouts.source import Source
from udcd_bench.data.synthetic import import_artist
from udcd_bench.data.synthetic.series import Series, draw_all

SEED = 2020
"""Of every synthetic set; which images there are is part of what the set is."""


def prepare_synthetic(
    source: Source, target: Path, size: int, n_images: int, options: PrepareOptions
) -> PreparedSet:
    """Draw ``n_images`` images into ``target``, unless the same set is prepared there already.

    size: side of the images in pixels.
    """
    check_size(size)
    artist = import_artist(source.name)
    parts = (source.name, artist.VERSION, n_images, SEED, size)
    checksum = hashlib.sha256(repr(parts).encode()).hexdigest()
    if existing := find_existing(target, checksum):
        return existing
    labels = artist.make_labels(n_images, SEED)
    groups = artist.make_groups(n_images, labels, SEED)
    series = Series(artist.draw_image, labels, groups, size, SEED)
    with staging.open_staging_dir(target, n_images, size) as folder:
        if existing := find_existing(target, checksum):  # another process prepared it while this one waited
            return existing
        images = np.load(folder / prepared.ARRAY, mmap_mode="r+")
        progress = options.progress
        draw_all(
            series,
            jobs=options.jobs,
            progress=None if progress is None else (lambda n: progress(n, n_images)),
            out=images,
        )
        images.flush()
        staging.commit(folder, target, _build_rows(source, artist.CLASSES, series, checksum), size)
    return PreparedSet(target, (), fresh=True, incomplete="")


def _build_rows(source: Source, classes: Sequence[str], series: Series, checksum: str) -> prepared.Rows:
    return prepared.Rows(
        name=source.name,
        title=source.title,
        classes=classes,
        ids=[f"{source.name}-{i:06d}" for i in range(len(series.labels))],
        labels=series.labels.tolist(),
        groups=series.groups.tolist(),
        source_sha256=checksum,
        ordered=source.ordered,
        synthetic=True,
        source="drawn by udcd-bench",
    )
