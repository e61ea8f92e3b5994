"""``udcd-bench compare``: each row of a table against one of them, on the same images, folds and seeds."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from udcd_bench.cli import option_values, options
from udcd_bench.cli.judging.stored_runs import STORED_RUN_OPTIONS, explain_no_runs, load_stored_runs
from udcd_bench.cli.options import make_option
from udcd_bench.errors import UserError, format_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.judging.comparisons import Comparison
    from udcd_bench.runs.results import Results


OTHER = "udcd"
"""The row to compare with, unless another is chosen."""


@click.command()
@click.argument("table", metavar="TABLE")
@make_option(
    "--with", "other", default=OTHER, show_default=True, metavar="ROW", callback=option_values.decode_text,
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

    artefact: Table = plugins.load_class("tables", table)()
    if params["form"] == "csv" and params["split"] == "all":
        raise UserError("--format csv is of one split: choose it, or take the files that --split all writes.")
    requests, results = load_stored_runs(artefact, params)
    if [row.name for row in artefact.list_rows(requests[0])] == [params["other"]]:
        raise UserError(
            f"there is nothing to compare {params['other']} with: name another row in --methods too."
        )
    if click.get_current_context().get_parameter_source("other") is ParameterSource.DEFAULT:
        _refuse_missing_row(artefact, requests[0])
    compared = [_compare_split(artefact, request, results, params) for request in requests]
    shown = [split for split in compared if split.status != 2 or split.refused or params["form"] != "text"]
    if shown:  # in UTF-8, whatever the console's encoding
        click.echo(_join(shown, params["form"]).encode(), nl=params["form"] != "csv")
    for request in requests:
        for sentence in artefact.describe_untested(request, results):
            click.echo(sentence, err=True)
    for split in compared:
        if split.file:
            click.echo(split.file, err=params["form"] != "text")
    if not any(split.file for split in compared):
        reason = explain_no_runs(artefact, requests[0], results, "two rows to pair")
        click.echo(f"udcd-bench: Nothing was compared: {reason}", err=True)
    return options.join_statuses(split.status for split in compared)


def _refuse_missing_row(table: Table, request: TableRequest) -> None:
    """Raise UserError when the row to compare with, which nobody named, is not among those that are asked for."""
    if OTHER not in [row.name for row in table.list_rows(request)]:
        fix = f"among --methods; add {OTHER} there, or" if request.methods else f"a row of {table.name};"
        raise UserError(f"compare sets the rows beside {OTHER}, which is not {fix} give --with ROW.")


class _ComparedSplit(NamedTuple):
    """The rows of one split, compared; file is None where no two could be paired, and then none is written."""

    metadata: dict[str, str]
    rows: list[Comparison]
    file: Path | None

    @property
    def refused(self) -> bool:
        return any(row.refused for row in self.rows)

    @property
    def status(self) -> int:
        return 2 if self.file is None else int(self.refused)


def _compare_split(
    table: Table, request: TableRequest, results: Results, params: Mapping[str, Any]
) -> _ComparedSplit:
    from udcd_bench.judging import comparisons
    from udcd_bench.judging.tolerances import load_tolerances
    from udcd_bench.runs.records import describe_origins

    other = params["other"]
    rows = comparisons.compare_rows(table, request, results, other, load_tolerances())
    specs = table.list_runs(request)
    metadata = _describe_comparison(table, request, results, other)
    if origins := describe_origins(results.select_records(specs).values()):
        metadata["origins"] = origins.rstrip(".")
    file = _write(table, request, results, rows, params) if any(row.n for row in rows) else None
    return _ComparedSplit(metadata, rows, file)


def _write(
    table: Table, request: TableRequest, results: Results, rows: list[Comparison], params: Mapping[str, Any]
) -> Path:
    """Write the comparison; its file's name and first line say which row, folds and seeds were chosen, if any."""
    from udcd_bench.artefacts.commands import format_artefact_command
    from udcd_bench.artefacts.file_names import join_words
    from udcd_bench.judging import comparisons
    from udcd_bench.render.csv_text import add_command

    chosen = {"with": params["other"]} if params["other"] != OTHER else {}
    chosen |= {"folds": ",".join(map(str, params["folds"]))} if params["folds"] is not None else {}
    chosen |= {"seeds": str(params["seeds"])} if params["seeds"] is not None else {}
    every = replace(request, folds=(0,), seeds=(0,))  # without folds and seeds it takes all in the folder
    options_text = "".join(f" --{name} {shlex.quote(value)}" for name, value in chosen.items())
    command = format_artefact_command("compare", table.name, every) + options_text
    words = join_words(f"{name}-{value}" for name, value in chosen.items())
    ending = f"-compare-{words}.csv" if words else "-compare.csv"
    content = {ending: add_command(comparisons.format_csv(rows), command)}
    (file,) = table.write(every, results, content, table.list_runs(request))
    return file


def _join(compared: Sequence[_ComparedSplit], form: str) -> str:
    """Format all splits as one text: as JSON a list of them."""
    from udcd_bench.judging import comparisons

    if form == "csv":
        return comparisons.format_csv(compared[0].rows)
    texts = [
        {"text": _format_text, "json": _format_json}[form](split.metadata, split.rows) for split in compared
    ]
    if form == "text":
        return "\n\n".join(texts)
    return texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "\n]"


def _describe_comparison(table: Table, request: TableRequest, results: Results, other: str) -> dict[str, str]:
    """Describe the whole: its title, its warning, and what the figures are, by name."""
    from udcd_bench.artefacts import captions
    from udcd_bench.artefacts.data_captions import describe_splits
    from udcd_bench.judging import comparisons
    from udcd_bench.judging.tolerances import load_tolerances
    from udcd_bench.judging.uncertainty import describe_training_noise, list_training_noise
    from udcd_bench.runs.spec import format_overrides
    from udcd_bench.stats import statistics
    from udcd_bench.stats.metrics import METRICS

    stand_ins = [group.source for group in table.list_column_groups(request) if group.synthetic]
    settings = "".join(f", {text}" for text in format_overrides((*request.hparams, *request.protocol)))
    backbone = f", {request.backbone}" if request.backbone else ""
    noise = describe_training_noise(list_training_noise(table, request, results))
    records = results.select_records(table.list_runs(request))
    split = describe_splits(request.split, records.values())
    rule = f", rule {request.rule}" if request.rule != "mean" else ""
    conditions = f"profile {request.profile}, {split}{rule}{backbone}{settings}"
    metadata = {
        "title": f"compare {table.name} with {other} ({conditions})",
        "warning": captions.format_warning(stand_ins),
        "other": next(row.title for row in table.list_rows(request) if row.name == other),
        "rule": f"{request.rule} ({captions.describe_rule(request.rule, records.values())})",
        **comparisons.describe_fields(load_tolerances(), other, noise),
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
        others = [row for row in rows if row.method != row.other]
        # one row is called by its name, several by what they are
        name = others[0].method_title if len(others) == 1 else "row"
        columns = [max(6, len(text)) for text in (name, metadata["other"])]
        lines += ["", title, f"  {'':{wide}} {name:>{columns[0]}} {metadata['other']:>{columns[1]}}  {head}"]
        lines += [f"  {_format_row(row, wide, columns)}" for row in others]
        family = comparisons.count_tests(rows)
        notes = [f"Holm over {format_count(family, 'row')}"] if family else []
        notes += [
            f"best over the folds and seeds that all rows have: {row.method_title}, truly so with probability "
            f"{row.best:.2f}"
            for row in rows
            if not math.isnan(row.best)
        ]
        lines += [f"  {'; '.join(notes)}"] if notes else []
    lines += [
        "",
        *(f"{name}: {text}." for name, text in metadata.items() if name not in ("title", "warning", "other")),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _format_row(row: Comparison, width: int, columns: Sequence[int]) -> str:
    """Format a row. width: of its title. columns: of the figures of the two rows."""
    if row.reason:
        return f"{row.method_title:{width}} {row.reason}"
    difference = f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}] n={row.n}"
    test = "n/a" if math.isnan(row.p_t) else f"t={row.t:.2f}, p={row.p_t:.4f}, Holm {row.p_t_holm:.4f}"
    ours, theirs = columns
    figures = f"{row.ours:{ours}.2f} {row.theirs:{theirs}.2f}  {difference:31} {row.p:7.4f} {row.p_holm:7.4f}"
    return f"{row.method_title:{width}} {figures}   {test}"


def _format_json(metadata: dict[str, str], compared: list[Comparison]) -> str:
    from udcd_bench.judging import comparisons

    rows = comparisons.build_comparison_frame(compared).to_dict("records")
    plain = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    return json.dumps({**metadata, "rows": plain}, indent=1, allow_nan=False)
