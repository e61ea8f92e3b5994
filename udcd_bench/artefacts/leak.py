"""What a leaky split is worth: each row's figure on the paper's split less the same row's on the leak-free one.

The paper's split, by image, puts photographs of one lesion and duplicates on both sides; the grouped split does not.
The two test on other images, so the 95 % interval is that of a difference of independent figures, each drawn as in
``judging.uncertainty``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from udcd_bench.artefacts import captions
from udcd_bench.artefacts.commands import format_artefact_command
from udcd_bench.artefacts.file_names import make_stem
from udcd_bench.artefacts.table import RenderedArtefact
from udcd_bench.grid.cells import format_heading
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import bootstrap_group
from udcd_bench.render.csv_text import add_command, format_csv
from udcd_bench.render.sheet import DASH, Sheet, SheetBand, SheetCell, SheetRow, render_console
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.runs.results import Results

SPLITS = ("paper", "grouped")


def build_frame(table: Table, request: TableRequest, results: Results) -> pd.DataFrame:
    """Build a line for each group of columns, row and metric.

    Columns: ``paper``, ``grouped``, ``leak`` = paper − grouped and the ends of its 95 % interval, ``low`` and
    ``high``, all in percent or points; NaN where either split has no run.
    """
    requests = {split: replace(request, split=split) for split in SPLITS}
    frames = {split: table.build_frame(requests[split], results) for split in SPLITS}
    # both frames have the same lines in the same order
    key = ["dataset", "rho", "method", "metric"]
    frame = frames["paper"][[*key, "method_title", "dataset_title", "fraction", "backbone"]].copy()
    for split, of_split in frames.items():
        frame[split], frame[f"n_{split}"] = of_split["ours"], of_split["n"]
        frame[f"split_hash_{split}"] = of_split["split_hash"]
    frame["leak"] = frame["paper"] - frame["grouped"]
    ends = []
    level = load_tolerances().level
    for group in table.list_column_groups(request):
        ours, theirs = (bootstrap_group(table, requests[split], group, results) for split in SPLITS)
        for row in table.list_rows(request):
            for metric in table.metrics:
                cell = (row.name, metric)
                known = cell in ours and cell in theirs
                ends.append(
                    statistics.compute_interval(ours[cell] - theirs[cell], level)
                    if known
                    else (math.nan, math.nan)
                )
    frame["low"], frame["high"] = zip(*ends)
    return frame


def render(table: Table, request: TableRequest, results: Results) -> RenderedArtefact:
    """Write ``NAME-leak`` as CSV, LaTeX and PNG."""
    from udcd_bench.render.latex import render_latex
    from udcd_bench.render.picture import render_png

    frame = build_frame(table, request, results)
    sheet = build_sheet(table, request, results, frame)
    rounded = frame.round(dict.fromkeys(("paper", "grouped", "leak", "low", "high"), 2))
    files = {
        "-leak.csv": add_command(format_csv(rounded), sheet.command),
        "-leak.tex": render_latex(sheet).encode(),
        "-leak.png": render_png(sheet),
    }
    requests = [replace(request, split=split) for split in SPLITS]
    specs = [spec for each in requests for spec in table.list_runs(each)]
    paths = table.write(requests[0], results, files, specs)
    return RenderedArtefact(frame, render_console(sheet), paths)


def build_sheet(table: Table, request: TableRequest, results: Results, frame: pd.DataFrame) -> Sheet:
    """Lay out a frame of ``build_frame``, with its caption."""
    groups = table.list_column_groups(request)
    lines = frame.to_dict("records")
    per_group = len(lines) // len(groups)
    requests = {split: replace(request, split=split) for split in SPLITS}
    caption = (
        "Points by which a row's figure on the paper's split, by image, exceeds its figure on the grouped split, where "
        "no lesion and no duplicate is on both sides; in parentheses the 95 % interval of the difference, of test "
        "images drawn by groups and of training.",
        *(_describe_split(request, split, results) for split in SPLITS),
        *(
            f"Split {split}, {text}"
            for split in SPLITS
            for text in table.describe_untested(requests[split], results)
        ),
    )
    return Sheet(
        name=f"{table.name}-leak",
        stem=f"{make_stem(table, requests['paper'])}-leak",
        command=format_artefact_command("run", table.name, replace(request, split="both")),
        title=f"{captions.format_title(table.title, table, request)}: what the leak is worth",
        warning=captions.format_warning([group.source for group in groups if group.synthetic]),
        caption=caption,
        notes=(),
        # intervals are wide: one group of columns a band
        bands=tuple(
            SheetBand(
                groups=(format_heading(group),),
                metrics=tuple(METRICS[metric].title for metric in table.metrics),
                rows=_build_rows(table, request, lines[index * per_group : (index + 1) * per_group]),
            )
            for index, group in enumerate(groups)
        ),
    )


def _build_rows(
    table: Table, request: TableRequest, lines: Sequence[Mapping[Any, Any]]
) -> tuple[SheetRow, ...]:
    """Build the rows of one group of columns from its lines of the frame; further methods stand below a rule."""
    rows = table.list_rows(request)
    n_metrics = len(table.metrics)
    return tuple(
        SheetRow(
            title=row.title,
            note="",
            blocks=(tuple(map(_make_cell, lines[index * n_metrics : (index + 1) * n_metrics])),),
            ruled=index > 0 and rows[index - 1].listed and not row.listed,
        )
        for index, row in enumerate(rows)
    )


def _describe_split(request: TableRequest, split: str, results: Results) -> str:
    records = [record for spec, record in results.records.items() if spec.split == split]
    hashes = list(dict.fromkeys(record["split_hash"] for record in records))
    repeats = f"folds {', '.join(map(str, request.folds))}, seeds {', '.join(map(str, request.seeds))}"
    if not hashes:
        return f"Split {split}: no run is done."
    return f"Split {split}, profile {request.profile}: {repeats}; split hashes {', '.join(hashes)}."


def _make_cell(row: Mapping[Any, Any]) -> SheetCell:
    if math.isnan(row["leak"]):
        return SheetCell(DASH)
    ends = "" if math.isnan(row["low"]) else f" ({row['low']:+.1f}, {row['high']:+.1f})"
    return SheetCell(f"{row['leak']:+.2f}{ends}".replace("-", "−"))
