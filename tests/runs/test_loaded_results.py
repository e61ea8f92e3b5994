"""What a loaded folder has of a run under other specs that mean the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support import records
from udcd_bench import plugins
from udcd_bench.runs import results as loading
from udcd_bench.runs.names import join_teachers
from udcd_bench.runs.results import load_results
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store

KD = RunSpec("kd", "digits", "demo", "densenet-tiny")
USUAL, OTHER = KD.build_teacher_spec(), KD.build_teacher_spec("crd")


def load(root, made, teacher):
    """A folder with a Scratch run, a CRD run, and a KD run that was made as this spec by the run of this teacher."""
    store = Store(root)
    keys = {spec: records.store_run(store, records.record(spec))["key"] for spec in (USUAL, OTHER)}
    key = keys[teacher]
    made = replace(made, teacher=made.teacher.format(key))
    records.store_run(store, records.record(made, teacher_key=key))
    return load_results(store), made, key


@pytest.mark.parametrize("made", ["", "run:{}"])
def test_the_usual_teacher_may_be_named_by_its_key_and_its_key_left_out(tmp_path, made):
    results, made, key = load(tmp_path, replace(KD, teacher=made), USUAL)
    by_key = replace(KD, teacher=f"run:{key}")
    assert results.records[KD] is results.records[by_key] and results.records[KD]["teacher_key"] == key
    assert set(results.list_made()) == {USUAL, OTHER, made}, "each once"


@pytest.mark.parametrize("made", ["crd", "run:{}"])
def test_a_row_that_teaches_may_be_named_by_the_key_of_its_run(tmp_path, made):
    results, _, key = load(tmp_path, replace(KD, teacher=made), OTHER)
    assert results.records[replace(KD, teacher="crd")] is results.records[replace(KD, teacher=f"run:{key}")]
    assert KD not in results.records, "whose teacher is Scratch"


@pytest.mark.parametrize("by", ["rows", "keys"])
def test_several_teachers_may_be_named_by_rows_or_keys(tmp_path, by):
    store = Store(tmp_path)
    keys = sorted(records.store_run(store, records.record(spec))["key"] for spec in (USUAL, OTHER))
    by_keys, by_rows = join_teachers(f"run:{key}" for key in keys), join_teachers(["scratch", "crd"])
    spec = replace(KD, teacher=by_rows if by == "rows" else by_keys)
    records.store_run(store, records.record(spec, made_of={"teacher_keys": keys}))
    loaded = load_results(store).records
    assert loaded[replace(KD, teacher=by_rows)] is loaded[replace(KD, teacher=by_keys)] and KD not in loaded
    records.store_run(
        store, records.record(spec, key="f", made_of={"teacher_keys": keys, "teacher_files": ["x"]})
    )
    other = replace(KD, teacher=by_keys if by == "rows" else by_rows)
    assert load_results(store).records[spec]["key"] == "f" and other not in load_results(store).records


def test_another_teacher_is_another_run(tmp_path):
    store = Store(tmp_path)
    taught_elsewhere = replace(USUAL, protocol=(("epochs", 3),))
    key = records.store_run(store, records.record(taught_elsewhere))["key"]
    records.store_run(store, records.record(replace(KD, teacher=f"run:{key}"), teacher_key=key))
    results = load_results(store)
    assert replace(KD, teacher=f"run:{key}") in results.records and KD not in results.records


def test_of_two_runs_the_one_by_the_method_as_it_is_here_is_taken_even_if_it_is_older(tmp_path):
    store, sources = Store(tmp_path), plugins.hash_sources("methods", "kd")
    mine = records.store_run(store, records.record(KD, key="b", made_of={"sources": sources}))
    for key in ("a", "c"):  # as after another suite's method of this name
        records.store_run(store, records.record(KD, key=key, made_of={"sources": {"kd.py": key}}))
    assert load_results(store).records[KD]["key"] == mine["key"]


@pytest.mark.parametrize(("most", "times"), [({}, 2), ({"MAX_KEPT": 1}, 4), ({"MAX_KEPT_BYTES": 1}, 4)])
def test_scores_are_read_once_while_there_is_room_and_nobody_may_change_them(
    tmp_path, monkeypatch, most, times
):
    for name, value in most.items():
        monkeypatch.setattr(loading, name, value)
    store = Store(tmp_path)
    for spec in (USUAL, OTHER):
        records.finish(store, spec)
    loaded = load_results(store)
    files = []
    read = store.read_scores
    monkeypatch.setattr(store, "read_scores", lambda key: files.append(key) or read(key))
    for spec in (USUAL, OTHER, USUAL, OTHER):
        arrays = loaded.read_scores(spec)
        with pytest.raises(ValueError, match="read-only"):
            arrays["scores"] += 1
        arrays.clear()  # a dict of the caller's own
        assert loaded.read_scores(spec)["scores"].any()
    assert len(files) == times
