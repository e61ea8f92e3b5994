"""Runs planned and made: what is left to do, how long it takes, and the engine that does it."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import click

from udcd_bench.errors import UserError, format_count, quote_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Self

    from udcd_bench.cli.options import RunOptions
    from udcd_bench.engines.cost import RunCost
    from udcd_bench.engines.events import Event
    from udcd_bench.engines.execute import DatasetLoader, RunContext
    from udcd_bench.engines.naming import NameResolver
    from udcd_bench.engines.ray import Cluster
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

    Engine = Callable[[list[Job], RunContext, int, Callable[[Event], None]], dict[str, str]]

MOST_NAMED = 3
"""Most failed runs that are named below what was made."""


def plan_and_run(
    specs: Iterable[RunSpec],
    store: Store,
    run_options: RunOptions,
    resolver: NameResolver,
    session: EngineSession | None = None,
) -> tuple[list[Job], dict[str, str]]:
    """Plan, print what is left to do, and do it unless this is a dry run; return the jobs, and key → failure.

    session: of a command that makes runs several times; without it the engine is closed when these runs are made.
    """
    from udcd_bench.cli.training import estimates
    from udcd_bench.engines import server
    from udcd_bench.engines.environment import check_early, check_reads
    from udcd_bench.engines.execute import prepare_data

    _check_run_options(run_options)
    is_made_here = run_options.engine == "local" and not run_options.dry_run
    specs = list(specs)
    check_early(specs, run_options.device if is_made_here else "")
    specs = [resolver.resolve_spec(spec) for spec in specs]
    check_reads(specs)
    context = make_context(store, run_options, resolver)
    if run_options.dry_run and estimates.print_cost_without_data(specs, context, run_options):
        return [], {}
    if is_made_here and _has_to_draw(specs, context.data):
        server.start_server()  # its imports take as long as the drawing, and need a core less
    load = functools.cache(prepare_data)  # runs share a data set: its checksum is computed once
    jobs = _plan(specs, context, load)
    if run_options.dry_run:
        _print_plan(jobs, context, run_options.form)
    else:
        store.create()
    if all(job.done for job in jobs):
        done = "The run is done" if len(jobs) == 1 else f"All {len(jobs)} runs are done"
        click.echo(f"{done}; nothing to train.", err=True)
        return jobs, {}
    return jobs, _make(jobs, context, run_options, load, session)


def _plan(specs: Iterable[RunSpec], context: RunContext, load: DatasetLoader) -> list[Job]:
    """Plan the runs behind these specs, and print what the data of those still to make are understood to be."""
    from udcd_bench.engines.execute import collect_run_inputs, describe_data
    from udcd_bench.runs import planner

    jobs = planner.plan(specs, context.store, lambda spec: collect_run_inputs(spec, context, load))
    for line in describe_data((job for job in jobs if not job.done), context, load):
        click.echo(line, err=True)
    return jobs


def _make(
    jobs: list[Job],
    context: RunContext,
    run_options: RunOptions,
    load: DatasetLoader,
    session: EngineSession | None,
) -> dict[str, str]:
    """Make the runs that are not done, or say of a dry run how long they would take; return key → failure."""
    from udcd_bench.cli.training import estimates
    from udcd_bench.engines import cost

    todo = [job for job in jobs if not job.done]
    costs = [cost.measure_cost(job.spec, context, load) for job in todo]
    estimate = estimates.estimate_costs(costs, context.store, run_options.rates)
    if run_options.dry_run:
        estimates.print_dry_estimate(
            f"{len(todo)} of {format_count(len(jobs), 'run')}", costs, estimate, run_options
        )
        return {}
    with EngineSession(run_options) if session is None else contextlib.nullcontext(session) as opened:
        return _run_jobs(jobs, context, opened, estimate)


def make_context(store: Store, run_options: RunOptions, resolver: NameResolver) -> RunContext:
    """Say where a command makes its runs, and how."""
    from udcd_bench.engines.execute import RunContext

    return RunContext(
        store, run_options.data, run_options.device, run_options.deterministic, resolver.locations
    )


def _check_run_options(run_options: RunOptions) -> None:
    """Raise UserError for options that do not go together, or that need a package that is not installed."""
    from udcd_bench.engines.logs.writers import check_installed

    if run_options.form != "text" and not run_options.dry_run:
        raise UserError(f"--format {run_options.form} says what would run; give --dry-run with it.")
    if run_options.address and run_options.engine == "local":
        raise UserError("--address is that of a Ray cluster: add --engine ray.")
    check_installed(run_options.log)


def _has_to_draw(specs: Iterable[RunSpec], data: Path) -> bool:
    """Tell whether a stand-in is still to be drawn, so that there are runs to make after it for certain."""
    from udcd_bench.data import sources

    names = {spec.dataset for spec in specs if sources.is_synthetic(spec.dataset)}
    return any(not sources.list_prepared(name, data) for name in names)


def _print_plan(jobs: list[Job], context: RunContext, form: str) -> None:
    from udcd_bench.runs import planner

    if form == "commands":
        lines = planner.format_commands(jobs, context.places)
        click.echo("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"), nl=False)
        return
    for job in jobs:
        click.echo(f"{job.spec.format_label():50} {'done' if job.done else planner.STATE_REASONS[job.state]}")


def _run_jobs(
    jobs: list[Job], context: RunContext, session: EngineSession, estimate: tuple[float, list[RunCost]]
) -> dict[str, str]:
    """Print how many runs there are and how long they take, and make them.

    estimate: as of ``estimates.estimate_costs``.
    """
    from udcd_bench.cli.training import estimates
    from udcd_bench.cli.training.progress import ProgressBoard
    from udcd_bench.engines.logs.run_logs import open_logs

    todo = [job for job in jobs if not job.done]
    seconds, unknown = estimate
    threads = estimates.count_threads(job.spec for job in todo)
    free_slots, run_engine = session.open(threads)
    slots = min(free_slots, len(todo))
    duration = estimates.describe_estimate(seconds, len(unknown), slots)
    click.echo(
        f"{len(todo)} of {format_count(len(jobs), 'run')} to make, {slots} at a time: {duration}.", err=True
    )
    with (
        ProgressBoard(jobs, slots) as board,
        open_logs(session.run_options.log, context.store, jobs) as log,
    ):

        def notify(event: Event) -> None:
            board.notify(event)
            log(event)

        failed = run_engine(jobs, context, slots, notify)
    for line in _list_failures(failed, context.store):
        click.echo(line, err=True)
    return failed


def _list_failures(failed: Iterable[str], store: Store) -> list[str]:
    """List in lines the commands that show where runs failed: of a few, and of all the command that lists them."""
    keys = [key for key in failed if store.failure_path(key).exists()]
    commands = [quote_command("status", key, "--out", store.root) for key in keys[:MOST_NAMED]]
    if len(keys) < 2:
        return [f"Where it failed, and the command that repeats it: {command}" for command in commands]
    lines = ["Where they failed, and the commands that repeat them:", *(f"  {line}" for line in commands)]
    if more := len(keys) - len(commands):
        lines.append(f"  and {more} more, which this lists: {quote_command('status', '--out', store.root)}")
    return lines


class EngineSession:
    """The engine of a command: a Ray cluster that its first runs have joined stays joined until the session ends.

    Ray's own output goes to standard error meanwhile, and so would all that is printed.
    """

    def __init__(self, run_options: RunOptions) -> None:
        self.run_options = run_options
        self._stack = contextlib.ExitStack()
        self._cluster: Cluster | None = None
        self._threads = 0  # of a run, for which the cluster was joined

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, threads: int) -> tuple[int, Engine]:
        """Open the engine for runs of so many threads: how many at a time, and the function that makes them."""
        from udcd_bench.engines import local

        device, jobs = self.run_options.device, self.run_options.jobs
        if self.run_options.engine == "local":
            return local.count_slots(device, threads, jobs), local.run
        if self._cluster is None or threads != self._threads:
            from udcd_bench.engines import ray

            self._stack.close()
            joined = ray.join_cluster(self.run_options.address, device, jobs, threads)
            self._cluster, self._threads = self._stack.enter_context(joined), threads
        return self._cluster.slots, self._cluster.run
