"""A check's verdicts in each form that may be asked for; text and JSON are here."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from udcd_bench.cli.judging.build_servers import format_github, format_junit
from udcd_bench.cli.judging.check_report import (
    CheckReport,
    format_difference,
    format_interval,
    format_outcome,
)
from udcd_bench.judging.uncertainty import describe_training_noise
from udcd_bench.judging.verdicts import VERDICTS, count_verdicts
from udcd_bench.runs.names import format_data_title
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from udcd_bench.judging.paper_check import RankedColumn


def format_text(report: CheckReport) -> str:
    """Format for people: one line for each cell, then the order of rows and the marks."""
    above = (report.title, report.caveat, report.metadata.get("origins", ""))
    lines = [*filter(None, above), ""]
    names = [cell.name for cell in report.cells]
    wide = max(map(len, names), default=0)
    if names:
        theirs = "paper" if report.metadata["against"] == "paper" else "there"
        head = f"{'cell':{wide}}  {theirs:>6}  {'ours [95 % interval]':22} {'difference [95 %]':23} runs  verdict"
        lines.append(f"{head}{' of the cell alone' if report.whole else ''}")
    for cell, name in zip(report.cells, names):
        ours = "–" if math.isnan(cell.ours) else f"{cell.ours:.2f}{format_interval(cell)}"
        difference = format_difference(cell).removeprefix("; difference ").partition("]")
        known = "".join(difference[:2])
        line = f"{name:{wide}}  {cell.theirs:6.2f}  {ours:22} {known:23} n={cell.n:<3} {cell.verdict}"
        lines.append(f"{line}: {cell.note}" if VERDICTS[cell.verdict].explained else line)
    for column in report.columns:
        rank = "no rank correlation" if math.isnan(column.rank) else f"rank correlation {column.rank:+.2f}"
        lines += ["", f"{_format_column(column)}: {rank} over {column.rows} of {column.printed} rows"]
        for mark in column.marks:
            sure = (
                ""
                if math.isnan(mark.probability)
                else f", truly best with probability {mark.probability:.2f}"
            )
            lines.append(f"  {mark.mark}: {mark.method}: {mark.verdict}{sure}")
    lines += [""] if report.cells else []
    lines += [f"  {verdict}: {VERDICTS[verdict].meaning}" for verdict in count_verdicts(report.cells)]
    lines += describe_training_noise(report.noise)
    lines += [report.whole.describe()] if report.whole else []
    lines.append(format_outcome(report))
    return "\n".join(line.rstrip() for line in lines)


def _format_column(column: RankedColumn) -> str:
    rho = "" if column.rho is None else f" ρ={column.rho:g}"
    metric = METRICS[column.metric].title if column.metric in METRICS else column.metric
    return f"{format_data_title(column.dataset)}{rho} {metric}"


def format_json(report: CheckReport) -> str:
    """Format for programs: everything, null where there is no number."""
    whole = {
        **report.metadata,
        "passed": report.passed,
        "status": report.status,
        "outcome": report.outcome,
        "kind": report.kind,
        "other_protocol": report.other_protocol,
        "protocol_differences": [asdict(difference) for difference in report.differences],
        "table_verdict": asdict(report.whole) if report.whole else None,
        "training_noise": {
            title: {
                metric: asdict(noise) | {"deviation": noise.deviation, "freedom": noise.freedom}
                for metric, noise in by_metric.items()
            }
            for title, by_metric in report.noise.items()
        },
        "compared": report.compared,
        "reason": report.reason,
        "counts": count_verdicts(report.cells),
        "cells": [
            {**asdict(cell), "fails_alone": cell.fails, "fails": report.fails(cell)} for cell in report.cells
        ],
        "columns": [asdict(column) for column in report.columns],
    }
    return json.dumps(_replace_non_finite(whole), indent=1, allow_nan=False)


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


FORMATTERS: dict[str, Callable[[CheckReport], str]] = {
    "text": format_text,
    "json": format_json,
    "junit": format_junit,
    "github": format_github,
}


def format_reports(reports: Sequence[CheckReport], form: str) -> str:
    """Format the checks of several splits as one text; of a single one as it is alone."""
    texts = [FORMATTERS[form](report) for report in reports]
    if len(texts) == 1:
        return texts[0]
    if form == "json":
        return "[\n" + ",\n".join(texts) + "\n]"
    if form == "junit":
        head = texts[0].partition("\n")[0]
        suites = "\n".join(text.partition("\n")[2] for text in texts)
        return f"{head}\n<testsuites>\n{suites}\n</testsuites>"
    return ("\n\n" if form == "text" else "\n").join(texts)
