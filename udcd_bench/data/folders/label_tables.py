"""Tables beside class folders: where one names the images and sorts them otherwise, the folders are no classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from udcd_bench.data.files.archives import FileRef
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import ScannedFiles
from udcd_bench.data.files.tables import read_table
from udcd_bench.data.folders.checks import is_numbered, join_names
from udcd_bench.data.folders.class_folders import Labelled
from udcd_bench.errors import UserError

MAX_TABLE_BYTES = 64 * 2**20
LABEL_COLUMNS = frozenset(
    ("label", "labels", "class", "classes", "target", "diagnosis", "dx", "category", "grade", "level", "finding",
     "findinglabels", "y")
)  # fmt: skip
"""Columns, by their letters, that hold labels."""
_LABEL_TABLE = re.compile(r"label|meta|truth|entry|annotation|diagnos|class", re.I)

Columns = dict[str, list[str]]


def check_tables(files: ScannedFiles, rows: Sequence[Labelled], root: str) -> None:
    """Check that no table beside the images sorts them otherwise than their folders do.

    root: the path that was given. Raises UserError when folders that are numbered, as parts of a download are, lie
    beside a table of labels, and when a table's column of labels contradicts the folders.
    """
    classes = sorted({row.class_name for row in rows})
    if len(classes) < 2:
        return
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
        if is_otherwise:
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
