"""Run locks that need no locks of the file system: one marker file per contender; markers of dead owners are ignored.

To lock a run, a process writes a marker that names the run and itself, then lists the folder: if it finds no other
living owner's marker of that run, it has the lock. Of two processes at a time the later writer sees the earlier one's
marker, so they never both have it. A dead owner's marker is never reused, so removing it is always safe.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING

from udcd_bench.storage.atomic import as_user_error
from udcd_bench.storage.owners import format_owner, is_owner_alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEASE = 120.0
"""Seconds without a heartbeat after which another machine's marker counts as dead."""
HEARTBEAT = 15.0
"""Seconds between heartbeats."""
_ACQUIRE_TIMEOUT = 0.5
"""Seconds within which all contenders but the one that gets the lock have given up."""


class RunLocks:
    """The markers in a folder, ``<folder>/<key>.<owner>.<random>``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def acquire(self, key: str) -> bool:
        """Lock a run for this process; return False while a living process has it or is about to."""
        before = {path.name for path in self._list_markers(key)}
        marker = self.folder / f"{key}.{format_owner()}.{secrets.token_hex(4)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            marker.touch(exist_ok=False)
        except OSError as error:
            raise as_user_error(error, marker) from error
        began = time.monotonic()
        while True:
            elapsed = time.monotonic() - began
            # by the file system's clock, which has stamped the other markers too
            living, dead = self._classify_markers(key, marker.stat().st_mtime + elapsed)
            others = living - {marker.name}
            if not others:
                break
            if others & before or min(others) < marker.name or elapsed > _ACQUIRE_TIMEOUT:
                marker.unlink(missing_ok=True)
                return False
            time.sleep(0.01)  # contenders with greater names give up, unless one of them has the lock
        for name in dead:
            (self.folder / name).unlink(missing_ok=True)
        return True

    def release(self, key: str) -> None:
        """Release this process's lock of a run, and remove markers of dead owners."""
        for path in self._list_own_markers(key):
            path.unlink(missing_ok=True)
        self.remove_stale(key)

    def remove_stale(self, key: str = "*") -> None:
        """Remove the markers of processes of this machine that have ended."""
        for path in self._list_markers(key):
            if not is_owner_alive(path.name, 0, LEASE):
                path.unlink(missing_ok=True)

    def is_locked(self, key: str) -> bool:
        """Return whether a living process has the run."""
        return bool(self._classify_markers(key, time.time())[0])

    def list_keys(self) -> set[str]:
        """List the runs that have a marker, of a living owner or a dead one."""
        return {path.name.partition(".")[0] for path in self._list_markers("*")}

    def touch(self, key: str) -> None:
        """Give one heartbeat for this process's lock."""
        for path in self._list_own_markers(key):
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)

    @contextlib.contextmanager
    def heartbeat(self, key: str) -> Iterator[None]:
        """Give heartbeats from a thread while the context is entered, however busy the process is."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT):
                with contextlib.suppress(OSError):  # a network file system may be away for a moment
                    self.touch(key)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _list_markers(self, key: str) -> list[Path]:
        return list(self.folder.glob(f"{key}.*"))

    def _list_own_markers(self, key: str) -> list[Path]:
        return [path for path in self._list_markers(key) if f".{format_owner()}." in path.name]

    def _classify_markers(self, key: str, now: float) -> tuple[set[str], set[str]]:
        """Return the names of the markers of living owners, and of dead ones."""
        living: set[str] = set()
        dead: set[str] = set()
        for path in self._list_markers(key):
            with contextlib.suppress(FileNotFoundError):
                age = now - path.stat().st_mtime
                (living if is_owner_alive(path.name, age, LEASE) else dead).add(path.name)
        return living, dead
