"""Recognising class folders: which folders are the classes, which are parts of a split, which images are masks.

A tree is recognised as a whole or refused. Two forms are known, each also in a zip, in zips beside one another, and
below folders that hold nothing else:

- ``CLASS/…``: the folders at the top are the classes;
- ``train/CLASS/…``, ``val/CLASS/…``, ``test/CLASS/…``: the folders at the top prescribe a split.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from udcd_bench.data.files.archives import FileRef
from udcd_bench.data.files.labels import report_labels
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.layouts.folder_tree import IMAGE_FOLDER, Tree
from udcd_bench.errors import UserError

SPLIT_ALIASES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
FILLERS = frozenset(
    ("dir", "set", "data", "dataset", "folder", "split", "images", "image", "imgs", "img", "pictures", "photos")
)  # fmt: skip
"""Words beside train or test in the name of a folder that change nothing: train_dir, Test Set 2."""

NUMBERED_PART = re.compile(
    r"((folds?|splits?|parts?|batch|cv|sets?|groups?|sites?|hospitals?|cent(er|re)s?|rounds?|years?|scanners?|raters?)"
    r"[ _-]*)?\d+",
    re.I,
)
"""Names of folders that are no classes where each holds the same folders."""


class Labelled(NamedTuple):
    """An image of a class folder: its path below the top of the tree is its id."""

    parts: tuple[str, ...]
    class_name: str
    split: str
    file: FileRef


@functools.cache
def find_split(name: str) -> str:
    """Return the part of a split that a folder's name says: ``val`` for Validation_set; empty if it says none."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [re.sub(r"(set|dir)$", "", word) for word in re.split(r"[^a-z]+", spaced.lower())]
    words = [word for word in words if word and word not in FILLERS]
    return SPLIT_ALIASES.get(words[0], "") if len(words) == 1 else ""


def list_labelled(tree: Tree, where: str, report: ValidationReport) -> list[Labelled]:
    """List the images of the class folders below ``where``, and report those that lie outside of them.

    Raises UserError when the folders are neither classes nor parts of a split, or both.
    """
    holders = tree.list_holders()
    splits = {name: find_split(name) for name in holders}
    parts = [name for name in holders if splits[name]]
    if parts:
        _check_parts(holders, where)
    else:
        _check_classes(holders, where)
    rows: list[Labelled] = []
    for file in tree.images:
        report.add("outside", file.display_path)
    for name in sorted(tree.folders):
        if name in parts:
            rows += _list_part(tree.folders[name], name, splits[name], report)
        else:
            rows += _list_class(tree.folders[name], (name,), "", report)
    _report_classes(rows, report)
    return rows


def _list_part(tree: Tree, name: str, split: str, report: ValidationReport) -> Iterator[Labelled]:
    above: tuple[str, ...] = (name,)
    while not tree.images and len(tree.folders) == 1:  # train/train/CLASS, train/images/CLASS
        ((inner, child),) = tree.folders.items()
        if not child.has_class_folders() or not (find_split(inner) == split or IMAGE_FOLDER.fullmatch(inner)):
            break
        tree, above = child, (*above, inner)
    for file in tree.images:
        report.add("outside", file.display_path)
    for class_name in sorted(tree.folders):
        yield from _list_class(tree.folders[class_name], (*above, class_name), split, report)


def _list_class(
    tree: Tree, above: tuple[str, ...], split: str, report: ValidationReport
) -> Iterator[Labelled]:
    deep = 0
    for below, node in tree.walk():
        deep += len(node.images) if below else 0
        for file in node.images:
            yield Labelled((*above, *below, file.name), above[-1], split, file)
    if deep:
        report.note(f"{'/'.join(above)} is a class with all its subfolders, which hold {deep} images")
    elif not tree.count_images() and tree.sum_left_out()["other"] and not tree.is_lost_class():
        report.add("bare", "/".join(above))


def _report_classes(rows: list[Labelled], report: ValidationReport) -> None:
    """Report classes that only one part of a split has, and names that hardly differ."""
    splits = {row.split for row in rows}
    parts: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row.class_name, set()).add(row.split)
    for name in sorted(parts):
        if not splits & {"train", "test"} <= parts[name]:
            report.add("one_sided", f"{name} ({', '.join(sorted(parts[name]))} only)")
    report_labels(parts, report)


def find_lost_classes(tree: Tree) -> dict[str, Counter[str]]:
    """Find the class folders without any image, with what they hold instead."""
    holders = tree.list_holders()
    trees = [tree]
    if any(find_split(name) for name in holders):
        trees = list(holders.values())
    present = {name for part in trees for name, node in part.folders.items() if node.count_images()}
    lost: dict[str, Counter[str]] = {}
    for part in trees:
        for name, node in sorted(part.folders.items()):
            if node.is_lost_class() and name not in present:
                lost.setdefault(name, Counter()).update(node.sum_left_out())
    return lost


def _check_parts(holders: dict[str, Tree], where: str) -> None:
    """Check that folders are the parts of one split and nothing else. Raises UserError."""
    parts = {name: split for name in holders if (split := find_split(name))}
    others = [name for name in holders if name not in parts]
    if others:
        copy = next((name for name in others if any(map(find_split, holders[name].folders))), "")
        fix = f"or give {where}/{copy}, which holds the same again" if copy else "move one side out"
        raise UserError(
            f"{where} holds {_join(list(parts))}, which are parts of a split, and moreover {_join(others)}, so its "
            f"classes are unclear: {'move ' + copy + ' out, ' if copy else ''}{fix}, or list the images in a CSV."
        )
    for split in sorted(set(parts.values())):
        same = [name for name in parts if parts[name] == split]
        if len(same) > 1:
            raise UserError(
                f"{where} holds {_join(same)}, which both mean {split}: leave one, or make them one."
            )
    if "train" not in parts.values():
        raise UserError(
            f"{where} holds {_join(list(parts))} and no folder train: add it, or rename them if they are classes."
        )
    flat = [name for name, node in holders.items() if node.images and not node.has_class_folders()]
    if flat and len(flat) < len(holders):
        raise UserError(
            f"{where} holds {_join(flat)} with images and without class folders: sort them into a subfolder a class, "
            f"or, if they have no labels, move {_join(flat)} out."
        )
    if not any(node.has_class_folders() for node in holders.values()):
        raise UserError(
            f"{where} holds {_join(list(parts))} with images and without class folders: sort the images into a "
            "subfolder a class, or list them in a CSV with the columns path, label and split."
        )


def _check_classes(holders: dict[str, Tree], where: str) -> None:
    """Check that folders are classes and nothing else. Raises UserError."""
    for name, node in holders.items():
        again = [child for child in node.list_holders() if child in holders]
        if len(again) > 1 and len(holders) > 2:
            raise UserError(
                f"{where} holds {_join([n for n in holders if n != name])} and {name}, which holds {_join(again)} "
                f"again: move {name} out, or give {where}/{name}."
            )
    full = {name: node for name, node in holders.items() if node.has_class_folders()}
    inner = [set(node.list_holders()) for node in full.values()]
    if any(find_split(child) for children in inner for child in children):
        example = next(
            f"{name}/{child}" for name in full for child in full[name].list_holders() if find_split(child)
        )
        raise UserError(
            f"{where} holds a part of a split below a class, {example}: put the parts at the top, as in "
            "train/CLASS and test/CLASS, or list the images in a CSV with the columns path, label and split."
        )
    shared = sorted(set.intersection(*inner)) if full and len(full) == len(holders) else []
    numbered = all(map(NUMBERED_PART.fullmatch, holders))
    if len(shared) > 1 and (numbered or all(set(shared) == children for children in inner)):
        raise UserError(
            f"{where} holds {_join(list(holders))}, each with the folders {_join(shared)}, so its classes are unclear: "
            f"give one of them, as {where}/{next(iter(holders))}, put the class folders at the top with nothing but "
            "images in them, or list the images in a CSV."
        )


def _join(names: list[str]) -> str:
    shown = names if len(names) <= 5 else [*names[:4], f"{len(names) - 4} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
