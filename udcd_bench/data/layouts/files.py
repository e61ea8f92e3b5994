"""Image files and tables found in folders, in zips and in zips within a zip. Nothing is ever extracted."""

from __future__ import annotations

import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from udcd_bench.errors import UserError, make_printable

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
TABLE_SUFFIXES = frozenset({".csv", ".tab", ".tsv", ""})
MAX_FILE_BYTES = 512 * 2**20
"""Of one image or table: a zip member that claims more is a zip bomb."""
MAX_UNPACK_RATIO = 100
"""Of a zip within a zip, which is read to its end; images hardly shrink."""
ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Of any other method Python unpacks more bytes than were requested."""
ZIP_ERRORS = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError, OverflowError, MemoryError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip
"""What a damaged, encrypted or odd zip can raise."""


@dataclass(frozen=True)
class FileRef:
    """One file, on disk or inside a zip (or a zip within a zip); it is read, never extracted.

    Attributes
    ----------
    path: the file, or the outermost archive that holds it.
    inside: the members from the outermost archive inwards; empty for a file on disk.
    display_path: the path below the folder that was scanned, for messages and to tell folders apart.
    size: bytes.
    stamp: modification time in ns, or the member's CRC-32.
    offset: position in its archive, so that reading goes forwards.
    """

    path: str
    inside: tuple[str, ...]
    display_path: str
    size: int
    stamp: int
    offset: int = 0

    @property
    def name(self) -> str:
        """The name without any folder, also where an archive put ``..`` into it."""
        return self.display_path[self.display_path.rfind("/") + 1 :]

    @property
    def stem(self) -> str:
        """The name without its suffix: the id of an image."""
        return os.path.splitext(self.name)[0]  # noqa: PTH122 (called ten thousand times, pathlib takes twice as long)

    @property
    def suffix(self) -> str:
        """The suffix of the name in lower case, with its dot."""
        return os.path.splitext(self.name)[1].lower()  # noqa: PTH122

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders and archives above the file, lower case."""
        return tuple(self.display_path.lower().split("/")[:-1])


class Archives:
    """Zips of one process that stay open while many members are read from them."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, ...], tuple[zipfile.ZipFile, IO[bytes] | None]] = {}

    def read(self, file: FileRef) -> bytes:
        """Read all bytes of a file. Raises OSError when it cannot be read."""
        if file.size > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES >> 20} MB")
        if not file.inside:
            return Path(file.path).read_bytes()
        try:
            with self._open_member(file.path, file.inside) as member:
                # without a size the whole member would be unpacked before it is cut to its declared size
                return member.read(file.size)
        except ZIP_ERRORS as error:
            raise OSError(str(error) or type(error).__name__) from error

    def open_zip(self, path: str, inside: tuple[str, ...]) -> zipfile.ZipFile:
        """Open the archive at ``path``, or the one within it that ``inside`` names. Raises OSError when it cannot."""
        key = (path, *inside)
        if key not in self._open:
            handle = None
            try:
                handle = self._open_member(path, inside) if inside else None
                self._open[key] = (zipfile.ZipFile(handle or path), handle)
            except ZIP_ERRORS as error:
                if handle is not None:
                    handle.close()
                raise OSError(str(error) or type(error).__name__) from error
        return self._open[key][0]

    def _open_member(self, path: str, inside: tuple[str, ...]) -> IO[bytes]:
        archive = self.open_zip(path, inside[:-1])
        info = archive.getinfo(inside[-1])
        if info.compress_type not in ZIP_METHODS:
            raise OSError("neither stored nor deflated; zip it again")
        if (
            len(inside) == 1
            and info.file_size > MAX_UNPACK_RATIO * max(info.compress_size, 2**20)
            and _is_zip(info.filename)
        ):
            raise OSError(f"says that it unpacks to more than {MAX_UNPACK_RATIO} times its size")
        return archive.open(info)

    def close(self) -> None:
        """Close all of them, inner ones first."""
        for archive, handle in reversed(self._open.values()):
            archive.close()
            if handle is not None:
                handle.close()
        self._open.clear()


@dataclass
class ScannedFiles:
    """The files below a folder or in a zip.

    Attributes
    ----------
    images: by stem. tables: by lower-case name. broken: archives that cannot be opened, and why.
    """

    root: Path
    images: dict[str, list[FileRef]] = field(default_factory=dict)
    tables: dict[str, list[FileRef]] = field(default_factory=dict)
    broken: list[tuple[str, str]] = field(default_factory=list)

    def find_table(self, *names: str) -> FileRef | None:
        """Find the table with the first of these names that exists; of several, the one nearest the root."""
        for name in names:
            if tables := self.tables.get(name.lower()):
                return min(tables, key=lambda file: (len(file.folders), file.display_path))
        return None


def _is_zip(name: str) -> bool:
    return name.lower().endswith(".zip")


def scan_files(root: Path) -> ScannedFiles:
    """List every image and table below ``root``, a folder or one zip, without hidden files.

    Raises UserError when ``root`` is neither.
    """
    if not os.path.exists(root):  # noqa: PTH110 (pathlib's raises where a name is too long)
        raise UserError(f"There is no folder {root}; give the one that holds the images with --from.")
    files = ScannedFiles(root)
    with closing(Archives()) as archives:
        if root.is_file():
            if not zipfile.is_zipfile(root):
                raise UserError(f"{root} is neither a folder nor a zip archive.")
            _scan_zip(files, archives, str(root), (), root.name)
        for path, display_path in _walk(root) if root.is_dir() else ():
            if _is_zip(path.name):
                _scan_zip(files, archives, str(path), (), display_path)
            else:
                stat = path.stat()
                _add_file(files, FileRef(str(path), (), display_path, stat.st_size, stat.st_mtime_ns))
    return files


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file below a folder and its path for display."""
    seen: set[str] = set()  # links to folders are followed (data often lies elsewhere), each only once
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else sorted(b for b in below if not _is_hidden(b))
        if real in seen:
            continue
        seen.add(real)
        inside = Path(folder).relative_to(root).as_posix()
        start = "" if inside == "." else f"{inside}/"
        for name in sorted(names):
            path = Path(folder, name)
            if not _is_hidden(name) and path.is_file():
                yield path, make_printable(start + name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _scan_zip(
    files: ScannedFiles, archives: Archives, path: str, inside: tuple[str, ...], display_path: str
) -> None:
    """Add the images and tables of a zip, and of the zips in it, to ``files``."""
    try:
        # by name: of two members with one name only the last can be read
        members = {info.filename: info for info in archives.open_zip(path, inside).infolist()}
    except ZIP_ERRORS as error:
        files.broken.append((display_path, str(error) or "cannot be opened"))
        return
    for info in members.values():
        parts = re.split(r"[/\\]", info.filename)
        if not parts[-1] or any(_is_hidden(part) for part in parts if part not in (".", "..")):
            continue
        name = f"{display_path}/{make_printable('/'.join(parts))}"
        # One level of nesting, as in a Dataverse download of the whole set.
        if _is_zip(parts[-1]) and not inside:
            _scan_zip(files, archives, path, (info.filename,), name)
        else:
            inner = (*inside, info.filename)
            _add_file(files, FileRef(path, inner, name, info.file_size, info.CRC, info.header_offset))


def _add_file(files: ScannedFiles, file: FileRef) -> None:
    if file.suffix in IMAGE_SUFFIXES:
        files.images.setdefault(file.stem, []).append(file)
    elif file.suffix in TABLE_SUFFIXES:
        files.tables.setdefault(file.name.lower(), []).append(file)
