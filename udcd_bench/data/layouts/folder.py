"""``folder:PATH``, images of one's own: one subfolder per class, or a CSV with path and label.

A folder whose subfolders are called train, val (or valid, validation) and test, each with one subfolder per class,
prescribes a split, which is used. A CSV needs the columns ``path`` (relative to the CSV) and ``label``; ``group``
(images that must not be separated, such as a patient's) and ``split`` are optional.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

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
    """Return a folder name for the cache: readable, the same for every way to write a path, different for others."""
    whole = os.path.realpath(path.expanduser())
    readable = re.sub(r"[^A-Za-z0-9]+", "-", Path(whole).name).strip("-")[:40]
    return f"folder-{readable}-{hashlib.sha256(whole.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def read_index(path: Path) -> ImageIndex:
    """List the images of a folder, a zip or a CSV. Raises UserError when it holds fewer than two classes."""
    path = path.expanduser()
    if not os.path.exists(path):  # noqa: PTH110 (pathlib's raises where a name is too long)
        raise UserError(f"There is no folder or CSV {make_printable(str(path))}.")
    is_table = path.is_file() and not path.name.lower().endswith(".zip")
    index = _read_csv(path) if is_table else _read_folders(path)
    if len(index.classes) < 2:
        classes = ", ".join(index.classes) or "none"
        raise UserError(
            f"{index.source} needs images of at least two classes, found: {classes}; "
            "make one subfolder a class, or give a CSV with the columns path and label."
        )
    return index


def _read_folders(root: Path) -> ImageIndex:
    """List the images of a folder or zip of class folders."""
    report = ValidationReport()
    scanned = scan_files(root)
    files = [file for copies in scanned.images.values() for file in copies]
    for path, problem in scanned.broken:
        report.add("unreadable", f"{path} ({problem})")
    parts = {file: tuple(file.display_path.split("/")) for file in files}
    tops = {names[0].lower() for names in parts.values() if len(names) > 1}
    # Three "classes" called train, val and test would be a silent disaster.
    has_split = (
        len(tops) > 1 and tops <= SPLIT_ALIASES.keys() and "train" in {SPLIT_ALIASES[top] for top in tops}
    )
    level = 1 if has_split else 0
    classes = _sort_classes(
        {normalize_nfc(names[level]) for names in parts.values() if len(names) > level + 1}
    )
    items = []
    for file in sorted(files, key=lambda file: file.display_path):
        names = parts[file]
        if len(names) <= level + 1:
            report.add("unlisted", file.display_path)
            continue
        split = SPLIT_ALIASES[names[0].lower()] if has_split else ""
        items.append(Item(file.display_path, classes.index(normalize_nfc(names[level])), file, split=split))
    return _build_index(root, classes, items, report)


class _CSVRow(NamedTuple):
    name: str
    label: str
    group: str
    split: str


def _read_csv(path: Path) -> ImageIndex:
    """List the images of a CSV. Raises UserError when its splits are unknown or incomplete."""
    report = ValidationReport()
    rows = _read_csv_rows(path)
    classes = _sort_classes({row.label for row in rows} - {""})
    labels: dict[str, str] = {}
    disputed: set[str] = set()
    items = []
    for row in rows:
        if row.name in labels:
            first = labels[row.name]
            if first == row.label:
                report.add("repeated", row.name)
            else:
                report.add("conflict", f"{row.name} ({first} and {row.label})")
                disputed.add(row.name)
            continue
        labels[row.name] = row.label
        if not row.label:
            report.add("range", f"{row.name} (empty)")
            continue
        if row.split and row.split.lower() not in SPLIT_ALIASES:
            raise UserError(f"{path} has split {row.split!r} for {row.name}; it may be train, val or test.")
        file = _find_file(path.parent, row.name)
        if file is None:
            report.add("missing", row.name)
            continue
        split = SPLIT_ALIASES.get(row.split.lower(), "")
        items.append(Item(file.display_path, classes.index(row.label), file, row.group, split))
    items = sorted((item for item in items if item.id not in disputed), key=lambda item: item.id)
    if len({bool(item.split) for item in items}) > 1:
        raise UserError(f"{path} gives a split for some rows only; fill the column split or leave it out.")
    return _build_index(path, classes, items, report)


def _read_csv_rows(path: Path) -> list[_CSVRow]:
    stat = path.stat()
    file = FileRef(str(path), (), path.name, stat.st_size, stat.st_mtime_ns)
    cells = read_table(file, "path", "label")
    blank = [""] * len(cells["label"])
    columns = (
        cells["path"],
        map(normalize_nfc, cells["label"]),
        cells.get("group", blank),
        cells.get("split", blank),
    )
    return [_CSVRow(*row) for row in zip(*columns, strict=True)]


def _find_file(folder: Path, name: str) -> FileRef | None:
    """Find the image of that name, its accents written in either form; None if there is no such image."""
    forms = (name, normalize_nfc(name), unicodedata.normalize("NFD", name))
    path = next((folder / form for form in forms if os.path.isfile(folder / form)), None)  # noqa: PTH113
    if path is None or path.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    stat = path.stat()
    return FileRef(str(path), (), make_printable(name), stat.st_size, stat.st_mtime_ns)


def _build_index(path: Path, classes: list[str], items: list[Item], report: ValidationReport) -> ImageIndex:
    name = f"{PREFIX}{make_printable(str(path))}"
    title = make_printable(path.absolute().name)
    return ImageIndex(
        name, title, tuple(map(make_printable, classes)), items, report, source=make_printable(str(path))
    )


def _sort_classes(classes: set[str]) -> list[str]:
    """Sort class names, numbers as numbers."""
    if all(name.isdecimal() and len(name) < 20 for name in classes):
        return sorted(classes, key=int)
    return sorted(classes)
