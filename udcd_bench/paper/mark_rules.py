"""Marks of the best and the second best, against the figures of their column."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from udcd_bench.paper.findings import Finding
from udcd_bench.paper.rounded import get_metric_title
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from fractions import Fraction

    from udcd_bench.paper.rounded import RoundedRow, RoundedValue


def check_marks(table: Sequence[RoundedRow]) -> Iterator[Finding]:
    """Find the marks of a table that stand at the wrong figure, and figures without theirs."""
    columns: dict[tuple[str, float | None, str], list[RoundedValue]] = defaultdict(list)
    for row in table:
        for cell in row.values():
            columns[cell.dataset, cell.rho, cell.metric].append(cell)
    used = {cell.mark for row in table for cell in row.values()}
    for column in columns.values():
        metric = METRICS.get(column[0].metric)
        higher = metric is None or metric.better == "higher"
        ranked = sorted({cell.exact for cell in column}, reverse=higher)
        tied = sum(cell.exact == ranked[0] for cell in column) > 1
        for rank, mark in enumerate(("best", "second")):
            if mark not in used or len(ranked) <= rank:
                continue
            right = {ranked[rank]}
            # of equal bests one may be called second, and then nobody else need be
            fine = right | ({ranked[0]} if tied else set())
            wrong = [c for c in column if c.mark == mark and c.exact not in fine]
            missing = [c for c in column if c.mark != mark and c.exact in right and not (tied and rank)]
            if wrong or missing:
                yield _make_mark_finding(mark, wrong, missing, ranked)


def _make_mark_finding(
    mark: str, wrong: list[RoundedValue], missing: list[RoundedValue], ranked: list[Fraction]
) -> Finding:
    first = (wrong or missing)[0]
    rho = "" if first.rho is None else f" ρ={first.rho:g}"
    parts = [
        f"{c.method} {c.format_text()} is marked {mark} and is number {ranked.index(c.exact) + 1}"
        for c in wrong
    ]
    parts += [
        f"{c.method} {c.format_text()} is number {ranked.index(c.exact) + 1} and is not marked so"
        for c in missing
    ]
    sentence = f"{first.table} {first.dataset}{rho} {get_metric_title(first.metric)}: {'; '.join(parts)}."
    return Finding(f"{mark}-mark", (*wrong, *missing), sentence)
