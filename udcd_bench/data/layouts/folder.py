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

from udcd_bench.data.layouts.files import IMAGE_SUFFIXES, Where, scan
from udcd_bench.data.layouts.image_index import Item, Listing, Report, nfc, read_table
from udcd_bench.errors import UserError, printable

PREFIX = "folder:"
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def slug(path: Path) -> str:
    """A folder name for the cache: readable, and different for every path."""
    whole = str(path.expanduser().absolute())
    readable = re.sub(r"[^A-Za-z0-9]+", "-", path.absolute().name).strip("-")[:40]
    return f"folder-{readable}-{hashlib.sha256(whole.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def read(path: Path) -> Listing:
    """List the images of a folder or of a CSV."""
    path = path.expanduser()
    if not os.path.exists(path):  # noqa: PTH110 (pathlib's raises where a name is too long)
        raise UserError(f"There is no folder or CSV {printable(str(path))}.")
    table = path.is_file() and not path.name.lower().endswith(".zip")
    listing = _from_csv(path) if table else _from_folders(path)
    if len(listing.classes) < 2:
        found = ", ".join(listing.classes) or "none"
        raise UserError(
            f"{listing.source} needs images of at least two classes, found: {found}; "
            "make one subfolder a class, or give a CSV with the columns path and label."
        )
    return listing


def _from_folders(root: Path) -> Listing:
    report = Report()
    files = scan(root)
    found = [where for same in files.images.values() for where in same]
    for shown, why in files.broken:
        report.add("unreadable", f"{shown} ({why})")
    parts = {where: tuple(where.shown.split("/")) for where in found}
    tops = {names[0].lower() for names in parts.values() if len(names) > 1}
    # Three "classes" called train, val and test would be a silent disaster.
    own = len(tops) > 1 and tops <= SPLITS.keys() and "train" in {SPLITS[top] for top in tops}
    level = 1 if own else 0
    items, classes = [], _in_order({nfc(names[level]) for names in parts.values() if len(names) > level + 1})
    for where in sorted(found, key=lambda where: where.shown):
        names = parts[where]
        if len(names) <= level + 1:
            report.add("unlisted", where.shown)
            continue
        split = SPLITS[names[0].lower()] if own else ""
        items.append(Item(where.shown, classes.index(nfc(names[level])), where, split=split))
    return _listing(root, classes, items, report)


def _from_csv(path: Path) -> Listing:
    report = Report()
    stat = path.stat()
    cells = read_table(Where(str(path), (), path.name, stat.st_size, stat.st_mtime_ns), "path", "label")
    labels = list(map(nfc, cells["label"]))
    classes = _in_order(set(labels) - {""})
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
        if split and split.lower() not in SPLITS:
            raise UserError(f"{path} has split {split!r} for {name}; it may be train, val or test.")
        file = _file(path.parent, name)
        if file is None or file.suffix.lower() not in IMAGE_SUFFIXES:
            report.add("missing", name)
            continue
        stat = file.stat()
        where = Where(str(file), (), printable(name), stat.st_size, stat.st_mtime_ns)
        items.append(Item(where.shown, classes.index(label), where, group, SPLITS.get(split.lower(), "")))
    items = sorted((item for item in items if item.id not in disputed), key=lambda item: item.id)
    if len({bool(item.split) for item in items}) > 1:
        raise UserError(f"{path} gives a split for some rows only; fill the column split or leave it out.")
    return _listing(path, classes, items, report)


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name, its accents written either way; None where there is none, or no name like it can be."""
    places = (folder / form for form in (name, nfc(name), unicodedata.normalize("NFD", name)))
    return next((place for place in places if os.path.isfile(place)), None)  # noqa: PTH113


def _listing(path: Path, classes: list[str], items: list[Item], report: Report) -> Listing:
    name = f"{PREFIX}{printable(str(path))}"
    title = printable(path.absolute().name)
    return Listing(name, title, tuple(map(printable, classes)), items, report, source=printable(str(path)))


def _in_order(classes: set[str]) -> list[str]:
    """Class names sorted, numbers as numbers."""
    if all(name.isdecimal() and len(name) < 20 for name in classes):
        return sorted(classes, key=int)
    return sorted(classes)
