"""Runs that a folder holds of a table's rows under other settings than a request's, as the requests that take them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench.errors import UserError
from udcd_bench.grid.row_settings import name_setting
from udcd_bench.runs import profiles
from udcd_bench.runs.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from udcd_bench.grid.cells import TableRequest, TableRow
    from udcd_bench.grid.grid import Grid
    from udcd_bench.runs.results import Results

MOST_REQUESTS = 3
"""Most requests that are named; those that take the most runs."""


class OtherRequest(NamedTuple):
    """A request, and how many finished runs it takes that no request before it takes."""

    request: TableRequest
    n: int


def list_other_requests(grid: Grid, request: TableRequest, results: Results) -> list[OtherRequest]:
    """List the requests of the same rows that take finished runs of this folder, the one of the most runs first.

    They differ from ``request`` in profile, split, backbones, overrides, folds and seeds, and in the data sets where
    the folder has none of those asked for.
    """
    specs = set(results.list_made())
    sources = {group.source for group in grid.list_column_groups(request)}
    rows = grid.list_rows(replace(request, hparams=()))
    candidates = {replace_settings(request, spec, spec.dataset in sources, rows) for spec in specs}
    own = _list_keys(grid.list_runs(request), results)
    taken = {candidate: _select_taken(grid, candidate, results) - own for candidate in candidates}
    others: list[OtherRequest] = []
    while taken and len(others) < MOST_REQUESTS:
        best = max(taken, key=lambda each: (len(taken[each]), _count_overrides(each), repr(each)))
        runs = taken.pop(best)
        if not runs:
            break
        others.append(OtherRequest(best, len(runs)))
        taken = {each: rest - runs for each, rest in taken.items()}
    return others


def replace_settings(
    request: TableRequest, spec: RunSpec, keeps_datasets: bool, rows: Sequence[TableRow]
) -> TableRequest:
    """Return the request with the settings of a stored run.

    keeps_datasets: whether its data set is among those asked for. rows: of the table.
    """
    default = profiles.PROFILES[spec.profile].backbone if spec.profile in profiles.PROFILES else ""
    return replace(
        request,
        profile=spec.profile,
        datasets=request.datasets if keeps_datasets else (spec.dataset,),
        split=spec.split,
        backbone=None if spec.backbone == default else spec.backbone,
        teacher_backbone=spec.teacher_backbone,
        teacher=spec.teacher,
        hparams=tuple(name_setting(name, value, spec.method, rows) for name, value in spec.hparams),
        protocol=spec.protocol,
    )


def _count_overrides(request: TableRequest) -> int:
    """Count overrides, as a negative number: of two requests of the same runs the plainer one counts."""
    return -len((*request.hparams, *request.protocol))


def _list_keys(specs: Iterable[RunSpec], results: Results) -> set[str]:
    """List the keys of those that are finished: several specs may mean one run."""
    return {record["key"] for record in results.select_records(specs).values()}


def _select_taken(grid: Grid, request: TableRequest, results: Results) -> set[str]:
    """Select the keys of the finished runs that a request takes, at every fold and seed that the folder has."""
    specs = [s for s in results.records if (s.profile, s.split) == (request.profile, request.split)]
    folds, seeds = ({getattr(spec, name) for spec in specs} for name in ("fold", "seed"))
    try:
        runs = grid.list_runs(replace(request, folds=tuple(sorted(folds)), seeds=tuple(sorted(seeds))))
    except UserError:  # as of a method that is in no suite here, or has no such hyper-parameter
        return set()
    return _list_keys(runs, results)
