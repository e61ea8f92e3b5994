"""Base of the figures: what they have to draw, and how that becomes a picture, the CSV behind it and a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from udcd_bench.artefacts import captions
from udcd_bench.artefacts.table import Artefact, RenderedArtefact
from udcd_bench.grid import cells
from udcd_bench.grid.cells import ColumnGroup, TableRequest, TableRow, format_heading
from udcd_bench.grid.grid import Grid
from udcd_bench.judging import uncertainty, verdicts
from udcd_bench.render import plots
from udcd_bench.render.sheet import wrap_paragraph
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from udcd_bench.grid.cells import Records, States
    from udcd_bench.render.plots import FigurePage
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

Frames = Mapping[str, "pd.DataFrame"]
"""Ending of a file's name → what stands in it; ``.csv`` comes first."""
PANELS_PER_ROW = 4
"""Panels side by side."""


@dataclass(frozen=True)
class FigureData:
    """What there is to draw: the grid's rows and groups of columns, their finished runs and what those stored."""

    grid: Grid
    request: TableRequest
    all_records: Records
    states: States
    store: Store

    @cached_property
    def rows(self) -> list[TableRow]:
        """Rows, in order."""
        return self.grid.list_rows(self.request)

    @cached_property
    def groups(self) -> list[ColumnGroup]:
        """Groups of columns, in order."""
        return self.grid.list_column_groups(self.request)

    @cached_property
    def records(self) -> dict[RunSpec, Mapping[str, Any]]:
        """Of the finished runs."""
        return {
            spec: self.all_records[spec]
            for spec in self.grid.list_runs(self.request)
            if spec in self.all_records
        }

    def find_records(self, row: TableRow, group: ColumnGroup) -> dict[tuple[int, int], Mapping[str, Any]]:
        """Records of the finished runs of a cell by (fold, seed)."""
        specs = self.grid.list_cell_runs(self.request, row, group)
        return {(spec.fold, spec.seed): self.all_records[spec] for spec in specs if spec in self.all_records}

    def load_scores(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A run's stored arrays; ``scores`` of the epochs that are reported."""
        arrays: dict[str, Any] = self.store.read_scores(record["key"])
        return arrays | {
            "scores": uncertainty.select_reported_epochs(
                arrays["scores"], self.request.rule, arrays["labels"]
            )
        }

    def load_history(self, record: Mapping[str, Any]) -> pd.DataFrame:
        """A row an epoch of a run; ``epochs`` counts those of all stages, from 1."""
        import pandas as pd

        rows = pd.DataFrame(self.store.read_history(record["key"]))
        return rows.assign(epochs=range(1, len(rows) + 1))

    def describe_state(self, row: TableRow, group: ColumnGroup) -> str:
        """``done``, ``n of m runs``, ``not run``, ``failed`` or that the suite has no such method."""
        specs = self.grid.list_cell_runs(self.request, row, group)
        done = sum(spec in self.all_records for spec in specs)
        if done and done == len(specs):
            return "done"
        if done:
            return f"{done} of {len(specs)} runs"
        return cells.find_cell_state(row, specs, 0, self.states, synthetic=False, published_value=math.nan)

    def describe_cell(self, row: TableRow, group: ColumnGroup) -> dict[str, Any]:
        """The first columns of every CSV: what a line is of."""
        runs = self.find_records(row, group)
        specs = self.grid.list_cell_runs(self.request, row, group)
        hashes = dict.fromkeys(record["split_hash"] for record in runs.values())
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
            "split_hash": " ".join(hashes),
            "rule": self.request.rule,
            "n": len(runs),
            "state": self.describe_state(row, group),
        }

    def format_label(self, row: TableRow) -> str:
        """Of a row in a legend: its title, and why it is nowhere drawn."""
        states = dict.fromkeys(self.describe_state(row, group) for group in self.groups)
        nowhere = not any(self.find_records(row, group) for group in self.groups)
        return f"{row.title} ({', '.join(states)})" if nowhere else row.title

    def describe_missing(self) -> list[str]:
        """Sentences on the cells whose runs are not all done."""
        told: dict[str, list[str]] = {}
        for line, group in itertools.product(self.rows, self.groups):
            if (state := self.describe_state(line, group)) != "done":
                specs = self.grid.list_cell_runs(self.request, line, group)
                here = {spec: self.all_records[spec] for spec in specs if spec in self.all_records}
                note = cells.format_note(line, specs, here, self.states)
                told.setdefault(f"{line.title}: {note.rstrip('.') or state}", []).append(
                    format_heading(group)
                )
        everywhere = len(self.groups)
        return [
            what + (f" ({'; '.join(where)})" if len(where) < everywhere else "") + "."
            for what, where in told.items()
        ]

    def build_caption(self, sentences: Sequence[str], *, spread: str = "") -> tuple[str, ...]:
        """The sentences, then what is missing, then what all runs are of."""
        n = [len(self.find_records(line, group)) for line, group in itertools.product(self.rows, self.groups)]
        planned = len(self.grid.list_runs(self.request))
        made = captions.describe_runs(self.request, self.records, planned, n, spread=spread)
        return (*sentences, *self.describe_missing(), *made)

    def build_values_frame(self) -> pd.DataFrame:
        """A line for each group, row and metric: ``about``, then metric, figure, low, high, spread_folds, spread_seeds.

        In percent; low and high are the ends of the 95 % interval (``evidence``).
        """
        import pandas as pd

        rules = verdicts.load_tolerances()
        there = uncertainty.Results(self.all_records, self.states)
        rows = []
        for group in self.groups:
            drawn = uncertainty.bootstrap_group(self.grid, self.request, group, there, self.store, rules)
            for line, metric in itertools.product(self.rows, self.grid.metrics):
                runs = self.find_records(line, group)
                values = {at: 100 * r["figures"][self.request.rule][metric] for at, r in runs.items()}
                low, high = math.nan, math.nan
                if (line.name, metric) in drawn:
                    low, high = statistics.compute_interval(drawn[line.name, metric], rules.level)
                ours = cells.summarize_values(values)
                rows.append(
                    self.describe_cell(line, group)
                    | {"metric": metric, "figure": ours.mean, "low": low, "high": high}
                    | {"spread_folds": ours.folds, "spread_seeds": ours.seeds}
                )
        return pd.DataFrame(rows)

    def describe_interval(self) -> str:
        """The sentence on the intervals of ``figures``."""
        rules = verdicts.load_tolerances()
        noise = ", ".join(f"{METRICS[m].title}: {rules.get_noise(m):g}" for m in self.grid.metrics)
        seeds = (
            "assumed" if len(self.request.seeds) == 1 else "seen between seeds, shrunk towards the assumed"
        )
        return (
            f"{rules.level:.0%} intervals: test images, by a bootstrap over groups, and training's noise, {seeds} "
            f"standard deviation in points ({noise}); methods share their test images, so intervals that overlap "
            "may still differ."
        )

    def iterate_panels(self) -> Iterator[tuple[int, int, TableRow, ColumnGroup]]:
        """(row, column, line, group) of a panel a line, ``PER_ROW`` side by side, each group in rows of its own."""
        deep = math.ceil(len(self.rows) / PANELS_PER_ROW)
        for (above, group), (place, line) in itertools.product(enumerate(self.groups), enumerate(self.rows)):
            yield above * deep + place // PANELS_PER_ROW, place % PANELS_PER_ROW, line, group

    def compute_panel_shape(self) -> tuple[int, int]:
        """Rows and columns of ``panels``."""
        deep = math.ceil(len(self.rows) / PANELS_PER_ROW)
        return deep * len(self.groups), min(PANELS_PER_ROW, len(self.rows))

    def split_by_dataset(self, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
        """(title, its lines) of each data set."""
        titles = {
            group.source: format_heading(ColumnGroup(group.source, group.title, group.synthetic))
            for group in self.groups
        }
        return [(title, frame[frame["dataset"] == source]) for source, title in titles.items()]


class Figure(Grid, Artefact):
    """A figure: a picture, and in CSV what was plotted. It says what it needs as a table does.

    measured: sentences of its caption, before those on runs, images and hardware.
    shown: columns of the console's table.
    """

    measured: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]
    ending: ClassVar[str] = ".csv"
    """Of the frame that the console shows."""

    def build_frames(self, data: FigureData) -> Frames:
        """Everything that is plotted."""
        raise NotImplementedError

    def draw(self, data: FigureData, frames: Frames, **texts: Any) -> FigurePage:
        """Draw the frames on a ``Page(width, height, **page)``."""
        raise NotImplementedError

    def describe(self, data: FigureData, frames: Frames) -> Sequence[str]:
        """Sentences of the caption that depend on what was found, after ``measured``."""
        return ()

    def render(
        self, request: TableRequest, records: Records, states: States, run_store: Store
    ) -> RenderedArtefact:
        """PNG, PDF and CSV."""
        look = FigureData(self, request, records, states, run_store)
        frames = self.build_frames(look)
        warning = captions.format_warning([group.source for group in look.groups if group.synthetic])
        caption = look.build_caption((self.measured, *self.describe(look, frames)))
        about = {"title": self.title, "warning": warning, "caption": caption}
        with plots.apply_style():
            files = dict(
                (self.draw(look, frames, **about) if look.records else _draw_empty(about)).encode_files()
            )
        files |= {ending: format_figure_csv(frame, warning).encode() for ending, frame in frames.items()}
        text = [f"{self.name}: {self.title}", *wrap_paragraph(f"!! {warning}" if warning else "", 100), ""]
        frame = frames[self.ending]
        # a figure a line, where lines of points stand in the main file
        text += _format_table(frame[[c for c in self.shown if c in frame]]) if len(frame) else []
        text += ["", *itertools.chain(*(wrap_paragraph(sentence, 100) for sentence in caption))]
        return RenderedArtefact(
            frames[".csv"],
            "\n".join(line.rstrip() for line in text) + "\n",
            self.write(request, run_store, files),
        )


def _draw_empty(texts: Mapping[str, Any]) -> FigurePage:
    page = plots.FigurePage(plots.NARROW, 0.9, **texts)
    plots.draw_placeholder(page.add_panels(1, 1)[0, 0], "No run is done.")
    return page


def _format_table(frame: pd.DataFrame) -> list[str]:
    text: str = frame.to_string(index=False, na_rep="–", float_format="{:.2f}".format)
    return text.splitlines()


def format_figure_csv(frame: pd.DataFrame, warning: str) -> str:
    """What was plotted, six digits; where images were drawn its last column says so in every line of theirs."""
    text = frame.copy()
    if "synthetic" in text:
        text["warning"] = [warning if drawn else "" for drawn in text["synthetic"]]
    result: str = text.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return result
