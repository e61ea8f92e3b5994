"""The commands ``data list``, ``data prepare``, ``data verify`` and ``data show``."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from udcd_bench.cli import option_values, options
from udcd_bench.cli.options import PATH_TYPE, make_option
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from udcd_bench.data.cache.options import PreparedSet

data_option = make_option(
    "--data",
    "data_dir",
    type=PATH_TYPE,
    default=Path("data"),
    show_default=True,
    help="Folder of prepared data.",
)


def _count_cores() -> int:
    from udcd_bench.data import workers

    return workers.count_cores()


jobs_option = make_option(
    "--jobs",
    type=click.IntRange(1),
    default=_count_cores,
    show_default="one a core",
    help="Processes that decode or draw.",
)


@click.group("data")
def data() -> None:
    """Data sets: list, prepare, verify, show."""


@data.command("list")
@data_option
def list_(data_dir: Path) -> None:
    """List every source of images, what is prepared of it, and where to get it."""
    from udcd_bench.data import sources

    for name, source in sources.SOURCES.items():
        _echo_entry(
            name,
            f"{source.title}: {source.summary}",
            source.where_to_get,
            _format_sizes(sources.list_prepared(name, data_dir)),
        )
    from udcd_bench.data.layouts.medmnist import WHERE_TO_GET

    _echo_entry(
        "medmnist:NAME", f"any single-label 2-D MedMNIST file, NAME.npz in {data_dir}", WHERE_TO_GET, ""
    )
    _echo_entry("folder:PATH", "your own images: one subfolder a class, or a CSV with path and label", "", "")
    if others := _list_other_prepared(data_dir):
        click.echo("also prepared:")
        for line in others:
            click.echo(f"  {line}")


def _echo_entry(name: str, description: str, origin: str, sizes: str) -> None:
    click.echo(f"{click.style(name, bold=True)}\n  {description}")
    if sizes:
        click.echo(f"  prepared: {sizes}")
    if origin:
        click.echo(f"  get it:   {origin}")


def _format_sizes(targets: list[Path]) -> str:
    return ", ".join(_describe_prepared(target) for target in targets)


def _describe_prepared(target: Path) -> str:
    from udcd_bench.data.cache import prepared

    try:
        manifest = prepared.read_manifest(target)
    except UserError:
        return f"{target.name} pixels (DAMAGED, see `udcd-bench data verify`)"
    if manifest is None:
        return f"{target.name} pixels (gone)"
    return f"{target.name} pixels ({manifest.n} images{', incomplete' if manifest.incomplete else ''})"


def _list_other_prepared(data_dir: Path) -> list[str]:
    """Describe prepared folders and MedMNIST sets, by the name they were prepared under."""
    from udcd_bench.data.cache import prepared

    lines = []
    for pattern in ("folder-*/*", "medmnist-*/*"):
        for target in sorted(data_dir.glob(pattern)):
            if target.name.isdecimal():
                try:
                    manifest = prepared.read_manifest(target)
                except UserError:
                    manifest = None
                name = manifest.name if manifest else target.parent.name
                lines.append(f"{name}: {_describe_prepared(target)}")
    return lines


@data.command()
@click.argument("name")
@make_option(
    "--from", "source_path", type=click.Path(path_type=Path), help="Folder, zip or file that holds the set."
)
@make_option("--size", default=224, show_default=True, help="Side of the square images in pixels.")
@make_option("--n-images", type=click.IntRange(1), help="How many to draw (synthetic sets only).")
@make_option(
    "--allow-incomplete", is_flag=True, help="Go on without what is missing or damaged; it is recorded."
)
@make_option(
    "--depth", type=int, help="Bits that 16-bit grey images use, such as 12; 16 leaves them as they are."
)
@options.add_options(options.OWN_IMAGES)
@data_option
@jobs_option
def prepare(
    name: str,
    source_path: Path | None,
    size: int,
    n_images: int | None,
    allow_incomplete: bool,
    depth: int | None,
    data_dir: Path,
    jobs: int,
    **reading: str | None,
) -> None:
    """Decode, check and resize NAME once, into a memory-mapped array."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from udcd_bench.data import sources

    if n_images is not None and not sources.is_synthetic(name):
        raise UserError(f"--n-images is for the synthetic sets, and {name} is not one.")
    start = time.monotonic()
    columns = (TextColumn(name, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        prepare_options = replace(
            option_values.make_reading(reading, (name,)),
            source_path=source_path,
            jobs=jobs,
            allow_incomplete=allow_incomplete,
            depth=depth,
            progress=lambda more, total: bar.update(task, advance=more, total=total),
        )
        result = sources.prepare_dataset(
            name, size=size, data=data_dir, n_images=n_images, options=prepare_options
        )
    _echo_prepared(name, result, time.monotonic() - start)


def _echo_prepared(name: str, result: PreparedSet, seconds: float) -> None:
    """Print what was prepared, the validation report, and in red what was left out."""
    from udcd_bench.data.cache import prepared

    manifest = prepared.read_manifest(result.path)
    assert manifest is not None
    size = f"{manifest.size}×{manifest.size}"
    content = f"{manifest.n} images of {len(manifest.classes)} classes at {size}, {result.path}"
    if result.fresh:
        click.echo(f"{name}: prepared {content} ({seconds:.1f} s)")
    else:
        click.echo(f"{name}: already prepared, {content}")
    if manifest.own_split is not None:
        whose = "own" if manifest.name.startswith("folder:") else "official"
        counts = Counter(manifest.own_split)
        sizes = ", ".join(f"{counts[part]} {part}" for part in ("train", "val", "test") if counts[part])
        click.echo(f"  {whose} split: {sizes}")
    for line in result.report:
        click.echo(f"  {line}")
    if result.incomplete:
        click.secho(result.incomplete, fg="red")


@data.command()
@click.argument("name")
@data_option
def verify(name: str, data_dir: Path) -> None:
    """Check every prepared size of NAME down to the last byte."""
    from udcd_bench.data import sources
    from udcd_bench.data.cache import prepared

    targets = sources.list_prepared(name, data_dir)
    if not targets:
        raise UserError(f"Nothing of {name} is prepared in {data_dir}; see `udcd-bench data list`.")
    messages = []
    for target in targets:
        try:
            prepared.verify(target)
        except UserError as error:
            messages.append(str(error))
        else:
            click.echo(f"{name}: {target} is whole")
    if messages:
        raise UserError("\n".join(messages))


@data.command()
@click.argument("name")
@make_option("--out", type=click.Path(path_type=Path, dir_okay=False), help="PNG file.  [default: NAME.png]")
@make_option("--size", type=int, help="Side in pixels.  [default: the largest prepared, else 128]")
@make_option("--n-images", type=click.IntRange(1), help="How many to draw (synthetic sets only).")
@data_option
@jobs_option
def show(
    name: str, out: Path | None, size: int | None, n_images: int | None, data_dir: Path, jobs: int
) -> None:
    """Draw a contact sheet of NAME: samples by class, counts, augmented views."""
    from udcd_bench.data import contact_sheet, sources
    from udcd_bench.data.cache import prepared
    from udcd_bench.render import fonts

    targets = sources.list_prepared(name, data_dir) if size is None and n_images is None else []
    if targets and not name.startswith(("folder:", "medmnist:")):
        dataset = prepared.load(targets[-1])
    else:
        side = size or (int(targets[-1].name) if targets else 128)
        how = sources.LoadOptions(jobs=jobs)
        dataset = sources.load_dataset(name, size=side, data=data_dir, n_images=n_images, options=how)
    file = out or Path("".join(c if c.isalnum() or c in "-_." else "-" for c in name) + ".png")
    try:
        click.echo(f"{contact_sheet.draw_sheet(dataset, file)}")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error
    if sentence := fonts.describe_numbers(dataset.classes):
        click.echo(sentence)
        click.echo("".join(f"  {n}  {name}\n" for n, name in enumerate(dataset.classes, 1)), nl=False)
