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
from udcd_bench.engines.job_queue import AGAIN, UNDER_WAY, Event, Work, carry_out, patience

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess

    from udcd_bench.engines.execute import Place
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.store import Store

SIGN = 1.0
"""Seconds between a process's signs of progress, where there is any."""


DEVICES = Path("/dev")


def gpus(device: str) -> list[str]:
    """The GPUs that ``--device`` leaves to choose from, by name; told without the tensor library."""
    if device not in ("auto", "cuda"):
        return [device] if device.startswith("cuda") else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = list(DEVICES.glob("nvidia[0-9]*"))
    names = (
        [name for name in visible.split(",") if name.strip() not in ("", "-1")]
        if visible is not None
        else there
    )
    return [f"cuda:{place}" for place in range(min(len(names), len(there)))]


def slots(device: str, threads: int, jobs: int | None) -> int:
    """Runs at a time: ``jobs``, else one, on each GPU; where there is none ``jobs``, else as many as the cores hold."""
    if found := gpus(device):
        return len(found) * (jobs or 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return jobs or (max(1, cores // threads) if threads else 1)


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
    place: Place
    job: Job | None = None
    heard: float = 0.0


def run(
    jobs: Sequence[Job], store: Store, place: Place, slots: int, notify: Callable[[Event], None]
) -> dict[str, str]:
    """Carry out the jobs that are not done, teachers first; returns key → what went wrong, for those that failed.

    One that fails stops no other but those it is the teacher of. One whose process dies or hangs is tried once more;
    one that another process is at is left to it, and looked at again later. Where memory runs out on a device that runs
    share, fewer share it from then on and the run is made again. Interrupted (KeyboardInterrupt passes
    through), the processes end and every run keeps its last checkpoint. Raises UserError when a run finds something the
    user can mend before any has trained.
    """
    work = Work.of(jobs)
    limit = patience()
    pool: list[_Slot] = []
    try:
        places = _places(place)
        pool = [_start(store, places[n % len(places)]) for n in range(min(slots, len(work.waiting)))]
        while work.waiting or any(slot.job for slot in pool):
            _give_out(pool, work, notify)
            for slot in _heard_of(pool, limit):
                event = _receive(slot) if slot.pipe.poll() else _hanging(slot, limit)
                if event.get("lost"):
                    _release(store, slot.job)
                    pool[pool.index(slot)] = _start(store, slot.place)
                job = slot.job
                assert job is not None
                if event["kind"] not in UNDER_WAY:
                    slot.job = None
                if event.get("crowded") and sum(other.place == slot.place for other in pool) > 1:
                    # what fits beside one another is seen, not guessed: one fewer shares the memory from now on
                    _end([slot], store)
                    pool.remove(slot)
                    work.waiting = {job.key: job} | work.waiting
                    notify(
                        {**event, "kind": "note", "message": f"{event['message']}; one run fewer at a time"}
                    )
                else:
                    work.judge(event, job, store, notify)
    finally:
        _end(pool, store)
    return work.failed


def _end(pool: list[_Slot], store: Store) -> None:
    for slot in pool:
        slot.pipe.close()
        slot.process.terminate()
    for slot in pool:
        slot.process.join()
        if slot.job:
            _release(store, slot.job)


def _places(place: Place) -> list[Place]:
    """Where slots work, taken in turn: each GPU, where there are several."""
    found = gpus(place.device)
    return [replace(place, device=name) for name in found] if len(found) > 1 else [place]


def _give_out(pool: list[_Slot], work: Work, notify: Callable[[Event], None]) -> None:
    work.give_up(notify)
    in_hand = set(work.waiting) | {slot.job.key for slot in pool if slot.job}
    for slot in pool:
        if slot.job is None and (ready := work.ready(in_hand)) is not None:
            slot.job = work.waiting.pop(ready.key)
            slot.heard = time.monotonic()
            with contextlib.suppress(BrokenPipeError):  # a process that died shows at the next receive
                slot.pipe.send((ready.spec, ready.key, ready.teacher_key))


def _heard_of(pool: list[_Slot], limit: float) -> list[_Slot]:
    """The slots that have said something, or nothing for too long; waits a moment for one."""
    busy = {slot.pipe: slot for slot in pool if slot.job}
    if not busy:
        time.sleep(AGAIN / 10)
        return []
    said = [busy[pipe] for pipe in wait(list(busy), timeout=AGAIN)]  # type: ignore[index]
    return said or [slot for slot in busy.values() if time.monotonic() - slot.heard > limit]


def _release(store: Store, job: Job | None) -> None:
    """Clear away the claim of a process that has ended; one that another process holds is not ours to give back."""
    if job is not None:
        store.claims.sweep(job.key)


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
    return _Slot(process, ours, place)


def _receive(slot: _Slot) -> Event:
    assert slot.job is not None
    try:
        event: Event = slot.pipe.recv()
        slot.heard = time.monotonic()
        return event
    except (EOFError, OSError):  # nothing, or half a message
        slot.process.join()
        code = slot.process.exitcode
        how = f"its process ended by itself (exit code {code})"
        if code == -signal.SIGKILL:
            how += ", killed, as the system does when memory runs out (fewer --jobs take less)"
        return {"kind": "failed", "key": slot.job.key, "message": how, "lost": True}


def _hanging(slot: _Slot, limit: float) -> Event:
    assert slot.job is not None
    slot.process.kill()
    slot.process.join()
    how = f"its process made no step for {limit:.0f} s and was ended (UDCD_BENCH_HANG sets how long to wait)"
    return {"kind": "failed", "key": slot.job.key, "message": how, "lost": True}


# --- in the process of a slot ---------------------------------------------------------------------------------


def _serve(pipe: Connection, root: Path, place: Place) -> None:
    """Take runs from the pipe until it closes."""
    workers.start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from udcd_bench.runs.store import Store

    store = Store(root)
    tell = _Teller(pipe)
    while True:
        try:
            spec, key, teacher_key = pipe.recv()
            pipe.send(carry_out(spec, key, teacher_key, store, place, tell))
        except (ConnectionError, EOFError):
            return


class _Teller:
    """Tells the parent how a run goes: every epoch, and now and then that there has been a step."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.said = pipe, time.monotonic()

    def __call__(self, event: Event) -> None:
        """Send it, unless it is one sign of life of many."""
        now = time.monotonic()
        if event["kind"] == "alive" and now <= self.said + SIGN:
            return
        self.said = now
        try:
            self.pipe.send(event)
        except OSError:  # the parent is dead, which is no failure of the run
            raise SystemExit(1) from None
