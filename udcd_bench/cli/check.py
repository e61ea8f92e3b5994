"""``udcd-bench check``: a verdict on every cell of a table, against the paper or an earlier result of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import make_option
from udcd_bench.cli.run import build_request
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.judging.uncertainty import CellKey, Results
    from udcd_bench.runs.store import Store

REQUIRED_COLUMNS = ("dataset", "rho", "method", "metric", "ours", "split_hash")
"""Columns of an earlier result."""


def _check_points(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value <= 100:
        raise click.BadParameter(f"{value:g} points of percent: give more than 0, and 100 at most.")
    return value


def _parse_optional_folds(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    return None if value is None else options.parse_folds(context, parameter, value)


STORED_RUN_OPTIONS = [
    options.profile, options.methods, options.datasets, options.backbone, options.teacher_backbone, options.settings,
    options.out,
    make_option(
        "--split", default="paper", show_default=True, type=click.Choice(["paper", "grouped"]),
        help="By image, or by lesion.",
    ),
    make_option("--folds", callback=_parse_optional_folds, help="Such as 0,1,2, or all.  [default: those there are]"),
    make_option("--seeds", type=click.IntRange(1, 1000), help="How many, from seed 0.  [default: those there are]"),
]  # fmt: skip
"""Which runs of a results folder are meant."""


def load_stored_runs(table: Table, params: dict[str, Any]) -> tuple[Store, Results, TableRequest]:
    """The results folder, what it holds, and the ask with the folds and seeds there are."""
    from udcd_bench.judging import uncertainty
    from udcd_bench.runs.store import Store

    ask = build_request(params, (0,), (0,))
    table.list_column_groups(ask)  # says what is wrong with the ask before the folder is read
    store = Store(params["out"])
    there = uncertainty.load_results(store)
    seeds = None if params["seeds"] is None else tuple(range(params["seeds"]))
    return store, there, uncertainty.select_available_repeats(ask, there, params["folds"], seeds)


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
    "--format", "form", default="text", show_default=True,
    type=click.Choice(["text", "json", "junit", "github"]), help="What is printed.",
)  # fmt: skip
def check(table: str, **params: Any) -> int:
    """Judge a table's cells against the paper or an earlier result; trains nothing, needs no data.

    Exit 1 when a cell is worse than the other figure by more than chance and tolerance allow (against a file: by
    more than the tolerance; against figures by seed: and by more than new seeds would be off, on the same device),
    when the runs of a cell failed, or when nothing was compared. Cells that are better, not run, underpowered or
    impossible fail nothing.
    """
    from udcd_bench import plugins
    from udcd_bench.cli import check_formats
    from udcd_bench.judging import seed_baseline, uncertainty, verdicts
    from udcd_bench.paper import published

    rules = verdicts.load_tolerances(params["tolerance"])
    made = plugins.load_class("tables", table)()
    store, there, ask = load_stored_runs(made, params)
    if params["record"] is not None:
        return _write_baseline(made, ask, there, params)
    frame = made.build_frame(ask, there.records, there.states)
    columns: list[verdicts.RankedColumn] = []
    if params["against"] == "paper":
        figures = published.load_table(table)
        found = (
            uncertainty.bootstrap_table(made, ask, there, store, rules)
            if frame["published"].notna().any()
            else {}
        )
        theirs = {f.key: f.percent for f in figures}
        judged = verdicts.judge_cells(
            frame[frame["published"].notna()],
            theirs,
            found,
            rules,
            verdicts.find_contradicted_cells(table, figures),
        )
        columns = verdicts.rank_columns(judged, figures, found)
    elif seed_baseline.is_baseline_file(file := Path(params["against"])):
        earlier = seed_baseline.load_baselines(file, seed_baseline.describe_settings(made, ask))
        judged = seed_baseline.judge_by_seeds(
            frame, seed_baseline.collect_by_device(made, ask, there), file, earlier, rules
        )
    else:
        judged = verdicts.judge_regressions(frame, _read_earlier_result(file, frame), rules)
    compared = sum(cell.verdict in verdicts.COMPARED_VERDICTS for cell in judged)
    reason = "" if compared else _explain_nothing_compared(made, ask, params, bool(judged))
    about = {"table": table, "against": params["against"], "profile": ask.profile, "split": ask.split}
    report = check_formats.CheckReport(about, judged, columns, compared, reason)
    click.echo(check_formats.FORMATTERS[params["form"]](report))
    if reason:
        click.echo(f"udcd-bench: {reason}", err=True)
    return 0 if report.passed else 1


def _write_baseline(table: Table, request: TableRequest, results: Results, params: dict[str, Any]) -> int:
    """Store the figures by seed; 1 where there is none."""
    from udcd_bench.judging import seed_baseline

    if params["against"] != "paper":
        raise UserError("--record writes figures and --against checks them; give one of the two.")
    made = seed_baseline.collect_by_device(table, request, results)
    if not made:
        click.echo(f"udcd-bench: {_explain_no_runs(table, request, params)}", err=True)
        return 1
    seed_baseline.save_baselines(params["record"], seed_baseline.describe_settings(table, request), made)
    for device, seeds in made.items():
        fewest = seeds.count_fewest_seeds()
        told = f"{fewest} seed{'s' * (fewest > 1)} a fold or more, of {device}"
        click.echo(f"{params['record']}: {len(seeds.rows)} rows, {told}.")
        if fewest < seed_baseline.MIN_SEEDS:
            click.echo(
                f"Fewer than {seed_baseline.MIN_SEEDS} seeds: a check against them is underpowered.", err=True
            )
    return 0


def _explain_no_runs(table: Table, request: TableRequest, params: dict[str, Any]) -> str:
    again = f"udcd-bench run {table.name} --profile {request.profile} --out {params['out']}"
    return f"{params['out']} holds no finished run of these cells; make them with {again}"


def _explain_nothing_compared(
    table: Table, request: TableRequest, params: dict[str, Any], has_cells: bool
) -> str:
    """Why there was nothing to compare, and what to do."""
    if not has_cells and params["against"] == "paper":
        groups = table.list_column_groups(request)
        if any(group.synthetic for group in groups):
            return (
                f"Nothing was compared: profile {request.profile} has synthetic stand-ins in place of the paper's "
                "images, with which no published figure has anything to do; run and check with --profile paper."
            )
        names = ", ".join(dict.fromkeys(group.source for group in groups))
        return f"Nothing was compared: the paper prints no figure for these rows on {names}."
    if not has_cells:
        return (
            f"Nothing was compared: {params['against']} has no figure in any cell of this table as asked for."
        )
    return f"Nothing was compared: {_explain_no_runs(table, request, params)}"


def _read_earlier_result(file: Path, frame: pd.DataFrame) -> dict[CellKey, float]:
    """An earlier result's figures. Raises UserError for a file that is none, and where the test images differ."""
    import numpy as np
    import pandas as pd

    from udcd_bench.judging.verdicts import get_cell_key

    try:
        # opened here: pandas would unpack archives, and fetch what looks like an address
        with file.open(encoding="utf-8", newline="") as opened:
            names = {"split_hash": str, "dataset": str, "method": str, "metric": str}
            read = pd.read_csv(opened, dtype=names, index_col=False, low_memory=False)
    except (OSError, ValueError, OverflowError, Warning) as error:
        told = str(error).partition("\n")[0]
        raise UserError(f"--against {file}: it cannot be read as an earlier result ({told}).") from error
    if missing := [name for name in REQUIRED_COLUMNS if name not in read]:
        raise UserError(
            f"--against {file}: it has no column {missing[0]!r}; give a CSV that udcd-bench run has written."
        )
    try:
        read = read.astype({"rho": float, "ours": float})
    except (ValueError, OverflowError) as error:
        raise UserError(f"--against {file}: a figure in it is no number ({error}).") from error
    if np.isinf(read[["rho", "ours"]]).any(axis=None):
        raise UserError(f"--against {file}: a figure in it is infinite.")
    hashes = {get_cell_key(row): row["split_hash"] for row in frame[frame["n"] > 0].to_dict("records")}
    figures: dict[CellKey, float] = {}
    for row in read[read["ours"].notna()].to_dict("records"):
        place = get_cell_key(row)
        if place in figures:
            raise UserError(f"--against {file}: {row['method']} {row['metric']} stands there twice.")
        now = hashes.get(place, row["split_hash"])
        if now != row["split_hash"]:
            raise UserError(
                f"--against {file}: {row['method']} on {row['dataset']} was tested on other images there (split "
                f"hash {row['split_hash']}, here {now}), so the figures do not compare; choose the same --folds "
                "and --split."
            )
        figures[place] = row["ours"]
    return figures
