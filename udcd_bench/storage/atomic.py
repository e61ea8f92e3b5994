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

ABANDONED = 3600.0
"""Seconds after which a temporary file of another machine is nobody's any more."""
_SEAL = b'\n "sha256": "'
_OWNER = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<mark>\d*)")


# --- whose ----------------------------------------------------------------------------------------------------


@functools.cache
def _here() -> str:
    """Tells this machine, since it started, from others, and a container from its neighbours."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]


def process_mark(pid: int) -> str:
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


def owner() -> str:
    """This process, as a part of a file's name."""
    return f"{_here()}-{os.getpid()}-{process_mark(os.getpid())}"


def lives(name: str, age: float, patience: float) -> bool:
    """Whether the owner in a file's name still runs; another machine's does while ``age`` is below ``patience``."""
    found = _OWNER.search(name)
    if found is None or found["host"] != _here():
        return age < patience
    return bool(found["mark"]) and process_mark(int(found["pid"])) == found["mark"]


def sweep(paths: Iterable[Path]) -> None:
    """Remove those of these temporary files and folders whose owners are dead."""
    for path in paths:
        with contextlib.suppress(OSError):  # somebody else sweeps too
            if lives(path.name, time.time() - path.stat().st_mtime, ABANDONED):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


# --- writing --------------------------------------------------------------------------------------------------


def write_atomically(path: Path, data: bytes) -> None:
    """The whole file or nothing: a temporary sibling, fsynced, renamed. Raises UserError when the disk is full."""
    temporary = path.with_name(f".{path.name}.{owner()}.tmp")
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
        raise full_disk(error, path) from error
    sync_folder(path.parent)


def full_disk(error: OSError, path: Path) -> Exception:
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
        raise full_disk(error, folder) from error
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


def seal(value: Mapping[str, Any]) -> bytes:
    """JSON that carries, as its field ``sha256``, the checksum of its own text without it."""
    head, mark, rest = to_json({**value, "sha256": ""}).partition(_SEAL)
    return head + mark + hashlib.sha256(head + mark + rest).hexdigest().encode() + rest


def unseal(data: bytes, *, needed: bool) -> dict[str, Any]:
    """What ``seal`` wrote. Raises ValueError when it is not that; without a seal only where none is ``needed``."""
    head, mark, rest = data.partition(_SEAL)
    if mark and hashlib.sha256(head + mark + rest[64:]).hexdigest().encode() != rest[:64]:
        raise ValueError("its checksum differs")
    value = from_json(data)
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    if needed and not mark:
        raise ValueError("it has no checksum")
    return value
