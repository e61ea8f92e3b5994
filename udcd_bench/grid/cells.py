"""Data classes of a table: the request, a row, a group of columns, the summary of a cell."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench.data import official, understanding
from udcd_bench.runs.spec import SPLIT_SETS
from udcd_bench.stats import statistics

if TYPE_CHECKING:
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import Overrides, RunSpec

ABSENT = "not in the suite yet"
STAND_IN = "synthetic stand-in"


ValuesByRun = Mapping[tuple[int, int], float]
"""A cell's values, in percent, by (fold, seed)."""


@dataclass(frozen=True)
class TableRequest:
    """What the user requests of a table or figure. None leaves the choice to the artefact or the profile.

    methods, datasets: names; None for all that the artefact lists. teacher: as ``--teacher``, then as of ``RunSpec``.
    protocol: overrides of every run. hparams: what is set of rows, as ``row_settings`` reads it.
    rule: which epochs are reported, of ``stats.rules.RULES``.
    marks: which figures of a table are bold, of ``artefacts.marks.KINDS``. plain: leave out the ± of a table.
    bare: leave out the title and the caption of a figure. name: of the files; empty for ``file_names.make_stem``'s.
    split: of ``runs.spec.SPLITS`` or ``SPLIT_SETS``; its kind is empty until the data are named
        (``engines.naming``), where the user leaves it to them.
    """

    profile: str = "demo"
    methods: tuple[str, ...] | None = None
    datasets: tuple[str, ...] | None = None
    folds: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    split: str = "paper"
    backbone: str | None = None
    teacher_backbone: str = ""
    teacher: str = ""
    hparams: Overrides = ()
    protocol: Overrides = ()
    rule: str = "mean"
    marks: str = "tested"
    plain: bool = False
    bare: bool = False
    name: str = ""

    @property
    def suffix(self) -> str:
        """What the names of files and labels end in: the split, unless it is the paper's."""
        return "" if self.split == "paper" else f"-{self.split}"


@dataclass(frozen=True)
class ColumnGroup:
    """A group of columns: a source of images, at an imbalance (None: its own).

    shown_rho: the imbalance in the heading and the frame.
    paper_setting: the data set and ρ under which the paper prints figures for this group; None where it prints none,
    as for every stand-in.
    fraction: of the training fold. backbone: a timm name; empty for the request's or the profile's.
    teacher_backbone: of trained teachers; empty for the request's.
    """

    source: str
    title: str
    synthetic: bool
    rho: float | None = None
    shown_rho: float | None = None
    paper_setting: tuple[str, float | None] | None = None
    fraction: float = 1.0
    backbone: str = ""
    teacher_backbone: str = ""

    @property
    def name(self) -> str:
        """Name of the group among those of a table: the source's, and the pair of backbones where there are several."""
        return f"{self.source}, {_format_backbones(self)}" if self.teacher_backbone else self.source


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
    def overrides(self) -> Overrides:
        """Overrides, by the row's name, of its method's hyper-parameters and of the protocol."""
        return parse_row_settings(self.name)


def split_request(request: TableRequest) -> list[TableRequest]:
    """Make a request of each split that is asked for; the official one of those data sets that have it, if any has."""
    if request.split not in SPLIT_SETS:
        return [request]
    with_test = tuple(name for name in request.datasets or () if name in official.TESTS)
    return [
        replace(request, split=split, datasets=(split == official.SPLIT and with_test) or request.datasets)
        for split in SPLIT_SETS[request.split]
    ]


def parse_row_method(name: str) -> str:
    """Parse the method of a row such as ``udcd:lambda_cra=0``."""
    return name.partition(":")[0]


def parse_row_settings(name: str) -> Overrides:
    """Parse the overrides of a row such as ``udcd:lambda_cra=0,confidence=none``."""
    _, _, settings = name.partition(":")
    pairs = (setting.partition("=") for setting in settings.split(",") if setting)
    return tuple((key.strip(), value.strip()) for key, _, value in pairs)


def format_heading(group: ColumnGroup) -> str:
    """Format the heading of a group of columns; the heading of a stand-in says that it is synthetic."""
    title = group.title
    if group.synthetic and STAND_IN not in title.lower():
        title = f"{title} ({STAND_IN})"
    parts = [title, *([f"ρ = {group.shown_rho:g}"] if group.shown_rho is not None else [])]
    parts += [f"{100 * group.fraction:g}% of the training images"] if group.fraction != 1 else []
    return ", ".join([*parts, *([_format_backbones(group)] if group.backbone else [])])


def _format_backbones(group: ColumnGroup) -> str:
    """Format the backbone of a group, behind its teacher's where it has one of its own."""
    return f"{group.teacher_backbone} → {group.backbone}" if group.teacher_backbone else group.backbone


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


def summarize_values(values: ValuesByRun) -> CellSummary:
    """Summarise figures by (fold, seed): their mean and ``statistics.compute_spread``."""
    if not values:
        return CellSummary(mean=math.nan, folds=math.nan, seeds=math.nan, n=0, n_folds=0, n_seeds=0)
    spread = statistics.compute_spread(values)
    return CellSummary(
        mean=math.fsum(values.values()) / len(values),
        folds=spread.folds,
        seeds=spread.seeds,
        n=len(values),
        n_folds=spread.n_folds,
        n_seeds=spread.n_seeds,
    )


def find_cell_state(row: TableRow, specs: Sequence[RunSpec], results: Results) -> str:
    """Name the state of a cell without a figure of our own: not in the suite, failed or not run."""
    if not row.in_suite:
        return ABSENT
    return "failed" if any(results.find_failure(spec) is not None for spec in specs) else "not run"


def format_note(row: TableRow, specs: Sequence[RunSpec], results: Results) -> str:
    """Format what a reader must know about the runs behind a cell, in one line; empty where all are done."""
    if not row.in_suite:
        return f"A row of the paper whose method is {ABSENT}."
    done = len(results.select_records(specs))
    messages = [
        message
        for spec in specs
        if spec not in results.records and (message := results.find_failure(spec)) is not None
    ]
    sentences = [f"n = {done} of {len(specs)} runs."] if 0 < done < len(specs) else []
    if messages:
        failed = f"{len(messages)} of {len(specs)} runs" if len(specs) > 1 else "The run"
        reason = textwrap.shorten(messages[0], 200, placeholder=" …")
        sentences.append(f"{failed} failed: {reason or 'no reason was kept'}")
    return " ".join(sentences)


def describe_untested_classes(specs: Sequence[RunSpec], results: Results) -> list[str]:
    """Describe the classes that no test image of these finished runs is of, of one data set."""
    records = results.select_records(specs)
    counts = [(spec.fold, results.count_tested(spec)) for spec in records]
    classes = next((record["classes"] for record in records.values()), [])
    return understanding.describe_untested(classes, counts)
