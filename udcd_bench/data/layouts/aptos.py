"""APTOS 2019 (3 662 labelled fundus photographs, grades 0 to 4), read from every layout that keeps its pixels.

=================  ======================================  ============================================
layout             images                                  labels (``id_code``, ``diagnosis``)
=================  ======================================  ============================================
competition        ``train_images/*.png``                  ``train.csv``
resized 2015–2019  ``resized train 19/*.jpg``              ``labels/trainLabels19.csv``
three-way split    ``train_images``, ``val_images``,       ``train_1.csv``, ``valid.csv``, ``test.csv``:
                   ``test_images``, each nested            all labelled, their union is taken
=================  ======================================  ============================================

Sets sorted into class folders (No_DR, Mild, …) hold altered pixels and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from udcd_bench.data.files.archives import FileRef
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import ScannedFiles, scan_files
from udcd_bench.data.files.tables import parse_whole, read_table
from udcd_bench.data.layouts.image_index import ExpectedCounts, ImageIndex, LabelRow, match_files
from udcd_bench.data.layouts.source import Source
from udcd_bench.errors import UserError

CLASSES = ("0", "1", "2", "3", "4")
EXPECTED_COUNTS = ExpectedCounts({"0": 1805, "1": 370, "2": 999, "3": 193, "4": 295})
WHERE_TO_GET = "Kaggle competition aptos2019-blindness-detection"

CLASS_FOLDERS = frozenset({"nodr", "mild", "moderate", "severe", "proliferatedr", "proliferativedr", "pdr"})
"""By their letters alone: No_DR and No DR are one."""
# The folder that gives an altered set away, what the set is called, and what was done to its pixels.
ALTERED_SETS = (
    ("gaussian", "diabetic-retinopathy-224x224-gaussian-filtered", "Gaussian-filtered and shrunk to 224×224"),
    ("colored", "diabetic-retinopathy-224x224-2019-data", "shrunk to 224×224 out of proportion"),
)
# Test images have no labels, and the 2015 half of the resized set is another data set.
IGNORED_FOLDERS = r"(?<![a-z])test|train ?15|train_15"


def read_index(root: Path) -> ImageIndex:
    """List the images of APTOS 2019 below ``root``, a folder or one zip, in any of the layouts above.

    Raises UserError when no table of grades is found, or the pixels were altered.
    """
    files = scan_files(root)
    _refuse_altered(files)
    report = ValidationReport()
    rows = [row for table in _find_tables(files) for row in _read_grades(table, report)]
    items = match_files(rows, files, report, ignore=IGNORED_FOLDERS)
    return ImageIndex(
        SOURCE.name,
        SOURCE.title,
        CLASSES,
        items,
        report,
        expected=EXPECTED_COUNTS,
        ordered=SOURCE.ordered,
        source=str(root),
    )


SOURCE = Source(
    "aptos",
    "APTOS 2019",
    "3 662 fundus photographs, grades 0 to 4",
    WHERE_TO_GET,
    read_index,
    ordered=True,
)


def _find_tables(files: ScannedFiles) -> list[FileRef]:
    """Find the tables of grades. Raises UserError when there is none."""
    if files.find_table("train_1.csv"):
        names = ["train_1.csv", "valid.csv", "test.csv"]
    elif files.find_table("train.csv"):
        names = ["train.csv"]
    else:
        names = ["trainLabels19.csv"]
    tables = [table for name in names if (table := files.find_table(name))]
    if not tables:
        raise UserError(
            f"{files.root} holds neither train.csv nor train_1.csv nor trainLabels19.csv, so its images have "
            f"no grades; get APTOS 2019 from {WHERE_TO_GET}."
        )
    # The competition's own test.csv has ids only; it must not stand in for the labelled one.
    return [
        t
        for t in tables
        if t.name.lower() != "test.csv"
        or "diagnosis" in read_table(t, ValidationReport(), optional=("diagnosis",))
    ]


def _read_grades(table: FileRef, report: ValidationReport) -> Iterator[LabelRow]:
    cells = read_table(table, report, "id_code", "diagnosis")
    for id_, grade in zip(cells["id_code"], cells["diagnosis"], strict=True):
        plain = str(parse_whole(grade))
        yield LabelRow(id_, CLASSES.index(plain) if plain in CLASSES else None, grade, "")


def _refuse_altered(files: ScannedFiles) -> None:
    """Drop images in class folders. Raises UserError when the set has no others."""
    folders: set[str] = set()
    marks = files.root.name.lower()
    for stem, copies in list(files.images.items()):
        altered = [file for file in copies if _list_class_folders(file)]
        for file in altered:
            folders.update(_list_class_folders(file))
            marks += " ".join(file.folders)
            files.leave_out(file.display_path, "ignored")
        files.images[stem] = [file for file in copies if file not in altered]
        if not files.images[stem]:
            del files.images[stem]
    if len(folders) >= 2 and not files.images:
        name, alteration = next(
            ((f"Kaggle {name}", alteration) for mark, name, alteration in ALTERED_SETS if mark in marks),
            ("a re-sorted copy of APTOS 2019", "filtered or shrunk before it was shared"),
        )
        raise UserError(
            f"{files.root} is {name} (class folders No_DR, Mild, Moderate, Severe, Proliferate_DR): its "
            f"pixels were {alteration}, so no figure from it would be one for APTOS 2019; get the originals from "
            f"{WHERE_TO_GET}, or use it as it is with --dataset folder:PATH."
        )


def _list_class_folders(file: FileRef) -> set[str]:
    """List the folders above a file that are called like a class, by their letters."""
    return set(CLASS_FOLDERS) & {re.sub(r"[^a-z]", "", folder) for folder in file.folders}
