"""Base of the figures: from results to frames, and from frames to a picture, the CSV behind it and a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from udcd_bench.artefacts import captions
from udcd_bench.artefacts.commands import format_artefact_command
from udcd_bench.artefacts.figure_data import FigureData
from udcd_bench.artefacts.table import Artefact, RenderedArtefact
from udcd_bench.grid.cells import TableRequest
from udcd_bench.render import plots
from udcd_bench.render.csv_text import add_command, format_csv
from udcd_bench.render.sheet import wrap_paragraph

if TYPE_CHECKING:
    import pandas as pd

    from udcd_bench.render.plots import FigurePage
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.results import Results

Frames = Mapping[str, "pd.DataFrame"]
"""Ending of a file's name → what stands in it; ``.csv`` comes first."""
CellRecords = Mapping[tuple[int, int], "Record"]
"""The finished runs of a cell by (fold, seed)."""
CellLines = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Lines of one cell in the main CSV and in the second one."""

COUNTED = ("epoch", "fold", "images", "seed", "support")
"""Columns of whole numbers in the text."""


class DrawnFigure(NamedTuple):
    """A figure's frames by the ending of their CSV, its picture by the ending of its file, its texts, its command."""

    title: str
    frames: Frames
    files: Mapping[str, bytes]
    warning: str
    caption: tuple[str, ...]
    command: str


class Figure(Artefact):
    """A figure: a picture, and what it plots as CSV. Its rows and groups of columns are those of a ``Grid``.

    Class attributes
    ----------------
    measured: sentences of its caption, before those on runs, images and hardware.
    shown: columns of the console's table.
    ending: of the file whose frame the console shows.
    main_columns: columns of the main CSV where no run is done.
    measures: columns of the second CSV that are NaN for a cell without runs.
    reported: whether its figures are of the reported epochs; the caption then names the reporting rule.
    """

    measured: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]
    ending: ClassVar[str] = ".csv"
    main_columns: ClassVar[tuple[str, ...]] = ()
    measures: ClassVar[tuple[str, ...]] = ()
    reported: ClassVar[bool] = True

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

    def build_picture(self, data: FigureData, *endings: str) -> DrawnFigure:
        """Build the frames, draw them and encode the page; nothing is written. endings: as of ``encode_files``."""
        frames = self.build_frames(data)
        warning = captions.format_warning([group.source for group in data.column_groups if group.synthetic])
        caption = data.build_caption((self.measured, *self.describe(data, frames)), reported=self.reported)
        title = captions.format_title(self.title, self, data.request)
        texts = {"title": title, "warning": warning, "caption": caption}
        request = data.request
        if request.bare:  # a paper sets its own; that images are no patients' stays in the picture
            texts |= {"title": "", "caption": ()}
        with plots.apply_style():
            page = self.draw(data, frames, **texts) if data.records else _draw_empty(texts)
            page.title, page.description = title, " ".join([warning, *caption]).strip()
            page.command = format_artefact_command("plot", self.name, request)
            return DrawnFigure(title, frames, page.encode_files(*endings), warning, caption, page.command)

    def render(self, request: TableRequest, results: Results) -> RenderedArtefact:
        """Write PNG, PDF and CSV; bare ones under names of their own, since the report shows the others."""
        picture = self.build_picture(FigureData(self, request, results))
        frames, warning = picture.frames, picture.warning
        csvs = {
            ending: add_command(format_figure_csv(frame, warning), picture.command)
            for ending, frame in frames.items()
        }
        files = {**picture.files, **csvs}
        if request.bare:
            files = {f"-bare{ending}": content for ending, content in files.items()}
        paths = self.write(request, results, files, self.list_runs(request))
        return RenderedArtefact(frames[".csv"], self._format_text(picture), paths)

    def _format_text(self, picture: DrawnFigure) -> str:
        frames, warning, caption = picture.frames, picture.warning, picture.caption
        lines = [
            f"{self.name}: {picture.title}",
            *wrap_paragraph(f"!! {warning}" if warning else "", 100),
            "",
        ]
        frame = frames[self.ending]
        lines += _format_table(frame[[c for c in self.shown if c in frame]]) if len(frame) else []
        lines += ["", *itertools.chain(*(wrap_paragraph(sentence, 100) for sentence in caption))]
        return "\n".join(line.rstrip() for line in lines) + "\n"


def _draw_empty(texts: Mapping[str, Any]) -> FigurePage:
    page = plots.FigurePage((plots.NARROW, 0.9), **texts)
    plots.draw_placeholder(page.add_panels(1, 1)[0, 0], "No run is done.")
    return page


def _format_table(frame: pd.DataFrame) -> list[str]:
    # what is counted is a float where a row that was not run has none
    whole = {name: frame[name].map("{:.0f}".format, na_action="ignore") for name in COUNTED if name in frame}
    text: str = frame.assign(**whole).to_string(index=False, na_rep="–", float_format="{:.2f}".format)
    return text.splitlines()


def format_figure_csv(frame: pd.DataFrame, warning: str) -> str:
    """Format what was plotted, six digits; where images are synthetic the last column warns in every line of theirs."""
    text = frame.copy()
    if "synthetic" in text:
        text["warning"] = [warning if synthetic else "" for synthetic in text["synthetic"]]
    return format_csv(text, float_format="%.6g")
