"""``udcd-bench report``: one page of everything in a results folder."""

from __future__ import annotations

from pathlib import Path

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import make_option
from udcd_bench.errors import UserError


@click.command()
@make_option("--profile", default="demo", show_default=True, help="demo, lite, quick or paper.")
@make_option(
    "--split", default="paper", show_default=True, type=click.Choice(["paper", "grouped", "official", "all"]),
    help="By image, by lesion, the challenge's own test set, or a page for each that there are runs of.",
)  # fmt: skip
@options.test_part
@options.out
@make_option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file.  [default: OUT/PROFILE/report.html]",
)
def report(profile: str, split: str, test_part: str, out: Path, to: Path | None) -> None:
    """Write one HTML page of all that a results folder holds of a profile; trains nothing, needs no data.

    Tables with verdicts, figures, claims, audit, confusion matrices, learning curves, every run and how to
    reproduce it. The file needs no network and no other file.
    """
    from udcd_bench.report.page import list_splits, render_page
    from udcd_bench.runs.store import Store
    from udcd_bench.storage.atomic import write_atomically

    split, store = options.get_split({"split": split, "test_part": test_part}), Store(out)
    if split == "all" and to is not None:
        raise UserError("--split all writes a page for each split: leave out --to, or choose one split.")
    for each in list_splits(store, profile) or ["paper"] if split == "all" else [split]:
        name = "report.html" if each == "paper" else f"report-{each}.html"
        file = to or out / profile / name
        write_atomically(file, render_page(store, profile, each))
        click.echo(file)
