"""Initializer of worker processes: ``ProcessPoolExecutor(..., initializer=workers.start)``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def start() -> None:
    """Ignore Ctrl-C, which the parent handles, and exit when the parent does.

    Otherwise a worker of a killed parent would wait for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()


def _exit_with_parent(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
