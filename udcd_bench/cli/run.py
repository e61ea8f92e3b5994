"""``udcd-bench run``, ``plot``, ``train`` and ``status``: plan, carry out what is missing, render."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import make_option
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from udcd_bench.engines.execute import DatasetLoader, RunContext
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

RUN_OPTIONS = [
    options.profile, options.backbone, options.teacher_backbone, options.settings, options.data, options.out,
    make_option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    make_option("--deterministic", is_flag=True, help="The same figures again on a GPU too, more slowly."),
    make_option(
        "--jobs", type=click.IntRange(1),
        help="Runs at a time, on each GPU.  [default: one; without a GPU, by cores]",
    ),
    make_option(
        "--engine", default="local", show_default=True, type=click.Choice(["local", "ray"]),
        help="This machine, or a Ray cluster, where --jobs counts on each GPU.",
    ),
    make_option("--address", default="", help="Of a running Ray cluster, such as auto.  [default: a new one, here]"),
    make_option("--dry-run", is_flag=True, help="Say what would run, why, and how long it takes."),
    make_option("--rates", type=options.PATH_TYPE, help="What bench --json has measured, for that estimate."),
    make_option(
        "--format", "form", default="text", show_default=True, type=click.Choice(["text", "commands"]),
        help="Of --dry-run: for people, or a shell line for each missing run, teachers first.",
    ),
]  # fmt: skip

GRID_OPTIONS = [
    make_option(
        "--split", default="paper", show_default=True, type=click.Choice(["paper", "grouped", "both"]),
        help="By image, or by lesion; both says what the leak is worth.",
    ),
    options.methods, options.datasets,
    make_option("--folds", default="0", show_default=True, callback=options.parse_folds, help="Such as 0,1,2, or all."),
    make_option("--seeds", default=1, show_default=True, type=click.IntRange(1, 1000), help="How many, from seed 0."),
]  # fmt: skip


@click.command()
@click.argument("table", metavar="TABLE|all")
@options.add_options(GRID_OPTIONS)
@options.add_options(RUN_OPTIONS)
def run(table: str, **params: Any) -> int:
    """Make a table: plan its runs, carry out those that are missing, render it."""
    return _make_artefacts("tables", table, params)


@click.command()
@click.argument("figure", metavar="FIGURE|all")
@options.add_options(GRID_OPTIONS)
@options.add_options(RUN_OPTIONS)
def plot(figure: str, **params: Any) -> int:
    """Make a figure: plan its runs, carry out those that are missing, draw it."""
    return _make_artefacts("figures", figure, params)


def _make_artefacts(kind: str, name: str, params: dict[str, Any]) -> int:
    """Make one artefact of a kind, or all of them, from runs that they share."""
    from dataclasses import replace

    from udcd_bench import plugins
    from udcd_bench.artefacts import leak
    from udcd_bench.artefacts.table import Table
    from udcd_bench.runs.results import Results, fill_missing_metrics
    from udcd_bench.runs.store import Store

    names = plugins.list_names(kind) if name == "all" else (name,)
    artefacts = [plugins.load_class(kind, name)() for name in names]
    ask = build_request(params, params["folds"], tuple(range(params["seeds"])))
    store = Store(params["out"])
    asks = [replace(ask, split=split) for split in (leak.SPLITS if ask.split == "both" else (ask.split,))]
    needed = [spec for made in artefacts for each in asks for spec in made.list_runs(each)]
    jobs, failed = _plan_and_run(needed, store, params)
    if params["dry_run"]:
        return 0
    done = [job for job in jobs if store.is_finished(job.key)]
    records = {job.spec: fill_missing_metrics(store.read_record(job.key), store) for job in done}
    states = {
        job.spec: f"failed: {failed[job.key]}" if job.key in failed else store.get_state(job.key)
        for job in jobs
    }
    results = Results(store, records, states)
    for artefact in artefacts:
        made = [artefact.render(each, results) for each in asks]
        if len(asks) > 1 and isinstance(artefact, Table):
            made.append(leak.render(artefact, ask, results))
        for rendered in made:
            click.echo(rendered.text)
            click.echo("\n".join(map(str, rendered.files)))
    return 1 if failed else 0


def build_request(params: dict[str, Any], folds: tuple[int, ...], seeds: tuple[int, ...]) -> TableRequest:
    """What the command line asks of an artefact."""
    from udcd_bench.artefacts.table import TableRequest
    from udcd_bench.runs import profiles

    protocol, hparams = profiles.split_overrides(params["settings"])
    return TableRequest(
        params["profile"], params["methods"], params["datasets"], folds, seeds, params["split"], params["backbone"],
        params["teacher_backbone"], hparams, protocol,
    )  # fmt: skip


@click.command()
@click.argument("method")
@make_option("--dataset", required=True, help="A source's name, folder:PATH or medmnist:NAME.")
@make_option("--fold", default=0, show_default=True, type=click.IntRange(0, 4))
@make_option("--seed", default=0, show_default=True, type=click.IntRange(0))
@make_option(
    "--fraction",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Of the training fold.",
)
@make_option(
    "--split", default="paper", show_default=True, type=click.Choice(["paper", "grouped"]),
    help="By image, or by lesion.",
)  # fmt: skip
@make_option(
    "--rho",
    type=float,
    callback=options.check_rho,
    help="Resample to this imbalance.  [default: the data's own]",
)
@options.add_options(RUN_OPTIONS)
def train(method: str, dataset: str, **params: Any) -> int:
    """Train one method on any source of images; print and store its record."""
    from udcd_bench.runs import profiles
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store
    from udcd_bench.stats.metrics import METRICS

    protocol, hparams = profiles.split_overrides(params["settings"])
    spec = RunSpec(
        method,
        dataset,
        params["profile"],
        params["backbone"] or profiles.find_profile(params["profile"]).backbone,
        teacher_backbone=params["teacher_backbone"],
        split=params["split"],
        fold=params["fold"],
        seed=params["seed"],
        fraction=params["fraction"],
        rho=params["rho"],
        hparams=hparams,
        protocol=protocol,
    )
    store = Store(params["out"])
    jobs, failed = _plan_and_run([spec], store, params)
    if params["dry_run"] or failed:
        return 1 if failed else 0
    record = store.read_record(jobs[-1].key)
    if record["synthetic"]:
        click.echo(f"{record['dataset_title']}: drawn by a program; no published figure compares with these.")
    if record["incomplete"]:
        click.echo(record["incomplete"])
    click.echo(f"{record['method_title']} on {record['dataset_title']}, {record['reporting']}, n=1:")
    for name, value in record["figures"]["mean"].items():
        click.echo(f"  {METRICS[name].title:12} {value:.4f}  {METRICS[name].description}")
    click.echo(store.runs / record["key"] / "record.json")
    return 0


@click.command()
@options.out
def status(out: Path) -> None:
    """What a results folder holds: runs done, under way, interrupted, failed."""
    from udcd_bench.runs.store import Store

    if not out.exists():
        raise UserError(f"{out}: there is no such folder; --out names one that a run has made.")
    store = Store(out)
    rows = store.summarize()
    for state, label, remark in rows:
        click.echo(f"{state:12} {label}{'  ' + remark if remark else ''}")
    states = [state for state, _, _ in rows]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    click.echo(f"{out}: {', '.join(counts) or 'no runs yet'}.")


def _plan_and_run(
    specs: Iterable[RunSpec], store: Store, params: dict[str, Any]
) -> tuple[list[Job], dict[str, str]]:
    """Plan, say what there is to do, do it unless this is a dry run; returns the jobs and the failures by key."""
    from udcd_bench.cli.progress import ProgressBoard, format_duration
    from udcd_bench.engines.execute import RunContext, collect_run_inputs, load_data
    from udcd_bench.runs import planner

    if params["form"] != "text" and not params["dry_run"]:
        raise UserError(f"--format {params['form']} says what would run; give --dry-run with it.")
    place = RunContext(params["data"], params["device"], params["deterministic"])
    # many runs share a data set: it is looked at once for them all
    load = functools.cache(load_data)
    jobs = planner.plan(specs, store, lambda spec: collect_run_inputs(spec, place, load))
    todo = [job for job in jobs if not job.done]
    threads = max((planner.resolve_protocol(job.spec).threads for job in todo), default=1)
    if params["dry_run"] and params["form"] == "commands":
        lines = planner.format_commands(
            jobs,
            data=place.data,
            out=params["out"],
            device=place.device,
            deterministic=place.deterministic,
        )
        click.echo("".join(f"{line}\n" for line in lines), nl=False)
    elif params["dry_run"]:
        for job in jobs:
            click.echo(
                f"{job.spec.format_label():50} {'done' if job.done else planner.STATE_REASONS[job.state]}"
            )
    else:
        store.create()
    if not todo:
        click.echo(f"All {len(jobs)} runs are done; nothing to train.", err=True)
        return jobs, {}
    seconds, unknown = planner.estimate_seconds(
        todo, store, _make_estimator(params["rates"], todo, place, load)
    )
    with _open_engine(params, threads) as (slots, carry_out):
        slots = min(slots, len(todo))
        guess = f"about {format_duration(seconds / slots)}" if seconds else ""
        guess += f"{' and ' if guess else ''}{unknown} runs nobody has timed here yet" if unknown else ""
        click.echo(f"{len(todo)} of {len(jobs)} runs to make, {slots} at a time: {guess}.", err=True)
        if params["dry_run"]:
            return jobs, {}
        with ProgressBoard(jobs, slots) as board:
            return jobs, carry_out(jobs, store, place, slots, board.notify)


def _make_estimator(
    file: Path | None, jobs: Iterable[Job], run_context: RunContext, load: DatasetLoader
) -> Callable[[Job], float | None]:
    """What a run takes by a file of ``bench``."""
    from udcd_bench.engines.execute import make_split
    from udcd_bench.runs import planner, rates

    if file is None:
        return lambda job: None
    measured = rates.read_rates(file)

    def estimate_job(job: Job) -> float | None:
        protocol = planner.resolve_protocol(job.spec)
        split = make_split(job.spec, protocol, load(job.spec.dataset, protocol, run_context))
        return measured.estimate_seconds(job, protocol, len(split.train))

    if all(estimate_job(job) is None for job in jobs):
        raise UserError(
            f"--rates {file}: it is of {measured.describe()}, which no run here is; measure what they are."
        )
    return estimate_job


@contextlib.contextmanager
def _open_engine(params: dict[str, Any], threads: int) -> Iterator[tuple[int, Callable[..., dict[str, str]]]]:
    """Where runs of so many threads are made, ready to be used: how many at a time, and what makes them."""
    from udcd_bench.engines import local

    # a dry run joins nobody
    if params["engine"] == "local" or params["dry_run"]:
        if params["address"] and params["engine"] == "local":
            raise UserError("--address is that of a Ray cluster: add --engine ray.")
        yield local.count_slots(params["device"], threads, params["jobs"]), local.run
        return
    from udcd_bench.engines import ray

    with ray.join_cluster(params["address"], params["device"], params["jobs"], threads) as cluster:
        yield cluster.slots, cluster.run
