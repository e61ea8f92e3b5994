"""Runs on this machine: a process a slot, each taking one run after another."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from udcd_bench.data import workers
from udcd_bench.engines.events import END_EVENTS, Event, Note, RunFailed, StepDone
from udcd_bench.engines.job_queue import RETRY_INTERVAL, JobQueue, read_hang_timeout, run_job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess

    from udcd_bench.engines.execute import RunContext
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.store import Store

PROGRESS_INTERVAL = 1.0
"""Seconds between a process's signs of progress, where there is any."""


DEVICE_DIR = Path("/dev")


def list_gpus(device: str) -> list[str]:
    """The GPUs that ``--device`` leaves to choose from, by name; told without the tensor library."""
    if device not in ("auto", "cuda"):
        return [device] if device.startswith("cuda") else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = list(DEVICE_DIR.glob("nvidia[0-9]*"))
    names = (
        [name for name in visible.split(",") if name.strip() not in ("", "-1")]
        if visible is not None
        else there
    )
    return [f"cuda:{place}" for place in range(min(len(names), len(there)))]


def count_slots(device: str, threads: int, jobs: int | None) -> int:
    """Runs at a time: ``jobs``, else one, on each GPU; where there is none ``jobs``, else as many as the cores hold."""
    if found := list_gpus(device):
        return len(found) * (jobs or 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return jobs or (max(1, cores // threads) if threads else 1)


# What a step frees, the next asks for again: glibc shall keep it rather than hand it back to the system each time. Read
# when a process starts, so it is for the slots' processes alone.
ALLOCATOR_ENV = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "67108864",
}


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
    """Carry out the jobs that are not done, teachers first; returns key → what went wrong, for those that failed.

    One that fails stops no other but those it is the teacher of. One whose process dies or hangs is tried once more;
    one that another process is at is left to it, and looked at again later. Where memory runs out on a device that runs
    share, fewer share it from then on and the run is made again. Interrupted (KeyboardInterrupt passes
    through), the processes end and every run keeps its last checkpoint. Raises UserError when a run finds something the
    user can mend before any has trained.
    """
    work, store = JobQueue.from_jobs(jobs), run_context.store
    limit = read_hang_timeout()
    pool: list[_Worker] = []
    try:
        places = _make_contexts(run_context)
        pool = [_start_worker(places[n % len(places)]) for n in range(min(slots, len(work.waiting)))]
        while work.waiting or any(slot.job for slot in pool):
            _assign_jobs(pool, work, notify)
            for slot in _poll_workers(pool, limit):
                event = _receive_event(slot) if slot.pipe.poll() else _kill_hung(slot, limit)
                failure = event if isinstance(event, RunFailed) else None
                if failure and failure.process_died:
                    _remove_stale_lock(store, slot.job)
                    pool[pool.index(slot)] = _start_worker(slot.run_context)
                job = slot.job
                assert job is not None
                if isinstance(event, END_EVENTS):
                    slot.job = None
                shared = sum(other.run_context == slot.run_context for other in pool) > 1
                if failure and failure.out_of_memory and shared:
                    # what fits beside one another is seen, not guessed: one fewer shares the memory from now on
                    _stop_workers([slot], store)
                    pool.remove(slot)
                    work.put_first(job)
                    notify(Note(job.key, f"{failure.message}; one run fewer at a time"))
                else:
                    work.handle_event(event, job, store, notify)
    finally:
        _stop_workers(pool, store)
    return work.failed


def _stop_workers(pool: list[_Worker], store: Store) -> None:
    for slot in pool:
        slot.pipe.close()
        slot.process.terminate()
    for slot in pool:
        slot.process.join()
        if slot.job:
            _remove_stale_lock(store, slot.job)


def _make_contexts(run_context: RunContext) -> list[RunContext]:
    """Where slots work, taken in turn: each GPU, where there are several."""
    found = list_gpus(run_context.device)
    return [replace(run_context, device=name) for name in found] if len(found) > 1 else [run_context]


def _assign_jobs(pool: list[_Worker], queue: JobQueue, notify: Callable[[Event], None]) -> None:
    queue.fail_orphans(notify)
    in_hand = set(queue.waiting) | {slot.job.key for slot in pool if slot.job}
    for slot in pool:
        if slot.job is None and (ready := queue.find_ready(in_hand)) is not None:
            slot.job = queue.waiting.pop(ready.key)
            slot.last_heard = time.monotonic()
            with contextlib.suppress(BrokenPipeError):  # a process that died shows at the next receive
                slot.pipe.send(ready)


def _poll_workers(pool: list[_Worker], hang_timeout: float) -> list[_Worker]:
    """The slots that have said something, or nothing for too long; waits a moment for one."""
    busy = {slot.pipe: slot for slot in pool if slot.job}
    if not busy:
        time.sleep(RETRY_INTERVAL / 10)
        return []
    said = [busy[pipe] for pipe in wait(list(busy), timeout=RETRY_INTERVAL)]  # type: ignore[index]
    return said or [slot for slot in busy.values() if time.monotonic() - slot.last_heard > hang_timeout]


def _remove_stale_lock(store: Store, job: Job | None) -> None:
    """Clear away the claim of a process that has ended; one that another process holds is not ours to give back."""
    if job is not None:
        store.locks.remove_stale(job.key)


def _start_worker(run_context: RunContext) -> _Worker:
    for name, value in ALLOCATOR_ENV.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_runs, args=(theirs, run_context), daemon=True)
    # Ctrl-C goes to the whole group: none reaches the process until it can say that it is not meant
    resource_tracker.ensure_running()  # its own start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Worker(process, ours, run_context)


def _receive_event(worker: _Worker) -> Event:
    assert worker.job is not None
    try:
        event: Event = worker.pipe.recv()
        worker.last_heard = time.monotonic()
        return event
    except (EOFError, OSError):  # nothing, or half a message
        worker.process.join()
        code = worker.process.exitcode
        how = f"its process ended by itself (exit code {code})"
        if code == -signal.SIGKILL:
            how += ", killed, as the system does when memory runs out (fewer --jobs take less)"
        return RunFailed(worker.job.key, how, process_died=True)


def _kill_hung(worker: _Worker, hang_timeout: float) -> Event:
    assert worker.job is not None
    worker.process.kill()
    worker.process.join()
    how = f"its process made no step for {hang_timeout:.0f} s and was ended (UDCD_BENCH_HANG sets how long to wait)"
    return RunFailed(worker.job.key, how, process_died=True)


# --- in the process of a slot ---------------------------------------------------------------------------------


def _serve_runs(pipe: Connection, run_context: RunContext) -> None:
    """Take runs from the pipe until it closes."""
    workers.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    send_event = _EventSender(pipe)
    while True:
        try:
            job = pipe.recv()
            pipe.send(run_job(job, run_context, send_event))
        except (ConnectionError, EOFError):
            return


class _EventSender:
    """Tells the parent how a run goes: every epoch, and now and then that there has been a step."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.last_sent = pipe, time.monotonic()

    def __call__(self, event: Event) -> None:
        """Send it, unless it is one sign of life of many."""
        now = time.monotonic()
        if isinstance(event, StepDone) and now <= self.last_sent + PROGRESS_INTERVAL:
            return
        self.last_sent = now
        try:
            self.pipe.send(event)
        except OSError:  # the parent is dead, which is no failure of the run
            raise SystemExit(1) from None
