"""Verdicts on our figures, compared with published or earlier ones, each cell alone.

A verdict is about the difference, which has the errors of both figures: ours as ``judging.uncertainty`` draws them, the
published one's as ``judging.difference`` does, which also judges the table as a whole. What is allowed stands in
``tables/tolerances.toml``, fixed before any run.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from udcd_bench.grid.cells import ABSENT, STAND_IN
from udcd_bench.runs.names import format_data_title
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    import pandas as pd

    from udcd_bench.judging.tolerances import Tolerances
    from udcd_bench.judging.uncertainty import BootstrapDraws, CellKey
    from udcd_bench.stats.metrics import Floats


Interval = tuple[float, float]
"""Its two ends."""


class Verdict(NamedTuple):
    """What a verdict means, and how it is shown.

    symbol: stands beside the word in reports.
    compared: two figures were compared. conclusive: and a difference of the tolerance would have shown.
    warns: a workflow shows a warning where the cell does not fail.
    explained: the text shows the cell's note beside the verdict.
    """

    meaning: str
    symbol: str
    compared: bool = False
    conclusive: bool = False
    warns: bool = False
    explained: bool = False


VERDICTS = {
    "reproduced": Verdict(
        meaning="the two figures differ by no more than the tolerance, or than the 95 % interval of the difference",
        symbol="=",
        compared=True,
        conclusive=True,
    ),
    "higher": Verdict(
        meaning="ours is higher, beyond both", symbol="▲", compared=True, conclusive=True, warns=True
    ),
    "lower": Verdict(
        meaning="ours is lower, beyond both", symbol="▼", compared=True, conclusive=True, warns=True
    ),
    "underpowered": Verdict(
        meaning="too few test images or runs, ours or theirs, to tell a difference of the tolerance",
        symbol="~",
        compared=True,
        warns=True,
    ),
    "not run": Verdict(meaning="no run of this cell is done", symbol="○"),
    "failed": Verdict(meaning="its runs failed", symbol="✕", explained=True),
    "impossible": Verdict(
        meaning="the published figure contradicts its own row, if AP is macro-averaged precision: F1 above the "
        "harmonic mean of AP and REC",
        symbol="!",
        warns=True,
        explained=True,
    ),
}
"""Each verdict by its word, in the order in which reports list them."""


@dataclass(frozen=True)
class JudgedCell:
    """One cell: the figure it is compared with (published, or earlier), ours with its interval, the verdict.

    theirs, ours, low, high: percent, NaN where there is none. n: our runs. tolerance: points of percent.
    their_error: standard error of the other figure, points; 0 for one that is compared as it is.
    difference_low, difference_high: 95 % interval of ours minus theirs, points, with the errors of both.
    verdict: of this cell alone. p_table: its one-sided p of being no worse, over all cells of the table together.
    fails_table: whether it is worse by that p too.
    """

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
    their_error: float = 0.0
    difference_low: float = math.nan
    difference_high: float = math.nan
    p_table: float = math.nan
    fails_table: bool = False

    @property
    def key(self) -> CellKey:
        """Where in the table the cell stands."""
        return self.dataset, self.rho, self.method, self.metric

    @property
    def fails(self) -> bool:
        """Whether this cell fails, judged alone: worse than it should be, or its runs failed."""
        return self.verdict in ("failed", "lower" if is_higher_better(self.metric) else "higher")

    @property
    def name(self) -> str:
        """Data set, imbalance, method and metric, for people."""
        return f"{self.setting} {self.method} {self.metric_title}"

    @property
    def setting(self) -> str:
        """Data set and imbalance, for people."""
        rho = "" if self.rho is None else f" ρ={self.rho:g}"
        return f"{format_data_title(self.dataset)}{rho}"

    @property
    def metric_title(self) -> str:
        """The metric, for people."""
        return METRICS[self.metric].title if self.metric in METRICS else self.metric


@dataclass(frozen=True)
class ErrorDraws:
    """What chance does to the two figures of each cell.

    ours: our figure in each draw (draws,), percent.
    theirs: the error of the other one (draws,), points around 0; absent where that figure is compared as it is.
    """

    ours: BootstrapDraws
    theirs: BootstrapDraws

    def draw_difference(self, key: CellKey, theirs: float) -> Floats:
        """Draw ours minus theirs (draws,), points; empty where our figure has no draws."""
        if key not in self.ours:
            return np.empty(0)
        difference: Floats = self.ours[key] - theirs - self.theirs.get(key, 0.0)
        return difference


def judge_difference(
    difference: float, interval: tuple[float, float], tolerance: float, widest: float
) -> str:
    """Judge ours minus theirs with its interval (low, high), all in points.

    A missing interval (NaN) counts as infinitely wide, hence ``underpowered``.
    """
    low, high = interval
    if not math.isfinite(high - low):
        return "underpowered"
    # 83.20 − 82.20 is not 1 in binary
    if abs(difference) > tolerance + 1e-9 and not low <= 0 <= high:
        return "lower" if difference < 0 else "higher"
    return "underpowered" if max(difference - low, high - difference) > widest * tolerance else "reproduced"


def judge_cells(
    frame: pd.DataFrame,
    theirs: Mapping[CellKey, float],
    draws: ErrorDraws,
    tolerances: Tolerances,
    contradicted: Mapping[CellKey, str] | None = None,
) -> list[JudgedCell]:
    """Judge every cell of a table's long frame for which there is another figure, each alone.

    theirs: the other figures, percent. contradicted: published figures that are impossible, and the sentence why.
    """
    contradicted = contradicted or {}
    rows = [row for row in frame.to_dict("records") if row["verdict"] != STAND_IN]
    rows = [row for row in rows if get_cell_key(row) in theirs]
    keys = [get_cell_key(row) for row in rows]
    of_ours = compute_cell_intervals(draws.ours, keys, tolerances)
    differences = [draws.draw_difference(key, theirs[key]) for key in keys]
    of_differences = _compute_intervals(differences, tolerances.level)
    cells = []
    for key, row, *intervals in zip(keys, rows, of_ours, of_differences, strict=True):
        cell = _judge_cell(row, theirs[key], intervals, draws, tolerances)
        if cell.verdict != "failed" and key in contradicted:
            cell = replace(cell, verdict="impossible", note=contradicted[key])
        cells.append(cell)
    return cells


def _judge_cell(
    row: Mapping[Hashable, Any],
    theirs: float,
    intervals: Sequence[Interval],
    draws: ErrorDraws,
    tolerances: Tolerances,
) -> JudgedCell:
    """Judge one cell. intervals: of our figure, and of ours minus theirs."""
    key = get_cell_key(row)
    tolerance = tolerances.get_tolerance(key[3])
    (low, high), interval = intervals
    if row["n"]:
        verdict = judge_difference(row["ours"] - theirs, interval, tolerance, tolerances.widest)
    else:
        verdict = "not run" if row["verdict"] == ABSENT else row["verdict"]
    return JudgedCell(
        *key,
        theirs=theirs,
        ours=row["ours"],
        low=low,
        high=high,
        n=int(row["n"]),
        tolerance=tolerance,
        verdict=verdict,
        note=row["note"],
        their_error=float(np.std(draws.theirs.get(key, 0.0))),
        difference_low=interval[0],
        difference_high=interval[1],
    )


def judge_regressions(
    frame: pd.DataFrame, earlier: Mapping[CellKey, float], tolerances: Tolerances
) -> list[JudgedCell]:
    """Judge every cell that an earlier result of one's own has, by the tolerance alone."""
    rows = frame[frame["n"] > 0].to_dict("records")
    exact = {get_cell_key(row): np.full(2, row["ours"]) for row in rows}
    # one's own stand-in compares with one's own
    own = frame.assign(verdict=frame["verdict"].replace(STAND_IN, ""))
    return judge_cells(own, earlier, ErrorDraws(exact, {}), tolerances)


def get_cell_key(row: Mapping[Hashable, Any]) -> CellKey:
    """Return where a row of a long frame stands in its table."""
    return row["dataset"], None if math.isnan(row["rho"]) else row["rho"], row["method"], row["metric"]


def count_verdicts(cells: Iterable[JudgedCell]) -> dict[str, int]:
    """Count the cells of each verdict, in the order of ``VERDICTS``."""
    counts = Counter(cell.verdict for cell in cells)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def compute_cell_intervals(
    draws: BootstrapDraws, keys: Iterable[CellKey], tolerances: Tolerances
) -> list[Interval]:
    """Compute the intervals of cells; NaN for one that has no draws."""
    return _compute_intervals([draws.get(key, np.empty(0)) for key in keys], tolerances.level)


def _compute_intervals(draws: Sequence[Floats], level: float) -> list[Interval]:
    """Compute the interval of each cell's draws, of equally many all at once; NaN where there are none."""
    intervals = [(math.nan, math.nan)] * len(draws)
    for n in {len(of_cell) for of_cell in draws} - {0}:
        cells = [cell for cell, of_cell in enumerate(draws) if len(of_cell) == n]
        ends = statistics.compute_intervals(np.stack([draws[cell] for cell in cells]), level)
        for cell, interval in zip(cells, ends):
            intervals[cell] = interval
    return intervals


def is_higher_better(metric: str) -> bool:
    """Tell whether more of a metric is better; a metric the suite does not know is taken for one of those."""
    return metric not in METRICS or METRICS[metric].better == "higher"
