"""APTOS 2019 (3 662 labelled fundus photographs, grades 0 to 4), read from every layout whose pixels are not filtered.

=================  ======================================  ============================================
layout             images                                  labels (``id_code``, ``diagnosis``)
=================  ======================================  ============================================
competition        ``train_images/*.png``                  ``train.csv``
resized 2015–2019  ``resized train 19/*.jpg``              ``labels/trainLabels19.csv``
three-way split    ``train_images``, ``val_images``,       ``train_1.csv``, ``valid.csv``, ``test.csv``:
                   ``test_images``, each nested            all labelled, their union is taken
class folders      ``0`` to ``4``, or ``No_DR`` to            the folders, where there is no table
                   ``Proliferate_DR``, below parts or not
=================  ======================================  ============================================

Sets sorted into class folders are copies. Those of filtered images are refused; of the others the published counts tell
whether they are complete, and their sizes whether they were shrunk (``cache.problems``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from udcd_bench.data.files.archives import Archives, FileRef
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import ScannedFiles, scan_files
from udcd_bench.data.files.tables import parse_whole, read_table
from udcd_bench.data.layouts.image_index import ExpectedCounts, ImageIndex, LabelRow, match_files
from udcd_bench.data.layouts.source import Source
from udcd_bench.errors import UserError

CLASSES = ("0", "1", "2", "3", "4")
EXPECTED_COUNTS = ExpectedCounts({"0": 1805, "1": 370, "2": 999, "3": 193, "4": 295})
WHERE_TO_GET = "Kaggle competition aptos2019-blindness-detection"

CLASS_FOLDERS = {name: name for name in CLASSES} | {
    "nodr": "0", "mild": "1", "moderate": "2", "severe": "3", "proliferatedr": "4", "proliferativedr": "4", "pdr": "4",
}  # fmt: skip
"""Grade by the letters and digits of a folder's name: No_DR and No DR are one."""
FILTERED_SET = "Kaggle diabetic-retinopathy-224x224-gaussian-filtered"
SAMPLES = 5
"""Images in class folders of which the corners are looked at."""
MID_GREY = range(96, 161)
"""Values of a corner of a filtered image; a photograph's is black."""
# Test images have no labels, and the 2015 half of the resized set is another data set.
IGNORED_FOLDERS = r"(?<![a-z])test|train ?15|train_15"


def read_index(root: Path) -> ImageIndex:
    """List the images of APTOS 2019 below ``root``, a folder or one zip, in any of the layouts above.

    Raises UserError when no grades are found, or two only, or the pixels were filtered.
    """
    files = scan_files(root)
    in_folders = _set_class_folders_apart(files)
    report = ValidationReport()
    rows = [row for table in _find_tables(files) for row in _read_grades(table, report)]
    rows = rows or [LabelRow(file.stem, CLASSES.index(grade), grade, "") for file, grade in in_folders]
    if not rows:
        raise UserError(
            f"{root} holds neither train.csv nor train_1.csv nor trainLabels19.csv nor folders 0 to 4, so its images "
            f"have no grades; get APTOS 2019 from {WHERE_TO_GET}."
        )
    _refuse_binarised(root, rows)
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
    """Find the tables of grades."""
    if files.find_table("train_1.csv"):
        names = ["train_1.csv", "valid.csv", "test.csv"]
    elif files.find_table("train.csv"):
        names = ["train.csv"]
    else:
        names = ["trainLabels19.csv"]
    tables = [table for name in names if (table := files.find_table(name))]
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


def _refuse_binarised(root: Path, rows: Iterable[LabelRow]) -> None:
    grades = sorted({CLASSES[row.label] for row in rows if row.label is not None})
    if len(grades) == 2:
        raise UserError(
            f"{root} is binarised: its images have the grades {' and '.join(grades)} only, and those of APTOS 2019 are "
            f"0 to 4; get them from {WHERE_TO_GET}, or use it as it is with --dataset folder:PATH."
        )


def _set_class_folders_apart(files: ScannedFiles) -> list[tuple[FileRef, str]]:
    """Drop images in class folders where there are others too; returns those that stay, with their grades.

    Raises UserError when they are filtered.
    """
    graded = [(file, grade) for file in files.list_images() if (grade := _find_grade(file))]
    copies = {file for file, _ in graded}
    if len({grade for _, grade in graded}) < 2:
        return []
    originals = {stem: [file for file in same if file not in copies] for stem, same in files.images.items()}
    if any(not _is_ignored(file) for same in originals.values() for file in same):
        for file in sorted(copies, key=lambda file: file.display_path):
            files.leave_out(file.display_path, "ignored")
        files.images = {stem: same for stem, same in originals.items() if same}
        return []
    if _is_filtered(files.root, [file for file, _ in graded]):
        raise UserError(
            f"{files.root} is {FILTERED_SET} or a copy of it: the pixels of its images were Gaussian-filtered, so no "
            f"figure from it would be one for APTOS 2019; get the originals from {WHERE_TO_GET}, or use it as it is "
            "with --dataset folder:PATH."
        )
    return graded


def _is_ignored(file: FileRef) -> bool:
    return any(re.search(IGNORED_FOLDERS, folder) for folder in file.folders)


def _find_grade(file: FileRef) -> str:
    """Find the grade that the folder nearest above a file is called after; empty for none."""
    names = (re.sub(r"[^a-z0-9]", "", folder) for folder in reversed(file.folders))
    return next((CLASS_FOLDERS[name] for name in names if name in CLASS_FOLDERS), "")


def _is_filtered(root: Path, files: list[FileRef]) -> bool:
    """Whether a set is the filtered one, by a folder's name or by its images, whose corners are mid-grey."""
    if any("gaussian" in name for name in (root.name.lower(), *files[0].folders)):
        return True
    import numpy as np

    from udcd_bench.data.cache.decode import to_rgb

    n_grey = 0
    with closing(Archives()) as archives:
        for file in files[:: max(1, len(files) // SAMPLES)][:SAMPLES]:
            with suppress(Exception):  # what cannot be decoded is reported when the set is prepared
                corners = np.asarray(to_rgb(archives.read(file)))[[0, 0, -1, -1], [0, -1, 0, -1]]
                n_grey += MID_GREY[0] <= corners.min() and corners.max() <= MID_GREY[-1]
    return 2 * n_grey > min(len(files), SAMPLES)
