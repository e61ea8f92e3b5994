"""``folder:PATH``, images of one's own: one subfolder per class, or a CSV with path and label.

A folder whose subfolders are called train, val and test (or the like), each with one subfolder per class, prescribes a
split, which is used. A CSV needs the columns ``path`` (relative to the CSV) and ``label``; a column that says which
images must not be separated (``patient_id``, ``group`` and the like, see ``csv_table``) and ``split`` are optional.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from udcd_bench.data.files import kinds
from udcd_bench.data.files.archives import ZIP_ERRORS, have_same_content
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import scan_files
from udcd_bench.data.files.tables import normalize_nfc, parse_number
from udcd_bench.data.folders import class_folders, label_tables, masks, tree
from udcd_bench.data.layouts.csv_table import read_csv_table
from udcd_bench.data.layouts.image_index import ImageIndex, Item
from udcd_bench.errors import UserError, make_printable
from udcd_bench.runs import names

HELD_INSTEAD = {
    "format": "files of a format that is not read",
    "no_dicom": "DICOM files without pydicom",
    "dangling": "links that lead nowhere",
    "unreadable": "archives that cannot be opened",
    "archive": "archives that are not read",
    "masks": "images taken for masks of others; move them out, or rename the folder if it is a class",
    "other": "other files",
}
"""What a class folder without an image holds instead, by the reason each was left out for."""
ARCHIVE_ID = re.compile(r"ISIC_\d{7}", re.I)


def make_path_slug(path: Path) -> str:
    """Return a folder name for the cache: readable, the same for every way to write a path, different for others."""
    whole = os.path.realpath(path.expanduser())
    readable = re.sub(r"[^A-Za-z0-9]+", "-", Path(whole).name).strip("-")[:40]
    return f"folder-{readable}-{hashlib.sha256(whole.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def read_index(path: Path, group_column: str | None = None) -> ImageIndex:
    """List the images of a folder, a zip or a CSV. Raises UserError when it holds fewer than two classes.

    group_column: of a CSV, as in ``csv_table.read_csv_table``.
    """
    path = path.expanduser()
    if not os.path.exists(path):  # noqa: PTH110 (pathlib's raises where a name is too long)
        raise UserError(f"There is no folder or CSV {make_printable(str(path))}.")
    if path.is_file() and not kinds.is_zip(path.name):
        _check_called_table(path)
    if path.is_file() and not kinds.is_zip(path.name) and not zipfile.is_zipfile(path):
        index = _read_csv(path, group_column)
    elif group_column is not None:
        raise UserError(f"--group-column is for a CSV, and {path} is none; list its images in one.")
    else:
        index = _read_folders(path)
    if len(index.classes) < 2:
        raise _make_few_classes_error(index)
    return index


def _make_few_classes_error(index: ImageIndex) -> UserError:
    if n_dicom := index.report.counts["no_dicom"]:
        return UserError(
            f"{index.source} holds {n_dicom} DICOM files, such as {index.report.examples['no_dicom'][0]}: "
            "`pip install 'udcd-bench[dicom]'` reads them."
        )
    problems = index.report.format_sentence(index.report.list_blocking())
    tables = [name for name in index.report.examples["other"] if name.lower().endswith(".csv")]
    table = f", such as {index.source.rstrip('/')}/{tables[0]}" if tables else ""
    return UserError(
        f"{index.source} needs images of at least two classes, found: {', '.join(index.classes) or 'none'}"
        f"{f' ({problems})' if problems else ''}; make one subfolder a class, or give a CSV with the columns path and "
        f"label{table}."
    )


def _check_called_table(path: Path) -> None:
    """Check that a file may be a CSV. Raises UserError when its name says that it is something else."""
    suffix = kinds.get_suffix(path.name)
    if suffix in kinds.UNREAD_ARCHIVES:
        raise UserError(
            f"{path} is an archive that is not read: unpack it and give the folder, or make it a zip."
        )
    if suffix in kinds.OWN_SUFFIXES:
        raise UserError(f"{path} is an image: give the folder that holds the class folders, or a CSV.")
    if suffix in (".xls", ".xlsx", ".ods") or _holds_spreadsheet(path):
        raise UserError(f"{path} is a spreadsheet: save it as a CSV in UTF-8.")
    what = "of a format that is not read" if suffix in kinds.UNREAD_FORMATS else ""
    if not zipfile.is_zipfile(path):
        what = what or kinds.describe_no_table(_read_start(path))
    if what:
        raise UserError(f"{path} is {what}: give the folder that holds the class folders, or a CSV.")


def _read_start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError:  # reading it as a table says why
        return b""


def _holds_spreadsheet(path: Path) -> bool:
    """Whether a file is a spreadsheet by its content, whatever it is called."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "[Content_Types].xml" in archive.namelist()
    except ZIP_ERRORS:
        return False


def _read_folders(root: Path) -> ImageIndex:
    """List the images of a folder or zip of class folders."""
    report = ValidationReport()
    files = scan_files(root, own=True)
    whole = tree.build_tree(files)
    masks.leave_out_masks(whole, report)
    top, above = tree.find_top(whole)
    if above:
        report.note(f"all images lie in {'/'.join(above)}, so its subfolders are read")
    shown_root = make_printable(str(root)).rstrip("/")
    rows = class_folders.list_labelled(top, shown_root, report)
    label_tables.check_tables(files, rows, shown_root, report)
    if any(ARCHIVE_ID.fullmatch(row.file.stem) for row in rows):
        report.note(
            "files bear ids of the ISIC Archive, where several show one lesion, which class folders do not tell: a CSV "
            "with a column lesion_id keeps the images of a lesion together"
        )
    files.report_left_out(report)
    for name, left_out in class_folders.find_lost_classes(top).items():
        held = [f"{left_out[kind]} {words}" for kind, words in HELD_INSTEAD.items() if left_out[kind]]
        report.add("lost_class", f"{name} ({', '.join(held) or 'empty'})")
    for name in find_same_names([row.parts for row in rows]):
        report.add("same_name", name)
    report.block_large_losses(("format", "outside"), len(rows))
    report.block("archive")
    classes = _sort_classes({row.class_name for row in rows})
    number = {name: i for i, name in enumerate(classes)}
    items = [Item("/".join(row.parts), number[row.class_name], row.file, split=row.split) for row in rows]
    return _build_index(root, classes, _drop_copies(items, report), report)


def find_same_names(paths: Iterable[tuple[str, ...]]) -> list[str]:
    """Find images that lie beside one of the same name with another suffix: often one picture in two formats."""
    seen: set[str] = set()
    same = []
    for path in sorted({"/".join(parts) for parts in paths}):
        stem = path[: -len(kinds.get_suffix(path))]
        if stem in seen:
            same.append(path)
        seen.add(stem)
    return same


def _drop_copies(items: list[Item], report: ValidationReport) -> list[Item]:
    """Keep one file of each id, as a folder and its archive may lie beside one another; sorted by id."""
    by_id: dict[str, list[Item]] = {}
    composed = Counter(normalize_nfc(item.id) for item in items)
    for item in items:
        # accents composed, so that another system gives the same id, unless two files differ in nothing else
        name = normalize_nfc(item.id)
        key = name if composed[name] == 1 else item.id
        by_id.setdefault(key, []).append(item)
    single = []
    for id_, copies in sorted(by_id.items()):
        first, *others = sorted(copies, key=lambda item: (bool(item.file.inside), item.file.display_path))
        if others and not have_same_content([item.file for item in copies]):
            report.add("ambiguous", f"{id_} ({first.file.display_path}, {others[0].file.display_path})")
            continue
        for other in others:
            report.add("copies", f"{other.file.display_path} = {first.file.display_path}")
        single.append(Item(id_, first.label, first.file, first.group, first.split))
    return single


def _read_csv(path: Path, group_column: str | None) -> ImageIndex:
    """List the images of a CSV. Raises UserError when its splits are unknown or incomplete."""
    report = ValidationReport()
    rows, taken = read_csv_table(path, report, group_column)
    classes = _sort_classes({row.label for row in rows})
    number = {name: i for i, name in enumerate(classes)}
    items = [Item(row.id, number[row.label], row.file, row.group, row.split) for row in rows]
    items.sort(key=lambda item: item.id)
    return replace(_build_index(path, classes, items, report), group_column=taken)


def _build_index(path: Path, classes: list[str], items: list[Item], report: ValidationReport) -> ImageIndex:
    name = f"{names.FOLDER}{make_printable(kinds.decode_name(str(path)))}"
    title = make_printable(kinds.decode_name(names.take_last_part(str(path))))
    return ImageIndex(
        name, title, tuple(map(make_printable, classes)), items, report, source=make_printable(str(path))
    )


def _sort_classes(classes: set[str]) -> list[str]:
    """Sort class names, numbers as numbers."""
    numbers = {name: number for name in classes if (number := parse_number(name)) is not None}
    if len(numbers) == len(classes):
        return sorted(classes, key=lambda name: (numbers[name], name))
    return sorted(classes)
