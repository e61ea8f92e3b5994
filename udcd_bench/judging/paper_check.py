"""A table beside the paper's: verdicts on every published figure and on the table, the order of the rows, the marks."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.judging.difference import draw_published_errors, judge_table
from udcd_bench.judging.uncertainty import bootstrap_table, list_training_noise
from udcd_bench.judging.verdicts import (
    ErrorDraws,
    compute_cell_intervals,
    get_cell_key,
    is_higher_better,
    judge_cells,
)
from udcd_bench.paper import f1_rules, published, rounded
from udcd_bench.runs import names, profiles
from udcd_bench.runs.spec import format_overrides, format_teacher
from udcd_bench.stats import statistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.difference import TableVerdict
    from udcd_bench.judging.tolerances import Tolerances
    from udcd_bench.judging.uncertainty import BootstrapDraws, CellKey
    from udcd_bench.judging.verdicts import JudgedCell
    from udcd_bench.paper.published import PublishedValue
    from udcd_bench.paper.rounded import RoundedValue
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import Scalar
    from udcd_bench.stats.statistics import TrainingNoise

PAPER_RULE = "mean"
"""R: the released code averages the last epochs."""


@dataclass(frozen=True)
class MarkVerdict:
    """One of the paper's marks: whether ours agree, and how probable it is that the row is truly best."""

    mark: str
    method: str
    verdict: str
    probability: float = math.nan


@dataclass(frozen=True)
class RankedColumn:
    """A column of the table: Spearman's rank correlation of its rows with the paper's, and the paper's marks."""

    dataset: str
    rho: float | None
    metric: str
    rows: int
    printed: int
    rank: float
    marks: tuple[MarkVerdict, ...]


@dataclass(frozen=True)
class TableComparison:
    """A table beside other figures: a verdict on every cell, one on the table, and the order of its columns' rows.

    table: None where each cell is judged alone, as against figures of one's own.
    noise: what was taken for training's noise, by data set and metric; empty where it has no part.
    """

    cells: list[JudgedCell]
    table: TableVerdict | None
    columns: list[RankedColumn]
    noise: Mapping[str, Mapping[str, TrainingNoise]] = field(default_factory=dict)


@dataclass(frozen=True)
class ProtocolDifference:
    """A number of the protocol that is not the paper's. paper: None where the paper has none for it."""

    name: str
    ours: Scalar
    paper: Scalar | None

    def describe(self) -> str:
        """Describe it in a few words."""
        ours = names.format_file_title(str(self.ours)) if self.name == "weights" else self.ours
        paper = "" if self.paper in (None, "") else f" ({self.paper} in the paper)"
        return f"{self.name.replace('_', ' ')} {ours}{paper}"


def compare_with_paper(
    grid: Grid, request: TableRequest, results: Results, frame: pd.DataFrame, tolerances: Tolerances
) -> TableComparison:
    """Judge a table's long frame against what the paper prints of it.

    Raises UserError where the paper prints no such table.
    """
    printed = published.load_table(grid.name)
    judged_frame = frame[frame["published"].notna()]
    theirs = {value.key: value.percent for value in printed}
    draws = ErrorDraws({}, {})
    if len(judged_frame):
        ours = bootstrap_table(grid, request, results)
        draws = ErrorDraws(ours, draw_published_errors(grid, request, results, theirs, tolerances))
    alone = judge_cells(judged_frame, theirs, draws, tolerances, find_contradicted_cells(grid.name))
    cells, table = judge_table(alone, draws, tolerances.level)
    noise = list_training_noise(grid, request, results) if table.cells else {}
    return TableComparison(cells, table, rank_columns(cells, printed, draws.ours), noise)


def add_verdicts(
    grid: Grid, request: TableRequest, results: Results, frame: pd.DataFrame, tolerances: Tolerances
) -> pd.DataFrame:
    """Add to a table's long frame its intervals, and verdicts where there are runs to judge."""
    ours = bootstrap_table(grid, request, results)
    printed = frame[frame["published"].notna()]
    theirs = {get_cell_key(row): row["published"] for row in printed.to_dict("records")}
    draws = ErrorDraws(ours, draw_published_errors(grid, request, results, theirs, tolerances))
    contradicted = find_contradicted_cells(grid.name) if len(printed) else {}
    cells = judge_cells(printed, theirs, draws, tolerances, contradicted)
    by_key = {cell.key: cell.verdict for cell in cells if cell.n}
    rows = frame.to_dict("records")
    low, high = zip(*compute_cell_intervals(ours, map(get_cell_key, rows), tolerances))
    verdicts = [by_key.get(get_cell_key(row), row["verdict"]) for row in rows]
    return frame.assign(low=low, high=high, verdict=verdicts)


def list_other_protocol(request: TableRequest) -> tuple[str, ...]:
    """List in what a request differs from the paper's protocol, the epochs that are reported among it."""
    usual = profiles.find_profile("paper")
    other = [f"profile {request.profile}"] if request.profile != usual.name else []
    other += [f"split {request.split}"] if request.split != "paper" else []
    other += [f"backbone {request.backbone}"] if request.backbone not in (None, usual.backbone) else []
    other += [f"rule {request.rule}"] if request.rule != PAPER_RULE else []
    other += format_teacher(request.teacher, request.teacher_backbone)
    return (*other, *format_overrides((*request.protocol, *request.hparams)))


def list_protocol_differences(grid: Grid, request: TableRequest) -> tuple[ProtocolDifference, ...]:
    """List the numbers in which the runs of a request differ from the paper's protocol, size and epochs first.

    The epochs in which methods start, ramp and report follow from how many there are; cores are the machine's.
    """
    usual = profiles.find_profile("paper")
    ours = profiles.find_profile(request.profile)
    numbers: dict[str, tuple[Scalar, Scalar | None]] = dict.fromkeys(("image_size", "epochs"), (0, 0))
    numbers["backbone"] = (request.backbone or ours.backbone, usual.backbone)
    for group in grid.list_column_groups(request):
        protocol = profiles.build_protocol(request.profile, group.source, request.protocol)
        papers = asdict(usual.protocol.with_epochs(protocol.epochs)) | {"epochs": usual.protocol.epochs}
        numbers |= {key: (value, papers[key]) for key, value in asdict(protocol).items()}
    numbers["split"] = (request.split, "paper")
    numbers["rule"] = (request.rule, PAPER_RULE)
    numbers["teacher_backbone"] = (request.teacher_backbone, "")
    numbers["teacher"] = (names.format_teacher_title(request.teacher), "")
    numbers |= {key: (value, None) for key, value in request.hparams}
    left_out = ("threads", "n_images")
    return tuple(
        ProtocolDifference(key, *pair)
        for key, pair in numbers.items()
        if pair[0] != pair[1] and key not in left_out
    )


def find_contradicted_cells(table: str) -> dict[CellKey, str]:
    """Find the published F1 of a table that contradict their own rows, and the sentence why, as the audit has it."""
    # all tables: one of them may show what another's columns are
    tables = rounded.load_published_tables() | {table: published.load_table(table)}
    above = _find_above_harmonic_mean(tuple(tables.items()))
    return {(c.dataset, c.rho, c.method, c.metric): sentence for c, sentence in above if c.table == table}


@lru_cache(64)
def _find_above_harmonic_mean(
    tables: tuple[tuple[str, tuple[PublishedValue, ...]], ...],
) -> list[tuple[RoundedValue, str]]:
    """Find each F1 that is too large for its row, and the sentence, once for the same figures."""
    findings = f1_rules.check_f1(rounded.group_into_rows(dict(tables)))
    return [(f.cells[-1], f.sentence) for f in findings if f.rule == "f1-above-harmonic-mean"]


# --- order and marks ------------------------------------------------------------------------------------------


def rank_columns(
    cells: Iterable[JudgedCell], published_values: Sequence[PublishedValue], draws: BootstrapDraws
) -> list[RankedColumn]:
    """Judge order and marks of every column with two rows of ours or more, over the paper's rows."""
    by_column: dict[tuple[str, float | None, str], list[JudgedCell]] = {}
    for cell in cells:
        if cell.n:
            by_column.setdefault((cell.dataset, cell.rho, cell.metric), []).append(cell)
    columns = []
    for (dataset, rho, metric), rows in by_column.items():
        if len(rows) < 2:
            continue
        printed = [v for v in published_values if (v.dataset, v.rho, v.metric) == (dataset, rho, metric)]
        columns.append(
            RankedColumn(
                dataset=dataset,
                rho=rho,
                metric=metric,
                rows=len(rows),
                printed=len(printed),
                rank=_correlate_ranks(rows),
                marks=tuple(
                    _judge_mark(mark, method, rows, len(printed), draws)
                    for mark, method in _list_marks(printed, metric)
                ),
            )
        )
    return columns


def _judge_mark(
    mark: str, method: str, rows: Sequence[JudgedCell], n_printed: int, draws: BootstrapDraws
) -> MarkVerdict:
    """Judge one mark of a column by our rows; ``cannot tell`` where rows are missing and no other refutes it."""
    index = next((index for index, row in enumerate(rows) if row.method == method), None)
    if index is None:
        return MarkVerdict(mark, method, "cannot tell")
    higher = is_higher_better(rows[0].metric)
    verdict, probability = "cannot tell", math.nan
    ranked = sorted({round(row.ours, 2) for row in rows}, reverse=higher)
    place, wanted = ranked.index(round(rows[index].ours, 2)), 1 if mark == "second" and len(ranked) > 1 else 0
    if len(rows) == n_printed:
        verdict = "holds" if place == wanted else "fails"
    elif place > (1 if mark == "second" else 0):
        verdict = "fails"  # a row more cannot lift it
    known = [draws[row.key] if higher else -draws[row.key] for row in rows if row.key in draws]
    if mark == "best" and len(known) == len(rows):
        probability = statistics.compute_best_share(np.stack(known, 1), index)
    return MarkVerdict(mark, method, verdict, probability)


def _list_marks(printed: Sequence[PublishedValue], metric: str) -> list[tuple[str, str]]:
    """List (mark, method) as printed; the best figure counts as marked where no mark of the best has survived."""
    marked = [(value.marks, value.method) for value in printed if value.marks]
    if not any(mark == "best" for mark, _ in marked):
        best = (max if is_higher_better(metric) else min)(value.percent for value in printed)
        marked = [("best", value.method) for value in printed if value.percent == best] + marked
    return marked


def _correlate_ranks(rows: Sequence[JudgedCell]) -> float:
    """Compute Spearman's rank correlation; NaN where all figures of a side are the same."""
    ours, theirs = [row.ours for row in rows], [row.theirs for row in rows]
    if len(set(ours)) < 2 or len(set(theirs)) < 2:
        return math.nan
    return statistics.correlate_ranks(ours, theirs)
