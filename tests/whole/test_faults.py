"""Kills, full disks, damage, crashes, hangs, want of memory: nothing is lost, and no figure changes."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil

import pandas as pd
import pytest

from support import factories, faults, tables
from support.faults import Fault, Full, command, in_threads, litter, record_of, settle
from udcd_bench import plugins
from udcd_bench.data import sources
from udcd_bench.data.cache import prepared
from udcd_bench.engines import execute, local
from udcd_bench.engines.events import EpochDone, Note, RunFailed, RunStarted
from udcd_bench.errors import UserError
from udcd_bench.runs import planner
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store

SIZE = {"n_images": 100, "image_size": 32, "epochs": 3}
pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("UDCD_BENCH_KILLS", "3"))
"""Of the campaign; 50 and more take minutes."""


@pytest.fixture(scope="module")
def data(prepared_lesions):
    return prepared_lesions


def options(data, out):
    return [f"--data={data}", f"--out={out}", "--device=cpu", *(f"--set={k}={v}" for k, v in SIZE.items())]


def table(data, out, methods="scratch,kd"):
    return ["run", "table2", "--datasets=synthetic-lesions", f"--methods={methods}", *options(data, out)]


def train(data, out, method="kd"):
    return ["train", method, "--dataset=synthetic-lesions", *options(data, out)]


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """A table of two runs, one the other's teacher, that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert command(folder / "said", *table(data, folder / "results")) == 0, (folder / "said").read_text()
    return Store(folder / "results")


def assert_same(store, other):
    """Every run there, to the last bit."""
    assert store.list_keys() == other.list_keys()
    for key in store.list_keys():
        assert store.find_damage(key, thorough=True) == ""
        for read in (Store.read_scores, Store.read_weights):
            one, two = read(store, key), read(other, key)
            assert one.keys() == two.keys()
            assert all(one[name].tobytes() == two[name].tobytes() for name in one)
        assert record_of(store, key) == record_of(other, key)
        rows = [
            pd.read_csv(s.verify_file(key, "history.csv")).drop(columns=["seconds", "images_per_s"])
            for s in (store, other)
        ]
        pd.testing.assert_frame_equal(*rows, check_exact=True)


def sites(marker, draw):
    """Where a start can be killed, at random but for the seed."""
    while True:
        if draw.random() < 0.4:
            yield Fault(draw.choice(("parent", "worker")), marker, after=draw.uniform(0.05, 1.5))
        else:
            call = draw.choice(faults.CALLS)
            # about as many as a worker makes
            few = {"fsync": 30, "replace": 14, "rename": 2, "unlink": 12, "rmdir": 3, "mkdir": 8, "open": 30}[
                call
            ]
            yield Fault("worker", marker, call, draw.randint(1, few), half=draw.random() < 0.5)


def test_killed_at_random_and_started_again(data, undisturbed, tmp_path, capsys):
    """Each round kills a start of a command somewhere: its parent, or a worker, which the parent starts again."""
    draw = random.Random(20240)
    kills = {"parent": 0, "worker": 0}
    for n, fault in enumerate(sites(tmp_path / "marker", draw)):
        out, said = tmp_path / f"results-{n}", tmp_path / "said"
        words = (table if draw.random() < 0.3 else train)(data, out)
        first = command(said, *words, fault=fault)
        struck = fault.marker.exists()
        if struck:
            kills[fault.who] += 1
            fault.marker.unlink()
            store = Store(out)
            settle(store)
            for key in store.list_keys():
                assert store.find_damage(key, thorough=True) == "", fault
        assert first == (-9 if struck and fault.who == "parent" else 0), (fault, said.read_text())
        assert command(said, *words) == 0, (fault, said.read_text())
        assert litter(out) == [], fault
        assert_same(Store(out), undisturbed)
        if words[0] == "run":
            texts = [tables.find_file(folder / "demo").read_bytes() for folder in (out, undisturbed.root)]
            assert texts[0] == texts[1]
        if sum(kills.values()) >= KILLS:
            break
    with capsys.disabled():
        print(f"\n{kills} killed in {n + 1} rounds")


@pytest.mark.parametrize("n", [1, 4], ids=["the first file", "after the second"])
def test_killed_while_a_table_is_written(data, undisturbed, tmp_path, n):
    out, said = tmp_path / "results", tmp_path / "said"
    shutil.copytree(undisturbed.root, out)
    shutil.rmtree(out / "demo")
    fault = Fault("parent", tmp_path / "marker", "fsync", n, half=True)
    assert command(said, *table(data, out), fault=fault) == -9
    whole = {path.name: path.read_bytes() for path in (undisturbed.root / "demo").iterdir()}
    there = {path.name: path.read_bytes() for path in (out / "demo").iterdir() if path.name[0] != "."}
    assert there.items() <= whole.items(), "what has its name is whole"
    assert command(said, *table(data, out)) == 0
    assert {path.name: path.read_bytes() for path in (out / "demo").iterdir()} == whole and litter(out) == []


FEW = 30


@pytest.fixture(scope="module")
def few_drawn(tmp_path_factory):
    """A data folder with few drawn images, that nothing happens to."""
    folder = tmp_path_factory.mktemp("few")
    sources.prepare_dataset("synthetic-lesions", size=32, data=folder, n_images=FEW)
    return folder


@pytest.mark.parametrize(
    ("call", "n"),
    [("fsync", 1), ("fsync", 2), ("rename", 1)],
    ids=["the images", "the manifest", "before they have their name"],
)
def test_killed_while_data_are_prepared(few_drawn, tmp_path, call, n):
    said, there = tmp_path / "said", tmp_path / "data"
    few = [f"--n-images={FEW}", "--size=32", "--jobs=1"]
    words = ["data", "prepare", "synthetic-lesions", *few, f"--data={there}"]
    fault = Fault("parent", tmp_path / "marker", call, n, half=True)
    assert command(said, *words, fault=fault) == -9, said.read_text()
    assert command(said, *words) == 0, said.read_text()
    for path in sources.list_prepared("synthetic-lesions", there):
        prepared.verify(path)
        assert (path / "images.npy").read_bytes() == next(few_drawn.glob("*/32/images.npy")).read_bytes()
    assert len(sources.list_prepared("synthetic-lesions", there)) == 1 and litter(there) == []


@pytest.mark.parametrize("starts", [2, 10])
def test_starts_on_one_folder_share_the_runs(data, undisturbed, tmp_path, starts):
    """Each is made once, whoever makes it, and every start ends with the whole table."""
    out, log = tmp_path / "results", tmp_path / "log"
    with contextlib.ExitStack() as stack:
        many = [
            stack.enter_context(
                faults.started(tmp_path / f"said-{n}", *table(data, out), "--jobs=1", log=log)
            )
            for n in range(starts)
        ]
        for n, process in enumerate(many):
            process.join(faults.HANG_SECONDS)
            assert process.exitcode == 0, (tmp_path / f"said-{n}").read_text()
    assert sorted(log.read_text().split()) == undisturbed.list_keys(), "each trained once"
    assert litter(out) == []
    assert_same(Store(out), undisturbed)


# --- a disk that is full --------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A start within this process on forty random images, and a folder that has a finished run."""
    held = factories.dataset()
    for name in ("prepare_data", "load_data"):
        monkeypatch.setattr(execute, name, lambda *_: held)
    in_threads(monkeypatch)

    def start(method, out, *changes):
        spec = RunSpec(
            method, "digits", "demo", "densenet-tiny", seed=dict(changes).get("seed", 0), protocol=PROTOCOL
        )
        store = Store(out)
        context = execute.RunContext(store, tmp_path, "cpu")
        jobs = planner.plan([spec], store, lambda spec: execute.collect_run_inputs(spec, context))
        store.create()
        told = []
        return local.run(jobs, context, 1, told.append), told, jobs

    return start


PROTOCOL = (("batch_size", 16), ("epochs", 2), ("image_size", 32))


def test_a_disk_that_is_full_at_any_write(here, tmp_path, monkeypatch):
    done = tmp_path / "done"
    here("scratch", done, ("seed", 1))
    earlier = {path: path.read_bytes() for path in Store(done).runs.glob("*/*")}
    whole = tmp_path / "whole"
    here("scratch", whole)
    for n in itertools.count():
        out = tmp_path / f"out-{n}"
        shutil.copytree(done, out)
        with monkeypatch.context() as patch:
            full = Full(n, os.fsync)
            patch.setattr(os, "fsync", full)
            try:
                failed, _, _ = here("scratch", out)
                says = list(failed.values())
            except UserError as error:
                says = [str(error)]
        assert {path: (out / path.relative_to(done)).read_bytes() for path in earlier} == earlier
        if full.count <= n:
            break
        if says:  # else nothing but tidying was left to do
            assert (
                len(says) == 1
                and "The disk is full" in says[0]
                and "free some space and start again" in says[0]
            )
        failed, _, jobs = here("scratch", out)
        store = Store(out)
        assert failed == {} and litter(out) == [] and len(store.list_keys()) == 2
        one, two = store.read_scores(jobs[0].key), Store(whole).read_scores(jobs[0].key)
        assert all(one[name].tobytes() == two[name].tobytes() for name in two)
    assert n > 10, "every write of a start was tried"


# --- a run's own failures ----------------------------------------------------------------------------------------


METHOD = """
import os, time
from pathlib import Path

import torch
from udcd_bench import method

MARKER = Path({marker!r})


class Method(method.BaseMethod):
    title = "Fails"
    citation = "None, 2024"

    def compute_losses(self, batch, progress):
        ce = self.cross_entropy(self.student(batch.views[0]).logits, batch.labels)
        if progress.epoch == 1:
            {what}
        return {{"ce": ce, "second": 0 * ce}}
"""


@pytest.fixture
def fails(tmp_path):
    """Makes a method that does something in its second epoch; returns the variable that says where it is."""

    def make(what):
        (tmp_path / "suite").mkdir()
        (tmp_path / "suite" / "fails.py").write_text(
            METHOD.format(marker=str(tmp_path / "marker"), what=what)
        )
        return {"UDCD_BENCH_SUITE": str(tmp_path / "suite"), "UDCD_BENCH_HANG": "5"}

    return make


ONCE = "if not MARKER.exists(): MARKER.touch(); "


@pytest.mark.parametrize(
    ("what", "how"),
    [("os.abort()", "exit code -6"), ("time.sleep(999)", "made no step for 5 s and was ended")],
    ids=["crash", "hang"],
)
def test_a_process_that_crashes_or_hangs_is_started_once_more(data, fails, tmp_path, what, how):
    said, out = tmp_path / "said", tmp_path / "results"
    assert command(said, *train(data, out, "fails"), **fails(ONCE + what)) == 0, said.read_text()
    assert how in said.read_text() and "once more" in said.read_text()
    store = Store(out)
    assert len(store.list_keys()) == 1 and litter(out) == []


def test_a_run_that_crashes_twice_has_failed_and_others_go_on(data, fails, tmp_path):
    said, out = tmp_path / "said", tmp_path / "results"
    suite = fails("os.abort()")
    assert command(said, *table(data, out, "fails,scratch"), **suite) == 1, said.read_text()
    assert "ended by itself (exit code -6), twice" in said.read_text()
    store = Store(out)
    assert len(store.list_keys()) == 1 and sorted(row.state for row in store.summarize()) == [
        "done",
        "failed",
    ]
    assert list(store.locks.folder.iterdir()) == []


def test_where_memory_runs_out_beside_another_run_fewer_share_it(data, fails, tmp_path):
    said, out = tmp_path / "said", tmp_path / "results"
    suite = fails(ONCE + "raise MemoryError")
    words = [*table(data, out, "fails,scratch"), "--jobs", "2"]
    assert command(said, *words, **suite) == 0, said.read_text()
    assert (
        "memory ran out at batch_size" in said.read_text() and "one run fewer at a time" in said.read_text()
    )
    assert len(Store(out).list_keys()) == 2 and litter(out) == []


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (
            "torch.empty(1 << 60)",
            r"memory ran out at batch_size 16 \(.*can't allocate memory.*--set batch_size=8",
        ),
        (
            "raise torch.OutOfMemoryError('CUDA out of memory.')",
            r"memory ran out at batch_size 16 \(CUDA out of",
        ),
        ("raise MemoryError", r"memory ran out at batch_size 16 \(MemoryError\)"),
        (
            "ce = ce * float('nan')",
            r"loss term ce and second is nan at epoch 1, step 0 .*checkpoint is kept; the same again: udcd-bench "
            r".*train fails --dataset digits --profile demo --backbone densenet-tiny --fold 0 --seed 0 --set batch",
        ),
        ("raise UserError('No such weights.')", r"No such weights\."),
        ("raise KeyError('x')", r"KeyError: 'x'"),
    ],
    ids=["memory", "device memory", "numpy's memory", "nan", "the user's to mend", "other"],
)
def test_a_runs_own_failure_is_told_kept_and_not_tried_again(here, fails, tmp_path, monkeypatch, what, says):
    monkeypatch.setenv(
        "UDCD_BENCH_SUITE", fails("from udcd_bench.errors import UserError; " + what)["UDCD_BENCH_SUITE"]
    )
    plugins.find_files.cache_clear()
    failed, told, (job,) = here("fails", tmp_path / "results")
    assert re.search(says, failed[job.key]), failed
    assert [type(event) for event in told] == [RunStarted, EpochDone, RunFailed]
    store = Store(tmp_path / "results")
    assert store.get_state(job.key) == "failed" and store.read_failure(job.key)["message"] == failed[job.key]
    assert "fails.py" in store.read_failure(job.key)["traceback"] or "nan" in what
    assert store.summarize()[0][2] == failed[job.key], "status shows it"
    assert store.open_checkpoint(job.key).load()[1]["epoch"] == 1, "its last checkpoint is kept"


def test_a_teachers_weights_are_made_again_when_they_turn_out_damaged(here, tmp_path):
    out = tmp_path / "results"
    here("scratch", out)
    store = Store(out)
    (key,) = store.list_keys()
    before = store.read_weights(key)
    path = store.runs / key / "student.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    failed, told, jobs = here("kd", out)
    assert failed == {} and store.list_keys() == sorted(job.key for job in jobs)
    assert all(before[name].tobytes() == value.tobytes() for name, value in store.read_weights(key).items())
    (note,) = [event.message for event in told if isinstance(event, Note)]
    assert (
        "student.safetensors is damaged (its checksum differs)" in note
        and f"{key}.1. It is made again" in note
    )
    assert (store.damaged / f"{key}.1").exists()


def test_a_damaged_checkpoint_costs_time_and_nothing_else(here, fails, tmp_path, monkeypatch):
    out = tmp_path / "results"
    suite = fails("if not MARKER.exists(): raise ValueError")["UDCD_BENCH_SUITE"]
    monkeypatch.setenv("UDCD_BENCH_SUITE", suite)
    plugins.find_files.cache_clear()
    _, _, (job,) = here("fails", out)
    path = Store(out).work / job.key / "checkpoint.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    (tmp_path / "marker").touch()
    assert here("fails", out)[0] == {} and here("fails", tmp_path / "other")[0] == {}
    one, two = Store(out).read_scores(job.key), Store(tmp_path / "other").read_scores(job.key)
    assert all(one[name].tobytes() == two[name].tobytes() for name in one) and litter(out) == []


@pytest.mark.parametrize("said", ["soon", "-1", "nan"])
def test_how_long_to_wait_is_a_number(monkeypatch, said):
    monkeypatch.setenv("UDCD_BENCH_HANG", said)
    with pytest.raises(UserError, match=f"UDCD_BENCH_HANG={said}: it is a number of seconds"):
        local.read_hang_timeout()
