"""A check's verdicts as text, JSON, JUnit XML (its common dialect) and GitHub workflow commands."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from udcd_bench.judging.verdicts import VERDICTS, JudgedCell, count_verdicts
from udcd_bench.runs.names import format_data_title
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from udcd_bench.judging.paper_check import RankedColumn


@dataclass(frozen=True)
class CheckReport:
    """A check, cell by cell and as a whole.

    metadata: table, against, profile, split and, where some runs are of an earlier revision, older.
    compared: number of cells that were compared. reason: why nothing was compared; empty where something was.
    """

    metadata: dict[str, str]
    cells: list[JudgedCell]
    columns: list[RankedColumn]
    compared: int
    reason: str

    @property
    def passed(self) -> bool:
        """Whether something was compared and no cell fails."""
        return not self.reason and not any(cell.fails for cell in self.cells)

    @property
    def title(self) -> str:
        """The check in a line."""
        return (
            f"check {self.metadata['table']} against {self.metadata['against']} "
            f"(profile {self.metadata['profile']}, split {self.metadata['split']})"
        )


def describe_cell(cell: JudgedCell) -> str:
    """Describe a cell's verdict with what it rests on."""
    text = f"{cell.name}: {cell.verdict}"
    if VERDICTS[cell.verdict].compared:
        text += f"; {cell.theirs:.2f} there, {cell.ours:.2f} here{_format_interval(cell)}, n={cell.n}"
        text += f", tolerance {cell.tolerance:g}"
    return f"{text}. {' '.join(cell.note.split())}".strip()


def _format_interval(cell: JudgedCell) -> str:
    wide = math.isfinite(cell.low) and cell.high > cell.low
    return f" [{cell.low:.2f}, {cell.high:.2f}]" if wide else ""


def format_text(report: CheckReport) -> str:
    """Format for people: one line for each cell, then the order of rows and the marks."""
    lines = [report.title, *([older] if (older := report.metadata.get("older")) else []), ""]
    names = [cell.name for cell in report.cells]
    wide = max(map(len, names), default=0)
    if names:
        theirs = "paper" if report.metadata["against"] == "paper" else "there"
        lines.append(f"{'cell':{wide}}  {theirs:>6}  {'ours [95 % interval]':22} runs  verdict")
    for cell, name in zip(report.cells, names):
        ours = "–" if math.isnan(cell.ours) else f"{cell.ours:.2f}{_format_interval(cell)}"
        line = f"{name:{wide}}  {cell.theirs:6.2f}  {ours:22} n={cell.n:<3} {cell.verdict}"
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
    counts = [f"{n} {verdict}" for verdict, n in count_verdicts(report.cells).items()]
    lines += [""] if report.cells else []
    lines += [f"  {verdict}: {VERDICTS[verdict].meaning}" for verdict in count_verdicts(report.cells)]
    lines.append(f"{', '.join(counts) or 'no cell'}; {'passed' if report.passed else 'failed'}.")
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
        "compared": report.compared,
        "reason": report.reason,
        "counts": count_verdicts(report.cells),
        "cells": [{**asdict(cell), "fails": cell.fails} for cell in report.cells],
        "columns": [asdict(column) for column in report.columns],
    }
    return json.dumps(_replace_non_finite(whole), indent=1, allow_nan=False)


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_junit(report: CheckReport) -> str:
    """Format for build servers: one case for each cell, skipped where not compared; no cell compared is an error."""
    from xml.etree import ElementTree

    suite = ElementTree.Element("testsuite", name=_strip_invalid_xml(report.title))
    for cell in report.cells:
        rho = "" if cell.rho is None else f".rho-{cell.rho:g}"
        case = ElementTree.SubElement(
            suite, "testcase", classname=_strip_invalid_xml(f"{report.metadata['table']}.{cell.dataset}{rho}"),
            name=_strip_invalid_xml(f"{cell.method} {cell.metric}"), time="0",
        )  # fmt: skip
        if cell.fails:
            ElementTree.SubElement(
                case, "failure", type=cell.verdict, message=_strip_invalid_xml(describe_cell(cell))
            )
        elif not VERDICTS[cell.verdict].conclusive:
            ElementTree.SubElement(case, "skipped", message=_strip_invalid_xml(describe_cell(cell)))
        else:
            ElementTree.SubElement(case, "system-out").text = _strip_invalid_xml(describe_cell(cell))
    if report.reason:
        case = ElementTree.SubElement(
            suite, "testcase", classname=report.metadata["table"], name="compared", time="0"
        )
        ElementTree.SubElement(
            case, "error", type="nothing compared", message=_strip_invalid_xml(report.reason)
        )
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped",) * 2):
        suite.set(name, str(sum(1 for _ in suite.iter(tag))))
    ElementTree.indent(suite)
    # letters beyond ASCII as numbers, so that no console's encoding can spoil them
    text = ElementTree.tostring(suite, encoding="us-ascii").decode()
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}'


def _strip_invalid_xml(words: str) -> str:
    """Replace the characters that XML 1.0 cannot hold, escaped or not."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", words)


def format_github(report: CheckReport) -> str:
    """Format annotations of a GitHub workflow: errors for cells that fail, warnings, and a last line that sums up."""
    return "\n".join(_list_annotations(report))


def _list_annotations(report: CheckReport) -> Iterator[str]:
    for cell in report.cells:
        if cell.fails:
            yield _format_annotation("error", cell.name, describe_cell(cell))
        elif VERDICTS[cell.verdict].warns:
            yield _format_annotation("warning", cell.name, describe_cell(cell))
    if report.reason:
        yield _format_annotation("error", report.title, report.reason)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in count_verdicts(report.cells).items())
    yield _format_annotation(
        "notice", report.title, f"{counts or 'no cell'}; {'passed' if report.passed else 'failed'}."
    )


def _format_annotation(kind: str, title: str, message: str) -> str:
    """Format one workflow command, escaped as GitHub's toolkit does (packages/core/src/command.ts)."""

    def escape(words: str, further: str = "") -> str:
        for character in "%\r\n" + further:
            words = words.replace(character, f"%{ord(character):02X}")
        return words

    return f"::{kind} title={escape(title, ':,')}::{escape(message)}"


FORMATTERS: dict[str, Callable[[CheckReport], str]] = {
    "text": format_text,
    "json": format_json,
    "junit": format_junit,
    "github": format_github,
}
