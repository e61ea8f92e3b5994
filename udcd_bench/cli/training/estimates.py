"""How much and how long runs are, before they are made; and what a dry run says of runs whose data are not here."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from udcd_bench.errors import UserError, format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from udcd_bench.cli.options import RunOptions
    from udcd_bench.engines.cost import RunCost
    from udcd_bench.engines.execute import RunContext
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

    Estimate = tuple[float, list[RunCost]]


def format_duration(seconds: float) -> str:
    """Format seconds for people: ``45 s``, ``12 min``, ``3 h 05 min`` or ``1648 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 100 * 60 else f"{round(minutes / 60)} h"


def describe_estimate(seconds: float, n_unknown: int, slots: int) -> str:
    """Describe how long runs take that take ``seconds`` one after another; ``n_unknown`` others are not in that."""
    parts = [f"about {format_duration(seconds / slots)}"] if seconds else []
    parts += [f"{format_count(n_unknown, 'run')} nobody has timed here yet"] if n_unknown else []
    return " and ".join(parts)


def describe_rough_estimate(unknown: Sequence[RunCost]) -> str:
    """Describe how long the runs take that nobody has timed here, by rates measured elsewhere; else empty."""
    from udcd_bench.runs import planner, rates

    estimates = [
        rates.estimate_core_seconds(cost, planner.resolve_protocol(cost.spec).image_size, cost.n_train)
        for cost in unknown
    ]
    known = [seconds for seconds in estimates if seconds is not None]
    if not known:
        return ""
    runs = "these" if len(known) == len(unknown) else f"{len(known)} of these"
    return (
        f"Roughly, {runs} take {format_duration(sum(known))} of {rates.MEASURED_ON}. udcd-bench bench --json FILE "
        "measures your machine or GPU, and --rates FILE counts by that."
    )


def describe_cost(costs: Sequence[RunCost]) -> str:
    """Describe how much runs train together."""
    epochs, images = sum(cost.epochs for cost in costs), sum(cost.n_images for cost in costs)
    return f"{format_count(epochs, 'epoch')} and {images:,} images, counted anew in every epoch"


def estimate_costs(costs: Sequence[RunCost], store: Store, file: Path | None) -> Estimate:
    """Estimate how long runs take, as ``rates.estimate_seconds`` does. file: of ``bench --json``, which comes first.

    Raises UserError when no run is of what the file measured.
    """
    from udcd_bench.runs import rates

    return rates.estimate_seconds(costs, store, _make_estimator(file, costs))


def _make_estimator(file: Path | None, costs: Sequence[RunCost]) -> Callable[[RunCost], float | None]:
    """Make a function that estimates a run's seconds from a file of ``bench --json``.

    costs: of all runs. Raises UserError when none of them is of what was measured.
    """
    from udcd_bench.runs import planner, rates

    if file is None:
        return lambda cost: None
    measured = rates.read_rates(file)

    def estimate_run(cost: RunCost) -> float | None:
        return measured.estimate_seconds(cost, planner.resolve_protocol(cost.spec), cost.n_train)

    if all(estimate_run(cost) is None for cost in costs):
        raise UserError(
            f"--rates {file}: it is of {measured.describe()}, which no run here is; measure what they are."
        )
    return estimate_run


def count_threads(specs: Iterable[RunSpec]) -> int:
    """Count the CPU threads that the run of most threads takes; 0 for all of a machine."""
    from udcd_bench.runs import planner

    return max(planner.resolve_protocol(spec).threads for spec in specs)


def print_dry_estimate(
    runs: str, costs: Sequence[RunCost], estimate: Estimate, run_options: RunOptions
) -> None:
    """Print how much and how long runs are that a dry run has listed.

    runs: how many. estimate: as of ``estimate_costs``.
    """
    from udcd_bench.engines import local

    seconds, unknown = estimate
    free_slots = local.count_slots(
        run_options.device, count_threads(each.spec for each in costs), run_options.jobs
    )
    slots = min(free_slots, len(costs))
    duration = describe_estimate(seconds, len(unknown), slots)
    click.echo(f"{runs} to make, {slots} at a time: {duration}.", err=True)
    click.echo(f"That is {describe_cost(costs)}.", err=True)
    if rough := describe_rough_estimate(unknown):
        click.echo(rough, err=True)


def print_cost_without_data(specs: Sequence[RunSpec], context: RunContext, run_options: RunOptions) -> bool:
    """Print what runs cost whose data are not here; return False, and print nothing, where all are.

    Shell lines need the keys of runs, and so the data.
    """
    from udcd_bench.data import sources
    from udcd_bench.engines.cost import list_unprepared, measure_cost
    from udcd_bench.engines.execute import prepare_data
    from udcd_bench.runs import planner

    missing = list_unprepared(specs, context.data)
    if not missing or run_options.form != "text":
        return False
    names = " and ".join(f"{sources.find_title(name)} ({n:,} images)" for name, n in missing.items())
    click.echo(
        f"Not prepared in {context.data}: {names}. Their published sizes count, and no run is taken for done.",
        err=True,
    )
    load = functools.cache(prepare_data)
    costs = [measure_cost(spec, context, load) for spec in planner.list_runs(specs)]
    for each in costs:
        epochs = format_count(each.epochs, "epoch")
        click.echo(f"{each.spec.format_label():50} {epochs} of {each.n_train} images")
    estimate = estimate_costs(costs, context.store, run_options.rates)
    print_dry_estimate(format_count(len(costs), "run"), costs, estimate, run_options)
    return True
