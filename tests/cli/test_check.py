"""``check`` on stored runs of a few images: every verdict, every format, and what it refuses."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shlex
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import t

from support import tables
from support.stored import PLAIN, ROWS, fill, keep, paper, table2, typist
from udcd_bench import cli, plugins
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.cli.judging import check_formats
from udcd_bench.cli.judging.check_report import CheckReport
from udcd_bench.errors import UserError
from udcd_bench.judging import difference, paper_check, uncertainty, verdicts
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.paper import published
from udcd_bench.paper.published import PublishedValue
from udcd_bench.render.sheet import format_table_csv
from udcd_bench.runs.results import load_results
from udcd_bench.runs.store import Store
from udcd_bench.stats import statistics


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    return typist("check", PLAIN, tmp_path, monkeypatch, capsys)


@pytest.fixture
def printed(monkeypatch):
    """Puts figures in the paper's place: ours, and so many points more, by (method, metric)."""

    def put(frame, more=None, marks=None):
        figures = []
        for row in frame[frame["method"].isin(ROWS)].to_dict("records"):
            place = (row["method"], row["metric"])
            ours = 70.0 if math.isnan(row["ours"]) else row["ours"]
            percent = ours + (more or {}).get(place, 0.0)
            figures.append(PublishedValue("aptos", None, *place, percent, (marks or {}).get(place, "")))
        monkeypatch.setattr(published, "load_table", lambda table: tuple(figures))

    return put


def cells(out):
    return {(c["method"], c["metric"]): c for c in json.loads(out)["cells"]}


# --- draws -----------------------------------------------------------------------------------------------


def test_the_same_runs_get_the_same_draws_whoever_asks_and_once(tmp_path, monkeypatch):
    fill(tmp_path, paper(seeds=(0, 1)))
    bootstrap, again = (
        uncertainty.Bootstrap(load_results(Store(tmp_path)), "mean", load_tolerances()) for _ in range(2)
    )
    specs = list(bootstrap.results.records)
    first = bootstrap.draw_runs(specs, ["acc", "f1"])
    turned = again.draw_runs(specs[::-1], ["acc", "f1"])
    joint, asked = statistics.bootstrap_jointly, []
    monkeypatch.setattr(
        statistics, "bootstrap_jointly", lambda *given: (asked.append(given), joint(*given))[1]
    )
    once_more = bootstrap.draw_runs(specs, ["f1"])
    assert not asked
    bootstrap.draw_runs(specs[1:], ["f1"])
    assert len(asked) == 1, "fewer runs are another question"
    for spec in specs:
        assert np.array_equal(first[spec]["acc"], turned[spec]["acc"])
        assert np.array_equal(first[spec]["f1"], once_more[spec]["f1"])
        assert list(once_more[spec]) == ["f1"]


def test_a_second_table_of_the_same_runs_draws_nothing_new(tmp_path, monkeypatch):
    ask = paper(folds=(0, 1))
    fill(tmp_path, ask, n=60)
    results, joint, calls = load_results(Store(tmp_path)), statistics.bootstrap_jointly, []
    monkeypatch.setattr(
        statistics, "bootstrap_jointly", lambda *given: (calls.append(given), joint(*given))[1]
    )
    table2().render(ask, results)
    assert len(calls) == 2, "one for each fold"
    plugins.load_class("tables", "metrics")().render(ask, results)
    frame = table2().build_frame(ask, results)
    paper_check.compare_with_paper(table2(), ask, results, frame, load_tolerances())
    assert len(calls) == 2


# --- the rule --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "low", "high", "verdict"),
    [
        (80.9, 79.5, 80.5, "reproduced"),  # in the tolerance
        (81.0, 79.5, 80.5, "reproduced"),  # at its edge
        (81.4, 78.5, 81.5, "reproduced"),  # in the interval
        (81.6, 78.5, 81.5, "lower"),
        (78.4, 78.5, 81.5, "higher"),
        (80.1, 77.9, 80.5, "underpowered"),  # agrees, and would with much else
        (82.0, 77.0, 83.0, "underpowered"),
        (90.0, 77.0, 83.0, "lower"),  # a wide interval that excludes it tells all the same
        (80.0, math.nan, math.nan, "underpowered"),
        (99.0, math.nan, math.nan, "underpowered"),
    ],
)
def test_a_figure_beside_another(theirs, low, high, verdict):
    interval = (low - theirs, high - theirs)
    assert verdicts.judge_difference(80.0 - theirs, interval, tolerance=1.0, widest=2.0) == verdict


def test_every_format_shows_a_verdict_that_only_judging_knows(monkeypatch):
    odd = verdicts.Verdict("it is odd", "¿", compared=True, warns=True)
    monkeypatch.setitem(verdicts.VERDICTS, "odd", odd)
    cell = verdicts.JudgedCell("aptos", None, "udcd", "acc", 80.0, 81.0, 80.0, 82.0, 1, 1.0, "odd")
    metadata = {"table": "table2", "against": "paper", "profile": "paper", "split": "paper", "rule": "mean"}
    report = CheckReport(metadata, [cell], [], 1, "")
    for name, form in check_formats.FORMATTERS.items():
        assert "odd" in form(report), name
    assert "it is odd" in check_formats.format_text(report)


def test_tolerances_stand_in_the_file_for_every_metric_a_confusion_matrix_gives():
    rules = load_tolerances()
    assert set(rules.points) >= {"acc", "ap", "rec", "f1", "other"}
    assert rules.get_tolerance("acc") < rules.get_tolerance("f1") and rules.get_tolerance("auroc") > 0
    assert load_tolerances(0.25).get_tolerance("acc") == load_tolerances(0.25).get_tolerance("ece") == 0.25


def test_tolerances_that_cannot_be_read_are_told(tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    monkeypatch.setattr(plugins, "find_root", lambda: tmp_path)
    for text in (None, "[points]\n", "x = = 1"):
        if text is not None:
            (tmp_path / "tables" / "tolerances.toml").write_text(text)
        with pytest.raises(UserError, match=r"tolerances\.toml cannot be read"):
            load_tolerances()


def test_figures_that_contradict_their_row_are_the_audits():
    found = {
        table: {p[2] for p in paper_check.find_contradicted_cells(table)} for table in ("table1", "table2")
    }
    assert found == {"table1": {"kd", "scl-ikd", "ssd-kd"}, "table2": {"mtg", "ssd-kd"}}
    assert ("aptos", None, "mtg", "f1") in paper_check.find_contradicted_cells("table2")


def test_figures_that_are_edited_meanwhile_are_judged_anew(tmp_path, monkeypatch):
    find, file = published.find_csv, tmp_path / "table2.csv"
    text = find("table2").read_text()
    monkeypatch.setattr(published, "find_csv", lambda name: file if name == "table2" else find(name))
    without = "".join(line for line in text.splitlines(keepends=True) if ",mtg,f1," not in line)
    for written, methods in ((text, {"mtg", "ssd-kd"}), (without, {"ssd-kd"}), (text, {"mtg", "ssd-kd"})):
        file.write_text(written)
        assert {key[2] for key in paper_check.find_contradicted_cells("table2")} == methods


def test_the_noise_of_training_is_pooled_over_rows_and_weighed_with_the_assumed():
    alone = statistics.pool_training_noise([[80.0], [70.0]], 0.5)
    assert (alone.deviation, alone.freedom, alone.pairs) == (0.5, 0, 0), "one seed shows nothing"
    # variances 2 with one degree of freedom, and 3 with two
    pooled = statistics.pool_training_noise([[80.0, 82.0], [70.0, 71.5, 73.4641016], [60.0]], 0.5)
    assert pooled.pairs == 3 and pooled.freedom == 4
    variance = (2 + 2 * np.var([70.0, 71.5, 73.4641016], ddof=1)) / 3
    assert pooled.seen == pytest.approx(math.sqrt(variance))
    assert pooled.deviation == pytest.approx(math.sqrt((3 * variance + 0.25) / 4))


def test_few_seeds_widen_the_noise_as_students_t_does():
    noise = statistics.pool_training_noise([[80.0, 82.0]] * 3, 0.5)
    rng = np.random.default_rng(0)
    draws = rng.normal(0, 1, 200_000) * noise.draw_deviation(rng, 200_000)
    found = np.quantile(draws, [0.025, 0.9, 0.975])
    assert found == pytest.approx(noise.deviation * t.ppf([0.025, 0.9, 0.975], 4), rel=0.02)
    assumed = statistics.TrainingNoise(0.5).draw_deviation(rng, 3)
    assert assumed.tolist() == [0.5] * 3, "the assumption is taken as it stands"


def test_rows_of_one_seed_take_the_noise_that_others_show(tmp_path):
    """Only their own data set's and settings', and every imbalance's of it."""
    fill(tmp_path, paper(seeds=(0, 1, 2)), ("mtg",), n=200)
    fill(tmp_path, paper(), ("udcd",), n=200)
    fill(tmp_path, replace(paper(), datasets=("ham10000",)), ("udcd",), n=200)
    results = load_results(Store(tmp_path))
    bootstrap = uncertainty.Bootstrap(results, "mean", load_tolerances())
    by_name = {(spec.method, spec.dataset): spec for spec in results.records}
    seeds = [
        100 * record["figures"]["mean"]["acc"]
        for spec, record in results.records.items()
        if spec.method == "mtg"
    ]
    one = by_name["udcd", "aptos"]
    found = bootstrap.find_training_noise(one, "acc")
    assert found.pairs == 2 and found.seen == pytest.approx(np.std(seeds, ddof=1))
    assert bootstrap.find_training_noise(replace(one, rho=50.0), "acc") == found
    for other in (by_name["udcd", "ham10000"], replace(one, profile="lite"), replace(one, split="grouped")):
        assert bootstrap.find_training_noise(other, "acc").pairs == 0
    drawn = bootstrap.draw_training(one, "acc", 4, ("here",))
    assert np.quantile(np.abs(drawn), 0.95) == pytest.approx(
        found.deviation / 2 * t.ppf(0.975, found.freedom), rel=0.25
    )


# --- against the paper ------------------------------------------------------------------------------------


def test_every_verdict(typed, printed, tmp_path):
    ask = paper(folds=(0, 1))
    frame = fill(tmp_path / "kept", ask, ("scratch", "udcd"))
    store = Store(tmp_path / "kept")
    spec = next(s for s in table2().list_runs(ask) if s.method == "mtg")
    more = {("scratch", "acc"): 9.0, ("scratch", "rec"): -9.0, ("scratch", "f1"): 9.0, ("udcd", "acc"): 0.4}
    printed(frame, more)
    status, out, _ = typed("--format=json")
    got = {place: cell["verdict"] for place, cell in cells(out).items()}
    assert got["scratch", "acc"] == "lower" and got["scratch", "rec"] == "higher"
    assert got["scratch", "f1"] == "impossible" and got["udcd", "acc"] == "reproduced"
    assert {got["mtg", metric] for metric in ("acc", "ap", "rec", "f1")} == {"not run"}
    assert status == 1
    udcd = cells(out)["udcd", "acc"]
    assert udcd["low"] < udcd["ours"] < udcd["high"] and udcd["n"] == 2

    printed(frame, {("udcd", "acc"): -5.0})
    assert typed()[0] == 0, "better than the paper, and rows that are not run, fail nothing"
    store.record_failure("0" * 16, spec, "OutOfMemoryError: so big", "trace")
    status, out, _ = typed()
    assert status == 1 and "failed: The run failed" not in out
    assert "failed: 1 of 2 runs failed: OutOfMemoryError: so big" in out


def test_few_images_tell_nothing(typed, printed, tmp_path):
    printed(fill(tmp_path / "kept", paper(), n=40))
    status, out, _ = typed()
    assert status == 0 and "12 underpowered; passed" in out
    status, out, _ = typed("--tolerance=50")
    assert status == 0 and "12 reproduced; passed" in out


def test_the_table_as_a_whole(typed, printed, tmp_path):
    frame = fill(tmp_path / "kept", paper())
    printed(frame, marks={("mtg", "acc"): "second", ("scratch", "f1"): "best", ("udcd", "f1"): "second"})
    columns = {c["metric"]: c for c in json.loads(typed("--format=json")[1])["columns"]}
    assert columns["acc"]["rank"] == pytest.approx(1) and columns["acc"]["rows"] == 3
    acc, f1 = ({m["mark"]: m for m in columns[metric]["marks"]} for metric in ("acc", "f1"))
    assert (acc["best"]["method"], acc["best"]["verdict"]) == ("udcd", "holds"), "the highest as printed"
    assert acc["best"]["probability"] > 0.99 and acc["second"]["verdict"] == "holds"
    assert (f1["best"]["verdict"], f1["second"]["verdict"]) == ("fails", "fails")
    assert f1["best"]["probability"] < 0.01


def test_a_mark_among_rows_that_are_not_all_run_cannot_be_told(typed, printed, tmp_path):
    printed(fill(tmp_path / "kept", paper(), ("mtg", "udcd")))
    out = typed()[1]
    assert "over 2 of 3 rows" in out and "cannot tell" in out and "holds" not in out


def test_the_order_turned_round(typed, printed, tmp_path):
    more = {("scratch", "acc"): 20.0, ("udcd", "acc"): -20.0}
    printed(fill(tmp_path / "kept", paper()), more)
    assert "aptos ACC: rank correlation -1.00" in typed()[1]


def test_folds_and_seeds_are_those_there_are_unless_given(typed, printed, tmp_path):
    printed(fill(tmp_path / "kept", paper(folds=(0, 2), seeds=(0, 1)), n=300))
    assert {c["n"] for c in cells(typed("--format=json")[1]).values()} == {4}
    assert {c["n"] for c in cells(typed("--format=json", "--folds=2")[1]).values()} == {2}
    assert {c["n"] for c in cells(typed("--format=json", "--folds=2", "--seeds=1")[1]).values()} == {1}


def test_of_two_runs_of_a_spec_the_newest_counts(tmp_path):
    store, spec = Store(tmp_path), table2().list_runs(paper())[0]
    keep(store, spec, n=50, key="b" * 16)
    keep(store, spec, n=50, key="a" * 16)
    for age, key in enumerate(("a" * 16, "b" * 16)):
        os.utime(store.runs / key / "record.json", (1e9 + age, 1e9 + age))
    assert load_results(store).records[spec]["key"] == "b" * 16


def test_a_figure_that_a_record_lacks_comes_from_its_scores(tmp_path):
    """As when a metric or a reporting rule is newer than the run; what was stored stays."""
    store, spec = Store(tmp_path), table2().list_runs(paper())[0]
    whole = keep(store, spec, n=200)
    file = store.runs / whole["key"] / "record.json"
    stored = json.loads(file.read_text())
    for rule in ("mean", "last"):
        del stored["figures"][rule]["kappa"], stored["figures"][rule]["f1"]
    del stored["figures"]["best"]
    stored["figures"]["mean"]["acc"] = 0.125
    file.write_text(json.dumps(stored))
    got = load_results(store).records[spec]["figures"]
    assert got["mean"] == pytest.approx({**whole["figures"]["mean"], "acc": 0.125})
    assert got["last"] == pytest.approx(whole["figures"]["last"])
    assert got["best"] == pytest.approx(whole["figures"]["best"])
    frame = table2().build_frame(paper(), load_results(store))
    f1 = frame[(frame["method"] == spec.method) & (frame["metric"] == "f1")].iloc[0]
    assert f1["n"] == 1 and f1["ours"] == pytest.approx(100 * whole["figures"]["mean"]["f1"])

    (store.runs / whole["key"] / "scores.npz").unlink()
    results = load_results(store)
    assert "f1" not in results.records[spec]["figures"]["mean"]
    frame = table2().build_frame(paper(), results)
    f1, acc = (
        frame[(frame["method"] == spec.method) & (frame["metric"] == m)].iloc[0] for m in ("f1", "acc")
    )
    assert (f1["n"], acc["n"]) == (0, 1) and math.isnan(f1["ours"])


def test_the_tables_csv_has_the_checks_intervals_and_verdicts(typed, printed, tmp_path, monkeypatch):
    ask = paper(folds=(0, 1))
    printed(
        fill(tmp_path / "kept", ask, ("scratch", "udcd")), {("scratch", "acc"): 9.0, ("udcd", "acc"): 0.2}
    )
    store = Store(tmp_path / "kept")
    got = table2().render(ask, load_results(store))
    read = tables.read_csv(got.files[0], keep_default_na=False).set_index(["method", "metric"])
    checked = cells(typed("--format=json")[1])
    for place, cell in checked.items():
        row = read.loc[place]
        if cell["n"]:
            assert row["verdict"] == cell["verdict"]
            assert (float(row["low"]), float(row["high"])) == pytest.approx(
                (cell["low"], cell["high"]), abs=0.006
            )
        else:
            assert (row["verdict"], row["low"]) == ("not run", "")
    assert (
        read.loc["scratch", "acc"]["verdict"] == "lower"
        and read.loc["udcd", "acc"]["verdict"] == "reproduced"
    )
    assert "not judged" not in set(read["verdict"])
    assert "a 95 % interval of the mean, from 1000 bootstrap draws" in " ".join(got.text.split())


def test_a_stand_in_has_an_interval_and_no_verdict(tmp_path):
    ask = TableRequest("demo", methods=ROWS)
    fill(tmp_path, ask, n=100)
    frame = table2().render(ask, load_results(Store(tmp_path))).frame
    assert set(frame["verdict"]) == {"synthetic stand-in"}
    assert (frame["low"] < frame["ours"]).all() and (frame["ours"] < frame["high"]).all()


def test_what_the_interval_is_made_of_is_the_same_each_time(typed, printed, tmp_path):
    printed(fill(tmp_path / "kept", paper(), n=300))
    first = typed("--format=json")[1]
    np.random.seed(3)
    assert typed("--format=json")[1] == first


@pytest.mark.parametrize("rule", ["mean", "last", "best"])
def test_the_interval_is_of_the_epochs_reported(tmp_path, rule):
    ask = TableRequest("paper", methods=("udcd",), datasets=("aptos",), rule=rule)
    frame = fill(tmp_path, ask)
    found = uncertainty.bootstrap_table(table2(), ask, load_results(Store(tmp_path)))
    for row in frame.to_dict("records"):
        values = found["aptos", None, "udcd", row["metric"]]
        assert values.mean() == pytest.approx(row["ours"], abs=0.3)


def test_a_cell_varies_as_its_test_images_and_its_trainings_do(tmp_path):
    """Accuracy of independent images is binomial; folds are averaged; training adds what is assumed of it."""
    for folds in ((0,), (0, 1, 2, 3)):
        ask = TableRequest("paper", methods=("scratch",), datasets=("aptos",), folds=folds)
        fill(tmp_path / str(len(folds)), ask, n=1000)
        results = load_results(Store(tmp_path / str(len(folds))))
        found = uncertainty.bootstrap_table(table2(), ask, results)
        # the two epochs' mistakes are independent of each other
        binomial = 100**2 * 0.75 * 0.25 / 1000 / 2
        wanted = math.sqrt((binomial + load_tolerances().get_noise("acc") ** 2) / len(folds))
        assert found["aptos", None, "scratch", "acc"].std() == pytest.approx(wanted, rel=0.12)


# --- nothing to compare -----------------------------------------------------------------------------------


def test_a_check_that_could_judge_nothing_says_so_and_has_a_status_of_its_own(typed, printed, tmp_path):
    status, out, err = typed()
    assert status == 2 and "Nothing was compared: kept holds no finished run" in err
    assert "11 not run, 1 impossible; not judged." in out

    status, _, err = typed(plain=())
    assert status == 2 and "synthetic stand-ins" in err and "--profile paper" in err

    status, out, err = typed("--datasets=digits", "--format=json", plain=("--profile=quick",))
    assert status == 2 and "prints no figure for these rows on digits" in err
    whole = json.loads(out)
    assert (whole["passed"], whole["compared"], whole["status"], whole["outcome"]) == (
        False,
        0,
        2,
        "not judged",
    )


def stored_elsewhere(out):
    """Two rows at two seeds, of two epochs, and one row of another backbone."""
    fill(out, paper(protocol=(("epochs", 2),), seeds=(0, 1)), methods=("scratch", "mtg"))
    fill(out, paper(backbone="resnet50"), methods=("udcd",))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["check", "compare"])
def test_runs_of_other_settings_are_counted_and_the_command_that_takes_them_is_told(
    tmp_path, monkeypatch, capsys, command
):
    stored_elsewhere(tmp_path / "kept")
    tell = typist(command, PLAIN, tmp_path, monkeypatch, capsys)
    status, out, err = tell("--seeds=1", "--with=mtg" if command == "compare" else "--each")
    assert status == 2 and len(out.splitlines()) < 4, "no line for each cell that was not run"
    assert "kept holds no " in err and "it holds 4 runs by " in err and ", and 1 run by " in err
    advised = err.strip().splitlines()[-1].partition("it holds 4 runs by ")[2].partition(", and 1 run by ")
    words = shlex.split(advised[0])
    assert "--set" in words and "epochs=2" in words and "--seeds" not in words
    assert (
        shlex.split(advised[2])[-4:] == ["--out", "kept", "--backbone", "resnet50"]
        or "resnet50" in advised[2]
    )
    assert ("--compare" in words) == (command == "check")
    status, out, err = tell(*words[3:], plain=())
    assert "it holds" not in err and "n=2" in out if command == "compare" else "not judged" not in err


def test_a_folder_that_has_nothing_else_tells_what_makes_runs(typed, tmp_path):
    fill(tmp_path / "kept", paper(), methods=("scratch",))
    err = typed(plain=("--profile=paper", "--datasets=aptos", "--out=kept", "--methods=udcd"))[2]
    assert "make them with udcd-bench run table2" in err and "it holds" not in err


def test_runs_of_stand_ins_are_never_held_against_the_paper(typed, tmp_path):
    fill(tmp_path / "kept", TableRequest("demo", methods=ROWS), n=100)
    status, out, err = typed(plain=("--out=kept",))
    assert status == 2 and "synthetic stand-ins" in err and "reproduced" not in out
    fill(tmp_path / "other", paper(), n=100, synthetic=True)
    status, _, err = typed("--out=other")
    assert status == 2 and "Nothing was compared" in err


@pytest.mark.parametrize(
    ("words", "differs"),
    [
        (("--profile=quick",), "profile quick"),
        (("--split=grouped",), "split grouped"),
        (("--backbone=resnet50",), "backbone resnet50"),
        (("--set=epochs=3",), "epochs=3"),
    ],
)
def test_another_protocol_is_judged_on_request_alone(typed, printed, tmp_path, words, differs):
    plain = tuple(w for w in PLAIN if not words[0].startswith(w.partition("=")[0]))
    changes = {"split": "grouped"} if "--split=grouped" in words else {}
    changes |= {"backbone": "resnet50"} if "--backbone=resnet50" in words else {}
    changes |= {"protocol": (("epochs", 3),)} if "--set=epochs=3" in words else {}
    profile = "quick" if "--profile=quick" in words else "paper"
    ask = TableRequest(profile, methods=ROWS, datasets=("aptos",), **changes)
    printed(fill(tmp_path / "kept", ask, n=500), {("scratch", "acc"): 20.0})
    status, out, err = typed(*words, "--format=json", plain=plain)
    whole = json.loads(out)
    assert status == whole["status"] == 2 and whole["cells"] == [] and whole["other_protocol"] == [differs]
    assert f"another protocol than the paper's ({differs})" in err and "--compare" in err
    assert (
        ElementTree.fromstring(typed(*words, "--format=junit", plain=plain)[1].split("\n", 1)[1]).get(
            "errors"
        )
        == "1"
    )
    status, out, err = typed(*words, "--compare", plain=plain)
    assert status == 1 and not err and f"another protocol: {differs}" in out and "lower" in out


def test_runs_of_another_protocol_are_a_comparison_and_no_reproduction(typed, printed, tmp_path):
    """Said above the verdicts, with the numbers that differ, at the end, and in every format for programs."""
    ask = TableRequest("lite", methods=ROWS, datasets=("aptos",))
    printed(fill(tmp_path / "kept", ask, n=500))
    words = ("--profile=lite", "--compare")
    plain = tuple(word for word in PLAIN if not word.startswith("--profile"))
    lines = typed(*words, plain=plain)[1].splitlines()
    assert lines[1] == (
        "A comparison, not a reproduction: image size 64 (224 in the paper), epochs 10 (80 in the paper), backbone "
        "tf_efficientnet_lite0 (densenet121 in the paper)."
    )
    assert lines.index(next(line for line in lines if line.startswith("cell"))) > 1
    assert lines[-1].endswith("passed as a comparison, not a reproduction.")
    whole = json.loads(typed(*words, "--format=json", plain=plain)[1])
    assert whole["kind"] == "comparison"
    assert whole["protocol_differences"][0] == {"name": "image_size", "ours": 64, "paper": 224}
    assert lines[1] in typed(*words, "--format=junit", plain=plain)[1]
    assert "not a reproduction" in typed(*words, "--format=github", plain=plain)[1]
    out = typed("--profile=lite", "--format=json", plain=plain)[1]
    assert json.loads(out)["kind"] == "comparison", "judged or not"


def test_runs_of_the_papers_protocol_are_a_reproduction(typed, printed, tmp_path):
    printed(fill(tmp_path / "kept", TableRequest("paper", methods=ROWS, datasets=("aptos",)), n=500))
    whole = json.loads(typed("--format=json")[1])
    assert whole["kind"] == "reproduction" and whole["protocol_differences"] == []
    assert "comparison" not in typed()[1]


def test_a_rule_is_judged_by_its_epochs_and_told_in_every_format(typed, printed, tmp_path):
    ask = paper(protocol=(("validation", "0.2"),), rule="best")
    printed(fill(tmp_path / "kept", ask, n=500))
    words = ("--validation=.20", "--rule=best", "--compare")
    status, out, _ = typed(*words, "--format=json")
    whole = json.loads(out)
    assert status == 0 and whole["rule"] == "best" and len(whole["cells"]) == 12
    assert all(cell["ours"] == pytest.approx(cell["theirs"]) for cell in whole["cells"])
    assert whole["other_protocol"] == ["rule best", "validation=0.2"]
    assert {"name": "rule", "ours": "best", "paper": "mean"} in whole["protocol_differences"]
    for form in ("text", "junit", "github"):
        assert "rule best" in typed(*words, f"--format={form}")[1], form
    assert "split paper, rule best; another protocol" in typed(*words)[1]
    assert json.loads(typed("--format=json")[1])["rule"] == "mean"
    status, _, err = typed("--rule=best-validation")
    assert status == 2 and "no validation images to choose an epoch on; add --validation 0.2" in err


def test_validated_runs_are_told_where_others_are_asked_for(typed, printed, tmp_path):
    printed(fill(tmp_path / "kept", paper(protocol=(("validation", "0.2"),)), n=100))
    for words, says in (((), "--set validation=0.2"), (("--validation=0.3", "--rule=last"), "--rule last")):
        status, _, err = typed(*words)
        assert status == 2 and "it holds 3 runs by udcd-bench check" in err and says in err
        assert "0.3" not in err and err.count("validation=0.2") == 1


def test_another_protocol_is_told_before_anything_is_run(typed):
    status, _, err = typed("--split=grouped")
    assert status == 2 and "another protocol than the paper's (split grouped)" in err
    assert "kept holds no finished run of these cells, and" in err
    status, _, err = typed("--split=grouped", "--compare")
    assert status == 2 and re.search(r"udcd-bench run table2 --profile paper .*--split grouped", err)


# --- the table as a whole ---------------------------------------------------------------------------------


def test_one_cell_a_little_lower_fails_alone_and_not_the_table(typed, printed, tmp_path):
    """Of 12 cells one lies 2.2 standard errors below the paper, as of 12 true ones some does."""
    frame = fill(tmp_path / "kept", paper(), n=1000)
    printed(frame)
    error = cells(typed("--format=json")[1])["udcd", "acc"]
    width = error["difference_high"] - error["difference_low"]
    printed(frame, {("udcd", "acc"): 2.2 * width / 3.92})
    status, out, err = typed("--format=json")
    got, whole = cells(out)["udcd", "acc"], json.loads(out)
    assert status == 0 and not err and got["verdict"] == "lower" and got["fails_alone"] and not got["fails"]
    assert whole["table_verdict"]["verdict"] == "not lower" and whole["table_verdict"]["cells"] == 12
    assert whole["table_verdict"]["p"] == min(c["p_table"] for c in whole["cells"]) > 0.05
    junit = ElementTree.fromstring(typed("--format=junit")[1].split("\n", 1)[1])
    named = {p.get("name"): p.get("value") for p in junit.iter("property")}
    assert junit.get("failures") == "0" and (named["status"], named["verdict"]) == ("0", "not lower")
    assert "::error" not in typed("--format=github")[1]
    text = typed()[1]
    assert (
        "no cell is worse" in text
        and "verdict of the cell alone" in text
        and text.rstrip().endswith("passed.")
    )

    status, out, _ = typed("--each", "--format=json")
    assert status == 1 and cells(out)["udcd", "acc"]["fails"] and json.loads(out)["table_verdict"] is None

    printed(frame, {("udcd", "acc"): 4.5 * width / 3.92})
    status, out, _ = typed("--format=json")
    assert status == 1 and cells(out)["udcd", "acc"]["fails"]
    assert json.loads(out)["table_verdict"]["worse"] == ["aptos udcd ACC"]
    assert "12 cells together at 5 %: 1 cell is worse: on aptos, udcd in ACC (" in typed()[1]


def test_many_worse_cells_are_told_by_row_and_metric():
    def judged(dataset, method, metric, fails):
        cell = verdicts.JudgedCell(dataset, None, method, metric, 80.0, 70.0, 69.0, 71.0, 1, 1.0, "lower")
        return replace(cell, fails_table=fails)

    rows, worse = ("scratch", "kd", "mtg", "udcd"), {"acc": 4, "ap": 4, "rec": 3, "f1": 0}
    cells = [
        judged(dataset, method, metric, index < n)
        for dataset, method in itertools.product(("aptos", "ham10000"), rows)
        for index, (metric, n) in ((rows.index(method), pair) for pair in worse.items())
    ]
    where = "on aptos and ham10000, all 4 rows in ACC and AP; 3 of 4 rows (not udcd) in REC"
    assert difference.describe_worse(cells) == where
    cells += [judged("digits", method, "acc", method == "kd") for method in rows]
    assert difference.describe_worse(cells) == f"{where}; on digits, kd in ACC"


def test_every_format_says_what_was_taken_for_trainings_noise(typed, tmp_path):
    fill(tmp_path / "kept", paper(), n=300)
    assert (
        "Training's noise on APTOS 2019 is assumed, since no row has a second seed: a standard" in typed()[1]
    )
    fill(tmp_path / "kept", paper(seeds=(0, 1)), ("mtg",), n=300)
    noise = json.loads(typed("--format=json")[1])["training_noise"]["APTOS 2019"]
    assert noise["acc"]["pairs"] == 1 and noise["acc"]["freedom"] == 2 and noise["acc"]["assumed"] == 0.5
    taken = f"Training's noise on APTOS 2019: a standard deviation of {noise['acc']['deviation']:.2f} (ACC), "
    assert taken in typed()[1] and "with 2 degrees of freedom; 1 pair of seeds" in typed()[1]
    assert taken in typed("--format=junit")[1].replace("&#8217;", "’")


def test_the_published_figure_has_the_error_of_its_test_images(typed, printed, tmp_path):
    printed(fill(tmp_path / "kept", paper(folds=(0, 1)), n=1000))
    noise = load_tolerances().get_noise("acc")
    for words, n in (((), 1000), (("--their-n=250",), 250), (("--their-n=4000",), 4000)):
        got = cells(typed("--format=json", *words)[1])["scratch", "acc"]
        binomial = 100 * math.sqrt(got["theirs"] / 100 * (1 - got["theirs"] / 100) / n)
        assert got["their_error"] == pytest.approx(math.hypot(binomial, noise), rel=0.1)
    f1 = {n: cells(typed("--format=json", f"--their-n={n}")[1])["scratch", "f1"] for n in (500, 8000)}
    of_images = {n: math.sqrt(cell["their_error"] ** 2 - 1) for n, cell in f1.items()}
    assert of_images[500] == pytest.approx(4 * of_images[8000], rel=0.2)


def test_of_several_seeds_the_published_figure_is_one_training(tmp_path):
    """A mean over seeds varies less than the single training a fold that a published figure is taken for."""
    rules, spread = load_tolerances(), {}
    for seeds in ((0,), (0, 1, 2, 3)):
        ask = paper(seeds=seeds)
        frame = fill(tmp_path / str(len(seeds)), ask, n=1000)
        theirs = {verdicts.get_cell_key(row): row["ours"] for row in frame.to_dict("records")}
        given = (table2(), ask, load_results(Store(tmp_path / str(len(seeds)))))
        spread[len(seeds)] = [
            values["aptos", None, "mtg", "ap"].std()
            for values in (
                difference.draw_published_errors(*given, theirs, replace(rules, training={"other": 0.0})),
                uncertainty.bootstrap_table(*given),
            )
        ]
    (theirs_of_one, _), (theirs_of_four, ours_of_four) = spread[1], spread[4]
    assert theirs_of_four > 0.75 * theirs_of_one
    assert ours_of_four < theirs_of_four


# --- against a file ---------------------------------------------------------------------------------------


def earlier(frame, path, more=None, **changes):
    changed = frame.assign(**changes)
    for (method, metric), points in (more or {}).items():
        changed.loc[(changed["method"] == method) & (changed["metric"] == metric), "ours"] += points
    path.write_text(format_table_csv(changed), encoding="utf-8")
    return path


def test_an_earlier_result(typed, tmp_path):
    frame = fill(tmp_path / "kept", paper(), n=300)
    file = earlier(frame, tmp_path / "before.csv")
    status, out, _ = typed("--against", file)
    assert status == 0 and "12 reproduced; passed" in out
    earlier(frame, file, {("udcd", "acc"): 1.5, ("mtg", "f1"): -3})
    status, out, _ = typed("--against", file, "--format=json")
    assert status == 1
    got = {place: c["verdict"] for place, c in cells(out).items() if c["verdict"] != "reproduced"}
    assert got == {("udcd", "acc"): "lower", ("mtg", "f1"): "higher"}
    assert typed("--against", file, "--tolerance=2")[0] == 0


def test_stand_ins_compare_with_ones_own(typed, tmp_path):
    frame = fill(tmp_path / "kept", TableRequest("demo", methods=ROWS), n=100)
    file = earlier(frame, tmp_path / "before.csv")
    status, out, _ = typed("--against", file, plain=("--out=kept",))
    assert status == 0 and "24 reproduced" in out


def test_other_images_are_refused(typed, tmp_path):
    frame = fill(tmp_path / "kept", paper(), n=100)
    file = earlier(frame, tmp_path / "before.csv", split_hash="feed")
    status, _, err = typed("--against", file)
    assert status == 2 and "was tested on other images there (split hash feed, here" in err


@pytest.mark.parametrize(
    ("column", "value"), [("profile", "quick"), ("backbone", "resnet50"), ("rule", "best")]
)
def test_other_settings_are_refused(typed, tmp_path, column, value):
    frame = fill(tmp_path / "kept", paper(), n=100)
    earlier(frame, tmp_path / "before.csv", **{column: value})
    status, _, err = typed("--against=before.csv")
    assert status == 2 and f"was made with {column} {value!r} there and" in err


def test_figures_that_look_like_fractions_are_refused(typed, tmp_path):
    frame = fill(tmp_path / "kept", paper(), n=100)
    earlier(frame, tmp_path / "before.csv", ours=frame["ours"] / 100)
    status, _, err = typed("--against=before.csv")
    assert status == 2 and "look like fractions" in err


def test_a_row_of_an_earlier_result_that_is_not_run_any_more_fails(typed, tmp_path):
    frame = fill(tmp_path / "before", paper(), n=300)
    file = earlier(frame, tmp_path / "before.csv")
    fill(tmp_path / "kept", paper(), ("scratch", "mtg"), n=300)
    status, out, _ = typed("--against", file)
    assert status == 1 and "8 reproduced, 4 not run; failed" in out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read as an earlier result"),
        ("", "cannot be read as an earlier result"),
        ("a,b\n1,2\n", "it has no column 'dataset'"),
        ("dataset;rho;method;metric;ours\naptos;;udcd;acc;80,1\n", "cannot be read as an earlier result"),
        ("dataset,rho,method,metric,ours,split_hash\naptos,,udcd,acc,many,ab\n", "is no number"),
        ("dataset,rho,method,metric,ours,split_hash\n" + "aptos,,udcd,acc,8,ab\n" * 2, "appears twice"),
    ],
)
def test_a_file_that_is_no_earlier_result_is_refused(typed, tmp_path, text, says):
    if text is not None:
        (tmp_path / "before.csv").write_text(text)
    status, _, err = typed("--against=before.csv")
    assert status == 2 and says in err and err.count("\n") == 1


def test_an_earlier_result_without_a_figure_compares_nothing(typed, tmp_path):
    (tmp_path / "before.csv").write_text("dataset,rho,method,metric,ours,split_hash\naptos,,udcd,acc,,\n")
    status, _, err = typed("--against=before.csv")
    assert status == 2 and "before.csv has no figure in any cell" in err


# --- formats ----------------------------------------------------------------------------------------------


def test_formats_tell_the_same(typed, printed, tmp_path):
    frame = fill(tmp_path / "kept", paper(), ("scratch", "udcd"))
    store, ask = Store(tmp_path / "kept"), paper()
    spec = next(s for s in table2().list_runs(ask) if s.method == "mtg")
    store.record_failure("0" * 16, spec, "Error: 50% <&> a::b,\nsecond\x00line", "trace")
    printed(frame, {("scratch", "acc"): 9.0})
    assert typed("--format=text")[0] == 1

    suite = ElementTree.fromstring(typed("--format=junit")[1].split("\n", 1)[1])
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("12", "5", "0")
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed[0] == "scratch acc" and len(failed) == 5

    lines = typed("--format=github")[1].splitlines()
    assert sum(line.startswith("::error ") for line in lines) == 5
    assert lines[0].startswith("::error title=aptos scratch ACC::aptos scratch ACC: lower; ")
    assert any("50%25 <&>" in line for line in lines)
    assert lines[-1].startswith("::notice title=check table2 against paper (profile paper%2C split paper)::")
    assert all(line.startswith("::") for line in lines)

    whole = json.loads(typed("--format=json")[1])
    assert whole["passed"] is False and whole["counts"]["failed"] == 4
    assert sum(cell["fails"] for cell in whole["cells"]) == 5


def test_nothing_compared_is_an_error_in_every_format(typed):
    status, out, _ = typed("--format=junit")
    suite = ElementTree.fromstring(out.split("\n", 1)[1])
    assert status == 2 and suite.get("errors") == "1" and suite.get("skipped") == "12"
    assert {p.get("name"): p.get("value") for p in suite.iter("property")} == {
        "status": "2",
        "outcome": "not judged",
    }
    assert "::error title=" in typed("--format=github")[1]


# --- what the user can fix --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tolerance=-1",), "give more than 0"),
        (("--tolerance=nan",), "give more than 0"),
        (("--format=xml",), "xml"),
        (("--methods=udcdd",), "did you mean 'udcd'"),
        (("--datasets=aptoss",), "aptoss"),
        (("--profile=papre",), "did you mean 'paper'"),
        (("--folds=7",), "folds are 0 to 4"),
        (("--set=nonsense",), "give name=value"),
        (("--their-n=0",), "0 is not in the range"),
        (("--against=before.csv", "--their-n=9"), "leave them out with --against FILE"),
        (("--against=before.csv", "--compare"), "leave them out with --against FILE"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(typed, words, says):
    status, _, err = typed(*words)
    assert status == 2 and says in err


def test_an_unknown_table_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["udcd-bench", "check", "table9"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "did you mean 'table" in capsys.readouterr().err
