"""The page answers first, and shows what a folder holds: any data, rows and settings; and the paper without any run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from support import pages
from support import records as make
from udcd_bench import cli
from udcd_bench.artefacts.made_from import write_index
from udcd_bench.errors import UserError
from udcd_bench.report import page, views
from udcd_bench.report.views import Selection
from udcd_bench.runs.results import load_results
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store

MOLES = "folder:moles#0123456789ab"
BASE = RunSpec("scratch", "aptos", "paper", "densenet121")
HELD = {
    "plain": BASE,
    "its rival": replace(BASE, method="udcd"),
    "own images": replace(BASE, dataset=MOLES),
    "own images' rival": replace(BASE, dataset=MOLES, method="kd"),
    "another split": replace(BASE, split="grouped"),
    "a protocol": replace(BASE, protocol=(("epochs", 3),)),
    "a hyper-parameter": replace(BASE, method="udcd", hparams=(("lambda_kl", 0.5),)),
    "a reading": replace(BASE, method="udcd", hparams=(("relation", "kl"),)),
    "an imbalance": replace(BASE, dataset="ham10000", rho=144.0),
    "an imbalance of no table": replace(BASE, rho=20.0),
    "a share": replace(BASE, fraction=0.5),
    "another backbone": replace(BASE, backbone="resnet18"),
    "another profile": replace(BASE, profile="lite", backbone="tf_efficientnet_lite0"),
    "the official test set": replace(BASE, dataset="ham10000", split="official"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("held"))
    for spec in HELD.values():
        make.finish(store, spec, n=30)
    return store


@pytest.fixture(scope="module")
def tree(store):
    return pages.read(page.render_page(store, Selection()).html.decode())


def invoke(*words):
    return CliRunner().invoke(cli.cli, [str(word) for word in words])


def shown_runs(store, **selection):
    results = load_results(store)
    held = views.list_views(results, Selection(**selection))
    listed = [spec for view in held for spec in view.specs]
    assert len(listed) == len(set(listed)), "no run is in two views"
    in_tables = {spec for view in held for table, request in view.tables for spec in table.list_runs(request)}
    assert set(listed) <= in_tables, "every run stands in a table"
    return set(listed)


def test_every_run_of_the_folder_stands_in_a_table(store):
    assert shown_runs(store) == set(HELD.values())


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        ({"profile": "lite"}, {"another profile"}),
        ({"split": "grouped"}, {"another split"}),
        ({"split": "val"}, set()),
        ({"datasets": (MOLES,)}, {"own images", "own images' rival"}),
        ({"methods": ("kd",)}, {"own images' rival"}),
        ({"protocol": (("epochs", "3"),)}, {"a protocol"}),
        ({"protocol": (("epochs", "80"), ("weights", "imagenet")), "split": "grouped"}, {"another split"}),
        ({"methods": ("udcd",), "hparams": (("lambda_kl", "0.5"),)}, {"a hyper-parameter"}),
    ],
)
def test_a_page_is_of_what_was_asked_for(store, selection, names):
    assert shown_runs(store, **selection) == {HELD[name] for name in names}


def test_several_values_choose_the_runs_of_each(store):
    """As `run` takes them; the last that is said of a hyper-parameter counts, and of a row before all."""
    udcd = {spec for spec in HELD.values() if spec.method == "udcd"}
    grid = (("udcd.lambda_kl", "0.5,1"), ("relation", "huber,kl"))
    assert shown_runs(store, methods=("udcd",), hparams=grid) == udcd
    one = (("udcd.lambda_kl", "0.25,1"), ("*.lambda_kl", "0.5"), ("relation", "huber"))
    chosen = views.list_stored_specs(load_results(store), Selection(methods=("udcd",), hparams=one))
    assert chosen == [HELD["its rival"]]
    with pytest.raises(UserError, match=r"invalid lambda_kl=x"):
        shown_runs(store, hparams=(("lambda_kl", "1,x"),))


def test_a_page_by_a_rule_says_it_and_shows_the_figures_of_its_epochs(tmp_path):
    record = make.finish(Store(tmp_path), BASE, n=30)
    best = page.render_page(Store(tmp_path), Selection(rule="best"))
    assert best.chief.title == "profile paper, split paper, rule best"
    html = best.html.decode()
    assert "best epoch by accuracy on the test set itself" in html and "--rule best" in html
    run = pages.read(html).one(id="runs").all("tbody")[0]
    assert float(run.all("td")[3]["data-value"]) == record["figures"]["best"]["acc"]
    validated = replace(BASE, protocol=(("validation", "0.2"),))
    admits = Selection(rule="best-validation").admits
    assert admits(validated) and not admits(BASE), "which has no such epoch"


def test_a_tuned_run_stands_below_its_row_in_one_view(tmp_path):
    """Also one of a method without a teacher, whose rate is a number of the protocol as one for all rows would be."""
    store, rate = Store(tmp_path), ("learning_rate", 0.001)
    held_out, tuned = ("validation", "0.2"), replace(BASE, protocol=(rate,))
    trials = [replace(BASE, protocol=pairs) for pairs in ((held_out,), (rate, held_out))]
    first, best = (make.finish(store, spec, n=30)["key"] for spec in trials)
    for spec in (BASE, tuned, replace(tuned, seed=1), replace(BASE, protocol=(("learning_rate", 0.1),))):
        make.finish(store, spec, n=30)
    file = tmp_path / "paper" / "table2-tuned-2-trials.csv"
    write_index(file, [first, best])
    lines = [f"aptos,,0,scratch,{n},{n == 1},{key}" for n, key in enumerate((first, best))]
    file.write_text(
        "\n".join(["# udcd-bench search table2", "dataset,rho,fold,method,trial,chosen,key", *lines])
    )
    of_search, other = views.list_views(load_results(store), Selection())
    assert of_search.request.protocol == () and other.request.protocol == (("learning_rate", 0.1),)
    assert set(of_search.specs) == {BASE, tuned, replace(tuned, seed=1)}
    tables = {table.name: table.list_runs(request) for table, request in of_search.tables}
    assert {tuned, replace(tuned, seed=1)} <= set(tables["table2-tuned-2"])
    assert not any(name.startswith("further") for name in tables)
    file.write_text("dataset,trial\naptos,many")
    alone = {view.request.protocol for view in views.list_views(load_results(store), Selection())}
    assert alone == {(), (rate,), (("learning_rate", 0.1),)}, "what cannot be read says nothing"


@pytest.mark.slow
def test_own_images_are_not_called_drawn(tree):
    assert not tree.all(cls="banner") and not tree.all(cls="stand-in")
    assert any("moles (0123)" in th.text for th in tree.one(id="table-table2").all("th"))


def test_commands_in_the_page_name_the_data_and_settings(tree):
    commands = [code.text for part in tree.one(id="tables").all("article") for code in part.all("code")]
    assert any("aptos,folder:moles#0123456789ab,ham10000" in text for text in commands)
    assert any("--set epochs=3" in text for text in commands)
    assert any("--backbone resnet18" in text for text in commands)
    assert any("--split official" in text for text in commands)


def test_pairs_are_those_of_compare(store, tree):
    done = invoke("compare", "table2", "--profile", "paper", "--out", store.root, "--format", "json")
    row = next(
        r for r in json.loads(done.stdout)["rows"] if r["method"] == "scratch" and r["metric"] == "acc"
    )
    table = tree.one(id="pairs").all("table")[0]
    line = next(body for body in table.all("tbody") if body.one("th").text == "Scratch")
    values = [float(td["data-value"]) for td in line.all("td")[1:7]]
    expected = [row[name] for name in ("ours", "theirs", "difference", "low", "high", "p_holm")]
    assert line.all("td")[0].text == "APTOS 2019 ACC" and values == pytest.approx(expected)
    assert [th.text for th in table.one("thead").all("th")][2:4] == ["Row’s", "UDCD’s"]


def test_the_answer_comes_first_and_counts_the_claims(store, tree):
    box = tree.one(cls="answer")
    assert tree.one("header").all(cls="answer") and "14 runs" in box.text and "APTOS 2019" in box.text
    done = invoke("claims", "--profile", "paper", "--out", store.root, "--format", "json")
    outcomes = [claim["ours"]["outcome"] for claim in json.loads(done.stdout)["claims"]]
    sentences = [li.text for li in box.one("ul", cls="outcomes").all("li")]
    for outcome, head, text in zip(
        ("holds", "fails", "cannot tell"),
        ("Holds", "Does not hold", "Cannot be told"),
        sentences,
        strict=True,
    ):
        assert text[2:].startswith(f"{head}: {outcomes.count(outcome)} of {len(outcomes)} claims")
    assert not box.all(cls="caveat"), "the plain runs follow the paper's protocol"


def test_data_of_two_splits_and_the_links_to_their_tables_say_which(tmp_path):
    store = Store(tmp_path)
    for split, n in (("paper", 30), ("official", 21)):
        make.finish(store, replace(BASE, dataset="ham10000", split=split), n=n)
    make.finish(store, replace(BASE, fold=1), n=30)
    tree = pages.read(page.render_page(store, Selection()).html.decode())
    text = tree.one(cls="answer").text
    for said in (
        "HAM10000, split paper: 800 training and 30 test",
        "HAM10000, split official: 800 training and 21 test",
    ):
        assert said in text
    assert "APTOS 2019: 800 training and 30 test" in text
    links = [li.text for li in tree.one("nav").all("li") if "profile paper" in li.text and not li.all("li")]
    assert [link.split(":")[0] for link in links] == [
        "profile paper, split paper",
        "profile paper, split official",
    ]
    assert all("table2" in link and "2-table2" not in link for link in links)
    assert "2-table" not in tree.one(id="pairs").text


def test_another_protocol_is_no_verdict_on_the_paper(store):
    lite = pages.read(page.render_page(store, Selection(profile="lite")).html.decode())
    assert "no verdict on the paper" in lite.one(cls="caveat").text


def test_the_papers_tables_stand_whole_with_what_the_audit_finds(tree):
    findings = json.loads(invoke("audit", "--format", "json").stdout)["findings"]
    paper = tree.one(id="paper")
    figures = [td for td in paper.all("td") if td["data-value"]]
    assert len(figures) == 80 + 72
    numbers = {int(a.text) for a in paper.all("a") if a["href"].startswith("#finding-")}
    assert numbers == {n for n, finding in enumerate(findings, 1) if finding["where"]}
    for number in numbers:
        assert tree.one(id=f"finding-{number}").text == " ".join(findings[number - 1]["sentence"].split())
    scratch = next(body for body in paper.all("tbody") if body.all("th")[0].text == "Scratch")
    assert scratch.all("td")[0].one("span", cls="judged"), "ours stands beside where it was run"


def test_the_page_of_the_paper_alone_needs_no_folder(tmp_path):
    file = tmp_path / "paper.html"
    done = invoke("report", "--paper-only", "--out", tmp_path / "nowhere", "--to", file)
    assert done.exit_code == 0 and not (tmp_path / "nowhere").exists()
    tree = pages.read(file.read_text(encoding="utf-8"))
    assert [section["id"] for section in tree.all("section")] == ["paper", "claims", "audit", "find"]
    box = tree.one(cls="answer").text
    assert "impossible" in box and "Nothing." in box and not tree.all("dt", text="On ours")
    published = [line for line in json.loads(tree.one(id="lines").raw) if "published" in line]
    assert len(published) == 80 + 72


@pytest.mark.slow
def test_pages_of_several_profiles_have_a_name_of_their_own(store):
    done = invoke("report", "--out", store.root)
    assert done.stdout.strip() == str(store.root / "report.html")
    done = invoke("report", "--out", store.root, "--profile", "lite", "--datasets", "aptos")
    assert done.stdout.strip() == str(store.root / "lite" / "report.html")
    done = invoke(
        "report", "--out", store.root, "--datasets", "folder:moles", "--to", store.root / "moles.html"
    )
    text = (store.root / "moles.html").read_text(encoding="utf-8")
    assert done.exit_code == 0 and "2 runs: 2 methods" in pages.read(text).one(cls="answer").text


FILTERING = """
const choose = (field, value) => {
  const select = document.querySelector(`#find select[data-field="${field}"]`);
  select.value = value;
  select.dispatchEvent(new Event("change"));
};
const rows = () => [...document.querySelectorAll("#matching tbody tr")];
const texts = () => rows().map((row) => [...row.cells].map((cell) => cell.textContent));
const before = [texts().length, document.getElementById("matching").hidden];
choose("data", "APTOS 2019");
choose("metric", "ACC");
choose("row", "UDCD");
return { before, rows: texts(), says: document.getElementById("matches").textContent };
"""


@pytest.mark.skipif(pages.CHROMIUM is None, reason="no chromium on PATH")
def test_the_filter_finds_figures_by_data_row_and_metric(store, tmp_path):
    html = page.render_page(store, Selection()).html.decode()
    found = pages.browse({"page": pages.Visit(html, FILTERING)}, tmp_path)["page"]
    assert found["console"] == [] and found["before"] == [0, True]
    lines = json.loads(pages.read(html).one(id="lines").raw)
    expected = [x for x in lines if (x["data"], x["row"], x["metric"]) == ("APTOS 2019", "UDCD", "ACC")]
    assert (
        len(found["rows"]) == len(expected) >= 2
        and found["says"] == f"{len(expected)} of {len(lines)} figures"
    )
    assert found["rows"][0][4] == f"{expected[0]['ours']:.2f}" and found["rows"][-1][9] == "85.01"


def test_claims_are_judged_on_the_runs_of_the_view_that_answers(tmp_path):
    store = Store(tmp_path)
    for method, right in (("scratch", 0.9), ("udcd", 0.5)):
        make.finish(store, replace(HELD["a protocol"], method=method), n=200, right=right)
    box = pages.read(page.render_page(store, Selection()).html.decode()).one(cls="answer")
    fails = box.one("ul", cls="outcomes").all("li")[1].text
    assert "“" in fails and "aptos" in fails and "over scratch" in fails
    assert "epochs=3" in box.one(cls="caveat").text
