"""The data class of a decoded data set, which every source of images becomes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A decoded, resized, labelled set of images.

    Attributes
    ----------
    name: the name it is chosen by, such as ``ham10000`` or ``folder:/my/images``.
    title: the name in tables and captions. A stand-in's title says "synthetic stand-in".
    images: (n, size, size, 3) uint8 RGB; usually a read-only memory map.
    labels: (n,) int64 in [0, len(classes)).
    ids: n unique strings, the order of the rows.
    groups: (n,) int64; images that a leak-free split must not separate (same lesion, or duplicates) share a number.
    classes: class names, in label order.
    fingerprint: changes whenever images, labels or ids do.
    identity: what the set is, wherever it lies and whatever it is called; seeds come from it. The name, unless another
        is given.
    ordered: the classes are grades with an order, so quadratic-weighted kappa applies.
    synthetic: drawn by this suite; no figure on it may pass for one on patients.
    incomplete: empty, or one sentence on what was left out when it was prepared.
    copies: empty, or what the images are if not the originals, such as ``128 px copies``. Not in the fingerprint.
    report: the lines of the validation report: what was left out when it was prepared, and how it was understood.
    depth, exif, resize: how the files were read, as in ``cache.options.Decoding``.
    group_column: the column of a table of one's own that the groups are of; empty where copies alone make groups, and
        of published sets.
    own_split: (n,) of ``train``/``val``/``test`` where the source prescribes a split, else None.
    """

    name: str
    title: str
    images: Images
    labels: Ints
    ids: tuple[str, ...]
    groups: Ints
    classes: tuple[str, ...]
    fingerprint: str
    ordered: bool = False
    synthetic: bool = False
    incomplete: str = ""
    copies: str = ""
    own_split: npt.NDArray[np.str_] | None = None
    report: tuple[str, ...] = ()
    identity: str = ""
    depth: int | None = None
    exif: str = "ignore"
    resize: str = "squash"
    group_column: str = ""

    def __post_init__(self) -> None:
        if not self.identity:
            object.__setattr__(self, "identity", self.name)
        n = len(self.labels)
        if not (len(self.images) == len(self.ids) == len(self.groups) == n):
            raise ValueError(
                f"{self.name}: {len(self.images)} images, {n} labels, {len(self.ids)} ids, "
                f"{len(self.groups)} groups; there must be as many of each"
            )
        if n and not (int(self.labels.min()) >= 0 and int(self.labels.max()) < len(self.classes)):
            raise ValueError(f"{self.name}: labels outside 0..{len(self.classes) - 1}")

    @property
    def size(self) -> int:
        """Side of the square images in pixels."""
        return int(self.images.shape[1])

    def count_labels(self) -> Ints:
        """Count the images of each class, (C,)."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)


def compute_fingerprint(*parts: Any) -> str:
    """Compute a short sha256 over arrays (their bytes, shape and dtype) and other values (their ``repr``)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]
