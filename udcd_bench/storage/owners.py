"""Owners of temporary files: the process named in a file's name, whether it is alive, and removal of what it left."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STALE_FILE_AGE = 3600.0
"""Seconds after which a temporary file of another machine counts as abandoned."""
_OWNER_PATTERN = re.compile(r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start_time>\d*)")


@functools.cache
def _identify_machine() -> str:
    """Return a name for this machine since its boot that differs between machines and between containers."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:8]


def read_process_start_time(pid: int) -> str:
    """Read when a process started, which tells it from a later one of the same number; empty if it does not run."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        # a zombie, which a container without an init process never reaps, counts as dead
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
    """Format this process as a part of a file's name: ``<machine>-<pid>-<start time>``."""
    return f"{_identify_machine()}-{os.getpid()}-{read_process_start_time(os.getpid())}"


def is_owner_alive(name: str, age: float, max_age: float) -> bool:
    """Return whether the owner in a file's name still runs.

    age: seconds since the file was touched. An owner on another machine counts as alive while ``age < max_age``.
    """
    owner = _OWNER_PATTERN.search(name)
    if owner is None or owner["host"] != _identify_machine():
        return age < max_age
    return bool(owner["start_time"]) and read_process_start_time(int(owner["pid"])) == owner["start_time"]


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link and not what it leads to; nothing where nothing is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_stale_files(paths: Iterable[Path], max_age: float = STALE_FILE_AGE) -> None:
    """Remove those of these temporary files and folders whose owners are dead.

    max_age: seconds after which those of other machines count as abandoned.
    """
    for path in paths:
        with contextlib.suppress(OSError):  # another process may be removing it too
            if is_owner_alive(path.name, time.time() - path.stat().st_mtime, max_age):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
