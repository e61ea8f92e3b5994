"""``ub.table`` and ``ub.figure``: a table or figure of a results folder, as a frame and as a notebook shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.artefacts.figure import FigureData
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.engines.naming import find_stored_names
from udcd_bench.errors import UserError
from udcd_bench.inference.selection import open_store
from udcd_bench.render.html import render_html
from udcd_bench.render.sheet import render_console
from udcd_bench.runs import profiles
from udcd_bench.runs.results import load_results

if TYPE_CHECKING:
    import os

    import pandas as pd

    from udcd_bench.render.sheet import Sheet
    from udcd_bench.runs.results import Results


@dataclass(frozen=True, eq=False, repr=False)
class ShownTable:
    """A table: as HTML in a notebook, as text when it is printed.

    frame: a line a data set, row and metric, in percent, with the published figure beside ours, interval and verdict.
    """

    frame: pd.DataFrame
    sheet: Sheet

    def __repr__(self) -> str:
        return render_console(self.sheet)

    def _repr_html_(self) -> str:
        return render_html(self.sheet)


@dataclass(frozen=True, eq=False, repr=False)
class ShownFigure:
    """A figure: as a picture in a notebook.

    frames: what is plotted, by the ending of its CSV. png: the picture's file. caption: its sentences.
    """

    title: str
    frames: dict[str, pd.DataFrame]
    png: bytes
    caption: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<figure {self.title!r}>"

    def _repr_png_(self) -> bytes:
        return self.png


def table(name: str, out: str | os.PathLike[str] = "results", **request: Any) -> ShownTable:
    """Build a table from the runs of a results folder; trains nothing and writes nothing.

    name: such as ``table2``. out: the results folder. request: ``profile`` ("demo"), ``methods`` and ``datasets``
    (names, by default the table's own), ``folds`` ((0,)), ``seeds`` ((0,)), ``split`` ("paper"), ``backbone``,
    ``teacher_backbone``, ``rule`` ("mean", "last", "best"); ``settings``, hyper-parameters and numbers of the protocol
    by name; ``data``, where own images are prepared ("data").

    Figures are in percent. Cells whose runs are not there say so. Raises UserError for what does not exist.
    """
    chosen, results = _load(out, request)
    found_table = plugins.load_class("tables", name)()
    found_table.list_runs(chosen)  # raises for what the request names and there is not
    frame = found_table.build(chosen, results)
    return ShownTable(frame, found_table.build_sheet(chosen, results, frame))


def figure(name: str, out: str | os.PathLike[str] = "results", **request: Any) -> ShownFigure:
    """Build a figure from the runs of a results folder; trains nothing and writes nothing.

    name: such as ``tsne``. The other parameters, and what is raised, are those of ``table``.
    """
    chosen, results = _load(out, request)
    chosen_figure = plugins.load_class("figures", name)()
    chosen_figure.list_runs(chosen)
    picture = chosen_figure.build_picture(FigureData(chosen_figure, chosen, results))
    return ShownFigure(chosen_figure.title, dict(picture.frames), picture.files[".png"], picture.caption)


def _load(out: str | os.PathLike[str], options: dict[str, Any]) -> tuple[TableRequest, Results]:
    """Load a results folder, and make the request that the options mean in it."""
    options = dict(options)
    data = Path(options.pop("data", "data"))
    protocol, hparams = profiles.split_overrides(tuple(dict(options.pop("settings", {})).items()))
    known = TableRequest.__dataclass_fields__.keys() - {"hparams", "protocol"}
    if unknown := sorted(options.keys() - known):
        raise UserError(
            f"there is no option {unknown[0]!r}; there are {', '.join(sorted(known))}, data, settings."
        )
    lists = {key: tuple(value) for key, value in options.items() if isinstance(value, list | range)}
    request = TableRequest(**options | lists, hparams=hparams, protocol=protocol)
    results = load_results(open_store(Path(out)))
    return find_stored_names(request, list(results.records), data), results
