"""What a reader must know of the runs behind a cell: which are not done, what their method sets itself, its teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from udcd_bench import plugins
from udcd_bench.grid import cells
from udcd_bench.runs import planner, profiles
from udcd_bench.runs.spec import TEACHER_METHOD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from udcd_bench.grid.cells import TableRequest, TableRow
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import RunSpec


def format_notes(request: TableRequest, row: TableRow, specs: Sequence[RunSpec], results: Results) -> str:
    """Format all there is to say of a cell's runs in one line; empty where there is nothing."""
    sentences = [
        cells.format_note(row, specs, results),
        _describe_own_protocol(request, specs),
        _describe_own_teacher(specs),
        *cells.describe_untested_classes(specs, results),
    ]
    return " ".join(filter(None, sentences))


def _describe_own_teacher(specs: Sequence[RunSpec]) -> str:
    """Describe the rows that a method has named as its teachers'; empty where it is the usual one, or ``--teacher``."""
    rows = planner.find_teacher_rows(specs[0].method) if specs and not specs[0].teacher else []
    if rows in ([], [TEACHER_METHOD]):
        return ""
    return f"Taught by the run{'s' * (len(rows) > 1)} of {' and '.join(rows)}."


def _describe_own_protocol(request: TableRequest, specs: Sequence[RunSpec]) -> str:
    """Describe the numbers of the protocol that a row's method sets itself; empty where it sets none."""
    if not specs:
        return ""
    names = plugins.read_attributes("methods", specs[0].method).get("protocol", {})
    own = planner.resolve_protocol(specs[0])
    usual = profiles.build_protocol(request.profile, specs[0].dataset, request.protocol)
    pairs = [(name, getattr(own, name), getattr(usual, name)) for name in names]
    changes = [f"{name} = {mine} in place of {theirs}" for name, mine, theirs in pairs if mine != theirs]
    return f"The method sets numbers of the protocol itself: {', '.join(changes)}." if changes else ""
