"""What a figure is drawn from: rows and groups of columns, their finished runs, and frames of their figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.artefacts import captions
from udcd_bench.grid import cells
from udcd_bench.grid.cells import ColumnGroup, TableRequest, TableRow, format_heading
from udcd_bench.grid.grid import PAPER_ROWS, Grid
from udcd_bench.judging.comparisons import compare_group
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import (
    Bootstrap,
    bootstrap_group,
    describe_training_noise,
    list_training_noise,
)
from udcd_bench.render import plots
from udcd_bench.stats import statistics
from udcd_bench.stats.rules import select_reported_epochs

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from udcd_bench.render.plots import FigurePage, Style
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import RunSpec

PANELS_PER_ROW = 4


@dataclass(frozen=True)
class FigureData:
    """What there is to draw: the grid's rows and groups of columns, their finished runs and what those stored."""

    grid: Grid
    request: TableRequest
    results: Results

    @cached_property
    def rows(self) -> list[TableRow]:
        """Rows, in order."""
        return self.grid.list_rows(self.request)

    @cached_property
    def column_groups(self) -> list[ColumnGroup]:
        """Groups of columns, in order."""
        return self.grid.list_column_groups(self.request)

    @cached_property
    def records(self) -> dict[RunSpec, Record]:
        """Records of the figure's finished runs."""
        return self.results.select_records(self.grid.list_runs(self.request))

    @cached_property
    def styles(self) -> dict[str, Style]:
        """Each row's style: a method has one colour in all figures, its variants other markers and dashes."""
        order = [*reversed(PAPER_ROWS), *(n for n in plugins.list_names("methods") if n not in PAPER_ROWS)]
        variants: dict[str, int] = {}
        styles = {}
        for row in self.rows:
            variants[row.method] = variants.get(row.method, 0) + bool(row.overrides)
            styles[row.name] = plots.pick_style(
                order.index(row.method), variants[row.method] * bool(row.overrides)
            )
        return styles

    def list_specs(self, row: TableRow, group: ColumnGroup) -> list[RunSpec]:
        """List the runs of a cell, finished or not."""
        return self.grid.list_cell_runs(self.request, row, group)

    def find_records(self, row: TableRow, group: ColumnGroup) -> dict[tuple[int, int], Record]:
        """Find the records of a cell's finished runs, by (fold, seed)."""
        records = self.results.select_records(self.list_specs(row, group))
        return {(spec.fold, spec.seed): record for spec, record in records.items()}

    def load_scores(self, record: Record) -> dict[str, Any]:
        """Load a run's stored arrays, see ``Store.read_scores``; ``scores`` are those of the reported epochs.

        They are kept for whoever asks next, so nobody may write into them.
        """
        arrays: dict[str, Any] = self.results.read_scores_of(record["key"])
        return arrays | {"scores": select_reported_epochs(arrays, self.request.rule)}

    def load_history(self, record: Record) -> pd.DataFrame:
        """Load a run's history, a row an epoch; ``epochs`` counts those of all stages, from 1."""
        import pandas as pd

        rows = pd.DataFrame(self.results.store.read_history(record["key"]))
        return rows.assign(epochs=range(1, len(rows) + 1))

    def describe_state(self, row: TableRow, group: ColumnGroup) -> str:
        """Describe a cell: ``done``, ``n of m runs``, ``not run``, ``failed`` or that the suite lacks the method."""
        specs = self.list_specs(row, group)
        done = len(self.results.select_records(specs))
        if not done:
            return cells.find_cell_state(row, specs, self.results)
        return "done" if done == len(specs) else f"{done} of {len(specs)} runs"

    def describe_cell(self, row: TableRow, group: ColumnGroup) -> dict[str, Any]:
        """Return the first columns of every CSV: what a line is of."""
        records = self.find_records(row, group)
        specs = self.list_specs(row, group)
        return {
            "dataset": group.source,
            "dataset_title": format_heading(group),
            "synthetic": group.synthetic,
            "rho": group.shown_rho,
            "fraction": group.fraction,
            "backbone": specs[0].backbone if specs else "",
            "method": row.name,
            "method_title": row.title,
            "profile": self.request.profile,
            "split": self.request.split,
            "split_hash": " ".join(dict.fromkeys(record["split_hash"] for record in records.values())),
            "rule": self.request.rule,
            "n": len(records),
            "state": self.describe_state(row, group),
        }

    def format_label(self, row: TableRow) -> str:
        """Format a row's label in a legend: its title, and the reason where none of its runs is drawn."""
        if any(self.find_records(row, group) for group in self.column_groups):
            return row.title
        states = dict.fromkeys(self.describe_state(row, group) for group in self.column_groups)
        return f"{row.title} ({', '.join(states)})"

    def describe_missing(self) -> list[str]:
        """Return sentences on the cells whose runs are not all done."""
        headings: dict[str, list[str]] = {}
        for row, group in itertools.product(self.rows, self.column_groups):
            if (state := self.describe_state(row, group)) != "done":
                note = cells.format_note(row, self.list_specs(row, group), self.results)
                text = f"{row.title}: {note.rstrip('.') or state}"
                headings.setdefault(text, []).append(format_heading(group))
        return [
            text + (f" ({'; '.join(some)})" if len(some) < len(self.column_groups) else "") + "."
            for text, some in headings.items()
        ]

    def build_caption(self, sentences: Sequence[str], *, reported: bool = True) -> tuple[str, ...]:
        """Build the caption: the sentences, then what is missing, then what all runs are of.

        reported: whether figures are of the reported epochs, so that the caption names the rule.
        """
        n = [
            len(self.find_records(row, group))
            for row, group in itertools.product(self.rows, self.column_groups)
        ]
        planned = len(self.grid.list_runs(self.request))
        counts = captions.RunCounts(planned, tuple(n))
        runs = captions.describe_runs(self.request, self.records, counts, reported=reported)
        untested = self.grid.describe_untested(self.request, self.results)
        return (*sentences, *self.describe_missing(), *untested, *runs)

    def build_values_frame(self) -> pd.DataFrame:
        """Build a line for each group, row and metric: ``describe_cell``'s columns, then metric, figure, low, high,
        spread_folds, spread_seeds.

        In percent; low and high are the ends of the 95 % interval (``judging.uncertainty``).
        """
        import pandas as pd

        level = load_tolerances().level
        lines = []
        for group in self.column_groups:
            draws = bootstrap_group(self.grid, self.request, group, self.results)
            for row, metric in itertools.product(self.rows, self.grid.metrics):
                records = self.find_records(row, group)
                values = {run: 100 * r["figures"][self.request.rule][metric] for run, r in records.items()}
                low, high = math.nan, math.nan
                if (row.name, metric) in draws:
                    low, high = statistics.compute_interval(draws[row.name, metric], level)
                ours = cells.summarize_values(values)
                lines.append(
                    self.describe_cell(row, group)
                    | {"metric": metric, "figure": ours.mean, "low": low, "high": high}
                    | {"spread_folds": ours.folds, "spread_seeds": ours.seeds}
                )
        return pd.DataFrame(lines)

    def build_differences_frame(self, other: TableRow) -> pd.DataFrame:
        """Build the lines of ``build_values_frame`` with each row's difference from another, in pairs, in points.

        difference_low, difference_high: its 95 % interval. p_holm: of none, corrected over the rows of a column.
        n_pairs: runs of the same fold, seed and test images. As ``udcd-bench compare`` has them.
        """
        bootstrap = Bootstrap(self.results, self.request.rule, load_tolerances())
        compared = {
            (group.source, row.method, row.metric): row
            for group in self.column_groups
            for row in compare_group(self.grid, self.request, group, other.name, bootstrap)
            if row.method != row.other
        }
        frame = self.build_values_frame()
        names = {
            "difference": "difference",
            "difference_low": "low",
            "difference_high": "high",
            "p_holm": "p_holm",
        }
        rows = [compared.get((r["dataset"], r["method"], r["metric"])) for r in frame.to_dict("records")]
        for column, name in names.items():
            frame[column] = [math.nan if row is None else getattr(row, name) for row in rows]
        return frame.assign(n_pairs=[0 if row is None else row.n for row in rows])

    def describe_interval(self) -> str:
        """Return the sentence on the intervals of ``build_values_frame``."""
        noise = describe_training_noise(list_training_noise(self.grid, self.request, self.results))
        sentence = (
            f"{load_tolerances().level:.0%} intervals: test images, by a bootstrap over groups, and training's noise; "
            "methods share their test images, so intervals that overlap may still differ."
        )
        return " ".join([sentence, *noise])

    def compute_panel_size(self, margin: float) -> tuple[float, float]:
        """Compute the width of a page of square panels and the side of one, inches.

        margin: inches beside the panels of a row, for labels.
        """
        columns = min(PANELS_PER_ROW, len(self.rows))
        width = plots.WIDE if columns > 1 else plots.NARROW
        return width, min((width - margin) / columns - 0.1, 3.0)

    def count_panel_rows(self) -> int:
        """Count the rows of panels: each group of columns begins a new one."""
        return math.ceil(len(self.rows) / PANELS_PER_ROW) * len(self.column_groups)

    def add_panels(self, page: FigurePage) -> Iterator[tuple[Axes, int, TableRow, ColumnGroup]]:
        """Add a square panel for each row in each group: (axes, column on the page, row, group)."""
        panels = page.add_panels(self.count_panel_rows(), min(PANELS_PER_ROW, len(self.rows)))
        for axes in panels.flat:
            axes.set_axis_off()
        deep = math.ceil(len(self.rows) / PANELS_PER_ROW)
        for (above, group), (index, row) in itertools.product(
            enumerate(self.column_groups), enumerate(self.rows)
        ):
            axes = panels[above * deep + index // PANELS_PER_ROW, index % PANELS_PER_ROW]
            axes.set_axis_on()
            axes.set_box_aspect(1)
            yield axes, index % PANELS_PER_ROW, row, group

    def split_by_dataset(self, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
        """Split a frame by data set: (title, its lines)."""
        titles = {
            group.source: format_heading(ColumnGroup(group.source, group.title, group.synthetic))
            for group in self.column_groups
        }
        return [(title, frame[frame["dataset"] == source]) for source, title in titles.items()]
