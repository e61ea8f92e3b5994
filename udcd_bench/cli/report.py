"""``udcd-bench report``: one page of everything in a results folder."""

from __future__ import annotations

from pathlib import Path

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import make_option


@click.command()
@make_option("--profile", default="demo", show_default=True, help="demo, lite, quick or paper.")
@make_option(
    "--split", default="paper", show_default=True, type=click.Choice(["paper", "grouped", "official"]),
    help="By image, by lesion, or the challenge's own test set.",
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
    from udcd_bench.report.page import render_page
    from udcd_bench.runs.store import Store
    from udcd_bench.storage.atomic import write_atomically

    split = options.get_split({"split": split, "test_part": test_part})
    name = "report.html" if split == "paper" else f"report-{split}.html"
    file = to or out / profile / name
    write_atomically(file, render_page(Store(out), profile, split))
    click.echo(file)
