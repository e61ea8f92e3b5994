"""HAM10000 (Tschandl et al., Sci. Data 2018), read from every layout in which it is published.

=============  =================================================  =====================================
layout         images                                             labels and lesions
=============  =================================================  =====================================
Dataverse      ``HAM10000_images_part_1/2``, zips or folders      ``HAM10000_metadata`` (.csv, .tab, bare)
Kaggle kmader  the same folders, nested or doubled in lower case  ``HAM10000_metadata.csv``
ISIC 2018      ``ISIC2018_Task3_Training_Input/``                 ``…_GroundTruth.csv`` (one-hot, its own
                                                                  class order), ``…_LesionGroupings.csv``
ISIC Archive   ``ISIC-images/``, with the challenge's validation  ``metadata.csv``: ``diagnosis_1`` to
               and test images, which are left out                ``_3``, or one ``diagnosis`` (2024)
class folders  ``nv/``, ``Melanoma/``, with or without ``train``  the folders; no lesions, which is told
=============  =================================================  =====================================

All layouts give the same rows: images are matched by id, in whatever folder they are, and rows are sorted by id.
Classes may be written out (``lesion_names``).

The challenge's own test and validation images (``ISIC2018_Task3_Test_Input``, ``…_Test_GroundTruth.csv``, likewise
``Validation``) are data sets of their own. No image and no lesion of the test is in HAM10000, so it tests what was
trained on all of HAM10000: ``--split official``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from udcd_bench.data.files.archives import FileRef
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import ScannedFiles, scan_files
from udcd_bench.data.files.tables import MISSING, parse_whole, read_table
from udcd_bench.data.layouts.image_index import ExpectedCounts, ImageIndex, LabelRow, match_files
from udcd_bench.data.layouts.lesion_names import find_class
from udcd_bench.data.layouts.source import Source
from udcd_bench.errors import UserError

IndexReader = Callable[[Path], ImageIndex]
CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
EXPECTED_COUNTS = ExpectedCounts(
    {"akiec": 327, "bcc": 514, "bkl": 1099, "df": 115, "mel": 1113, "nv": 6705, "vasc": 142},
    groups=7470,
    group_word="lesions",
)
WHERE_TO_GET = (
    "doi 10.7910/DVN/DBW86T on Harvard Dataverse, Kaggle kmader/skin-cancer-mnist-ham10000, "
    "the ISIC Archive's collection HAM10000, or ISIC 2018 challenge Task 3 (training input, ground truth and lesion "
    "groupings)"
)
ORIGINAL_SIZE = (600, 450)
METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata.tab", "HAM10000_metadata", "HAM10000_metadata.tsv")
GROUND_TRUTH = "ISIC2018_Task3_Training_GroundTruth.csv"
COPIED_TRUTH = "GroundTruth.csv"
"""The same table as a copy at Kaggle calls it; that copy has no lesions, which the counts tell."""
GROUPINGS = "ISIC2018_Task3_Training_LesionGroupings.csv"
ARCHIVE_TABLE = re.compile(r"(ham10000_)?metadata(_\d{4}-\d\d-\d\d)?\.csv")
"""What the ISIC Archive calls its table."""
DIAGNOSES = ("diagnosis_3", "diagnosis_2", "diagnosis")
"""Its columns, the finest first."""
TRAINING_IDS = range(24306, 34321)
"""Numbers of HAM10000's images in the archive; the challenge's validation and test images follow."""

TEST_COUNTS = ExpectedCounts(
    {"akiec": 43, "bcc": 93, "bkl": 217, "df": 44, "mel": 171, "nv": 909, "vasc": 35}
)
WHERE_TO_GET_TEST = (
    "the ISIC 2018 challenge, Task 3 ({part} input and ground truth), challenge.isic-archive.com/data"
)

# The challenge's test and validation images and the other tasks' masks often lie beside the training images.
IGNORED_FOLDERS = r"(?<![a-z])test|validation|segmentation|masks|task1|task2"


def read_index(root: Path) -> ImageIndex:
    """List the images of HAM10000 below ``root``, a folder or one zip, in any of the layouts above.

    Raises UserError when no table of labels is found.
    """
    files = scan_files(root)
    report = ValidationReport()
    rows = _read_labels(files, report)
    if not rows:
        raise UserError(
            f"{root} holds neither HAM10000_metadata (.csv, .tab or without suffix; Dataverse and Kaggle) "
            f"nor {GROUND_TRUTH} (ISIC 2018) nor metadata.csv (ISIC Archive), so its images have no labels; get "
            f"HAM10000 from {WHERE_TO_GET}."
        )
    items = match_files(rows, files, report, ignore=IGNORED_FOLDERS, prefer=_is_training_image)
    return ImageIndex(
        SOURCE.name,
        SOURCE.title,
        CLASSES,
        items,
        report,
        expected=EXPECTED_COUNTS,
        source=str(root),
        original_size=ORIGINAL_SIZE,
    )


SOURCE = Source(
    "ham10000",
    "HAM10000",
    "10 015 dermoscopic photographs of 7 470 lesions, 7 classes",
    WHERE_TO_GET,
    read_index,
)


def _read_labels(files: ScannedFiles, report: ValidationReport) -> list[LabelRow]:
    """Read the labels of whatever layout is there; empty for none."""
    if metadata := files.find_table(*METADATA):
        return list(_read_metadata(metadata, report))
    if truth := files.find_table(GROUND_TRUTH, COPIED_TRUTH):
        return list(_read_one_hot(truth, files, report))
    if archive := files.find_table(*filter(ARCHIVE_TABLE.fullmatch, sorted(files.tables))):
        _leave_out_other_parts(files)
        return list(_read_archive(archive, report))
    if rows := _read_class_folders(files):
        _leave_out_other_parts(files)
        report.note(
            "classes are those of the folders, which do not tell the lesions: put HAM10000_metadata.csv beside them"
        )
    return rows


def _make_reader(name: str, title: str, part: str, expected: ExpectedCounts | None) -> IndexReader:
    """Make the reader of the challenge's ``Test`` or ``Validation`` images."""
    truth_name, folder_mark = f"ISIC2018_Task3_{part}_GroundTruth.csv", f"task3_{part.lower()}"
    others = "|".join(
        rf"(?<![a-z]){name}" for name in sorted({"training", "validation", "test"} - {part.lower()})
    )

    def read_part(root: Path) -> ImageIndex:
        files = scan_files(root)
        report = ValidationReport()
        truth = files.find_table(truth_name)
        if truth is None:
            raise UserError(
                f"{root} does not hold {truth_name}, so its images have no labels; get it from "
                f"{WHERE_TO_GET_TEST.format(part=part.lower())}."
            )
        items = match_files(
            list(_read_one_hot(truth, files, report)),
            files,
            report,
            ignore=rf"{others}|part_|segmentation|masks|task1|task2",
            prefer=lambda file: any(folder_mark in folder for folder in file.folders),
        )
        return ImageIndex(
            name,
            title,
            CLASSES,
            items,
            report,
            expected=expected,
            source=str(root),
            original_size=ORIGINAL_SIZE,
        )

    return read_part


def _make_part_source(part: str, n: str, expected: ExpectedCounts | None) -> Source:
    name, title = f"isic2018-{part.lower()}", f"ISIC 2018 Task 3 {part.lower()}"
    return Source(
        name,
        title,
        f"{n} dermoscopic photographs, HAM10000's classes",
        WHERE_TO_GET_TEST.format(part=part.lower()),
        _make_reader(name, title, part, expected),
    )


TEST_SOURCE = _make_part_source("Test", "1 512", TEST_COUNTS)
VALIDATION_SOURCE = _make_part_source("Validation", "193", None)


def _is_training_image(file: FileRef) -> bool:
    """Whether a file lies in one of the folders that hold the training images."""
    return any("part" in f or "task3_training" in f for f in file.folders)


def _is_of_another_part(id_: str) -> bool:
    """Whether an id is the archive's, and not one of HAM10000."""
    match = re.fullmatch(r"isic_(\d{7})", id_.lower())
    return match is not None and int(match[1]) not in TRAINING_IDS


def _leave_out_other_parts(files: ScannedFiles) -> None:
    """Leave out the images of the archive that are not HAM10000's."""
    for stem in [stem for stem in files.images if _is_of_another_part(stem)]:
        for file in files.images.pop(stem):
            files.leave_out(file.display_path, "ignored")


def _make_row(image: str, text: str, lesion: str) -> LabelRow:
    name = find_class(text)
    return LabelRow(image, CLASSES.index(name) if name else None, text, "" if lesion in MISSING else lesion)


def _read_metadata(table: FileRef, report: ValidationReport) -> Iterator[LabelRow]:
    cells = read_table(table, report, "lesion_id", "image_id", "dx")
    for lesion, image, dx in zip(cells["lesion_id"], cells["image_id"], cells["dx"], strict=True):
        yield _make_row(image, dx, lesion)


def _read_archive(table: FileRef, report: ValidationReport) -> Iterator[LabelRow]:
    """Read the archive's table: of each row the finest diagnosis that means a class.

    Raises UserError when it has no diagnosis.
    """
    cells = read_table(table, report, "isic_id", optional=("lesion_id", *DIAGNOSES))
    known = [name for name in DIAGNOSES if name in cells]
    if not known:
        raise UserError(
            f"{table.display_path} has no column diagnosis_3, diagnosis_2 or diagnosis, so its images have no labels; "
            "export the metadata with the images."
        )
    lesions = cells.get("lesion_id", [""] * len(cells["isic_id"]))
    for row, (image, lesion) in enumerate(zip(cells["isic_id"], lesions, strict=True)):
        if not _is_of_another_part(image):
            diagnoses = [text for name in known if (text := cells[name][row]) not in MISSING]
            yield _make_row(image, next(filter(find_class, diagnoses), " / ".join(diagnoses)), lesion)


def _read_class_folders(files: ScannedFiles) -> list[LabelRow]:
    """Read the classes of images with an id of the archive from the folders above them; empty for fewer than two."""
    rows = [
        _make_row(stem, folder, "")
        for stem, copies in files.images.items()
        if re.fullmatch(r"isic_\d{7}", stem.lower()) and not _is_of_another_part(stem)
        for file in copies
        if (folder := next(filter(find_class, reversed(file.folders)), ""))
    ]
    return rows if len({row.label for row in rows}) > 1 else []


def _read_one_hot(table: FileRef, files: ScannedFiles, report: ValidationReport) -> Iterator[LabelRow]:
    names = [name.upper() for name in CLASSES]
    cells = read_table(
        table, report, "image", *names
    )  # by name: the order of the columns is not that of CLASSES
    lesions: dict[str, str] = {}
    if groupings := files.find_table(GROUPINGS):
        pairs = read_table(groupings, report, "image", "lesion_id")
        lesions = dict(zip(pairs["image"], pairs["lesion_id"], strict=True))
    for image, *marks in zip(cells["image"], *(cells[name] for name in names), strict=True):
        numbers = [{"true": 1, "false": 0}.get(mark.lower(), parse_whole(mark)) for mark in marks]
        hot = [i for i, number in enumerate(numbers) if number == 1]
        clean = len(hot) == 1 and all(number in (0, 1) for number in numbers)
        text = "+".join(names[i] for i in hot) or "no class"
        yield LabelRow(image, hot[0] if clean else None, text, lesions.get(image, ""))
