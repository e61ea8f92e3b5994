"""Worker processes of a pool: how they are started, and how they end.

A worker starts by importing this package alone, never the script that uses it, which may be read from a pipe or lack a
guard of its main part. Ctrl-C goes to every process of a terminal: the parent handles it, and workers ignore it.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of CPU time in a period, and the period, as a container sees its own control group."""


def count_cores() -> int:
    """Count the cores that this process may use: those it may run on, or fewer where its container has a quota."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = CPU_QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))  # without a quota the first is the word max
    return max(1, cores)


def open_pool(processes: int) -> ProcessPoolExecutor:
    """Open a pool. Its processes are spawned: a fork of a process that has used threads or CUDA may hang.

    Raises UserError where processes have no shared memory.
    """
    context = multiprocessing.get_context("spawn")
    try:
        return ProcessPoolExecutor(processes, mp_context=context, initializer=start)
    except OSError as error:  # of semaphores, which are files there
        raise UserError(
            f"No worker processes can be started: /dev/shm cannot be written ({error.strerror}); give it room, as by "
            "docker run --shm-size, or do without them, by --jobs 1."
        ) from error


def submit_all(
    pool: ProcessPoolExecutor, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]
) -> list[Future[Any]]:
    """Submit the tasks, each a tuple of arguments; the pool starts its processes meanwhile."""
    with hold_interrupts(), hide_main_module():
        return [pool.submit(function, *task) for task in tasks]


def abandon(pool: ProcessPoolExecutor) -> None:
    """End a pool's processes at once, whatever they are at; a shutdown alone would wait for the tasks begun."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    if pool._result_queue is not None:
        # a process that ended while it sent a result leaves half of it, and the pool would wait for the other half
        pool._result_queue._writer.close()  # type: ignore[attr-defined]
    pool.shutdown(cancel_futures=True)


def start() -> None:
    """Be a worker: ignore Ctrl-C, which the parent handles, and exit when the parent does.

    Otherwise a worker of a killed parent would wait for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()


@contextlib.contextmanager
def hold_interrupts() -> Iterator[None]:
    """Block Ctrl-C, here and in processes that start meanwhile, until they are ready to ignore it."""
    resource_tracker.ensure_running()  # its own start would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def hide_main_module() -> Iterator[None]:
    """Keep processes that start meanwhile from running the main module anew, as ``multiprocessing`` would have them."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__
    }
    main.__dict__["__spec__"] = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)


def _exit_with_parent(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
