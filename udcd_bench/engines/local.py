"""Runs on this machine: one worker process per slot, which carries out one run after another.

Worker processes are forked from a server that has made the imports of a run once for all of them (``preload``).
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from udcd_bench.data import workers
from udcd_bench.engines.events import END_EVENTS, Event, Note, RunFailed, StepDone
from udcd_bench.engines.job_queue import RETRY_INTERVAL, JobQueue, read_hang_timeout, run_job
from udcd_bench.engines.server import replace_environment, start_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess

    from udcd_bench.engines.execute import RunContext
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.store import Store

PROGRESS_INTERVAL = 1.0
"""Least seconds between two signs of progress: a worker sends one after a step, unless the last is more recent."""

DEVICE_DIR = Path("/dev")


def list_gpus(device: str) -> list[str]:
    """List the GPUs that ``--device`` leaves to choose from (``cuda:0`` …), without loading torch."""
    if device not in ("auto", "cuda"):
        return [device] if device.startswith("cuda") else []
    count = len(list(DEVICE_DIR.glob("nvidia[0-9]*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        count = min(count, sum(name.strip() not in ("", "-1") for name in visible.split(",")))
    return [f"cuda:{index}" for index in range(count)]


def count_slots(device: str, threads: int, jobs: int | None) -> int:
    """Count the runs to make at a time: ``jobs`` on each GPU, or without a GPU ``jobs`` in all.

    jobs: None for the default, one run per GPU, or without a GPU as many as the cores hold.
    threads: CPU threads per run, 0 for all cores.
    """
    if gpus := list_gpus(device):
        return len(gpus) * (jobs or 1)
    cores = workers.count_cores()
    return jobs or (max(1, cores // threads) if threads else 1)


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    run_context: RunContext
    job: Job | None = None
    last_heard: float = 0.0


def run(
    jobs: Sequence[Job], run_context: RunContext, slots: int, notify: Callable[[Event], None]
) -> dict[str, str]:
    """Carry out the jobs that are not done, teachers first, and return key → message of those that failed.

    A failed run stops no other run except those it is the teacher of. A run whose process dies or hangs is tried once
    more. A run locked by another process is skipped and polled again. When memory runs out on a device that several
    runs share, one run fewer shares it from then on and the run is made again. On KeyboardInterrupt the processes end
    and every run keeps its last checkpoint.

    Raises UserError when a run fails by something the user can fix before any run has trained.
    """
    queue, store = JobQueue.from_jobs(jobs), run_context.store
    hang_timeout = read_hang_timeout()
    pool: list[_Worker] = []
    try:
        contexts = _make_contexts(run_context)
        count = min(slots, len(queue.waiting))
        pool.extend(_start_worker(contexts[n % len(contexts)]) for n in range(count))
        while queue.waiting or any(worker.job for worker in pool):
            _assign_jobs(pool, queue, notify)
            for worker in _poll_workers(pool, hang_timeout):
                event = _receive_event(worker) if worker.pipe.poll() else _kill_hung(worker, hang_timeout)
                _handle_event(event, worker, pool, queue, notify)
    finally:
        _stop_workers(pool, store)
    return queue.failed


def _handle_event(
    event: Event, worker: _Worker, pool: list[_Worker], queue: JobQueue, notify: Callable[[Event], None]
) -> None:
    """Apply an event to the pool (replace a lost worker, make room on a crowded device) and to the queue."""
    job, store = worker.job, worker.run_context.store
    assert job is not None
    failure = event if isinstance(event, RunFailed) else None
    if failure and failure.process_died:
        store.locks.remove_stale(job.key)
        pool[pool.index(worker)] = _start_worker(worker.run_context)
    if isinstance(event, END_EVENTS):
        worker.job = None
    shared = sum(other.run_context == worker.run_context for other in pool) > 1
    if failure and failure.out_of_memory and shared:
        # how many runs fit beside one another is observed, not estimated
        _stop_workers([worker], store)
        pool.remove(worker)
        queue.put_first(job)
        notify(Note(job.key, f"{failure.message}; one run fewer at a time"))
    else:
        queue.handle_event(event, job, store, notify)


def _make_contexts(run_context: RunContext) -> list[RunContext]:
    """List the contexts that workers take in turn: one for each GPU where there are several."""
    gpus = list_gpus(run_context.device)
    return [replace(run_context, device=name) for name in gpus] if len(gpus) > 1 else [run_context]


def _assign_jobs(pool: list[_Worker], queue: JobQueue, notify: Callable[[Event], None]) -> None:
    """Give every idle worker a job, as far as there are any that can start."""
    queue.fail_orphans(notify)
    unfinished = set(queue.waiting) | {worker.job.key for worker in pool if worker.job}
    for worker in pool:
        if worker.job is None and (ready := queue.find_ready(unfinished)) is not None:
            worker.job = queue.waiting.pop(ready.key)
            worker.last_heard = time.monotonic()
            with contextlib.suppress(BrokenPipeError):  # a process that died shows at the next receive
                worker.pipe.send(ready)


def _poll_workers(pool: list[_Worker], hang_timeout: float) -> list[_Worker]:
    """Wait a moment for workers that have sent something; return them, or else those silent for too long."""
    busy = {worker.pipe: worker for worker in pool if worker.job}
    if not busy:
        time.sleep(RETRY_INTERVAL / 10)
        return []
    ready = [busy[pipe] for pipe in wait(list(busy), timeout=RETRY_INTERVAL)]  # type: ignore[index]
    return ready or [
        worker for worker in busy.values() if time.monotonic() - worker.last_heard > hang_timeout
    ]


def _receive_event(worker: _Worker) -> Event:
    """Receive what a worker has sent; ``RunFailed`` with ``process_died`` if its process has ended."""
    assert worker.job is not None
    try:
        event: Event = worker.pipe.recv()
        worker.last_heard = time.monotonic()
        return event
    except (EOFError, OSError):  # nothing, or half a message
        worker.process.join()
        code = worker.process.exitcode
        message = f"its process ended by itself (exit code {code})"
        if code == -signal.SIGKILL:
            message += ", killed, as the system does when memory runs out (fewer --jobs take less)"
        return RunFailed(worker.job.key, message, process_died=True)


def _kill_hung(worker: _Worker, hang_timeout: float) -> Event:
    """End a worker that hangs and return the event of its run's end."""
    assert worker.job is not None
    worker.process.kill()
    worker.process.join()
    message = f"its process made no step for {hang_timeout:.0f} s and was ended (UDCD_BENCH_HANG sets how long to wait)"
    return RunFailed(worker.job.key, message, process_died=True)


def _stop_workers(pool: list[_Worker], store: Store) -> None:
    for worker in pool:
        worker.pipe.close()
        worker.process.terminate()
    for worker in pool:
        worker.process.join()
        if worker.job:  # the lock may be another process's, which this leaves alone
            store.locks.remove_stale(worker.job.key)


# --- starting processes ---------------------------------------------------------------------------------------


def _start_worker(run_context: RunContext) -> _Worker:
    start_server()
    context = multiprocessing.get_context("forkserver")
    parent_end, child_end = context.Pipe()
    # the environment that the server has is that of its own start
    arguments = (dict(os.environ), child_end, run_context)
    process = context.Process(target=_run_worker, args=arguments, daemon=True)
    with workers.hide_main_module():
        process.start()
    child_end.close()
    return _Worker(process, parent_end, run_context)


# --- in a worker's process ------------------------------------------------------------------------------------


def _run_worker(environment: dict[str, str], pipe: Connection, run_context: RunContext) -> None:
    """Be a worker: leave Ctrl-C to the parent, end with it, and serve runs meanwhile."""
    gc.freeze()  # no collection visits what the server has imported, so that memory stays shared
    workers.start()
    replace_environment(environment)
    _serve_runs(pipe, run_context)


def _serve_runs(pipe: Connection, run_context: RunContext) -> None:
    """Take runs from the pipe and send their events until the pipe closes."""
    send_event = _EventSender(pipe)
    while True:
        try:
            job = pipe.recv()
            pipe.send(run_job(job, run_context, send_event))
        except (ConnectionError, EOFError):
            return


class _EventSender:
    """Sends the parent every event of a run, but of those that only show progress at most one a second."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.last_sent = pipe, time.monotonic()

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, StepDone) and now <= self.last_sent + PROGRESS_INTERVAL:
            return
        self.last_sent = now
        try:
            self.pipe.send(event)
        except OSError:  # the parent is dead, which is no failure of the run
            raise SystemExit(1) from None
