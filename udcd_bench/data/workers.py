"""Initializer of worker processes: ``ProcessPoolExecutor(..., initializer=workers.start)``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def start() -> None:
    """Leave Ctrl-C to the parent, and exit when the parent does: else a worker of a killed parent waits for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()


def _exit_with_parent(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
