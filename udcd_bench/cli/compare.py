"""``udcd-bench compare``: each row of a table against one of them, on the same images, folds and seeds."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import options
from udcd_bench.cli.check import STORED_RUN_OPTIONS, explain_no_runs, load_stored_runs
from udcd_bench.cli.options import make_option
from udcd_bench.errors import format_count

if TYPE_CHECKING:
    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.judging.comparisons import Comparison


@click.command()
@click.argument("table", metavar="TABLE")
@make_option(
    "--with", "other", default="udcd", show_default=True, metavar="ROW", callback=options.decode_text,
    help="The row to compare with.",
)  # fmt: skip
@options.add_options(STORED_RUN_OPTIONS)
@make_option(
    "--format", "form", default="text", show_default=True, type=click.Choice(["text", "json", "csv"]),
    help="What is printed.",
)  # fmt: skip
def compare(table: str, **params: Any) -> int:
    """Compare each row of a table with UDCD, or another row, in pairs; trains nothing, needs no data.

    A pair is of one fold and seed, tested on the same images. Prints the difference with its 95 % interval, p of no
    difference corrected over the rows of a column, the corrected resampled t-test over folds, and how probable it is
    that the best row is truly the best; and writes it all as TABLE-compare.csv. Exit 1 when runs were
    refused as pairs, 2 when nothing was compared.
    """
    from udcd_bench import plugins
    from udcd_bench.judging import comparisons
    from udcd_bench.judging.tolerances import load_tolerances
    from udcd_bench.runs.records import describe_ages

    artefact: Table = plugins.load_class("tables", table)()
    request, results = load_stored_runs(artefact, params)
    compared = comparisons.compare_rows(artefact, request, results, params["other"], load_tolerances())
    csv = comparisons.format_csv(compared)
    is_empty = not any(row.n for row in compared)
    if params["form"] == "csv":
        click.echo(csv.encode(), nl=False)  # in UTF-8, whatever the console's encoding
    elif params["form"] == "json" or not is_empty or any(row.refused for row in compared):
        metadata = _describe_comparison(artefact, request, params["other"])
        if older := describe_ages(results.select_records(artefact.list_runs(request)).values()):
            metadata["older"] = older.rstrip(".")
        click.echo({"text": _format_text, "json": _format_json}[params["form"]](metadata, compared))
    for sentence in artefact.describe_untested(request, results):
        click.echo(sentence, err=True)
    if is_empty:
        reason = explain_no_runs(artefact, request, results, "two rows to pair")
        click.echo(f"udcd-bench: Nothing was compared: {reason}", err=True)
        return 2
    files = {"-compare.csv": csv.encode()}
    (file,) = artefact.write(request, results, files, artefact.list_runs(request))
    click.echo(file, err=params["form"] != "text")
    return 1 if any(row.refused for row in compared) else 0


def _describe_comparison(table: Table, request: TableRequest, other: str) -> dict[str, str]:
    """Describe the whole: its title, its warning, and what the figures are, by name."""
    from udcd_bench.artefacts import captions
    from udcd_bench.judging import comparisons
    from udcd_bench.judging.tolerances import load_tolerances
    from udcd_bench.runs.spec import format_overrides
    from udcd_bench.stats import statistics
    from udcd_bench.stats.metrics import METRICS

    stand_ins = [group.source for group in table.list_column_groups(request) if group.synthetic]
    settings = "".join(f", {text}" for text in format_overrides((*request.hparams, *request.protocol)))
    backbone = f", {request.backbone}" if request.backbone else ""
    conditions = f"profile {request.profile}, split {request.split}{backbone}{settings}"
    metadata = {
        "title": f"compare {table.name} with {other} ({conditions})",
        "warning": captions.format_warning(stand_ins),
        **comparisons.describe_fields(load_tolerances(), other),
    }
    without = [
        METRICS[metric].title for metric in table.metrics if metric not in statistics.CONFUSION_METRICS
    ]
    if without:
        metadata["not compared"] = f"{', '.join(without)}: predictions alone do not determine them"
    return metadata


def _format_text(metadata: dict[str, str], compared: list[Comparison]) -> str:
    from udcd_bench.judging import comparisons

    lines = [metadata["title"], *([f"!! {metadata['warning']}"] if metadata["warning"] else [])]
    wide = max((len(row.method_title) for row in compared), default=0)
    for title, rows in comparisons.group_by_column(compared):
        head = f"{'difference [95 % interval]':31} {'p':>7} {'Holm':>7}   t-test over folds"
        lines += ["", title, f"  {'':{wide}} {'ours':>6} {'other':>6}  {head}"]
        lines += [f"  {_format_row(row, wide)}" for row in rows if row.method != row.other]
        family = comparisons.count_tests(rows)
        notes = [f"Holm over {format_count(family, 'row')}"] if family else []
        notes += [
            f"best: {row.method_title}, truly the best with probability {row.best:.2f}"
            for row in rows
            if not math.isnan(row.best)
        ]
        lines += [f"  {'; '.join(notes)}"] if notes else []
    lines += [
        "",
        *(f"{name}: {text}." for name, text in metadata.items() if name not in ("title", "warning")),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _format_row(row: Comparison, width: int) -> str:
    if row.reason:
        return f"{row.method_title:{width}} {row.reason}"
    difference = f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}] n={row.n}"
    test = "n/a" if math.isnan(row.p_t) else f"t={row.t:.2f}, p={row.p_t:.4f}, Holm {row.p_t_holm:.4f}"
    figures = f"{row.ours:6.2f} {row.theirs:6.2f}  {difference:31} {row.p:7.4f} {row.p_holm:7.4f}"
    return f"{row.method_title:{width}} {figures}   {test}"


def _format_json(metadata: dict[str, str], compared: list[Comparison]) -> str:
    from udcd_bench.judging import comparisons

    rows = comparisons.build_comparison_frame(compared).to_dict("records")
    plain = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    return json.dumps({**metadata, "rows": plain}, indent=1, allow_nan=False)
