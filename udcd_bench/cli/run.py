"""Commands: run, plot, train. They plan, train the missing runs, and render."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from udcd_bench.cli import option_values, options
from udcd_bench.cli.inference.cam import PlotCommand
from udcd_bench.cli.options import GRID_OPTIONS, RUN_OPTIONS, RunOptions, make_option
from udcd_bench.cli.training.making import plan_and_run
from udcd_bench.errors import UserError
from udcd_bench.storage.file_names import decode_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from udcd_bench.artefacts.table import Artefact
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store


@click.command()
@click.argument("table", metavar="TABLE|all")
@options.add_options(GRID_OPTIONS)
@options.add_options(options.TABLE_LOOKS)
@options.name
@options.add_options(RUN_OPTIONS)
def run(table: str, **params: Any) -> int:
    """Make a table: plan its runs, carry out those that are missing, render it."""
    return _make_artefacts("tables", table, params)


@click.command(cls=PlotCommand)
@click.argument("figure", metavar="FIGURE|all")
@options.add_options(GRID_OPTIONS)
@options.bare
@options.name
@options.add_options(RUN_OPTIONS)
def plot(figure: str, **params: Any) -> int:
    """Make a figure: plan its runs, carry out those that are missing, draw it.

    One is of a single run and has options of its own: plot cam --help.
    """
    return _make_artefacts("figures", figure, params)


def _make_artefacts(kind: str, name: str, params: Mapping[str, Any]) -> int:
    """Make one artefact of a kind, or all of them, from runs that they share."""
    from dataclasses import replace

    from udcd_bench import plugins

    if name == "all" and params["name"]:
        raise UserError("--name is of one table or figure; leave it out, or make them one by one.")
    names = plugins.list_names(kind) if name == "all" else (name,)
    artefacts = [plugins.load_class(kind, name)() for name in names]
    looks = {key: params[key] for key in ("marks", "plain", "bare", "name") if key in params}
    request = replace(build_request(params, params["folds"], tuple(range(params["seeds"]))), **looks)
    if params["stored"]:
        _render(artefacts, *_load_stored(artefacts, request, params))
        return 0
    runs = _make_runs(artefacts, request, params)
    if params["dry_run"]:
        return 0
    _render(artefacts, runs.request, runs.load_results())
    return 1 if runs.failed else 0


class _MadeRuns(NamedTuple):
    """The runs that a request needed: by the specs they were asked for as, and key → message of those that failed."""

    request: TableRequest
    store: Store
    jobs: Mapping[RunSpec, Job]
    failed: Mapping[str, str]

    def load_results(self) -> Results:
        from udcd_bench.runs.results import read_results

        return read_results(self.store, self.jobs, self.failed)


def _make_runs(
    artefacts: Sequence[Artefact], typed_request: TableRequest, params: Mapping[str, Any]
) -> _MadeRuns:
    """Make the runs that are missing, or say which these are."""
    from udcd_bench.engines.naming import NameResolver
    from udcd_bench.runs import planner
    from udcd_bench.runs.store import Store

    reading = option_values.make_reading(params, typed_request.datasets or ())
    store = Store(params["out"])
    resolver = NameResolver(params["data"], reading, store)
    request = resolver.resolve_request(typed_request)
    rows = [row for artefact in artefacts for row in artefact.list_rows(request) if row.in_suite]
    planner.check_teacher((row.method for row in rows), request.teacher)
    needed = _list_needed(artefacts, request)
    jobs, failed = plan_and_run(needed, store, RunOptions.from_params(params), resolver)
    by_spec = {spec: job for job in jobs for spec in job.specs}
    if jobs:  # a dry run without the data has none
        by_spec |= {spec: by_spec[resolver.resolve_spec(spec)] for spec in needed}
    return _MadeRuns(request, store, by_spec, failed)


def _load_stored(
    artefacts: Sequence[Artefact], typed_request: TableRequest, params: Mapping[str, Any]
) -> tuple[TableRequest, Results]:
    """Load what the results folder holds. Raises UserError when it has no run of these."""
    from udcd_bench.engines.naming import load_stored_results
    from udcd_bench.runs.store import Store

    if params["dry_run"]:
        raise UserError("--stored trains nothing, so --dry-run has nothing to say: leave out one of them.")
    request, results = load_stored_results(typed_request, Store(params["out"]), params["data"])
    if not results.select_records(_list_needed(artefacts, request)):
        from udcd_bench.cli.judging.stored_runs import explain_no_runs
        from udcd_bench.grid.cells import split_request

        raise UserError(
            explain_no_runs(artefacts[0], split_request(request)[0], results, "finished run of these")
        )
    return request, results


def _list_needed(artefacts: Iterable[Artefact], request: TableRequest) -> list[RunSpec]:
    from udcd_bench.grid.cells import split_request

    requests = split_request(request)
    return [spec for artefact in artefacts for each in requests for spec in artefact.list_runs(each)]


def _render(artefacts: Iterable[Artefact], request: TableRequest, results: Results) -> None:
    from udcd_bench.artefacts import side_by_side

    for artefact in artefacts:
        for output in side_by_side.render_splits(artefact, request, results):
            click.echo(output.text)
            click.echo("\n".join(map(str, output.files)))


def build_request(params: Mapping[str, Any], folds: tuple[int, ...], seeds: tuple[int, ...]) -> TableRequest:
    """Build the request of a table or figure from the parameters of a command."""
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.runs import profiles

    protocol, hparams = profiles.split_overrides(params["settings"])
    return TableRequest(
        profile=params["profile"],
        methods=params["methods"],
        datasets=params["datasets"],
        folds=folds,
        seeds=seeds,
        split=option_values.get_split(params),
        backbone=params["backbone"],
        teacher_backbone=params["teacher_backbone"],
        teacher=decode_name(params["teacher"]),
        hparams=hparams,
        protocol=protocol,
        rule=params.get("rule", TableRequest.rule),
    )


@click.command()
@click.argument("method", callback=option_values.decode_text)
@make_option("--dataset", required=True, help="A source's name, folder:PATH or medmnist:NAME.")
@make_option("--fold", default=0, show_default=True, type=click.IntRange(0, 4))
@make_option("--seed", default=0, show_default=True, type=click.IntRange(0))
@make_option(
    "--fraction", default=1.0, show_default=True, type=float, callback=option_values.check_fraction,
    help="Of the training fold.",
)  # fmt: skip
@make_option(
    "--split", type=click.Choice(["paper", "grouped", "official"]),
    help="By image, by group (patient, lesion), or the challenge's own test set.  [default: paper; grouped where your "
    "own images have groups]",
)  # fmt: skip
@options.test_part
@make_option(
    "--rho",
    type=float,
    callback=option_values.check_rho,
    help="Resample to this imbalance.  [default: the data's own]",
)
@options.add_options(RUN_OPTIONS)
def train(method: str, dataset: str, **params: Any) -> int:
    """Train one method on any source of images; print and store its record."""
    from udcd_bench.data import sources
    from udcd_bench.engines.naming import NameResolver
    from udcd_bench.runs import planner, profiles
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

    sources.find_title(dataset)  # raises for a name that tables do not take either
    run_options = RunOptions.from_params(params)
    protocol, hparams = planner.split_settings(method, run_options.settings)
    spec = RunSpec(
        method,
        dataset,
        run_options.profile,
        run_options.backbone or profiles.find_profile(run_options.profile).backbone,
        teacher_backbone=run_options.teacher_backbone,
        teacher=decode_name(run_options.teacher),
        hparams=hparams,
        protocol=protocol,
        split=option_values.get_split(params),
        **{name: params[name] for name in ("fold", "seed", "fraction", "rho")},
    )
    store = Store(run_options.out)
    planner.check_teacher([method], spec.teacher)
    reading = option_values.make_reading({**params, **vars(run_options)}, (dataset,))
    resolver = NameResolver(run_options.data, reading, store)
    jobs, failed = plan_and_run([spec], store, run_options, resolver)
    if run_options.dry_run or failed:
        return 1 if failed else 0
    _print_record(store, jobs[-1].key)
    return 0


def _print_record(store: Store, key: str) -> None:
    from udcd_bench.artefacts.captions import describe_record
    from udcd_bench.stats.metrics import METRICS

    record = store.read_record(key)
    for sentence in describe_record(record, store):
        click.echo(sentence)
    validation = record.get("validation", {}).get("mean", {})
    for name, value in record["figures"]["mean"].items():
        beside = f"  (validation {validation[name]:.4f})" if name in validation else ""
        click.echo(f"  {METRICS[name].title:12} {value:.4f}{beside}  {METRICS[name].description}")
    click.echo(store.record_path(key))
