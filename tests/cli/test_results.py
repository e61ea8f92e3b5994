"""Folders of several machines: merged, exported, verified, pruned; refused with the reason where they disagree."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from support import records
from udcd_bench import plugins
from udcd_bench.cli import cli
from udcd_bench.errors import UserError
from udcd_bench.grid.cells import TableRequest
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import Bootstrap
from udcd_bench.runs import planner, rates
from udcd_bench.runs.results import load_results
from udcd_bench.runs.spec import RunSpec, resolve_split
from udcd_bench.runs.store import Store

KD = RunSpec("kd", "synthetic-lesions", "demo", "densenet-tiny")


def finish(store, spec, key="", **changes):
    """A finished run of that spec; returns its key."""
    key = key or f"{abs(hash(spec)):016x}"[:16]
    store.create()
    history = pd.DataFrame({"epoch": [0], "loss": [1.0]})
    scores = records.arrays(np.ones((1, 4, 3), np.float32), np.arange(4) % 3)
    store.finish_run(key, records.record(spec, **changes), history, scores, {"w": np.ones(2, np.float32)})
    return key


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def results(*words, **how):
    done = CliRunner().invoke(cli, ["results", *map(str, words)], **how)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.fixture
def folders(tmp_path):
    """Two folders with one run in common."""
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    for store, folds in ((one, (0, 1)), (two, (1, 2))):
        for fold in folds:
            finish(store, replace(KD, fold=fold), f"k{fold}", seconds=float(fold))
    return one, two


# --- merge ----------------------------------------------------------------------------------------------------


def test_folders_are_joined_and_again_changes_nothing(folders, tmp_path):
    one, two = folders
    before = tree(one.root), tree(two.root)
    out = Store(tmp_path / "all")
    assert "3 runs added, 0 there already, 3 in all" in results(
        "merge", one.root, two.root, "--out", out.root
    )
    assert out.list_keys() == ["k0", "k1", "k2"]
    assert all(out.find_damage(key, thorough=True) == "" for key in out.list_keys())
    assert tree(out.runs / "k0") == tree(one.runs / "k0") and tree(out.runs / "k2") == tree(two.runs / "k2")
    joined = tree(out.root)
    assert "0 runs added, 3 there already, 3 in all" in results(
        "merge", one.root, two.root, "--out", out.root
    )
    assert tree(out.root) == joined and (tree(one.root), tree(two.root)) == before
    # into one of them
    assert "1 run added" in results("merge", two.root, "--out", one.root)
    assert one.build_frame().drop(columns="seconds").equals(out.build_frame().drop(columns="seconds"))


def test_the_same_run_with_other_figures_is_refused_with_the_reason(folders, tmp_path):
    one, two = folders
    finish(two, replace(KD, fold=0), "k0", figures={"acc": 0.123456})
    for words in (
        ("merge", one.root, two.root, "--out", tmp_path / "all"),
        ("merge", one.root, "--out", two.root),
    ):
        before = tree(two.root)
        with pytest.raises(UserError, match="Nothing was merged") as error:
            results(*words)
        said = str(error.value)
        assert "kd synthetic-lesions densenet-tiny fold 0" in said and "acc 0.123456 (on cpu)" in said
        assert str(one.runs / "k0") in said and str(two.runs / "k0") in said
        assert not (tmp_path / "all").exists() and tree(two.root) == before


def test_a_run_that_only_took_longer_is_the_same(folders, tmp_path):
    one, two = folders
    finish(two, replace(KD, fold=0), "k0", seconds=99.0)
    assert "2 runs added, 0 there already" in results("merge", one.root, "--out", tmp_path / "all")
    assert "1 run added, 2 there already" in results("merge", two.root, "--out", tmp_path / "all")


def test_a_damaged_run_is_not_merged(folders, tmp_path):
    one, two = folders
    path = two.runs / "k2" / "student.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match=r"k2/student.safetensors is damaged \(its checksum differs\)"):
        results("merge", one.root, two.root, "--out", tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_a_merge_that_is_cut_short_has_whole_runs_and_goes_on(folders, tmp_path, monkeypatch):
    one, two = folders
    put, count = Store.write_run, iter(range(9))

    def stop(*arguments):
        if next(count) == 1:
            raise KeyboardInterrupt
        put(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write_run", stop)
        results("merge", one.root, two.root, "--out", tmp_path / "all")
    out = Store(tmp_path / "all")
    assert out.list_keys() == ["k0"] and out.find_damage("k0", thorough=True) == ""
    assert "2 runs added" in results("merge", one.root, two.root, "--out", out.root)


@pytest.mark.parametrize("packed_first", [True, False])
def test_of_a_packed_run_and_a_whole_one_the_whole_is_merged(folders, tmp_path, packed_first):
    one, _ = folders
    results("pack", "--to", tmp_path / "packed", "--out", one.root)
    both = (tmp_path / "packed", one.root) if packed_first else (one.root, tmp_path / "packed")
    assert "2 runs added, 0 there already, 2 in all" in results("merge", *both, "--out", tmp_path / "all")
    into_packed = results("merge", one.root, "--out", tmp_path / "packed")
    assert "0 runs added, 2 packed runs now with what was left out, 0 there already, 2 in all" in into_packed
    for folder in ("all", "packed"):
        assert tree(tmp_path / folder / "runs" / "k0") == tree(one.runs / "k0")
    assert "0 runs added, 2 there already" in results("merge", one.root, "--out", tmp_path / "all")


def test_a_folder_that_holds_no_results_is_named(folders, tmp_path):
    one, _ = folders
    for folder in (one.runs, tmp_path):
        with pytest.raises(
            UserError, match=f"{folder} is no results folder; give the one that holds store.json"
        ):
            results("merge", folder, "--out", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_folder_is_not_packed_into_itself(folders, tmp_path):
    one, _ = folders
    (tmp_path / "link").symlink_to(one.root)
    with pytest.raises(UserError, match="is the folder whose runs are packed; give another one"):
        results("pack", "--to", tmp_path / "link", "--out", one.root)


def test_what_is_no_folder_is_refused(tmp_path):
    for words in (("merge", tmp_path / "no", "--out", tmp_path / "x"), ("verify", "--out", tmp_path / "no")):
        with pytest.raises(UserError, match="no such results folder"):
            results(*words)


# --- pack -----------------------------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path):
    """Two rows of Table 2 on digits, as a run leaves them."""
    store = Store(tmp_path / "one")
    request = TableRequest(datasets=("digits",), methods=("scratch", "kd"))
    for spec in plugins.load_class("tables", "table2")().list_runs(request):
        records.finish(store, spec)
    return store, request


def test_a_packed_folder_gives_the_same_tables_and_has_no_weights(digits, tmp_path):
    store, request = digits
    said = results("pack", "--to", tmp_path / "evidence", "--out", store.root)
    assert re.search(r"2 runs added, 2 in all, \d+ kB\.", said)
    packed = Store(tmp_path / "evidence")
    assert packed.list_keys() == store.list_keys()
    assert all(packed.find_damage(key, thorough=True) == "" for key in packed.list_keys())
    assert list(packed.root.rglob("*.safetensors")) == []
    tables = [
        plugins.load_class("tables", "table2")().render(request, load_results(each)).files[0].read_bytes()
        for each in (store, packed)
    ]
    assert tables[0] == tables[1] and b"digits" in tables[0]
    for key in store.list_keys():
        whole, half = store.read_scores(key), packed.read_scores(key)
        assert all(np.array_equal(whole[name], half[name]) for name in whole if name != "embeddings")
        assert half["embeddings"].dtype == np.float32
        np.testing.assert_allclose(half["embeddings"], whole["embeddings"], rtol=1e-3, atol=1e-6)
        assert packed.read_history(key) == store.read_history(key)
    assert "2 runs are whole" in results("verify", "--out", packed.root)
    before = tree(packed.root)
    assert "0 runs added, 2 in all" in results("pack", "--to", packed.root, "--out", store.root)
    assert tree(packed.root) == before


def test_packed_without_embeddings_all_else_is_read_and_no_separation_is_judged(digits, tmp_path):
    store, _ = digits
    small = tmp_path / "small"
    results("pack", "--to", small, "--without-embeddings", "--out", store.root)
    packed = Store(small)
    assert "2 runs are whole" in results("verify", "--out", small)
    for key in store.list_keys():
        assert np.array_equal(packed.read_scores(key)["scores"], store.read_scores(key)["scores"])
        assert packed.read_scores(key)["embeddings"].shape == (len(store.read_scores(key)["labels"]), 0)
    for root, n in ((store.root, 2), (small, 0)):
        loaded = load_results(Store(root))
        judged = Bootstrap(loaded, "last", load_tolerances())
        specs = list(loaded.records)
        assert len(judged.collect_percents(specs[:1], "purity")) == (n > 0)
        assert len(judged.draw_runs(specs, ["purity"])) == n
        assert len(judged.draw_runs(specs, ["acc"])) == 2


def test_embeddings_that_were_left_out_are_merged_from_a_folder_that_has_them(digits, tmp_path):
    store, _ = digits
    small, whole = Store(tmp_path / "small"), Store(tmp_path / "whole")
    results("pack", "--to", small.root, "--without-embeddings", "--out", store.root)
    results("pack", "--to", whole.root, "--out", store.root)
    assert "0 runs added, 2 there already" in results("merge", small.root, "--out", whole.root)
    assert "2 packed runs now with what was left out" in results("merge", whole.root, "--out", small.root)
    assert tree(small.runs) == tree(whole.runs)


def test_a_packed_run_is_no_teacher(digits, tmp_path):
    store, _ = digits
    results("pack", "--to", tmp_path / "evidence", "--out", store.root)
    with pytest.raises(UserError, match="packed without its weights, so no student can learn from it"):
        Store(tmp_path / "evidence").read_weights(store.list_keys()[0])


def test_embeddings_too_large_for_half_precision_stay_whole(tmp_path):
    store, packed = Store(tmp_path / "one"), Store(tmp_path / "two")
    key = finish(store, KD)
    arrays = store.read_scores(key)
    arrays["embeddings"][0, 0] = 1e5
    store.read_scores = lambda key: dict(arrays)
    packed.pack_run(key, store)
    assert packed.read_scores(key)["embeddings"][0, 0] == np.float32(1e5)


def test_a_damaged_run_is_not_packed(folders, tmp_path):
    one, _ = folders
    (one.runs / "k1" / "history.csv").write_bytes(b"epoch\n")
    with pytest.raises(UserError, match="Nothing was packed"):
        results("pack", "--to", tmp_path / "evidence", "--out", one.root)
    assert not (tmp_path / "evidence").exists()


# --- export ---------------------------------------------------------------------------------------------------


def test_every_run_and_rule_is_a_row(folders, tmp_path):
    one, _ = folders
    said = results("export", tmp_path / "runs.csv", "--out", one.root)
    assert "2 runs, 2 of them on synthetic images" in said
    assert "Rule best is the epoch that is the most accurate on the test set itself" in said
    frame = pd.read_csv(tmp_path / "runs.csv")
    assert sorted(zip(frame["key"], frame["rule"])) == [
        (k, r) for k in ("k0", "k1") for r in ("best", "last", "mean")
    ]
    row = frame[(frame["key"] == "k0") & (frame["rule"] == "last")].iloc[0]
    assert row["rec"] == one.read_record("k0")["figures"]["last"]["rec"] and row["synthetic"]
    assert row["method"] == "kd" and row["dataset"] == "synthetic-lesions"


def test_names_with_commas_and_quotes_come_back(tmp_path):
    store, name = Store(tmp_path / "r"), 'folder:/tmp/a, "b" & ç\n_%'
    finish(store, replace(KD, dataset=name), "k0", dataset_title=name)
    results("export", tmp_path / "runs.csv", "--out", store.root)
    assert set(pd.read_csv(tmp_path / "runs.csv")["dataset"]) == {name}


def test_parquet_where_there_is_pyarrow_and_a_sentence_where_not(folders, tmp_path, monkeypatch):
    one, _ = folders
    file = tmp_path / "runs.parquet"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        patch.setitem(sys.modules, "fastparquet", None)
        with pytest.raises(
            UserError, match=r"parquet needs pyarrow; `pip install pyarrow`, or give .*runs\.csv"
        ):
            results("export", file, "--out", one.root)
        assert not file.exists()
    pytest.importorskip("pyarrow")
    results("export", file, "--out", one.root)
    assert set(pd.read_parquet(file)["key"]) == {"k0", "k1"}


def test_another_ending_and_an_empty_folder(folders, tmp_path):
    with pytest.raises(UserError, match=r"ends in \.csv or \.parquet"):
        results("export", tmp_path / "runs.txt", "--out", folders[0].root)
    Store(tmp_path / "none").create()
    assert "0 runs" in results("export", tmp_path / "runs.csv", "--out", tmp_path / "none")


# --- verify ---------------------------------------------------------------------------------------------------


def test_what_is_damaged_is_moved_aside_and_told(folders):
    one, _ = folders
    assert "2 runs are whole." in results("verify", "--out", one.root)
    path = one.runs / "k1" / "history.csv"
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    said = results("verify", "--out", one.root)
    assert "history.csv is damaged (its checksum differs)" in said and "moved to" in said
    assert "1 run is whole, 1 was not" in said
    assert one.list_keys() == ["k0"] and (one.damaged / "k1.1" / "history.csv").exists()


# --- prune ----------------------------------------------------------------------------------------------------


@pytest.fixture
def pruned(tmp_path):
    """A folder with what is needed (kept) and what is not (gone)."""
    store = Store(tmp_path / "results")
    scratch = planner.normalize_spec(replace(KD, method="scratch", fold=3, seed=2))
    first = finish(store, replace(scratch, protocol=(("epochs", 5),)), "first")
    teacher = finish(store, replace(scratch, protocol=(("epochs", 4),)), "teacher", teacher_key=first)
    kept = [first, teacher, finish(store, scratch, "new")]  # a teacher's teacher too
    kept += [finish(store, replace(scratch, method="kd"), "kd", teacher_key=teacher)]
    finish(store, scratch, "old")
    (store.runs / "old" / "record.json").touch()
    os.utime(store.runs / "old" / "record.json", (1, 1))
    finish(store, replace(scratch, dataset="digits"), "other")
    store.start_run("under-way-kept", replace(scratch, fold=1))
    store.start_run("under-way-gone", replace(scratch, backbone="resnet18", dataset="digits"))
    store.start_run("held", replace(scratch, dataset="digits"))
    assert store.acquire("held")
    store.record_failure("failed", scratch, "no", "")
    finish(store, replace(scratch, seed=1), "damaged")
    store.quarantine("damaged")
    return store, kept


def test_what_nothing_needs_is_listed_asked_about_and_removed(pruned):
    store, kept = pruned
    before = tree(store.root)
    said = results("prune", "--out", store.root, input="n\n")
    assert "Remove these 5 from" in said and tree(store.root) == before
    for name in ("old", "other", "under-way-gone", "failed", "damaged.1"):
        assert name in said
    for name in (*kept, "under-way-kept", "held"):
        assert f"runs/{name}" not in said and f"work/{name}" not in said
    assert "5 removed" in results("prune", "--out", store.root, "--yes")
    assert store.list_keys() == sorted(kept)
    assert {p.name for p in store.work.iterdir()} == {"under-way-kept", "held"}
    assert "nothing to remove" in results("prune", "--out", store.root)


@pytest.fixture
def own_table(tmp_path):
    """A table on one's own images, of another backbone and of a setting, and its runs: Scratch, KD and KD's teacher."""
    store = Store(tmp_path / "results")
    request = TableRequest(
        "demo", ("scratch", "kd"), ("folder:mine",), backbone="resnet-tiny", protocol=(("epochs", 2),)
    )
    table = plugins.load_class("tables", "table2")()
    specs = table.list_runs(request)
    teacher = finish(store, replace(specs[0], seed=7), "teacher")
    for spec in specs:
        finish(store, spec, f"of-{spec.method}", teacher_key=teacher if spec.method == "kd" else None)
    finish(store, replace(specs[0], dataset="folder:others"), "others")
    return store, table.render(request, load_results(store)).files


def test_what_a_table_on_disk_was_made_from_stays(own_table):
    store, files = own_table
    said = results("prune", "--out", store.root, input="n\n")
    assert "Remove this one from" in said
    (line,) = [line for line in said.splitlines() if "runs/" in line]
    assert "scratch others" in line
    assert (
        "in no table or figure here; one with --set epochs=2 --backbone resnet-tiny --datasets others would"
        in line
    )
    index = files[0].with_name(f"{files[0].stem}.runs.json")
    assert json.loads(index.read_text()) == {"runs": ["of-kd", "of-scratch"]}


def test_so_it_does_where_an_older_version_wrote_the_table(own_table):
    store, files = own_table
    index = files[0].with_name(f"{files[0].stem}.runs.json")
    for damaged in (b"{", b"[]", None):
        index.unlink() if damaged is None else index.write_bytes(damaged)
        said = results("prune", "--out", store.root, input="n\n")
        assert "runs/of-kd" not in said and "runs/of-scratch" not in said and "runs/teacher" not in said
    for file in files:
        file.unlink()
    assert "Remove these 4 from" in results("prune", "--out", store.root, input="n\n")


def test_it_does_in_a_folder_that_they_were_merged_or_packed_into(own_table, tmp_path):
    store, _ = own_table
    for words in (
        ("merge", store.root, "--out", tmp_path / "m"),
        ("pack", "--out", store.root, "--to", tmp_path / "m"),
    ):
        results(*words)
        assert "Remove this one from" in results("prune", "--out", tmp_path / "m", input="n\n")
        shutil.rmtree(tmp_path / "m")


def test_runs_of_a_method_that_no_suite_here_has_are_not_offered(tmp_path):
    store = Store(tmp_path / "results")
    spec = finish(store, replace(KD, method="theirs"), "theirs") and replace(KD, method="theirs", seed=1)
    store.start_run("under-way", spec)
    said = results("prune", "--out", store.root)
    assert said.startswith(
        "1 run of theirs stays, since its method is in no suite here; udcd-bench --suite DIR adds one."
    )
    assert "nothing to remove" in said


def test_another_profiles_runs_are_not_needed(pruned):
    store, _ = pruned
    assert "runs/new" in results("prune", "--profile", "paper", "--out", store.root, input="n\n")
    with pytest.raises(UserError, match="no profile 'papr'"):
        results("prune", "--profile", "papr", "--out", store.root)


# --- commands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"fold": 2, "seed": 3, "rho": 9.0, "fraction": 0.1, "split": "grouped"},
        {"backbone": "resnet18", "teacher_backbone": "densenet-tiny"},
        {"hparams": (("temperature", 0.1 + 0.2),), "protocol": (("learning_rate", 1e-7), ("epochs", 3))},
        {"dataset": 'folder:my pictures/it\'s "a" $HOME', "fraction": 1 / 3},
    ],
    ids=str,
)
def test_a_runs_command_plans_the_same_runs(change, tmp_path, monkeypatch):
    """What the shell makes of the line, the command line plans to the very same keys, teacher and all."""
    run = importlib.import_module("udcd_bench.cli.run")  # the package has a command of that name
    monkeypatch.setattr("udcd_bench.plugins.suites._ADDED_SUITES", [])
    store = Store(tmp_path / "a folder")
    jobs = planner.plan([replace(KD, **change)], store, records.make_inputs)
    lines = planner.format_commands(jobs, planner.CommandPlaces(tmp_path / "da ta", store.root, "cpu"))
    assert len(lines) == len(jobs) == 2
    asked = []

    def resolve(specs):  # as the data would, which are not the user's own
        return [replace(spec, split=resolve_split(spec.split, "paper")) for spec in specs]

    monkeypatch.setattr(
        run,
        "plan_and_run",
        lambda specs, store, how, _: (asked.append((specs, store, how)), ([], {"x": ""}))[1],
    )
    for line in lines:
        assert shlex.split(line)[0] == "udcd-bench"
        cli.main(shlex.split(line)[1:], standalone_mode=False)
    planned = [
        job.key for specs, _, _ in asked for job in planner.plan(resolve(specs), store, records.make_inputs)
    ]
    assert planned == [jobs[0].key, jobs[0].key, jobs[1].key]
    for _, there, how in asked:
        assert there.root == store.root and how.data == tmp_path / "da ta" and how.device == "cpu"


def test_done_runs_have_no_command(tmp_path):
    store = Store(tmp_path)
    jobs = planner.plan([KD], store, records.make_inputs)
    finish(store, jobs[0].spec, jobs[0].key)
    jobs = planner.plan([KD], store, records.make_inputs)
    (line,) = planner.format_commands(jobs, planner.CommandPlaces(tmp_path, tmp_path))
    assert line.split()[:3] == ["udcd-bench", "train", "kd"]


# --- many -----------------------------------------------------------------------------------------------------


def test_each_record_is_read_once(tmp_path, monkeypatch):
    """However many there are: a frame, a status and an estimate read every record once, and no other file."""
    store = Store(tmp_path)
    for fold in range(5):
        finish(store, replace(KD, fold=fold), f"k{fold}")
    jobs = planner.plan([KD], store, records.make_inputs)
    read, real = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (read.append(self.name), real(self))[1])
    for look in (store.build_frame, store.summarize, lambda: rates.estimate_seconds(jobs, store)):
        look()
        assert [name for name in read if name != "store.json"] == ["record.json"] * 5
        read.clear()
    assert json.loads((store.runs / "k0" / "record.json").read_text())["key"] == "k0"
