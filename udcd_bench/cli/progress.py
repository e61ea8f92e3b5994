"""How long runs take, and the display while they are made: a line a run with epochs, loss, images/s, time left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.engines.events import EpochDone, Event, Note, RunDone, RunFailed, RunStarted
from udcd_bench.errors import UserError, format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from udcd_bench.engines.execute import DatasetLoader, RunContext
    from udcd_bench.runs.planner import Job


def format_duration(seconds: float) -> str:
    """Format seconds for people: ``45 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def describe_estimate(seconds: float, unknown: int, slots: int) -> str:
    """Describe how long runs take that take ``seconds`` one after another; ``unknown`` others are not in that."""
    parts = [f"about {format_duration(seconds / slots)}"] if seconds else []
    parts += [f"{format_count(unknown, 'run')} nobody has timed here yet"] if unknown else []
    return " and ".join(parts)


def make_estimator(
    file: Path | None, jobs: Iterable[Job], context: RunContext, load: DatasetLoader
) -> Callable[[Job], float | None]:
    """Make a function that estimates a run's seconds from a file of ``bench --json``."""
    from udcd_bench.engines.execute import make_split, name_images
    from udcd_bench.runs import planner, rates

    if file is None:
        return lambda job: None
    measured = rates.read_rates(file)

    def estimate_job(job: Job) -> float | None:
        protocol = planner.resolve_protocol(job.spec)
        split = make_split(job.spec, protocol, load(name_images(job.spec), protocol, context))
        return measured.estimate_seconds(job, protocol, len(split.train))

    if all(estimate_job(job) is None for job in jobs):
        raise UserError(
            f"--rates {file}: it is of {measured.describe()}, which no run here is; measure what they are."
        )
    return estimate_job


class ProgressBoard:
    """Shows the events of an engine: live in a terminal, otherwise a line for each finished run."""

    def __init__(self, jobs: Sequence[Job], slots: int) -> None:
        self.jobs = {job.key: job for job in jobs if not job.done}
        self.slots = max(1, min(slots, len(self.jobs)))
        self.epochs_left = {key: job.epochs for key, job in self.jobs.items()}
        self.last_event_at: dict[str, float] = {}
        self.epoch_seconds: dict[str, list[float]] = {}
        self.finished = 0
        self.live: Progress | None = None
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBoard:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
            self.live = Progress(*columns, TextColumn("{task.fields[remark]}", markup=False), console=console)
            self.live.start()
            total = sum(self.epochs_left.values())
            self.overall = self.live.add_task(
                "the run" if len(self.jobs) == 1 else f"all {len(self.jobs)} runs", total=total, remark=""
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def notify(self, event: Event) -> None:
        """Show one event of the engine."""
        match event:
            case RunStarted():
                self.last_event_at[event.key] = time.monotonic()
                self._start_run(event.key)
            case EpochDone():
                self._advance(event.key, event.row)
            case Note():
                self._print_line(f"{self.jobs[event.key].spec.format_label()}: {event.message}")
            case RunFailed():
                self._finish_run(event.key, f"FAILED: {event.message}")
            case RunDone():
                self._finish_run(event.key, "done")

    def _start_run(self, key: str) -> None:
        if self.live:
            label = self.jobs[key].spec.format_label()
            self.tasks[key] = self.live.add_task(label, total=self.epochs_left[key], remark="")

    def _advance(self, key: str, row: dict[str, Any]) -> None:
        now = time.monotonic()
        self.epochs_left[key] = max(0, self.epochs_left[key] - 1)
        self.epoch_seconds.setdefault(key, []).append(now - self.last_event_at[key])
        self.last_event_at[key] = now
        if self.live:
            remark = f"loss {row['loss']:.3f}  {row['images_per_s']:.0f} images/s"
            self.live.update(self.tasks[key], advance=1, remark=remark)
            self.live.update(self.overall, advance=1, remark=f"{self._format_remaining()} left")

    def _finish_run(self, key: str, outcome: str) -> None:
        self.finished += 1
        self.epochs_left[key] = 0
        if self.live and key in self.tasks:
            self.live.remove_task(self.tasks.pop(key))
        line = f"[{self.finished}/{len(self.jobs)}] {self.jobs[key].spec.format_label()}: {outcome}"
        if self.finished < len(self.jobs) and self.epoch_seconds:
            line += f", {self._format_remaining()} left"
        self._print_line(line)

    def _print_line(self, line: str) -> None:
        if self.live:
            self.live.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line, err=True)

    def _format_remaining(self) -> str:
        """Format the time left, by each run's own pace, or by the average of all where a run has none yet."""
        paces = {key: sum(seconds) / len(seconds) for key, seconds in self.epoch_seconds.items()}
        average = sum(paces.values()) / len(paces)
        seconds = sum(left * paces.get(key, average) for key, left in self.epochs_left.items())
        return format_duration(seconds / self.slots)
