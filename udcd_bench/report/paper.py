"""The paper's part of the report: its tables with what the audit finds in them beside ours, its claims, its margins."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.data import sources
from udcd_bench.grid.grid import PAPER_ROWS
from udcd_bench.judging import claim_check, claim_file
from udcd_bench.judging.paper_audit import group_by_rule
from udcd_bench.paper import rounded
from udcd_bench.paper.findings import AUDIT_RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from udcd_bench.judging.claim_check import ClaimVerdict
    from udcd_bench.judging.claim_file import Claim
    from udcd_bench.judging.verdicts import JudgedCell
    from udcd_bench.paper.findings import AuditRule, Finding
    from udcd_bench.paper.rounded import RoundedValue
    from udcd_bench.report.tables import TablePart
    from udcd_bench.report.views import View
    from udcd_bench.runs.results import Results

CellName = tuple[str, str, float | None, str, str]
"""Table, data set, imbalance, method, metric."""
JudgedClaim = tuple["Claim", "ClaimVerdict", "ClaimVerdict | None"]
"""A claim, the verdict on it by the paper's figures, and by ours where there are runs."""


@dataclass(frozen=True)
class PrintedCell:
    """A published figure. numbers: of the findings that concern it. own: ours beside it, where that was run."""

    text: str
    numbers: tuple[int, ...]
    own: JudgedCell | None


@dataclass(frozen=True)
class PrintedTable:
    """A published table. groups: headings of its columns; metrics: titles, the same in each. rows: title and cells."""

    name: str
    title: str
    groups: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[PrintedCell | None, ...]], ...]


def number_findings(findings: Sequence[Finding]) -> dict[CellName, tuple[int, ...]]:
    """Number the findings from 1, in their order: cell → the numbers of those that concern it."""
    numbers: dict[CellName, dict[int, None]] = {}
    for number, finding in enumerate(findings, 1):
        for cell in finding.cells:
            numbers.setdefault(_name_cell(cell), {})[number] = None
    return {name: tuple(of_cell) for name, of_cell in numbers.items()}


def _name_cell(cell: RoundedValue) -> CellName:
    return cell.table, cell.dataset, cell.rho, cell.method, cell.metric


def build_printed_tables(findings: Sequence[Finding], parts: Iterable[TablePart]) -> Iterator[PrintedTable]:
    """Build every published table. parts: tables of ours, of which the first with a figure counts."""
    numbers = number_findings(findings)
    own: dict[CellName, JudgedCell] = {}
    for part in parts:
        own = {(part.name, *cell.key): cell for cell in part.cells if cell.n} | own
    for name, rows in rounded.group_into_rows(rounded.load_published_tables()).items():
        cells = {_name_cell(cell): cell for row in rows for cell in row.values()}
        settings = list(dict.fromkeys((cell.dataset, cell.rho) for cell in cells.values()))
        methods = list(dict.fromkeys(cell.method for cell in cells.values()))
        metrics = list(dict.fromkeys(cell.metric for cell in cells.values()))
        titles: Mapping[str, str] = plugins.read_attributes("tables", name).get("rows", PAPER_ROWS)
        yield PrintedTable(
            name=name,
            title=str(plugins.read_attributes("tables", name).get("title", name)),
            groups=tuple(_format_setting(*setting) for setting in settings),
            metrics=tuple(map(rounded.get_metric_title, metrics)),
            rows=tuple(
                (
                    titles.get(method, method),
                    tuple(
                        _make_cell(cells.get((name, *setting, method, metric)), numbers, own)
                        for setting, metric in itertools.product(settings, metrics)
                    ),
                )
                for method in methods
            ),
        )


def _make_cell(
    cell: RoundedValue | None,
    numbers: Mapping[CellName, tuple[int, ...]],
    own: Mapping[CellName, JudgedCell],
) -> PrintedCell | None:
    if cell is None:
        return None
    name = _name_cell(cell)
    return PrintedCell(cell.format_text(), numbers.get(name, ()), own.get(name))


def _format_setting(dataset: str, rho: float | None) -> str:
    return sources.find_title(dataset) + ("" if rho is None else f", ρ = {rho:g}")


def list_printed_lines(tables: Iterable[PrintedTable]) -> Iterator[dict[str, Any]]:
    """List every published figure as plain values, for the page's filter."""
    for table in tables:
        for title, cells in table.rows:
            for (group, metric), cell in zip(itertools.product(table.groups, table.metrics), cells):
                if cell is not None:
                    names = {
                        "setting": f"published in {table.name}",
                        "data": group,
                        "row": title,
                        "metric": metric,
                    }
                    yield names | {"published": float(cell.text), "findings": list(cell.numbers)}


# --- claims and findings ---------------------------------------------------------------------------------------


def judge_claims(view: View | None, results: Results | None) -> list[JudgedClaim]:
    """Judge each sentence of the paper on its figures, and on the runs of a view where there is one."""
    if not claim_file.find_claims_file().is_file():
        return []
    claims = claim_file.load_claims(claim_file.find_claims_file())
    if view is None or results is None:
        return [(claim, claim_check.check_on_paper(claim), None) for claim in claims]
    own_results = claim_check.OwnResults(results, view.request.rule, view.request.protocol)
    profile = view.request.profile
    return [
        (claim, claim_check.check_on_paper(claim), claim_check.check_on_runs(claim, profile, own_results))
        for claim in claims
    ]


def list_findings(findings: Sequence[Finding]) -> Iterator[tuple[str, AuditRule, list[tuple[int, Finding]]]]:
    """List what the published tables show of themselves, by rule, each with its number."""
    numbers = {id(finding): number for number, finding in enumerate(findings, 1)}
    for name, of_rule in group_by_rule(list(findings)).items():
        yield name, AUDIT_RULES[name], [(numbers[id(finding)], finding) for finding in of_rule]
