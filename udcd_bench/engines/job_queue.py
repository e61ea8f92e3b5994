"""What is left to do, one run of it, and what follows from how that ended: the same wherever runs are made."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import RunError, RunMemoryError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from udcd_bench.engines.execute import RunContext
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

Event = dict[str, Any]
"""``kind`` is begin, alive, epoch, note, or of the end of a run busy, done, failed; ``key`` names the run."""
PROGRESS_KINDS = ("begin", "alive", "epoch", "note")
"""Kinds of what is told of a run that has not ended."""

RETRY_INTERVAL = 1.0
"""Seconds after which a run that another process is at is looked at again."""


def read_hang_timeout() -> float:
    """Seconds without a step after which a process counts as hanging: ``UDCD_BENCH_HANG``, or half an hour."""
    said = os.environ.get("UDCD_BENCH_HANG", "1800")
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UserError(f"UDCD_BENCH_HANG={said}: it is a number of seconds, such as 1800.")
    return seconds


@dataclass
class JobQueue:
    """What is left to do, and what has become of the rest."""

    jobs: dict[str, Job]
    waiting: dict[str, Job]
    failed: dict[str, str] = field(default_factory=dict)
    not_before: dict[str, float] = field(default_factory=dict)
    retried: set[str] = field(default_factory=set)
    any_trained: bool = False

    @classmethod
    def from_jobs(cls, jobs: Sequence[Job]) -> JobQueue:
        """Those of the jobs that are not done; teachers before all others, then those of most epochs.

        What starts last is short then, and keeps no idle slot waiting.
        """
        needed = {job.teacher_key for job in jobs}
        order = sorted(jobs, key=lambda job: (job.key not in needed, -job.epochs * job.spec.fraction))
        return cls({job.key: job for job in jobs}, {job.key: job for job in order if not job.done})

    def find_ready(self, unfinished: Container[str | None]) -> Job | None:
        """The first job whose time has come and whose teacher is not in hand."""
        now = time.monotonic()
        for job in self.waiting.values():
            if job.teacher_key not in unfinished and self.not_before.get(job.key, 0) <= now:
                return job
        return None

    def fail_orphans(self, notify: Callable[[Event], None]) -> None:
        """Fail the jobs whose teachers have failed."""
        for job in list(self.waiting.values()):
            if job.teacher_key in self.failed:
                del self.waiting[job.key]
                self.failed[job.key] = "its teacher's run failed"
                notify({"kind": "failed", "key": job.key, "message": self.failed[job.key]})

    def handle_event(self, event: Event, job: Job, store: Store, notify: Callable[[Event], None]) -> None:
        """Draw the consequences of what is told of a job.

        Raises UserError when a run finds something the user can mend before any has trained.
        """
        kind = event["kind"]
        self.any_trained = self.any_trained or kind == "epoch"
        damaged = self.jobs.get(event.get("damaged", ""))
        if kind == "alive":
            return
        if kind in PROGRESS_KINDS:
            notify(event)
        elif kind == "busy":
            self.waiting[job.key] = job
            self.not_before[job.key] = time.monotonic() + RETRY_INTERVAL
        elif damaged and damaged.key not in self.retried:
            self.retried.add(damaged.key)
            if store.find_damage(damaged.key, thorough=True):
                said = f"{event['message']} Moved to {store.quarantine(damaged.key)}. It is made again."
                notify({**event, "kind": "note", "message": said})
            self.waiting = {damaged.key: damaged, job.key: job} | self.waiting
        elif event.get("lost") and job.key not in self.retried:
            self.retried.add(job.key)
            notify({**event, "kind": "note", "message": f"{event['message']}; once more"})
            self.waiting = {job.key: job} | self.waiting
        elif event.get("mend") and not self.any_trained:
            # a wrong device, backbone or file of weights is every run's
            raise UserError(event["message"])
        else:
            if kind == "failed":
                if event.get("lost"):
                    event["message"] += ", twice"
                    store.record_failure(job.key, job.spec, event["message"], "")
                self.failed[job.key] = event["message"]
            notify(event)


def run_job(
    spec: RunSpec,
    key: str,
    teacher_key: str | None,
    store: Store,
    run_context: RunContext,
    notify: Callable[[Event], None],
) -> Event:
    """Claim a run and make it; the event of its end. tell: is told what happens on the way."""
    from udcd_bench.engines.execute import execute_run
    from udcd_bench.runs.store import DamagedRunError

    try:
        if not store.locks.acquire(key):
            return {"kind": "busy", "key": key}
        if store.get_state(key) == "done":
            store.locks.release(key)
        else:
            if said := store.start_run(key, spec):
                notify({"kind": "note", "key": key, "message": f"{said} It is made again."})
            notify({"kind": "begin", "key": key})

            def send_epoch(row: dict[str, Any]) -> None:
                notify({"kind": "epoch", "key": key, "row": row})

            def send_alive() -> None:
                notify({"kind": "alive", "key": key})

            execute_run(spec, key, teacher_key, store, run_context, send_epoch, send_alive)
        return {"kind": "done", "key": key}
    except Exception as error:
        store.locks.release(key)  # where it went wrong before there was a run to give it back
        told = isinstance(error, UserError | RunError)
        message = str(error) if told else f"{type(error).__name__}: {error}"
        event = {"kind": "failed", "key": key, "message": message, "mend": isinstance(error, UserError)}
        if isinstance(error, RunMemoryError):
            event["crowded"] = True
        if isinstance(error, DamagedRunError):
            event["damaged"] = error.key
        return event
