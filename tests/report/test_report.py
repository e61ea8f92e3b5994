"""One page of a results folder: what it says is what is stored, in HTML that is valid, escaped and alone."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from support import pages
from support import records as make
from udcd_bench import cli, plugins
from udcd_bench.artefacts import marks
from udcd_bench.artefacts.commands import format_artefact_command
from udcd_bench.errors import UserError
from udcd_bench.grid.cells import TableRequest
from udcd_bench.judging import verdicts
from udcd_bench.report import page, tables, views
from udcd_bench.report import runs as report_runs
from udcd_bench.report.classes import build_classes
from udcd_bench.report.views import Selection
from udcd_bench.runs.results import Results, load_results
from udcd_bench.runs.spec import RunSpec, derive_seed
from udcd_bench.runs.store import Store
from udcd_bench.stats import metrics, statistics

pytestmark = pytest.mark.slow

EVIL = "<script>alert(\"1\")</script> & 'ψ λ' </table>"
CLASSES = ["no <b>", 'mild "x"', EVIL, "4"]
EPOCHS, N = 3, 60


def finish(store: Store, spec: RunSpec, **changes) -> dict:
    """A finished run as the engine leaves it, its figures those of its scores."""
    generator = np.random.default_rng(derive_seed(spec.format_label()))
    labels = np.arange(N) % (len(CLASSES) - 1)  # no test image of the last class
    scores = generator.normal(size=(EPOCHS, N, len(CLASSES)))
    scores[:, np.arange(N), labels] += 1.5
    by_epoch = [metrics.compute_metrics(epoch, labels) for epoch in scores]
    means = {name: float(np.mean([f[name] for f in by_epoch])) for name in by_epoch[0]}
    title = plugins.read_attributes("methods", spec.method)["title"]
    made = make.record(spec, classes=CLASSES, n_test=N, method_title=title)
    made |= {"figures": dict.fromkeys(("mean", "last", "best"), means)} | changes
    history = pd.DataFrame(
        {
            "stage": ["head", "train", "train", "train"],
            "epoch": [0, 0, 1, 2],
            "loss": [4.0, 3.0, 2.0, 1.0],
            "acc": [np.nan, np.nan, 0.5, 1.0],
        }
    )
    arrays = make.arrays(scores.astype(np.float32), labels, groups=np.arange(N) // 2)
    return make.store_run(store, made, arrays, history)


def table2(ask: TableRequest) -> list[RunSpec]:
    return plugins.load_class("tables", "table2")().list_runs(ask)


def results(root, profile: str) -> Store:
    """Table 2 of four methods on two folds: one run failed, one is missing, one is of a method with an evil title."""
    store = Store(root)
    store.create()
    ask = TableRequest(profile, methods=("scratch", "kd", "ssd-kd", "udcd"), folds=(0, 1))
    for spec in table2(ask):
        where = spec.method, spec.dataset in ("aptos", "synthetic-fundus"), spec.fold
        if where in (("kd", True, 0), ("kd", True, 1)):
            store.record_failure(make.record(spec)["key"], spec, f"FloatingPointError: {EVIL}", "trace")
        elif where != ("ssd-kd", False, 1):
            evil = {"method_title": EVIL} if spec.method == "scratch" else {}
            finish(store, spec, **evil)
    return store


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return results(tmp_path_factory.mktemp("demo"), "demo")


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    store = results(tmp_path_factory.mktemp("paper"), "paper")
    finish(store, replace(table2(TableRequest("paper"))[0], split="grouped"))
    return store


def render(store: Store, **selection) -> str:
    return page.render_page(store, Selection(**selection)).html.decode()


def list_runs(store: Store, **selection):
    loaded = load_results(store)
    return report_runs.list_runs(views.list_views(loaded, Selection(**selection)), loaded)


@pytest.fixture(scope="module")
def texts(demo, paper):
    return {"demo": render(demo), "paper": render(paper, split="paper")}


@pytest.fixture(scope="module")
def trees(texts):
    return {name: pages.read(text) for name, text in texts.items()}


def invoke(*words):
    return CliRunner().invoke(cli.cli, [str(word) for word in words])


# --- as HTML --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_the_page_is_valid_and_every_reference_in_it_resolves(trees, profile):
    tree = trees[profile]
    assert tree.one("html")["lang"] == "en" and tree.one("title").text and tree.one("h1") and tree.one("main")
    ids = [element["id"] for element in tree.all() if element["id"]]
    assert len(ids) == len(set(ids))
    for element in tree.all():
        assert element["aria-labelledby"] in {*ids, ""}
        assert element["href"].removeprefix("#") in {*ids, ""}, "a link leads out of the page"
    levels = [int(e.tag[1]) for e in tree.all() if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1 and all(b <= a + 1 for a, b in itertools.pairwise(levels))
    for table in tree.all("table"):
        assert table.one("caption").text and table.one("thead")
        assert all(th["scope"] for th in table.all("th"))
    for picture in [*tree.all("img"), *tree.all("svg")]:
        assert picture["alt"] or picture["aria-label"]


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_the_rows_of_every_table_are_of_one_width(trees, profile):
    def width(row):
        return sum(int(cell["colspan"] or 1) for cell in row.children if isinstance(cell, pages.Element))

    for table in trees[profile].all("table"):
        if table["id"] == "matching":
            continue  # the script fills it
        for body in [table.one("thead"), *table.all("tbody")]:
            spanned = {}
            for number, row in enumerate(body.all("tr")):
                for cell in row.children:
                    if isinstance(cell, pages.Element):
                        for below in range(1, int(cell["rowspan"] or 1)):
                            spanned[number + below] = spanned.get(number + below, 0) + 1
            widths = {width(row) + spanned.get(n, 0) for n, row in enumerate(body.all("tr"))}
            assert len(widths) == 1, (table.one("caption").text, widths)
        assert width(table.all("tbody")[0].all("tr")[0]) == width(table.one("thead").all("tr")[0])


@pytest.mark.parametrize("profile", ["demo", "paper"])
def test_the_page_needs_nothing_else(texts, trees, profile):
    tree = trees[profile]
    for element in tree.all():
        assert element.tag not in ("link", "iframe", "object", "base", "form")
        assert element["src"].startswith("data:") or not element["src"]
        assert not {name for name in element.attributes if name.startswith("on")}
    assert not re.search(r"@import|url\(|https?:", tree.one("style").text + tree.all("script")[1].text)
    assert "default-src 'none'" in texts[profile]


def test_whatever_names_hold_is_text(trees, texts):
    for tree in trees.values():
        data, script = tree.all("script")
        assert "alert(" not in script.text and data["type"] == "application/json"
        assert any(line["row"] for line in json.loads(data.raw))
        assert EVIL in tree.one(id="runs").text
        assert any(EVIL in th.text for th in tree.one(id="classes").all("th"))
        assert any(
            f"FloatingPointError: {EVIL}" in p.text for p in tree.one(id="runs").all("p", cls="reason")
        )
        assert EVIL in tree.one(id="tables").text  # the reason again, in a note
    assert "<b>" in trees["demo"].one(id="classes").text
    assert "alert(" in texts["demo"] and "<script>alert" not in texts["demo"]


def test_the_reader_sees_what_is_wrong():
    for text in ("<p><b></p></b>", "<div>", '<p id="a" id="b"></p>', "<div/>"):
        with pytest.raises(AssertionError):
            pages.read("<!DOCTYPE html>" + text)


# --- what it says ---------------------------------------------------------------------------------------


def cell_texts(tree, name):
    """(method, column) → the cell of a table's first band."""
    table = tree.one(id=f"table-{name}").all("table", cls="figures")[0]
    return {
        (body.all("th")[0]["data-value"], column): cell
        for body in table.all("tbody")
        for column, cell in enumerate(body.all("td"))
    }


def test_tables_hold_the_figures_of_the_csv(paper, trees):
    table = plugins.load_class("tables", "table2")()
    ask = TableRequest("paper", folds=(0, 1))
    found = {RunSpec.from_dict(r["spec"]): r for r in paper.read_records()}
    frame = table.build_frame(ask, Results(paper, found, {}))
    shown = cell_texts(trees["paper"], "table2")
    run = frame.groupby("method_title")["verdict"].agg(
        lambda v: not {"not run", "not in the suite yet"} >= set(v)
    )
    titles = [title for title in frame["method_title"].unique() if run[title]]
    assert len(shown) == 8 * len(titles) == 8 * 4, "rows without any run are left out"
    absent = trees["paper"].one(id="table-table2").one("details", cls="absent").text
    assert all(title in absent for title in set(frame["method_title"]) - set(titles))
    groups = [group for _, group in frame.groupby("dataset", sort=False)]
    for title in titles:
        rows = pd.concat([group[group["method_title"] == title] for group in groups]).to_dict("records")
        for column, row in enumerate(rows):
            cell = shown[title, column]
            ours = " ".join(part.text for part in cell.all("span", cls="ours"))
            if row["n"] == 0:
                assert ours == ("" if np.isnan(row["published"]) else "–")
                said = cell.one("span", cls="verdict").text[2:]
                assert said in ("failed", "impossible")
                assert not cell["data-value"]
            else:
                assert ours.startswith(f"{row['ours']:.2f}")
                assert float(cell["data-value"]) == pytest.approx(row["ours"])
                assert (f"± {row['spread']:.2f}" in ours) == (row["n"] == 2)
            printed = [e.text for e in cell.all("span", cls="printed")]
            assert printed == ([] if np.isnan(row["published"]) else [f"published {row['published']:.2f}"])


def test_what_the_leak_is_worth_stands_below_where_both_splits_were_run(paper, trees):
    tree = trees["paper"]
    spec = table2(TableRequest("paper"))[0]
    found = {RunSpec.from_dict(r["spec"]): r["figures"]["mean"] for r in paper.read_records()}
    for number, metric in enumerate(("acc", "ap", "rec", "f1")):
        cell = cell_texts(tree, "table2-leak")["Scratch", number]
        worth = 100 * (found[spec][metric] - found[replace(spec, split="grouped")][metric])
        assert float(cell["data-value"]) == pytest.approx(worth)
        assert cell.text.startswith(f"{worth:+.2f} (".replace("-", "−"))
    assert ("MTG", 0) not in cell_texts(tree, "table2-leak")
    assert "--split both" in tree.one(id="table-table2-leak").one("code").text
    assert not trees["demo"].all(id="table-table2-leak")


def test_a_page_draws_the_same_runs_once(paper, monkeypatch):
    joint, calls = statistics.bootstrap_jointly, []

    def counted(scores, metrics, resampling):
        whole = b"".join(np.ascontiguousarray(each).tobytes() for each in scores)
        calls.append((whole, resampling.n_draws))
        return joint(scores, metrics, resampling)

    monkeypatch.setattr(statistics, "bootstrap_jointly", counted)
    render(paper)
    assert calls and len(set(calls)) == len(calls)


def test_bold_is_that_of_the_table_and_is_said(demo, trees):
    table = plugins.load_class("tables", "table2")()
    ask = TableRequest("demo", folds=(0, 1))
    loaded = load_results(demo)
    marked = marks.mark_figures(table, ask, loaded, table.build_frame(ask, loaded)).by_cell
    rows = {row.name: row.title for row in table.list_rows(ask)}
    column = {m: cell for (m, n), cell in cell_texts(trees["demo"], "table2").items() if n == 0}
    bold = {title for title, cell in column.items() if cell.all("b") and "bold" in cell.text}
    assert (
        bold == {rows[key[2]] for key in marked if (key[0], key[3]) == ("synthetic-fundus", "acc")} != set()
    )
    assert "Holm" in trees["demo"].one(id="table-table2").one("p", cls="caption").text


def test_verdicts_are_those_of_check(paper, trees):
    said = invoke("check", "table2", "--profile", "paper", "--out", paper.root, "--format", "json")
    cells = json.loads(said.stdout)["cells"]
    expected = [cell["verdict"] for cell in cells if cell["n"] or cell["verdict"] == "failed"]
    section = trees["paper"].one(id="table-table2")
    told = {p.text for p in section.one("p", cls="counts").all("span") if p.text[:1].isdigit()}
    assert {(int(t.split()[0]), t.split(" ", 2)[2]) for t in told} == {
        (expected.count(word), word) for word in set(expected)
    }
    in_cells = [
        e.text[2:]
        for cell in cell_texts(trees["paper"], "table2").values()
        if cell.all("span", cls="printed")
        for e in cell.all("span", cls="verdict")
        if cell["data-value"] or e.text[2:] == "failed"
    ]
    assert sorted(in_cells) == sorted(expected) and len(cells) == 72 > len(expected)
    whole = section.all("table", cls="plain")[0]
    assert "Spearman" in whole.one("caption").text and len(whole.all("tbody")[0].all("tr")) == 8


def test_every_verdict_has_a_symbol_of_its_own_beside_its_word(trees):
    for tree in trees.values():
        for element in tree.all("span", cls="verdict"):
            symbol = element.one("span")
            assert symbol["aria-hidden"] == "true" and len(symbol.text) == 1 and len(element.text) > 3
    assert len({tables.SYMBOLS[word] for word in verdicts.VERDICTS}) == len(verdicts.VERDICTS)


def test_what_failed_or_is_missing_stays_in_its_place(trees):
    shown = cell_texts(trees["demo"], "table2")
    assert "failed" in shown["KD", 0].text and ("CRD", 0) not in shown
    part = trees["demo"].one(id="table-table2")
    absent = part.one("details", cls="absent").text
    assert "CRD" in absent and absent.startswith("Not run: 29 of its 44 runs")
    notes = part.one("ul", cls="notes").text
    assert "2 of 2 runs failed: FloatingPointError" in notes and "n = 1 of 2 runs" in notes


def test_synthetic_data_is_said_once_and_beside_what_it_concerns(trees):
    tree = trees["demo"]
    assert tree.one("body").all()[1]["class"] == "banner"
    assert tree.one("body").text.count("are drawn by a program") == 1
    assert all("stand-in" in h.text for part in ("classes", "curves") for h in tree.one(id=part).all("h3"))
    assert all("stand-in" in th.text for th in tree.one(id="table-table2").all("th", scope="colgroup"))
    assert not trees["paper"].all(cls="banner") and not trees["paper"].all(cls="stand-in")
    assert "synthetic" not in re.sub("synthetic stand-ins? ", "", trees["paper"].one("header").text)


def test_claims_and_audit_are_those_of_their_commands(demo, trees):
    said = json.loads(invoke("claims", "--out", demo.root, "--format", "json").stdout)["claims"]
    shown = trees["demo"].one(id="claims").all("article")
    assert len(shown) == len(said)
    for article, claim in zip(shown, said):
        outcomes = [dd.one("span", cls="verdict").text[2:] for dd in article.all("dd")]
        assert outcomes == [claim["published"]["outcome"], claim["ours"]["outcome"]]
        assert " ".join(claim["quote"].split()) in article.text
    audited = json.loads(invoke("audit", "--format", "json").stdout)
    findings = audited["findings"]
    shown = [li.text for li in trees["demo"].one(id="audit").all("li")]
    assert shown[: len(findings)] == [" ".join(f["sentence"].split()) for f in findings]
    margins = shown[len(findings) :]
    assert len(margins) == len(audited["margins"]) == 6
    assert all(f"of {m['n_test']} test images" in text for m, text in zip(audited["margins"], margins))


def test_confusions_are_those_of_the_scores(demo):
    runs = [r for r in list_runs(demo) if r.record]
    members = [r for r in runs if (r.spec.method, r.spec.dataset) == ("udcd", "synthetic-fundus")]
    assert len(members) == 2
    counts = np.zeros((4, 4))
    for member in members:
        arrays = demo.read_scores(member.record["key"])
        for epoch in arrays["scores"]:
            counts += confusion_matrix(arrays["labels"], epoch.argmax(1), labels=range(4)) / EPOCHS
    found = build_classes([m.record for m in members], demo, "mean")
    expected = 100 * counts[:3] / counts[:3].sum(1, keepdims=True)
    assert found.shares[:3] == pytest.approx(expected) and np.isnan(found.shares[3]).all()
    assert found.images == (40, 40, 40, 0)
    one = build_classes([members[0].record], demo, "mean")
    assert one.macro == pytest.approx(100 * members[0].record["figures"]["mean"]["rec"])
    arrays = demo.read_scores(members[0].record["key"])
    for metric, measure in (("recall", recall_score), ("precision", precision_score), ("f1", f1_score)):
        by_epoch = [
            measure(arrays["labels"], s.argmax(1), labels=range(3), average=None, zero_division=0)
            for s in arrays["scores"]
        ]
        assert one.figures[metric][:3] == pytest.approx(100 * np.mean(by_epoch, axis=0))
        assert (one.low[metric][:3] < one.figures[metric][:3]).all()
        assert (one.high[metric][:3] > one.figures[metric][:3]).all()
        assert np.isnan([one.figures[metric][3], one.low[metric][3], one.high[metric][3]]).all()
    wide, narrow = (np.nanmean(each.high["recall"] - each.low["recall"]) for each in (one, found))
    assert narrow < wide, "two folds know more than one"


def test_classes_are_on_the_page_with_their_support(demo, trees):
    (member, *_) = [r for r in list_runs(demo) if r.record and r.title == "UDCD"]
    table = next(
        t for t in trees["demo"].one(id="classes").all("table") if t.one("caption").text.startswith("UDCD on")
    )
    heads = [th.text for th in table.one("thead").all("th")]
    assert heads[:5] == ["true \\ predicted", "images", "recall", "precision", "F1"]
    for line in table.one("tbody").all("tr")[:3]:
        cells = [td.text for td in line.all("td")]
        assert cells[0] == "40" and all(re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", c) for c in cells[1:4])
    assert member.record["classes"] == [th.text for th in table.one("tbody").all("th")]


def test_seeds_of_a_fold_do_not_double_its_images(tmp_path):
    store = Store(tmp_path)
    store.create()
    specs = [replace(table2(TableRequest())[0], seed=seed) for seed in (0, 1)]
    for spec in specs:
        finish(store, spec)
    assert build_classes([run.record for run in list_runs(store)], store, "mean").images == (20, 20, 20, 0)


def test_curves_are_the_history(demo):
    run = next(r for r in list_runs(demo) if r.record)
    curve = report_runs.build_curve([run], demo)
    left, right = report_runs.EDGE, report_runs.WIDTH - report_runs.EDGE
    top, bottom = report_runs.EDGE, report_runs.HEIGHT - report_runs.EDGE
    points = np.array([p.split(",") for p in curve.losses[0].split()], float)
    assert points == pytest.approx(
        np.column_stack([np.linspace(left, right, 4), np.linspace(top, bottom, 4)]), abs=0.06
    )
    third = left + (right - left) * 2 / 3
    assert np.array(curve.dots) == pytest.approx(
        np.array([(third, (top + bottom) / 2), (right, top)]), abs=0.06
    )
    assert curve.stages == (pytest.approx(left + (right - left) / 6, abs=0.06),)
    assert curve.description == "4 epochs, loss 4 to 1, test accuracy 100.0 % at the end"


def test_a_run_whose_losses_are_no_numbers_still_has_a_place(demo, monkeypatch, tmp_path):
    run = next(r for r in list_runs(demo) if r.record)
    file = tmp_path / "history.csv"
    file.write_text("stage,epoch,loss,acc\ntrain,0,nan,\ntrain,1,inf,\n")
    monkeypatch.setattr(Store, "verify_file", lambda *_: file)
    curve = report_runs.build_curve([run], demo)
    assert (curve.losses, curve.accuracies, curve.dots, curve.description) == ((), (), (), "2 epochs")


def test_every_run_is_there_with_the_line_that_makes_it(demo, trees, monkeypatch):
    asked = []
    # the package has a command of that name
    module = sys.modules["udcd_bench.cli.run"]
    monkeypatch.setattr(
        module,
        "plan_and_run",
        lambda specs, store, options, resolver: (
            asked.extend(map(resolver.resolve_spec, specs)),
            ([], {"x": "stop"}),
        )[1],
    )
    section = trees["demo"].one(id="runs")
    lines = [code.text for code in section.all("code", cls="command")]
    there = load_results(demo)
    assert len(lines) == len(there.states) == 15
    for line in lines:
        assert line.startswith("udcd-bench train ")
        assert invoke(*line.split()[1:]).exit_code == 0
    assert set(asked) == set(there.states)
    for record in there.records.values():
        assert record["key"] in section.text and record["split_hash"] in section.text


def test_versions_hardware_and_day_are_on_the_page(demo, tmp_path):
    store = results(tmp_path / "out", "demo")
    for key in store.list_keys():
        os.utime(store.runs / key / "record.json", (1.7e9, 1.7e9))
    text = pages.read(render(store)).one("body").text
    for said in ("13 done, 2 failed", "14 November 2023", "torch 2.9.0", "0123456", "2 folds, 1 seed"):
        assert said in text, said


def test_the_same_folder_gives_the_same_page(demo, texts):
    assert render(Store(demo.root)) == texts["demo"]


# --- figures --------------------------------------------------------------------------------------------


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """A suite with two figures, of which one has been drawn."""
    folder = tmp_path / "suite" / "figures"
    folder.mkdir(parents=True)
    for name in ("drawn", "absent"):
        (folder / f"{name}.py").write_text(
            f'class Figure:\n    name = "{name}"\n    title = "The <{name}> one"\n    datasets = ("aptos",)\n'
        )
    monkeypatch.setenv("UDCD_BENCH_SUITE", str(tmp_path / "suite"))


@pytest.mark.parametrize("split", ["paper", "grouped"])
@pytest.mark.parametrize("warning", ["", "Synthetic stand-in: drawn."])
def test_figures_are_in_the_page_as_their_own_files_say(suite, tmp_path, split, warning):
    store = Store(tmp_path / "out")
    store.create()
    finish(store, replace(table2(TableRequest())[0], split=split))
    command = "udcd-bench plot drawn --profile demo --datasets folder:moles#0123456789ab"
    texts = PngInfo()
    for key, value in (("Title", "The <drawn> one"), ("Description", warning), ("Comment", command)):
        texts.add_text(key, value)
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(buffer, "PNG", pnginfo=texts)
    end = "" if split == "paper" else "-grouped"
    folder = store.root / "demo"
    folder.mkdir()
    (folder / f"drawn{end}.png").write_bytes(buffer.getvalue())
    for name in (f"drawn{end}.csv", f"drawn{end}-panel.csv", "drawn-grouped-other.csv", "drawnout.csv"):
        (folder / name).touch()
    tree = pages.read(render(store))
    part = tree.one(id=f"figure-demo-drawn{end}")
    picture = part.one("img")
    assert base64.b64decode(picture["src"].removeprefix("data:image/png;base64,")) == buffer.getvalue()
    assert (picture["width"], picture["height"]) == ("30", "20")
    files = [code.text for code in part.one("figcaption").all("code")]
    others = ["drawn-grouped-other.csv"] if split == "grouped" else []
    assert files == sorted([f"drawn{end}.csv", f"drawn{end}-panel.csv", *others])
    assert "The <drawn> one" in picture["alt"] and files[0] in picture["alt"]
    # the run is a stand-in's, and the picture need not be
    assert ("synthetic" in picture["alt"]) == bool(part.all(cls="stand-in")) == bool(warning)
    assert part.one("p", cls="make").one("code").text == command
    assert "absent" in tree.one(id="figures").one("details", cls="absent").text


def test_commands_make_what_is_shown():
    ask = TableRequest(
        "paper", datasets=("aptos", "folder:a,b#0123456789ab"), folds=(0, 2), seeds=(0, 1, 2), split="grouped",
        protocol=(("weights", "lite.safetensors#0123456789ab"), ("epochs", 4)),
    )  # fmt: skip
    made = format_artefact_command("run", "table2", ask)
    assert made == (
        "udcd-bench run table2 --profile paper --split grouped --datasets 'aptos,\"folder:a,b#0123456789ab\"' "
        "--set weights=lite.safetensors --set epochs=4 --folds 0,2 --seeds 3"
    )
    assert (
        format_artefact_command("check", "table2", TableRequest()) == "udcd-bench check table2 --profile demo"
    )


# --- the command ----------------------------------------------------------------------------------------


def test_the_command_writes_the_page_whole(demo, paper, texts, tmp_path):
    done = invoke("report", "--out", demo.root)
    assert done.exit_code == 0 and done.stdout.strip() == str(demo.root / "demo" / "report.html")
    assert (demo.root / "demo" / "report.html").read_text(encoding="utf-8") == texts["demo"]
    assert [p.name for p in (demo.root / "demo").iterdir()] == ["report.html"]
    file = tmp_path / "deep" / "page.html"
    done = invoke("report", "--out", paper.root, "--profile", "paper", "--split", "grouped", "--to", file)
    assert done.stdout.strip() == str(file)
    page = pages.read(file.read_text(encoding="utf-8"))
    assert "1 run: 1 method" in page.one("header").text and "grouped" in page.one("title").text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--out", "nowhere"), "nowhere: there is no such folder"),
        (
            ("--out", "empty"),
            "empty holds no run; make some with `udcd-bench run table2 --out empty`",
        ),
        (("--out", "demo", "--profile", "papr"), "There is no profile 'papr'"),
        (
            ("--out", "demo", "--profile", "paper"),
            "it has those of --profile demo --split paper --datasets synthetic-fundus (1)",
        ),
        (
            ("--out", "demo", "--split", "grouped"),
            "it has those of --profile demo --split paper --datasets synthetic-fundus (1)",
        ),
        (("--out", "demo", "--methods", "udcdd"), "There is no method 'udcdd'; did you mean 'udcd'"),
        (("--out", "demo", "--methods", "kd"), "demo holds no such run"),
        (("--out", "demo", "--set", "epochs=3"), "demo holds no such run"),
        (("--out", "demo", "--datasets", "folder:x"), "No run in the results folder is of folder:x"),
        (("--out", "file"), "is a file"),
    ],
)
def test_what_the_user_can_fix(tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    store = Store(tmp_path / "demo")
    store.create()
    finish(store, table2(TableRequest())[0])
    done = invoke("report", *words)
    assert isinstance(done.exception, UserError) and says in str(done.exception)
    assert not list(tmp_path.glob("*/*/report*"))


def test_a_folder_of_nothing_but_failures_has_a_page(tmp_path):
    store = Store(tmp_path)
    store.create()
    spec = table2(TableRequest())[0]
    store.record_failure(make.record(spec)["key"], spec, "MemoryError", "trace")
    tree = pages.read(render(store))
    assert "0 runs, 1 failed" in tree.one("header").text and "newest" not in tree.one(id="runs").text
    assert "MemoryError" in tree.one(id="runs").text and "No run is done" in tree.one(id="curves").text
    assert "failed" in tree.one(id="table-table2").text
    assert not tree.all(id="table-table1")


def test_damage_is_told_with_the_file(tmp_path):
    store = Store(tmp_path)
    store.create()
    key = finish(store, table2(TableRequest())[0])["key"]
    file = store.runs / key / "scores.npz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"scores\.npz is damaged"):
        render(store)


# --- in a browser ---------------------------------------------------------------------------------------

browser = pytest.mark.skipif(
    pages.CHROMIUM is None, reason="no chromium on PATH: the page was parsed, and no browser has seen it"
)

SORTING = """
const table = document.querySelector("#table-table2 table.figures");
const column = () => [...table.tBodies].map((body) => Number(body.rows[0].cells[1].dataset.value ?? NaN));
const names = () => [...table.tBodies].map((body) => body.rows[0].cells[0].dataset.value);
const head = table.querySelector('th[data-column="1"]');
const states = [[head.ariaSort, column()]];
const before = names();
for (let click = 0; click < 3; click++) {
  head.querySelector("button").click();
  states.push([head.ariaSort, column()]);
}
const after = names();
const first = table.querySelector('th[data-column="0"] button');
first.focus();
const focused = document.activeElement === first;
first.click();
return { states, restored: JSON.stringify(before) === JSON.stringify(after), focused, names: names() };
"""


@pytest.fixture(scope="module")
def seen(texts, tmp_path_factory):
    """What a browser finds out about the pages, all opened in one start of it."""
    other_script = "<script>document.title = 'x'</script></body>"
    visits = {
        "sorting": pages.Visit(texts["demo"], SORTING),
        "looks": pages.Visit(texts["paper"], LOOKS),
        "printing": pages.Visit(texts["demo"], PRINTING),
        "narrow": pages.Visit(texts["paper"], width=400),
        "broad": pages.Visit(texts["paper"], width=1600),
        "own-script": pages.Visit(texts["demo"]),
        "other-script": pages.Visit(texts["demo"].replace("</body>", other_script)),
    }
    return pages.browse(visits, tmp_path_factory.mktemp("browser"))


@browser
def test_columns_sort_and_return_to_their_order(seen):
    found = seen["sorting"]
    assert found["console"] == []
    orders, columns = zip(*found["states"])
    assert orders == ("none", "descending", "ascending", "none")
    there = [[v for v in column if v is not None] for column in columns]
    assert len(there[0]) == 3 and there[1] == sorted(there[0], reverse=True)
    assert there[2] == sorted(there[0]) and there[3] == there[0] and there[0] not in (there[1], there[2])
    for column in columns[1:3]:
        assert None not in column[:3], "what is missing stands last either way"
    assert found["restored"] and found["focused"]
    assert [n.casefold() for n in found["names"]] == sorted(n.casefold() for n in found["names"])


LOOKS = """
document.querySelectorAll("details").forEach((details) => { details.open = true; });
const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const over = (colours) => {
  pen.clearRect(0, 0, 1, 1);
  for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (rgb) => {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
const worst = () => {
  let least = [99, ""];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest("script, svg, .unseen, button[hidden]")) continue;
    const behind = [];
    for (let at = element; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const page = over(behind);
    const ratio = contrast(over([...behind, getComputedStyle(element).color]), page);
    if (ratio < least[0]) least = [ratio, `${element.tagName}.${element.className}`];
  }
  return least;
};
const button = document.getElementById("theme");
const looks = [];
for (let click = 0; click < 3; click++) {
  looks.push([button.textContent, over([getComputedStyle(document.body).backgroundColor]), worst()]);
  button.click();
}
return { looks };
"""


@browser
def test_light_and_dark_differ_and_both_are_readable(seen):
    found = seen["looks"]
    assert found["console"] == []
    (says, page, least), (says_dark, page_dark, least_dark), again = found["looks"]
    assert (says, says_dark) == ("Dark", "Light") and again[:2] == [says, page]
    assert min(page) > 240 and max(page_dark) < 40
    assert least[0] >= 4.5 and least_dark[0] >= 4.5, (least, least_dark)


PRINTING = """
const open = () => document.querySelectorAll("details[open]").length;
const all = document.querySelectorAll("details").length;
const before = open();
window.dispatchEvent(new Event("beforeprint"));
const during = open();
window.dispatchEvent(new Event("afterprint"));
const copies = [...document.querySelectorAll("code.command")].map((code) => code.nextElementSibling);
copies[0].click();
await new Promise((done) => setTimeout(done, 300));
return { all, before, during, after: open(), copies: copies.every((b) => b?.className === "copy"),
         copied: copies[0].textContent, commands: copies.length };
"""


@browser
def test_printing_opens_what_is_folded_and_commands_can_be_copied(seen):
    found = seen["printing"]
    assert found["console"] == []
    assert (found["before"], found["during"], found["after"]) == (0, found["all"], 0) and found["all"] > 10
    assert found["copies"] and found["copied"] == "copied" and found["commands"] > 15


@browser
@pytest.mark.parametrize(("page", "width"), [("narrow", 400), ("broad", 1600)])
def test_the_page_is_no_wider_than_its_window(seen, page, width):
    found = seen[page]
    assert width - 20 < found["window"] <= width and found["wide"] <= found["window"]


@browser
def test_its_own_policy_lets_its_script_run_and_no_other(seen):
    own, other = seen["own-script"], seen["other-script"]
    assert own["console"] == [] and own["html"].count('class="copy"') > 15
    assert "<title>x</title>" not in other["html"]
    assert "Content Security Policy" in "".join(other["console"])
