"""The search of a table: a study for each row, group of columns and fold, all of the same number of trials."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from udcd_bench.grid.row_settings import select_settings
from udcd_bench.tuning.ranges import list_ranges
from udcd_bench.tuning.study import BATCH, Study

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from udcd_bench.artefacts.table import Table
    from udcd_bench.grid.cells import ColumnGroup, TableRequest, TableRow
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.tuning.study import Trial

DEFAULT_VALIDATION = "0.2"
"""S: of the training fold, where nothing is said."""


@dataclass(frozen=True)
class StudyPlace:
    """Whose study it is: a row of the table, in a group of columns, at a fold."""

    row: str
    group: ColumnGroup
    fold: int


@dataclass
class Search:
    """The studies of a table's rows. request: with validation images, which the tuned runs have not."""

    table: Table
    request: TableRequest
    n_trials: int
    studies: dict[StudyPlace, Study] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for group in self.table.list_column_groups(self.request):
            for row in self.table.list_rows(self.request):
                for fold in self.request.folds if row.in_suite else ():
                    place = StudyPlace(row.name, group, fold)
                    self.studies[place] = self._make_study(row, place)

    def _make_study(self, row: TableRow, place: StudyPlace) -> Study:
        request = replace(self.request, folds=(place.fold,), seeds=self.request.seeds[:1])
        (spec,) = self.table.list_cell_runs(request, row, place.group)
        settings = (*row.overrides, *select_settings(self.request.hparams, row))
        return Study(spec, list_ranges(spec, [name for name, _ in settings]))

    def iterate_rounds(self) -> Iterator[list[Trial]]:
        """Yield the trials of each round, of all studies, which are to be run before the next is asked for."""
        for start in range(0, self.n_trials, BATCH):
            n = min(BATCH, self.n_trials - start)
            yield [trial for study in self.studies.values() for trial in study.ask(n)]
            for study in self.studies.values():
                study.tell()

    def list_first_runs(self) -> list[RunSpec]:
        """List the run of each study that all its trials cost as much as: the row as it is."""
        return [study.spec for study in self.studies.values()]

    @property
    def final_request(self) -> TableRequest:
        """The request of the tuned runs, which train on the whole training fold."""
        protocol = tuple(pair for pair in self.request.protocol if pair[0] != "validation")
        return replace(self.request, protocol=protocol)

    def find_winners(self) -> dict[StudyPlace, Trial]:
        """Find the best trial of each study that has one."""
        best = {place: study.find_best() for place, study in self.studies.items()}
        return {place: trial for place, trial in best.items() if trial is not None}


def note_ends(
    trials: list[Trial], jobs: Mapping[RunSpec, Job], results: Results, failed: Mapping[str, str]
) -> None:
    """Note how the runs of trials ended. jobs: by the specs that were asked for. failed: key → message."""
    for trial in trials:
        record: Record | None = results.records.get(trial.spec)
        trial.record = record
        trial.failure = "" if record else failed.get(jobs[trial.spec].key, "it was not finished")
