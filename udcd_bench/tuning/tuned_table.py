"""The table of a search, each row as it is and tuned side by side, and the CSV of all its trials."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from udcd_bench.artefacts.commands import format_artefact_command
from udcd_bench.artefacts.file_names import make_stem
from udcd_bench.artefacts.made_from import TRIALS_ENDING, write_index
from udcd_bench.artefacts.table import Table
from udcd_bench.errors import format_count
from udcd_bench.plugins import read_attributes
from udcd_bench.render.csv_text import add_command, format_csv
from udcd_bench.runs import planner
from udcd_bench.runs.spec import format_overrides
from udcd_bench.stats.metrics import METRICS
from udcd_bench.stats.rules import CHOSEN_BY
from udcd_bench.storage.atomic import write_atomically
from udcd_bench.tuning.ranges import format_range
from udcd_bench.tuning.searches import DEFAULT_VALIDATION, StudyPlace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from udcd_bench.grid.cells import ColumnGroup, TableRequest, TableRow
    from udcd_bench.render.sheet import Sheet
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.tuning.searches import Search
    from udcd_bench.tuning.study import Trial

TUNED = "tuned"
"""What a tuned row's name ends in, and the name of the table has in it."""


class TunedTable(Table):
    """Rows as they are and, below each, tuned; made by ``combine_table`` in front of the class of a table.

    n_trials: of each row. tuned: the run of a row as it is, at seed 0 → the same with the settings of its best trial.
    sentences: on the search, for the caption. command: the shell line that makes it.
    """

    n_trials: ClassVar[int]
    tuned: ClassVar[Mapping[RunSpec, RunSpec]]
    sentences: ClassVar[tuple[str, ...]]
    command: ClassVar[str]

    def list_rows(self, request: TableRequest) -> list[TableRow]:
        """List each row as it is, and tuned."""
        return [each for row in super().list_rows(request) for each in (row, self._name_tuned(row))]

    def _name_tuned(self, row: TableRow) -> TableRow:
        name = f"{row.name}{',' if ':' in row.name else ':'}{TUNED}"
        return replace(row, name=name, title=f"{row.title}, tuned, {format_count(self.n_trials, 'trial')}")

    def list_cell_runs(self, request: TableRequest, row: TableRow, group: ColumnGroup) -> list[RunSpec]:
        """List the runs of a row; of a tuned one those with the settings of its fold's best trial."""
        if not row.name.endswith(TUNED):
            return super().list_cell_runs(request, row, group)
        plain = replace(row, name=row.name.removesuffix(TUNED)[:-1])
        return [
            replace(tuned, seed=spec.seed)
            for spec in super().list_cell_runs(request, plain, group)
            if (tuned := self.tuned.get(replace(spec, seed=0)))
        ]

    def list_runs(self, request: TableRequest) -> list[RunSpec]:
        """List every cell's runs, each once: a row whose best trial is the first has one run in both lines."""
        return list(dict.fromkeys(super().list_runs(request)))

    def describe(self, frame: pd.DataFrame) -> tuple[str, ...]:
        """Return sentences on the search: its budget, its images, what was tried."""
        return (*super().describe(frame), *self.sentences)

    def build_sheet(self, request: TableRequest, results: Results, frame: pd.DataFrame) -> Sheet:
        """Lay out the table, with the command of the search."""
        return replace(super().build_sheet(request, results, frame), command=self.command)


def combine_table(table: Table, name: str, **attributes: Any) -> TunedTable:
    """Make the table of a search of another table. attributes: those that ``TunedTable`` declares."""
    title = f"{table.title}: untuned and tuned, side by side"
    own = {"name": name, "title": title, **attributes}
    tuned: TunedTable = type("TunedTable", (TunedTable, type(table)), own)()
    return tuned


def make_tuned_table(search: Search, winners: Mapping[StudyPlace, Trial]) -> TunedTable:
    """Make the table of a search that has ended. winners: its best trials."""
    validation = _find_validation(search)
    images = [] if validation == DEFAULT_VALIDATION else [f"validation={validation}"]
    return combine_table(
        search.table,
        "-".join([search.table.name, TUNED, str(search.n_trials), *images]),
        n_trials=search.n_trials,
        tuned={
            strip_validation(search.studies[place].spec): strip_validation(trial.spec)
            for place, trial in winners.items()
        },
        sentences=describe_search(search),
        command=format_command(search),
    )


def strip_validation(spec: RunSpec) -> RunSpec:
    """Return the spec of a trial as it is retrained on the whole training fold."""
    return replace(spec, protocol=tuple(pair for pair in spec.protocol if pair[0] != "validation"))


def _find_validation(search: Search) -> str:
    return planner.resolve_protocol(next(iter(search.studies.values())).spec).validation


def describe_search(search: Search) -> tuple[str, ...]:
    """Describe a search in sentences: its budget, the images that it chose on, and what it tried of each row."""
    validation = _find_validation(search)
    images = "the data's own val" if validation == "own" else f"{float(validation):.0%} of the training fold"
    ranges: dict[str, list[str]] = {}
    for place, study in search.studies.items():
        title = read_attributes("methods", study.spec.method).get("title", place.row)
        text = ", ".join(f"{name} {format_range(values)}" for name, values in study.ranges.items())
        ranges.setdefault(text, []).append(str(title))
    tried = "; ".join(f"{', '.join(dict.fromkeys(titles))}: {text}" for text, titles in ranges.items())
    return (
        f"Tuned: the best of {format_count(search.n_trials, 'trial')}, the first of which is the row as it is, by "
        f"{METRICS[CHOSEN_BY].title} on {images} (by group; the mean of the last epochs; nothing is chosen on the test "
        "images), retrained on the whole training fold. All rows have the same number of trials on the same images; "
        "teachers stay untuned.",
        f"Tried: {tried}. What each best trial had is in the CSV of trials.",
    )


def format_command(search: Search) -> str:
    """Format the shell line that makes a search."""
    text = format_artefact_command("search", search.table.name, search.request)
    return f"{text} --trials {search.n_trials}"


# --- trials ---------------------------------------------------------------------------------------------------


def build_trials_frame(search: Search, winners: Mapping[StudyPlace, Trial]) -> pd.DataFrame:
    """Build a line for each trial: whose it is, what it tried, and its figures on the validation images, in percent.

    chosen: whether it is the best of its study. No figure of the test images is in it.
    """
    import pandas as pd

    lines = []
    for place, study in search.studies.items():
        for trial in study.trials:
            record = trial.record
            figures = record["validation"]["mean"] if record else {}
            lines.append(
                {
                    "dataset": place.group.source,
                    "rho": place.group.shown_rho,
                    "fold": place.fold,
                    "method": place.row,
                    "trial": trial.number,
                    "settings": " ".join(format_overrides(tuple(trial.values.items()))),
                    **{f"validation_{name}": 100 * figures[name] for name in METRICS if name in figures},
                    "chosen": winners.get(place) is trial,
                    "state": "done" if record else trial.failure or "not run",
                    "key": record["key"] if record else "",
                }
            )
    return pd.DataFrame(lines)


def write_trials(search: Search, winners: Mapping[StudyPlace, Trial], root: Path) -> Path:
    """Write the CSV of all trials so far, and beside it the keys of their runs."""
    table, request = make_tuned_table(search, winners), search.request
    path = root / request.profile / f"{make_stem(table, search.final_request)}{TRIALS_ENDING}"
    frame = build_trials_frame(search, winners)
    write_atomically(path, add_command(format_csv(frame), format_command(search)))
    write_index(path, {key for key in frame["key"] if key})
    return path
