"""``udcd-bench predict``: the classes of images that a user has, by a run's network."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import PATH_TYPE, make_option
from udcd_bench.errors import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from udcd_bench.inference.predict import Predictions
    from udcd_bench.inference.stored_run import StoredRun

device_option = make_option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


@click.command()
@click.argument("run")
@click.argument("paths", nargs=-1, required=True, type=PATH_TYPE)
@make_option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write.  [default: print it]",
)
@make_option("--ensemble", is_flag=True, help="Average the probabilities of the networks of all folds.")
@options.out
@device_option
def predict(run: str, paths: tuple[Path, ...], **params: Any) -> int:
    """Predict the classes of images: files, folders with all below them, or zips.

    RUN is a run's key or its beginning, or its label or the first words of it, as status prints them.
    Images are prepared as the run's test images were. CSV: file, predicted, p_CLASS for each class, and the entropy of
    these in nats.
    """
    from udcd_bench.inference.predict import list_images, predict_files
    from udcd_bench.inference.selection import find_run, list_folds, open_store
    from udcd_bench.inference.stored_run import StoredRun

    store = open_store(params["out"])
    key = find_run(store, run)
    keys = list_folds(store, key) if params["ensemble"] else [key]
    runs = [StoredRun(store, each, params["device"]) for each in keys]
    for each in runs:
        _ = each.network  # whatever is wrong with it is told before any image is read
    images = list_images(paths)
    for line in (_describe_runs(runs), *images.report):
        click.echo(line, err=True)
    with _show_progress(len(images.files)) as advance:
        predictions = predict_files(runs, images.files, advance)
    _write(predictions, params["csv_file"])
    return 1 if predictions.unreadable or images.n_lost else 0


def _describe_runs(runs: Sequence[StoredRun]) -> str:
    first, size = runs[0], runs[0].transform.size
    folds = "" if len(runs) == 1 else f", the mean of folds {', '.join(str(run.spec.fold) for run in runs)}"
    made_of = ", trained on synthetic images" if first.record["synthetic"] else ""
    return f"{first.label} ({first.key}){folds}{made_of}; images are resized to {size}×{size}."


@contextlib.contextmanager
def _show_progress(total: int) -> Iterator[Callable[[int], object]]:
    """Show on a terminal how many images are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda more: bar.advance(task, more)


def _write(predictions: Predictions, file: Path | None) -> None:
    """Write the rows, and name what could not be read."""
    from udcd_bench.storage.atomic import write_atomically

    # names of files need not be valid text
    data = predictions.frame.to_csv(index=False, lineterminator="\n").encode(errors="surrogateescape")
    if file is None:
        click.echo(data, nl=False)
    else:
        write_atomically(file, data)
        click.echo(f"{file}: {format_count(len(predictions.frame), 'image')}.", err=True)
    for line in predictions.report:
        click.echo(line, err=True)
    for path, problem in predictions.unreadable:
        click.echo(f"left out: {path} ({problem})", err=True)
