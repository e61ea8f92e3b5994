"""The data class by which a layout module declares its data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from udcd_bench.data.layouts.image_index import ImageIndex


@dataclass(frozen=True)
class Source:
    """A data set with a fixed name.

    Attributes
    ----------
    name: the name it is chosen by, such as ``ham10000``.
    title: the name in tables and captions.
    summary: one line for ``data list``.
    where_to_get: where people get it.
    read_index: lists the images below a folder or in a zip; None if the set needs no download.
    ordered: the classes are grades with an order.
    synthetic: the images are drawn by this suite.
    """

    name: str
    title: str
    summary: str
    where_to_get: str = "needs no download"
    read_index: Callable[[Path], ImageIndex] | None = None
    ordered: bool = False
    synthetic: bool = False
