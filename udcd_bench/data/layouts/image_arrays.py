"""The data class of sets that come as arrays in memory rather than as image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from udcd_bench.data.dataset import Images, Ints


@dataclass(frozen=True)
class ImageArrays:
    """A set of images in memory, as a layout reader returns it.

    Attributes
    ----------
    name, title, classes, ids, labels, own_split, ordered: as in ``Dataset``.
    images: n images of any size, (h, w) grey or (h, w, 3), uint8.
    source: the path that they came from, or what made them.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    ids: Sequence[str]
    labels: Ints
    images: Sequence[Images]
    own_split: Sequence[str] | None = None
    ordered: bool = False
    source: str = ""
