"""A check's verdicts for build servers: JUnit XML (its common dialect) and GitHub workflow commands."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from udcd_bench.cli.judging.check_report import CheckReport, describe_cell, format_outcome
from udcd_bench.judging.uncertainty import describe_training_noise
from udcd_bench.judging.verdicts import VERDICTS, JudgedCell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element


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
    yield _format_annotation("notice", report.title, f"{caveat}{whole}{format_outcome(report)}")


def _format_annotation(kind: str, title: str, message: str) -> str:
    """Format one workflow command, escaped as GitHub's toolkit does (packages/core/src/command.ts)."""

    def escape(words: str, further: str = "") -> str:
        for character in "%\r\n" + further:
            words = words.replace(character, f"%{ord(character):02X}")
        return words

    return f"::{kind} title={escape(title, ':,')}::{escape(message)}"
