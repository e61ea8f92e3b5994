"""Who is at a run: claims that need no lock of the file system, and that outlive nobody.

A claim is a file that names the run and its owner. To take a run is to write one, then to look at the folder: whoever
finds no other living claim of that run there has it. Of two at a time the later writer sees the earlier one's
file, which stays, so never both have it; and a dead claim's name is never used again, so removing it harms nobody.
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
"""Seconds without a sign of life after which another machine's claim counts as dead."""
HEARTBEAT = 15.0
"""Seconds between signs of life."""
_ACQUIRE_TIMEOUT = 0.5
"""Seconds within which all who claim at once, but for the one who has it, have given way."""


class RunLocks:
    """The claims in a folder, ``<folder>/<key>.<owner>.<draw>``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def acquire(self, key: str) -> bool:
        """Take a run for this process; False while a living process has it, or is just taking it."""
        before = {path.name for path in self._list_markers(key)}
        mine = self.folder / f"{key}.{format_owner()}.{secrets.token_hex(4)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            mine.touch(exist_ok=False)
        except OSError as error:
            raise as_user_error(error, mine) from error
        began = time.monotonic()
        while True:
            elapsed = time.monotonic() - began
            # by the clock of the file system, which is the one that the others' claims have been stamped by
            living, dead = self._classify_markers(key, mine.stat().st_mtime + elapsed)
            others = living - {mine.name}
            if not others:
                break
            if others & before or min(others) < mine.name or elapsed > _ACQUIRE_TIMEOUT:
                mine.unlink(missing_ok=True)
                return False
            time.sleep(0.01)  # those of greater name give way, unless one of them has it
        for name in dead:
            (self.folder / name).unlink(missing_ok=True)
        return True

    def release(self, key: str) -> None:
        """Give back what this process has claimed, and clear away what dead ones have."""
        for path in self._list_markers(key):
            if f".{format_owner()}." in path.name:
                path.unlink(missing_ok=True)
        self.remove_stale(key)

    def remove_stale(self, key: str = "*") -> None:
        """Clear away the claims of this machine's processes that have ended."""
        for path in self._list_markers(key):
            if not is_owner_alive(path.name, 0, LEASE):
                path.unlink(missing_ok=True)

    def is_locked(self, key: str) -> bool:
        """Whether a living process has the run."""
        return bool(self._classify_markers(key, time.time())[0])

    def touch(self, key: str) -> None:
        """A sign of life from this process."""
        for path in self._list_markers(key):
            if f".{format_owner()}." in path.name:
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)

    @contextlib.contextmanager
    def heartbeat(self, key: str) -> Iterator[None]:
        """Signs of life for as long as this is entered, whatever else the process is busy with."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT):
                with contextlib.suppress(OSError):  # a network file system that is away for a moment
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

    def _classify_markers(self, key: str, now: float) -> tuple[set[str], set[str]]:
        """Names of the living claims, and of the dead ones."""
        living: set[str] = set()
        dead: set[str] = set()
        for path in self._list_markers(key):
            with contextlib.suppress(FileNotFoundError):
                age = now - path.stat().st_mtime
                (living if is_owner_alive(path.name, age, LEASE) else dead).add(path.name)
        return living, dead
