"""The job queue that all engines share: the order of jobs, running one job, and the policy for retries and failures."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from udcd_bench.engines.events import (
    EpochDone,
    Event,
    Note,
    RunDone,
    RunFailed,
    RunLocked,
    RunStarted,
    StepDone,
)
from udcd_bench.errors import RunError, RunMemoryError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from udcd_bench.engines.execute import RunContext
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.store import Store

RETRY_INTERVAL = 1.0
"""Seconds after which a run that another process has locked is looked at again."""


def read_hang_timeout() -> float:
    """Read the seconds without a step after which a process counts as hung: ``UDCD_BENCH_HANG``, or half an hour."""
    text = os.environ.get("UDCD_BENCH_HANG", "1800")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UserError(f"UDCD_BENCH_HANG={text}: it is a number of seconds, such as 1800.")
    return seconds


@dataclass
class JobQueue:
    """The jobs left to do, and what has become of the others.

    jobs: all, by key. waiting: those not started, in their order. failed: key → message.
    not_before: key → the time, by ``time.monotonic``, before which a job is not tried again.
    retried: keys of jobs that have had their one retry. any_trained: whether any run has finished an epoch.
    started: key → when its run began. rates: (method, backbone) → seconds an epoch of the run that ended last.
    """

    jobs: dict[str, Job]
    waiting: dict[str, Job]
    failed: dict[str, str] = field(default_factory=dict)
    not_before: dict[str, float] = field(default_factory=dict)
    retried: set[str] = field(default_factory=set)
    any_trained: bool = False
    started: dict[str, float] = field(default_factory=dict)
    rates: dict[tuple[str, str], float] = field(default_factory=dict)

    @classmethod
    def from_jobs(cls, jobs: Sequence[Job]) -> JobQueue:
        """Queue the jobs that are not done: teachers before all others, then those of most epochs.

        The jobs that start last are then short, so that few processes idle at the end.
        """
        teachers = {key for job in jobs for key in job.teacher_keys}
        order = sorted(jobs, key=lambda job: (job.key not in teachers, -job.epochs * job.spec.fraction))
        return cls({job.key: job for job in jobs}, {job.key: job for job in order if not job.done})

    def find_ready(self, unfinished: Container[str]) -> Job | None:
        """Find the first job that may be tried now and none of whose teachers is among the unfinished keys.

        Once the time of every such job is known from runs like it, it is the longest.
        """
        now = time.monotonic()
        ready = [
            job
            for job in self.waiting.values()
            if not any(key in unfinished for key in job.teacher_keys)
            and self.not_before.get(job.key, 0) <= now
        ]
        if not ready or any(_get_kind(job) not in self.rates for job in ready):
            return ready[0] if ready else None
        return max(ready, key=lambda job: job.epochs * job.spec.fraction * self.rates[_get_kind(job)])

    def put_first(self, *jobs: Job) -> None:
        """Put these jobs before all others."""
        self.waiting = {job.key: job for job in jobs} | self.waiting

    def fail_orphans(self, notify: Callable[[Event], None]) -> None:
        """Fail the jobs of which a teacher has failed."""
        for job in list(self.waiting.values()):
            if self.failed.keys() & job.teacher_keys:
                del self.waiting[job.key]
                self._fail(RunFailed(job.key, "its teacher's run failed"), notify)

    def handle_event(self, event: Event, job: Job, store: Store, notify: Callable[[Event], None]) -> None:
        """Update the queue by an event of a job, and pass on to ``notify`` what is to be shown.

        Raises UserError when a run fails for a reason the user can fix before any run has trained.
        """
        match event:
            case StepDone():
                pass
            case RunLocked():
                self.waiting[job.key] = job
                self.not_before[job.key] = time.monotonic() + RETRY_INTERVAL
            case RunFailed():
                self._handle_failure(event, job, store, notify)
            case _:
                self.any_trained = self.any_trained or isinstance(event, EpochDone)
                self._note_time(event, job)
                notify(event)

    def _note_time(self, event: Event, job: Job) -> None:
        if isinstance(event, RunStarted):
            self.started[job.key] = time.monotonic()
        elif isinstance(event, RunDone) and job.key in self.started:
            seconds = time.monotonic() - self.started[job.key]
            self.rates[_get_kind(job)] = seconds / (job.epochs * job.spec.fraction)

    def _handle_failure(
        self, failure: RunFailed, job: Job, store: Store, notify: Callable[[Event], None]
    ) -> None:
        damaged = self.jobs.get(failure.damaged_key)
        if damaged and damaged.key not in self.retried:
            self.retried.add(damaged.key)
            if store.find_damage(damaged.key, thorough=True):
                moved = f"{failure.message} Moved to {store.quarantine(damaged.key)}. It is made again."
                notify(Note(job.key, moved))
            self.put_first(damaged, job)
        elif failure.process_died and job.key not in self.retried:
            self.retried.add(job.key)
            notify(Note(job.key, f"{failure.message}; once more"))
            self.put_first(job)
        elif failure.user_error and not self.any_trained:
            # a wrong device, backbone or file of weights would fail every run
            raise UserError(failure.message)
        else:
            if failure.process_died:
                failure = replace(failure, message=f"{failure.message}, twice")
                store.record_failure(job.key, job.spec, failure.message, "")
            self._fail(failure, notify)

    def _fail(self, failure: RunFailed, notify: Callable[[Event], None]) -> None:
        self.failed[failure.key] = failure.message
        notify(failure)


def _get_kind(job: Job) -> tuple[str, str]:
    return job.spec.method, job.spec.backbone


def run_job(job: Job, context: RunContext, notify: Callable[[Event], None]) -> Event:
    """Lock a run, train it and return the event of its end. notify: called with what happens before."""
    from udcd_bench.engines.execute import execute_run
    from udcd_bench.runs.finished import DamagedRunError

    key, store = job.key, context.store
    try:
        if not store.acquire(key):
            return RunLocked(key)
        if store.get_state(key) == "done":
            store.release(key)
        else:
            if message := store.start_run(key, job.spec):
                notify(Note(key, f"{message} It is made again."))
            notify(RunStarted(key))
            execute_run(job, context, notify)
        return RunDone(key)
    except Exception as error:
        store.release(key)  # for errors before ``execute_run``, which releases it itself
        return RunFailed(
            key,
            str(error) if isinstance(error, UserError | RunError) else f"{type(error).__name__}: {error}",
            user_error=isinstance(error, UserError),
            out_of_memory=isinstance(error, RunMemoryError),
            damaged_key=error.key if isinstance(error, DamagedRunError) else "",
        )
