"""A CSV of one's own: paths and labels as other people's programs write them, and the files that they mean."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from udcd_bench.data.files.archives import FileRef, make_stamp
from udcd_bench.data.files.kinds import IMAGE_SUFFIXES, decode_name, encode_name, get_suffix, is_hidden
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import make_forbidden_error
from udcd_bench.data.files.tables import MISSING, find_alike, normalize_cells, normalize_nfc, read_table
from udcd_bench.data.layouts.class_folders import find_split
from udcd_bench.errors import UserError, make_printable

COLUMNS = ("path", "label", "group", "split")
GROUP_LIKE = frozenset(
    ("patient", "patientid", "subject", "subjectid", "case", "caseid", "lesion", "lesionid", "person", "personid",
     "study", "studyid", "animal", "animalid")
)  # fmt: skip
"""Columns, without spaces and underlines, that usually say which images must not be separated."""


class CSVRow(NamedTuple):
    """A row whose image exists and whose label is given once; its id is from the folder of all listed images."""

    id: str
    label: str
    file: FileRef
    group: str
    split: str


class _Cells(NamedTuple):
    path: str
    label: str
    group: str
    split: str


class _Listing(NamedTuple):
    """The names in a folder: all, and those that are the same but for case and accents, or but for their suffix."""

    names: list[str]
    by_fold: dict[str, list[str]]
    images_by_stem: dict[str, list[str]]


class FileFinder:
    """The files that a table means, found in folders that are listed once each.

    Attributes
    ----------
    base: the table's folder. matched: the real path of each file that a row means, and the path it was found by.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.matched: dict[str, str] = {}
        self._listings: dict[Path, _Listing] = {}
        self._places: dict[str, tuple[str, str]] = {}

    def find(self, text: str) -> str | None:
        """Find the file of that name below ``base``: as written, or else the one that answers to it.

        Separators may be backslashes, accents in either form, the case and the suffix of the name another's. Where
        several files would answer, none does.
        """
        text = encode_name(text)
        as_written = os.path.join(self.base, text)  # noqa: PTH118 (pathlib raises where a name is too long, and is slow)
        if os.path.isfile(as_written):  # noqa: PTH113
            return as_written
        written = Path(text.replace("\\", "/"))
        path = Path(written.anchor) if written.is_absolute() else self.base
        for part in written.parent.relative_to(written.anchor).parts:
            if os.path.isdir(path / part):  # noqa: PTH112
                path = path / part
            elif len(same := self.list_folder(path).by_fold.get(_fold(part), [])) == 1:
                path = path / same[0]
            else:
                return None
        return self._find_last(path, written.name)

    def _find_last(self, folder: Path, name: str) -> str | None:
        listing = self.list_folder(folder)
        candidates = listing.by_fold.get(_fold(name), [])
        if not candidates:
            stem = _fold(_strip_suffix(name))
            candidates = listing.images_by_stem.get(stem, []) or listing.images_by_stem.get(_fold(name), [])
        files = [str(folder / other) for other in candidates if os.path.isfile(folder / other)]  # noqa: PTH113
        return files[0] if len(files) == 1 else None

    def locate(self, file: str) -> tuple[str, str]:
        """Return the one path of a file whose folders may be links, and its path from ``base`` for people.

        Both are the same however a table spells the file. A link to a file is a file of its own.
        """
        folder, name = os.path.split(file)
        if folder not in self._places:
            below = os.path.relpath(folder, self.base).replace(os.sep, "/")
            self._places[folder] = (os.path.realpath(folder), "" if below == "." else f"{below}/")
        real, below = self._places[folder]
        return f"{real}/{name}", make_printable(normalize_nfc(decode_name(below + name)))

    def find_common_folder(self) -> str:
        """Find the innermost folder that holds all matched files, wherever the table lies."""
        folders = {os.path.dirname(os.path.abspath(path)) for path in self.matched.values()}  # noqa: PTH100, PTH120
        return os.path.commonpath(folders) if folders else ""

    def list_folder(self, folder: Path) -> _Listing:
        """List the names in a folder, none if there is no such folder. Raises UserError when it may not be read."""
        if folder not in self._listings:
            try:
                names = sorted(path.name for path in folder.iterdir())
            except PermissionError as error:
                raise make_forbidden_error(folder, error) from error
            except (OSError, ValueError):
                names = []
            by_fold: dict[str, list[str]] = {}
            by_stem: dict[str, list[str]] = {}
            for name in names:
                by_fold.setdefault(_fold(name), []).append(name)
                if get_suffix(name) in IMAGE_SUFFIXES:
                    by_stem.setdefault(_fold(_strip_suffix(name)), []).append(name)
            self._listings[folder] = _Listing(names, by_fold, by_stem)
        return self._listings[folder]

    def describe_missing(self, text: str) -> str:
        """Say what there is in place of a file that was not found. Raises UserError when it may not be looked for."""
        written = Path(text.replace("\\", "/"))
        folder = self.base / written.parent
        try:
            (self.base / text).stat()
        except PermissionError as error:
            raise make_forbidden_error(self.base / text, error) from error
        except (OSError, ValueError):
            pass
        if not os.path.isdir(folder):  # noqa: PTH112
            if not written.is_absolute() and os.path.isfile(self.base / ".." / written):  # noqa: PTH113
                return "it is in the folder above, and paths are relative to the CSV: move the CSV there"
            return f"there is no folder {folder}, and paths are relative to the CSV"
        near = self.list_folder(folder).images_by_stem.get(_fold(_strip_suffix(written.name)), [])[:3]
        return f"{folder} has {', '.join(near)}" if near else f"it is not in {folder}"


def make_id(path: str, common: str) -> str:
    """Make the id of a listed image: its path from the folder of all, the same wherever that lies."""
    return make_printable(normalize_nfc(decode_name(os.path.relpath(path, common)))).replace(os.sep, "/")


def _fold(name: str) -> str:
    return normalize_nfc(decode_name(name)).casefold()


def _strip_suffix(name: str) -> str:
    suffix = get_suffix(name)
    return name[: -len(suffix)] if suffix in IMAGE_SUFFIXES else name


def list_csv_rows(path: Path, report: ValidationReport) -> list[CSVRow]:
    """List the rows of a CSV whose image exists, each image once, and report all others.

    Raises UserError when the splits are unknown, or given for some rows only.
    """
    finder = FileFinder(path.parent)
    rows: dict[str, CSVRow] = {}
    disputed: set[str] = set()
    for cells in _read_cells(path, report):
        row = _match_row(path, cells, finder, report)
        if row is None:
            continue
        real, _ = finder.locate(row.file.path)
        first = rows.setdefault(real, row)
        if first is not row and first.label == row.label:
            report.add("repeated", first.id)
        elif first is not row:
            report.add("conflict", f"{first.id} ({first.label} and {row.label})")
            disputed.add(real)
    if not finder.matched and (examples := report.examples["missing"]):
        raise UserError(f"{path}: not one of its images is where it says, such as {examples[0]}.")
    _report_unlisted(finder, report)
    common = finder.find_common_folder()
    single = [
        row._replace(id=make_id(row.file.path, common)) for real, row in rows.items() if real not in disputed
    ]
    if len({bool(row.split) for row in single}) > 1:
        raise UserError(f"{path} gives a split for some rows only; fill the column split or leave it out.")
    _report_labels({row.label for row in single}, report)
    return single


def _report_labels(labels: set[str], report: ValidationReport) -> None:
    """Report labels that hardly differ, and those that are several in one cell: every method here chooses one class."""
    for same in find_alike(labels):
        report.add("alike", " and ".join(same))
    for label in sorted(labels):
        parts = [part.strip(" []'\"") for part in re.split(r"[|;,/+&]", label)]
        if len(set(parts)) > 1 and set(parts) <= labels:
            report.add("several", label)


def _read_cells(path: Path, report: ValidationReport) -> list[_Cells]:
    stat = path.stat()
    table = FileRef(str(path), (), path.name, stat.st_size, make_stamp(stat))
    columns = read_table(table, report, *COLUMNS[:2], optional=COLUMNS[2:])
    if unread := [name for name in columns if name and name not in COLUMNS]:
        report.note(f"columns that are not read: {', '.join(unread[:20])}")
    for name in unread:
        if "group" not in columns and "".join(filter(str.isalnum, name.lower())) in GROUP_LIKE:
            report.note(
                f"images of one {name} may be separated: rename the column {name} to group to keep them together"
            )
    blank = [""] * len(columns["label"])
    paths = ["" if cell in MISSING else cell for cell in columns["path"]]
    label, group, split = (normalize_cells(columns.get(name, blank)) for name in COLUMNS[1:])
    return [_Cells(*cells) for cells in zip(paths, label, group, split, strict=True)]


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
            if get_suffix(name) in IMAGE_SUFFIXES and not is_hidden(name) and real not in finder.matched:
                report.add("unlisted", id_)
