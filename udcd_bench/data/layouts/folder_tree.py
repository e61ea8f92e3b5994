"""The tree of folders, archives and images that was scanned, without the masks beside their images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from udcd_bench.data.files.archives import FileRef
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import ScannedFiles
from udcd_bench.data.files.tables import normalize_nfc
from udcd_bench.errors import UserError

IMAGE_FOLDER = re.compile(r"images?|imgs?|pictures|photos|originals?|raw|inputs?|data(set)?", re.I)
MASK_FOLDER = re.compile(
    r"(.*[ _-])?(masks?|segmentations?|seg|annotations?|ground[ _-]?truths?|gt|labels?|superpixels|thumbs?|thumbnails?"
    r"|previews?)",
    re.I,
)
MASK_STEM = re.compile(
    r"(.+?)[ _-]+(masks?|segmentation|seg|superpixels|gt|ground_?truth|annotation|overlay|thumb|thumbnail|preview)"
    r"([ _-]?\d+)?",
    re.I,
)
MOST_LEVELS = 100
LOSSES = ("format", "dangling", "unreadable", "archive")
"""Kinds of entries that were, or may have been, images."""


@dataclass
class Tree:
    """A folder or an archive: its folders, its own images, and how many of its entries were left out, by kind."""

    folders: dict[str, Tree] = field(default_factory=dict)
    images: list[FileRef] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def enter(self, parts: tuple[str, ...]) -> Tree:
        """Return the folder at a path below this one, made if need be."""
        if len(parts) > MOST_LEVELS:
            raise UserError(
                f"{'/'.join(parts)[:80]}… lies more than {MOST_LEVELS} folders deep: give an inner folder."
            )
        node = self
        for part in parts:
            node = node.folders.setdefault(part, Tree())
        return node

    def walk(self, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tree]]:
        """Yield this folder and all below, with their paths, by name."""
        yield above, self
        for name, child in sorted(self.folders.items()):
            yield from child.walk((*above, name))

    def count_images(self) -> int:
        """Count the images here and below."""
        return sum(len(node.images) for _, node in self.walk())

    def sum_left_out(self) -> Counter[str]:
        """Add up what was left out here and below."""
        return sum((node.left_out for _, node in self.walk()), Counter[str]())

    def is_lost_class(self) -> bool:
        """Whether this folder has no image, and is empty or holds what may have been some."""
        left_out = self.sum_left_out()
        del left_out["hidden"]
        if self.count_images() or left_out["own"]:
            return False
        return not left_out or any(left_out[kind] for kind in LOSSES)

    def list_holders(self) -> dict[str, Tree]:
        """List the folders that hold images or have lost them, by name."""
        return {
            name: node
            for name, node in sorted(self.folders.items())
            if node.count_images() or node.is_lost_class()
        }

    def has_class_folders(self) -> bool:
        """Whether folders below this one hold images."""
        return any(node.count_images() for node in self.folders.values())


def split_path(display_path: str) -> tuple[str, ...]:
    """Split a path into names, as if every archive on it were a folder: ``a.zip/a/1.png`` is a, 1.png."""
    names: list[str] = []
    archive = ""
    *folders, last = display_path.split("/")
    for part in folders:
        is_archive = part.lower().endswith(".zip")
        name = normalize_nfc(part[:-4] if is_archive else part)
        # a folder that was zipped is often the only entry of its archive
        if name not in ("", ".", "..") and name.lower() != archive:
            names.append(name)
        archive = name.lower() if is_archive else ""
    return (*names, last)


def build_tree(files: ScannedFiles) -> Tree:
    """Build the tree of all that was scanned. Raises UserError when it is deeper than anybody sorts images."""
    tree = Tree()
    for file in files.list_images():
        tree.enter(split_path(file.display_path)[:-1]).images.append(file)
    for file in files.list_tables():
        tree.enter(split_path(file.display_path)[:-1]).left_out["other"] += 1
    for folder in files.folders:
        tree.enter(split_path(f"{folder}/")[:-1])
    for path, kind, _ in files.left_out:
        tree.enter(split_path(path)[:-1]).left_out[kind] += 1
    for node in (node for _, node in tree.walk()):
        node.images.sort(key=lambda file: file.display_path)
    return tree


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
        masks = [file for file in node.images if _is_mask(path, file.stem.lower(), stems, folders)]
        for file in masks:
            node.images.remove(file)
            node.left_out["masks"] += 1
            report.add("masks", file.display_path)


def _is_mask(
    path: tuple[str, ...],
    stem: str,
    stems: set[tuple[tuple[str, ...], str]],
    folders: set[tuple[str, ...]],
) -> bool:
    match = MASK_STEM.fullmatch(stem)
    if match and (path, match[1]) in stems:
        return True
    wanted = {stem, match[1]} if match else {stem}
    for i, name in enumerate(path):
        if MASK_FOLDER.fullmatch(name):
            beside = [(*path[:i], *path[i + 1 :])]  # the folder of masks lies in that of the images
            beside += [
                folder
                for folder in folders
                if len(folder) == len(path)
                and IMAGE_FOLDER.fullmatch(folder[i])
                and (folder[:i], folder[i + 1 :]) == (path[:i], path[i + 1 :])
            ]
            if any((folder, one) in stems for folder in beside if folder for one in wanted):
                return True
    return False


def find_top(tree: Tree) -> tuple[Tree, tuple[str, ...]]:
    """Go down folders that hold nothing but one folder of folders; returns the tree there, and their names."""
    above: list[str] = []
    while not tree.images and len(holders := tree.list_holders()) == 1:
        ((name, child),) = holders.items()
        if not child.has_class_folders():
            break
        tree = child
        above.append(name)
    return tree, tuple(above)
