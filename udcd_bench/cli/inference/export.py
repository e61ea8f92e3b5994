"""``udcd-bench export``: a run's network in a file for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import make_option


@click.command()
@click.argument("run")
@make_option(
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file: .onnx, .pt2 (torch.export) or .safetensors.",
)
@options.out
def export(run: str, file: Path, out: Path) -> None:
    """Write the network that a run was tested with: normalised images in, logits out; no teacher.

    RUN is a run's key or its beginning, or its label or the first words of it, as status prints them.
    The file's metadata hold the names of the classes, how images are prepared, and which run it is of.
    """
    from udcd_bench.inference.export import check_target, export_run
    from udcd_bench.inference.selection import find_run, open_store
    from udcd_bench.inference.stored_run import StoredRun

    store = open_store(out)
    key = find_run(store, run)

    check_target(file)
    stored = StoredRun(store, key, "cpu")
    export_run(stored, file)
    size = f"{file.stat().st_size / 1e6:.1f} MB"
    click.echo(
        f"{file}: {stored.label}, {len(stored.classes)} classes, images of {stored.transform.size}², {size}."
    )
