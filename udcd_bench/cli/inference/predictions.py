"""``udcd-bench results predictions``: what finished runs predicted for their test images."""

from __future__ import annotations

from pathlib import Path

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import make_option
from udcd_bench.cli.results import check_table_file, write_table
from udcd_bench.errors import UserError, format_count


@click.command()
@click.argument("run", required=False)
@make_option(
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file, .csv or .parquet.  [default: print CSV]",
)
@options.out
def predictions(run: str | None, file: Path | None, out: Path) -> None:
    """Write a row for each test image of RUN, or of every finished run of --out.

    Columns: key, method, dataset, seed, id, group, fold, label, predicted, p_CLASS for each class, and the entropy of
    these in nats, all of the network after the last epoch. RUN is a run's key or
    its beginning, or its label or the first words of it, as status prints them. Needs no weights: packed results will
    do.
    """
    from udcd_bench.inference.frames import build_runs_frame
    from udcd_bench.inference.selection import find_run, open_store

    if file is not None:
        check_table_file(file)
    store = open_store(out)
    keys = [find_run(store, run)] if run is not None else store.list_keys()
    if not keys:
        raise UserError(f"{out} has no finished run; make one first, or give another --out.")
    frame = build_runs_frame(store, keys)
    if file is None:
        click.echo(frame.to_csv(index=False, lineterminator="\n"), nl=False)
        return
    write_table(file, frame)
    click.echo(f"{file}: {format_count(len(frame), 'image')} of {format_count(len(keys), 'run')}.")
