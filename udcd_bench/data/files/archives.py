"""Files in folders, in zips and in zips within a zip. Nothing is ever extracted."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from udcd_bench.data.files.kinds import get_suffix, is_zip

MAX_FILE_BYTES = 512 * 2**20
"""Of one image or table: a zip member that claims more is a zip bomb."""
MAX_UNPACK_RATIO = 100
"""Of a zip within a zip, which is read to its end; images hardly shrink."""
ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Of any other method Python unpacks more bytes than were requested."""
UTF8_FLAG = 0x800
"""Of an entry: its name is UTF-8."""
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
    stamp: that of ``make_stamp``, or the member's CRC-32.
    offset: position in its archive, so that reading goes forwards.
    """

    path: str
    inside: tuple[str, ...]
    display_path: str
    size: int
    stamp: int | tuple[int, ...]
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
        return get_suffix(self.name)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders and archives above the file, lower case."""
        return tuple(self.display_path.lower().split("/")[:-1])


def make_stamp(stat: os.stat_result) -> tuple[int, ...]:
    """Make what changes when a file does: a copy may keep the name, the size and the time, not the inode's change."""
    return (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


class Archives:
    """Zips of one process that stay open while many members are read from them."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, ...], tuple[zipfile.ZipFile, IO[bytes] | None]] = {}

    def read(self, file: FileRef) -> bytes:
        """Read all bytes of a file. Raises OSError when it cannot be read."""
        if file.size > MAX_FILE_BYTES:
            raise OSError(f"larger than {MAX_FILE_BYTES >> 20} MB")
        return self.read_start(file, file.size) if file.inside else Path(file.path).read_bytes()

    def read_start(self, file: FileRef, n: int) -> bytes:
        """Read the first ``n`` bytes of a file. Raises OSError when it cannot be read."""
        if not file.inside:
            with Path(file.path).open("rb") as opened:
                return opened.read(n)
        try:
            with self._open_member(file.path, file.inside) as member:
                # without a size the whole member would be unpacked before it is cut to its declared size
                return member.read(n)
        except ZIP_ERRORS as error:
            raise OSError(str(error) or type(error).__name__) from error

    def open_zip(self, path: str, inside: tuple[str, ...]) -> zipfile.ZipFile:
        """Open the archive at ``path``, or the one within it that ``inside`` names. Raises OSError when it cannot."""
        key = (path, *inside)
        if key not in self._open:
            handle = None
            try:
                handle = self._open_member(path, inside) if inside else None
                self._open[key] = (_open_zip(handle or path), handle)
            except ZIP_ERRORS as error:
                if handle is not None:
                    handle.close()
                if isinstance(error, PermissionError):
                    raise
                raise OSError(str(error) or type(error).__name__) from error
        return self._open[key][0]

    def _open_member(self, path: str, inside: tuple[str, ...]) -> IO[bytes]:
        archive = self.open_zip(path, inside[:-1])
        info = archive.getinfo(inside[-1])
        if info.flag_bits & 1:
            raise OSError("encrypted; unpack it with its password")
        if info.compress_type not in ZIP_METHODS:
            raise OSError("neither stored nor deflated; zip it again")
        if (
            len(inside) == 1
            and info.file_size > MAX_UNPACK_RATIO * max(info.compress_size, 2**20)
            and is_zip(info.filename)
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


def _open_zip(source: str | IO[bytes]) -> zipfile.ZipFile:
    """Open a zip. Names that do not say so are UTF-8 too if all of them are valid, as a Mac writes them."""
    try:
        return zipfile.ZipFile(source, metadata_encoding="utf-8")
    except UnicodeDecodeError:
        return zipfile.ZipFile(source)


def has_dos_names(archive: zipfile.ZipFile) -> bool:
    """Whether names of a zip were read as of DOS: they neither say UTF-8 nor are it."""
    is_utf8 = getattr(archive, "metadata_encoding", None) is not None
    names = [info.filename for info in archive.infolist() if not info.flag_bits & UTF8_FLAG]
    return not is_utf8 and not all(name.isascii() for name in names)


def have_same_content(files: Sequence[FileRef]) -> bool:
    """Whether files hold the same bytes, by size and CRC-32; one that cannot be read is like no other."""
    if len({file.size for file in files}) > 1:
        return False
    with closing(Archives()) as archives:
        try:
            # an archive states the CRC-32 of its members, and its stamp is that
            return (
                len({file.stamp if file.inside else zlib.crc32(archives.read(file)) for file in files}) == 1
            )
        except OSError:
            return False
