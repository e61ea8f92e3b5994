"""Masks and thumbnails among images: files called so that belong to another image of the set."""

from __future__ import annotations

import re
from collections.abc import Iterator

from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.folders.tree import IMAGE_FOLDER, Tree

_WORDS = (
    r"masks?|segmentations?|seg|annotations?|ground[ _-]?truths?|gt|labels?|superpixels|"
    r"thumbs?|thumbnails?|previews?"
)
MASK_FOLDER = re.compile(rf"(.*[ _-])?({_WORDS}|manuals?)", re.I)
_MASKS_OF = re.compile(r"(masks?|segmentations?|annotations?|ground[ _-]?truths?|gt)[ _-]+(.+)", re.I)
"""A folder whose name puts the word before that of the folder of images."""
_STEM_WORDS = (
    r"masks?|segmentation|seg|superpixels|gt|ground_?truth|annotation|overlay|thumb|thumbnail|preview"
)
_STEM_BEHIND = re.compile(rf"(.+?)([ _.-]+|(?<=\d)|(?=[A-Z]))(?i:{_STEM_WORDS})([ _-]?\d+)?")
"""x_mask, x.mask, 0mask, xMask, x_mask_1."""
_STEM_BEFORE = re.compile(rf"(?i:{_STEM_WORDS})[ _.-]+(.+)")
_THUMB = re.compile(r".*thumb", re.I)
_FINGERS = re.compile(
    r"(.*[ _.-])?(index|middle|ring|little|pinky|fingers?|palm|hands?|wrist)([ _-]?\d+)?", re.I
)

Path = tuple[str, ...]


def leave_out_masks(tree: Tree, report: ValidationReport) -> None:
    """Take masks and thumbnails out of a tree: files called so that lie beside the image they belong to.

    A class may be called mask, so the name alone is not enough.
    """
    stems = {
        (tuple(name.lower() for name in above), file.stem.lower())
        for above, node in tree.walk()
        for file in node.images
    }
    folders = {above for above, _ in stems}
    for above, node in list(tree.walk()):
        path = tuple(name.lower() for name in above)
        beside = [place for place in _list_image_folders(path, folders) if place in folders]
        masks = [file for file in node.images if _is_mask(path, file.stem, stems, beside)]
        for file in masks:
            node.images.remove(file)
            node.left_out["masks"] += 1
            report.add("masks", file.display_path)
            if _THUMB.fullmatch(file.stem) and any(_FINGERS.fullmatch(stem) for _, stem in stems):
                report.block("masks")  # a thumb of a hand


def _is_mask(path: Path, stem: str, stems: set[tuple[Path, str]], beside: list[Path]) -> bool:
    """Whether a file is a mask by its own name, or by that of its folder. beside: where its image may lie."""
    bases = [
        match[1].lower() for match in (_STEM_BEHIND.fullmatch(stem), _STEM_BEFORE.fullmatch(stem)) if match
    ]
    if any((path, base) in stems for base in bases):
        return True
    return any((place, base) in stems for place in beside for base in (stem.lower(), *bases))


def _list_image_folders(path: Path, folders: set[Path]) -> Iterator[Path]:
    """Yield the folders that may hold the images whose masks lie at ``path``."""
    for i, name in enumerate(path):
        above, below = path[:i], path[i + 1 :]
        if owner := find_owner(name):
            yield (*above, owner, *below)
        if MASK_FOLDER.fullmatch(name):
            if above or below:
                yield (*above, *below)  # the folder of masks lies in that of the images
            for folder in folders:
                is_beside = len(folder) == len(path) and (folder[:i], folder[i + 1 :]) == (above, below)
                if is_beside and IMAGE_FOLDER.fullmatch(folder[i]):
                    yield folder


def find_owner(name: str) -> str:
    """Return the folder whose masks a folder holds by its name: nevus for nevus_masks; empty if it names none."""
    if match := _MASKS_OF.fullmatch(name):
        return match[2]
    match = MASK_FOLDER.fullmatch(name)
    return match[1].strip(" _-") if match and match[1] else ""
