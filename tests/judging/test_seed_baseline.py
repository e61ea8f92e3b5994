"""``check --record`` and ``check --against`` what it wrote: figures seed by seed, on one device and on two."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from support import records as make
from support.stored import PLAIN, ROWS, fill, keep, paper, table2, typist
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.judging import seed_check
from udcd_bench.runs.store import Store

SEEDS = (0, 1, 2, 3)


@pytest.fixture
def typed(tmp_path, monkeypatch, capsys):
    return typist("check", PLAIN[:-1], tmp_path, monkeypatch, capsys)


def environment(device):
    return {**make.record(table2().list_runs(paper())[0])["environment"], "device": device}


def verdicts_of(out):
    return {(c["method"], c["metric"]): c["verdict"] for c in json.loads(out)["cells"]}


def test_what_was_recorded_is_reproduced_and_a_fall_is_seen(typed, tmp_path):
    fill(tmp_path / "before", paper(seeds=SEEDS))
    status, out, err = typed("--record=seeds.json", "--out=before")
    assert status == 0 and not err
    assert out == "seeds.json: 3 rows, 4 seeds a fold or more, of cpu.\n"
    status, out, _ = typed("--against=seeds.json", "--out=before")
    assert status == 0 and "12 reproduced; passed" in out

    fill(tmp_path / "after", paper(seeds=(7,)), ("scratch", "mtg"))
    fill(tmp_path / "after", paper(seeds=(7,)), ("udcd",), right=0.86)
    status, out, _ = typed("--against=seeds.json", "--out=after", "--format=json")
    got = verdicts_of(out)
    assert status == 1
    assert {place for place, verdict in got.items() if verdict == "lower"} == {
        ("udcd", metric) for metric in ("acc", "ap", "rec", "f1")
    }
    assert {c["n"] for c in json.loads(out)["cells"]} == {1}
    status, out, _ = typed("--against=seeds.json", "--out=after", "--tolerance=10")
    assert status == 0, "the tolerance is a floor"


def test_the_file_says_what_it_holds(typed, tmp_path):
    fill(tmp_path / "kept", paper(folds=(0, 1), seeds=(0, 1, 2)), n=60)
    typed("--record=seeds.json", "--out=kept")
    whole = json.loads((tmp_path / "seeds.json").read_text())
    assert whole["settings"]["table"] == "table2" and whole["settings"]["profile"] == "paper"
    assert list(whole["devices"]) == ["cpu"]
    cpu = whole["devices"]["cpu"]
    assert cpu["versions"]["torch"] == ["2.9.0"] and cpu["versions"]["precision"] == ["fp32"]
    assert [(row["dataset"], row["method"], row["n"]) for row in cpu["rows"]] == [
        ("aptos", m, 6) for m in ROWS
    ]
    run = cpu["rows"][0]["runs"][1]
    assert (run["fold"], run["seed"]) == (0, 1) and run["percent"].keys() == {"acc", "ap", "rec", "f1"}
    spec = next(s for s in table2().list_runs(paper(seeds=(1,))) if s.method == "scratch")
    assert run["split_hash"] == make.record(spec)["split_hash"]


def test_the_mean_of_new_seeds_falls_into_the_interval_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside, n = 0, 3000
    for _ in range(n):
        level = rng.normal(80, 5, 2)  # folds differ by far more than seeds do
        there = {(f, s): level[f] + rng.normal() for f in (0, 1) for s in range(3 + f)}
        here = {(f, s): level[f] + rng.normal() for f in (0, 1) for s in range(2 - f)}
        half, why = seed_check.compute_half_width(there, here, 0.95)
        assert not why
        inside += abs(seed_check._average_over_folds(there) - seed_check._average_over_folds(here)) <= half
    assert inside / n == pytest.approx(0.95, abs=0.015)


def test_the_interval_is_the_textbooks_for_one_fold():
    there = {(0, s): v for s, v in enumerate((80.0, 81.0, 83.0))}
    half, _ = seed_check.compute_half_width(there, {(0, 0): 82.0}, 0.95)
    assert half == pytest.approx(4.302653 * math.sqrt(7 / 3) * math.sqrt(1 / 3 + 1))
    half, why = seed_check.compute_half_width({(0, 0): 80.0, (0, 1): 81.0}, {(0, 0): 80.0}, 0.95)
    assert math.isnan(half) and "2 of a fold" in why


def test_two_seeds_are_too_few_and_it_says_so(typed, tmp_path):
    fill(tmp_path / "kept", paper(seeds=(0, 1)), n=60)
    status, _, err = typed("--record=seeds.json", "--out=kept")
    assert status == 0 and "Fewer than 3 seeds" in err
    status, out, _ = typed("--against=seeds.json", "--out=kept", "--format=json")
    assert status == 0 and set(verdicts_of(out).values()) == {"underpowered"}
    assert "the file has 2 of a fold" in json.loads(out)["cells"][0]["note"]


def test_another_device_is_refused_until_its_seeds_are_in_the_file(typed, tmp_path):
    fill(tmp_path / "cpu", paper(seeds=SEEDS), n=60)
    fill(tmp_path / "gpu", paper(seeds=SEEDS), n=60, right=0.95, environment=environment("A100"))
    typed("--record=seeds.json", "--out=cpu")
    status, _, err = typed("--against=seeds.json", "--out=gpu")
    assert status == 2 and "it has the seeds of cpu, and these runs are of A100" in err and "--record" in err
    assert typed("--record=seeds.json", "--out=gpu")[0] == 0
    devices = json.loads((tmp_path / "seeds.json").read_text())["devices"]
    assert list(devices) == ["cpu", "A100"]
    for out in ("gpu", "cpu"):
        status, told, _ = typed("--against=seeds.json", f"--out={out}", "--format=json")
        assert status == 0 and "lower" not in verdicts_of(told).values()
        assert all(c["theirs"] == c["ours"] for c in json.loads(told)["cells"])
    # recorded again: in place of what was there
    fill(tmp_path / "new", paper(seeds=(5, 6, 7)), n=60)
    typed("--record=seeds.json", "--out=new")
    again = json.loads((tmp_path / "seeds.json").read_text())["devices"]
    assert [run["seed"] for run in again["cpu"]["rows"][0]["runs"]] == [5, 6, 7]
    assert again["A100"] == devices["A100"]


def test_recording_some_rows_leaves_the_others_and_a_row_that_is_gone_fails(typed, tmp_path):
    fill(tmp_path / "before", paper(seeds=SEEDS), n=60)
    typed("--record=seeds.json", "--out=before")
    fill(tmp_path / "after", paper(seeds=(5, 6, 7)), ("scratch",), n=60)
    assert typed("--record=seeds.json", "--out=after")[0] == 0
    (cpu,) = json.loads((tmp_path / "seeds.json").read_text())["devices"].values()
    seeds = {row["method"]: [run["seed"] for run in row["runs"]] for row in cpu["rows"]}
    assert seeds == {"scratch": [5, 6, 7], "mtg": [*SEEDS], "udcd": [*SEEDS]}
    status, out, _ = typed("--against=seeds.json", "--out=after")
    assert status == 1 and "8 not run; failed" in out


def test_other_images_are_refused(typed, tmp_path):
    fill(tmp_path / "before", paper(seeds=SEEDS), n=60)
    fill(tmp_path / "after", paper(seeds=SEEDS), n=60, split_hash="feed")
    typed("--record=seeds.json", "--out=before")
    status, _, err = typed("--against=seeds.json", "--out=after")
    assert status == 2 and "fold 0, was tested on other images there" in err and "here feed" in err


def test_folds_that_only_one_side_has_are_left_out(typed, tmp_path):
    fill(tmp_path / "before", paper(folds=(0, 1), seeds=SEEDS), n=200)
    fill(tmp_path / "after", paper(folds=(1, 2), seeds=SEEDS), n=200)
    typed("--record=seeds.json", "--out=before")
    status, out, _ = typed("--against=seeds.json", "--out=after", "--format=json")
    cells = json.loads(out)["cells"]
    assert status == 0 and {c["n"] for c in cells} == {4}
    assert all(c["theirs"] == pytest.approx(c["ours"]) for c in cells), "fold 1, the same runs"


def test_other_settings_are_refused(typed, tmp_path):
    fill(tmp_path / "kept", paper(), n=60)
    typed("--record=seeds.json", "--out=kept")
    for words in (("--split=grouped",), ("--set=epochs=3",), ("--backbone=resnet50",)):
        status, _, err = typed("--against=seeds.json", "--out=kept", *words)
        assert status == 2 and "seeds.json was made with" in err
    (tmp_path / "seeds.json").write_text('{"kind": "x"}')
    assert typed("--record=seeds.json", "--out=kept")[0] == 2
    assert (tmp_path / "seeds.json").read_text() == '{"kind": "x"}', (
        "what is something else is not overwritten"
    )


def test_a_row_that_has_not_run_or_failed(typed, tmp_path):
    fill(tmp_path / "kept", paper(seeds=SEEDS), n=60)
    typed("--record=seeds.json", "--out=kept")
    status, _, err = typed("--against=seeds.json", "--out=empty")
    assert status == 2 and "holds no finished run" in err
    store = Store(tmp_path / "after")
    for spec in table2().list_runs(paper(seeds=SEEDS)):
        if spec.method == "scratch":
            keep(store, spec, n=60)
        elif spec.method == "mtg":
            store.record_failure(make.record(spec)["key"], spec, "Error: so bad", "trace")
    status, out, _ = typed("--against=seeds.json", "--out=after", "--format=json")
    got = verdicts_of(out)
    assert status == 1 and (got["mtg", "acc"], got["udcd", "acc"]) == ("failed", "not run")
    status, _, err = typed("--record=none.json", "--out=empty")
    assert status == 2 and "holds no finished run" in err and not (tmp_path / "none.json").exists()


def test_stand_ins_compare_with_ones_own_and_are_named(typed, tmp_path):
    fill(tmp_path / "kept", TableRequest("demo", methods=ROWS, seeds=SEEDS), n=3000)
    typed("--record=seeds.json", "--out=kept", plain=())
    assert (tmp_path / "seeds.json").read_text().count("(synthetic stand-in)") == 6
    status, out, _ = typed("--against=seeds.json", "--out=kept", plain=())
    assert status == 0 and "24 reproduced" in out


@pytest.mark.parametrize(
    "text",
    ["{", "{}", '{"kind": "udcd-bench figures by seed"}', "{nan"],
)
def test_a_damaged_file_is_told_in_a_sentence(typed, tmp_path, text):
    fill(tmp_path / "kept", paper(), n=60)
    (tmp_path / "bad.json").write_text(text)
    status, _, err = typed("--against=bad.json", "--out=kept")
    assert status == 2 and "bad.json: it cannot be read as figures by seed" in err and err.count("\n") == 1


def test_a_newer_file_and_both_options_are_refused(typed, tmp_path):
    fill(tmp_path / "kept", paper(), n=60)
    typed("--record=seeds.json", "--out=kept")
    status, _, err = typed("--record=seeds.json", "--against=seeds.json", "--out=kept")
    assert status == 2 and "give one of the two" in err
    file = tmp_path / "seeds.json"
    file.write_text(file.read_text().replace('"version": 1', '"version": 2'))
    status, _, err = typed("--against=seeds.json", "--out=kept")
    assert status == 2 and "newer udcd-bench" in err
