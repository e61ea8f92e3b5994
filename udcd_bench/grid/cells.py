"""What is asked of a table, its rows and groups of columns, and what stands in one cell."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from udcd_bench.runs.spec import Overrides, RunSpec
from udcd_bench.stats import statistics

Records = Mapping[RunSpec, Mapping[str, Any]]
States = Mapping[RunSpec, str]
"""A run's state as the store has it; ``failed`` may go on with a colon and the error."""

ABSENT = "not in the suite yet"
STAND_IN = "synthetic stand-in"


@dataclass(frozen=True)
class TableRequest:
    """What the user asked for. None leaves the choice to the artefact or the profile.

    rule: which epochs are reported, ``mean``, ``last`` or ``best``.
    """

    profile: str = "demo"
    methods: tuple[str, ...] | None = None
    datasets: tuple[str, ...] | None = None
    folds: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    split: str = "paper"
    backbone: str | None = None
    teacher_backbone: str = ""
    hparams: Overrides = ()
    protocol: Overrides = ()
    rule: str = "mean"


@dataclass(frozen=True)
class ColumnGroup:
    """A group of columns: a source of images, at an imbalance (None: its own).

    printed: the data set and ρ under which the paper prints figures for just this; None where it has none, as
    for every stand-in. shown_rho: what the heading and the frame say. fraction: of the training fold.
    backbone: a timm name; empty: the ask's or the profile's.
    """

    source: str
    title: str
    synthetic: bool
    rho: float | None = None
    shown_rho: float | None = None
    paper_setting: tuple[str, float | None] | None = None
    fraction: float = 1.0
    backbone: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row such as ``kd`` or ``udcd:lambda_cra=0``, and whether the artefact lists it and the suite has its method."""

    name: str
    title: str
    listed: bool
    in_suite: bool

    @property
    def method(self) -> str:
        """Name of the method's file."""
        return parse_row_method(self.name)

    @property
    def settings(self) -> Overrides:
        """What the row overrides of its method's hyper-parameters and of the protocol."""
        return parse_row_settings(self.name)


def parse_row_method(name: str) -> str:
    """The method of a row such as ``udcd:lambda_cra=0``."""
    return name.partition(":")[0]


def parse_row_settings(name: str) -> Overrides:
    """The overrides of a row such as ``udcd:lambda_cra=0,confidence=none``."""
    _, _, settings = name.partition(":")
    pairs = (setting.partition("=") for setting in settings.split(",") if setting)
    return tuple((key.strip(), value.strip()) for key, _, value in pairs)


def format_heading(group: ColumnGroup) -> str:
    """What stands above a group of columns; a stand-in always says so."""
    title = group.title
    if group.synthetic and STAND_IN not in title.lower():
        title = f"{title} ({STAND_IN})"
    parts = [title, *([f"ρ = {group.shown_rho:g}"] if group.shown_rho is not None else [])]
    parts += [f"{group.fraction:.0%} of the training images"] if group.fraction != 1 else []
    return ", ".join([*parts, *([group.backbone] if group.backbone else [])])


class CellSummary(NamedTuple):
    """The mean of a cell's n runs, and their spreads apart: between folds, and between seeds of one fold."""

    mean: float
    folds: float
    seeds: float
    n: int
    n_folds: int
    n_seeds: int

    @property
    def spread(self) -> float:
        """Between folds where there are several, else between seeds; NaN for a single run."""
        return self.folds if self.n_folds > 1 else self.seeds


def summarize_values(values: Mapping[tuple[int, int], float]) -> CellSummary:
    """Figures by (fold, seed) as their mean and what ``statistics.spread`` says of them."""
    if not values:
        return CellSummary(math.nan, math.nan, math.nan, 0, 0, 0)
    found = statistics.compute_spread(values)
    mean = math.fsum(values.values()) / len(values)
    return CellSummary(mean, found.folds, found.seeds, len(values), found.n_folds, found.n_seeds)


def find_cell_state(
    row: TableRow,
    specs: Sequence[RunSpec],
    n: int,
    states: States,
    *,
    synthetic: bool,
    published_value: float,
) -> str:
    """What can be said of a cell with n figures of our own, where the paper prints ``figure`` (NaN: none).

    A cell with both is ``not judged`` here: that takes the interval, which is in the runs' scores (``verdicts``).
    """
    if not row.in_suite:
        return ABSENT
    if not n:
        return (
            "failed" if any(find_failure_message(spec, states) is not None for spec in specs) else "not run"
        )
    if synthetic:
        return STAND_IN
    return "no counterpart" if math.isnan(published_value) else "not judged"


def find_failure_message(spec: RunSpec, states: States) -> str | None:
    """What a failed run says; None for a run that did not fail."""
    state, _, message = states.get(spec, "").partition(":")
    return textwrap.shorten(message, 200, placeholder=" …") if state == "failed" else None


def format_note(row: TableRow, specs: Sequence[RunSpec], records: Records, states: States) -> str:
    """What a reader must know about the runs behind a cell, in one line."""
    if not row.in_suite:
        return f"A row of the paper whose method is {ABSENT}."
    failures = [
        reason
        for spec in specs
        if spec not in records and (reason := find_failure_message(spec, states)) is not None
    ]
    several = f"{len(failures)} of {len(specs)} runs" if len(specs) > 1 else "The run"
    told = [f"n = {len(records)} of {len(specs)} runs."] if 0 < len(records) < len(specs) else []
    told += [f"{several} failed: {failures[0] or 'no reason was kept'}"] if failures else []
    return " ".join(told)
