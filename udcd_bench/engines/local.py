"""Runs on this machine: a process a slot, each taking one run after another."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.data import workers
from udcd_bench.errors import RunError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.process import BaseProcess

    from udcd_bench.engines.execute import Place
    from udcd_bench.planner import Job
    from udcd_bench.store import Store

Event = dict[str, Any]
"""``kind`` is begin, epoch, note, done or failed; ``key`` names the run; the rest depends on the kind."""

AGAIN = 1.0
"""Seconds after which a run that another process is at is looked at again."""
SIGN = 1.0
"""Seconds between a process's signs of progress, where there is any."""


def patience() -> float:
    """Seconds without a step after which a process counts as hanging: ``UDCD_BENCH_HANG``, or half an hour."""
    said = os.environ.get("UDCD_BENCH_HANG", "1800")
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UserError(f"UDCD_BENCH_HANG={said}: it is a number of seconds, such as 1800.")
    return seconds


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
    heard: float = 0.0


@dataclass
class _Work:
    """What is left to do, and what has become of the rest."""

    jobs: dict[str, Job]
    waiting: dict[str, Job]
    failed: dict[str, str] = field(default_factory=dict)
    not_before: dict[str, float] = field(default_factory=dict)
    second_chance: set[str] = field(default_factory=set)
    trained: bool = False

    def ready(self, in_hand: set[str]) -> Job | None:
        """The first job whose time has come and whose teacher is done."""
        now = time.monotonic()
        for job in self.waiting.values():
            if job.teacher_key not in in_hand and self.not_before.get(job.key, 0) <= now:
                return job
        return None


def run(
    jobs: Sequence[Job], store: Store, place: Place, slots: int, notify: Callable[[Event], None]
) -> dict[str, str]:
    """Carry out the jobs that are not done, teachers first; returns key → what went wrong, for those that failed.

    One that fails stops no other but those it is the teacher of. One whose process dies or hangs is tried once more;
    one that another process is at is left to it, and looked at again later. Interrupted (KeyboardInterrupt passes
    through), the processes end and every run keeps its last checkpoint. Raises UserError when a run finds something the
    user can mend before any has trained.
    """
    work = _Work({job.key: job for job in jobs}, {job.key: job for job in jobs if not job.done})
    limit = patience()
    pool: list[_Slot] = []
    try:
        pool = [_start(store, place) for _ in range(min(slots, len(work.waiting)))]
        while work.waiting or any(slot.job for slot in pool):
            _give_out(pool, work, notify)
            for slot in _heard_of(pool, limit):
                event = _receive(slot) if slot.pipe.poll() else _hanging(slot, limit)
                if event.get("lost"):
                    _release(store, slot.job)
                    pool[pool.index(slot)] = _start(store, place)
                _judge(event, slot, work, store, notify)
    finally:
        for slot in pool:
            slot.pipe.close()
            slot.process.terminate()
        for slot in pool:
            slot.process.join()
            if slot.job:
                _release(store, slot.job)
    return work.failed


def _give_out(pool: list[_Slot], work: _Work, notify: Callable[[Event], None]) -> None:
    for job in list(work.waiting.values()):
        if job.teacher_key in work.failed:
            del work.waiting[job.key]
            work.failed[job.key] = "its teacher's run failed"
            notify({"kind": "failed", "key": job.key, "message": work.failed[job.key]})
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


def _judge(event: Event, slot: _Slot, work: _Work, store: Store, notify: Callable[[Event], None]) -> None:
    """Draw the consequences of what a slot has said of its job."""
    job, kind = slot.job, event["kind"]
    assert job is not None
    work.trained = work.trained or kind == "epoch"
    if kind == "alive":
        return
    if kind in ("begin", "epoch", "note"):
        notify(event)
        return
    slot.job = None
    damaged = work.jobs.get(event.get("damaged", ""))
    if kind == "busy":
        work.waiting[job.key] = job
        work.not_before[job.key] = time.monotonic() + AGAIN
    elif damaged and damaged.key not in work.second_chance:
        work.second_chance.add(damaged.key)
        if store.damage(damaged.key, thorough=True):
            aside = store.set_aside(damaged.key)
            notify(
                {
                    **event,
                    "kind": "note",
                    "message": f"{event['message']} Moved to {aside}. It is made again.",
                }
            )
        work.waiting = {damaged.key: damaged, job.key: job} | work.waiting
    elif event.get("lost") and job.key not in work.second_chance:
        work.second_chance.add(job.key)
        notify({**event, "kind": "note", "message": f"{event['message']}; once more"})
        work.waiting = {job.key: job} | work.waiting
    elif event.get("mend") and not work.trained:
        # a wrong device, backbone or file of weights is every run's
        raise UserError(event["message"])
    else:
        if kind == "failed":
            if event.get("lost"):
                event["message"] += ", twice"
                store.fail(job.key, job.spec, event["message"], "")
            work.failed[job.key] = event["message"]
        notify(event)


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
    return _Slot(process, ours)


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
    from udcd_bench.engines.execute import execute
    from udcd_bench.store import DamagedError, Store

    store = Store(root)
    while True:
        try:
            spec, key, teacher_key = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            if not store.claims.take(key):
                pipe.send({"kind": "busy", "key": key})
                continue
            if store.state(key) == "done":
                store.claims.release(key)
            else:
                if said := store.begin(key, spec):
                    pipe.send({"kind": "note", "key": key, "message": f"{said} It is made again."})
                pipe.send({"kind": "begin", "key": key})
                teller = _Teller(pipe, key)
                execute(spec, key, teacher_key, store, place, teller.epoch, teller.alive)
            pipe.send({"kind": "done", "key": key})
        except (ConnectionError, EOFError):
            return
        except Exception as error:
            store.claims.release(key)  # where it went wrong before there was a run to give it back
            told = isinstance(error, UserError | RunError)
            message = str(error) if told else f"{type(error).__name__}: {error}"
            event = {"kind": "failed", "key": key, "message": message, "mend": isinstance(error, UserError)}
            if isinstance(error, DamagedError):
                event["damaged"] = error.key
            pipe.send(event)


class _Teller:
    """Tells the parent how a run goes: every epoch, and now and then that there has been a step."""

    def __init__(self, pipe: Connection, key: str) -> None:
        self.pipe, self.key, self.said = pipe, key, time.monotonic()

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is over; row: of its history."""
        self._send({"kind": "epoch", "key": self.key, "row": row})

    def alive(self) -> None:
        """A batch is through."""
        if (now := time.monotonic()) > self.said + SIGN:
            self.said = now
            self._send({"kind": "alive", "key": self.key})

    def _send(self, event: Event) -> None:
        try:
            self.pipe.send(event)
        except OSError:  # the parent is dead, which is no failure of the run
            raise SystemExit(1) from None
