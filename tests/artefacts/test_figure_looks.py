"""What all figures share: a method's colour, what a caption names, what drew the file, and pictures for a paper."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib import figure as mpl_figure
from PIL import Image

from support import records as make
from support import tables
from udcd_bench import plugins
from udcd_bench.artefacts.figure_data import FigureData
from udcd_bench.grid.cells import TableRequest
from udcd_bench.judging.comparisons import compare_rows
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.render import plots
from udcd_bench.runs.results import Results, load_results
from udcd_bench.runs.store import Store

ASK = TableRequest(datasets=("digits",), seeds=(0, 1))


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Pictures of few dots, and no PDF."""
    monkeypatch.setattr(plots, "DPI", 50)
    encode = mpl_figure.Figure.savefig
    monkeypatch.setattr(
        mpl_figure.Figure,
        "savefig",
        lambda page, file, *, format, **how: format == "pdf" or encode(page, file, format=format, **how),
    )


def load(name):
    return plugins.load_class("figures", name)()


def fill(out, name, ask=ASK, **how) -> Results:
    store = Store(out)
    for spec in load(name).list_runs(ask):
        make.finish(store, spec, **how)
    return load_results(store)


def find_styles(name, **changes):
    return FigureData(
        load(name), replace(TableRequest(), **changes), Results(Store(Path("none")), {}, {})
    ).styles


def test_a_method_has_one_colour_in_all_figures():
    colours = {}
    for name in plugins.list_names("figures"):
        for row, style in find_styles(name).items():
            colours.setdefault(row.partition(":")[0], set()).add(style.colour)
    assert len(colours) > 4 and all(len(of_method) == 1 for of_method in colours.values())
    shown = [next(iter(colours[name])) for name in ("scratch", "crckd", "ssd-kd", "udcd")]
    assert len(set(shown)) == 4, "those that stand beside each other differ"
    assert find_styles("scarcity", methods=("udcd",))["udcd"] == find_styles("learning")["udcd"]


def test_variants_of_a_method_differ_in_their_markers():
    styles = [style for row, style in find_styles("ablation").items() if row.startswith("udcd")]
    assert len({s.colour for s in styles}) == 1 and len({s.marker for s in styles}) == len(styles) == 5


def test_the_paper_rows_differ_in_colour():
    names = plugins.load_class("tables", "table2").rows
    assert len({style.colour for style in find_styles("scarcity", methods=tuple(names)).values()}) == 9


def test_tsne_names_one_epoch(tmp_path):
    text = " ".join(load("tsne").render(ASK, fill(tmp_path, "tsne", epochs=2)).text.split())
    assert "after the last epoch" in text and "mean over" not in text


def test_confusion_prints_the_images_of_each_class(tmp_path, monkeypatch):
    pages = []
    monkeypatch.setattr(
        plots.FigurePage, "encode_files", lambda page: pages.append(page) or {".png": b"", ".pdf": b""}
    )
    load("confusion").render(ASK, fill(tmp_path, "confusion", n=60, classes=("a", "b", "c")))
    texts = [label.get_text() for axes in pages[0].figure.axes for label in axes.get_yticklabels()]
    assert list(filter(None, texts)) == ["a (20)", "b (20)", "c (20)"], "at the first panel alone"


def test_ablation_draws_differences_in_pairs(tmp_path):
    results = fill(tmp_path, "ablation", n=120)
    made = load("ablation").render(ASK, results)
    frame = tables.read_csv(made.files[2])
    compared = compare_rows(load("ablation"), ASK, results, "udcd", replace(load_tolerances()))
    for row in (each for each in compared if each.method != "udcd"):
        line = frame[(frame["method"] == row.method) & (frame["metric"] == row.metric)].iloc[0]
        assert line["difference"] == pytest.approx(row.difference, rel=1e-4)
        ends = line["difference_low"], line["difference_high"]
        assert ends == pytest.approx((row.low, row.high), abs=0.15 * (row.high - row.low)), "other draws"
        assert ends[0] < line["difference"] < ends[1] and line["n_pairs"] == 2
    assert frame[frame["method"] == "udcd"]["difference"].isna().all()
    assert "Each row minus the first" in " ".join(made.text.split())


def test_an_accuracy_axis_spans_no_less_than_the_noise(tmp_path, monkeypatch):
    pages = []
    monkeypatch.setattr(
        plots.FigurePage, "encode_files", lambda page: pages.append(page) or {".png": b"", ".pdf": b""}
    )
    load("learning").render(ASK, fill(tmp_path, "learning", n=60, right=0.9))
    low, high = pages[0].figure.axes[1].get_ylim()
    assert high - low >= 2 * 1.96 * (100 * (0.8 * 0.2 / 60) ** 0.5) * 0.7
    left = pages[0].figure.axes[0]
    assert min(line.get_xdata()[0] for line in left.lines) == 1, "the loss begins at the first epoch"


def test_the_file_says_what_drew_it(tmp_path):
    ask = replace(ASK, methods=("udcd", "scratch"))
    made = load("reliability").render(ask, fill(tmp_path, "reliability"))
    with Image.open(made.files[0]) as picture:
        command = picture.info[plots.COMMAND_KEY]
    assert command == (
        "udcd-bench plot reliability --profile demo --datasets digits --methods udcd,scratch --seeds 2"
    )


@pytest.mark.slow
def test_bare_figures_have_neither_title_nor_caption_and_stand_beside_the_others(tmp_path):
    ask = replace(ASK, datasets=None, seeds=(0,))
    results = fill(tmp_path, "reliability", ask)
    figure = load("reliability")
    whole, bare = (figure.render(replace(ask, bare=bare), results) for bare in (False, True))
    assert [path.name for path in bare.files] == [
        re.sub(r"^reliability", "reliability-bare", path.name) for path in whole.files
    ]
    heights = []
    for made in (whole, bare):
        with Image.open(made.files[0]) as picture:
            heights.append(picture.height)
            assert "Profile demo" in picture.info["Description"] and picture.info["Title"] == figure.title
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
        assert any(r > 120 and g < 90 and b < 60 for r, g, b in colours), "the warning stays in the picture"
    assert heights[1] < heights[0] - 30
    one, other = (made.files[2].read_text().splitlines() for made in (whole, bare))
    assert other[0] == f"{one[0]} --bare" and one[1:] == other[1:]
