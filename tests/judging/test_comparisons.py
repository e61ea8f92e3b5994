"""``compare``: rows in pairs, against what the formulas give by hand, and what it refuses to pair."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from support import records as make
from support.stored import PLAIN, ROWS, fill, keep, paper, table2, typist
from udcd_bench import cli
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.judging import comparisons
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.runs.results import load_results
from udcd_bench.runs.store import Store
from udcd_bench.stats import statistics

NOISELESS = replace(load_tolerances(), training={"other": 0.0})


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    return typist("compare", PLAIN, tmp_path, monkeypatch, capsys)


def compared(out, ask, rules=None, other="udcd"):
    results = load_results(Store(out))
    found = comparisons.compare_rows(table2(), ask, results, other, rules or load_tolerances())
    return {(row.method, row.metric): row for row in found}


def scores_of(out, ask, method):
    store = Store(out)
    there = load_results(store)
    return {
        (s.fold, s.seed): store.read_scores(there.records[s]["key"])
        for s in table2().list_runs(ask)
        if s.method == method
    }


def test_a_single_pair_is_the_paired_bootstraps(tmp_path):
    ask = paper()
    fill(tmp_path, ask, n=400)
    got = compared(tmp_path, ask, NOISELESS)
    mtg, udcd = (scores_of(tmp_path, ask, method)[0, 0] for method in ("mtg", "udcd"))
    for metric in ("acc", "f1"):
        wanted = statistics.bootstrap_difference(
            mtg["scores"],
            udcd["scores"],
            metric,
            statistics.Resampling(mtg["labels"], mtg["groups"], 20_000, np.random.default_rng(1)),
        )
        row = got["mtg", metric]
        assert row.difference == pytest.approx(100 * wanted.difference)
        # the standard error of a simulated end, 1.96 deviations out, of both
        deviation = 100 * (wanted.high - wanted.low) / 2 / 1.96
        chance = 0.025 * 0.975 * (1 / comparisons.N_DRAWS + 1 / 20_000)
        error = deviation * math.sqrt(chance) / (math.exp(-(1.96**2) / 2) / math.sqrt(2 * math.pi))
        assert (row.low, row.high) == pytest.approx((100 * wanted.low, 100 * wanted.high), abs=4 * error)
        assert row.ours - row.theirs == pytest.approx(row.difference)
        assert row.n == row.n_folds == row.n_seeds == 1 and math.isnan(row.p_t)


def test_trainings_noise_widens_the_interval_as_far_as_it_should(tmp_path):
    ask = paper()
    fill(tmp_path, ask, n=2000)
    without, within = (compared(tmp_path, ask, rules)["mtg", "acc"] for rules in (NOISELESS, None))
    wide = [(row.high - row.low) / 2 / 1.96 for row in (without, within)]
    assumed = load_tolerances().get_noise("acc")
    assert wide[1] == pytest.approx(math.sqrt(wide[0] ** 2 + 2 * assumed**2), rel=0.06)


def test_folds_and_seeds_are_paired_and_averaged(tmp_path):
    ask = paper(folds=(0, 1, 3), seeds=(0, 1))
    frame = fill(tmp_path, ask, n=300)
    got = compared(tmp_path, ask)
    of = {
        method: {
            at: 100 * statistics.compute_point_estimates(s["scores"], s["labels"])["rec"]
            for at, s in found.items()
        }
        for method in ROWS
        for found in [scores_of(tmp_path, ask, method)]
    }
    difference = {at: of["mtg"][at] - of["udcd"][at] for at in of["mtg"]}
    row = got["mtg", "rec"]
    assert (row.n, row.n_folds, row.n_seeds) == (6, 3, 2)
    assert row.difference == pytest.approx(np.mean(list(difference.values())))
    ours = frame[(frame["method"] == "mtg") & (frame["metric"] == "rec")]["ours"].iloc[0]
    assert row.ours == pytest.approx(ours)
    folds = np.array([(difference[fold, 0] + difference[fold, 1]) / 2 for fold in (0, 1, 3)])
    # Nadeau and Bengio's, written out: 800 training and 300 test images in these records
    t = folds.mean() / math.sqrt((1 / 3 + 300 / 800) * folds.var(ddof=1))
    assert row.t == pytest.approx(t)
    assert row.low < row.difference < row.high


def test_only_folds_and_seeds_of_both_are_paired(tmp_path):
    ask, store = paper(folds=(0, 1), seeds=(0, 1)), Store(tmp_path)
    lost = {("mtg", 0, 1), ("udcd", 1, 1)}
    for spec in table2().list_runs(ask):
        if spec.method in ROWS and (spec.method, spec.fold, spec.seed) not in lost:
            keep(store, spec, n=100)
    got = compared(tmp_path, ask)
    assert got["mtg", "acc"].n == 2 and got["scratch", "acc"].n == 3


def test_p_is_corrected_over_the_rows_of_its_column(tmp_path):
    ask = paper(folds=(0, 1, 2))
    fill(tmp_path, ask, n=100, right=0.8)
    got = compared(tmp_path, ask)
    for metric in ("acc", "ap", "rec", "f1"):
        column = [got[method, metric] for method in ("scratch", "mtg")]
        assert [row.p_holm for row in column] == pytest.approx(statistics.holm([row.p for row in column]))
        assert [row.p_t_holm for row in column] == pytest.approx(statistics.holm([row.p_t for row in column]))
        assert all(row.p > 0.001 for row in column), "three methods that are equally good"


def test_equal_methods_are_told_apart_as_seldom_as_p_says():
    """Of differences that are noise alone, p below 0.1 comes in a tenth."""
    rng = np.random.default_rng(0)
    ps = [statistics.compute_p_value(rng.normal(rng.normal(), 1, 400)) for _ in range(1500)]
    assert np.mean(np.array(ps) < 0.1) == pytest.approx(0.1, abs=0.025)
    assert statistics.compute_p_value(np.zeros(10)) == 1 and math.isnan(
        statistics.compute_p_value(np.array([math.nan]))
    )


def test_the_winner_and_how_probably_it_is_best(tmp_path):
    ask = paper()
    fill(tmp_path, ask)
    best = {place: row.best for place, row in compared(tmp_path, ask).items() if not math.isnan(row.best)}
    assert best.keys() == {("udcd", metric) for metric in ("acc", "ap", "rec", "f1")}
    assert min(best.values()) > 0.99
    fill(tmp_path / "even", ask, n=2000, right=0.8)
    even = [row.best for row in compared(tmp_path / "even", ask).values() if not math.isnan(row.best)]
    assert len(even) == 4 and max(even) < 0.95


def test_runs_on_other_images_of_the_same_names_are_refused(tmp_path):
    ask, store = paper(), Store(tmp_path)
    for spec in table2().list_runs(ask):
        if spec.method in ("udcd", "mtg"):
            data = {"udcd": "e" * 16, "mtg": "f" * 16}[spec.method]
            keep(store, spec, n=100, made_of=make.make_inputs(spec, data=data).to_dict())
    row = compared(tmp_path, ask)["mtg", "acc"]
    assert row.refused and row.n == 0 and row.reason.endswith("on other images of the same names")


def test_runs_on_other_images_are_refused_with_the_reason(tmp_path):
    ask, store = paper(), Store(tmp_path)
    for spec in table2().list_runs(ask):
        if spec.method == "udcd":
            keep(store, spec, n=100)
        elif spec.method == "mtg":
            keep(store, spec, n=100, split_hash="feed")
        elif spec.method == "scratch":
            keep(store, spec, n=100, shift=1)
    got = compared(tmp_path, ask)
    assert (
        "refused: fold 0, seed 0 was tested on other images (split hashes feed and"
        in got["mtg", "acc"].reason
    )
    assert "although the split hashes agree" in got["scratch", "acc"].reason
    for method in ("mtg", "scratch"):
        row = got[method, "acc"]
        assert row.refused and row.n == 0 and math.isnan(row.difference) and math.isnan(row.p_holm)


def test_lost_scores_and_rows_that_are_not_run(tmp_path):
    ask = paper()
    fill(tmp_path, ask, ("mtg", "udcd"), n=100)
    store = Store(tmp_path)
    record = next(r for s, r in load_results(store).records.items() if s.method == "mtg")
    (store.runs / record["key"] / "scores.npz").unlink()
    got = compared(tmp_path, ask)
    assert "has lost its scores" in got["mtg", "acc"].reason
    assert got["scratch", "acc"].reason == "not run" and not got["scratch", "acc"].refused
    got = compared(tmp_path, ask, other="scratch")
    assert got["udcd", "acc"].reason == "the row to compare with is not run"


# --- the command ------------------------------------------------------------------------------------------------


def test_formats_tell_the_same_and_the_file_is_written(typed, tmp_path):
    fill(tmp_path / "kept", paper(folds=(0, 1)), n=500)
    status, out, _ = typed()
    assert status == 0 and "aptos" not in out.splitlines()[0]
    assert "compare table2 with udcd (profile paper, split paper)" in out
    assert (
        "APTOS 2019 ACC" in out
        and "Holm over 2 rows; best over the folds and seeds that all rows have: UDCD, truly so with probability 1.00"
        in out
    )
    assert (
        "t=" in out and "interval: 95 %: test images (paired bootstrap" in out and "training's noise" in out
    )
    assert "synthetic" not in out
    whole = json.loads(typed("--format=json")[1])
    rows = {(row["method"], row["metric"]): row for row in whole["rows"]}
    assert (
        len(rows) == 3 * 4 and rows["mtg", "acc"]["difference"] < -8 and rows["mtg", "acc"]["p_holm"] < 0.01
    )
    assert rows["udcd", "acc"]["difference"] is None and rows["udcd", "acc"]["best"] > 0.99
    status, out, err = typed("--format=csv")
    assert status == 0 and err.strip() == "kept/paper/table2-scratch-mtg-udcd-aptos-compare.csv"
    command, _, rest = (tmp_path / err.strip()).read_text().partition("\n")
    assert (
        command == "# udcd-bench compare table2 --profile paper --datasets aptos --methods scratch,mtg,udcd"
        and rest == out
    )
    _, _, err = typed("--format=csv", "--with=scratch", "--folds=0")
    assert err.strip().endswith("-compare-with-scratch-folds-0.csv")
    command = (tmp_path / err.strip()).read_text().partition("\n")[0]
    assert command.endswith("--methods scratch,mtg,udcd --with scratch --folds 0")
    read = {(row["method"], row["metric"]): row for row in csv.DictReader(io.StringIO(out))}
    assert read["mtg", "acc"]["difference"] == f"{rows['mtg', 'acc']['difference']:.2f}"
    assert read["udcd", "acc"]["difference"] == "" and read["mtg", "acc"]["n_folds"] == "2"


def test_a_rule_is_said_in_every_format_and_in_the_files_name(typed, tmp_path):
    fill(tmp_path / "kept", paper(rule="best"), n=100)
    status, out, err = typed("--rule=best", "--format=json")
    whole = json.loads(out)
    assert status == 0 and "(profile paper, split paper, rule best)" in whole["title"]
    assert whole["rule"] == "best (best epoch by accuracy on the test set itself, which is optimistic)"
    ours = {row["method"]: row["ours"] for row in whole["rows"] if row["metric"] == "acc"}
    records = {s.method: r for s, r in load_results(Store(tmp_path / "kept")).records.items()}
    assert ours["mtg"] == pytest.approx(100 * records["mtg"]["figures"]["best"]["acc"])
    assert err.strip() == "kept/paper/table2-scratch-mtg-udcd-aptos-rule-best-compare.csv"
    assert "--rule best" in (tmp_path / err.strip()).read_text().partition("\n")[0]
    assert "rule: best (best epoch by" in typed("--rule=best")[1]
    assert json.loads(typed("--format=json")[1])["rule"].startswith("mean (mean over the last 2 epochs")


def test_one_fold_has_no_t_test_and_another_row_can_be_compared_with(typed, tmp_path):
    fill(tmp_path / "kept", paper(), n=100)
    status, out, _ = typed("--with=scratch")
    assert status == 0 and "compare table2 with scratch" in out
    assert sum(line.endswith("n/a") for line in out.splitlines()) == 2 * 4


def test_stand_ins_are_named_everywhere(typed, tmp_path):
    fill(tmp_path / "kept", TableRequest("demo", methods=ROWS), n=100)
    for form in ("text", "json", "csv"):
        status, out, _ = typed(f"--format={form}", plain=("--out=kept",))
        assert status == 0 and "(synthetic stand-in)" in out
        if form != "csv":
            assert "the images of synthetic-fundus and synthetic-lesions are drawn by a program" in out


def test_what_cannot_be_compared_fails(typed, tmp_path):
    status, _, err = typed()
    assert status == 2 and "Nothing was compared: kept holds no two rows to pair" in err
    assert not (tmp_path / "kept").exists()
    status, _, err = typed("--with=udc")
    assert status == 2 and "--with 'udc' is no row of this table" in err and "did you mean 'udcd'" in err
    status, _, err = typed("--methods=scratch,mtg", plain=("--out=kept",))
    assert (
        status == 2
        and "beside udcd, which is not among --methods; add udcd there, or give --with ROW." in err
    )
    store = Store(tmp_path / "kept")
    for spec in table2().list_runs(paper()):
        if spec.method in ROWS:
            keep(store, spec, n=100, **({"split_hash": "feed"} if spec.method == "mtg" else {}))
    status, out, _ = typed()
    assert status == 1 and "refused: fold 0, seed 0" in out


def test_metrics_that_predictions_do_not_determine_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "kept", paper(), n=100)
    words = ["compare", "metrics", "--profile=paper", "--methods=mtg,udcd", "--datasets=aptos", "--out=kept"]
    monkeypatch.setattr(sys, "argv", ["udcd-bench", *words])
    with pytest.raises(SystemExit):
        cli.main()
    out = capsys.readouterr().out
    assert "F1 of means" in out and "not compared: AUROC, AUPRC, κ, ECE" in out


def test_columns_are_headed_by_the_names_of_the_two_rows(tmp_path, typed):
    fill(tmp_path / "kept", paper(), n=60)
    for words, head in ((("--with=scratch",), "row Scratch difference"), ((), "row UDCD difference")):
        assert head in " ".join(typed(*words)[1].split())
    two = ("--profile=paper", "--methods=scratch,udcd", "--datasets=aptos", "--out=kept")
    assert "Scratch UDCD difference" in " ".join(typed(plain=two)[1].split())
