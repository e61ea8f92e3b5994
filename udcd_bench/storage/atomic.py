"""Files that are whole or absent: written beside their place and renamed, sealed by a checksum, told apart by owner."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STALE_FILE_AGE = 3600.0
"""Seconds after which a temporary file of another machine is nobody's any more."""
_CHECKSUM_FIELD = b'\n "sha256": "'
_OWNER_PATTERN = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<mark>\d*)")


# --- whose ----------------------------------------------------------------------------------------------------


@functools.cache
def _identify_machine() -> str:
    """Tells this machine, since it started, from others, and a container from its neighbours."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]


def read_process_start_time(pid: int) -> str:
    """Tells a process from a later one with the same number; empty where it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # a killed process that nobody has reaped, as in a container without an init, is dead all the same
        return "" if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except (OSError, IndexError):
        return ""
    try:  # a system without /proc
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "0"


def format_owner() -> str:
    """This process, as a part of a file's name."""
    return f"{_identify_machine()}-{os.getpid()}-{read_process_start_time(os.getpid())}"


def is_owner_alive(name: str, age: float, max_age: float) -> bool:
    """Whether the owner in a file's name still runs; another machine's does while ``age`` is below ``patience``."""
    found = _OWNER_PATTERN.search(name)
    if found is None or found["host"] != _identify_machine():
        return age < max_age
    return bool(found["mark"]) and read_process_start_time(int(found["pid"])) == found["mark"]


def remove_stale_files(paths: Iterable[Path]) -> None:
    """Remove those of these temporary files and folders whose owners are dead."""
    for path in paths:
        with contextlib.suppress(OSError):  # somebody else sweeps too
            if is_owner_alive(path.name, time.time() - path.stat().st_mtime, STALE_FILE_AGE):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


# --- writing --------------------------------------------------------------------------------------------------


def write_atomically(path: Path, data: bytes) -> None:
    """The whole file or nothing: a temporary sibling, fsynced, renamed. Raises UserError when the disk is full."""
    temporary = path.with_name(f".{path.name}.{format_owner()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise as_user_error(error, path) from error
    sync_folder(path.parent)


def as_user_error(error: OSError, path: Path) -> Exception:
    """``error``, or a sentence for the user where it says that there is no room or no right to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"The disk is full: {path} could not be written; free some space and start again.")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return UserError(f"{path} may not be written; choose another folder with --out.")
    return error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise as_user_error(error, folder) from error
    finally:
        os.close(descriptor)


# --- JSON -----------------------------------------------------------------------------------------------------


def to_json(value: Any) -> bytes:
    """Readable, sorted, and without the numbers that JSON has no word for (ValueError)."""
    return (json.dumps(value, indent=1, sort_keys=True, default=str, allow_nan=False) + "\n").encode()


def from_json(data: bytes) -> Any:
    """What JSON says. Raises ValueError, also for what is nested thousands deep."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def dump_with_checksum(value: Mapping[str, Any]) -> bytes:
    """JSON that carries, as its field ``sha256``, the checksum of its own text without it."""
    head, mark, rest = to_json({**value, "sha256": ""}).partition(_CHECKSUM_FIELD)
    return head + mark + hashlib.sha256(head + mark + rest).hexdigest().encode() + rest


def load_with_checksum(data: bytes, *, required: bool) -> dict[str, Any]:
    """What ``seal`` wrote. Raises ValueError when it is not that; without a seal only where none is ``needed``."""
    head, mark, rest = data.partition(_CHECKSUM_FIELD)
    if mark and hashlib.sha256(head + mark + rest[64:]).hexdigest().encode() != rest[:64]:
        raise ValueError("its checksum differs")
    value = from_json(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if required and not mark:
        raise ValueError("it has no checksum")
    return value
