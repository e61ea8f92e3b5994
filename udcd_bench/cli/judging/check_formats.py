"""A check's verdicts as text, JSON, JUnit XML (its common dialect) and GitHub workflow commands."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from udcd_bench.judging.uncertainty import describe_training_noise
from udcd_bench.judging.verdicts import VERDICTS, JudgedCell, count_verdicts
from udcd_bench.runs.names import format_data_title
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from udcd_bench.judging.difference import TableVerdict
    from udcd_bench.judging.paper_check import ProtocolDifference, RankedColumn
    from udcd_bench.stats.statistics import TrainingNoise


@dataclass(frozen=True)
class CheckReport:
    """A check, cell by cell and as a whole.

    metadata: table, against, profile, split, rule and, where the data bring their split, own_split, and, where its runs
        are not all alike or of an earlier revision, origins.
    compared: number of cells that were compared.
    reason: why nothing could be judged; empty where something was.
    whole: the verdict on all cells together; None where each is judged alone.
    other_protocol: in what the runs differ from the paper's protocol, as options.
    differences: the same number by number.
    noise: what was taken for training's noise, by data set and metric.
    """

    metadata: dict[str, str]
    cells: list[JudgedCell]
    columns: list[RankedColumn]
    compared: int
    reason: str
    whole: TableVerdict | None = None
    other_protocol: tuple[str, ...] = ()
    differences: tuple[ProtocolDifference, ...] = ()
    noise: Mapping[str, Mapping[str, TrainingNoise]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether something was judged and nothing fails."""
        return not self.status

    @property
    def status(self) -> int:
        """The exit status: 0 judged and nothing fails, 1 judged and something does, 2 nothing could be judged."""
        return 2 if self.reason else int(any(map(self.fails, self.cells)))

    @property
    def outcome(self) -> str:
        """The exit status in words."""
        return ("passed", "failed", "not judged")[self.status]

    @property
    def kind(self) -> str:
        """Of the paper a reproduction, or a comparison where the protocol is another; of a file a regression."""
        if self.metadata["against"] != "paper":
            return "regression"
        return "comparison" if self.other_protocol else "reproduction"

    @property
    def caveat(self) -> str:
        """A sentence that the protocol is not the paper's, and in what; empty where it is."""
        if self.kind != "comparison":
            return ""
        numbers = ", ".join(difference.describe() for difference in self.differences)
        return f"A comparison, not a reproduction: {numbers or ', '.join(self.other_protocol)}."

    @property
    def title(self) -> str:
        """The check in a line."""
        other = f"; another protocol: {', '.join(self.other_protocol)}" if self.other_protocol else ""
        split = self.metadata.get("own_split", f"split {self.metadata['split']}")
        rule = f", rule {self.metadata['rule']}" if self.metadata["rule"] != "mean" else ""
        return (
            f"check {self.metadata['table']} against {self.metadata['against']} "
            f"(profile {self.metadata['profile']}, {split}{rule}{other})"
        )

    def fails(self, cell: JudgedCell) -> bool:
        """Tell whether a cell fails the check: where there is a verdict on the whole, by that.

        A cell that an earlier result has and that is not run any more fails: a gate is not passed by leaving out.
        """
        if self.metadata["against"] != "paper" and cell.verdict == "not run":
            return True
        return cell.fails and (self.whole is None or cell.fails_table or cell.verdict == "failed")


def describe_cell(cell: JudgedCell) -> str:
    """Describe a cell's verdict with what it rests on."""
    text = f"{cell.name}: {cell.verdict}"
    if VERDICTS[cell.verdict].compared:
        text += f"; {cell.theirs:.2f} there, {cell.ours:.2f} here{_format_interval(cell)}, n={cell.n}"
        text += f", tolerance {cell.tolerance:g}{_format_difference(cell)}"
    return f"{text}. {' '.join(cell.note.split())}".strip()


def _format_difference(cell: JudgedCell) -> str:
    """Format what the verdict rests on, where it is more than the tolerance."""
    if not cell.difference_high > cell.difference_low:
        return ""
    text = f"; difference {cell.ours - cell.theirs:+.2f} [{cell.difference_low:+.2f}, {cell.difference_high:+.2f}]"
    return text if math.isnan(cell.p_table) else f"{text}, p in the whole table {cell.p_table:.3f}"


def _format_interval(cell: JudgedCell) -> str:
    wide = math.isfinite(cell.low) and cell.high > cell.low
    return f" [{cell.low:.2f}, {cell.high:.2f}]" if wide else ""


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
        ours = "–" if math.isnan(cell.ours) else f"{cell.ours:.2f}{_format_interval(cell)}"
        difference = _format_difference(cell).removeprefix("; difference ").partition("]")
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
    lines.append(_format_outcome(report))
    return "\n".join(line.rstrip() for line in lines)


def _format_outcome(report: CheckReport) -> str:
    """Format how many cells have each verdict, and the outcome."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in count_verdicts(report.cells).items())
    as_what = (
        " as a comparison, not a reproduction" if report.kind == "comparison" and report.compared else ""
    )
    return f"{counts or 'no cell'}; {report.outcome}{as_what}."


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


def format_junit(report: CheckReport) -> str:
    """Format for build servers: one case for each cell, skipped where not compared; nothing judged is an error.

    A failure is a cell that fails the check, as its exit status says.
    """
    from xml.etree import ElementTree

    suite = ElementTree.Element("testsuite", name=_strip_invalid_xml(report.title))
    properties = ElementTree.SubElement(suite, "properties")
    whole = asdict(report.whole) if report.whole else {}
    caveat = {"caveat": report.caveat} if report.caveat else {}
    if noise := " ".join(describe_training_noise(report.noise)):
        caveat["training_noise"] = noise
    for name, value in {"status": report.status, "outcome": report.outcome, **caveat, **whole}.items():
        words = ", ".join(value) if isinstance(value, tuple) else str(value)
        ElementTree.SubElement(properties, "property", name=name, value=_strip_invalid_xml(words))
    for cell in report.cells:
        _add_junit_case(suite, cell, report)
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


def _add_junit_case(suite: Element, cell: JudgedCell, report: CheckReport) -> None:
    """Add a cell to a suite of JUnit's: as a failure, as skipped, or with what there is to say of it."""
    from xml.etree.ElementTree import SubElement

    rho = "" if cell.rho is None else f".rho-{cell.rho:g}"
    column = _strip_invalid_xml(f"{report.metadata['table']}.{cell.dataset}{rho}")
    name, words = _strip_invalid_xml(f"{cell.method} {cell.metric}"), _strip_invalid_xml(describe_cell(cell))
    case = SubElement(suite, "testcase", classname=column, name=name, time="0")
    if report.fails(cell):
        SubElement(case, "failure", type=cell.verdict, message=words)
    elif not VERDICTS[cell.verdict].conclusive:
        SubElement(case, "skipped", message=words)
    else:
        SubElement(case, "system-out").text = words


def _strip_invalid_xml(words: str) -> str:
    """Replace the characters that XML 1.0 cannot hold, escaped or not."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", words)


def format_github(report: CheckReport) -> str:
    """Format annotations of a GitHub workflow: errors for cells that fail, warnings, and a last line that sums up."""
    return "\n".join(_list_annotations(report))


def _list_annotations(report: CheckReport) -> Iterator[str]:
    for cell in report.cells:
        if report.fails(cell):
            yield _format_annotation("error", cell.name, describe_cell(cell))
        elif VERDICTS[cell.verdict].warns:
            yield _format_annotation("warning", cell.name, describe_cell(cell))
    if report.reason:
        yield _format_annotation("error", report.title, report.reason)
    whole = f"{report.whole.describe()} " if report.whole else ""
    caveat = f"{report.caveat} " if report.caveat else ""
    yield _format_annotation("notice", report.title, f"{caveat}{whole}{_format_outcome(report)}")


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
