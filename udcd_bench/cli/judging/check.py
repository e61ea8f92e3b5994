"""``udcd-bench check``: a verdict on every cell of a table, against the paper or an earlier result of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import options
from udcd_bench.cli.judging.stored_runs import (
    STORED_RUN_OPTIONS,
    explain_no_runs,
    load_stored_runs,
    name_other_settings,
)
from udcd_bench.cli.options import make_option
from udcd_bench.errors import UserError, format_count

if TYPE_CHECKING:
    from collections.abc import Collection

    from udcd_bench.artefacts.table import Table
    from udcd_bench.cli.judging.check_report import CheckReport
    from udcd_bench.grid.cells import TableRequest
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
    from udcd_bench.cli.judging.check_report import CheckReport
    from udcd_bench.judging.paper_check import list_other_protocol, list_protocol_differences
    from udcd_bench.judging.tolerances import load_tolerances
    from udcd_bench.judging.verdicts import VERDICTS

    against = params["against"]
    tolerances = replace(load_tolerances(params["tolerance"]), their_n=params["their_n"])
    comparison = _judge_table(table, request, results, against, tolerances)
    other = list_other_protocol(request) if against == "paper" else ()
    compared = sum(VERDICTS[cell.verdict].compared for cell in comparison.cells)
    records = results.select_records(table.list_runs(request))
    reason = "" if records else name_other_settings(table, request, results, NO_RUNS)
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
