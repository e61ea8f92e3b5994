"""Writing files that are whole or absent, and moving damaged ones out of the way."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from udcd_bench.errors import UserError
from udcd_bench.storage.owners import format_owner

if TYPE_CHECKING:
    from pathlib import Path


NO_PLACE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ESTALE,
    errno.EINVAL,
)
"""Errors of a path below which nothing can be made: in /proc, below a file, too long a name, a share that went away."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write the whole file or nothing: a temporary sibling, synced to disk, then renamed.

    Raises UserError when the disk is full or the folder may not be written.
    """
    temporary = path.with_name(f".{path.name}.{format_owner()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_to_disk(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise as_user_error(error, path) from error


def as_user_error(error: OSError, path: Path, option: str = "--out") -> Exception:
    """Return a UserError when the disk is full or ``path`` cannot be written where it is, else ``error`` itself.

    option: the command-line option that chooses the folder.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"The disk is full: {path} could not be written; free some space and start again.")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return UserError(f"{path} may not be written; choose another folder with {option}.")
    if error.errno in NO_PLACE:
        return UserError(f"{path} cannot be written ({error.strerror}); choose another folder with {option}.")
    return error


def sync_to_disk(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def quarantine(path: Path, destination: Path) -> Path:
    """Rename a damaged file or folder to the first free ``<destination>.<n>``, n from 1, and return its new path."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    n = 1
    while (new_path := destination.with_name(f"{destination.name}.{n}")).exists():
        n += 1
    path.rename(new_path)
    return new_path
