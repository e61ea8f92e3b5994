"""Commands: results merge, pack, export, verify, prune; and status. ``results predictions`` is beside ``predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import PATH_TYPE, make_option
from udcd_bench.errors import UserError, format_count, make_printable
from udcd_bench.storage.file_names import decode_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from udcd_bench.runs.store import Store


@click.command()
@click.argument("run", required=False)
@options.data
@options.out
def status(run: str | None, data: Path, out: Path) -> None:
    """List what a results folder holds, by label: runs done, under way, interrupted, failed; and each run's key.

    Of RUN, a key or its beginning, or a label or its first words: its state, why it failed and where in the method's
    file, and the command that repeats it. Of several runs of one label it is the newest, and the keys of the others
    are listed.
    """
    from udcd_bench.inference.selection import open_store

    if run:
        from udcd_bench.inference.status import describe_run

        for line in describe_run(open_store(out), decode_name(run), data):
            click.echo(make_printable(line))
        return
    rows = open_store(out).summarize()
    for state, label, remark, key in rows:
        click.echo(f"{state:12} {'  '.join(text for text in (f'{key:16}', label, remark) if text)}")
    states = [row.state for row in rows]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    click.echo(f"{out}: {', '.join(counts) or 'no runs yet'}.")


@click.group("results")
def results() -> None:
    """Results folders: merge, pack, export, predictions, verify, prune."""


def _read_label(store: Store, key: str) -> str:
    from udcd_bench.runs.spec import RunSpec

    return RunSpec.from_dict(store.read_record(key)["spec"]).format_label()


@results.command()
@click.argument("folders", nargs=-1, required=True, type=PATH_TYPE)
@options.out
def merge(folders: tuple[Path, ...], out: Path) -> None:
    """Copy the finished runs of FOLDERS into --out, each whole; nothing when two folders disagree about a run."""
    from udcd_bench.artefacts.made_from import add_indices
    from udcd_bench.inference.selection import open_store
    from udcd_bench.runs.store import Store

    target, stores = Store(out), [open_store(folder) for folder in folders]
    keys_before = set(target.list_keys())
    new, same, reasons = _plan_merge(stores, target)
    if reasons:
        raise UserError("Nothing was merged:\n" + "\n".join(f"  {reason}" for reason in reasons))
    target.create()
    for key, store in new.items():
        target.copy_run(key, store)
    for store in stores:
        add_indices(store.root, target.root)
    added = format_count(len(new.keys() - keys_before), "run")
    fuller = format_count(len(new.keys() & keys_before), "packed run")
    replaced = f", {fuller} now with what was left out" if new.keys() & keys_before else ""
    click.echo(f"{out}: {added} added{replaced}, {same} there already, {len(target.list_keys())} in all.")


def _plan_merge(stores: Sequence[Store], target: Store) -> tuple[dict[str, Store], int, list[str]]:
    """Return key → store of the runs to copy, how many ``target`` has already, and the reasons against merging.

    Of a run packed without its weights or its embeddings and the same with them, the one with them is copied.
    """
    first = dict.fromkeys(target.list_keys(), target)
    new: dict[str, Store] = {}
    same: set[str] = set()
    reasons: list[str] = []
    for store in stores:
        for key in store.list_keys():
            other = first.setdefault(key, store)
            if damage := store.find_damage(key, thorough=True):
                reasons.append(damage)
            elif other is store:
                new[key] = store
            elif damage := other.find_damage(key):
                reasons.append(damage)
            else:
                same |= {key} if other is target else set()
                reasons += _find_conflicts(key, other, store)
                if _measure_fullness(store, key) > _measure_fullness(other, key):
                    first[key] = new[key] = store
    return new, len(same - new.keys()), list(dict.fromkeys(reasons))


def _measure_fullness(store: Store, key: str) -> tuple[bool, bool]:
    """Measure how much of a run a folder holds: its weights, and its embeddings, which a run with weights has."""
    has_weights = store.has_weights(key)
    return has_weights, has_weights or bool(store.read_scores(key)["embeddings"].shape[1])


def _find_conflicts(key: str, left: Store, right: Store) -> list[str]:
    """Find the difference between two records of one run, as a list of at most one sentence.

    Figures that only one of them has are of a metric or rule that its version defined, and no difference.
    """
    records = left.read_record(key), right.read_record(key)
    ours, theirs = (
        {(rule, name): value for rule, each in record["figures"].items() for name, value in each.items()}
        for record in records
    )
    where = next((place for place in ours if place in theirs and ours[place] != theirs[place]), None)
    if where is None:
        return []
    values = [
        f"{store.run_folder(key)} has {where[1]} {figures[where]:.6f} (on {record['environment']['device']})"
        for store, figures, record in zip((left, right), (ours, theirs), records)
    ]
    return [f"{_read_label(left, key)}: {values[0]}, {values[1]}; remove the one you do not trust."]


@results.command()
@make_option(
    "--to", "folder", type=PATH_TYPE, required=True, help="The folder to pack into, such as evidence."
)
@make_option(
    "--without-embeddings",
    is_flag=True,
    help="Leave embeddings out, nine tenths of a run packed; plot tsne then shows no such run.",
)
@options.out
def pack(folder: Path, without_embeddings: bool, out: Path) -> None:
    """Copy the finished runs of --out into a small folder, without weights, for a repository or a colleague.

    check, compare and report read it as it is; run and plot want the data too, or --stored. Embeddings are stored in
    half precision. Runs that are there already stay as they are.
    """
    from udcd_bench.artefacts.made_from import add_indices
    from udcd_bench.inference.selection import open_store
    from udcd_bench.runs.store import Store

    if folder.exists() and folder.samefile(out):
        raise UserError(
            f"--to {folder} is the folder whose runs are packed; give another one, such as evidence."
        )
    try:
        source, target = open_store(out), Store(folder)
    except UserError as error:
        raise UserError(str(error).replace("give another --out", "give another folder")) from error
    if damages := [
        damage for key in source.list_keys() if (damage := source.find_damage(key, thorough=True))
    ]:
        raise UserError("Nothing was packed:\n" + "\n".join(f"  {damage}" for damage in damages))
    target.create()
    new = [key for key in source.list_keys() if not target.is_finished(key)]
    for key in new:
        target.pack_run(key, source, with_embeddings=not without_embeddings)
    add_indices(source.root, target.root)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    click.echo(f"{folder}: {format_count(len(new), 'run')} added, {len(target.list_keys())} in all, {shown}.")


@results.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@options.out
def export(file: Path, out: Path) -> None:
    """Write every finished run of --out to FILE, .csv or .parquet: a row a run and reporting rule.

    Rows of rule best take the epoch that is the most accurate on the test set itself, which is optimistic;
    those of rule best-validation, of validated runs, the one of the best macro F1 on the validation images.
    """
    import pandas as pd

    from udcd_bench.inference.selection import open_store
    from udcd_bench.stats.rules import RULES

    check_table_file(file)
    store = open_store(out)
    frame = pd.concat([store.build_frame(rule) for rule in RULES], ignore_index=True)
    write_table(file, frame)
    runs = frame["key"].nunique() if len(frame) else 0
    synthetic = frame.loc[frame["synthetic"], "key"].nunique() if len(frame) else 0
    click.echo(
        f"{file}: {format_count(runs, 'run')}{f', {synthetic} of them on synthetic images' if synthetic else ''}."
    )
    click.echo("Rule best is the epoch that is the most accurate on the test set itself: optimistic.")


def check_table_file(file: Path) -> None:
    """Raise UserError for a file that is to be neither CSV nor parquet."""
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"{file}: give a file that ends in .csv or .parquet.")


def write_table(file: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV or parquet, by the file's ending. Raises UserError where parquet has no library."""
    import io

    from udcd_bench.storage.atomic import write_atomically

    if file.suffix.lower() == ".csv":
        write_atomically(file, frame.to_csv(index=False).encode())
        return
    buffer = io.BytesIO()
    try:
        frame.to_parquet(buffer, index=False)
    except ImportError as error:
        raise UserError(
            f"{file}: parquet needs pyarrow; `pip install pyarrow`, or give {file.with_suffix('.csv')}."
        ) from error
    write_atomically(file, buffer.getvalue())


@results.command()
@options.out
def verify(out: Path) -> int:
    """Read every byte of every finished run; move what is damaged aside, to be made again by the next start."""
    from udcd_bench.inference.selection import open_store

    store = open_store(out)
    keys = store.list_keys()
    n_damaged = 0
    for key in keys:
        if damage := store.find_damage(key, thorough=True):
            n_damaged += 1
            click.echo(f"{damage.partition(';')[0]}; moved to {store.quarantine(key)}")
    whole = len(keys) - n_damaged
    damaged = f", {n_damaged} {'was' if n_damaged == 1 else 'were'} not" if n_damaged else ""
    click.echo(f"{out}: {format_count(whole, 'run')} {'is' if whole == 1 else 'are'} whole{damaged}.")
    return 1 if n_damaged else 0


@results.command()
@make_option(
    "--profile", "profiles", multiple=True, help="Keep what this profile needs.  [default: all profiles]"
)
@options.out
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(profiles: tuple[str, ...], out: Path, yes: bool) -> None:
    """Remove runs that no table or figure needs at any fold or seed, and that none in the folder was made from;
    reports of failures; and damaged runs. Lists them with the reason, and asks.
    """
    from udcd_bench.artefacts.unneeded import describe_unknown, list_unneeded
    from udcd_bench.inference.selection import open_store
    from udcd_bench.runs.profiles import PROFILES
    from udcd_bench.storage.owners import remove

    store = open_store(out)
    unneeded = list_unneeded(store, profiles or tuple(PROFILES))
    for label, reason, path in unneeded:
        click.echo(f"{label:60} {reason:32} {path}")
    if sentence := describe_unknown(store):
        click.echo(sentence)
    if not unneeded:
        click.echo(f"{out}: nothing to remove.")
    elif yes or click.confirm(
        f"Remove {'this one' if len(unneeded) == 1 else f'these {len(unneeded)}'} from {out}?"
    ):
        for _, _, path in unneeded:
            remove(path)
        click.echo(f"{len(unneeded)} removed.")
