"""Verdicts on our figures, compared with published or earlier ones.

What is allowed stands in ``tables/tolerances.toml``, fixed before any run; the intervals are those of
``judging.uncertainty``.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from udcd_bench.grid.cells import ABSENT, STAND_IN
from udcd_bench.runs.names import format_data_title
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    import pandas as pd

    from udcd_bench.judging.tolerances import Tolerances
    from udcd_bench.judging.uncertainty import BootstrapDraws, CellKey


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
        meaning="the other figure lies within the tolerance of ours or within our 95 % interval",
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
        meaning="too few runs, or too wide an interval, to tell a difference of the tolerance",
        symbol="~",
        compared=True,
        warns=True,
    ),
    "not run": Verdict(meaning="no run of this cell is done", symbol="○"),
    "failed": Verdict(meaning="its runs failed", symbol="✕", explained=True),
    "impossible": Verdict(
        meaning="the published figure contradicts its own row: F1 above the harmonic mean of AP and REC",
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

    @property
    def key(self) -> CellKey:
        """Where in the table the cell stands."""
        return self.dataset, self.rho, self.method, self.metric

    @property
    def fails(self) -> bool:
        """Whether this cell alone fails the check: worse than it should be, or its runs failed."""
        return self.verdict in ("failed", "lower" if is_higher_better(self.metric) else "higher")

    @property
    def name(self) -> str:
        """Data set, imbalance, method and metric, for people."""
        rho = "" if self.rho is None else f" ρ={self.rho:g}"
        title = METRICS[self.metric].title if self.metric in METRICS else self.metric
        return f"{format_data_title(self.dataset)}{rho} {self.method} {title}"


def judge_value(
    ours: float, theirs: float, interval: tuple[float, float], tolerance: float, widest: float
) -> str:
    """Judge a figure of ours with its interval (low, high) beside another; all in percent.

    A missing interval (NaN) counts as infinitely wide, hence ``underpowered``.
    """
    low, high = interval
    if not math.isfinite(high - low):
        return "underpowered"
    # 83.20 − 82.20 is not 1 in binary
    if abs(ours - theirs) > tolerance + 1e-9 and not low <= theirs <= high:
        return "lower" if ours < theirs else "higher"
    return "underpowered" if max(ours - low, high - ours) > widest * tolerance else "reproduced"


def judge_cells(
    frame: pd.DataFrame,
    theirs: Mapping[CellKey, float],
    draws: BootstrapDraws,
    tolerances: Tolerances,
    contradicted: Mapping[CellKey, str] | None = None,
) -> list[JudgedCell]:
    """Judge every cell of a table's long frame for which there is another figure.

    theirs: the other figures, percent. contradicted: published figures that are impossible, and the sentence why.
    """
    contradicted = contradicted or {}
    cells = []
    for row in frame.to_dict("records"):
        key = get_cell_key(row)
        if key not in theirs or row["verdict"] == STAND_IN:
            continue
        low, high = compute_cell_interval(draws, key, tolerances)
        tolerance, note = tolerances.get_tolerance(key[3]), row["note"]
        if not row["n"]:
            verdict = "not run" if row["verdict"] == ABSENT else row["verdict"]
        else:
            verdict = judge_value(row["ours"], theirs[key], (low, high), tolerance, tolerances.widest)
        if verdict != "failed" and key in contradicted:
            verdict, note = "impossible", contradicted[key]
        cells.append(
            JudgedCell(
                *key,
                theirs=theirs[key],
                ours=row["ours"],
                low=low,
                high=high,
                n=int(row["n"]),
                tolerance=tolerance,
                verdict=verdict,
                note=note,
            )
        )
    return cells


def judge_regressions(
    frame: pd.DataFrame, earlier: Mapping[CellKey, float], tolerances: Tolerances
) -> list[JudgedCell]:
    """Judge every cell that an earlier result of one's own has, by the tolerance alone."""
    rows = frame[frame["n"] > 0].to_dict("records")
    exact = {get_cell_key(row): np.full(2, row["ours"]) for row in rows}
    # one's own stand-in compares with one's own
    return judge_cells(
        frame.assign(verdict=frame["verdict"].replace(STAND_IN, "")), earlier, exact, tolerances
    )


def get_cell_key(row: Mapping[Hashable, Any]) -> CellKey:
    """Return where a row of a long frame stands in its table."""
    return row["dataset"], None if math.isnan(row["rho"]) else row["rho"], row["method"], row["metric"]


def count_verdicts(cells: Iterable[JudgedCell]) -> dict[str, int]:
    """Count the cells of each verdict, in the order of ``VERDICTS``."""
    counts = Counter(cell.verdict for cell in cells)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def compute_cell_interval(draws: BootstrapDraws, key: CellKey, tolerances: Tolerances) -> tuple[float, float]:
    """Compute a cell's interval; NaN where it has no draws."""
    if key not in draws:
        return math.nan, math.nan
    return statistics.compute_interval(draws[key], tolerances.level)


def is_higher_better(metric: str) -> bool:
    """Tell whether more of a metric is better; a metric the suite does not know is taken for one of those."""
    return metric not in METRICS or METRICS[metric].better == "higher"
