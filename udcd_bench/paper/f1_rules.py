"""F1 against precision and recall: which definition a column prints, and which figures no definition allows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from udcd_bench.paper.findings import Finding
from udcd_bench.paper.rounded import format_location, get_metric_title

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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


F1Triple = tuple["RoundedValue", "RoundedValue", "RoundedValue"]
"""Precision, recall and F1 of a row."""


def harmonic_mean(precision: Fraction, recall: Fraction) -> Fraction:
    """Compute 2·P·R/(P + R); 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall else Fraction(0)


def select_triple(row: RoundedRow) -> F1Triple | None:
    """Select precision, recall and F1 of a row; None where one of them is not printed."""
    named = {metric.lower(): cell for metric, cell in row.items()}
    p, r, f1 = (next((named[n] for n in known if n in named), None) for known in COLUMN_ROLES.values())
    return (p, r, f1) if p and r and f1 else None


def fits_harmonic_mean(p: RoundedValue, r: RoundedValue, f1: RoundedValue) -> bool:
    """Tell whether F1 is the harmonic mean of precision and recall to the last printed digit."""
    return abs(harmonic_mean(p.exact, r.exact) - f1.exact) <= f1.half


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
    triples = [triple for row in table if (triple := select_triple(row))]
    equal = [triple for triple in triples if fits_harmonic_mean(*triple)]
    chance = sum(2 * f.half for _, _, f in triples)
    return _F1Comparison(
        n=len(triples),
        equal=equal,
        above=[(p, r, f) for p, r, f in triples if f.low > harmonic_mean(p.high, r.high)],
        below=[(p, r, f) for p, r, f in triples if f.high < harmonic_mean(p.low, r.low)],
        reveals_definition=len(equal) >= COINCIDENCE_FACTOR * max(1, chance),
    )


def check_f1(tables: Mapping[str, Iterable[RoundedRow]]) -> Iterator[Finding]:
    """Compare F1 with the harmonic mean of precision and recall, in every row of every table."""
    compared = {name: _compare_f1(table) for name, table in tables.items()}
    revealing = [triple for table in compared.values() if table.reveals_definition for triple in table.equal]
    for name, table in compared.items():
        for triple in table.above:
            yield _make_impossible_finding(triple, _describe_condition(triple[0], name, compared))
        if table.reveals_definition:
            yield _make_definition_finding(name, table)
            yield from _find_definitions_by_row(name, table)
    below = [f for table in compared.values() for _, _, f in table.below]
    if revealing and len(below) >= COINCIDENCE_FACTOR:
        counts = [
            f"{name} {len(table.equal)} equal, {len(table.below)} below, {len(table.above)} above"
            for name, table in compared.items()
            if table.n
        ]
        sentence = f"F1 against the harmonic mean, by rows: {'; '.join(counts)}."
        yield Finding("f1-definitions-mixed", (*(f for _, _, f in revealing), *below), sentence)


def _describe_condition(p: RoundedValue, name: str, compared: Mapping[str, _F1Comparison]) -> str:
    """Describe on what an impossible F1 rests: that the precision is macro-averaged, and which table shows it."""
    precision = get_metric_title(p.metric)
    if p.metric.lower() in COLUMN_ROLES["precision"][:-1]:
        return f", if {precision} is macro-averaged"
    condition = f", if {precision} is macro-averaged precision"
    own, revealing = compared[name], [other for other, table in compared.items() if table.reveals_definition]
    if name in revealing:
        return f"{condition}, as {len(own.equal)} of {own.n} rows of {name} show"
    if revealing:
        return f"{condition}, which {' and '.join(revealing)} shows and {name} does not"
    return condition


def _make_impossible_finding(triple: F1Triple, condition: str) -> Finding:
    """Make the finding on an F1 above the harmonic mean. condition: what it rests on."""
    p, r, f = triple
    sentence = (
        f"{format_location(f)}: {get_metric_title(f.metric)} {f.format_text()} is above "
        f"{float(harmonic_mean(p.exact, r.exact)):.2f}, the harmonic mean of {get_metric_title(p.metric)} "
        f"{p.format_text()} and {get_metric_title(r.metric)} {r.format_text()}, which rounding lifts to "
        f"{float(harmonic_mean(p.high, r.high)):.3f} at most{condition}."
    )
    return Finding("f1-above-harmonic-mean", triple, sentence)


def _find_definitions_by_row(name: str, table: _F1Comparison) -> Iterator[Finding]:
    """Find that some methods of a table never fall below the harmonic mean and others do."""
    by_method: dict[str, list[str]] = defaultdict(list)
    cells = []
    for relation, triples in (("equal", table.equal), ("above", table.above), ("below", table.below)):
        for _, _, f in triples:
            by_method[f.method].append(relation)
            cells.append(f)
    several = {method: relations for method, relations in by_method.items() if len(relations) > 1}
    never_below = [method for method, relations in several.items() if "below" not in relations]
    if len(never_below) >= 2 and len(several) > len(never_below):
        parts = [
            f"{method} {', '.join(f'{relations.count(r)} {r}' for r in dict.fromkeys(relations))}"
            for method, relations in several.items()
        ]
        sentence = (
            f"{name}: F1 against the harmonic mean, by method: {'; '.join(parts)}. So the column mixes two definitions "
            f"by row: {', '.join(never_below)} print the harmonic mean or more, the others mostly less."
        )
        yield Finding("f1-definitions-by-row", tuple(cells), sentence)


def _make_definition_finding(name: str, table: _F1Comparison) -> Finding:
    """Make the finding on a table whose F1 is the harmonic mean of the printed precision and recall."""
    rows = ", ".join(format_location(f).removeprefix(f"{name} ") for _, _, f in table.equal)
    precision, recall, f1 = (get_metric_title(cell.metric) for cell in table.equal[0])
    sentence = (
        f"{name}: in {len(table.equal)} of {table.n} rows {f1} is the harmonic mean of {precision} and {recall} "
        f"to the last printed digit, so {precision} is macro-averaged precision: {rows}."
    )
    return Finding("f1-is-harmonic-mean", tuple(c for triple in table.equal for c in triple), sentence)
