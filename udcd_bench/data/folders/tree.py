"""The tree of folders, archives and images that was scanned."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from udcd_bench.data.files import kinds
from udcd_bench.data.files.archives import FileRef
from udcd_bench.data.files.scan import ScannedFiles
from udcd_bench.data.files.tables import normalize_nfc
from udcd_bench.errors import UserError

IMAGE_FOLDER = re.compile(r"images?|imgs?|pictures|photos|originals?|raw|inputs?|data(set)?", re.I)
MOST_LEVELS = 100
LOSSES = ("format", "no_dicom", "dangling", "unreadable", "archive")
"""Kinds of entries that were, or may have been, images."""
VIDEOS = frozenset((".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".m4v"))
DATA_TEXTS = frozenset((".txt", ".json", ".xml", ".csv", ".tsv", ".tab"))
"""Texts that may be samples of a class, where their names are numbered; others are documents and programs."""
FEW_FILES = 3
"""From so many on, numbered files of one kind are data."""


@dataclass
class Tree:
    """A folder or an archive.

    Attributes
    ----------
    folders: by name. images: its own. left_out: how many of its own entries were left out, by kind.
    others: the names of its own other files. is_special: whether a pipe, a socket or a device is among them.
    place: its path as it is on disk, below the folder that was scanned; archives with their suffix.
    """

    folders: dict[str, Tree] = field(default_factory=dict)
    images: list[FileRef] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)
    is_special: bool = False
    place: str = ""

    def enter(self, parts: Sequence[tuple[str, str]]) -> Tree:
        """Return the folder below this one at a path of names and places, made if need be."""
        if len(parts) > MOST_LEVELS:
            path = "/".join(name for name, _ in parts)
            raise UserError(f"{path[:80]}… lies more than {MOST_LEVELS} folders deep: give an inner folder.")
        node = self
        for name, place in parts:
            node = node.folders.setdefault(name, Tree(place=place))
            if ".zip" in node.place.lower() and ".zip" not in place.lower():
                node.place = place  # of a folder beside its archive, the folder
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

    def has_losses(self) -> bool:
        """Whether what was left out here and below may have been images."""
        left_out = self.sum_left_out()
        return any(left_out[kind] for kind in LOSSES)

    def is_lost_class(self) -> bool:
        """Whether this folder has no image, and is empty or holds what may have been some."""
        left_out = self.sum_left_out()
        del left_out["hidden"]
        if self.count_images() or left_out["own"]:
            return False
        return not left_out or self.has_losses()

    def holds_data(self) -> bool:
        """Whether other files here and below are samples of something: videos, or numbered files of one kind."""
        numbered: Counter[str] = Counter()
        for _, node in self.walk():
            for name in node.others:
                suffix = kinds.get_suffix(name)
                if suffix in VIDEOS or node.is_special:
                    return True
                if re.search(r"\d", name[: len(name) - len(suffix)]):
                    numbered[suffix] += suffix in DATA_TEXTS or suffix not in kinds.TEXT_SUFFIXES
        return max(numbered.values(), default=0) >= FEW_FILES

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


def split_path(display_path: str) -> list[tuple[str, str]]:
    """Split the path of a file into the names of its folders, each with its place.

    Every archive counts as a folder: ``set/a.zip/1.png`` is in (set, set) and (a, set/a.zip).
    """
    names: list[tuple[str, str]] = []
    archive, end = "", -1
    for part in display_path.split("/")[:-1]:
        end += 1 + len(part)
        is_archive = kinds.is_zip(part)
        name = normalize_nfc(part[:-4] if is_archive else part)
        # a folder that was zipped is often the only entry of its archive
        if name not in ("", ".", "..") and name.lower() != archive:
            names.append((name, display_path[:end]))
        archive = name.lower() if is_archive else ""
    return names


def build_tree(files: ScannedFiles) -> Tree:
    """Build the tree of all that was scanned. Raises UserError when it is deeper than anybody sorts images."""
    tree = Tree()
    for file in files.list_images():
        tree.enter(split_path(file.display_path)).images.append(file)
    for file in files.list_tables():
        _add_other(tree.enter(split_path(file.display_path)), file.display_path)
    for folder in files.folders:
        tree.enter(split_path(f"{folder}/"))
    for path, kind, detail in files.left_out:
        node = tree.enter(split_path(path))
        if kind == "other":
            _add_other(node, path)
            node.is_special |= bool(detail)
        else:
            node.left_out[kind] += 1
    for node in (node for _, node in tree.walk()):
        node.images.sort(key=lambda file: file.display_path)
    return tree


def _add_other(node: Tree, path: str) -> None:
    node.left_out["other"] += 1
    node.others.append(path[path.rfind("/") + 1 :])


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
