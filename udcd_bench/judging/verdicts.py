"""What can be said of each published figure beside ours, and of a table's order of rows.

What is allowed stands in ``tables/tolerances.toml``, fixed before any run; the intervals are ``evidence``'s.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench import plugins
from udcd_bench.errors import UserError
from udcd_bench.grid.cells import ABSENT, STAND_IN
from udcd_bench.paper import audit
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    import pandas as pd

    from udcd_bench.judging.uncertainty import BootstrapDraws, CellKey
    from udcd_bench.paper.published import PublishedValue

VERDICTS = {
    "reproduced": "the other figure lies within the tolerance of ours or within our 95 % interval",
    "higher": "ours is higher, beyond both",
    "lower": "ours is lower, beyond both",
    "underpowered": "too few runs, or too wide an interval, to tell a difference of the tolerance",
    "not run": "no run of this cell is done",
    "failed": "its runs failed",
    "impossible": "the published figure contradicts its own row: F1 above the harmonic mean of AP and REC",
}
COMPARED_VERDICTS = ("reproduced", "higher", "lower", "underpowered")


@dataclass(frozen=True)
class Tolerances:
    """``tables/tolerances.toml``, read; points and training by metric, ``other`` for those it does not name."""

    points: Mapping[str, float]
    training: Mapping[str, float]
    level: float
    widest: float
    draws: int

    def get_tolerance(self, metric: str) -> float:
        """Points of percent that count as no difference."""
        return self.points.get(metric, self.points["other"])

    def get_noise(self, metric: str) -> float:
        """Points of percent that trainings are assumed to differ by."""
        return self.training.get(metric, self.training["other"])


def load_tolerances(tolerance: float | None = None) -> Tolerances:
    """The suite's rules. tolerance: for every metric, in place of the file's."""
    path = plugins.find_root() / "tables" / "tolerances.toml"
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
        found = Tolerances(read["points"], read["training"], **read["interval"])
        _check_tolerances(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as tolerances: {error!r}") from error
    return found if tolerance is None else replace(found, points={"other": tolerance})


def _check_tolerances(tolerances: Tolerances) -> None:
    """Raises ValueError where a number is none, or cannot be meant."""
    for name, least, table in (("points", 1e-6, tolerances.points), ("training", 0.0, tolerances.training)):
        table["other"]
        for metric, value in table.items():
            if type(value) not in (int, float) or not least <= value <= 100:
                raise ValueError(f"{name}: {metric} = {value!r} is no number of points, {least:g} to 100")
    for name, value, low, high in (
        ("level", tolerances.level, 0.5, 0.9999),
        ("widest", tolerances.widest, 1e-6, 1e6),
    ):
        if type(value) not in (int, float) or not low <= value <= high:
            raise ValueError(f"{name} = {value!r} is no number from {low:g} to {high:g}")
    if type(tolerances.draws) is not int or not 10 <= tolerances.draws <= 10**6:
        raise ValueError(f"draws = {tolerances.draws!r} is no count from 10 to {10**6}")


@dataclass(frozen=True)
class JudgedCell:
    """One cell: the figure it is compared with (published, or earlier), ours with its interval, the verdict."""

    dataset: str
    rho: float | None
    method: str
    metric: str
    theirs: float
    ours: float
    low: float
    high: float
    n: int
    tolerance: float
    verdict: str
    note: str = ""

    @property
    def key(self) -> CellKey:
        """Where in the table it stands."""
        return self.dataset, self.rho, self.method, self.metric

    @property
    def fails(self) -> bool:
        """Whether this alone fails the check: worse than it should be, or its runs failed."""
        return self.verdict in ("failed", "lower" if _is_higher_better(self.metric) else "higher")

    @property
    def name(self) -> str:
        """Data set, imbalance, method and metric, for people."""
        rho = "" if self.rho is None else f" ρ={self.rho:g}"
        title = METRICS[self.metric].title if self.metric in METRICS else self.metric
        return f"{self.dataset}{rho} {self.method} {title}"


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


def judge_value(ours: float, theirs: float, low: float, high: float, tolerance: float, widest: float) -> str:
    """The verdict on a figure of ours with its interval, beside another. No interval is the widest of all."""
    if not math.isfinite(high - low):
        return "underpowered"
    # 83.20 − 82.20 is not 1 in binary
    if abs(ours - theirs) > tolerance + 1e-9 and not low <= theirs <= high:
        return "lower" if ours < theirs else "higher"
    return "underpowered" if max(ours - low, high - ours) > widest * tolerance else "reproduced"


def find_contradicted_cells(table: str, published_values: Sequence[PublishedValue]) -> dict[CellKey, str]:
    """The published F1 that contradict their own rows, and the sentence why."""
    found = audit.audit_tables({table: published_values}, {})
    above = [(f.cells[-1], f.sentence) for f in found if f.rule == "f1-above-harmonic-mean"]
    return {(c.dataset, c.rho, c.method, c.metric): sentence for c, sentence in above}


def judge_cells(
    frame: pd.DataFrame,
    theirs: Mapping[CellKey, float],
    cell_draws: BootstrapDraws,
    tolerances: Tolerances,
    contradicted: Mapping[CellKey, str] | None = None,
) -> list[JudgedCell]:
    """A verdict on every cell of a table's long frame for which there is another figure, beside the published."""
    judged = []
    for row in frame.to_dict("records"):
        place = get_cell_key(row)
        if place not in theirs or row["verdict"] == STAND_IN:
            continue
        low, high = (
            statistics.compute_interval(cell_draws[place], tolerances.level)
            if place in cell_draws
            else (math.nan, math.nan)
        )
        tolerance, note = tolerances.get_tolerance(place[3]), row["note"]
        if not row["n"]:
            verdict = "not run" if row["verdict"] == ABSENT else row["verdict"]
        else:
            verdict = judge_value(row["ours"], theirs[place], low, high, tolerance, tolerances.widest)
        if verdict != "failed" and place in (contradicted or {}):
            verdict, note = "impossible", (contradicted or {})[place]
        judged.append(
            JudgedCell(*place, theirs[place], row["ours"], low, high, int(row["n"]), tolerance, verdict, note)
        )
    return judged


def add_verdicts(
    frame: pd.DataFrame,
    cell_draws: BootstrapDraws,
    tolerances: Tolerances,
    contradicted: Mapping[CellKey, str] | None = None,
) -> pd.DataFrame:
    """A table's long frame with its intervals, and with the verdicts of ``cells`` where there are runs to judge."""
    printed = frame[frame["published"].notna()]
    theirs = {get_cell_key(row): row["published"] for row in printed.to_dict("records")}
    judged = {
        cell.key: cell.verdict
        for cell in judge_cells(printed, theirs, cell_draws, tolerances, contradicted)
        if cell.n
    }
    ends, said = [], []
    for row in frame.to_dict("records"):
        place = get_cell_key(row)
        ends.append(
            statistics.compute_interval(cell_draws[place], tolerances.level)
            if place in cell_draws
            else (math.nan, math.nan)
        )
        said.append(judged.get(place, row["verdict"]))
    low, high = zip(*ends)
    return frame.assign(low=low, high=high, verdict=said)


def judge_regressions(
    frame: pd.DataFrame, earlier: Mapping[CellKey, float], tolerances: Tolerances
) -> list[JudgedCell]:
    """A verdict on every cell that an earlier result of one's own has: by the tolerance alone."""
    rows = frame[frame["n"] > 0].to_dict("records")
    exact = {get_cell_key(row): np.full(2, row["ours"]) for row in rows}
    # a stand-in of one's own compares with one's own
    return judge_cells(
        frame.assign(verdict=frame["verdict"].replace(STAND_IN, "")), earlier, exact, tolerances
    )


def get_cell_key(row: Mapping[Hashable, Any]) -> CellKey:
    """Where a row of a long frame stands."""
    return row["dataset"], None if math.isnan(row["rho"]) else row["rho"], row["method"], row["metric"]


def rank_columns(
    judged: Iterable[JudgedCell], published_values: Sequence[PublishedValue], cell_draws: BootstrapDraws
) -> list[RankedColumn]:
    """Order and marks of every column with two rows of ours or more, over the paper's rows."""
    by_column: dict[tuple[str, float | None, str], list[JudgedCell]] = {}
    for cell in judged:
        if cell.n:
            by_column.setdefault((cell.dataset, cell.rho, cell.metric), []).append(cell)
    made = []
    for (dataset, rho, metric), rows in by_column.items():
        if len(rows) < 2:
            continue
        printed = [f for f in published_values if (f.dataset, f.rho, f.metric) == (dataset, rho, metric)]
        draws = [cell_draws.get((dataset, rho, row.method, metric)) for row in rows]
        ranked = sorted({round(row.ours, 2) for row in rows}, reverse=_is_higher_better(metric))
        marks = []
        for mark, method in _list_marks(printed, metric):
            here = next((place for place, row in enumerate(rows) if row.method == method), None)
            verdict, probability = "cannot tell", math.nan
            if here is not None and len(rows) == len(printed):
                wanted = ranked[: 2 if mark == "second" else 1][-1]
                verdict = "holds" if round(rows[here].ours, 2) == wanted else "fails"
            there = [
                values if _is_higher_better(metric) else -values for values in draws if values is not None
            ]
            if mark == "best" and here is not None and len(there) == len(rows):
                probability = statistics.compute_best_share(np.stack(there, 1), here)
            marks.append(MarkVerdict(mark, method, verdict, probability))
        made.append(
            RankedColumn(dataset, rho, metric, len(rows), len(printed), _correlate_ranks(rows), tuple(marks))
        )
    return made


def _list_marks(printed: Sequence[PublishedValue], metric: str) -> list[tuple[str, str]]:
    """(mark, method) as printed; the best figure's, where no mark of the best has come down to us."""
    marked = [(figure.marks, figure.method) for figure in printed if figure.marks]
    if not any(mark == "best" for mark, _ in marked):
        best = (max if _is_higher_better(metric) else min)(figure.percent for figure in printed)
        marked = [("best", figure.method) for figure in printed if figure.percent == best] + marked
    return marked


def _is_higher_better(metric: str) -> bool:
    return metric not in METRICS or METRICS[metric].better == "higher"


def _correlate_ranks(rows: Sequence[JudgedCell]) -> float:
    """Spearman's rank correlation; NaN where all figures of a side are the same."""
    from scipy.stats import spearmanr

    ours, theirs = [row.ours for row in rows], [row.theirs for row in rows]
    if len(set(ours)) < 2 or len(set(theirs)) < 2:
        return math.nan
    return float(spearmanr(ours, theirs).statistic)


def count_verdicts(judged: Iterable[JudgedCell]) -> dict[str, int]:
    """How many cells have each verdict, in the order of ``VERDICTS``."""
    found = Counter(cell.verdict for cell in judged)
    return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}
