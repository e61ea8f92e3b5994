"""Audit of published tables: contradictions that rules find in the printed figures alone.

No rule knows one paper: it sees tables of (dataset, rho, method, metric, percent, marks), and ``f1_rules.COLUMN_ROLES``
names the columns that are precision, recall and F1. A printed figure stands for everything that rounds to it, so every
comparison is one of intervals, in exact fractions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from udcd_bench.paper.f1_rules import check_f1
from udcd_bench.paper.findings import AUDIT_RULES, Finding
from udcd_bench.paper.mark_rules import check_marks
from udcd_bench.paper.rounded import group_into_rows
from udcd_bench.paper.setting_rules import check_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from udcd_bench.paper.published import PublishedValue


def audit_tables(
    tables: Mapping[str, Sequence[PublishedValue]], own_rhos: Mapping[str, float]
) -> list[Finding]:
    """Apply every rule to tables by name. own_rhos: data set → its own imbalance, as tables print it."""
    printed = group_into_rows(tables)
    findings = [
        *check_f1(printed),
        *check_settings([row for table in printed.values() for row in table], own_rhos),
    ]
    for table in printed.values():
        findings += check_marks(table)
    return sort_by_rule(findings)


def sort_by_rule(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings in the order of their rules."""
    order = list(AUDIT_RULES)
    return sorted(findings, key=lambda finding: order.index(finding.rule))
