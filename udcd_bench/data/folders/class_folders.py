"""Class folders: the images of each class and part of a split, and the classes that have none.

Two forms are known, each also in a zip, in zips beside one another, and below folders that hold nothing else:

- ``CLASS/…``: the folders at the top are the classes;
- ``train/CLASS/…``, ``val/CLASS/…``, ``test/CLASS/…``: the folders at the top prescribe a split.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from udcd_bench.data.files.archives import FileRef
from udcd_bench.data.files.labels import report_labels
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.folders import checks
from udcd_bench.data.folders.masks import MASK_FOLDER, find_owner
from udcd_bench.data.folders.name_words import find_variants, is_nameless
from udcd_bench.data.folders.part_names import find_parts, list_mentions
from udcd_bench.data.folders.tree import IMAGE_FOLDER, Tree


class Labelled(NamedTuple):
    """An image of a class folder: its path below the top of the tree is its id."""

    parts: tuple[str, ...]
    class_name: str
    split: str
    file: FileRef


class Level(NamedTuple):
    """The folder whose folders are the classes: its path below the top, its part of the split, and its tree."""

    above: tuple[str, ...]
    split: str
    tree: Tree


def list_levels(top: Tree) -> list[Level]:
    """List the folders whose folders are the classes: the top itself, or each part of a split."""
    splits = find_parts(top.list_holders())
    return [_enter_part(top.folders[name], name, splits[name]) for name in sorted(splits)] or [
        Level((), "", top)
    ]


def _enter_part(tree: Tree, name: str, split: str) -> Level:
    above: tuple[str, ...] = (name,)
    while (
        not tree.images and len(holders := tree.list_holders()) == 1
    ):  # train/train/CLASS, train/images/CLASS
        ((inner, child),) = holders.items()
        is_again = inner.lower() == name.lower() or find_parts([inner]).get(inner) == split
        if not (is_again or (child.has_class_folders() and IMAGE_FOLDER.fullmatch(inner))):
            break
        tree, above = child, (*above, inner)
    return Level(above, split, tree)


def list_labelled(top: Tree, root: str, report: ValidationReport) -> list[Labelled]:
    """List the images of the class folders below ``top``, and report those that lie outside of them.

    root: the path that was given. Raises UserError when the folders are neither classes nor parts of a split, or both.
    """
    holders = top.list_holders()
    parts = find_parts(holders)
    levels = list_levels(top)
    if parts:
        checks.check_parts(top, {level.above[0]: level.tree for level in levels}, root)
    rows: list[Labelled] = []
    for level in levels:
        checks.check_classes(level.tree, root, level.split)
        for file in level.tree.images:
            report.add("outside", file.display_path)
        for name, node in sorted(level.tree.folders.items()):
            _report_part_masks(node, (*level.above, name), report)
            rows += _list_class(node, (*level.above, name), level.split, report)
    if parts:
        for file in top.images:
            report.add("outside", file.display_path)
        for name in sorted(top.folders.keys() - parts.keys()):
            _list_class(top.folders[name], (name,), "", report)
    elif mentions := list_mentions(holders):
        report.note(
            f"{checks.join_names(mentions)} are taken for classes, though they are called like parts of a split"
        )
    _report_classes(rows, report)
    return rows


def _list_class(tree: Tree, above: tuple[str, ...], split: str, report: ValidationReport) -> list[Labelled]:
    rows = []
    deep = 0
    for below, node in tree.walk():
        deep += len(node.images) if below else 0
        rows += [Labelled((*above, *below, file.name), above[-1], split, file) for file in node.images]
    if deep:
        report.note(
            f"{'/'.join(above)} is a class with all its subfolders, which hold {deep} images and are no groups"
        )
    elif not rows and tree.sum_left_out()["other"] and not tree.is_lost_class():
        report.add("bare", "/".join(above))
    return rows


def _report_part_masks(tree: Tree, path: tuple[str, ...], report: ValidationReport) -> None:
    """Report a class folder called like masks of which some images passed for masks: neutrophil_seg is a class."""
    n_masks, n_images = tree.sum_left_out()["masks"], tree.count_images()
    if n_masks and n_images and (find_owner(path[-1]) or MASK_FOLDER.fullmatch(path[-1])):
        report.add("part_masks", f"{'/'.join(path)} ({n_masks} of {n_masks + n_images})")


def _report_classes(rows: list[Labelled], report: ValidationReport) -> None:
    """Report classes that only one part of a split has, and names that hardly differ, say nothing, or a variant."""
    splits = {row.split for row in rows}
    parts: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row.class_name, set()).add(row.split)
    for name in sorted(parts):
        if not splits & {"train", "test"} <= parts[name]:
            report.add("one_sided", f"{name} ({', '.join(sorted(parts[name]))} only)")
        if is_nameless(name) and len(parts) > 1:
            report.add("nameless", name)
    for name, base in find_variants(list(parts)):
        report.add("variant", f"{name} beside {base}")
    report_labels(parts, report)


def find_lost_classes(top: Tree) -> dict[str, Counter[str]]:
    """Find the class folders without any image, with what they hold instead.

    In one part of a split alone a class may be empty, but what it holds must be read.
    """
    levels = list_levels(top)
    present = {name for level in levels for name, node in level.tree.folders.items() if node.count_images()}
    lost: dict[str, Counter[str]] = {}
    for level in levels:
        for name, node in sorted(level.tree.folders.items()):
            left_out = node.sum_left_out()
            if node.count_images() or left_out["own"]:
                continue
            is_data = node.holds_data() and not MASK_FOLDER.fullmatch(name)
            if not is_data:
                del left_out["other"]
            is_some = is_data or node.has_losses() or _is_lost_to_masks(level.tree, name)
            if is_some or (node.is_lost_class() and name not in present):
                shown = "/".join((*level.above, name)) if name in present else name
                lost.setdefault(shown, Counter()).update(left_out)
    return lost


def _is_lost_to_masks(tree: Tree, name: str) -> bool:
    """Whether a class folder held nothing but what passed for masks, and not each class has such a folder."""
    if not tree.folders[name].sum_left_out()["masks"]:
        return False
    present = {other.lower() for other, node in tree.folders.items() if node.count_images()}
    owners = {
        find_owner(other).lower() for other, node in tree.folders.items() if node.sum_left_out()["masks"]
    }
    return len(present) < 2 or not present <= owners
