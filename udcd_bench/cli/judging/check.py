"""``udcd-bench check``: a verdict on every cell of a table, against the paper or an earlier result of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import option_values, options
from udcd_bench.cli.options import make_option
from udcd_bench.cli.run import build_request
from udcd_bench.errors import UserError, format_count

if TYPE_CHECKING:
    from collections.abc import Collection

    from udcd_bench.artefacts.table import Table
    from udcd_bench.cli.judging.check_formats import CheckReport
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.paper_check import TableComparison
    from udcd_bench.judging.tolerances import Tolerances
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.results import Results

NO_RUNS = "finished run of these cells"
"""What a folder lacks where nothing can be judged."""
OTHER_PROTOCOL = (
    "the runs follow another protocol than the paper's ({}), so a difference from its figures says nothing about it; "
    "check runs of --profile paper without such options, or add --compare to see the difference all the same."
)


def _check_points(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value <= 100:
        raise click.BadParameter(f"{value:g} points of percent: give more than 0, and 100 at most.")
    return value


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


@click.command()
@click.argument("table", metavar="TABLE")
@make_option(
    "--against",
    default="paper",
    show_default=True,
    metavar="paper|FILE",
    help="The paper's figures, an earlier TABLE.csv of your own, or what --record wrote.",
)
@make_option(
    "--record",
    type=options.PATH_TYPE,
    metavar="FILE",
    help="Check nothing; put the figures, seed by seed, into FILE for a later --against.",
)
@options.add_options(STORED_RUN_OPTIONS)
@make_option(
    "--tolerance",
    type=float,
    callback=_check_points,
    metavar="POINTS",
    help="Points of percent, for every metric.  [default: tables/tolerances.toml]",
)
@make_option(
    "--their-n", type=click.IntRange(1, 10**9), metavar="N",
    help="Test images behind a published figure.  [default: as many as one fold of ours]",
)  # fmt: skip
@make_option(
    "--each", is_flag=True, help="Judge each cell alone, and fail by any.  [default: the table as a whole]"
)
@make_option(
    "--compare", "other_protocol_allowed", is_flag=True,
    help="Judge runs of another protocol beside the paper's figures all the same.",
)  # fmt: skip
@make_option(
    "--format", "form", default="text", show_default=True,
    type=click.Choice(["text", "json", "junit", "github"]), help="What is printed.",
)  # fmt: skip
def check(table: str, **params: Any) -> int:
    """Judge a table's cells against the paper or an earlier result; trains nothing, needs no data.

    Against the paper both figures have an error, of test images and of training, and the table has one verdict over all
    its cells (docs/statistics.md). Against a file each cell is judged alone: by the tolerance, or, against figures by
    seed, also by what new seeds would be off on the same device.

    Exit 0 when something was judged and nothing fails; 1 when something is worse, or the runs of a cell failed; 2 when
    nothing could be judged. Cells that are better, underpowered or impossible do not fail the check, nor do cells that
    are not run, but for those that FILE has.
    """
    from udcd_bench import plugins
    from udcd_bench.cli.judging import check_formats

    if params["against"] != "paper" and (params["their_n"] or params["other_protocol_allowed"]):
        raise UserError(
            "--their-n and --compare are about the paper's figures; leave them out with --against FILE."
        )
    artefact: Table = plugins.load_class("tables", table)()
    requests, results = load_stored_runs(artefact, params)
    if params["record"] is not None:
        if len(requests) > 1:
            raise UserError("--record stores the figures of one split: choose it with --split.")
        return _write_baseline(artefact, requests[0], results, params)
    reports = [_make_report(artefact, request, results, params) for request in requests]
    click.echo(check_formats.format_reports(reports, params["form"]))
    sentences = [text for request in requests for text in artefact.describe_untested(request, results)]
    sentences += [f"udcd-bench: {report.reason}" for report in reports if report.reason]
    for sentence in dict.fromkeys(sentences):
        click.echo(sentence, err=True)
    return options.join_statuses(report.status for report in reports)


def _make_report(
    table: Table, request: TableRequest, results: Results, params: dict[str, Any]
) -> CheckReport:
    """Judge the table, and say why where nothing could be judged."""
    from udcd_bench.cli.judging.check_formats import CheckReport
    from udcd_bench.judging.paper_check import list_other_protocol, list_protocol_differences
    from udcd_bench.judging.tolerances import load_tolerances
    from udcd_bench.judging.verdicts import VERDICTS

    against = params["against"]
    tolerances = replace(load_tolerances(params["tolerance"]), their_n=params["their_n"])
    comparison = _judge_table(table, request, results, against, tolerances)
    other = list_other_protocol(request) if against == "paper" else ()
    compared = sum(VERDICTS[cell.verdict].compared for cell in comparison.cells)
    records = results.select_records(table.list_runs(request))
    reason = "" if records else _name_other_settings(table, request, results, NO_RUNS)
    if not reason and comparison.cells and other and not params["other_protocol_allowed"]:
        none = "" if records else f"{params['out']} holds no {NO_RUNS}, and "
        reason = none + OTHER_PROTOCOL.format(", ".join(other))
    if reason:
        reason = f"Nothing was judged: {reason}"
        comparison, compared = replace(comparison, cells=[], columns=[], noise={}), 0
    elif not compared:
        reason = _explain_nothing_compared(table, request, results, against, bool(comparison.cells))
    return CheckReport(
        metadata={"table": table.name, "against": against, **_describe_conditions(request, records.values())},
        cells=comparison.cells,
        columns=comparison.columns,
        compared=compared,
        reason=reason,
        noise=comparison.noise,
        whole=None if params["each"] or reason else comparison.table,
        other_protocol=other,
        differences=list_protocol_differences(table, request) if other else (),
    )


def _describe_conditions(request: TableRequest, records: Collection[Record]) -> dict[str, str]:
    """Describe how the runs were made and which epochs are judged: profile, split, rule, in what they are not alike."""
    from udcd_bench.artefacts.data_captions import describe_splits
    from udcd_bench.runs.records import describe_origins

    conditions = {"profile": request.profile, "split": request.split, "rule": request.rule}
    if any(record.get("own_split") for record in records):
        conditions["own_split"] = describe_splits(request.split, records)
    if origins := describe_origins(records):
        conditions["origins"] = origins
    return conditions


def _judge_table(
    table: Table, request: TableRequest, results: Results, against: str, tolerances: Tolerances
) -> TableComparison:
    """Judge a table against the paper, a baseline file or an earlier CSV; only the paper's is judged as a whole."""
    from udcd_bench.judging import seed_baseline
    from udcd_bench.judging.paper_check import TableComparison, compare_with_paper
    from udcd_bench.judging.seed_check import judge_by_seeds
    from udcd_bench.judging.verdicts import judge_regressions

    frame = table.build_frame(request, results)
    if against == "paper":
        return compare_with_paper(table, request, results, frame, tolerances)
    file = Path(against)
    if seed_baseline.is_baseline_file(file):
        baselines = seed_baseline.load_baselines(file, seed_baseline.describe_settings(table, request))
        names = seed_baseline.match_names(
            (row[0] for of_device in baselines.values() for row in of_device.rows), frame
        )
        baselines = {device: of_device.rename_data(names) for device, of_device in baselines.items()}
        ours = seed_baseline.collect_by_device(table, request, results)
        return TableComparison(judge_by_seeds(frame, ours, file, baselines, tolerances), None, [])
    return TableComparison(
        judge_regressions(frame, seed_baseline.read_earlier_result(file, frame), tolerances), None, []
    )


def _write_baseline(table: Table, request: TableRequest, results: Results, params: dict[str, Any]) -> int:
    """Store the figures by seed; returns 2 where no run is finished."""
    from udcd_bench.judging import seed_baseline
    from udcd_bench.judging.seed_check import MIN_SEEDS

    if params["against"] != "paper":
        raise UserError("--record writes figures and --against checks them; give one of the two.")
    baselines = seed_baseline.collect_by_device(table, request, results)
    if not baselines:
        click.echo(f"udcd-bench: {explain_no_runs(table, request, results, NO_RUNS)}", err=True)
        return 2
    seed_baseline.save_baselines(params["record"], seed_baseline.describe_settings(table, request), baselines)
    for device, baseline in baselines.items():
        fewest = baseline.count_fewest_seeds()
        seeds = f"{format_count(fewest, 'seed')} a fold or more, of {device}"
        click.echo(f"{params['record']}: {format_count(len(baseline.rows), 'row')}, {seeds}.")
        if fewest < MIN_SEEDS:
            click.echo(f"Fewer than {MIN_SEEDS} seeds: a check against them is underpowered.", err=True)
    return 0


def explain_no_runs(table: Grid, request: TableRequest, results: Results, what: str) -> str:
    """Explain that a folder holds not what a command needs, and what to type: other settings, or what makes runs.

    what: it needs.
    """
    return _name_other_settings(table, request, results, what) or (
        f"{results.store.root} holds no {what}; make them with {options.format_advice('run', table.name)}"
    )


def _name_other_settings(table: Grid, request: TableRequest, results: Results, what: str) -> str:
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


def _explain_nothing_compared(
    table: Table, request: TableRequest, results: Results, against: str, has_cells: bool
) -> str:
    """Explain why nothing was compared, and what to do."""
    from udcd_bench.runs.names import format_data_title

    if not has_cells and against == "paper":
        groups = table.list_column_groups(request)
        if any(group.synthetic for group in groups):
            return (
                f"Nothing was compared: profile {request.profile} has synthetic stand-ins in place of the paper's "
                "images, with which no published figure has anything to do; run and check with --profile paper."
            )
        names = ", ".join(dict.fromkeys(format_data_title(group.source) for group in groups))
        return f"Nothing was compared: the paper prints no figure for these rows on {names}."
    if not has_cells:
        return f"Nothing was compared: {against} has no figure in any cell of this table as asked for."
    return f"Nothing was compared: {explain_no_runs(table, request, results, NO_RUNS)}"
