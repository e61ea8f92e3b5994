"""``udcd-bench report``: one page of what a results folder holds, or of the paper alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import option_values, options
from udcd_bench.cli.options import make_option
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from udcd_bench.report.page import Page
    from udcd_bench.report.views import Selection


@click.command()
@make_option("--profile", help="demo, lite, quick or paper.  [default: all in the folder]")
@make_option(
    "--split", type=click.Choice(["paper", "grouped", "official", "all"]),
    help="By image, by lesion, or the challenge's own test set.  [default: all in the folder]",
)  # fmt: skip
@options.test_part
@options.methods
@options.datasets
@options.settings
@options.validation
@options.rule
@options.data
@options.out
@make_option(
    "--to",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file.  [default: OUT/PROFILE/report.html; of several profiles or splits OUT/report.html]",
)
@make_option("--paper-only", is_flag=True, help="The paper's tables, claims and audit, without any run.")
def report(out: Path, to: Path | None, paper_only: bool, **params: Any) -> None:
    """Write one HTML page of what a results folder holds; trains nothing, needs no data.

    It begins with the answer: what holds, what does not, what cannot be told. Then tables with verdicts, rows in
    pairs, classes, figures, the paper's own tables with what the audit finds in them, claims, every run and how to
    reproduce it. The file needs no network and no other file.
    """
    from udcd_bench.report.page import render_page, render_paper_page
    from udcd_bench.runs.store import Store
    from udcd_bench.storage.atomic import write_atomically

    if paper_only:
        page = render_paper_page()
    else:
        page = render_page(Store(out), _build_selection(out, params))
    file = to or out / _name_file(page)
    write_atomically(file, page.html)
    click.echo(file)


def _name_file(page: Page) -> Path:
    if page.chief is None:
        return Path("paper.html")
    places = {(view.request.profile, view.request.suffix) for view in page.views}
    if len(places) > 1:
        return Path("report.html")
    profile, suffix = places.pop()
    return Path(profile) / f"report{suffix}.html"


def _build_selection(out: Path, params: dict[str, Any]) -> Selection:
    """Build the selection of runs; what a user calls own images and weights becomes what the folder calls them."""
    from udcd_bench import plugins
    from udcd_bench.engines.naming import load_stored_results
    from udcd_bench.grid.cells import TableRequest, parse_row_method
    from udcd_bench.report.views import Selection
    from udcd_bench.runs import profiles
    from udcd_bench.runs.store import Store

    profile, methods = params["profile"], params["methods"]
    if profile is not None:
        profiles.find_profile(profile)  # raises for one that does not exist
    for name in map(parse_row_method, methods or ()):
        if name not in plugins.list_names("methods"):
            hint = plugins.suggest_content("methods", name, plugins.list_names("methods"))
            raise UserError(f"There is no method {name!r}{hint}")
    protocol, hparams = profiles.split_overrides(params["settings"])
    request = TableRequest(
        profile or TableRequest.profile, datasets=params["datasets"], protocol=protocol, hparams=hparams
    )
    if (params["datasets"] or protocol) and out.is_dir():
        request, _ = load_stored_results(request, Store(out), params["data"])
    split = option_values.get_split(params) if params["split"] not in (None, "all") else None
    return Selection(
        profile=profile,
        split=split or ("val" if params["test_part"] == "val" else None),
        datasets=request.datasets,
        methods=methods,
        protocol=request.protocol,
        hparams=request.hparams,
        rule=params["rule"],
    )
