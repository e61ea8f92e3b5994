"""A check's verdicts as text, JSON, JUnit XML (its common dialect) and GitHub workflow commands."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from udcd_bench.judging.verdicts import COMPARED, VERDICTS, Column, Judged, counts
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Report:
    """What was checked, cell by cell and as a whole. reason: why nothing was compared; empty where something was."""

    about: dict[str, str]
    cells: list[Judged]
    columns: list[Column]
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
            f"check {self.about['table']} against {self.about['against']} "
            f"(profile {self.about['profile']}, split {self.about['split']})"
        )


def sentence(cell: Judged) -> str:
    """A cell's verdict with what it rests on."""
    told = f"{cell.name}: {cell.verdict}"
    if cell.verdict in COMPARED:
        told += f"; {cell.theirs:.2f} there, {cell.ours:.2f} here{_interval(cell)}, n={cell.n}"
        told += f", tolerance {cell.tolerance:g}"
    return f"{told}. {' '.join(cell.note.split())}".strip()


def _interval(cell: Judged) -> str:
    wide = math.isfinite(cell.low) and cell.high > cell.low
    return f" [{cell.low:.2f}, {cell.high:.2f}]" if wide else ""


def text(report: Report) -> str:
    """For people: a line a cell, then the order of rows and the marks."""
    lines = [report.title, ""]
    names = [cell.name for cell in report.cells]
    wide = max(map(len, names), default=0)
    if names:
        theirs = "paper" if report.about["against"] == "paper" else "there"
        lines.append(f"{'cell':{wide}}  {theirs:>6}  {'ours [95 % interval]':22} runs  verdict")
    for cell, name in zip(report.cells, names):
        ours = "–" if math.isnan(cell.ours) else f"{cell.ours:.2f}{_interval(cell)}"
        line = f"{name:{wide}}  {cell.theirs:6.2f}  {ours:22} n={cell.n:<3} {cell.verdict}"
        lines.append(f"{line}: {cell.note}" if cell.verdict in ("failed", "impossible") else line)
    for column in report.columns:
        rank = "no rank correlation" if math.isnan(column.rank) else f"rank correlation {column.rank:+.2f}"
        lines += ["", f"{_column(column)}: {rank} over {column.rows} of {column.printed} rows"]
        for mark in column.marks:
            sure = (
                ""
                if math.isnan(mark.probability)
                else f", truly best with probability {mark.probability:.2f}"
            )
            lines.append(f"  {mark.mark}: {mark.method}: {mark.verdict}{sure}")
    told = [f"{n} {verdict}" for verdict, n in counts(report.cells).items()]
    lines += [""] if report.cells else []
    lines += [f"  {verdict}: {VERDICTS[verdict]}" for verdict in counts(report.cells)]
    lines.append(f"{', '.join(told) or 'no cell'}; {'passed' if report.passed else 'failed'}.")
    return "\n".join(line.rstrip() for line in lines)


def _column(column: Column) -> str:
    rho = "" if column.rho is None else f" ρ={column.rho:g}"
    return (
        f"{column.dataset}{rho} {METRICS[column.metric].title if column.metric in METRICS else column.metric}"
    )


def to_json(report: Report) -> str:
    """For programs: everything, null where there is no number."""
    whole = {
        **report.about,
        "passed": report.passed,
        "compared": report.compared,
        "reason": report.reason,
        "counts": counts(report.cells),
        "cells": [{**asdict(cell), "fails": cell.fails} for cell in report.cells],
        "columns": [asdict(column) for column in report.columns],
    }
    return json.dumps(_plain(whole), indent=1, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def junit(report: Report) -> str:
    """For build servers: a case a cell; what was not compared is skipped, and nothing at all is an error."""
    from xml.etree import ElementTree

    suite = ElementTree.Element("testsuite", name=_clean(report.title))
    for cell in report.cells:
        rho = "" if cell.rho is None else f".rho-{cell.rho:g}"
        case = ElementTree.SubElement(
            suite, "testcase", classname=_clean(f"{report.about['table']}.{cell.dataset}{rho}"),
            name=_clean(f"{cell.method} {cell.metric}"), time="0",
        )  # fmt: skip
        if cell.fails:
            ElementTree.SubElement(case, "failure", type=cell.verdict, message=_clean(sentence(cell)))
        elif cell.verdict not in COMPARED or cell.verdict == "underpowered":
            ElementTree.SubElement(case, "skipped", message=_clean(sentence(cell)))
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(sentence(cell))
    if report.reason:
        case = ElementTree.SubElement(
            suite, "testcase", classname=report.about["table"], name="compared", time="0"
        )
        ElementTree.SubElement(case, "error", type="nothing compared", message=_clean(report.reason))
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped",) * 2):
        suite.set(name, str(sum(1 for _ in suite.iter(tag))))
    ElementTree.indent(suite)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(suite, encoding="unicode")}'


def _clean(words: str) -> str:
    """Without the characters that XML 1.0 cannot hold, escaped or not."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", words)


def github(report: Report) -> str:
    """Annotations of a GitHub workflow: errors fail, warnings tell, the last line sums up."""
    return "\n".join(_annotations(report))


def _annotations(report: Report) -> Iterator[str]:
    for cell in report.cells:
        if cell.fails:
            yield _annotation("error", cell.name, sentence(cell))
        elif cell.verdict in ("higher", "lower", "underpowered", "impossible"):
            yield _annotation("warning", cell.name, sentence(cell))
    if report.reason:
        yield _annotation("error", report.title, report.reason)
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts(report.cells).items())
    yield _annotation(
        "notice", report.title, f"{told or 'no cell'}; {'passed' if report.passed else 'failed'}."
    )


def _annotation(kind: str, title: str, message: str) -> str:
    """One workflow command, escaped as GitHub's toolkit does (packages/core/src/command.ts)."""

    def escaped(words: str, further: str = "") -> str:
        for character in "%\r\n" + further:
            words = words.replace(character, f"%{ord(character):02X}")
        return words

    return f"::{kind} title={escaped(title, ':,')}::{escaped(message)}"


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text,
    "json": to_json,
    "junit": junit,
    "github": github,
}
