"""Audit of published tables: contradictions that rules find in the printed figures alone.

No rule knows one paper: it sees tables of (dataset, rho, method, metric, percent, marks), and ``COLUMN_ROLES`` names
the columns that are precision, recall and F1. A printed figure stands for everything that rounds to it, so every
comparison is one of intervals, in exact fractions.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

from udcd_bench.paper.rounded import format_location, get_metric_title, group_into_rows
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from udcd_bench.paper.published import PublishedValue
    from udcd_bench.paper.rounded import RoundedRow, RoundedValue

COLUMN_ROLES = {
    "precision": ("precision", "prec", "ap"),
    "recall": ("recall", "rec", "sensitivity", "bma"),
    "f1": ("f1", "f1-score", "macro-f1"),
}
"""Role → names of a column of that role, the plainest first; the last of precision is ambiguous."""
COINCIDENCE_FACTOR = 3
"""S: rows that agree by chance at most. F1 lies up to about a point below the harmonic mean, so n rows printed in
steps of s points agree n·s times by chance; a definition is revealed by three times that, and by three rows."""


class AuditRule(NamedTuple):
    """What a rule finds, in a sentence, and where that comes from."""

    description: str
    source: str


OPITZ = "Opitz & Burst 2019, Macro F1 and Macro F1, arXiv:1911.03347"
AUDIT_RULES = {
    "f1-above-harmonic-mean": AuditRule(
        "Impossible: the mean of the per-class F1 never exceeds the F1 of the mean precision and recall, and "
        "averaging over folds or epochs cannot change that, since the harmonic mean is concave.",
        OPITZ,
    ),
    "f1-is-harmonic-mean": AuditRule(
        "Definition revealed: F1 is 2·P·R/(P + R) of the printed precision and recall to the last digit, in more "
        "rows than by chance; so that precision is a precision, whatever its column is called.",
        OPITZ,
    ),
    "f1-definitions-mixed": AuditRule(
        "Some rows print the harmonic mean of precision and recall as F1, others a figure below it.", OPITZ
    ),
    "same-setting-other-figures": AuditRule(
        "The same data set, imbalance and method stand in two places with different figures.",
        "the tables, compared with each other",
    ),
    "same-figures-other-method": AuditRule(
        "Two methods' rows in the same setting share all figures but at most one.",
        "the tables, compared with each other",
    ),
    "best-mark": AuditRule(
        "A figure marked best is not, or the best is not marked.", "the table's own figures"
    ),
    "second-mark": AuditRule(
        "A figure marked second best is not, or the second best is not marked.", "the table's own figures"
    ),
    "claim-fails": AuditRule(
        "A sentence that the printed figures do not bear out.", "the sentence, as quoted"
    ),
}


@dataclass(frozen=True)
class Finding:
    """What a rule found: the figures it concerns, and one sentence."""

    rule: str
    cells: tuple[RoundedValue, ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "rule": self.rule,
            "source": AUDIT_RULES[self.rule].source,
            "where": [cell.to_dict() for cell in self.cells],
            "sentence": self.sentence,
        }


def audit_tables(
    tables: Mapping[str, Sequence[PublishedValue]], own_rhos: Mapping[str, float]
) -> list[Finding]:
    """Apply every rule to tables by name. own_rhos: data set → its own imbalance, as tables print it."""
    printed = group_into_rows(tables)
    findings = [
        *_check_f1(printed),
        *_check_settings([row for table in printed.values() for row in table], own_rhos),
    ]
    for table in printed.values():
        findings += _check_marks(table)
    order = list(AUDIT_RULES)
    return sorted(findings, key=lambda finding: order.index(finding.rule))


# --- F1 against precision and recall ------------------------------------------------------------------------


F1Triple = tuple["RoundedValue", "RoundedValue", "RoundedValue"]
"""Precision, recall and F1 of a row."""


def harmonic_mean(precision: Fraction, recall: Fraction) -> Fraction:
    """Compute 2·P·R/(P + R); 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else Fraction(0)


def _list_triples(table: Iterable[RoundedRow]) -> Iterator[F1Triple]:
    for row in table:
        named = {metric.lower(): cell for metric, cell in row.items()}
        p, r, f1 = (next((named[n] for n in known if n in named), None) for known in COLUMN_ROLES.values())
        if p and r and f1:
            yield p, r, f1


@dataclass(frozen=True)
class _F1Comparison:
    """A table's n rows of precision, recall and F1: F1 equal to, above or below the harmonic mean.

    reveals_definition: whether more rows are equal than chance allows.
    """

    n: int
    equal: list[F1Triple]
    above: list[F1Triple]
    below: list[F1Triple]
    reveals_definition: bool


def _compare_f1(table: Iterable[RoundedRow]) -> _F1Comparison:
    triples = list(_list_triples(table))
    equal = [(p, r, f) for p, r, f in triples if abs(harmonic_mean(p.exact, r.exact) - f.exact) <= f.half]
    chance = sum(2 * f.half for _, _, f in triples)
    return _F1Comparison(
        n=len(triples),
        equal=equal,
        above=[(p, r, f) for p, r, f in triples if f.low > harmonic_mean(p.high, r.high)],
        below=[(p, r, f) for p, r, f in triples if f.high < harmonic_mean(p.low, r.low)],
        reveals_definition=len(equal) >= COINCIDENCE_FACTOR * max(1, chance),
    )


def _check_f1(tables: Mapping[str, Iterable[RoundedRow]]) -> Iterator[Finding]:
    compared = {name: _compare_f1(table) for name, table in tables.items()}
    revealing = [triple for table in compared.values() if table.reveals_definition for triple in table.equal]
    for name, table in compared.items():
        for triple in table.above:
            sure = bool(revealing) or triple[0].metric.lower() in COLUMN_ROLES["precision"][:-1]
            yield _make_impossible_finding(triple, sure)
        if table.reveals_definition:
            yield _make_definition_finding(name, table)
    below = [f for table in compared.values() for _, _, f in table.below]
    if revealing and len(below) >= COINCIDENCE_FACTOR:
        counts = [
            f"{name} {len(table.equal)} equal, {len(table.below)} below, {len(table.above)} above"
            for name, table in compared.items()
            if table.n
        ]
        sentence = f"F1 against the harmonic mean, by rows: {'; '.join(counts)}."
        yield Finding("f1-definitions-mixed", (*(f for _, _, f in revealing), *below), sentence)


def _make_impossible_finding(triple: F1Triple, sure: bool) -> Finding:
    """Make the finding on an F1 above the harmonic mean. sure: whether the precision is known to be one."""
    p, r, f = triple
    precision = get_metric_title(p.metric)
    sentence = (
        f"{format_location(f)}: {get_metric_title(f.metric)} {f.format_text()} is above "
        f"{float(harmonic_mean(p.exact, r.exact)):.2f}, the harmonic mean of {precision} {p.format_text()} and "
        f"{get_metric_title(r.metric)} {r.format_text()}, which rounding lifts to "
        f"{float(harmonic_mean(p.high, r.high)):.3f} at most"
        f"{'' if sure else f', if {precision} is macro-averaged precision'}."
    )
    return Finding("f1-above-harmonic-mean", triple, sentence)


def _make_definition_finding(name: str, table: _F1Comparison) -> Finding:
    """Make the finding on a table whose F1 is the harmonic mean of the printed precision and recall."""
    rows = ", ".join(format_location(f).removeprefix(f"{name} ") for _, _, f in table.equal)
    precision, recall, f1 = (get_metric_title(cell.metric) for cell in table.equal[0])
    sentence = (
        f"{name}: in {len(table.equal)} of {table.n} rows {f1} is the harmonic mean of {precision} and {recall} "
        f"to the last printed digit, so {precision} is macro-averaged precision: {rows}."
    )
    return Finding("f1-is-harmonic-mean", tuple(c for triple in table.equal for c in triple), sentence)


# --- the same setting, twice --------------------------------------------------------------------------------


def _check_settings(table: Sequence[RoundedRow], own_rhos: Mapping[str, float]) -> Iterator[Finding]:
    settings: dict[tuple[str, float | None], list[RoundedRow]] = defaultdict(list)
    for row in table:
        cell = next(iter(row.values()))
        settings[cell.dataset, own_rhos.get(cell.dataset) if cell.rho is None else cell.rho].append(row)
    for rows in settings.values():
        for one, other in combinations(rows, 2):
            yield from _check_pair(one, other)


def _check_pair(one: RoundedRow, other: RoundedRow) -> Iterator[Finding]:
    """Compare two rows of the same setting: one method with other figures, or two methods with the same."""
    pairs = [(one[metric], other[metric]) for metric in one if metric in other]
    if not pairs:
        return
    a, b = pairs[0]
    unlike = [(x, y) for x, y in pairs if _differ(x, y)]
    listed = ", ".join(
        f"{get_metric_title(x.metric)} {x.format_text()} and {y.format_text()}" for x, y in unlike
    )
    cells = tuple(cell for pair in unlike for cell in pair)
    if a.method == b.method and unlike:
        differ = f"{len(unlike)} of {len(pairs)} figures differ: {listed}"
        sentence = f"{format_location(a)} is {format_location(b)}, and {differ}."
        yield Finding("same-setting-other-figures", cells, sentence)
    fine = all(x.half < Fraction(1, 2) > y.half for x, y in pairs)  # whole per cents agree by chance
    if a.method != b.method and fine and len(pairs) >= 4 and len(unlike) <= 1:
        rest = f"; only {listed} differ" if unlike else ""
        same = f"{len(pairs) - len(unlike)} of {len(pairs)} figures"
        sentence = f"{format_location(a)} has {same} of {format_location(b)}{rest}."
        yield Finding("same-figures-other-method", tuple(c for pair in pairs for c in pair), sentence)


def _differ(one: RoundedValue, other: RoundedValue) -> bool:
    if one.half == other.half:
        return one.exact != other.exact
    return one.high < other.low or other.high < one.low  # a figure with fewer digits may be the same


# --- marks --------------------------------------------------------------------------------------------------


def _check_marks(table: Sequence[RoundedRow]) -> Iterator[Finding]:
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
