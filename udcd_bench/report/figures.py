"""Figures of the report: the pictures that ``udcd-bench plot`` has left, as their own files describe them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from udcd_bench import plugins
from udcd_bench.grid.cells import STAND_IN
from udcd_bench.render.plots import COMMAND_KEY
from udcd_bench.runs.spec import SPLITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from udcd_bench.grid.cells import TableRequest


@dataclass(frozen=True)
class FigurePart:
    """A figure that was drawn. image: a data URI. description: its warning and caption.

    synthetic: whether it shows stand-ins. command: what drew it, as its own file says; empty where it does not.
    """

    name: str
    anchor: str
    title: str
    command: str
    synthetic: bool
    image: str
    width: int
    height: int
    description: str
    files: tuple[str, ...]


def build_figures(root: Path, requests: Iterable[TableRequest]) -> Iterator[FigurePart]:
    """Build every figure that lies in the folders of these requests' profiles, under the names of their splits.

    A figure's own name comes first, then those of requests that differ (``artefacts.file_names``).
    """
    for profile, suffix in dict.fromkeys((request.profile, request.suffix) for request in requests):
        for name in plugins.list_names("figures"):
            files = (root / profile).glob(f"{name}*.png")
            for file in sorted(files, key=lambda path: (path.stem != f"{name}{suffix}", path.name)):
                if _is_of(file.stem, name, suffix):
                    yield _read_figure(file, name)


def _is_of(stem: str, name: str, suffix: str) -> bool:
    """Tell whether a picture's stem is that of a figure on the split of this suffix; a bare one is not."""
    others = [f"-{split}" for split in SPLITS if f"-{split}" != suffix]
    is_named = stem == name + suffix or (stem.startswith(f"{name}-") and stem.endswith(suffix))
    return is_named and not stem.endswith(("-bare", *others))


def _read_figure(file: Path, name: str) -> FigurePart:
    from PIL import Image

    data = file.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
        texts = {key: str(picture.info.get(key, "")) for key in ("Title", "Description", COMMAND_KEY)}
    return FigurePart(
        name=name,
        anchor=f"{file.parent.name}-{file.stem}",
        title=texts["Title"] or str(plugins.read_attributes("figures", name).get("title", name)),
        command=texts[COMMAND_KEY],
        synthetic=STAND_IN in texts["Description"].lower(),
        image=f"data:image/png;base64,{base64.b64encode(data).decode()}",
        width=width,
        height=height,
        description=texts["Description"],
        files=_find_companion_files(file),
    )


def _find_companion_files(file: Path) -> tuple[str, ...]:
    """Find the CSVs and the PDF of a figure; those of other splits and requests, and bare ones, belong to others."""
    stem = file.stem
    others = (f"{stem}-bare", *(f"{stem}-{split}" for split in SPLITS if split != "paper"))
    others += tuple(path.stem for path in file.parent.glob(f"{stem}-*.png"))
    names = (path.name for kind in ("csv", "pdf") for path in file.parent.glob(f"{stem}*.{kind}"))
    return tuple(
        sorted(n for n in names if n.startswith((f"{stem}.", f"{stem}-")) and not n.startswith(others))
    )


def list_undrawn(pictures: Iterable[FigurePart]) -> list[str]:
    """List the figures of the suite of which no picture lies in the folder."""
    names = {picture.name for picture in pictures}
    return [name for name in plugins.list_names("figures") if name not in names]
