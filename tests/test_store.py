"""A results folder: whole or absent, whatever fails and whenever; claims; damage and versions named."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import records
from numpy.testing import assert_array_equal

from udcd_bench import store as module
from udcd_bench.errors import UserError
from udcd_bench.spec import RunSpec
from udcd_bench.store import SCHEMA, SILENT, VERSION, Store

SPEC = RunSpec("kd", "aptos", "paper", "densenet121", hparams=(("temperature", 2.0),))
OTHER = RunSpec("mtg", "ham10000", "paper", "densenet121", rho=9.0)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "results")
    made.create()
    return made


def whole(spec):
    """What a finished run is made of."""
    history = pd.DataFrame({"epoch": [0, 1], "loss": [1.0, 0.5], "acc": [np.nan, 0.5]})
    scores = {
        "scores": np.arange(12.0, dtype=np.float32).reshape(1, 4, 3),
        "epochs": [1],
        "labels": np.array([0, 1, 2, 0]),
        "ids": ["a", "b", "ç", "d"],
    }
    weights = {"neck.weight": np.ones((2, 2), np.float32), "bn.num_batches_tracked": np.array(3)}
    return records.record(spec), history, scores, weights


def finish(store, key="k1", spec=SPEC):
    store.claim(key)
    store.begin(key, spec)
    store.save_checkpoint(key, {"a": np.ones(3)}, {"epoch": 1})
    store.finish(key, *whole(spec))
    store.release(key)


def tree(folder):
    """Every file's bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def left(store):
    """Names of what should not be there once nothing is under way."""
    return [name for name in tree(store.root) if ".tmp" in name or "claim" in name or "whole" in name]


# --- a finished run -------------------------------------------------------------------------------------------


def test_a_finished_run_is_read_back(store):
    finish(store)
    assert store.state("k1") == "done" and store.keys() == ["k1"]
    record, history, scores, weights = whole(SPEC)
    found = store.record("k1")
    assert found["schema"] == SCHEMA and found["key"] == "k1"
    assert found["figures"] == record["figures"] and RunSpec.from_dict(found["spec"]) == SPEC
    for name, value in store.scores("k1").items():
        assert_array_equal(value, scores[name])
    for name, value in store.weights("k1").items():
        assert_array_equal(value, weights[name])
        assert value.shape == weights[name].shape, "a scalar stays one"
    assert pd.read_csv(store.file("k1", "history.csv")).equals(history)
    names = {p.name for p in (store.runs / "k1").iterdir()}
    assert names == {"record.json", "history.csv", "scores.npz", "student.safetensors", "spec.json"}
    assert left(store) == []
    assert not (store.work / "k1").exists(), "its checkpoint is gone"


def test_finishing_twice_is_finishing_once(store):
    finish(store)
    before = tree(store.root)
    finish(store)
    assert tree(store.root) == before and left(store) == []


def test_the_frame_has_a_row_a_run(store):
    finish(store)
    finish(store, "k2", OTHER)
    frame = store.frame()
    assert len(frame) == 2 and set(frame["key"]) == {"k1", "k2"} and set(frame["rule"]) == {"mean"}
    wanted = {"method", "dataset", "profile", "backbone", "teacher_backbone", "split", "fold", "seed"}
    wanted |= {"fraction", "rho", "hparams", "protocol", "split_hash", "n_train", "n_test", "synthetic"}
    wanted |= {"incomplete", "dataset_title", "seconds", "device", "acc", "ap", "rec", "f1"}
    assert wanted <= set(frame.columns)
    row = frame.set_index("key").loc["k1"]
    assert row["hparams"] == "temperature=2.0" and row["acc"] == whole(SPEC)[0]["figures"]["mean"]["acc"]
    assert store.frame("best").set_index("key").loc["k1", "acc"] == whole(SPEC)[0]["figures"]["best"]["acc"]
    assert store.frame().equals(frame)
    assert Store(store.root / "none").frame().empty


def test_failures_are_remembered_until_the_run_succeeds(store):
    store.fail("k1", SPEC, "ValueError: no", "Traceback …")
    assert store.state("k1") == "failed"
    assert store.failure("k1")["message"] == "ValueError: no"
    assert [row[:3] for row in store.overview()] == [("failed", SPEC.label(), "ValueError: no")]
    finish(store)
    assert store.state("k1") == "done" and store.failure("k1") is None


def test_the_overview_tells_done_running_interrupted_and_failed(store):
    finish(store)
    store.claim("k2")
    store.begin("k2", OTHER)
    store.begin("k3", OTHER)
    store.save_checkpoint("k3", {"a": np.ones(1)}, {})
    store.fail("k4", SPEC, "RuntimeError: it", "")
    states = [state for state, _, _ in store.overview()]
    assert sorted(states) == ["done", "failed", "interrupted", "running"]
    assert store.state("k5") == "absent"


# --- a disk that is full, at any moment -----------------------------------------------------------------------


class Full:
    """The n-th call fails as on a full disk, and every one after it."""

    def __init__(self, n, call):
        self.n, self.call, self.count = n, call, 0

    def __call__(self, *arguments, **named):
        self.count += 1
        if self.count > self.n:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.call(*arguments, **named)


@pytest.mark.parametrize("where", ["fsync", "rename", "open"])
def test_a_full_disk_leaves_what_was_there(store, monkeypatch, where):
    finish(store)
    before = tree(store.runs / "k1")
    for n in range(100):
        with monkeypatch.context() as patch:
            if where == "fsync":
                full = Full(n, os.fsync)
                patch.setattr(os, "fsync", full)
            elif where == "rename":
                full = Full(n, Path.replace)
                patch.setattr(Path, "replace", lambda self, target, full=full: full(self, target))
            else:
                full = Full(n, Path.open)
                patch.setattr(Path, "open", lambda self, *a, full=full, **k: full(self, *a, **k))
            try:
                finish(store, "k2", OTHER)
            except UserError as error:
                assert "disk is full" in str(error) and "free some space" in str(error)
            else:
                break
        assert tree(store.runs / "k1") == before
        if store.state_is_done("k2"):
            # it failed after all was in place, so it has to be whole
            store.weights("k2"), store.scores("k2")
            shutil.rmtree(store.runs / "k2")
        else:
            assert store.keys() == ["k1"], "a half-finished run is none"
        store.release("k2")
        assert [name for name in tree(store.root) if name.endswith(".tmp")] == []
    assert 5 < n < 99, "every write was tried"
    finish(store, "k2", OTHER)
    assert store.keys() == ["k1", "k2"] and left(store) == []


def test_a_checkpoint_that_cannot_be_replaced_stays(store, monkeypatch):
    store.save_checkpoint("k1", {"a": np.ones(3)}, {"epoch": 1})
    monkeypatch.setattr(os, "fsync", Full(0, os.fsync))
    with pytest.raises(UserError, match="disk is full"):
        store.save_checkpoint("k1", {"a": np.zeros(3)}, {"epoch": 2})
    arrays, meta = store.load_checkpoint("k1")
    assert meta == {"epoch": 1} and arrays["a"].tolist() == [1, 1, 1]


def test_a_folder_one_may_not_write_names_out(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="choose another folder with --out"):
        Store(tmp_path / "results").create()


# --- claims ---------------------------------------------------------------------------------------------------


def claim_of(store, key, **owner):
    """A claim as another process left it."""
    path = store.work / key / "claim.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "mark": "1", **owner}))
    return path


def test_a_claim_is_held_by_one(store):
    assert store.claim("k1") and not store.claim("k1") and not Store(store.root).claim("k1")
    assert store.state("k1") == "running"
    store.release("k1")
    assert store.state("k1") == "absent" and store.claim("k1")
    store.release("k1")
    store.release("k1")


def test_a_living_processs_claim_is_respected_and_a_dead_ones_is_taken_over(store):
    code = (
        "import sys; from pathlib import Path; from udcd_bench.store import Store\n"
        "print(Store(Path(sys.argv[1])).claim('k1'), flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "True\n"
        assert store.state("k1") == "running" and not store.claim("k1")
        other.kill()
    assert store.state("k1") == "absent"
    assert store.claim("k1") and store.state("k1") == "running"
    store.release("k1")
    assert left(store) == []


def test_a_process_that_has_a_dead_ones_number_is_another(store):
    claim_of(store, "k1", mark="12345")
    assert store.state("k1") == "absent" and store.claim("k1")


def test_another_machines_claim_expires_when_it_is_silent(store):
    path = claim_of(store, "k1", host="elsewhere", pid=1)
    assert store.state("k1") == "running" and not store.claim("k1")
    silent = path.stat().st_mtime - SILENT - 10
    os.utime(path, (silent, silent))
    assert store.state("k1") == "absent"
    store.beat("k1")
    assert store.state("k1") == "running", "a beat is a sign of life"
    os.utime(path, (silent, silent))
    assert store.claim("k1")


def test_a_damaged_claim_does_not_block_for_ever(store):
    path = claim_of(store, "k1")
    path.write_text("{")
    assert store.state("k1") == "running", "it may be being written"
    os.utime(path, (path.stat().st_mtime - 60,) * 2)
    assert store.claim("k1")


@pytest.mark.parametrize("dead", [False, True])
def test_of_many_that_claim_at_once_one_has_it(store, dead):
    for n in range(10):
        if dead:
            claim_of(store, f"k{n}", mark="12345")
        gate = threading.Barrier(8)

        def claim(_, n=n, gate=gate):
            gate.wait()
            return store.claim(f"k{n}")

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(claim, range(8))) == 1


def test_a_claim_taken_over_meanwhile_is_not_taken_over_again(store, monkeypatch):
    """Two see the same dead claim; the slower one must not take away what the quicker one has by then."""
    claim_of(store, "k1", mark="12345")
    slow, quick = Store(store.root), Store(store.root)
    seen = Store._owner_lives
    taken = []

    def meanwhile(claim):
        lives = seen(claim)
        if not taken and not lives:
            taken.append(None)
            thread = threading.Thread(target=lambda: taken.append(quick.claim("k1")))
            thread.start()
            thread.join(0.5)
            taken.append(thread)
        return lives

    monkeypatch.setattr(slow, "_owner_lives", meanwhile)
    mine = slow.claim("k1")
    taken[-1].join() if isinstance(taken[-1], threading.Thread) else taken[1].join()
    assert [mine, *(x for x in taken if isinstance(x, bool))].count(True) == 1


# --- versions and damage --------------------------------------------------------------------------------------


def test_a_newer_folder_is_refused(store):
    (store.root / "store.json").write_text(json.dumps({"version": VERSION + 1}))
    with pytest.raises(UserError, match="written by a newer udcd-bench"):
        Store(store.root)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": "x"}', '{"version": null}', "3"])
def test_a_damaged_mark_is_named(store, text):
    (store.root / "store.json").write_text(text)
    with pytest.raises(UserError, match=r"store\.json is damaged"):
        Store(store.root)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="is a file; results go into a folder"):
        Store(tmp_path / "results")


def test_a_newer_record_is_refused(store):
    finish(store)
    path = store.runs / "k1" / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA + 1}))
    with pytest.raises(UserError, match="written by a newer udcd-bench"):
        store.record("k1")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": "x"}'])
def test_a_damaged_record_is_named_with_the_way_out(store, text):
    finish(store)
    (store.runs / "k1" / "record.json").write_text(text)
    with pytest.raises(UserError, match=r"is damaged; remove .*k1 and the run is made again"):
        store.record("k1")
    with pytest.raises(UserError, match="k1"):
        list(store.records())


@pytest.mark.parametrize("name", ["scores.npz", "student.safetensors", "history.csv"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_a_damaged_file_is_named_with_the_way_out(store, name, how):
    finish(store)
    path = store.runs / "k1" / name
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data[:-1] + b"!")
    read = {"scores.npz": store.scores, "student.safetensors": store.weights}
    with pytest.raises(UserError, match=f"{name} is damaged; remove .*k1 and the run is made again"):
        read.get(name, lambda key: store.file(key, name))("k1")


@pytest.mark.parametrize("how", ["cut", "empty", "noise"])
def test_a_damaged_checkpoint_is_put_aside_and_the_run_begins_anew(store, how):
    store.save_checkpoint("k1", {"a": np.arange(100.0)}, {"epoch": 1})
    path = store.work / "k1" / "checkpoint.safetensors"
    data = path.read_bytes()
    path.write_bytes({"cut": data[:60], "empty": b"", "noise": b"\xff" * 200}[how])
    assert store.load_checkpoint("k1") is None
    assert not path.exists() and path.with_suffix(".damaged").exists()
    assert store.load_checkpoint("k1") is None
    store.save_checkpoint("k1", {"a": np.arange(2.0)}, {"epoch": 1})
    assert store.load_checkpoint("k1")[1] == {"epoch": 1}


def test_a_checkpoint_keeps_every_kind_of_array(store):
    arrays = {
        "half": np.ones(3, np.float16),
        "whole": np.array(7),
        "state": np.arange(5, dtype=np.uint8),
        "strided": np.arange(12.0).reshape(3, 4).T,
        "empty": np.zeros((0, 3)),
    }
    meta = {"lr": 0.1 + 0.2, "history": [{"loss": 1e-300}]}
    store.save_checkpoint("k1", arrays, meta)
    found, again = store.load_checkpoint("k1")
    assert again == meta
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert_array_equal(found[name], value)


def test_numbers_that_json_has_no_word_for_do_not_enter_a_record(store):
    record, *rest = whole(SPEC)
    with pytest.raises(ValueError, match="JSON"):
        store.finish("k1", {**record, "seconds": float("nan")}, *rest)
    assert store.state("k1") != "done"


def test_only_room_and_rights_are_the_users_to_mend():
    other = OSError(errno.EIO, "Input/output error")
    assert module.full_disk(other, Path("x")) is other
    assert isinstance(module.full_disk(OSError(errno.EDQUOT, ""), Path("x")), UserError)


def test_a_killed_process_that_nobody_reaps_is_dead(store):
    """Process 1 of a container often reaps none; a start must not wait for a run whose process is a zombie."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        mark = module._process_mark(other.pid)
        claim_of(store, "k1", pid=other.pid, mark=mark)
        assert mark and store.state("k1") == "running"
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{other.pid}").exists() and store.state("k1") == "absent"
        assert store.claim("k1")
