"""What a leaky split is worth: each row's figure on the paper's split less the same row's on the leak-free one.

The paper's split, by image, puts photographs of one lesion and duplicates on both sides; the grouped split does not.
The two test on other images, so the 95 % interval is that of a difference of independent figures, each under chance
as ``evidence`` has it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from udcd_bench.artefacts import captions
from udcd_bench.artefacts.table import RenderedArtefact
from udcd_bench.grid.cells import format_heading
from udcd_bench.judging import verdicts
from udcd_bench.judging.uncertainty import Results, bootstrap_group
from udcd_bench.render.sheet import DASH, Sheet, SheetBand, SheetCell, SheetRow, render_console
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import Records, States, TableRequest
    from udcd_bench.runs.store import Store

SPLITS = ("paper", "grouped")


def build_frame(
    table: Table, request: TableRequest, records: Records, states: States, store: Store
) -> pd.DataFrame:
    """A line for each group of columns, row and metric: ``paper``, ``grouped``, ``leak`` = paper − grouped, the ends
    of its 95 % interval ``low`` and ``high``, all in percent or points; NaN where either split has no run.
    """
    asks = {split: replace(request, split=split) for split in SPLITS}
    place = ["dataset", "rho", "method", "metric"]
    about = ["method_title", "dataset_title", "fraction", "backbone"]
    frames = {split: table.build_frame(asks[split], records, states) for split in SPLITS}
    # both frames have the same lines in the same order
    frame = frames["paper"][place + about].copy()
    for split, of_split in frames.items():
        frame[split], frame[f"n_{split}"] = of_split["ours"], of_split["n"]
        frame[f"split_hash_{split}"] = of_split["split_hash"]
    frame["leak"] = frame["paper"] - frame["grouped"]
    ends = []
    rules = verdicts.load_tolerances()
    for group in table.list_column_groups(request):
        drawn = [
            bootstrap_group(table, asks[s], group, Results(records, states), store, rules) for s in SPLITS
        ]
        for line in table.list_rows(request):
            for metric in table.metrics:
                values = [of_split.get((line.name, metric)) for of_split in drawn]
                if values[0] is None or values[1] is None:
                    ends.append((math.nan, math.nan))
                else:
                    ends.append(statistics.compute_interval(values[0] - values[1], rules.level))
    frame["low"], frame["high"] = zip(*ends)
    return frame


def render(
    table: Table, request: TableRequest, records: Records, states: States, store: Store
) -> RenderedArtefact:
    """Write ``NAME-leak`` as CSV, LaTeX and PNG."""
    from udcd_bench.render.latex import render_latex
    from udcd_bench.render.picture import render_png

    frame = build_frame(table, request, records, states, store)
    laid_out = build_sheet(table, request, frame, records)
    numbers = ["paper", "grouped", "leak", "low", "high"]
    files = {
        "-leak.csv": frame.round(dict.fromkeys(numbers, 2)).to_csv(index=False, lineterminator="\n").encode(),
        "-leak.tex": render_latex(laid_out).encode(),
        "-leak.png": render_png(laid_out),
    }
    return RenderedArtefact(
        frame, render_console(laid_out), table.write(replace(request, split="paper"), store, files)
    )


def build_sheet(table: Table, request: TableRequest, frame: pd.DataFrame, records: Records) -> Sheet:
    """``build``'s frame laid out, with its caption."""
    groups, lines = table.list_column_groups(request), table.list_rows(request)
    rows = frame.to_dict("records")
    per_group, per_line = len(lines) * len(table.metrics), len(table.metrics)
    bands = []
    for place, group in enumerate(groups):
        made = []
        for number, line in enumerate(lines):
            first = place * per_group + number * per_line
            ruled = number > 0 and lines[number - 1].listed and not line.listed
            made.append(
                SheetRow(line.title, "", (tuple(map(_make_cell, rows[first : first + per_line])),), ruled)
            )
        # intervals are wide: one group of columns a band
        bands.append(
            SheetBand((format_heading(group),), tuple(METRICS[m].title for m in table.metrics), tuple(made))
        )
    caption = (
        "Points by which a row's figure on the paper's split, by image, exceeds its figure on the grouped split, where "
        "no lesion and no duplicate is on both sides; in parentheses the 95 % interval of the difference, of test "
        "images drawn by groups and of training.",
        *(_describe_split(request, split, records) for split in SPLITS),
    )
    warning = captions.format_warning([group.source for group in groups if group.synthetic])
    title = f"{table.title}: what the leak is worth"
    return Sheet(f"{table.name}-leak", title, warning, caption, (), tuple(bands))


def _describe_split(request: TableRequest, split: str, records: Records) -> str:
    of_split = {spec: record for spec, record in records.items() if spec.split == split}
    hashes = list(dict.fromkeys(record["split_hash"] for record in of_split.values()))
    repeats = f"folds {', '.join(map(str, request.folds))}, seeds {', '.join(map(str, request.seeds))}"
    if not hashes:
        return f"Split {split}: no run is done."
    return f"Split {split}, profile {request.profile}: {repeats}; split hashes {', '.join(hashes)}."


def _make_cell(row: Mapping[Any, Any]) -> SheetCell:
    if math.isnan(row["leak"]):
        return SheetCell(DASH)
    ends = "" if math.isnan(row["low"]) else f" ({row['low']:+.1f}, {row['high']:+.1f})"
    return SheetCell(f"{row['leak']:+.2f}{ends}".replace("-", "−"))
