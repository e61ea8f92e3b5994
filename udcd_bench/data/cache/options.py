"""Data classes of preparing: its options and its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from udcd_bench.errors import quote_command

ProgressCallback = Callable[[int, int], object]
"""Called with how many more images are done, and how many there are in all."""


EXIF = ("apply", "ignore")
RESIZES = ("squash", "pad", "crop")


@dataclass(frozen=True)
class Decoding:
    """How image files become pixels, the same in training and in prediction.

    Attributes
    ----------
    depth: bits that 16-bit greys use; None for all 16.
    exif: ``apply`` turns images as their EXIF orientation says; ``ignore`` leaves them, as the released code does.
    resize: what becomes of proportions: ``squash`` gives them up, as the paper does; ``pad`` keeps them between black
        borders; ``crop`` keeps them in the largest square around the centre.
    """

    depth: int | None = None
    exif: str = "ignore"
    resize: str = "squash"


RELEASED = Decoding()
"""As the released code reads images."""
OWN = Decoding(exif="apply")
"""As one's own images are read where nothing else is said."""


@dataclass(frozen=True)
class PrepareOptions:
    """How a set is prepared.

    Attributes
    ----------
    source_path: the folder, zip or file that holds the set; None if its name says where the images come from.
    jobs: processes that decode or draw.
    allow_incomplete: go on without images that are missing or damaged; the set records what is left out.
    progress: called after each chunk of images.
    depth, exif, resize: as in ``Decoding``; None if the user does not say.
    group_column: the column of a table of one's own that says which images must not be separated; None as ``exif``.
    """

    source_path: Path | None = None
    jobs: int = 1
    allow_incomplete: bool = False
    progress: ProgressCallback | None = None
    depth: int | None = None
    exif: str | None = None
    resize: str | None = None
    group_column: str | None = None

    def make_decoding(self, usual: Decoding) -> Decoding:
        """Make how files are read; as ``usual`` where nothing is said."""
        return Decoding(self.depth, self.exif or usual.exif, self.resize or usual.resize)


@dataclass(frozen=True)
class PreparedSet:
    """The result of preparing.

    Attributes
    ----------
    path: the folder of the prepared set.
    report: the lines of the validation report.
    fresh: whether it was prepared now; False when it existed before.
    incomplete: empty, or one sentence on what was left out.
    """

    path: Path
    report: Sequence[str]
    fresh: bool
    incomplete: str


def format_prepare_command(name: str, target: Path, options: PrepareOptions) -> str:
    """Format the command that prepares a set in ``target`` under these options, each of them repeated."""
    words: list[object] = ["data", "prepare", name]
    words += ["--from", options.source_path] if options.source_path is not None else []
    words += ["--size", target.name]
    for option in ("depth", "exif", "resize", "group_column"):
        value = getattr(options, option)
        words += [f"--{option.replace('_', '-')}", value] if value is not None else []
    data = target.parent.parent
    words += ["--data", data] if data != Path("data") else []
    return quote_command(*words, *(["--allow-incomplete"] if options.allow_incomplete else []))
