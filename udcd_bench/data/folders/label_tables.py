"""Tables beside class folders: where one names the images and sorts them otherwise, the folders are no classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from udcd_bench.data.files.archives import FileRef
from udcd_bench.data.files.kinds import get_suffix
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import ScannedFiles
from udcd_bench.data.files.tables import format_number, parse_number, read_table
from udcd_bench.data.folders.checks import join_names
from udcd_bench.data.folders.class_folders import Labelled
from udcd_bench.data.folders.name_words import are_divisions, is_numbered
from udcd_bench.errors import UserError

MAX_TABLE_BYTES = 64 * 2**20
LABEL_COLUMNS = frozenset(
    ("label", "labels", "class", "classes", "target", "diagnosis", "dx", "category", "grade", "level", "finding",
     "findinglabels", "y")
)  # fmt: skip
"""Columns, by their letters, that hold labels."""
UNREAD_TABLES = frozenset((".xlsx", ".xls", ".ods", ".json", ".jsonl"))
_LABEL_TABLE = re.compile(r"label|meta|truth|entry|annotation|diagnos|class", re.I)

Columns = dict[str, list[str]]


def check_tables(files: ScannedFiles, rows: Sequence[Labelled], root: str, report: ValidationReport) -> None:
    """Check that the folders are the classes by their names, and that no table beside them says otherwise.

    root: the path that was given. Raises UserError when folders that are numbered, as parts of a download are, lie
    beside a table of labels, when a table's column of labels contradicts the folders, and when the folders' names
    divide images, as patients and folds do.
    """
    classes = sorted({row.class_name for row in rows})
    if len(classes) < 2:
        return
    _refuse_contradictions(files, rows, classes, root)
    unread = _list_unread_tables(files, rows)
    labels = [path for path in unread if _LABEL_TABLE.search(path.rpartition("/")[2])]
    if are_divisions(classes) or (labels and all(map(is_numbered, classes))):
        source = f", from {(labels or unread)[0]} if it has the labels" if unread else ""
        raise UserError(
            f"{root} holds {join_names(classes)}, which say no class by their names: give a CSV with the columns path "
            f"and label{source}, and group where a folder is a patient, or rename the folders if they are classes."
        )
    for path in labels:
        report.note(
            f"{path} is not read: if it says the labels, save it as a CSV with the columns path and label"
        )


def _list_unread_tables(files: ScannedFiles, rows: Sequence[Labelled]) -> list[str]:
    """List the spreadsheets and JSON files that lie beside the class folders, not in them."""
    folders = {row.file.display_path.rpartition("/")[0] for row in rows}
    return sorted(
        entry.path
        for entry in files.left_out
        if entry.kind == "other"
        and get_suffix(entry.path) in UNREAD_TABLES
        and (folder := entry.path.rpartition("/")[0]) not in folders
        and any(other.startswith(f"{folder}/" if folder else "") for other in folders)
    )


def _refuse_contradictions(
    files: ScannedFiles, rows: Sequence[Labelled], classes: list[str], root: str
) -> None:
    are_parts = all(map(is_numbered, classes))
    are_alike = len({re.sub(r"\d+", "", name) for name in classes}) == 1
    by_name = _index_images(rows)
    for table in files.list_tables():
        columns = _read_columns(table)
        hits, folders, key = _match_images(columns, by_name)
        is_called_so = are_parts and _LABEL_TABLE.search(table.name)
        if 2 * hits < len(rows) and not is_called_so:
            continue
        others = {name: cells for name, cells in columns.items() if name != key}
        labels = [
            cells for name, cells in others.items() if re.sub(r"[^a-z]", "", name.lower()) in LABEL_COLUMNS
        ]
        if are_parts or are_alike:
            is_otherwise = not any(
                _is_function(c, folders) and _is_function(folders, c) for c in others.values()
            )
        else:
            is_otherwise = any(not _is_function(c, folders) and not _is_function(folders, c) for c in labels)
        is_same = any(_is_permutation(cells, folders, same=True) for cells in labels)
        if is_otherwise or (
            not is_same and any(_is_permutation(cells, folders, same=False) for cells in labels)
        ):
            raise UserError(
                f"{root} holds {join_names(classes)}, and {table.display_path}, a table of the images that sorts them "
                f"otherwise, so its classes are unclear: give a CSV with the columns path and label, as "
                f"{root}/{table.display_path} if it has them, or move the table out if the folders are the classes."
            )


def _read_columns(table: FileRef) -> Columns:
    """Read a table that nobody asked for; one that cannot be read has no columns."""
    if table.size > MAX_TABLE_BYTES:
        return {}
    try:
        return read_table(table, ValidationReport())
    except UserError:
        return {}


def _index_images(rows: Sequence[Labelled]) -> dict[str, str]:
    """Return the class of each image by its path, its name and its stem; empty for what several classes share."""
    by_name: dict[str, str] = {}
    for row in rows:
        for name in ("/".join(row.parts), row.file.name, row.file.stem):
            lower = name.lower()
            by_name[lower] = row.class_name if by_name.get(lower, row.class_name) == row.class_name else ""
    return by_name


def _match_images(columns: Columns, by_name: dict[str, str]) -> tuple[int, list[str], str]:
    """Match a table's rows with images by the column that names most: how many, the class of each row, the column."""
    hits, folders, key = 0, list[str](), ""
    for name, cells in columns.items():
        matched = [by_name.get(cell.replace("\\", "/").removeprefix("./").lower()) for cell in cells]
        n = len(cells) - matched.count(None)
        if n > hits:
            hits, folders, key = n, [folder or "" for folder in matched], name
    return hits, folders, key


def _is_function(causes: Sequence[str], effects: Sequence[str]) -> bool:
    """Whether of each cause there is one effect, over the rows that have both, and there are several of each."""
    pairs = {(cause, effect) for cause, effect in zip(causes, effects, strict=False) if cause and effect}
    return len({cause for cause, _ in pairs}) == len(pairs) > 1


def _is_permutation(cells: Sequence[str], folders: Sequence[str], *, same: bool) -> bool:
    """Whether cells are the names of the folders, each everywhere its own (``same``), or each another's."""
    pairs = {(_fold(cell), _fold(name)) for cell, name in zip(cells, folders, strict=False) if cell and name}
    left, right = ({pair[i] for pair in pairs} for i in (0, 1))
    is_permuted = left == right and len(left) == len(pairs)
    return is_permuted and all(cell == name for cell, name in pairs) == same


def _fold(name: str) -> str:
    number = parse_number(name)
    return name.casefold() if number is None else format_number(number)
