"""A table on several splits side by side: the paper's, the leak-free one, and the challenge's own test images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from udcd_bench.artefacts import captions, leak
from udcd_bench.artefacts.commands import format_artefact_command
from udcd_bench.artefacts.file_names import make_stem
from udcd_bench.artefacts.marks import mark_figures
from udcd_bench.artefacts.table import RenderedArtefact, Table
from udcd_bench.grid.cells import format_heading, split_request
from udcd_bench.judging.verdicts import get_cell_key
from udcd_bench.render.csv_text import add_command
from udcd_bench.render.sheet import Sheet, format_table_csv, lay_out, render_console

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from udcd_bench.artefacts.table import Artefact
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.runs.results import Results


def build_frame(table: Table, request: TableRequest, results: Results) -> pd.DataFrame:
    """Build the long frames of all splits as one, each data set's splits after one another; ``split`` says which.

    Data sets with all splits come first, so that each begins a band.
    """
    import pandas as pd

    frames = [table.build(each, results) for each in split_request(request)]
    frame = pd.concat(frames, ignore_index=True)
    n_splits = frame.groupby("dataset")["split"].nunique()
    order = sorted(dict.fromkeys(frame["dataset"]), key=lambda name: -n_splits[name])
    ranks = {name: rank for rank, name in enumerate(order)}
    return frame.sort_values("dataset", key=lambda names: names.map(ranks), kind="stable", ignore_index=True)


def build_sheet(table: Table, request: TableRequest, results: Results, frame: pd.DataFrame) -> Sheet:
    """Lay out a frame of ``build_frame``: a group of columns for each data set, imbalance and split."""
    requests = split_request(request)
    groups = [(group, each.split) for each in requests for group in table.list_column_groups(each)]
    names = dict.fromkeys(frame["dataset"])
    ordered = [pair for name in names for pair in groups if pair[0].source == name]
    by_split = {
        each.split: mark_figures(table, each, results, frame[frame["split"] == each.split])
        for each in requests
    }
    marks = [by_split[r["split"]].by_cell.get(get_cell_key(r), "") for r in frame.to_dict("records")]
    names_by_split = frame["dataset"] + " " + frame["split"]
    columns = frame.assign(dataset=names_by_split, published=float("nan"), mark=marks)
    bands, notes = lay_out(
        columns,
        [f"{format_heading(group)}, {split}" for group, split in ordered],
        len(requests),
        {row.name for row in table.list_rows(request) if not row.listed},
    )
    runs: list[str] = []
    for each in requests:
        specs, n = table.list_runs(each), frame.loc[frame["split"] == each.split, "n"]
        counts = captions.RunCounts(len(specs), tuple(map(int, n)))
        runs += captions.describe_runs(each, results.select_records(specs), counts)
    return Sheet(
        name=f"{table.name}-splits",
        stem=f"{make_stem(table, requests[0])}-splits",
        command=format_artefact_command("run", table.name, request),
        title=f"{captions.format_title(table.title, table, requests[0])}: splits side by side",
        warning=captions.format_warning([group.source for group, _ in groups if group.synthetic]),
        caption=(
            "In percent. Split paper divides image by image, so photographs of one lesion are on both sides; grouped "
            "keeps them apart; official tests on the challenge's own images, of lesions that no training image shows.",
            *dict.fromkeys(runs),
        ),
        notes=notes,
        bands=bands,
        marks=" ".join(dict.fromkeys(each.legend for each in by_split.values() if each.legend)),
    )


def render(table: Table, request: TableRequest, results: Results) -> RenderedArtefact:
    """Write ``NAME-splits`` as CSV, LaTeX and PNG."""
    from udcd_bench.render.latex import render_latex
    from udcd_bench.render.picture import render_png

    frame = build_frame(table, request, results)
    sheet = build_sheet(table, request, results, frame)
    files = {
        "-splits.csv": add_command(format_table_csv(frame), sheet.command),
        "-splits.tex": render_latex(sheet).encode(),
        "-splits.png": render_png(sheet),
    }
    requests = split_request(request)
    specs = [spec for each in requests for spec in table.list_runs(each)]
    return RenderedArtefact(frame, render_console(sheet), table.write(requests[0], results, files, specs))


def render_splits(artefact: Artefact, request: TableRequest, results: Results) -> Iterator[RenderedArtefact]:
    """Render a table or figure on each split that is asked for; of a table on several also what the leak is worth."""
    requests = split_request(request)
    for each in requests:
        yield artefact.render(each, results)
    if len(requests) > 1 and isinstance(artefact, Table):
        yield leak.render(artefact, request, results)
    if len(requests) > len(leak.SPLITS) and isinstance(artefact, Table):
        yield render(artefact, request, results)
