"""Figures seed by seed, kept in a file for later results of one's own to be held against.

It is a gate: where a cell's training noise is known from its seeds, on this very device, a figure that has
fallen below what another seed would give tells of a change, and one within it does not. It is judged by the
prediction interval of the mean of new seeds: with s the standard deviation between seeds of one fold, pooled over
the F folds, and nᵢ seeds there and mᵢ here of fold i, the difference of the two means has the standard error
s √Σ (1/nᵢ + 1/mᵢ) / F, and (difference / standard error) is Student's t. Each cell is judged alone: of many, chance
puts one in forty below. The same seeds on the same device give the same figures, so there chance has no part.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError
from udcd_bench.grid.cells import ABSENT, format_heading
from udcd_bench.judging.verdicts import JudgedCell, get_cell_key, judge_value
from udcd_bench.stats import statistics
from udcd_bench.storage.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.uncertainty import CellKey, Results
    from udcd_bench.judging.verdicts import Tolerances

FORMAT_VERSION = 1
FILE_KIND = "udcd-bench figures by seed"
MIN_SEEDS = 3
"""Of a fold, that a distribution has at the least; two say next to nothing of their spread."""

RowKey = tuple[str, float | None, str]
"""Data set, imbalance as shown, method."""
ENVIRONMENT_KEYS = ("udcd_bench", "torch", "timm", "python", "precision", "threads")


@dataclass(frozen=True)
class SeedResult:
    """Figures of a run in percent, and the hash of its split."""

    split_hash: str
    percent: Mapping[str, float]


@dataclass(frozen=True)
class SeedBaseline:
    """What one device made: rows of runs by (fold, seed), with their headings; the versions that made them."""

    rows: dict[RowKey, dict[tuple[int, int], SeedResult]] = field(default_factory=dict)
    titles: dict[RowKey, str] = field(default_factory=dict)
    versions: dict[str, list[str]] = field(default_factory=dict)

    def count_fewest_seeds(self) -> int:
        """The least number of seeds that a row has of a fold."""
        counts = [Counter(fold for fold, _ in runs) for runs in self.rows.values()]
        return min(n for count in counts for n in count.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [
            {
                **dict(zip(("dataset", "rho", "method"), row)),
                "dataset_title": self.titles[row],
                "n": len(runs),
                "runs": [
                    {"fold": fold, "seed": seed, "split_hash": run.split_hash, "percent": dict(run.percent)}
                    for (fold, seed), run in sorted(runs.items())
                ],
            }
            for row, runs in self.rows.items()
        ]
        return {"versions": dict(self.versions), "rows": rows}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SeedBaseline:
        """Raises KeyError, TypeError, ValueError or AttributeError for what is no such thing."""
        rows: dict[RowKey, dict[tuple[int, int], SeedResult]] = {}
        titles = {}
        for row in data["rows"]:
            place = (
                str(row["dataset"]),
                None if row["rho"] is None else float(row["rho"]),
                str(row["method"]),
            )
            titles[place] = str(row["dataset_title"])
            for run in row["runs"]:
                percent = {str(metric): float(value) for metric, value in run["percent"].items()}
                if not all(abs(value) <= 1e6 for value in percent.values()):
                    raise ValueError("a figure is no percentage")
                found = SeedResult(str(run["split_hash"]), percent)
                rows.setdefault(place, {})[int(run["fold"]), int(run["seed"])] = found
        return cls(rows, titles, dict(data["versions"]))


def describe_settings(table: Grid, request: TableRequest) -> dict[str, Any]:
    """What runs must have been asked for with, to compare."""
    return {
        "table": table.name,
        "profile": request.profile,
        "split": request.split,
        "reporting": request.rule,
        "backbone": request.backbone or "",
        "teacher_backbone": request.teacher_backbone,
        "set": dict(sorted((*request.protocol, *request.hparams))),
    }


def collect_by_device(table: Grid, request: TableRequest, results: Results) -> dict[str, SeedBaseline]:
    """The figures of a table's finished runs, by the device that trained them."""
    made: dict[str, SeedBaseline] = {}
    for group, line in itertools.product(table.list_column_groups(request), table.list_rows(request)):
        row = (group.source, group.shown_rho, line.name)
        for spec in table.list_cell_runs(request, line, group):
            if (record := results.records.get(spec)) is None:
                continue
            of_device = made.setdefault(record["environment"]["device"], SeedBaseline())
            figures = record["figures"][request.rule]
            percent = {m: round(100 * figures[m], 6) for m in table.metrics if m in figures}
            run = SeedResult(record["split_hash"], percent)
            of_device.rows.setdefault(row, {})[spec.fold, spec.seed] = run
            of_device.titles[row] = format_heading(group)
            for name in ENVIRONMENT_KEYS:
                seen, now = of_device.versions.setdefault(name, []), str(record["environment"].get(name, ""))
                seen += [now] * (now not in seen)
    return made


def save_baselines(file: Path, settings: Mapping[str, Any], baselines: Mapping[str, SeedBaseline]) -> None:
    """Put these devices' figures into the file, in place of what it has of them; other devices' stay.

    Raises UserError where the file is something else, or was made with other settings.
    """
    there = load_baselines(file, settings) if file.exists() else {}
    devices = {device: seeds.to_dict() for device, seeds in {**there, **baselines}.items()}
    whole = {"kind": FILE_KIND, "version": FORMAT_VERSION, "settings": dict(settings), "devices": devices}
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(file, f"{text}\n".encode())


def is_baseline_file(file: Path) -> bool:
    """Whether a file is JSON by its looks, and so no CSV."""
    try:
        with file.open("rb") as opened:
            return opened.read(64).lstrip()[:1] == b"{"
    except OSError:
        return False


def load_baselines(file: Path, settings: Mapping[str, Any]) -> dict[str, SeedBaseline]:
    """Figures by device. Raises UserError for a file that has none, or was made with other settings than ``about``."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
        if read["kind"] != FILE_KIND:
            raise ValueError(f"it is not of the kind {FILE_KIND!r}")
        newer = int(read["version"]) > FORMAT_VERSION
        there = dict(read["settings"])
        devices = {} if newer else {d: SeedBaseline.from_dict(seeds) for d, seeds in read["devices"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{file}: it cannot be read as figures by seed ({error!r}); --record writes such a file."
        ) from error
    if newer:
        raise UserError(f"{file} was written by a newer udcd-bench; upgrade.")
    for name, value in settings.items():
        if there.get(name) != value:
            raise UserError(
                f"{file} was made with {name} {there.get(name)!r} and this is {value!r}, so they do not compare."
            )
    return devices


def judge_by_seeds(
    frame: pd.DataFrame,
    ours: Mapping[str, SeedBaseline],
    file: Path,
    baselines: Mapping[str, SeedBaseline],
    tolerances: Tolerances,
) -> list[JudgedCell]:
    """A verdict on every cell that the file has figures of, each device's by its own seeds.

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
    made = []
    for row in frame.to_dict("records"):
        place = get_cell_key(row)
        for device in ours or baselines:
            theirs = baselines[device].rows.get(place[:3], {})
            here = ours[device].rows.get(place[:3], {}) if ours else {}
            folds = {fold for fold, _ in theirs} & {fold for fold, _ in here}
            _check_same_images(file, place, theirs, here)
            told = "" if len({*ours}) < 2 else f"on {device}"
            before, now = (_select_metric(runs, place[3], folds if here else None) for runs in (theirs, here))
            if not before:
                continue
            tolerance = tolerances.get_tolerance(place[3])
            there_mean, mean = _average_over_folds(before), _average_over_folds(now)
            if not now:
                verdict = "not run" if row["n"] or row["verdict"] == ABSENT else row["verdict"]
                nothing = (math.nan, math.nan, math.nan, 0)
                made.append(JudgedCell(*place, there_mean, *nothing, tolerance, verdict, row["note"]))
                continue
            half, why = compute_half_width(before, now, tolerances.level)
            low, high = mean - half, mean + half
            verdict = judge_value(mean, there_mean, low, high, tolerance, tolerances.widest)
            note = " ".join(text for text in (why, told, row["note"]) if text)
            made.append(JudgedCell(*place, there_mean, mean, low, high, len(now), tolerance, verdict, note))
    return made


def compute_half_width(
    theirs: Mapping[tuple[int, int], float], ours: Mapping[tuple[int, int], float], level: float
) -> tuple[float, str]:
    """Half the prediction interval of the difference of two means over the same folds, by (fold, seed).

    NaN, and why, where a fold has fewer than ``SEEDS`` seeds in ``theirs``.
    """
    from scipy.stats import t as student

    n, m = (Counter(fold for fold, _ in figures) for figures in (theirs, ours))
    if min(n.values()) < MIN_SEEDS:
        told = f"the file has {min(n.values())} of a fold"
        return math.nan, f"Fewer than {MIN_SEEDS} seeds tell no chance from change: {told}."
    between = statistics.compute_spread(theirs).seeds
    error = between * math.sqrt(sum(1 / n[fold] + 1 / m[fold] for fold in n)) / len(n)
    return float(student.ppf((1 + level) / 2, len(theirs) - len(n))) * error, ""


def _average_over_folds(by_run: Mapping[tuple[int, int], float]) -> float:
    """The mean of the folds' means, so that a fold with more seeds counts no more."""
    by_fold: dict[int, list[float]] = {}
    for (fold, _), figure in by_run.items():
        by_fold.setdefault(fold, []).append(figure)
    means = [math.fsum(values) / len(values) for values in by_fold.values()]
    return math.fsum(means) / len(means) if means else math.nan


def _select_metric(
    runs: Mapping[tuple[int, int], SeedResult], metric: str, folds: set[int] | None
) -> dict[tuple[int, int], float]:
    """A metric's figures, of these folds (None: of all)."""
    return {
        place: run.percent[metric]
        for place, run in runs.items()
        if metric in run.percent and (folds is None or place[0] in folds)
    }


def _check_same_images(
    file: Path,
    cell_key: CellKey,
    theirs: Mapping[tuple[int, int], SeedResult],
    ours: Mapping[tuple[int, int], SeedResult],
) -> None:
    for (fold, _), run in ours.items():
        other = next((r.split_hash for (f, _), r in theirs.items() if f == fold), run.split_hash)
        if other != run.split_hash:
            raise UserError(
                f"--against {file}: {cell_key[2]} on {cell_key[0]}, fold {fold}, was tested on other images there (split "
                f"hash {other}, here {run.split_hash}), so the figures do not compare."
            )
