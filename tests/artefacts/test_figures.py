"""Figures from small stored runs: what is plotted equals a slow computation; what is missing and drawn is said."""

from __future__ import annotations

import io
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import figure as mpl_figure
from PIL import Image
from sklearn.metrics import precision_score, recall_score, silhouette_samples

from support import records as make
from support import tables
from udcd_bench import cli, plugins
from udcd_bench.artefacts.figure_data import FigureData
from udcd_bench.errors import UserError
from udcd_bench.grid.cells import TableRequest
from udcd_bench.judging import uncertainty
from udcd_bench.render import plots
from udcd_bench.runs.results import Results
from udcd_bench.runs.store import Store
from udcd_bench.stats import embeddings, statistics

pytestmark = pytest.mark.slow

FIGURES = plugins.list_names("figures")
GREY = (0.299, 0.587, 0.114)
every_figure = pytest.mark.parametrize("name", FIGURES)


def figure(name):
    return plugins.load_class("figures", name)()


KEPT: dict[str, Path] = {}
"""What was asked for → the folder of the run that was stored for it."""


@pytest.fixture(autouse=True, scope="module")
def kept(tmp_path_factory):
    """A folder for the runs that are copied, so that no test sees what another did to its own."""
    KEPT[""] = tmp_path_factory.mktemp("kept")
    yield
    KEPT.clear()


def finish(store, spec, **how):
    """Store a whole run as ``records.finish`` does, which is asked once for each."""
    asked = repr((spec.to_dict(), sorted(how.items())))
    if asked not in KEPT:
        aside = Store(KEPT[""] / str(len(KEPT)))
        KEPT[asked] = aside.run_folder(make.finish(aside, spec, **how)["key"])
    store.create()
    shutil.copytree(KEPT[asked], store.run_folder(KEPT[asked].name))
    return store.read_record(KEPT[asked].name)


def fill(out, name, ask, *, skip=lambda spec: False, fail=lambda spec: False, **how):
    """Store what a figure asks for; returns the results."""
    store, found, states = Store(out), {}, {}
    for spec in figure(name).list_runs(ask):
        if fail(spec):
            states[spec] = "failed: RuntimeError: the loss is nan"
        elif not skip(spec):
            found[spec] = finish(store, spec, **how)
    return Results(store, found, states)


def render(out, name, ask=None, **how):
    """A figure of such runs: (rendered, its CSV files by ending)."""
    ask = ask or TableRequest()
    made = figure(name).render(ask, fill(out, name, ask, **how))
    stem = made.files[0].stem
    csvs = (path for path in made.files if path.suffix == ".csv")
    frames = {path.name.removeprefix(stem): tables.read_csv(path) for path in csvs}
    return made, frames


def of(frame, **where):
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


@pytest.fixture(scope="module")
def demo(kept, tmp_path_factory):
    """Every figure of the demo's runs, by name."""
    return {name: render(tmp_path_factory.mktemp(name), name) for name in FIGURES}


@pytest.fixture(autouse=True)
def coarse(demo, monkeypatch):
    """But for the demo's, pictures of few dots, which are made sooner."""
    monkeypatch.setattr(plots, "DPI", 50)


@pytest.fixture
def without_pdf(monkeypatch):
    """No PDF, for tests of what is said: other tests look at it."""
    encode = mpl_figure.Figure.savefig

    def save(page, file, *, format, **how):
        file.write(b"%PDF left out") if format == "pdf" else encode(page, file, format=format, **how)

    monkeypatch.setattr(mpl_figure.Figure, "savefig", save)


png_only = pytest.mark.usefixtures("without_pdf")


# --- files -------------------------------------------------------------------------------------------------


@every_figure
def test_files(demo, name):
    made, frames = demo[name]
    names = [path.name for path in made.files]
    assert names[:3] == [f"{name}.png", f"{name}.pdf", f"{name}.csv"] and made.files[0].parent.name == "demo"
    with Image.open(made.files[0]) as png:
        assert [round(dots) for dots in png.info["dpi"]] == [300, 300]
        assert png.width in {round(300 * width) for width in (plots.NARROW, plots.WIDE)}
        said = png.info["Description"]
        pixels = np.asarray(png.convert("L"), dtype=float)
    assert (pixels < 128).any() and (pixels[[0, -1]] > 250).all() and (pixels[:, [0, -1]] > 250).all(), (
        "clipped"
    )
    pdf = made.files[1].read_bytes()
    assert b"/Type3" not in pdf and b"/FontFile2" in pdf and b"CreationDate" not in pdf
    assert (
        "drawn by a program" in said
        and "drawn by a program" in made.text
        and b"drawn by a program" in pdf.replace(b"\0", b"")
    )
    for frame in frames.values():
        assert frame["synthetic"].all() and frame["warning"].str.contains("drawn by a program").all()
        assert {"split_hash", "n", "state", "profile", "split", "rule"} <= set(frame)
    for word in (
        "Profile demo",
        "split paper",
        "fold 0",
        "seed 0",
        "n = 1",
        *(["last 2 epochs"] if figure(name).reported else []),
        "cpu, 1 CPU thread",
    ):
        assert word in " ".join(made.text.split()), word


def test_the_same_runs_give_the_same_bytes(demo):
    names = ("tsne", "confusion", "backbones")
    before = {path: path.read_bytes() for name in names for path in demo[name][0].files}
    code = (
        "import sys; from pathlib import Path\n"
        "from udcd_bench import plugins; from udcd_bench.runs.store import Store\n"
        "from udcd_bench.grid import cells; from udcd_bench.runs.results import load_results\n"
        "for name, folder in zip(*[iter(sys.argv[1:])] * 2):\n"
        "    store, figure = Store(Path(folder)), plugins.load_class('figures', name)()\n"
        "    figure.render(cells.TableRequest(), load_results(store))\n"
    )
    words = [str(word) for name in names for word in (name, demo[name][0].files[0].parents[1])]
    environment = os.environ | {"PYTHONHASHSEED": "7", "MPLBACKEND": "pdf", "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code, *words], check=True, env=environment, timeout=300)
    for path, data in before.items():
        assert path.read_bytes() == data, path.name


@png_only
@pytest.mark.parametrize("name", ["tsne", "ablation"])
def test_real_images_have_no_warning(tmp_path, name):
    made, frames = render(tmp_path, name, TableRequest("paper", split="grouped"))
    assert "drawn by a program" not in made.text and "split grouped" in " ".join(made.text.split())
    assert {path.stem.split("-")[1] for path in made.files} == {"grouped"}
    for frame in frames.values():
        assert not frame["synthetic"].any() and frame["warning"].isna().all()


@png_only
@every_figure
def test_runs_that_are_missing_or_failed_are_said(tmp_path, name):
    last = list(figure(name).rows)[-1].partition(":")[0]
    made, frames = render(
        tmp_path,
        name,
        fail=lambda spec: spec.hparams != (),
        skip=lambda spec: spec.method == last and not spec.hparams,
    )
    text = " ".join(made.text.split())
    assert ": not run" in text and re.search(r"\d of \d+ runs are done", text)
    states = pd.concat(frames.values())["state"]
    assert {"not run", "done"} <= set(states)
    if name == "ablation":
        assert "failed: RuntimeError: the loss is nan" in text and "failed" in set(states)


@png_only
@every_figure
def test_no_run_at_all(tmp_path, name):
    made, frames = render(tmp_path, name, skip=lambda spec: True)
    text = " ".join(made.text.split())
    assert re.search(r"None of \d+ runs is done", text) and "drawn by a program" in text
    assert "not run" in set(frames[figure(name).ending]["state"])
    assert made.files[0].stat().st_size > 1000


@every_figure
def test_one_method_and_long_names(tmp_path, name):
    classes = ("melanocytic naevi", "actinic keratoses and intraepithelial carcinoma", "皮膚", "d_$x$_{1}")
    one, _ = render(tmp_path, name, TableRequest(methods=("udcd",)), classes=classes)
    assert one.frame["method"].str.startswith("udcd").all()


@png_only
@pytest.mark.parametrize("name", ["tsne", "reliability", "learning", "backbones"])
def test_many_methods_and_folds(tmp_path, name):
    ask = TableRequest(methods=plugins.list_names("methods")[:5], folds=(0, 1), datasets=("digits",))
    made, frames = render(tmp_path, name, ask, n=24, skip=lambda s: (s.method, s.fold) == ("kd", 1))
    states = pd.concat(frames.values()).set_index("method")["state"]
    assert set(states["kd"]) == {"1 of 2 runs"} and "KD: n = 1 of 2 runs" in " ".join(made.text.split())


def test_an_unknown_method_and_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, says in (
        (["tsne", "--methods", "udcb"], "did you mean 'udcd'"),
        (["tsen"], "There is no figure 'tsen'; did you mean 'tsne'"),
        (["tsne", "--datasets", "aptoss"], "aptoss"),
    ):
        monkeypatch.setattr(sys, "argv", ["udcd-bench", "plot", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2 and says in capsys.readouterr().err


# --- looks -------------------------------------------------------------------------------------------------


def test_styles_differ_in_greyscale_and_at_all():
    styles = [plots.pick_style(index) for index in range(117)]
    assert len({(s.colour, s.marker) for s in styles}) == 117
    assert len({s.marker for s in styles[:13]}) == 13 and len({str(s.dash) for s in styles[:5]}) == 5

    def grey(colour):
        return sum(share * int(colour[at : at + 2], 16) / 255 for share, at in zip(GREY, (1, 3, 5)))

    first = sorted(grey(s.colour) for s in styles[:3])
    assert min(b - a for a, b in itertools.pairwise(first)) > 0.2
    assert max(grey(colour) for colour in plots.COLOURS) < 0.9  # seen on white


def test_no_text_is_smaller_than_what_a_page_bears():
    with plots.apply_style():
        page = plots.FigurePage(
            (3.5, 1),
            title="T",
            warning="W",
            caption=["C."],
            legend=[plots.make_legend_entry(plots.pick_style(0), "L")],
        )
        page.add_panels(1, 1)[0, 0].set_title("P")
        page.figure.canvas.draw()
        sizes = [text.get_fontsize() for text in page.figure.findobj(lambda a: hasattr(a, "get_fontsize"))]
    assert min(sizes) >= plots.MIN_FONT_SIZE >= 7


@png_only
def test_a_users_own_style_changes_nothing(tmp_path):
    import matplotlib as mpl

    first = render(tmp_path / "a", "ablation")[0].files[0].read_bytes()
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        assert render(tmp_path / "b", "ablation")[0].files[0].read_bytes() == first
        assert mpl.rcParams["font.size"] == 20


def test_words_that_all_classes_share():
    assert plots.split_common_words(["grade 0", "grade 1"]) == ("grade", ["0", "1"])
    assert plots.split_common_words(["a", "a b"]) == ("", ["a", "a b"])
    assert plots.split_common_words(["one two"]) == ("one", ["two"])


def test_labels_are_cut_where_they_do_not_fit():
    assert plots.truncate_text("short", 100) == "short"
    cut = plots.truncate_text("a long name of a class", 40)
    assert cut.endswith("…") and plots.measure_text(cut) <= 40


# --- figures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scarcity", "ablation", "backbones"])
def test_figures_and_intervals_are_those_of_the_evidence(tmp_path, name):
    ask = TableRequest(folds=(0, 1), seeds=(0, 1))
    results = fill(tmp_path, name, ask)
    made = figure(name)
    frame = FigureData(made, ask, results).build_values_frame()
    assert len(frame) == len(made.list_column_groups(ask)) * len(made.rows) * len(made.metrics)
    assert (
        (frame["low"] < frame["figure"]).all()
        and (frame["figure"] < frame["high"]).all()
        and (frame["n"] == 4).all()
    )
    group = made.list_column_groups(ask)[-1]
    drawn = uncertainty.bootstrap_group(made, ask, group, results)
    for line in made.list_rows(ask):
        mine = [results.records[spec]["figures"]["mean"] for spec in made.list_cell_runs(ask, line, group)]
        for metric in made.metrics:
            where = {"fraction": group.fraction, "method": line.name, "metric": metric}
            row = of(of(frame, **where), backbone=made.list_cell_runs(ask, line, group)[0].backbone).iloc[0]
            values = np.reshape([100 * figures[metric] for figures in mine], (2, 2))
            assert row["figure"] == pytest.approx(values.mean())
            assert (row["low"], row["high"]) == statistics.compute_interval(drawn[line.name, metric])
            assert row["spread_folds"] == pytest.approx(values.mean(1).std(ddof=1))
            assert row["spread_seeds"] == pytest.approx(np.sqrt(values.var(1, ddof=1).mean()))


def test_fractions_share_no_split_and_no_caption_complains(demo):
    made, frames = demo["scarcity"]
    assert set(frames[".csv"]["fraction"]) == {0.1, 0.25, 0.5, 0.75, 1.0}
    assert "split hashes differ" not in made.text


def test_backbones_of_the_demo_stand_in_for_the_papers(demo):
    frame = demo["backbones"][1][".csv"]
    small = ["densenet-tiny", "resnet-tiny", "efficientnet-tiny", "mobilenet-tiny"]
    assert list(dict.fromkeys(frame["backbone"])) == small
    paper = figure("backbones").list_runs(TableRequest("paper"))
    assert list(dict.fromkeys(s.backbone for s in paper)) == list(figure("backbones").backbones)


def test_separation_against_a_slow_loop():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 50)
    x = rng.normal(size=(50, 16)) + 2 * np.eye(16)[labels]
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    pure = same = 0
    for i in range(50):
        others = sorted((j for j in range(50) if j != i), key=lambda j: -z[i] @ z[j])
        pure += sum(labels[j] == labels[i] for j in others[:10])
        same += sum(labels[j] == labels[i] for j in others)
    widths = []
    for i in range(50):
        mean = {
            c: np.mean([1 - z[i] @ z[j] for j in range(50) if j != i and labels[j] == c]) for c in range(4)
        }
        own, near = mean.pop(labels[i]), min(mean.values())
        widths.append((near - own) / max(own, near))
    found = embeddings.measure_separation(7 * x, labels)
    assert found.purity == pytest.approx(pure / 500) and found.chance == pytest.approx(same / (50 * 49))
    assert found.silhouette == pytest.approx(np.mean(widths))


def test_separation_of_little():
    assert np.isnan(embeddings.measure_separation(np.ones((1, 3)), [0])).all()
    alone = embeddings.measure_separation(np.eye(3), [0, 0, 0])
    assert np.isnan(alone.silhouette) and alone.purity == alone.chance == 1
    assert embeddings.measure_separation(np.eye(3), [0, 1, 2]).purity == 0
    assert np.isfinite(embeddings.measure_separation(np.zeros((6, 3)), [0, 1] * 3)).all()
    assert (
        embeddings.choose_perplexity(1000) == 30
        and embeddings.choose_perplexity(31) == 10
        and embeddings.choose_perplexity(4) == 1
    )
    for n in (4, 5, 12):
        assert np.isfinite(embeddings.compute_tsne(np.random.default_rng(0).normal(size=(n, 8)), 0)).all()
    assert (embeddings.compute_tsne(np.ones((5, 8)), 0) == 0).all()


@png_only
def test_tsne_shows_the_same_images_and_numbers_of_the_embedding(tmp_path):
    ask = TableRequest(folds=(0, 1), seeds=(0, 1))
    skip = lambda spec: spec.method == "udcd" and (spec.fold, spec.seed) == (0, 0)  # noqa: E731
    made, frames = render(tmp_path, "tsne", ask, skip=skip)
    points, numbers = frames[".csv"], frames["-separation.csv"]
    # the first that all three have
    assert set(zip(points["fold"], points["seed"])) == {(0, 1)} and set(points["method"]) == {
        "crckd",
        "ssd-kd",
        "udcd",
    }
    ids = [list(part["id"]) for _, part in points.groupby("method")]
    assert ids[0] == ids[1] == ids[2] and len(numbers) == 11
    store = Store(tmp_path)
    for record in store.read_records():
        kept, spec = store.read_scores(record["key"]), record["spec"]
        row = of(numbers, method=spec["method"], fold=spec["fold"], seed=spec["seed"]).iloc[0]
        widths = silhouette_samples(kept["embeddings"].astype(float), kept["labels"], metric="cosine")
        assert row["silhouette"] == pytest.approx(widths.mean(), rel=1e-4) and row["images"] == 60
    assert "Perplexity 19.7" in made.text and "Drawn: fold 0, seed 1" in " ".join(made.text.split())


@png_only
def test_tsne_says_which_runs_were_packed_without_embeddings(tmp_path):
    specs = figure("tsne").list_runs(TableRequest())
    whole, packed = Store(tmp_path / "whole"), Store(tmp_path / "packed")
    found = {spec: make.finish(whole, spec) for spec in specs}
    packed.create()
    for spec, record in found.items():
        packed.pack_run(record["key"], whole, with_embeddings=spec.method != "udcd")
    results = Results(packed, {spec: packed.read_record(record["key"]) for spec, record in found.items()}, {})
    made = figure("tsne").render(TableRequest(), results)
    points, numbers = (tables.read_csv(path) for path in made.files if path.suffix == ".csv")
    assert set(points["method"]) == {"crckd", "ssd-kd"}
    row = of(numbers, method="udcd").iloc[0]
    assert row["state"] == "packed without its embeddings" and np.isnan(row["silhouette"])
    assert of(numbers, method="crckd")["silhouette"].notna().all()


def test_tsne_refuses_other_images(tmp_path):
    store = Store(tmp_path)
    specs = figure("tsne").list_runs(TableRequest())
    found = {spec: make.finish(store, spec, n=60 + 3 * (spec.method == "udcd")) for spec in specs}
    with pytest.raises(UserError, match="UDCD was tested on other images"):
        figure("tsne").render(TableRequest(), Results(store, found, {}))


@png_only
def test_tsne_of_too_few_images(tmp_path):
    made, frames = render(tmp_path, "tsne", n=3)
    assert frames[".csv"]["x"].isna().all() and len(frames["-separation.csv"]) == 3
    assert made.files[0].exists()


@png_only
def test_confusion_counts_every_image_once(tmp_path):
    ask = TableRequest(folds=(0, 1, 2), seeds=(0, 1), datasets=("digits",), methods=("udcd",))
    _, frames = render(tmp_path, "confusion", ask, n=40)
    cells, classes = frames[".csv"], frames["-classes.csv"].set_index("class")
    assert cells["count"].sum() == pytest.approx(120) and classes["support"].sum() == pytest.approx(120)
    store = Store(tmp_path)
    true, said, weights = [], [], []
    for record in store.read_records():
        kept = store.read_scores(record["key"])
        for epoch in kept["scores"]:
            true += list(kept["labels"])
            said += list(epoch.argmax(1))
            weights += [1 / 4] * 40
    for score, column in ((recall_score, "recall"), (precision_score, "precision")):
        expected = score(true, said, average=None, sample_weight=weights)
        assert classes[column].to_numpy() / 100 == pytest.approx(expected, rel=1e-4)
    shares = cells.pivot(index="true", columns="predicted", values="percent")
    assert np.diag(shares) == pytest.approx(classes["recall"], rel=1e-4) and shares.sum(
        axis=1
    ).to_numpy() == pytest.approx(100, abs=1e-3)


@png_only
def test_reliability_bins_against_a_slow_loop(tmp_path):
    ask = TableRequest(datasets=("digits",), methods=("udcd",))
    _, frames = render(tmp_path, "reliability", ask)
    bins = frames[".csv"].set_index("bin")
    store = Store(tmp_path)
    (record,) = store.read_records()
    kept = store.read_scores(record["key"])
    inside = {number: [] for number in range(1, 16)}
    for epoch in kept["scores"].astype(float):
        for row, label in zip(epoch, kept["labels"]):
            p = np.exp(row) / np.exp(row).sum()
            (number,) = (b for b in inside if (b - 1) / 15 < p.max() <= b / 15)
            inside[number].append((p.max(), p.argmax() == label))
    for number, found in inside.items():
        assert bins.loc[number, "predictions"] == len(found)
        if found:
            assert bins.loc[number, "confidence"] == pytest.approx(np.mean([p for p, _ in found]), rel=1e-4)
            assert bins.loc[number, "accuracy"] == pytest.approx(np.mean([hit for _, hit in found]), rel=1e-4)
    assert bins["share"].sum() == pytest.approx(1, abs=1e-4)
    assert frames["-ece.csv"]["ece"].iloc[0] == pytest.approx(
        100 * record["figures"]["mean"]["ece"], rel=1e-4
    )


@png_only
def test_learning_curves_are_the_histories(tmp_path):
    ask = TableRequest(seeds=(0, 1, 2), datasets=("digits",), methods=("udcd",))
    frame = render(tmp_path, "learning", ask)[1][".csv"]
    store = Store(tmp_path)
    runs = [pd.read_csv(store.verify_file(key, "history.csv")) for key in store.list_keys()]
    assert list(frame["epoch"]) == [1, 2, 3, 4] and list(frame["reported"].dropna()) == [1, 2]
    assert frame["loss"].iloc[3] == pytest.approx(np.mean([run["loss"].iloc[3] for run in runs]), rel=1e-4)
    assert frame["acc_spread"].iloc[3] == pytest.approx(
        100 * np.std([run["acc"].iloc[3] for run in runs], ddof=1), rel=1e-4
    )


@png_only
def test_gradients_are_the_histories(tmp_path):
    ask = TableRequest(seeds=(0, 1, 2), datasets=("digits",), methods=("udcd",))
    made, frames = render(tmp_path, "gradients", ask)
    frame, last = frames[".csv"], frames["-last.csv"].set_index("term")
    store = Store(tmp_path)
    runs = [pd.read_csv(store.verify_file(key, "history.csv")) for key in store.list_keys()]
    assert list(of(frame, term="ce")["epoch"]) == [1, 2, 3, 4]
    assert list(of(frame, term="cra")["epoch"]) == [2, 3, 4], "the term is not there before it begins"
    for quantity in ("gradient", "loss"):
        values = [run[f"{quantity}_cra"].iloc[3] for run in runs]
        assert last.loc["cra", quantity] == pytest.approx(np.mean(values), rel=1e-4)
        assert last.loc["cra", f"{quantity}_spread"] == pytest.approx(np.std(values, ddof=1), rel=1e-4)
    assert last.loc["cra", "share"] == pytest.approx(80, rel=1e-4)
    assert "UDCD on Digits (long-tailed, ρ = 4): CRA, eq. 5, 80 %" in " ".join(made.text.split())


def test_ticks_of_a_logarithmic_axis_are_numbers(tmp_path, monkeypatch):
    """Text is never taken for mathematics here, so a power of ten would be drawn as its markup."""
    labels = []

    def look(page, file, **how):
        for axes in page.axes:
            texts = (*axes.get_yticklabels(), *axes.get_yticklabels(minor=True), *axes.get_xticklabels())
            labels.extend(text.get_text() for text in texts)
        file.write(b"left out")

    monkeypatch.setattr(mpl_figure.Figure, "savefig", look)
    for name in ("gradients", "learning"):
        render(tmp_path / name, name, TableRequest(datasets=("digits",), methods=("udcd",)))
    assert len(labels) > 20 and not [label for label in labels if "$" in label]


@png_only
def test_the_ticks_of_a_logarithmic_axis_are_plain_numbers(tmp_path, monkeypatch):
    pages, encode = [], plots.FigurePage.encode_files
    monkeypatch.setattr(plots.FigurePage, "encode_files", lambda page: (pages.append(page), encode(page))[1])
    render(tmp_path, "gradients", TableRequest(datasets=("digits",), methods=("udcd",)))
    (page,) = pages
    left = page.figure.axes[0]
    assert left.get_yscale() == "log"
    for label in left.get_yticklabels():
        float(label.get_text())


@png_only
def test_gradients_of_runs_from_before_they_were_measured(tmp_path):
    ask = TableRequest(datasets=("digits",), methods=("udcd",))
    results = fill(tmp_path, "gradients", ask)
    (record,) = results.records.values()
    history = Path(tmp_path, "runs", record["key"], "history.csv")
    older = pd.read_csv(history)
    older = older[[name for name in older if not name.startswith("gradient_")]]
    results.store.read_history = lambda key: older.to_dict("records")
    made = figure("gradients").render(ask, results)
    assert made.frame["gradient"].isna().all() and made.frame["loss"].notna().all()
    assert "Largest share" not in made.text


def test_a_damaged_run_is_told(tmp_path):
    results = fill(tmp_path, "tsne", TableRequest())
    key = next(iter(results.records.values()))["key"]
    Path(results.store.runs / key / "scores.npz").write_bytes(io.BytesIO(b"no").getvalue())
    with pytest.raises(UserError, match="is damaged"):
        figure("tsne").render(TableRequest(), results)
