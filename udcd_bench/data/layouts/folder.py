"""``folder:PATH``, anyone's images: one subfolder a class, or a CSV of path and label.

A folder whose subfolders are called train, val (or valid, validation) and test, each with one subfolder a
class, has a split of its own, which is honoured. A CSV needs the columns ``path`` (relative to the CSV) and
``label``; ``group`` (what must not be separated, such as a patient) and ``split`` are optional.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

from udcd_bench.data.layouts.files import IMAGE_SUFFIXES, FileRef, scan_files
from udcd_bench.data.layouts.image_index import ImageIndex, Item, ValidationReport, normalize_nfc, read_table
from udcd_bench.errors import UserError, make_printable

PREFIX = "folder:"
SPLIT_ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def make_path_slug(path: Path) -> str:
    """A folder name for the cache: readable, and different for every path."""
    whole = str(path.expanduser().absolute())
    readable = re.sub(r"[^A-Za-z0-9]+", "-", path.absolute().name).strip("-")[:40]
    return f"folder-{readable}-{hashlib.sha256(whole.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def read_index(path: Path) -> ImageIndex:
    """List the images of a folder or of a CSV."""
    path = path.expanduser()
    if not os.path.exists(path):  # noqa: PTH110 (pathlib's raises where a name is too long)
        raise UserError(f"There is no folder or CSV {make_printable(str(path))}.")
    table = path.is_file() and not path.name.lower().endswith(".zip")
    listing = _read_csv(path) if table else _read_folders(path)
    if len(listing.classes) < 2:
        found = ", ".join(listing.classes) or "none"
        raise UserError(
            f"{listing.source} needs images of at least two classes, found: {found}; "
            "make one subfolder a class, or give a CSV with the columns path and label."
        )
    return listing


def _read_folders(root: Path) -> ImageIndex:
    report = ValidationReport()
    files = scan_files(root)
    found = [where for same in files.images.values() for where in same]
    for shown, why in files.broken:
        report.add("unreadable", f"{shown} ({why})")
    parts = {where: tuple(where.display_path.split("/")) for where in found}
    tops = {names[0].lower() for names in parts.values() if len(names) > 1}
    # Three "classes" called train, val and test would be a silent disaster.
    own = len(tops) > 1 and tops <= SPLIT_ALIASES.keys() and "train" in {SPLIT_ALIASES[top] for top in tops}
    level = 1 if own else 0
    items, classes = (
        [],
        _sort_classes({normalize_nfc(names[level]) for names in parts.values() if len(names) > level + 1}),
    )
    for where in sorted(found, key=lambda where: where.display_path):
        names = parts[where]
        if len(names) <= level + 1:
            report.add("unlisted", where.display_path)
            continue
        split = SPLIT_ALIASES[names[0].lower()] if own else ""
        items.append(Item(where.display_path, classes.index(normalize_nfc(names[level])), where, split=split))
    return _build_index(root, classes, items, report)


def _read_csv(path: Path) -> ImageIndex:
    report = ValidationReport()
    stat = path.stat()
    cells = read_table(FileRef(str(path), (), path.name, stat.st_size, stat.st_mtime_ns), "path", "label")
    labels = list(map(normalize_nfc, cells["label"]))
    classes = _sort_classes(set(labels) - {""})
    blank = [""] * len(labels)
    groups = list(cells["group"]) if "group" in cells else blank
    splits = list(cells["split"]) if "split" in cells else blank
    seen: dict[str, str] = {}
    disputed: set[str] = set()
    items = []
    for name, label, group, split in zip(cells["path"], labels, groups, splits, strict=True):
        if name in seen:
            same = seen[name] == label
            report.add(
                "repeated" if same else "conflict", name if same else f"{name} ({seen[name]} and {label})"
            )
            disputed.update(() if same else {name})
            continue
        seen[name] = label
        if not label:
            report.add("range", f"{name} (empty)")
            continue
        if split and split.lower() not in SPLIT_ALIASES:
            raise UserError(f"{path} has split {split!r} for {name}; it may be train, val or test.")
        file = _find_file(path.parent, name)
        if file is None or file.suffix.lower() not in IMAGE_SUFFIXES:
            report.add("missing", name)
            continue
        stat = file.stat()
        where = FileRef(str(file), (), make_printable(name), stat.st_size, stat.st_mtime_ns)
        items.append(
            Item(where.display_path, classes.index(label), where, group, SPLIT_ALIASES.get(split.lower(), ""))
        )
    items = sorted((item for item in items if item.id not in disputed), key=lambda item: item.id)
    if len({bool(item.split) for item in items}) > 1:
        raise UserError(f"{path} gives a split for some rows only; fill the column split or leave it out.")
    return _build_index(path, classes, items, report)


def _find_file(folder: Path, name: str) -> Path | None:
    """The file of that name, its accents written either way; None where there is none, or no name like it can be."""
    places = (folder / form for form in (name, normalize_nfc(name), unicodedata.normalize("NFD", name)))
    return next((place for place in places if os.path.isfile(place)), None)  # noqa: PTH113


def _build_index(path: Path, classes: list[str], items: list[Item], report: ValidationReport) -> ImageIndex:
    name = f"{PREFIX}{make_printable(str(path))}"
    title = make_printable(path.absolute().name)
    return ImageIndex(
        name, title, tuple(map(make_printable, classes)), items, report, source=make_printable(str(path))
    )


def _sort_classes(classes: set[str]) -> list[str]:
    """Class names sorted, numbers as numbers."""
    if all(name.isdecimal() and len(name) < 20 for name in classes):
        return sorted(classes, key=int)
    return sorted(classes)
