"""``udcd-bench run``, ``plot``, ``train`` and ``status``: plan, carry out what is missing, render."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import option
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from udcd_bench.engines.execute import Load, Place
    from udcd_bench.grid.cells import Ask
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

COMMON = [
    options.profile, options.backbone, options.teacher_backbone, options.settings, options.data, options.out,
    option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    option("--deterministic", is_flag=True, help="The same figures again on a GPU too, more slowly."),
    option(
        "--jobs", type=click.IntRange(1),
        help="Runs at a time, on each GPU.  [default: one; without a GPU, by cores]",
    ),
    option(
        "--engine", default="local", show_default=True, type=click.Choice(["local", "ray"]),
        help="This machine, or a Ray cluster, where --jobs counts on each GPU.",
    ),
    option("--address", default="", help="Of a running Ray cluster, such as auto.  [default: a new one, here]"),
    option("--dry-run", is_flag=True, help="Say what would run, why, and how long it takes."),
    option("--rates", type=options.FOLDER, help="What bench --json has measured, for that estimate."),
    option(
        "--format", "form", default="text", show_default=True, type=click.Choice(["text", "commands"]),
        help="Of --dry-run: for people, or a shell line for each missing run, teachers first.",
    ),
]  # fmt: skip

GRID = [
    option(
        "--split", default="paper", show_default=True, type=click.Choice(["paper", "grouped", "both"]),
        help="By image, or by lesion; both says what the leak is worth.",
    ),
    options.methods, options.datasets,
    option("--folds", default="0", show_default=True, callback=options.folds, help="Such as 0,1,2, or all."),
    option("--seeds", default=1, show_default=True, type=click.IntRange(1, 1000), help="How many, from seed 0."),
]  # fmt: skip


@click.command()
@click.argument("table", metavar="TABLE|all")
@options.adding(GRID)
@options.adding(COMMON)
def run(table: str, **asked: Any) -> int:
    """Make a table: plan its runs, carry out those that are missing, render it."""
    return _make("tables", table, asked)


@click.command()
@click.argument("figure", metavar="FIGURE|all")
@options.adding(GRID)
@options.adding(COMMON)
def plot(figure: str, **asked: Any) -> int:
    """Make a figure: plan its runs, carry out those that are missing, draw it."""
    return _make("figures", figure, asked)


def _make(kind: str, name: str, asked: dict[str, Any]) -> int:
    """Make one artefact of a kind, or all of them, from runs that they share."""
    from dataclasses import replace

    from udcd_bench import plugins
    from udcd_bench.artefacts import leak
    from udcd_bench.artefacts.table import Table
    from udcd_bench.judging import uncertainty
    from udcd_bench.runs.store import Store

    names = plugins.names(kind) if name == "all" else (name,)
    artefacts = [plugins.load_class(kind, name)() for name in names]
    ask = ask_of(asked, asked["folds"], tuple(range(asked["seeds"])))
    store = Store(asked["out"])
    asks = [replace(ask, split=split) for split in (leak.SPLITS if ask.split == "both" else (ask.split,))]
    needed = [spec for made in artefacts for each in asks for spec in made.runs(each)]
    jobs, failed = _carry_out(needed, store, asked)
    if asked["dry_run"]:
        return 0
    done = [job for job in jobs if store.state_is_done(job.key)]
    found = {job.spec: uncertainty.completed(store.record(job.key), store) for job in done}
    states = {
        job.spec: f"failed: {failed[job.key]}" if job.key in failed else store.state(job.key) for job in jobs
    }
    for artefact in artefacts:
        made = [artefact.render(each, found, states, store) for each in asks]
        if len(asks) > 1 and isinstance(artefact, Table):
            made.append(leak.render(artefact, ask, found, states, store))
        for rendered in made:
            click.echo(rendered.text)
            click.echo("\n".join(map(str, rendered.files)))
    return 1 if failed else 0


def ask_of(asked: dict[str, Any], folds: tuple[int, ...], seeds: tuple[int, ...]) -> Ask:
    """What the command line asks of an artefact."""
    from udcd_bench.artefacts.table import Ask
    from udcd_bench.runs import profiles

    protocol, hparams = profiles.divide(asked["settings"])
    return Ask(
        asked["profile"], asked["methods"], asked["datasets"], folds, seeds, asked["split"], asked["backbone"],
        asked["teacher_backbone"], hparams, protocol,
    )  # fmt: skip


@click.command()
@click.argument("method")
@option("--dataset", required=True, help="A source's name, folder:PATH or medmnist:NAME.")
@option("--fold", default=0, show_default=True, type=click.IntRange(0, 4))
@option("--seed", default=0, show_default=True, type=click.IntRange(0))
@option(
    "--fraction",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Of the training fold.",
)
@option(
    "--split", default="paper", show_default=True, type=click.Choice(["paper", "grouped"]),
    help="By image, or by lesion.",
)  # fmt: skip
@option(
    "--rho", type=float, callback=options.rho, help="Resample to this imbalance.  [default: the data's own]"
)
@options.adding(COMMON)
def train(method: str, dataset: str, **asked: Any) -> int:
    """Train one method on any source of images; print and store its record."""
    from udcd_bench.runs import profiles
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store
    from udcd_bench.stats.metrics import METRICS

    protocol, hparams = profiles.divide(asked["settings"])
    spec = RunSpec(
        method,
        dataset,
        asked["profile"],
        asked["backbone"] or profiles.profile(asked["profile"]).backbone,
        teacher_backbone=asked["teacher_backbone"],
        split=asked["split"],
        fold=asked["fold"],
        seed=asked["seed"],
        fraction=asked["fraction"],
        rho=asked["rho"],
        hparams=hparams,
        protocol=protocol,
    )
    store = Store(asked["out"])
    jobs, failed = _carry_out([spec], store, asked)
    if asked["dry_run"] or failed:
        return 1 if failed else 0
    record = store.record(jobs[-1].key)
    if record["synthetic"]:
        click.echo(f"{record['dataset_title']}: drawn by a program; no published figure compares with these.")
    if record["incomplete"]:
        click.echo(record["incomplete"])
    click.echo(f"{record['method_title']} on {record['dataset_title']}, {record['reporting']}, n=1:")
    for name, value in record["figures"]["mean"].items():
        click.echo(f"  {METRICS[name].title:12} {value:.4f}  {METRICS[name].about}")
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
    rows = store.overview()
    for state, label, remark in rows:
        click.echo(f"{state:12} {label}{'  ' + remark if remark else ''}")
    states = [state for state, _, _ in rows]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    click.echo(f"{out}: {', '.join(counts) or 'no runs yet'}.")


def _carry_out(
    specs: Iterable[RunSpec], store: Store, asked: dict[str, Any]
) -> tuple[list[Job], dict[str, str]]:
    """Plan, say what there is to do, do it unless this is a dry run; returns the jobs and the failures by key."""
    from udcd_bench.cli.progress import Board, span
    from udcd_bench.engines.execute import Place, load_data, made_of
    from udcd_bench.runs import planner

    if asked["form"] != "text" and not asked["dry_run"]:
        raise UserError(f"--format {asked['form']} says what would run; give --dry-run with it.")
    place = Place(asked["data"], asked["device"], asked["deterministic"])
    # many runs share a data set: it is looked at once for them all
    load = functools.cache(load_data)
    jobs = planner.plan(specs, store, lambda spec: made_of(spec, place, load))
    todo = [job for job in jobs if not job.done]
    threads = max((planner.protocol_of(job.spec).threads for job in todo), default=1)
    if asked["dry_run"] and asked["form"] == "commands":
        lines = planner.commands(
            jobs,
            data=place.data,
            out=asked["out"],
            device=place.device,
            deterministic=place.deterministic,
        )
        click.echo("".join(f"{line}\n" for line in lines), nl=False)
    elif asked["dry_run"]:
        for job in jobs:
            click.echo(f"{job.spec.label():50} {'done' if job.done else planner.WHY[job.state]}")
    else:
        store.create()
    if not todo:
        click.echo(f"All {len(jobs)} runs are done; nothing to train.", err=True)
        return jobs, {}
    seconds, unknown = planner.estimate(todo, store, _rated(asked["rates"], todo, place, load))
    with _engine(asked, threads) as (slots, carry_out):
        slots = min(slots, len(todo))
        guess = f"about {span(seconds / slots)}" if seconds else ""
        guess += f"{' and ' if guess else ''}{unknown} runs nobody has timed here yet" if unknown else ""
        click.echo(f"{len(todo)} of {len(jobs)} runs to make, {slots} at a time: {guess}.", err=True)
        if asked["dry_run"]:
            return jobs, {}
        with Board(jobs, slots) as board:
            return jobs, carry_out(jobs, store, place, slots, board.notify)


def _rated(file: Path | None, jobs: Iterable[Job], place: Place, load: Load) -> Callable[[Job], float | None]:
    """What a run takes by a file of ``bench``."""
    from udcd_bench.engines.execute import split_of
    from udcd_bench.runs import planner, rates

    if file is None:
        return lambda job: None
    measured = rates.read(file)

    def seconds(job: Job) -> float | None:
        protocol = planner.protocol_of(job.spec)
        split = split_of(job.spec, protocol, load(job.spec.dataset, protocol, place))
        return measured.seconds(job, protocol, len(split.train))

    if all(seconds(job) is None for job in jobs):
        raise UserError(
            f"--rates {file}: it is of {measured.about()}, which no run here is; measure what they are."
        )
    return seconds


@contextlib.contextmanager
def _engine(asked: dict[str, Any], threads: int) -> Iterator[tuple[int, Callable[..., dict[str, str]]]]:
    """Where runs of so many threads are made, ready to be used: how many at a time, and what makes them."""
    from udcd_bench.engines import local

    # a dry run joins nobody
    if asked["engine"] == "local" or asked["dry_run"]:
        if asked["address"] and asked["engine"] == "local":
            raise UserError("--address is that of a Ray cluster: add --engine ray.")
        yield local.slots(asked["device"], threads, asked["jobs"]), local.run
        return
    from udcd_bench.engines import ray

    with ray.joined(asked["address"], asked["device"], asked["jobs"], threads) as cluster:
        yield cluster.slots, cluster.run
