"""Options that select stored runs, the runs that they select, and what is said where there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import option_values, options
from udcd_bench.cli.options import make_option
from udcd_bench.cli.run import build_request
from udcd_bench.errors import UserError, format_count

if TYPE_CHECKING:
    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.runs.results import Results


def _parse_optional_folds(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    return None if value is None else option_values.parse_folds(context, parameter, value)


STORED_RUN_OPTIONS = [
    options.profile, options.methods, options.datasets, options.backbone, options.teacher_backbone, options.teacher,
    options.settings, options.validation, options.rule, options.data, options.out,
    make_option(
        "--split", type=click.Choice(["paper", "grouped", "official", "all"]),
        help="By image, by group, the challenge's own test set, or one after another.  [default: as run has it]",
    ),
    options.test_part,
    make_option("--folds", callback=_parse_optional_folds, help="Such as 0,1,2, or all.  [default: all in the folder]"),
    make_option("--seeds", type=click.IntRange(1, 1000), help="How many, from seed 0.  [default: all in the folder]"),
]  # fmt: skip
"""Options that select runs of a results folder."""


def load_stored_runs(table: Table, params: dict[str, Any]) -> tuple[list[TableRequest], Results]:
    """Load the results folder, and a request for each split with the folds and seeds it has, unless they are given."""
    from udcd_bench.engines.naming import UnknownDataError, load_stored_results
    from udcd_bench.grid.cells import split_request
    from udcd_bench.judging.uncertainty import select_available_repeats
    from udcd_bench.runs.store import Store

    request = build_request(params, (0,), (0,))
    for each in split_request(request):
        table.list_runs(each)  # raises for an invalid request before the folder is read
    try:
        request, results = load_stored_results(request, Store(params["out"]), params["data"])
    except UnknownDataError as error:
        if any(
            name.startswith("folder:") and not option_values.is_existing_folder(name)
            for name in params["datasets"] or ()
        ):
            raise  # there is nothing to make runs from
        again = options.format_advice("run", table.name)
        raise UserError(f"{str(error).removesuffix('.')}, or make them with {again}") from error
    seeds = None if params["seeds"] is None else tuple(range(params["seeds"]))
    requests = split_request(request)
    return [select_available_repeats(each, results, params["folds"], seeds) for each in requests], results


def explain_no_runs(table: Grid, request: TableRequest, results: Results, what: str) -> str:
    """Explain that a folder holds not what a command needs, and what to type: other settings, or what makes runs.

    what: it needs.
    """
    return name_other_settings(table, request, results, what) or (
        f"{results.store.root} holds no {what}; make them with {options.format_advice('run', table.name)}"
    )


def name_other_settings(table: Grid, request: TableRequest, results: Results, what: str) -> str:
    """Name the commands that take what a folder holds in place of what is needed; empty where it holds nothing."""
    from udcd_bench.grid.stored_settings import list_other_requests

    others = list_other_requests(table, request, results)
    if not others:
        return ""
    command = click.get_current_context().info_name or "check"
    choices = [f"{format_count(n, 'run')} by {_format_request(command, table, other)}" for other, n in others]
    return f"{results.store.root} holds no {what}; it holds {', and '.join(choices)}"


def _format_request(command: str, table: Grid, request: TableRequest) -> str:
    """Format the present command with the settings of another request, at every fold and seed that is stored."""
    from udcd_bench.judging.paper_check import list_other_protocol
    from udcd_bench.runs.names import format_teacher_option
    from udcd_bench.runs.spec import parse_split

    split, test_part = parse_split(request.split)
    own = any(name.startswith("folder:") for name in request.datasets or ())  # whose default may be another
    against_paper = click.get_current_context().params.get("against") == "paper"
    changed = {
        "profile": request.profile if request.profile != "demo" else None,
        "split": split if split != "paper" or own else None,
        "test_part": test_part if test_part != "test" else None,
        "settings": (*request.hparams, *request.protocol) or None,
        "validation": None,  # it is one of these settings
        "teacher_backbone": request.teacher_backbone or None,
        "teacher": format_teacher_option(request.teacher) or None,
        "other_protocol_allowed": against_paper and bool(list_other_protocol(request)),
        "folds": None,
        "seeds": None,
        **{name: getattr(request, name) for name in ("backbone", "datasets")},
    }
    return options.format_advice(command, table.name, changed=changed)
