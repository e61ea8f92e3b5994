"""What is shown of runs under way: in a terminal a display, elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli.training.estimates import format_duration
from udcd_bench.engines.events import EpochDone, Event, Note, RunDone, RunFailed, RunStarted
from udcd_bench.errors import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from udcd_bench.runs.planner import Job


REPORT_INTERVAL = 180.0
"""Seconds between two lines on how far all runs are, where the output is no terminal."""
MOST_NAMED = 3
"""Most runs under way that such a line names."""


class ProgressBoard:
    """Shows the events of an engine: live in a terminal, else a line for each finished run and one every few minutes.

    epochs_left: by key, of all stages. An earlier start's epochs are not left.
    """

    def __init__(self, jobs: Sequence[Job], slots: int) -> None:
        self.jobs = {job.key: job for job in jobs if not job.done}
        self.slots = max(1, min(slots, len(self.jobs)))
        self.epochs_left = {key: job.epochs for key, job in self.jobs.items()}
        self.began = time.monotonic()
        self.last_event_at: dict[str, float] = {}
        self.epoch_seconds: dict[str, list[float]] = {}
        self.under_way: list[str] = []
        self.finished = 0
        self.live: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        self.lock, self.closed = threading.Lock(), threading.Event()
        self.reporter = threading.Thread(target=self._report_regularly, daemon=True)

    def __enter__(self) -> ProgressBoard:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
            self.live = Progress(*columns, TextColumn("{task.fields[remark]}", markup=False), console=console)
            self.live.start()
            self.overall = self.live.add_task(
                "the run" if len(self.jobs) == 1 else f"all {len(self.jobs)} runs",
                total=self._count_epochs(),
                remark="",
            )
        else:
            self.reporter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()
        else:
            self.closed.set()
            self.reporter.join()

    def notify(self, event: Event) -> None:
        """Show one event of the engine."""
        with self.lock:
            self._show(event)

    def _show(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.last_event_at[event.key] = time.monotonic()
                self._start_run(event.key)
            case EpochDone():
                self._advance(event.key, event.row)
            case Note():
                self._print_line(f"{self.jobs[event.key].spec.format_label()}: {event.message}")
            case RunFailed():
                self._finish_run(event.key, "FAILED", f": {event.message}")
            case RunDone():
                self._finish_run(event.key, "done")

    def _start_run(self, key: str) -> None:
        if key not in self.under_way:
            self.under_way.append(key)
        if self.live:
            label = self.jobs[key].spec.format_label()
            self.tasks[key] = self.live.add_task(label, total=self.jobs[key].epochs, remark="")

    def _advance(self, key: str, row: dict[str, Any]) -> None:
        from udcd_bench.runs import planner

        now, job = time.monotonic(), self.jobs[key]
        stages = planner.count_stage_epochs(job.spec)
        earlier_stages = list(stages)[: list(stages).index(row["stage"])]
        epochs_done = sum(stages[name] for name in earlier_stages) + row["epoch"] + 1
        self.epochs_left[key] = job.epochs - epochs_done
        self.epoch_seconds.setdefault(key, []).append(now - self.last_event_at[key])
        self.last_event_at[key] = now
        if self.live:
            remark = f"loss {row['loss']:.3f}  {row['images_per_s']:.0f} images/s"
            self.live.update(self.tasks[key], completed=epochs_done, remark=remark)
            total_done = self._count_epochs() - sum(self.epochs_left.values())
            self.live.update(self.overall, completed=total_done, remark=f"{self._format_remaining()} left")

    def _finish_run(self, key: str, outcome: str, reason: str = "") -> None:
        self.finished += 1
        self.epochs_left[key] = 0
        if key in self.under_way:
            self.under_way.remove(key)
        if self.live and key in self.tasks:
            self.live.remove_task(self.tasks.pop(key))
        line = f"[{self.finished}/{len(self.jobs)}] {self.jobs[key].spec.format_label()}: {outcome}"
        if self.finished < len(self.jobs) and self.epoch_seconds:
            line += f", {self._format_remaining()} left"
        self._print_line(line + reason)

    def _report_regularly(self) -> None:
        """Print how far all runs are, until the board is closed: an epoch may take hours, and a pipe shows no bar."""
        while not self.closed.wait(REPORT_INTERVAL):
            with self.lock, contextlib.suppress(OSError):  # nobody reads on
                if self.under_way:
                    self._print_line(self._describe_all())

    def _describe_all(self) -> str:
        """Describe how far all runs are, and those under way, in a line."""
        total = self._count_epochs()
        line = (
            f"After {format_duration(time.monotonic() - self.began)}: {self.finished} of "
            f"{format_count(len(self.jobs), 'run')} and {total - sum(self.epochs_left.values())} of {total} epochs"
        )
        line += f", {self._format_remaining()} left" if self.epoch_seconds else ""
        named = [self._describe_run(key) for key in self.under_way[:MOST_NAMED]]
        more = len(self.under_way) - len(named)
        return f"{line}; under way: {', '.join(named)}{f' and {more} more' if more else ''}"

    def _describe_run(self, key: str) -> str:
        job = self.jobs[key]
        done = job.epochs - self.epochs_left[key]
        return f"{job.spec.format_label()} ({done} of {format_count(job.epochs, 'epoch')})"

    def _print_line(self, line: str) -> None:
        if self.live:
            self.live.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line, err=True)

    def _count_epochs(self) -> int:
        return sum(job.epochs for job in self.jobs.values())

    def _format_remaining(self) -> str:
        """Format the time left, by each run's own pace, or by the average of all where a run has none yet."""
        paces = {key: sum(seconds) / len(seconds) for key, seconds in self.epoch_seconds.items()}
        average = sum(paces.values()) / len(paces)
        seconds = sum(left * paces.get(key, average) for key, left in self.epochs_left.items())
        return format_duration(seconds / self.slots)
