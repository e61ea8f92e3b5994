"""Searches that a results folder holds, from their CSVs of trials, as tables of rows as they are and tuned."""

from __future__ import annotations

import csv
import itertools
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench import plugins
from udcd_bench.artefacts.made_from import TRIALS_ENDING
from udcd_bench.grid.cells import TableRequest, parse_row_method
from udcd_bench.render.csv_text import read_command, skip_command
from udcd_bench.tuning.tuned_table import TUNED, combine_table, strip_validation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from udcd_bench.artefacts.table import Table
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.tuning.tuned_table import TunedTable

_STUDY = ("dataset", "rho", "fold", "method")
"""Columns that name whose trial it is."""
SENTENCE = "Tuned: the best trial on validation images, retrained on the whole training fold."


class StoredTrials(NamedTuple):
    """What a CSV of trials says: the table searched, the command, how many trials a row has, and its lines."""

    table: str
    command: str
    n_trials: int
    lines: list[dict[str, str]]


def list_stored_tables(results: Results) -> list[TunedTable]:
    """Make the tables of the searches of a folder whose runs are there, those of fewer trials first."""
    specs = {str(results.records[spec]["key"]): spec for spec in results.list_made()}
    paths = sorted(results.store.root.glob(f"*/*-{TUNED}-*{TRIALS_ENDING}"))
    read = [trials for path in paths if (trials := _read_trials(path)) is not None]
    tables: dict[str, TunedTable] = {}
    for trials in sorted(read, key=lambda each: each.n_trials):
        if pairs := _pair_runs(trials.lines, specs):
            stem = f"{trials.table}-{TUNED}-{trials.n_trials}"
            numbered = (f"{stem}-{number}" for number in itertools.count(2))
            name = next(each for each in itertools.chain([stem], numbered) if each not in tables)
            table = plugins.load_class("tables", trials.table)()
            tables[name] = combine_table(
                table,
                name,
                rows=_list_rows(table, trials),
                further=False,
                n_trials=trials.n_trials,
                tuned=pairs,
                sentences=(SENTENCE,),
                command=trials.command,
            )
    return list(tables.values())


def _list_rows(table: Table, trials: StoredTrials) -> dict[str, str]:
    """List the rows that were searched and whose method is in a suite here, with their titles, in the trials' order."""
    known = plugins.list_names("methods")
    names = dict.fromkeys(
        line["method"] for line in trials.lines if parse_row_method(line["method"]) in known
    )
    request = TableRequest(methods=tuple(dict.fromkeys(map(parse_row_method, names))))
    titles = {row.name: row.title for row in table.list_rows(request)}
    return {name: titles.get(name, name) for name in names}


def _read_trials(path: Path) -> StoredTrials | None:
    """Read a CSV of trials; None where it is damaged or empty, or of a table that is in no suite here."""
    table = path.name.partition(f"-{TUNED}-")[0]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            command = read_command(file.readline())
            file.seek(0)
            lines = list(csv.DictReader(skip_command(file)))
        n_trials = 1 + max(int(line["trial"]) for line in lines)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    return StoredTrials(table, command, n_trials, lines) if table in plugins.list_names("tables") else None


def _pair_runs(lines: Iterable[Mapping[str, str]], specs: Mapping[str, RunSpec]) -> dict[RunSpec, RunSpec]:
    """Pair each row's run as it is with its tuned one, as both are on the whole training fold, at seed 0.

    specs: of the finished runs, by key. The first trial of a study is the row as it is.
    """

    def name_study(line: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(line.get(name, "") for name in _STUDY)

    pairs = {}
    for _, study in itertools.groupby(lines, name_study):
        trials = list(study)
        first, chosen = (
            next((specs[t["key"]] for t in trials if t.get(name) == value and t.get("key") in specs), None)
            for name, value in (("trial", "0"), ("chosen", "True"))
        )
        if first is not None and chosen is not None:
            pairs[strip_validation(first)] = strip_validation(chosen)
    return pairs
