"""The paper's sentences as claims about figures, judged on the figures it prints and on those of our runs.

``tables/claims.toml`` says what each sentence claims, in fields and never in code. Everything is a claim about
gains: of the subject over other rows, in points, a figure for each data set, imbalance, fraction, backbone and
metric. A gain is known from low to high: printed figures to their rounding; ours, in the runs that all rows have
(the same fold and seed), in the 95 % interval of ``evidence`` (test images drawn by groups, and training), where
each draw has its own nearest row. A claim holds when it does from end to end, fails when it does at neither, and
cannot be told otherwise.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench.judging import claim_file, uncertainty, verdicts
from udcd_bench.judging.claim_file import list_claim_columns
from udcd_bench.paper import published, rounded
from udcd_bench.paper.audit import Finding
from udcd_bench.runs import profiles
from udcd_bench.runs.spec import RunSpec
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from udcd_bench.judging.claim_file import Claim, ClaimColumn
    from udcd_bench.runs.store import Store
    from udcd_bench.stats.resampling import Floats

ValuesByRun = dict[tuple[int, int], float]
"""Percent by (fold, seed)."""


@dataclass(frozen=True)
class Gain:
    """The subject's gain over another row in one column, in points, known from low to high.

    n: runs of ours (0: printed figures). absent: rows without figures. cells: the printed figures.
    """

    where: str
    metric: str
    subject: float
    over: str
    other: float
    gain: float
    low: float
    high: float
    n: int
    absent: int = 0
    cells: tuple[rounded.RoundedValue, ...] = ()

    def format_text(self) -> str:
        """For people."""
        known = self.n and math.isfinite(self.low + self.high)
        ends = f" ({self.low:+.2f} to {self.high:+.2f}, n={self.n})" if known else ""
        absent = f" ({self.absent} of the other rows without runs)" if self.absent else ""
        return f"{self.where} {rounded.get_metric_title(self.metric)} {self.gain:+.2f}{ends} over {self.over}{absent}"


@dataclass(frozen=True)
class ClaimVerdict:
    """``holds``, ``fails`` or ``cannot tell``, why, and the gains it rests on."""

    outcome: str
    reason: str
    gains: tuple[Gain, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        gains = [{k: v for k, v in asdict(gain).items() if k != "cells"} for gain in self.gains]
        finite = [{k: None if v in (-math.inf, math.inf) else v for k, v in gain.items()} for gain in gains]
        return {"outcome": self.outcome, "reason": self.reason, "gains": finite}


# --- what is known ------------------------------------------------------------------------------------------


def check_on_paper(claim: Claim) -> ClaimVerdict:
    """The claim on the figures the paper prints."""
    if not claim.tables:
        return ClaimVerdict("cannot tell", f"the paper prints no figures for this ({claim.where})")
    gains = []
    for name in claim.tables:
        cells = {
            (cell.dataset, cell.rho, cell.metric, cell.method): cell
            for row in rounded.group_into_rows({name: published.load_table(name)})[name]
            for cell in row.values()
        }
        for column in list_claim_columns(replace(claim, tables=(name,)), "paper"):
            at = {row: cells.get((column.dataset, column.rho, column.metric, row)) for row in column.rows}
            there = {row: cell for row, cell in at.items() if cell}
            values = {row: {(0, 0): cell.percent} for row, cell in there.items()}
            if (gain := _compute_gain(claim, column, values)) is not None:
                pair = (there[claim.subject], there[gain.over])
                slack = float(pair[0].half + pair[1].half)
                low, high = gain.low - slack, gain.high + slack
                gains.append(replace(gain, low=low, high=high, n=0, cells=pair))
    return judge_claim(claim, gains, len(list_claim_columns(claim, "paper")))


def check_on_runs(claim: Claim, profile: str, own_results: OwnResults) -> ClaimVerdict:
    """The claim on our runs. Stand-ins and the demo's network are no evidence."""
    asked = list_claim_columns(claim, profile)
    data = list(dict.fromkeys(column.dataset for column in asked))
    if stand_ins := [name for name in data if profiles.find_profile(profile).resolve_dataset(name) != name]:
        names = " and ".join(stand_ins)
        reason = f"no runs on real data: profile {profile} has synthetic stand-ins in place of {names}"
        return ClaimVerdict("cannot tell", reason)
    gains = []
    for column in asked:
        values = {row: own_results.find_values(spec, column.metric) for row, spec in column.specs.items()}
        gain = _compute_gain(
            claim, column, {row: found for row, found in values.items() if found}, own_results
        )
        gains += [gain] if gain is not None else []
    if not gains:
        return ClaimVerdict(
            "cannot tell", f"no runs of profile {profile} on {' and '.join(data)} that it speaks of"
        )
    return judge_claim(claim, gains, len(asked))


class OwnResults:
    """Finished runs on real data, and what chance leaves of their figures. rule: which epochs are reported."""

    def __init__(self, store: Store, rule: str = "mean") -> None:
        self.store, self.rule, self.tolerances = store, rule, verdicts.load_tolerances()
        self.results = uncertainty.load_results(store)
        self.specs_by_setting: dict[RunSpec, list[RunSpec]] = {}
        for spec, record in self.results.records.items():
            if not record["synthetic"]:
                self.specs_by_setting.setdefault(replace(spec, fold=0, seed=0), []).append(spec)

    def find_values(self, spec: RunSpec, metric: str) -> ValuesByRun:
        """Percent by fold and seed of all runs that differ from this one in those alone."""
        return {
            (each.fold, each.seed): 100 * self.results.records[each]["figures"][self.rule][metric]
            for each in self.specs_by_setting.get(spec, ())
        }

    def bootstrap_gain(
        self, claim: Claim, column: ClaimColumn, others: Sequence[str], shared: Sequence[tuple[int, int]]
    ) -> Floats:
        """The subject's gain in each draw; empty where a run's scores are gone or chance of the metric is not known."""
        rows = {
            row: [
                each for each in self.specs_by_setting[column.specs[row]] if (each.fold, each.seed) in shared
            ]
            for row in (claim.subject, *others)
        }
        where = (column.where, column.metric)
        drawn = uncertainty.bootstrap_rows(
            rows, [column.metric], self.rule, where, self.results, self.store, self.tolerances
        )
        if any((row, column.metric) not in drawn for row in rows):
            return np.empty(0)
        sign = 1 if METRICS[column.metric].better == "higher" else -1
        gains = [sign * (drawn[claim.subject, column.metric] - drawn[row, column.metric]) for row in others]
        found: Floats = np.max(gains, axis=0) if claim.over == "any" else np.min(gains, axis=0)
        return found


def _compute_gain(
    claim: Claim,
    column: ClaimColumn,
    values: Mapping[str, ValuesByRun],
    own_results: OwnResults | None = None,
) -> Gain | None:
    """The subject's gain in a column over the row that counts; None where there is nothing to compare.

    ours: of figures that have an interval.
    """
    others = [row for row in column.rows if row != claim.subject and row in values]
    if claim.subject not in values or not others:
        return None
    shared = sorted(set.intersection(*(set(values[row]) for row in (claim.subject, *others))))
    if not shared:
        return None
    sign = 1 if METRICS[column.metric].better == "higher" else -1
    means = {row: sum(found[run] for run in shared) / len(shared) for row, found in values.items()}
    choose = min if claim.over == "any" else max
    other = choose(others, key=lambda row: sign * means[row])
    mean = sign * (means[claim.subject] - means[other])
    low, high = mean, mean
    if own_results is not None:
        drawn = own_results.bootstrap_gain(claim, column, others, shared)
        low, high = (
            statistics.compute_interval(drawn, own_results.tolerances.level)
            if len(drawn)
            else (-math.inf, math.inf)
        )
    # a row that has not been run may be nearer, or farther
    absent = len(column.rows) - 1 - len(others)
    low = -math.inf if absent and claim.over == "nearest" else low
    high = math.inf if absent and claim.over == "any" else high
    where, metric = column.where, column.metric
    return Gain(
        where, metric, means[claim.subject], other, means[other], mean, low, high, len(shared), absent
    )


# --- what follows -------------------------------------------------------------------------------------------


def judge_claim(claim: Claim, gains: Sequence[Gain], n_columns: int) -> ClaimVerdict:
    """What the gains say of the claim, where it speaks of ``n_columns`` columns.

    A bound in whole per cents covers what is rounded to it, and the upper one also what is cut to it.
    """
    least, most = {
        "best": (0.0, math.inf),
        "above": (0.0, math.inf),
        "gain-within": (claim.low - 0.5, claim.high + 1),
        "gain-reaches": (-math.inf, claim.value + 1),
    }[claim.kind]

    def too_low(gain: float) -> bool:
        return gain <= least if claim.kind == "above" else gain < least

    never = [gain for gain in gains if too_low(gain.high) or gain.low >= most]
    unsure = [gain for gain in gains if too_low(gain.low) or gain.high >= most]
    absent = n_columns - len(gains)
    goal = claim.value - 0.5 if claim.kind == "gain-reaches" else -math.inf
    reached = any(gain.low >= goal for gain in gains)
    reachable = absent > 0 or any(gain.high >= goal for gain in gains)
    parts = [", ".join(gain.format_text() for gain in gains)] if gains else []
    parts += [f"{absent} of {n_columns} figures are missing"] if absent else []
    if never or not reachable:
        outcome = "fails"
        parts.insert(
            0, f"not so in {len(never)} of {n_columns}" if never else f"none reaches {claim.value:g}"
        )
    elif reached and not unsure and not absent:
        outcome = "holds"
        parts += _list_rounding_caveats(claim, gains)
    else:
        outcome = "cannot tell"
    return ClaimVerdict(outcome, "; ".join(parts), tuple(gains))


def _list_rounding_caveats(claim: Claim, gains: Sequence[Gain]) -> list[str]:
    """Says where a claim holds only at the precision its bounds are given in."""
    low = claim.low if claim.kind == "gain-within" else -math.inf
    high = {"gain-within": claim.high, "gain-reaches": claim.value}.get(claim.kind, math.inf)
    beyond = [f"{gain.gain:.2f}" for gain in gains if not low <= gain.gain <= high]
    bounds = " to ".join(f"{bound:g}" for bound in (low, high) if math.isfinite(bound))
    return (
        [f"{' and '.join(beyond)} only when rounded or cut to whole per cents ({bounds})"] if beyond else []
    )


def find_failed_claims() -> Iterator[Finding]:
    """The suite's claims that fail on the published figures, as findings of the audit."""
    if claim_file.find_claims_file().is_file():
        for claim in claim_file.load_claims(claim_file.find_claims_file()):
            outcome = check_on_paper(claim)
            if outcome.outcome == "fails":
                cells = tuple(cell for gain in outcome.gains for cell in gain.cells)
                yield Finding("claim-fails", cells, f"“{claim.quote}” ({claim.where}): {outcome.reason}.")
