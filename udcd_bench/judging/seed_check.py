"""Verdicts on a table's cells by the seeds of a baseline file: is a figure below what another seed would give?

A baseline is a gate: where a cell's training noise is known from its seeds, on this very device, a figure below what
another seed would give shows a change, and one within it does not. The verdict rests on the prediction interval of
the mean of new seeds: with s the standard deviation between seeds of one fold, pooled over the F folds, and nᵢ seeds
in the file and mᵢ of ours of fold i, the difference of the two means has the standard error s √Σ (1/nᵢ + 1/mᵢ) / F,
and (difference / standard error) is Student's t. Each cell is judged alone: of many, chance puts one in forty below.
The same seeds on the same device give the same figures, so their comparison has no chance in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError
from udcd_bench.grid.cells import ABSENT
from udcd_bench.judging.verdicts import JudgedCell, get_cell_key, judge_difference
from udcd_bench.stats import statistics

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    import pandas as pd

    from udcd_bench.grid.cells import ValuesByRun
    from udcd_bench.judging.seed_baseline import SeedBaseline, SeedResult
    from udcd_bench.judging.tolerances import Tolerances
    from udcd_bench.judging.uncertainty import CellKey

MIN_SEEDS = 3
"""Least number of seeds of a fold; two say next to nothing of their spread."""


def judge_by_seeds(
    frame: pd.DataFrame,
    ours: Mapping[str, SeedBaseline],
    file: Path,
    baselines: Mapping[str, SeedBaseline],
    tolerances: Tolerances,
) -> list[JudgedCell]:
    """Judge every cell that the file has figures of, each device's by its own seeds.

    frame: the table's long frame. Raises UserError for a device that the file does not know, and for test images
    that differ.
    """
    for device in ours:
        if device not in baselines:
            known = " and ".join(baselines) or "no device"
            raise UserError(
                f"--against {file}: it has the seeds of {known}, and these runs are of {device}, which rounds "
                f"otherwise; put this device's seeds into it too, with --record {file}."
            )
    cells = []
    for row in frame.to_dict("records"):
        key = get_cell_key(row)
        for device in ours or baselines:
            theirs = baselines[device].rows.get(key[:3], {})
            now = ours[device].rows.get(key[:3], {}) if ours else {}
            _check_same_images(file, key, theirs, now)
            pair = _select_pair(theirs, now, key[3])
            if pair[0]:
                device_note = f"on {device}" if len(ours) > 1 else ""
                cells.append(_judge_cell(row, pair, tolerances, device_note))
    return cells


def _select_pair(
    theirs: Mapping[tuple[int, int], SeedResult], ours: Mapping[tuple[int, int], SeedResult], metric: str
) -> tuple[ValuesByRun, ValuesByRun]:
    """Select a metric of the folds that both sides have; of all of theirs where we have no run."""
    folds = {fold for fold, _ in theirs} & {fold for fold, _ in ours}
    before, now = (
        {
            (fold, seed): result.percent[metric]
            for (fold, seed), result in results.items()
            if metric in result.percent and (not ours or fold in folds)
        }
        for results in (theirs, ours)
    )
    return before, now


def _judge_cell(
    row: Mapping[Hashable, Any],
    pair: tuple[ValuesByRun, ValuesByRun],
    tolerances: Tolerances,
    device_note: str,
) -> JudgedCell:
    """Judge one cell on one device.

    row: the cell's line of the long frame. pair: the file's figures, at least one, and ours.
    """
    key, (theirs, ours) = get_cell_key(row), pair
    tolerance, their_mean, mean = tolerances.get_tolerance(key[3]), *map(_average_over_folds, pair)
    low = high = math.nan
    if ours:
        half, reason = compute_half_width(theirs, ours, tolerances.level)
        low, high = mean - half, mean + half
        interval = (low - their_mean, high - their_mean)
        verdict = judge_difference(mean - their_mean, interval, tolerance, tolerances.widest)
        note = " ".join(text for text in (reason, device_note, row["note"]) if text)
    else:
        verdict = "not run" if row["n"] or row["verdict"] == ABSENT else row["verdict"]
        note = row["note"]
    return JudgedCell(
        *key,
        theirs=their_mean,
        ours=mean,
        low=low,
        high=high,
        n=len(ours),
        tolerance=tolerance,
        verdict=verdict,
        note=note,
        difference_low=low - their_mean,
        difference_high=high - their_mean,
    )


def compute_half_width(
    theirs: Mapping[tuple[int, int], float], ours: Mapping[tuple[int, int], float], level: float
) -> tuple[float, str]:
    """Compute half the prediction interval of the difference of two means over the same folds, by (fold, seed).

    NaN, and the reason, where a fold has fewer than ``MIN_SEEDS`` seeds in ``theirs``.
    """
    from scipy.special import stdtrit

    n, m = (Counter(fold for fold, _ in figures) for figures in (theirs, ours))
    if min(n.values()) < MIN_SEEDS:
        fewest = f"the file has {min(n.values())} of a fold"
        return math.nan, f"Fewer than {MIN_SEEDS} seeds tell no chance from change: {fewest}."
    between = statistics.compute_spread(theirs).seeds
    error = between * math.sqrt(sum(1 / n[fold] + 1 / m[fold] for fold in n)) / len(n)
    return float(stdtrit(len(theirs) - len(n), (1 + level) / 2)) * error, ""


def _average_over_folds(values: ValuesByRun) -> float:
    """Average the folds' means, so that a fold with more seeds counts no more; NaN for no values."""
    by_fold: dict[int, list[float]] = {}
    for (fold, _), value in values.items():
        by_fold.setdefault(fold, []).append(value)
    means = [math.fsum(values) / len(values) for values in by_fold.values()]
    return math.fsum(means) / len(means) if means else math.nan


def _check_same_images(
    file: Path,
    cell_key: CellKey,
    theirs: Mapping[tuple[int, int], SeedResult],
    ours: Mapping[tuple[int, int], SeedResult],
) -> None:
    """Check that each fold of a row was tested on the same images. Raises UserError when one was not."""
    for (fold, _), run in ours.items():
        other = next((r.split_hash for (f, _), r in theirs.items() if f == fold), run.split_hash)
        if other != run.split_hash:
            raise UserError(
                f"--against {file}: {cell_key[2]} on {cell_key[0]}, fold {fold}, was tested on other images there "
                f"(split hash {other}, here {run.split_hash}), so the figures do not compare."
            )
