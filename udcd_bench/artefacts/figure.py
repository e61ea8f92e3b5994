"""Base of the figures: from results to frames, and from frames to a picture, the CSV behind it and a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from udcd_bench.artefacts import captions
from udcd_bench.artefacts.table import Artefact, RenderedArtefact
from udcd_bench.grid import cells
from udcd_bench.grid.cells import ColumnGroup, TableRequest, TableRow, format_heading
from udcd_bench.grid.grid import Grid
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import bootstrap_group, select_reported_epochs
from udcd_bench.render import plots
from udcd_bench.render.sheet import wrap_paragraph
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from udcd_bench.render.plots import FigurePage
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import RunSpec

Frames = Mapping[str, "pd.DataFrame"]
"""Ending of a file's name → what stands in it; ``.csv`` comes first."""
CellRecords = Mapping[tuple[int, int], "Record"]
"""The finished runs of a cell by (fold, seed)."""
CellLines = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Lines of one cell in the main CSV and in the second one."""
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

    def list_specs(self, row: TableRow, group: ColumnGroup) -> list[RunSpec]:
        """List the runs of a cell, finished or not."""
        return self.grid.list_cell_runs(self.request, row, group)

    def find_records(self, row: TableRow, group: ColumnGroup) -> dict[tuple[int, int], Record]:
        """Find the records of a cell's finished runs, by (fold, seed)."""
        records = self.results.select_records(self.list_specs(row, group))
        return {(spec.fold, spec.seed): record for spec, record in records.items()}

    def load_scores(self, record: Record) -> dict[str, Any]:
        """Load a run's stored arrays, see ``Store.read_scores``; ``scores`` are those of the reported epochs."""
        arrays: dict[str, Any] = self.results.store.read_scores(record["key"])
        scores = select_reported_epochs(arrays["scores"], self.request.rule, arrays["labels"])
        return arrays | {"scores": scores}

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

    def build_caption(self, sentences: Sequence[str]) -> tuple[str, ...]:
        """Build the caption: the sentences, then what is missing, then what all runs are of."""
        n = [
            len(self.find_records(row, group))
            for row, group in itertools.product(self.rows, self.column_groups)
        ]
        planned = len(self.grid.list_runs(self.request))
        runs = captions.describe_runs(self.request, self.records, planned, n)
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

    def describe_interval(self) -> str:
        """Return the sentence on the intervals of ``build_values_frame``."""
        tolerances = load_tolerances()
        noise = ", ".join(f"{METRICS[m].title}: {tolerances.get_noise(m):g}" for m in self.grid.metrics)
        seeds = (
            "assumed" if len(self.request.seeds) == 1 else "seen between seeds, shrunk towards the assumed"
        )
        return (
            f"{tolerances.level:.0%} intervals: test images, by a bootstrap over groups, and training's noise, {seeds} "
            f"standard deviation in points ({noise}); methods share their test images, so intervals that overlap "
            "may still differ."
        )

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


class DrawnFigure(NamedTuple):
    """A figure's frames by the ending of their CSV, its picture by the ending of its file, and its texts."""

    frames: Frames
    files: Mapping[str, bytes]
    warning: str
    caption: tuple[str, ...]


class Figure(Grid, Artefact):
    """A figure: a picture, and what it plots as CSV. Its rows and groups of columns are those of a ``Grid``.

    Class attributes
    ----------------
    measured: sentences of its caption, before those on runs, images and hardware.
    shown: columns of the console's table.
    ending: of the file whose frame the console shows.
    main_columns: columns of the main CSV where no run is done.
    measures: columns of the second CSV that are NaN for a cell without runs.
    """

    measured: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]
    ending: ClassVar[str] = ".csv"
    main_columns: ClassVar[tuple[str, ...]] = ()
    measures: ClassVar[tuple[str, ...]] = ()

    def build_frames(self, data: FigureData) -> Frames:
        """Build everything that is plotted: by default from ``build_cell``, in ``.csv`` and in ``ending``."""
        import pandas as pd

        main, second = [], []
        unmeasured = dict.fromkeys(self.measures, math.nan)
        for group, row in itertools.product(data.column_groups, data.rows):
            cell, records = data.describe_cell(row, group), data.find_records(row, group)
            lines, summary = self.build_cell(data, records) if records else ([], [unmeasured])
            main += [cell | line for line in lines]
            second += [cell | line for line in summary]
        empty = pd.DataFrame(columns=list(self.main_columns))
        return {".csv": pd.DataFrame(main) if main else empty, self.ending: pd.DataFrame(second)}

    def build_cell(self, data: FigureData, records: CellRecords) -> CellLines:
        """Build a cell's lines in the main CSV and in the second, from its finished runs, of which there are some."""
        raise NotImplementedError

    def draw(self, data: FigureData, frames: Frames, **texts: Any) -> FigurePage:
        """Draw the frames on a ``FigurePage((width, height), **texts)``."""
        raise NotImplementedError

    def describe(self, data: FigureData, frames: Frames) -> Sequence[str]:
        """Return sentences of the caption that depend on the data, after ``measured``."""
        return ()

    def build_picture(self, data: FigureData) -> DrawnFigure:
        """Build the frames, draw them and encode the page; nothing is written."""
        frames = self.build_frames(data)
        warning = captions.format_warning([group.source for group in data.column_groups if group.synthetic])
        caption = data.build_caption((self.measured, *self.describe(data, frames)))
        texts = {"title": self.title, "warning": warning, "caption": caption}
        with plots.apply_style():
            page = self.draw(data, frames, **texts) if data.records else _draw_empty(texts)
            return DrawnFigure(frames, page.encode_files(), warning, caption)

    def render(self, request: TableRequest, results: Results) -> RenderedArtefact:
        """Write PNG, PDF and CSV."""
        picture = self.build_picture(FigureData(self, request, results))
        frames, warning = picture.frames, picture.warning
        csvs = {ending: format_figure_csv(frame, warning).encode() for ending, frame in frames.items()}
        paths = self.write(request, results, {**picture.files, **csvs}, self.list_runs(request))
        return RenderedArtefact(frames[".csv"], self._format_text(frames, warning, picture.caption), paths)

    def _format_text(self, frames: Frames, warning: str, caption: Sequence[str]) -> str:
        lines = [f"{self.name}: {self.title}", *wrap_paragraph(f"!! {warning}" if warning else "", 100), ""]
        frame = frames[self.ending]
        lines += _format_table(frame[[c for c in self.shown if c in frame]]) if len(frame) else []
        lines += ["", *itertools.chain(*(wrap_paragraph(sentence, 100) for sentence in caption))]
        return "\n".join(line.rstrip() for line in lines) + "\n"


def _draw_empty(texts: Mapping[str, Any]) -> FigurePage:
    page = plots.FigurePage((plots.NARROW, 0.9), **texts)
    plots.draw_placeholder(page.add_panels(1, 1)[0, 0], "No run is done.")
    return page


def _format_table(frame: pd.DataFrame) -> list[str]:
    text: str = frame.to_string(index=False, na_rep="–", float_format="{:.2f}".format)
    return text.splitlines()


def format_figure_csv(frame: pd.DataFrame, warning: str) -> str:
    """Format what was plotted, six digits; where images are synthetic the last column warns in every line of theirs."""
    text = frame.copy()
    if "synthetic" in text:
        text["warning"] = [warning if synthetic else "" for synthetic in text["synthetic"]]
    result: str = text.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return result
