"""A CSV of one's own: paths and labels as other people's programs write them, and the files that they mean."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from udcd_bench.data.files.archives import FileRef, make_stamp
from udcd_bench.data.files.finder import FileFinder, make_id
from udcd_bench.data.files.kinds import OWN_SUFFIXES, encode_name, get_suffix, is_hidden
from udcd_bench.data.files.labels import find_alike_groups, report_labels
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.tables import (
    MISSING,
    SPREADSHEET_ERROR,
    Table,
    is_missing,
    normalize_cells,
    read_table,
)
from udcd_bench.data.folders.part_names import find_split
from udcd_bench.errors import UserError

COLUMNS = ("path", "label", "split")
GROUP_WORDS = (
    "group", "patient|pat", "subject|subj", "participant", "person", "animal|mouse", "donor", "case", "specimen",
    "slide", "study", "lesion",
)  # fmt: skip
"""What columns are called that say which images must not be separated; of several the first, which holds the others."""
_GROUP_NUMBERS = r"(id|no|nr|num|number|name|code|key|uid|instanceuid)?"
_DOUBTFUL = ("case", "study")
"""Those that may say a label (case and control) or one study of all: groups only with ``FEWEST_GROUPS`` values."""
FEWEST_GROUPS = 5


class CSVTable(NamedTuple):
    """The rows of a CSV, and the column that its groups are of; empty for none."""

    rows: list[CSVRow]
    group_column: str


class CSVRow(NamedTuple):
    """A row whose image exists and whose label is given once; its id is from the folder of all listed images."""

    id: str
    label: str
    file: FileRef
    group: str
    split: str


class _Cells(NamedTuple):
    """A row as it is written, missing cells empty."""

    path: str
    label: str
    group: str
    split: str


def read_csv_table(path: Path, report: ValidationReport, group_column: str | None = None) -> CSVTable:
    """List the rows of a CSV whose image exists, each image once, and report all others.

    group_column: that says which images must not be separated; None for the one whose name says so.
    Raises UserError when there is no such column, and when the splits are unknown, or given for some rows only.
    """
    finder = FileFinder(path.parent)
    rows: dict[str, CSVRow] = {}
    disputed: set[str] = set()
    columns = _read_columns(path, report)
    chosen = _choose_group_column(path, columns, report, group_column)
    _report_unread(columns, report, chosen)
    listed = _list_cells(columns, report, chosen)
    for cells in listed:
        row = _match_row(path, cells, finder, report)
        if row is None:
            continue
        real, _ = finder.locate(row.file.path)
        first = rows.setdefault(real, row)
        if conflict := _describe_conflict(first, row):
            report.add("conflict", f"{first.id} ({conflict})")
            disputed.add(real)
        elif first is not row:
            report.add("repeated", first.id)
    if not finder.matched and (examples := report.examples["missing"]):
        raise UserError(f"{path}: not one of its images is where it says, such as {examples[0]}.")
    _report_unlisted(finder, report)
    common = finder.find_common_folder()
    single = [
        row._replace(id=make_id(row.file.path, common)) for real, row in rows.items() if real not in disputed
    ]
    if len({bool(row.split) for row in single}) > 1:
        raise UserError(f"{path} gives a split for some rows only; fill the column split or leave it out.")
    _report_classes(listed, single, report)
    if chosen:
        _report_groups(chosen, columns[chosen], single, report)
    return CSVTable(single, chosen)


def _report_groups(
    column: str, cells: Sequence[str], single: Sequence[CSVRow], report: ValidationReport
) -> None:
    """Report groups whose names are nearly the same, and images without one. cells: of the column of groups."""
    for same in find_alike_groups({row.group for row in single} - {""}):
        report.add("groups", " and ".join(same))
    if n_without := sum(not row.group for row in single):
        written = sorted({cell for cell in cells if cell and is_missing(cell)})
        such = f"; {' and '.join(written[:3])} are read as none" if written else ""
        report.note(
            f"{n_without} images have no group in the column {column}, and each is one of its own{such}"
        )


def _report_classes(listed: Sequence[_Cells], single: Sequence[CSVRow], report: ValidationReport) -> None:
    """Report classes of which no image is left, and what is to be said of the names of the others."""
    parts: dict[str, set[str]] = {}
    for row in single:
        parts.setdefault(row.label, set()).add(row.split)
    counts = Counter(cells.label for cells in listed if cells.label)
    for label in sorted(counts.keys() - parts.keys()):
        report.add("lost_class", f"{label} ({counts[label]} rows, none with an image that can be used)")
    report_labels(parts, report)


def _describe_conflict(first: CSVRow, second: CSVRow) -> str:
    """Say in what two rows of one image differ; empty if in nothing."""
    if first.label != second.label:
        return f"{first.label} and {second.label}"
    for column in ("split", "group"):
        values = [getattr(row, column) or "none" for row in (first, second)]
        if values[0] != values[1]:
            return f"{column} {' and '.join(values)}"
    return ""


def _read_columns(path: Path, report: ValidationReport) -> Table:
    stat = path.stat()
    table = FileRef(str(path), (), path.name, stat.st_size, make_stamp(stat))
    return read_table(table, report, *COLUMNS[:2], optional=COLUMNS[2:])


def _choose_group_column(path: Path, columns: Table, report: ValidationReport, wanted: str | None) -> str:
    """Choose the column that groups are of, and say which; empty for none. Raises UserError if it is not there.

    wanted: its name, if the user gives one.
    """
    if wanted is not None:
        same = [name for name in columns if name == wanted] or [
            name for name in columns if name.casefold() == wanted.casefold()
        ]
        if len(same) != 1 or same[0] in COLUMNS:
            names = ", ".join(name for name in columns if name and name not in COLUMNS)
            raise UserError(
                f"{path} has no column {wanted!r} to group by; give --group-column one of: {names}."
            )
        report.note(f"groups are those of the column {same[0]}, by --group-column")
        return same[0]
    candidates = [name for word in GROUP_WORDS for name in columns if _is_called(name, word)]
    candidates += [name for name in columns if _fold(name) in ("pid", "mrn")]
    for name in candidates:
        values = set(normalize_cells(columns[name], columns.separator)) - {""}
        is_doubtful = any(_is_called(name, word) for word in _DOUBTFUL) and len(values) < FEWEST_GROUPS
        if is_doubtful or not values:
            report.note(f"the column {name} has {len(values)} values and is not taken for groups")
            continue
        report.note(f"groups are those of the column {name}; --group-column takes another")
        return name
    return ""


def _fold(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _is_called(name: str, word: str) -> bool:
    """Whether a column is called by a word for groups, whatever its case, spaces, underlines, and id or number."""
    return re.fullmatch(rf"({word})s?{_GROUP_NUMBERS}", _fold(name)) is not None


def _list_cells(columns: Table, report: ValidationReport, group_column: str) -> list[_Cells]:
    blank = [""] * len(columns["label"])
    names = [*COLUMNS, *([group_column] if group_column else [])]
    errors = [cell for name in names for cell in columns.get(name, []) if SPREADSHEET_ERROR.fullmatch(cell)]
    if errors:
        report.note(
            f"{len(errors)} cells hold a spreadsheet's error, such as {errors[0]}, and are read as missing"
        )
    paths = ["" if is_missing(cell) else cell for cell in columns["path"]]
    label, group, split = (
        normalize_cells(cells, columns.separator)
        for cells in (
            columns["label"],
            columns[group_column] if group_column else blank,
            columns.get("split", blank),
        )
    )
    return [_Cells(*cells) for cells in zip(paths, label, group, split, strict=True)]


def _report_unread(columns: Table, report: ValidationReport, group_column: str) -> None:
    """Name the columns that are not read, and those of them that were meant as a split."""
    unread = [name for name in columns if name and name not in (*COLUMNS, group_column)]
    if unread:
        report.note(f"columns that are not read: {', '.join(unread[:20])}")
    for name in unread:
        if "split" not in columns and _is_split(columns[name]):
            report.note(f"the column {name} divides the images: rename it to split to use it")


def _is_split(cells: Sequence[str]) -> bool:
    """Whether all cells of a column are parts of a split, at least two."""
    parts = {find_split(cell) for cell in set(cells) - MISSING}
    return "" not in parts and len(parts) > 1


def _match_row(path: Path, cells: _Cells, finder: FileFinder, report: ValidationReport) -> CSVRow | None:
    """Match a row with its file; None, and a line in the report, if it has no label or no file."""
    split = find_split(cells.split)
    if cells.split and not split:
        raise UserError(f"{path} has split {cells.split!r} for {cells.path}; it may be train, val or test.")
    if not cells.path:
        report.add("missing", "a row without a path")
        return None
    image = finder.find(cells.path)
    if image is None:
        report.add("missing", f"{cells.path} ({finder.describe_missing(cells.path)})")
        return None
    real, id_ = finder.locate(image)
    finder.matched.setdefault(real, image)
    if not cells.label:
        report.add("unlabelled", id_)
        return None
    if image != os.path.join(finder.base, encode_name(cells.path)):  # noqa: PTH118
        report.add("respelt", f"{cells.path} → {id_}")
    stat = os.stat(image)  # noqa: PTH116 (called ten thousand times, pathlib takes twice as long)
    return CSVRow(
        id_, cells.label, FileRef(image, (), id_, stat.st_size, make_stamp(stat)), cells.group, split
    )


def _report_unlisted(finder: FileFinder, report: ValidationReport) -> None:
    """Report the images that lie beside listed ones and are in no row."""
    folders = {os.path.dirname(real): os.path.dirname(path) for real, path in finder.matched.items()}  # noqa: PTH120
    for _, folder in sorted(folders.items()):
        for name in finder.list_folder(Path(folder)).names:
            real, id_ = finder.locate(os.path.join(folder, name))  # noqa: PTH118
            if get_suffix(name) in OWN_SUFFIXES and not is_hidden(name) and real not in finder.matched:
                report.add("unlisted", id_)
