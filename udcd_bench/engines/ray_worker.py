"""What runs in a process of a Ray cluster: one run, checked to be the one that was planned, under a watchdog."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import time
from typing import TYPE_CHECKING

from udcd_bench.engines.events import Event, Note, RunDone, RunFailed, RunLocked
from udcd_bench.engines.job_queue import read_hang_timeout, run_job
from udcd_bench.engines.local import PROGRESS_INTERVAL
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from udcd_bench.engines.execute import RunContext
    from udcd_bench.runs.planner import Job


def run_task(job: Job, context: RunContext, working_dir: Path, *teacher_events: list[Event]) -> list[Event]:
    """Make a run and return its notes and, last, its end. teacher_events: what each teacher's task has returned."""
    if not all(isinstance(events[-1], RunDone) for events in teacher_events):
        return [RunLocked(job.key)]  # the queue decides, once it has handled the teacher's end
    watchdog = _Watchdog(read_hang_timeout())
    with contextlib.suppress(OSError):
        os.chdir(working_dir)  # for relative paths of images
    try:
        _check_same_inputs(job, context)
    except UserError as error:
        return [RunFailed(job.key, f"{socket.gethostname()}: {error}", user_error=True)]
    try:
        end = run_job(job, context, watchdog.notify)
        return [*watchdog.notes, end]
    finally:
        faulthandler.cancel_dump_traceback_later()


def _check_same_inputs(job: Job, context: RunContext) -> None:
    """Raise UserError unless this machine sees the results folder and would make the run from the same inputs."""
    from udcd_bench.engines.execute import collect_run_inputs, load_data

    if not context.store.version_path.exists():
        raise UserError(
            f"{context.store.root} does not exist on this machine; all machines of the cluster have to share the "
            "results folder."
        )
    inputs = collect_run_inputs(job.spec, context, load_data)
    if inputs.take_teacher_keys(job.inputs).compute_key() != job.key:
        raise UserError(
            "its udcd-bench, method, weights or data is another one; install the same on every machine."
        )


class _Watchdog:
    """Ends this process when no event has come for ``hang_timeout`` seconds, and collects the notes among events."""

    def __init__(self, hang_timeout: float) -> None:
        self.hang_timeout = hang_timeout
        self.notes: list[Event] = []
        self.armed_at = 0.0

    def notify(self, event: Event) -> None:
        """Handle an event of the run."""
        if isinstance(event, Note):
            self.notes.append(event)
        if (now := time.monotonic()) > self.armed_at + PROGRESS_INTERVAL:
            self.armed_at = now
            # works in whatever library the process hangs; Ray then repeats the run
            faulthandler.dump_traceback_later(self.hang_timeout, exit=True, file=2)
