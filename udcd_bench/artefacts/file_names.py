"""Names of an artefact's files: its own, and behind it what a request asks for in place of the full artefact."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from udcd_bench.data import official
from udcd_bench.plugins import suites
from udcd_bench.runs import profiles
from udcd_bench.runs.names import format_data_title, format_teacher_title
from udcd_bench.runs.spec import format_overrides

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from udcd_bench.grid.cells import TableRequest, TableRow
    from udcd_bench.grid.grid import Grid

MOST_CHARACTERS = 80
"""Most characters of what stands behind an artefact's name; a digest replaces the rest."""


def make_stem(grid: Grid, request: TableRequest) -> str:
    """Make the name of a request's files without ending, such as ``table2-scratch-udcd-digits-grouped``.

    The full artefact, of its own rows and data on fold 0 with seed 0, has the artefact's name alone; its marks and
    the ± are its looks and not in it. The split's name stands last, unless it is the paper's.
    """
    words = join_words(_list_differences(grid, request))
    return (request.name or "-".join(filter(None, [grid.name, words]))) + request.suffix


def join_words(words: Iterable[str]) -> str:
    """Join words to a part of a file's name; what it cannot hold is told apart by a digest of all."""
    text = "-".join(words)
    safe = re.sub(r"[^A-Za-z0-9_.=-]+", "-", text).strip("-.")
    if len(safe) <= MOST_CHARACTERS and not re.search(r"[^A-Za-z0-9_.=:(), -]", text):
        return safe
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
    return "-".join(filter(None, [safe[: MOST_CHARACTERS - 9].rstrip("-."), digest]))


def _list_differences(grid: Grid, request: TableRequest) -> Iterator[str]:
    """List in words what a request asks for other than the full artefact of its profile and split."""
    profile = profiles.find_profile(request.profile)
    rows = grid.list_rows(request)
    if request.methods is not None and rows != grid.list_rows(replace(request, methods=None)):
        rows = grid.list_rows(replace(request, hparams=()))
        order = [name for row in rows for name in (row.name, row.method)]
        # a row may be left out, as that of several teachers is
        yield from sorted(set(request.methods), key=[*order, *request.methods].index)
    else:
        yield from _list_suites(rows)
    if request.datasets is not None:
        names = list(dict.fromkeys(map(profile.resolve_dataset, request.datasets)))
        own = [profile.resolve_dataset(name) for name in grid.datasets]
        if request.split == official.SPLIT:  # which a table takes of those data sets that have it
            own = [name for name in own if name in official.TESTS]
        if names != own:
            yield from map(format_data_title, names)
    backbone = request.backbone or profile.backbone
    if request.backbone and (grid.backbones or grid.pairs or backbone != profile.backbone):
        yield backbone
    if request.teacher_backbone not in ("", backbone):
        yield f"teacher-{request.teacher_backbone}"
    if request.teacher:
        yield f"teacher-{format_teacher_title(request.teacher)}"
    yield from _list_settings(grid, request)
    if request.rule != "mean":
        yield f"rule-{request.rule}"
    if request.folds != (0,):
        yield "folds-" + ("all" if len(request.folds) == 5 else "-".join(map(str, request.folds)))
    if request.seeds != (0,):
        is_count = request.seeds == tuple(range(len(request.seeds)))
        yield "seeds-" + (str(len(request.seeds)) if is_count else "-".join(map(str, request.seeds)))


def _list_suites(rows: Iterable[TableRow]) -> Iterator[str]:
    """List the suites whose rows follow the artefact's own because they are turned on, as ``suite-NAME``."""
    further = [row.method for row in rows if row.in_suite and not row.listed]
    others = dict.fromkeys(suites.find_content("methods", method).suite for method in further)
    yield from (f"suite-{suite.name}" for suite in others if suite.folder != suites.find_root())


def _list_settings(grid: Grid, request: TableRequest) -> Iterator[str]:
    """List the overrides that change a run of the artefact, as ``name=value``, in the order of their names.

    A file of weights is told by the digest of its tensors.
    """
    runs = grid.list_runs(request) if request.protocol or request.hparams else []
    for name, value in sorted(dict((*request.protocol, *request.hparams)).items()):
        without = replace(
            request,
            rule="mean",  # which changes no run
            protocol=tuple(pair for pair in request.protocol if pair[0] != name),
            hparams=tuple(pair for pair in request.hparams if pair[0] != name),
        )
        if grid.list_runs(without) == runs:
            continue
        digest = str(value).rpartition("#")[2] if name == "weights" and "#" in str(value) else ""
        yield f"weights-{digest[:8]}" if digest else format_overrides(((name.removeprefix("*."), value),))[0]
