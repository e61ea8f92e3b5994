"""``search``: tunes every row of a table on validation images with the same number of trials, and renders both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import option_values, options
from udcd_bench.cli.options import RUN_OPTIONS, RunOptions, make_option
from udcd_bench.errors import UserError, format_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from udcd_bench.cli.training.making import EngineSession
    from udcd_bench.engines.naming import NameResolver
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store
    from udcd_bench.tuning.searches import Search


@click.command()
@click.argument("table", metavar="TABLE")
@make_option(
    "--trials", default=20, show_default=True, type=click.IntRange(1, 1000),
    help="Of every row, on every data set and fold.",
)  # fmt: skip
@make_option(
    "--split", type=click.Choice(["paper", "grouped", "official"]),
    help="By image, by group (patient, lesion), or the challenge's own test set.  [default: as run has it]",
)  # fmt: skip
@options.add_options([options.test_part, options.methods, options.datasets])
@make_option(
    "--folds", default="0", show_default=True, callback=option_values.parse_folds,
    help="Such as 0,1,2, or all; each is tuned by itself.",
)  # fmt: skip
@make_option(
    "--seeds", default=1, show_default=True, type=click.IntRange(1, 1000),
    help="How many, from seed 0, of the rows as they are and of the tuned ones; trials have seed 0.",
)  # fmt: skip
@options.add_options(RUN_OPTIONS)
def search(table: str, trials: int, **params: Any) -> int:
    """Tune every row of a table with an equal budget, and show it untuned and tuned.

    Each trial is a run with validation images, a fifth of the training fold unless --validation says otherwise; what
    is done is not made again. The best trial of each row is retrained on the whole training fold.
    """
    from udcd_bench import plugins
    from udcd_bench.cli.run import build_request
    from udcd_bench.engines.naming import NameResolver
    from udcd_bench.runs.store import Store
    from udcd_bench.tuning.searches import DEFAULT_VALIDATION, Search

    run_options = RunOptions.from_params(params)
    request = build_request(params, params["folds"], tuple(range(params["seeds"])))
    numbers = {"validation": DEFAULT_VALIDATION} | dict(request.protocol)
    store = Store(run_options.out)
    resolver = NameResolver(
        run_options.data, option_values.make_reading(params, request.datasets or ()), store
    )
    request = resolver.resolve_request(replace(request, protocol=tuple(numbers.items())))
    chosen_table = plugins.load_class("tables", table)()
    chosen_table.list_runs(request)  # raises for what the request names and there is not
    planned = Search(chosen_table, request, trials)
    _check(planned, run_options)
    if run_options.dry_run:
        _print_cost(planned, store, run_options, resolver)
        return 0
    return _carry_out(planned, store, run_options, resolver)


def _check(planned: Search, run_options: RunOptions) -> None:
    """Raise UserError for a search that could choose nothing, or whose runs cannot be listed."""
    from udcd_bench.runs import planner

    if not planned.studies:
        raise UserError("There is no row to tune; name methods of the suite by --methods.")
    validations = {planner.resolve_protocol(spec).validation for spec in planned.list_first_runs()}
    if len(validations) > 1 or any(name.endswith(".validation") for name, _ in planned.request.hparams):
        raise UserError(
            "All rows of a search are chosen on the same images; give --validation of all, not of a row."
        )
    if "none" in validations:
        raise UserError("A search chooses on validation images; give a share, such as --validation 0.2.")
    if run_options.form != "text":
        raise UserError("What a search tries depends on what it has seen, so it has no --format commands.")


def _carry_out(planned: Search, store: Store, run_options: RunOptions, resolver: NameResolver) -> int:
    """Make the trials, round by round, then the rows as they are and tuned; write and print the table."""
    from udcd_bench.cli.training.making import EngineSession
    from udcd_bench.runs.results import read_results
    from udcd_bench.tuning.searches import note_ends
    from udcd_bench.tuning.tuned_table import make_tuned_table, write_trials

    with EngineSession(run_options) as session:
        for trials in planned.iterate_rounds():
            first, last = trials[0].number + 1, trials[-1].number + 1
            numbers = f"Trial {first}" if first == last else f"Trials {first} to {last}"
            click.echo(f"{numbers} of {planned.n_trials}:", err=True)
            jobs, failed = _make_runs([trial.spec for trial in trials], store, session, resolver)
            note_ends(trials, jobs, read_results(store, jobs, failed), failed)
            path = write_trials(planned, planned.find_winners(), store.root)
        winners = planned.find_winners()
        untuned = [place for place in planned.studies if place not in winners]
        for place in untuned:
            click.echo(
                f"No trial of {place.row} on {place.group.title}, fold {place.fold}, has finished.", err=True
            )
        tuned, request = make_tuned_table(planned, winners), planned.final_request
        click.echo("The rows as they are, and tuned:", err=True)
        jobs, failed = _make_runs(tuned.list_runs(request), store, session, resolver)
    output = tuned.render(request, read_results(store, jobs, failed))
    click.echo(output.text)
    click.echo("\n".join(map(str, (*output.files, path))))
    return 1 if failed or untuned else 0


def _make_runs(
    specs: Sequence[RunSpec], store: Store, session: EngineSession, resolver: NameResolver
) -> tuple[Mapping[RunSpec, Job], dict[str, str]]:
    """Make the runs of these specs; return their jobs by spec, and key → message of those that failed."""
    from udcd_bench.cli.training.making import plan_and_run

    jobs, failed = plan_and_run(specs, store, session.run_options, resolver, session)
    by_spec = {spec: job for job in jobs for spec in job.specs}
    return {spec: by_spec[spec] for spec in specs}, failed


def _print_cost(planned: Search, store: Store, run_options: RunOptions, resolver: NameResolver) -> None:
    """Print how many runs a search makes, and how long they take; none is taken for done."""
    import functools

    from udcd_bench.cli.training import estimates
    from udcd_bench.cli.training.making import make_context
    from udcd_bench.engines.cost import measure_cost
    from udcd_bench.engines.execute import prepare_data
    from udcd_bench.runs import planner

    context = make_context(store, run_options, resolver)
    load = functools.cache(prepare_data)
    first, final = planned.list_first_runs(), planned.table.list_runs(planned.final_request)
    n_trials, teachers = planned.n_trials * len(first), len(planner.list_runs(first)) - len(set(first))
    # a trial costs what the row as it is costs, and so does a tuned row; the teachers of both are shared
    validated = [measure_cost(spec, context, load) for spec in planner.list_runs(first)]
    of_rows = [cost for cost in validated if cost.spec in set(first)]
    whole = [measure_cost(spec, context, load) for spec in planner.list_runs(final)]
    retrained = [cost for cost in whole if cost.spec in {planner.normalize_spec(spec) for spec in final}]
    costs = [*validated, *of_rows * (planned.n_trials - 1), *whole, *retrained]
    click.echo(
        f"{format_count(n_trials, 'trial')}, {planned.n_trials} of each row, data set and fold, and "
        f"{format_count(teachers, 'teacher')} of theirs; then {len(whole) + len(retrained)} runs on the whole training "
        "fold: the rows as they are, tuned, and teachers. What is done is counted too."
    )
    estimate = estimates.estimate_costs(costs, store, run_options.rates)
    estimates.print_dry_estimate(format_count(len(costs), "run"), costs, estimate, run_options)
