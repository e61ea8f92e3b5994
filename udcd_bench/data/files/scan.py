"""Every entry below a folder or in a zip: an image, a table, or left out for a reason that is told."""

from __future__ import annotations

import errno
import os
import re
import zipfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from udcd_bench.data.files import kinds
from udcd_bench.data.files.archives import ZIP_ERRORS, Archives, FileRef, has_dos_names, make_stamp
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.errors import UserError, make_printable

UNNAMED_ZIP = re.compile(r".*\.zip(\.\d+|\.part| ?\(\d+\))", re.I)
"""A download that was numbered, or is not finished."""


class LeftOut(NamedTuple):
    """An entry that is neither an image nor a table: its path below the folder, the kind of reason, and details."""

    path: str
    kind: str
    detail: str = ""


@dataclass
class ScannedFiles:
    """The entries below a folder or in a zip.

    Attributes
    ----------
    images: by stem. tables: by lower-case name, without the mark of a second copy. left_out: everything else.
    folders: those that were entered. notes: sentences on how names were understood.
    own: they are images of one's own, among which DICOM files are read where pydicom is installed.
    """

    root: Path
    own: bool = False
    images: dict[str, list[FileRef]] = field(default_factory=dict)
    tables: dict[str, list[FileRef]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _used_tables: set[FileRef] = field(default_factory=set)

    def find_table(self, *names: str) -> FileRef | None:
        """Find the table with the first of these names that exists; of several, the one nearest the root.

        A browser's or a file manager's second copy, ``NAME (1).csv``, stands in for one that is not there.
        """
        for name in names:
            if tables := self.tables.get(name.lower()):
                table = min(tables, key=lambda file: (len(file.folders), len(file.name), file.display_path))
                self._used_tables.add(table)
                return table
        return None

    def list_images(self) -> list[FileRef]:
        """List the images."""
        return [file for same in self.images.values() for file in same]

    def list_tables(self) -> list[FileRef]:
        """List the tables."""
        return [file for same in self.tables.values() for file in same]

    def report_left_out(self, report: ValidationReport) -> None:
        """Report all that was left out, and the tables that nobody asked for."""
        tables = [file for file in self.list_tables() if file not in self._used_tables]
        unused = [LeftOut(file.display_path, "other") for file in tables]
        for path, kind, detail in sorted([*self.left_out, *unused]):
            report.add(kind, f"{path} ({detail})" if detail else path)
        for sentence in self.notes:
            report.note(sentence)
        formats = Counter(kinds.name_format(each.path) for each in self.left_out if each.kind == "format")
        if self.own and formats.total() > len(report.examples["format"]):
            counts = ", ".join(f"{n} {name}" for name, n in formats.most_common())
            report.note(f"files of formats that are not read are skipped: {counts}")

    def leave_out(self, path: str, kind: str, detail: str = "") -> None:
        """Say why an entry is left out."""
        self.left_out.append(LeftOut(path, kind, detail))


def scan_files(root: Path, *, own: bool = False) -> ScannedFiles:
    """List every entry below ``root``, a folder or one zip. Links to folders are followed, to each folder once.

    own: as in ``ScannedFiles``.

    Raises UserError when ``root`` is neither, and when a folder or a file may not be read.
    """
    if not os.path.exists(root):  # noqa: PTH110 (pathlib's raises where a name is too long)
        raise UserError(f"There is no folder {root}; give the one that holds the images with --from.")
    files = ScannedFiles(root, own)
    with closing(Archives()) as archives:
        if root.is_file():
            if not zipfile.is_zipfile(root):
                pointer = _describe_pointer(archives, FileRef(str(root), (), "", 0, 0))
                raise UserError(f"{root} is {pointer or 'neither a folder nor a zip archive'}.")
            _scan_zip(files, archives, FileRef(str(root), (), "", 0, 0))
        else:
            _scan_folders(files, archives)
    return files


def _scan_folders(files: ScannedFiles, archives: Archives) -> None:
    top = os.path.realpath(files.root)
    folders, links = [(str(files.root), "")], list[tuple[str, str]]()
    seen: set[str] = set()
    while folders or links:
        # links come last: of two ways to one folder the real one counts
        path, below = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(path)
        if real in seen or (below and Path(top).is_relative_to(real)):
            files.leave_out(below, "twice")
            continue
        seen.add(real)
        entries = _list_entries(path)
        if kinds.is_own_folder({entry.name for entry in entries}):
            if not below:
                raise UserError(
                    f"{files.root} holds results or prepared images of this program: keep them apart from images."
                )
            files.leave_out(below, "own")
            continue
        files.folders.append(below)
        for entry in entries:
            own_name = kinds.decode_name(entry.name)
            name = make_printable(f"{below}/{own_name}" if below else own_name)
            if _is_folder(entry) and not kinds.is_hidden(entry.name):
                (links if entry.is_symlink() else folders).append((entry.path, name))
            else:
                _scan_file(files, archives, entry, name)


def _list_entries(path: str) -> list[os.DirEntry[str]]:
    """List a folder by name. Raises UserError when it may not be read: it would pass for an empty one."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise make_forbidden_error(path, error) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return False
        raise make_forbidden_error(entry.path, error) from error


def make_forbidden_error(path: str | Path, error: OSError) -> UserError:
    """Make the error of a file or folder that exists and may not, or cannot, be read."""
    return UserError(
        f"{path} cannot be read ({error.strerror}): fix its permissions, or move it out of the data set."
    )


def _scan_file(files: ScannedFiles, archives: Archives, entry: os.DirEntry[str], name: str) -> None:
    if kinds.is_hidden(entry.name):
        files.leave_out(name, "dangling" if kinds.is_placeholder(entry.name) else "hidden")
        return
    try:
        stat = entry.stat()
        if not entry.is_file():
            files.leave_out(name, "other", "a pipe, a socket or a device")
            return
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise make_forbidden_error(entry.path, error) from error
        is_text = kinds.get_suffix(name) in kinds.TEXT_SUFFIXES
        files.leave_out(name, "other" if is_text else "dangling")
        return
    file = FileRef(entry.path, (), name, stat.st_size, make_stamp(stat))
    if kinds.is_zip(name):
        _scan_zip(files, archives, file)
    else:
        _add_file(files, archives, file)


def _scan_zip(files: ScannedFiles, archives: Archives, file: FileRef) -> None:
    """Add the images and tables of a zip, and of the zips in it, to ``files``."""
    start = f"{file.display_path}/" if file.display_path else ""
    hidden_paths: set[str] = set()
    for info in _list_members(files, archives, file):
        parts = re.split(r"[/\\]", info.filename)
        name = start + make_printable("/".join(parts))
        hidden = [k for k, part in enumerate(parts) if part not in (".", "..") and kinds.is_hidden(part)]
        if hidden:  # the uppermost one counts, as on disk
            hidden_paths.add(start + make_printable("/".join(parts[: hidden[0] + 1])))
            continue
        if not parts[-1]:
            files.folders.append(name.rstrip("/"))
            continue
        member = FileRef(
            file.path, (*file.inside, info.filename), name, info.file_size, info.CRC, info.header_offset
        )
        # One level of nesting, as in a Dataverse download of the whole set.
        if kinds.is_zip(name) and len(file.inside) == 0:
            _scan_zip(files, archives, member)
        else:
            _add_file(files, archives, member)
    for path in sorted(hidden_paths):
        files.leave_out(path, "hidden")


def _list_members(files: ScannedFiles, archives: Archives, file: FileRef) -> list[zipfile.ZipInfo]:
    """List what can be read of a zip, and leave out what cannot; nothing of one that cannot be opened."""
    start = f"{file.display_path}/" if file.display_path else ""
    name = file.display_path or files.root.name
    try:
        archive = archives.open_zip(file.path, file.inside)
        infos = archive.infolist()
    except PermissionError as error:
        raise make_forbidden_error(file.path, error) from error
    except ZIP_ERRORS as error:
        reason = _describe_pointer(archives, file) or make_printable(str(error)) or "cannot be opened"
        files.leave_out(name, "unreadable", reason)
        return []
    if file.display_path:
        files.folders.append(file.display_path)  # a folder as any other, though nothing may be in it
    if has_dos_names(archive):
        files.notes.append(
            f"names in {name} are read as of DOS (cp437), as they are not UTF-8; if wrong, zip again"
        )
    members = {info.filename: info for info in infos}  # of several with one name only the last can be read
    for info in infos:
        if info is not members[info.filename] and not info.is_dir():
            files.leave_out(start + make_printable(info.filename), "replaced")
    return list(members.values())


def _add_file(files: ScannedFiles, archives: Archives, file: FileRef) -> None:
    suffix = kinds.get_suffix(file.name)
    is_dicom = files.own and suffix in kinds.DICOM_SUFFIXES
    if suffix in kinds.IMAGE_SUFFIXES or (is_dicom and kinds.can_read_dicom()):
        files.images.setdefault(file.stem, []).append(file)
    elif is_dicom:
        files.leave_out(file.display_path, "no_dicom")
    elif UNNAMED_ZIP.fullmatch(file.name):
        files.leave_out(file.display_path, "archive")
    elif suffix in kinds.UNREAD_FORMATS:
        files.leave_out(file.display_path, "format")
    elif suffix in kinds.UNREAD_ARCHIVES or kinds.is_zip(file.name):
        files.leave_out(file.display_path, "archive")
    elif suffix in kinds.TEXT_SUFFIXES:
        files.leave_out(file.display_path, "other")
    elif suffix not in kinds.TABLE_SUFFIXES - {""} and (kind := _peek_format(archives, file)):
        files.leave_out(file.display_path, "format", f"{kind} by another name")
    elif not suffix and _read_start(archives, file).startswith(kinds.ZIP_START):
        files.leave_out(file.display_path, "archive")
    elif suffix in kinds.TABLE_SUFFIXES:
        name = re.sub(r"( ?\(\d+\)|[ -]+copy)(?=\.|$)", "", file.name.lower())
        files.tables.setdefault(name, []).append(file)
    else:
        files.leave_out(file.display_path, "other")


def _describe_pointer(archives: Archives, file: FileRef) -> str:
    try:
        return kinds.describe_pointer(archives.read_start(file, 512))
    except OSError:
        return ""


def _peek_format(archives: Archives, file: FileRef) -> str:
    """Name the image format of a file that is not called an image, from its first bytes."""
    return kinds.describe_image_format(_read_start(archives, file))


def _read_start(archives: Archives, file: FileRef) -> bytes:
    try:
        return archives.read_start(file, 512)
    except PermissionError as error:
        raise make_forbidden_error(file.path, error) from error
    except OSError:
        return b""
