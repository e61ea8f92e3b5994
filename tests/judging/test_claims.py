"""Claims: the paper's sentences on its own figures, on runs made up, and what their file may not say."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import records
from udcd_bench import cli, plugins
from udcd_bench.errors import UserError
from udcd_bench.judging import claim_check, claim_file, paper_audit
from udcd_bench.judging.claim_check import Gain, judge_claim
from udcd_bench.runs.results import load_results
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store
from udcd_bench.stats.embeddings import measure_separation


@pytest.fixture(scope="module")
def paper():
    return {claim.name: claim for claim in claim_file.load_claims(claim_file.find_claims_file())}


def typed(monkeypatch, capsys, *words):
    """Types a command; returns (status, out, err)."""
    monkeypatch.setattr(sys, "argv", ["udcd-bench", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


# --- on the printed figures: gains and outcomes typed by hand -----------------------------------------------


@pytest.mark.parametrize(
    ("name", "outcome", "gains"),
    [
        ("best-accuracy", "holds", [0.48, 1.56]),
        ("accuracy-at-every-imbalance", "holds", [2.13, 4.38, 2.52, 2.12]),
        ("precision-at-every-imbalance", "fails", [6.38, 8.57, 11.88, 0.95]),
        ("across-metrics", "fails", [0.48, 1.45, -1.48, -0.14, 1.56, 5.52, -3.04, 4.15]),
        ("precision-up-to", "fails", [1.45, 5.52]),
        ("precision-up-to-over-any", "holds", [3.31, 11.92]),
        ("robust-under-scarcity", "cannot tell", []),
        ("every-component-matters", "cannot tell", []),
        ("every-backbone-improves-f1", "cannot tell", []),
        ("separated-clusters", "cannot tell", []),
        ("increasing-class-numbers", "cannot tell", []),
        ("announces-bma", "fails", []),
    ],
)
def test_the_papers_sentences_on_its_own_figures(paper, name, outcome, gains):
    found = claim_check.check_on_paper(paper[name])
    assert found.outcome == outcome
    assert [round(gain.gain, 2) for gain in found.gains] == gains
    assert all(f"{gain:+.2f}" in found.reason for gain in gains)


def test_a_table_that_is_named_twice_counts_twice(paper):
    claim = paper["accuracy-at-every-imbalance"]
    once, twice = (claim_check.check_on_paper(replace(claim, tables=n * claim.tables)) for n in (1, 2))
    assert twice.gains == 2 * once.gains and twice.outcome == once.outcome


def test_every_sentence_is_above(paper):
    assert len(paper) == 12


def test_no_one_rounding_rule_gives_1_to_11(paper):
    reason = claim_check.check_on_paper(paper["precision-at-every-imbalance"]).reason
    assert (
        "no single rounding rule gives 1 to 11: 11.88 only cut, 0.95 only rounded to the nearest or" in reason
    )
    assert "rule" not in claim_check.check_on_paper(paper["across-metrics"]).reason, "no rule gives 5 from -3"


def test_what_holds_by_one_rounding_rule_alone_says_so(paper):
    reason = claim_check.check_on_paper(paper["precision-up-to-over-any"]).reason
    assert reason.endswith("; only cut to whole per cents")
    assert "only" not in claim_check.check_on_paper(paper["accuracy-at-every-imbalance"]).reason


def test_columns_that_are_announced(paper):
    found = claim_check.check_on_paper(paper["announces-bma"])
    assert found.reason == "no column is called BMA; table1 and table2 print ACC, AP, REC, F1"
    assert (
        claim_check.check_on_paper(replace(paper["announces-bma"], columns=("rec", "ap"))).outcome == "holds"
    )


def test_only_one_of_eight_lies_in_5_to_11(paper):
    assert "not so in 7 of 8" in claim_check.check_on_paper(paper["across-metrics"]).reason


def test_the_audit_lists_what_fails():
    found = [f for f in paper_audit.audit_paper({}).findings if f.rule.startswith("claim")]
    assert [finding.rule for finding in found] == ["claim-fails"] * 4 + ["claim-untested"]
    assert {finding.severity for finding in found} == {"unsupported"}
    assert [len(finding.cells) for finding in found] == [8, 16, 4, 0, 0]
    assert "increasing class numbers" in found[-1].sentence and "no experiment" in found[-1].sentence


def test_there_need_be_no_claims(monkeypatch, tmp_path):
    monkeypatch.setattr(claim_file, "find_claims_file", lambda: tmp_path / "claims.toml")
    assert not [f for f in paper_audit.audit_paper({}).findings if f.rule.startswith("claim")]


# --- on runs ------------------------------------------------------------------------------------------------


class Made:
    """Runs made up, in place of a store's: each of them is a draw, and the interval has them all."""

    def __init__(self, results):
        self.results = results

    def find_values(self, spec, metric):
        return self.results.get(spec, {}).get(metric, {})

    def bound_gain(self, claim, column, gains, shared):
        values = {row: self.find_values(column.specs[row], column.metric) for row in (claim.subject, *gains)}
        choose = max if claim.over == "any" else min
        drawn = [choose(values[claim.subject][r] - values[o][r] for o in gains) for r in shared]
        return min(drawn), max(drawn)


def runs(claim, value, profile="paper", places=((0, 0),), drop=()):
    """Runs of ours for a claim: value(row, column, run) in percent."""
    made = {}
    for column in claim_file.list_claim_columns(claim, profile):
        for row, spec in column.specs.items():
            if row not in drop:
                of_metric = made.setdefault(spec, {}).setdefault(column.metric, {})
                of_metric.update({run: value(row, column, run) for run in places})
    return Made(made)


def test_no_runs_and_stand_ins_are_no_evidence(paper):
    for claim in paper.values():
        assert claim_check.check_on_runs(claim, "paper", Made({})).outcome == "cannot tell"
        made = runs(claim, lambda row, *_: 90.0 if row == "udcd" else 80.0, "demo")
        found = claim_check.check_on_runs(claim, "demo", made)
        assert found.outcome == "cannot tell"
        assert ("no runs on real data" if claim.metrics else "no run of this suite") in found.reason


def test_a_gain_whose_interval_is_not_known_settles_nothing(paper):
    made = runs(paper["best-accuracy"], lambda row, *_: 81.0 if row == "udcd" else 80.0)
    assert claim_check.check_on_runs(paper["best-accuracy"], "paper", made).outcome == "holds"
    made.bound_gain = lambda *_: (-math.inf, math.inf)
    found = claim_check.check_on_runs(paper["best-accuracy"], "paper", made)
    assert found.outcome == "cannot tell" and "ACC +1.00 over" in found.reason


def test_runs_that_disagree_cannot_tell(paper):
    claim, places = paper["robust-under-scarcity"], ((0, 0), (1, 0), (2, 0))

    def value(row, column, run):
        return 80.0 + (row == "udcd") * (1 if run[0] or column.label != "ham10000 10%" else worst)

    for worst, outcome in ((0.5, "holds"), (0, "cannot tell"), (-1, "cannot tell")):
        found = claim_check.check_on_runs(claim, "paper", runs(claim, value, places=places))
        assert found.outcome == outcome
        assert (
            f"ham10000 10% ACC {(2 + worst) / 3:+.2f} ({worst:+.2f} to +1.00, n=3) over crckd" in found.reason
        )
    below = runs(claim, lambda row, *_: 80.0 - (row == "udcd"), places=places)
    assert claim_check.check_on_runs(claim, "paper", below).outcome == "fails"


def test_a_row_or_a_column_that_was_not_run_settles_nothing_good(paper):
    claim = paper["accuracy-at-every-imbalance"]

    def good(row, *_):
        return 83.0 if row == "udcd" else 80.0

    assert claim_check.check_on_runs(claim, "paper", runs(claim, good)).outcome == "holds"
    found = claim_check.check_on_runs(claim, "paper", runs(claim, good, drop=("kd",)))
    assert found.outcome == "cannot tell" and "(1 of the other rows without runs)" in found.reason
    some = Made({spec: metrics for spec, metrics in runs(claim, good).results.items() if spec.rho != 9})
    found = claim_check.check_on_runs(claim, "paper", some)
    assert found.outcome == "cannot tell" and "1 of 4 figures are missing" in found.reason
    # a missing row can only lower the gain
    bad = runs(claim, lambda row, *_: 80.0, drop=("kd",))
    assert claim_check.check_on_runs(claim, "paper", bad).outcome == "fails"
    alone = runs(claim, good, drop=("kd", "scl-ikd", "crckd", "ssd-kd"))
    assert claim_check.check_on_runs(claim, "paper", alone).outcome == "cannot tell"


def test_a_component_left_out_is_a_run_with_its_override(paper):
    (column,) = claim_file.list_claim_columns(paper["every-component-matters"], "paper")
    assert column.specs["udcd:lambda_kl=0"].hparams == (("lambda_kl", 0.0),)
    assert column.specs["udcd:confidence=none"].hparams == (("confidence", "none"),)
    assert column.specs["udcd"].hparams == () and len(column.specs) == 6


def test_runs_come_from_the_store_and_the_newest_counts(tmp_path):
    store = Store(tmp_path)
    store.create()
    spec = RunSpec("udcd", "aptos", "paper", "densenet121")
    history = pd.DataFrame({"epoch": [0]})
    for key, of, acc in (
        ("a" * 16, spec, 0.5),
        ("b" * 16, replace(spec, fold=1), 0.7),
        ("c" * 16, replace(spec, dataset="synthetic-fundus"), 0.9),
    ):
        store.finish_run(key, records.record(of, figures={"acc": acc}), history, {}, {})
    found = claim_check.OwnResults(load_results(store))
    assert list(found.specs_by_setting) == [spec]
    assert found.find_values(spec, "acc") == {(0, 0): 50.0, (1, 0): 70.0}
    store.finish_run("0" * 16, records.record(spec, figures={"acc": 0.6}), history, {}, {})
    os.utime(store.runs / ("0" * 16) / "record.json", (2e9, 2e9))
    assert claim_check.OwnResults(load_results(store)).find_values(spec, "acc") == {
        (0, 0): 60.0,
        (1, 0): 70.0,
    }


@pytest.mark.parametrize(
    ("shares", "outcome"), [((0.9, 0.7), "holds"), ((0.80, 0.79), "cannot tell"), ((0.6, 0.8), "fails")]
)
def test_the_interval_of_a_gain_is_that_of_the_test_images_and_training(tmp_path, paper, shares, outcome):
    claim, store = paper["every-backbone-improves-f1"], Store(tmp_path)
    claim = replace(claim, backbones=("resnet50",), others=("crckd",), metrics=("acc",))
    (column,) = claim_file.list_claim_columns(claim, "paper")
    draws, n = np.random.default_rng(0), 400
    labels = np.arange(n) % 3
    for row, share in zip(("udcd", "crckd"), shares):
        right = draws.permutation(n) < round(share * n)
        scores = np.eye(3)[np.where(right, labels, (labels + 1) % 3)][None]
        record = records.record(column.specs[row], figures={"acc": right.mean()})
        store.finish_run(
            record["key"], record, pd.DataFrame({"epoch": [0]}), records.arrays(scores, labels), {}
        )
    found = claim_check.check_on_runs(claim, "paper", claim_check.OwnResults(load_results(store)))
    assert found.outcome == outcome
    (gain,) = found.gains
    # independent errors, and half a point of training on either side
    half = 1.96 * 100 * math.sqrt(sum(s * (1 - s) / n for s in shares) + 2 * 0.005**2)
    assert gain.gain == pytest.approx(100 * (shares[0] - shares[1]), abs=0.3)
    assert (gain.high - gain.low) / 2 == pytest.approx(half, rel=0.15)


def test_of_equal_rows_the_nearest_is_no_better(tmp_path, paper):
    """The nearest of many rows is so by luck, and the claim to be the best fails for one table in twenty at most."""
    claim, outcomes = paper["best-accuracy"], []
    column, _ = claim_file.list_claim_columns(claim, "paper")
    for repeat in range(12):
        store, draws, n = Store(tmp_path / str(repeat)), np.random.default_rng(repeat), 300
        labels = np.arange(n) % 3
        for row in column.rows:
            right = draws.random(n) < 0.8
            scores = np.eye(3)[np.where(right, labels, (labels + 1) % 3)][None]
            record = records.record(column.specs[row], figures={"acc": right.mean()})
            store.finish_run(
                record["key"], record, pd.DataFrame({"epoch": [0]}), records.arrays(scores, labels), {}
            )
        found = claim_check.check_on_runs(claim, "paper", claim_check.OwnResults(load_results(store)))
        outcomes.append(found.outcome)
        (gain,) = found.gains
        assert gain.low < gain.gain < gain.high
    assert outcomes.count("fails") <= 2


@pytest.mark.parametrize(
    ("apart", "outcome"), [((6.0, 0.5), "holds"), ((1.0, 1.0), "cannot tell"), ((0.5, 6.0), "fails")]
)
def test_the_classes_of_an_embedding_lie_apart_or_not(tmp_path, paper, apart, outcome):
    claim, store = replace(paper["separated-clusters"], others=("crckd",)), Store(tmp_path)
    column, _ = claim_file.list_claim_columns(claim, "paper")
    rng, n = np.random.default_rng(0), 300
    labels = np.arange(n) % 3
    for row, width in zip(("udcd", "crckd"), apart):
        embeddings = width * np.eye(8)[labels] + rng.normal(0, 1, (n, 8))
        record = records.record(column.specs[row], n_test=n)
        arrays = records.arrays(np.eye(3)[labels][None], labels, embeddings=embeddings.astype(np.float32))
        store.finish_run(record["key"], record, pd.DataFrame({"epoch": [0]}), arrays, {})
    results = claim_check.OwnResults(load_results(store))
    found = claim_check.check_on_runs(claim, "paper", results)
    assert found.outcome == outcome and [gain.metric for gain in found.gains] == ["silhouette", "purity"]
    spec = column.specs["udcd"]
    separation = measure_separation(results.bootstrap.results.read_scores(spec)["embeddings"], labels)
    assert [gain.subject for gain in found.gains] == pytest.approx(
        [100 * separation.silhouette, 100 * separation.purity]
    )
    assert all(gain.low < gain.gain < gain.high for gain in found.gains)


def test_a_run_with_one_class_has_no_silhouette_and_settles_nothing(tmp_path, paper):
    claim, store = (
        replace(paper["separated-clusters"], others=("crckd",), metrics=("silhouette",)),
        Store(tmp_path),
    )
    (column,) = claim_file.list_claim_columns(claim, "paper")
    for spec in column.specs.values():
        record = records.record(spec)
        arrays = records.arrays(np.zeros((1, 9, 3)), np.zeros(9, int))
        store.finish_run(record["key"], record, pd.DataFrame({"epoch": [0]}), arrays, {})
    found = claim_check.check_on_runs(claim, "paper", claim_check.OwnResults(load_results(store)))
    assert found.outcome == "cannot tell" and not found.gains


# --- the judgement ------------------------------------------------------------------------------------------


def gain(low, high=None):
    high = low if high is None else high
    return Gain("d", "acc", 80, "m", 80, (low + high) / 2, low, high, 2)


def claim(kind, **numbers):
    return claim_file.Claim("n", "q", "w", "r", kind, ("acc",), "s", **numbers)


@pytest.mark.parametrize(
    ("made", "gains", "outcome"),
    [
        (claim("best"), [gain(0)], "holds"),
        (claim("above"), [gain(0)], "fails"),
        (claim("above"), [gain(0, 1)], "cannot tell"),
        (claim("best"), [gain(-1, 1)], "cannot tell"),
        (claim("best"), [gain(1), gain(-1)], "fails"),
        (claim("gain-within", low=2, high=5), [gain(2), gain(5)], "holds"),
        (claim("gain-within", low=2, high=5), [gain(1.5), gain(5.49)], "holds"),  # to the nearest
        (claim("gain-within", low=2, high=5), [gain(2.1), gain(5.99)], "holds"),  # cut
        (claim("gain-within", low=2, high=5), [gain(1.1), gain(4.9)], "holds"),  # up
        (claim("gain-within", low=2, high=5), [gain(1.5), gain(5.99)], "fails"),  # one up, one down
        (claim("gain-within", low=2, high=5), [gain(1)], "fails"),
        (claim("gain-within", low=2, high=5), [gain(6)], "fails"),
        (claim("gain-within", low=2, high=5), [gain(1.4, 1.6), gain(5.3)], "cannot tell"),
        (claim("gain-within", low=1.5, high=2.5), [gain(1.6)], "holds"),
        (claim("gain-within", low=2, high=5), [gain(3), gain(4, 7)], "cannot tell"),
        (claim("gain-reaches", value=11), [gain(1), gain(10.5)], "holds"),
        (claim("gain-reaches", value=11), [gain(1), gain(10.4)], "holds"),  # up
        (claim("gain-reaches", value=11), [gain(1), gain(10)], "fails"),
        (claim("gain-reaches", value=11), [gain(11), gain(12)], "fails"),
        (claim("gain-reaches", value=11), [gain(11), gain(11.9)], "holds"),  # cut
        (claim("gain-reaches", value=11), [gain(9, 11)], "cannot tell"),
    ],
)
def test_bounds_are_met_by_one_rounding_rule_for_all_gains(made, gains, outcome):
    assert judge_claim(made, gains, len(gains)).outcome == outcome


ENDS = st.tuples(*[st.floats(-20, 20)] * 2).map(sorted)


@given(
    st.sampled_from([claim("best"), claim("above"), claim("gain-within", low=2, high=5)]),
    st.lists(ENDS, min_size=1, max_size=4),
    st.floats(0, 1),
)
def test_what_holds_or_fails_does_so_anywhere_in_the_intervals(made, ends, share):
    wide = judge_claim(made, [gain(*pair) for pair in ends], len(ends)).outcome
    at = [gain(min(max(low + share * (high - low), low), high)) for low, high in ends]
    if wide != "cannot tell":
        assert judge_claim(made, at, len(at)).outcome == wide


# --- the file and the command -------------------------------------------------------------------------------

GOOD = """subject = "udcd"
[[claim]]
name = "n"
quote = "q"
where = "w"
reading = "r"
kind = "gain-within"
tables = ["table2"]
metrics = ["acc"]
low = 1
high = 2.5
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[[claim]]", "[[claim", "cannot be read as claims"),
        ("[[claim]]", "[claim]", "a list of claims"),
        ("[[claim]]", "[[clam]]", "a list of claims"),
        ('subject = "udcd"', "", "a subject"),
        ('subject = "udcd"', "subject = 3", "a subject"),
        ("high = 2.5", "hihg = 2.5", "no field 'hihg'; did you mean 'high'?"),
        ("high = 2.5", "", "'high' is missing, and gain-within needs it"),
        ("high = 2.5", "high = true", "high: invalid value True; give numbers"),
        ("high = 2.5", 'high = 2.5\nover = "all"', "over is nearest or any"),
        ("gain-within", "gain-withni", "no kind 'gain-withni'; did you mean 'gain-within'?"),
        ('["acc"]', '["acx"]', "no metric 'acx'; did you mean 'acc'?"),
        ('["acc"]', '"acc"', "give a list of text"),
        ('["acc"]', "[1]", "give a list of text"),
        ('tables = ["table2"]', "", "give either tables, or a dataset with others"),
        ('tables = ["table2"]', 'dataset = "aptos"', "give either tables, or a dataset with others"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(monkeypatch, capsys, tmp_path, old, new, says):
    file = tmp_path / "claims.toml"
    file.write_text(GOOD)
    assert [c.high for c in claim_file.load_claims(file)] == [2.5]
    assert math.isnan(claim_file.load_claims(file)[0].value)
    file.write_text(GOOD.replace(old, new))
    monkeypatch.setattr(claim_file, "find_claims_file", lambda: file)
    status, _, err = typed(monkeypatch, capsys, "claims", "--out", tmp_path / "results")
    assert status == 2 and says in err and str(file) in err


@pytest.mark.parametrize(("kind", "lacks"), [("printed", "columns"), ("no-experiment", "")])
def test_a_claim_without_gains_needs_no_metric(tmp_path, kind, lacks):
    file = tmp_path / "claims.toml"
    text = GOOD.replace("gain-within", kind).replace('metrics = ["acc"]\nlow = 1\nhigh = 2.5\n', "")
    file.write_text(text)
    if lacks:
        with pytest.raises(UserError, match=f"'{lacks}' is missing, and {kind} needs it"):
            claim_file.load_claims(file)
    else:
        assert claim_file.load_claims(file)[0].metrics == ()


def test_an_unknown_table_and_an_absent_file(tmp_path):
    file = tmp_path / "claims.toml"
    with pytest.raises(UserError, match="cannot be read"):
        claim_file.load_claims(file)
    file.write_text(GOOD.replace("table2", "tabel2"))
    with pytest.raises(UserError, match="did you mean 'table2'"):
        claim_check.check_on_paper(claim_file.load_claims(file)[0])


def test_the_command(monkeypatch, capsys, tmp_path):
    status, out, err = typed(monkeypatch, capsys, "claims", "--out", tmp_path / "none")
    assert status == 0 and not err and not (tmp_path / "none").exists()
    assert "published  holds: aptos ACC +0.48 over ssd-kd, ham10000 ACC +1.56 over rkd." in out
    assert "ours       cannot tell: no runs on real data: profile demo has synthetic stand-ins" in out
    words = ("claims", "--out", tmp_path / "none", "--profile", "paper", "--format", "json")
    status, out, _ = typed(monkeypatch, capsys, *words)
    report = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert status == 0 and report["profile"] == "paper" and len(report["claims"]) == 12
    assert report["claims"][0]["ours"]["outcome"] == "cannot tell"
    assert report["claims"][3]["published"]["gains"][2]["gain"] == pytest.approx(-1.48)
    status, _, err = typed(monkeypatch, capsys, "claims", "--profile", "papr")
    assert status == 2 and "did you mean 'paper'" in err
    status, out, _ = typed(monkeypatch, capsys, "audit")
    assert status == 0 and "claim-fails: 4 (unsupported)" in out and "claim-untested: 1" in out


def test_the_claims_are_packaged():
    assert (
        claim_file.find_claims_file().is_file()
        and claim_file.find_claims_file().parent == plugins.find_root() / "tables"
    )
