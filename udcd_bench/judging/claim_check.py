"""Verdicts on the paper's claims: on the figures it prints, and on those of our runs.

``tables/claims.toml`` states what each sentence claims, in fields and never in code. Every claim is about gains: of
the subject over other rows, in points, a figure for each data set, imbalance, fraction, backbone and metric. A gain
is an interval, from low to high. For printed figures, rounding sets its ends. For ours, it is the 95 % interval of
``judging.uncertainty`` (over test images, resampled by groups, and training) of the runs that all rows have, those of
the same fold and seed. The nearest row is so by luck too: so each row's gain has an interval that holds together with
those of the others, and the gain over the nearest lies between the least of the lows and the least of the highs. A
claim that is true at both ends holds; one that is true at neither fails; otherwise the verdict is ``cannot tell``. A
claim in whole per cents holds where one rounding rule, the same for all its figures, makes it true.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench.judging.claim_file import CLAIM_METRICS, list_claim_columns
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import Bootstrap
from udcd_bench.paper import published, rounded
from udcd_bench.paper.rounded import ROUNDING_RULES
from udcd_bench.runs import planner, profiles
from udcd_bench.runs.spec import RunSpec
from udcd_bench.stats import statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from udcd_bench.grid.cells import ValuesByRun
    from udcd_bench.judging.claim_file import Claim, ClaimColumn
    from udcd_bench.judging.pairing import FoldAndSeed
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import Overrides


@dataclass(frozen=True)
class Gain:
    """The subject's gain over another row in one column, in points, known from low to high.

    label: the column's. subject, other: percent. over: the other row. n: runs of ours (0: printed figures).
    absent: rows without figures. cells: the printed figures.
    """

    label: str
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
        """Format the gain for people."""
        known = self.n and math.isfinite(self.low + self.high)
        ends = f" ({self.low:+.2f} to {self.high:+.2f}, n={self.n})" if known else ""
        absent = f" ({self.absent} of the other rows without runs)" if self.absent else ""
        return f"{self.label} {rounded.get_metric_title(self.metric)} {self.gain:+.2f}{ends} over {self.over}{absent}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, None for an end that is not known."""
        values = {key: value for key, value in asdict(self).items() if key not in ("label", "cells")}
        finite = {key: None if value in (-math.inf, math.inf) else value for key, value in values.items()}
        return {"where": self.label, **finite}


@dataclass(frozen=True)
class ClaimVerdict:
    """Whether a claim holds: ``holds``, ``fails`` or ``cannot tell``, the reason, and the gains it rests on."""

    outcome: str
    reason: str
    gains: tuple[Gain, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        gains = [gain.to_dict() for gain in self.gains]
        return {"outcome": self.outcome, "reason": self.reason, "gains": gains}


# --- gains ----------------------------------------------------------------------------------------------------


def check_on_paper(claim: Claim) -> ClaimVerdict:
    """Judge the claim on the figures the paper prints."""
    if claim.kind == "no-experiment":
        return ClaimVerdict("cannot tell", "the paper has no experiment on this")
    if claim.kind == "printed":
        return _check_printed(claim)
    if not claim.tables:
        return ClaimVerdict("cannot tell", f"the paper prints no figures for this ({claim.where})")
    gains, columns = [], list_claim_columns(claim, "paper")
    for name in dict.fromkeys(claim.tables):
        printed = {
            (cell.dataset, cell.rho, cell.metric, cell.method): cell
            for row in rounded.group_into_rows({name: published.load_table(name)})[name]
            for cell in row.values()
        }
        for column in (each for each in columns if each.table == name):
            keys = {row: (column.dataset, column.rho, column.metric, row) for row in column.rows}
            cells = {row: printed[key] for row, key in keys.items() if key in printed}
            values = {row: {(0, 0): cell.percent} for row, cell in cells.items()}
            if (gain := _compute_gain(claim, column, values)) is not None:
                pair = (cells[claim.subject], cells[gain.over])
                slack = float(pair[0].half + pair[1].half)
                low, high = gain.low - slack, gain.high + slack
                gains.append(replace(gain, low=low, high=high, n=0, cells=pair))
    return judge_claim(claim, gains, len(columns))


def _check_printed(claim: Claim) -> ClaimVerdict:
    """Judge whether the tables have the columns that are announced."""
    printed = dict.fromkeys(value.metric for table in claim.tables for value in published.load_table(table))
    missing = [column.upper() for column in claim.columns if column not in printed]
    has = f"{' and '.join(claim.tables)} print {', '.join(map(rounded.get_metric_title, printed))}"
    if missing:
        return ClaimVerdict("fails", f"no column is called {' or '.join(missing)}; {has}")
    return ClaimVerdict("holds", has)


def check_on_runs(claim: Claim, profile: str, own_results: OwnResults) -> ClaimVerdict:
    """Judge the claim on our runs. Synthetic stand-ins are no evidence."""
    if not claim.metrics:
        return ClaimVerdict("cannot tell", "no run of this suite bears on it")
    columns = list_claim_columns(claim, profile)
    datasets = list(dict.fromkeys(column.dataset for column in columns))
    find_dataset = profiles.find_profile(profile).resolve_dataset
    if stand_ins := [name for name in datasets if find_dataset(name) != name]:
        names = " and ".join(stand_ins)
        reason = f"no runs on real data: profile {profile} has synthetic stand-ins in place of {names}"
        return ClaimVerdict("cannot tell", reason)
    gains = []
    for column in columns:
        by_row = {row: own_results.find_values(spec, column.metric) for row, spec in column.specs.items()}
        values = {row: by_run for row, by_run in by_row.items() if by_run}
        gain = _compute_gain(claim, column, values, own_results)
        gains += [gain] if gain is not None else []
    if not gains:
        return ClaimVerdict(
            "cannot tell", f"no runs of profile {profile} on {' and '.join(datasets)} that it speaks of"
        )
    return judge_claim(claim, gains, len(columns))


class OwnResults:
    """Our finished runs on real data, by setting, and the uncertainty of their figures.

    rule: which epochs are reported, ``mean``, ``last`` or ``best``. protocol: overrides that the runs looked at have.
    """

    def __init__(self, results: Results, rule: str = "mean", protocol: Overrides = ()) -> None:
        self.protocol = protocol
        self.tolerances = load_tolerances()
        self.bootstrap = Bootstrap(results, rule, self.tolerances)
        self.specs_by_setting: dict[RunSpec, list[RunSpec]] = {}
        for spec, record in results.records.items():
            if not record["synthetic"]:
                self.specs_by_setting.setdefault(replace(spec, fold=0, seed=0), []).append(spec)

    def find_values(self, spec: RunSpec, metric: str) -> ValuesByRun:
        """Find the percent by fold and seed of all runs that differ from this one in those alone."""
        return self.bootstrap.collect_percents(self.list_repeats(spec), metric)

    def list_repeats(self, spec: RunSpec) -> Sequence[RunSpec]:
        """List the runs that differ from this one, under the overrides looked at, in fold and seed alone."""
        if self.protocol:
            overrides = tuple(dict([*self.protocol, *spec.protocol]).items())
            spec = planner.normalize_spec(replace(spec, protocol=overrides))
        return self.specs_by_setting.get(spec, ())

    def bound_gain(
        self, claim: Claim, column: ClaimColumn, gains: Mapping[str, float], shared: Sequence[FoldAndSeed]
    ) -> tuple[float, float]:
        """Bound the subject's gain over the row that counts, points; infinite where the metric has no draws.

        gains: over each of the other rows. shared: the runs that all rows have.
        """
        rows = {
            row: [each for each in self.list_repeats(column.specs[row]) if (each.fold, each.seed) in shared]
            for row in (claim.subject, *gains)
        }
        draws = self.bootstrap.draw_rows(rows, [column.metric], (column.label, column.metric))
        if any((row, column.metric) not in draws for row in rows):
            return -math.inf, math.inf
        differences = [draws[claim.subject, column.metric] - draws[row, column.metric] for row in gains]
        half = statistics.compute_joint_half_widths(np.stack(differences, 1), self.tolerances.level)
        over = np.array(list(gains.values()))
        choose = np.max if claim.over == "any" else np.min
        return float(choose(over - half)), float(choose(over + half))


def _compute_gain(
    claim: Claim,
    column: ClaimColumn,
    values: Mapping[str, ValuesByRun],
    own_results: OwnResults | None = None,
) -> Gain | None:
    """Compute the subject's gain in a column over the row that counts; None where there is nothing to compare.

    own_results: gives the interval, of figures of our own.
    """
    others = [row for row in column.rows if row != claim.subject and row in values]
    if claim.subject not in values or not others:
        return None
    shared = sorted(set.intersection(*(set(values[row]) for row in (claim.subject, *others))))
    if not shared:
        return None
    sign = 1 if CLAIM_METRICS[column.metric].better == "higher" else -1
    means = {row: sum(by_run[run] for run in shared) / len(shared) for row, by_run in values.items()}
    gains = {row: sign * (means[claim.subject] - means[row]) for row in others}
    choose = max if claim.over == "any" else min
    other = choose(gains, key=gains.__getitem__)
    low = high = gains[other]
    if own_results is not None:
        low, high = own_results.bound_gain(claim, column, gains, shared)
    # a row that has not been run may be nearer, or farther
    absent = len(column.rows) - 1 - len(others)
    return Gain(
        label=column.label,
        metric=column.metric,
        subject=means[claim.subject],
        over=other,
        other=means[other],
        gain=gains[other],
        low=-math.inf if absent and claim.over == "nearest" else low,
        high=math.inf if absent and claim.over == "any" else high,
        n=len(shared),
        absent=absent,
    )


# --- verdicts ---------------------------------------------------------------------------------------------------


def judge_claim(claim: Claim, gains: Sequence[Gain], n_columns: int) -> ClaimVerdict:
    """Judge a claim by its gains, where it speaks of ``n_columns`` columns.

    A bound in whole per cents is met by one rounding rule for all gains, or not at all.
    """
    absent = n_columns - len(gains)
    has_bounds = claim.kind in ("gain-within", "gain-reaches")
    rules = ROUNDING_RULES if has_bounds else {"as it is": float}
    outcomes = {name: _judge_by_rule(claim, gains, absent, rule) for name, rule in rules.items()}
    parts = [", ".join(gain.format_text() for gain in gains)] if gains else []
    parts += [f"{absent} of {n_columns} figures are missing"] if absent else []
    holds = [name for name, outcome in outcomes.items() if outcome == "holds"]
    if holds:
        caveat = [] if "as it is" in holds else [f"only {' or '.join(holds)} to whole per cents"]
        return ClaimVerdict("holds", "; ".join(parts + caveat), tuple(gains))
    if set(outcomes.values()) == {"fails"}:
        reasons = _explain_failure(claim, gains, n_columns)
        return ClaimVerdict("fails", "; ".join(reasons + parts), tuple(gains))
    return ClaimVerdict("cannot tell", "; ".join(parts), tuple(gains))


def _get_bounds(claim: Claim) -> tuple[float, float]:
    """Return between what the claim wants every gain to lie, ends included."""
    return {
        "best": (0.0, math.inf),
        "above": (math.nextafter(0, 1), math.inf),
        "gain-within": (claim.low, claim.high),
        "gain-reaches": (-math.inf, claim.value),
    }[claim.kind]


def _judge_by_rule(
    claim: Claim, gains: Sequence[Gain], absent: int, round_gain: Callable[[float], float]
) -> str:
    """Judge a claim by one rounding rule. absent: columns without a gain."""
    ends = [(round_gain(gain.low), round_gain(gain.high)) for gain in gains]
    low, high = _get_bounds(claim)
    goal = claim.value if claim.kind == "gain-reaches" else -math.inf
    reachable = absent > 0 or any(most >= goal for _, most in ends)
    if not reachable or any(most < low or least > high for least, most in ends):
        return "fails"
    sure = all(low <= least and most <= high for least, most in ends)
    reached = any(least >= goal for least, _ in ends)
    return "holds" if reached and sure and not absent else "cannot tell"


def _explain_failure(claim: Claim, gains: Sequence[Gain], n_columns: int) -> list[str]:
    """Explain why a claim fails under every rounding rule."""
    low, high = _get_bounds(claim)
    outside = [gain for gain in gains if gain.high < low or gain.low > high]
    if not outside:
        return [f"none reaches {claim.value:g}"]
    reasons = [f"not so in {len(outside)} of {n_columns}"]
    fitting = {
        f"{gain.gain:.2f}": [name for name, rule in ROUNDING_RULES.items() if low <= rule(gain.gain) <= high]
        for gain in outside
    }
    if claim.kind == "gain-within" and all(fitting.values()):
        each = ", ".join(f"{gain} only {' or '.join(names)}" for gain, names in fitting.items())
        reasons.append(f"no single rounding rule gives {low:g} to {high:g}: {each}")
    return reasons
