"""Runs on this machine: a process a slot, each taking one run after another."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.data import workers
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess

    from udcd_bench.engines.execute import Place
    from udcd_bench.planner import Job
    from udcd_bench.store import Store

Event = dict[str, Any]
"""``kind`` is begin, epoch, done or failed; ``key`` names the run; the rest depends on the kind."""


def default_slots(device: str, threads: int) -> int:
    """Runs at a time: one where there is a GPU to fill, else as many as the cores hold."""
    gpu = device.startswith("cuda") or (device == "auto" and any(Path("/dev").glob("nvidia[0-9]*")))
    if gpu:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads) if threads else 1


# What a step frees, the next asks for again: glibc shall keep it rather than hand it back to the system each time. Read
# when a process starts, so it is for the slots' processes alone.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass
class _Slot:
    process: BaseProcess
    pipe: Connection
    job: Job | None = None


def run(
    jobs: Sequence[Job], store: Store, place: Place, slots: int, notify: Callable[[Event], None]
) -> dict[str, str]:
    """Carry out the jobs that are not done, teachers first; returns key → what went wrong, for those that failed.

    One that fails stops no other but those it is the teacher of. Interrupted (KeyboardInterrupt passes through), the
    processes end and every run keeps its last checkpoint. Raises UserError when a run finds something the user can mend
    before any has trained.
    """
    waiting = {job.key: job for job in jobs if not job.done}
    slots = min(slots, len(waiting))
    failed: dict[str, str] = {}
    trained = False
    pool: list[_Slot] = []
    try:
        pool = [_start(store, place) for _ in range(slots)]
        while waiting or any(slot.job for slot in pool):
            _give_out(pool, waiting, failed, notify)
            busy = {slot.pipe: slot for slot in pool if slot.job}
            if not busy:
                continue
            for pipe in wait(list(busy)):
                slot = busy[pipe]  # type: ignore[index]
                assert slot.job is not None
                event = _receive(slot)
                trained = trained or event["kind"] == "epoch"
                if event.get("mend") and not trained:
                    # a wrong device, backbone or file of weights is every run's
                    raise UserError(event["message"])
                notify(event)
                if event["kind"] == "failed":
                    failed[slot.job.key] = event["message"]
                if event.get("lost"):
                    store.fail(slot.job.key, slot.job.spec, event["message"], "")
                    _release(store, slot.job)
                if event["kind"] in ("done", "failed"):
                    slot.job = None
                if event.get("lost"):
                    pool[pool.index(slot)] = _start(store, place)
    finally:
        for slot in pool:
            slot.pipe.close()
            slot.process.terminate()
        for slot in pool:
            slot.process.join()
            if slot.job:
                _release(store, slot.job)
    return failed


def _release(store: Store, job: Job) -> None:
    """Clear away the claim of a process that has ended; one that another process holds is not ours to give back."""
    if store.state(job.key) != "running":
        store.release(job.key)


def _start(store: Store, place: Place) -> _Slot:
    for name, value in ALLOCATOR.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, store.root, place), daemon=True)
    # Ctrl-C goes to the whole group: none reaches the process until it can say that it is not meant
    resource_tracker.ensure_running()  # its own start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Slot(process, ours)


def _give_out(
    pool: list[_Slot], waiting: dict[str, Job], failed: dict[str, str], notify: Callable[[Event], None]
) -> None:
    for job in list(waiting.values()):
        if job.teacher_key in failed:
            del waiting[job.key]
            failed[job.key] = "its teacher's run failed"
            notify({"kind": "failed", "key": job.key, "message": failed[job.key]})
    in_hand = set(waiting) | {slot.job.key for slot in pool if slot.job}
    for slot in pool:
        ready = next((job for job in waiting.values() if job.teacher_key not in in_hand), None)
        if slot.job is None and ready is not None:
            slot.job = waiting.pop(ready.key)
            with contextlib.suppress(BrokenPipeError):  # a process that died shows at the next receive
                slot.pipe.send((ready.spec, ready.key, ready.teacher_key))


def _receive(slot: _Slot) -> Event:
    assert slot.job is not None
    try:
        event: Event = slot.pipe.recv()
        return event
    except (EOFError, OSError):  # nothing, or half a message
        slot.process.join()
        how = f"its process ended by itself (exit code {slot.process.exitcode})"
        return {"kind": "failed", "key": slot.job.key, "message": how, "lost": True}


# --- in the process of a slot ---------------------------------------------------------------------------------


def _serve(pipe: Connection, root: Path, place: Place) -> None:
    """Take runs from the pipe until it closes."""
    workers.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from udcd_bench.engines.execute import execute
    from udcd_bench.store import Store

    store = Store(root)
    while True:
        try:
            spec, key, teacher_key = pipe.recv()
        except EOFError:
            return
        try:
            while not store.claim(key):
                # somebody else is at it; when they are done or dead, this goes on
                time.sleep(1)
            if store.state_is_done(key):
                store.release(key)
            else:
                store.begin(key, spec)
                pipe.send({"kind": "begin", "key": key})

                def report(row: dict[str, Any], key: str = key) -> None:
                    pipe.send({"kind": "epoch", "key": key, "row": row})

                execute(spec, key, teacher_key, store, place, report)
            pipe.send({"kind": "done", "key": key})
        except (BrokenPipeError, EOFError):
            return
        except Exception as error:
            message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            pipe.send(
                {"kind": "failed", "key": key, "message": message, "mend": isinstance(error, UserError)}
            )
