"""``ub.results``, ``ub.table`` and ``ub.figure``: a results folder as frames, and as a notebook shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.api.values import list_settings, read_teacher, read_whole
from udcd_bench.artefacts.figure_data import FigureData
from udcd_bench.artefacts.marks import KINDS
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.data.splits import FOLDS
from udcd_bench.engines.naming import load_stored_results
from udcd_bench.errors import UserError
from udcd_bench.inference.selection import open_store
from udcd_bench.render.html import render_html
from udcd_bench.render.sheet import render_console
from udcd_bench.runs import profiles
from udcd_bench.runs.spec import SPLITS
from udcd_bench.stats.rules import RULES

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


def results(folder: str | os.PathLike[str] = "results") -> pd.DataFrame:
    """Read every finished run of a results folder as a long frame: a row a run, reporting rule and metric.

    Columns: ``key`` and the run's coordinates (method, dataset, backbone, split, fold, seed …), what it was trained and
    tested on, ``rule`` (mean, last, best, and of validated runs best-validation), ``metric``, and ``value``, a
    fraction. Empty where there is no run.

    Raises UserError when there is no such folder or a run in it is damaged.
    """
    import pandas as pd

    from udcd_bench.stats.metrics import METRICS

    store = open_store(Path(folder))
    wide = pd.concat([store.build_frame(rule) for rule in RULES], ignore_index=True)
    metrics = [name for name in METRICS if name in wide]
    if wide.empty:
        return pd.DataFrame(columns=["key", "rule", "metric", "value"])
    others = [name for name in wide.columns if name not in METRICS]
    return wide.melt(id_vars=others, value_vars=metrics, var_name="metric", value_name="value")


def table(name: str, out: str | os.PathLike[str] = "results", **request: Any) -> ShownTable:
    """Build a table from the runs of a results folder; trains nothing and writes nothing.

    name: such as ``table2``. out: the results folder. request: ``profile`` ("demo"), ``methods`` and ``datasets``
    (names, by default the table's own), ``folds`` (0), ``seeds`` (0; numbers, not how many), ``split`` (without it the
    one that ``train`` takes), ``backbone``, ``teacher_backbone``, ``teacher``, ``rule`` ("mean", "last", "best", and of
    validated runs "best-validation"); ``settings``, hyper-parameters and numbers of the protocol by name; ``data``,
    where own images are prepared ("data").

    Figures are in percent. Cells whose runs are not there say so. Raises UserError for what does not exist.
    """
    chosen, loaded = _load(out, request)
    chosen_table = plugins.load_class("tables", name)()
    chosen_table.list_runs(chosen)  # raises for what the request names and there is not
    frame = chosen_table.build(chosen, loaded)
    return ShownTable(frame, chosen_table.build_sheet(chosen, loaded, frame))


def figure(name: str, out: str | os.PathLike[str] = "results", **request: Any) -> ShownFigure:
    """Build a figure from the runs of a results folder; trains nothing and writes nothing.

    name: such as ``tsne``. The other parameters, and what is raised, are those of ``table``.
    """
    chosen, loaded = _load(out, request)
    chosen_figure = plugins.load_class("figures", name)()
    chosen_figure.list_runs(chosen)
    picture = chosen_figure.build_picture(FigureData(chosen_figure, chosen, loaded), ".png")
    return ShownFigure(picture.title, dict(picture.frames), picture.files[".png"], picture.caption)


def _load(out: str | os.PathLike[str], options: dict[str, Any]) -> tuple[TableRequest, Results]:
    """Load a results folder, and make the request that the options mean in it."""
    options = dict(options)
    data = Path(options.pop("data", "data"))
    protocol, hparams = profiles.split_overrides(list_settings(options.pop("settings", None)))
    known = TableRequest.__dataclass_fields__.keys() - {"hparams", "protocol"}
    if unknown := sorted(options.keys() - known):
        raise UserError(
            f"there is no option {unknown[0]!r}; there are {', '.join(sorted(known))}, data, settings."
        )
    several = ("methods", "datasets", "folds", "seeds")
    lists = {name: _as_tuple(name, options[name]) for name in several if options.get(name) is not None}
    try:
        teacher = {"teacher": read_teacher(options.get("teacher") or "")}
    except TypeError as error:
        raise UserError(f"{error}.") from error
    request = TableRequest(**{"split": ""} | options | lists | teacher, hparams=hparams, protocol=protocol)
    _check_request(request)
    return load_stored_results(request, open_store(Path(out)), data)


def _check_request(request: TableRequest) -> None:
    """Raise UserError for what a request names and there is not, which would look like runs that are not there."""
    choices = {"split": ("", *SPLITS), "rule": RULES, "marks": KINDS}
    for name, allowed in choices.items():
        if getattr(request, name) not in allowed:
            raise UserError(
                f"{name}={getattr(request, name)!r}: it is one of {', '.join(filter(None, allowed))}."
            )
    for name in ("methods", "datasets", "folds", "seeds"):
        if getattr(request, name) == ():
            raise UserError(f"{name} is empty; leave it out, or name what there is to be.")
    for name in (*(request.methods or ()), *(request.datasets or ())):
        if not isinstance(name, str):
            raise UserError(f"{name!r} is no name; rows and data sets are named by text.")
    if not set(request.folds) <= set(range(FOLDS)):
        raise UserError(f"folds={request.folds!r}: folds are 0 to {FOLDS - 1}.")
    for backbone in filter(None, (request.backbone, request.teacher_backbone)):
        from udcd_bench.training.backbones import check_backbone

        check_backbone(backbone)


def _as_tuple(name: str, value: Any) -> tuple[Any, ...]:
    """Return several values as a tuple, each once; a name or a number alone is one of them.

    Raises UserError for folds and seeds that are no numbers.
    """
    values = value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)
    if name in ("folds", "seeds"):
        try:
            values = [read_whole(each) for each in values]
        except TypeError as error:
            raise UserError(f"{name}={value!r}: {error}; give numbers, such as (0, 1, 2).") from error
        if any(number < 0 for number in values):
            raise UserError(f"{name}={value!r}: they are counted from 0.")
    return tuple(dict.fromkeys(values))
