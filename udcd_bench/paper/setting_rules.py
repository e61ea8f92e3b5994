"""The same setting in two places: figures that differ, rows that are another method's, and columns left behind."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import combinations
from typing import TYPE_CHECKING

from udcd_bench.paper.f1_rules import fits_harmonic_mean, select_triple
from udcd_bench.paper.findings import Finding
from udcd_bench.paper.rounded import format_location, get_metric_title

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from udcd_bench.paper.rounded import RoundedRow, RoundedValue

RowPair = tuple["RoundedRow", "RoundedRow"]
WITNESSES = 2
"""S: rows that tell a column left behind from a single slip."""


def check_settings(table: Sequence[RoundedRow], own_rhos: Mapping[str, float]) -> Iterator[Finding]:
    """Compare all rows of the same setting. own_rhos: data set → its own imbalance, as tables print it."""
    settings: dict[tuple[str, float | None], list[RoundedRow]] = defaultdict(list)
    for row in table:
        cell = next(iter(row.values()))
        settings[cell.dataset, own_rhos.get(cell.dataset) if cell.rho is None else cell.rho].append(row)
    pairs = [pair for rows in settings.values() for pair in combinations(rows, 2)]
    stale = _find_stale_columns(pairs)
    witnesses = [set(map(id, pair)) for rows in stale.values() for pair in rows]
    for one, other in pairs:
        # rows that bear witness to a column left behind are told of there
        is_witness = {id(one), id(other)} in witnesses
        yield from (
            finding
            for finding in _check_pair(one, other)
            if not (is_witness and finding.rule == "same-setting-other-figures")
        )
    yield from (_make_stale_finding(*tables, rows) for tables, rows in stale.items())


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
    if a.method != b.method and _share_all_but_one(pairs):
        rest = f"; only {listed} differ" if unlike else ""
        same = f"{len(pairs) - len(unlike)} of {len(pairs)} figures"
        sentence = f"{format_location(a)} has {same} of {format_location(b)}{rest}."
        yield Finding("same-figures-other-method", tuple(c for pair in pairs for c in pair), sentence)


def _share_all_but_one(pairs: Sequence[tuple[RoundedValue, RoundedValue]]) -> bool:
    fine = all(x.half < Fraction(1, 2) > y.half for x, y in pairs)  # whole per cents agree by chance
    return fine and len(pairs) >= 4 and sum(_differ(x, y) for x, y in pairs) <= 1


def _differ(one: RoundedValue, other: RoundedValue) -> bool:
    if one.half == other.half:
        return one.exact != other.exact
    return one.high < other.low or other.high < one.low  # a figure with fewer digits may be the same


def _find_stale_columns(pairs: Sequence[RowPair]) -> dict[tuple[str, str], list[RowPair]]:
    """Find, by tables, the rows of which only recall differs while F1 goes with the first table's recall in both."""
    witnesses: dict[tuple[str, str], list[RowPair]] = defaultdict(list)
    for one, other in pairs:
        for fitting, stray in ((one, other), (other, one)):
            if _differs_in_recall_alone(fitting, stray):
                tables = (next(iter(row.values())).table for row in (fitting, stray))
                witnesses[tuple(tables)].append((fitting, stray))  # type: ignore[index]
    return {
        tables: rows
        for tables, rows in witnesses.items()
        if tables[0] != tables[1] and len(rows) >= WITNESSES
    }


def _differs_in_recall_alone(fitting: RoundedRow, stray: RoundedRow) -> bool:
    """Tell whether two rows differ in recall alone, and F1 is the harmonic mean with the first one's alone."""
    triples = (select_triple(fitting), select_triple(stray))
    if not all(triples) or fitting.keys() != stray.keys():
        return False
    (p, r, f1), (_, other, _) = triples  # type: ignore[misc]
    unlike = [metric for metric in fitting if _differ(fitting[metric], stray[metric])]
    same_row = r.method == other.method or _share_all_but_one([(fitting[m], stray[m]) for m in fitting])
    return (
        same_row
        and unlike == [r.metric]
        and fits_harmonic_mean(p, r, f1)
        and not fits_harmonic_mean(p, other, f1)
    )


def _make_stale_finding(table: str, other_table: str, rows: Sequence[RowPair]) -> Finding:
    cells, parts = [], []
    for fitting, stray in rows:
        (p, r, f1), (_, other, _) = select_triple(fitting), select_triple(stray)  # type: ignore[misc]
        cells += [p, r, f1, other]
        name = r.method if r.method == other.method else f"{r.method} beside {other.method}"
        parts.append(f"{name} (F1 {f1.format_text()}, {r.format_text()} and {other.format_text()})")
    recall = get_metric_title(cells[1].metric)
    sentence = (
        f"In {len(rows)} rows only {recall} differs between {table} and {other_table}, and in both F1 is the harmonic "
        f"mean of {get_metric_title(cells[0].metric)} and {table}'s {recall}: {', '.join(parts)}. "
        f"So one of the two {recall} columns is stale."
    )
    return Finding("stale-column", tuple(cells), sentence)
