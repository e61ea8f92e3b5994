"""The server that worker processes are forked from: a run's imports made once, its start and end."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

from udcd_bench.data import workers

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_TEMP_DIR = 60
"""Bytes of a folder's path in which the socket of a process still has a valid path."""

# What a step frees, the next step asks for again, so glibc should keep it rather than return it to the system. Huge
# pages took between 0 and 9 % off the CPU time of an epoch, from one measurement to another. glibc reads these when a
# process starts; they are meant for the workers alone.
ALLOCATOR_ENV = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "67108864",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def start_server() -> None:
    """Start the server that workers are forked from, unless it runs; return at once, while it makes the imports."""
    for name, value in ALLOCATOR_ENV.items():
        os.environ.setdefault(name, value)
    multiprocessing.set_forkserver_preload(["udcd_bench.engines.preload"])
    with _export_module_path(), workers.hold_interrupts(), workers.hide_main_module():
        _shorten_socket_path()
        forkserver.ensure_running()
    atexit.unregister(_end_server)
    atexit.register(_end_server)


def _shorten_socket_path() -> None:
    """Put the processes' sockets into a folder of a short name: the path of one has at most 107 bytes."""
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_TEMP_DIR:
        before, tempfile.tempdir = tempfile.tempdir, "/tmp"
        try:
            multiprocessing.util.get_temp_dir()  # made once in a process, and removed at its end
        finally:
            tempfile.tempdir = before


def _end_server() -> None:
    """End the server with the command: while it makes its imports, it holds the command's output open."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


@contextlib.contextmanager
def _export_module_path() -> Iterator[None]:
    """Make a Python process that starts meanwhile find the modules that this one finds, and no others first."""
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        replace_environment(before)


def replace_environment(environment: dict[str, str]) -> None:
    """Make this process's environment variables exactly these."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
