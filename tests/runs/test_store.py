"""A results folder: whole or absent, whatever fails and whenever; claims; damage and versions named."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from support import records
from support.faults import Full
from support.stored import keep, paper, table2
from udcd_bench.errors import UserError
from udcd_bench.runs import locks, planner
from udcd_bench.runs.locks import LEASE
from udcd_bench.runs.records import check_record
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import RECORD_SCHEMA, STORE_VERSION, DamagedRunError, Store
from udcd_bench.storage.atomic import as_user_error
from udcd_bench.storage.owners import format_owner, read_process_start_time

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
    scores = np.arange(12.0, dtype=np.float32).reshape(1, 4, 3)
    scores = records.arrays(scores, np.array([0, 1, 2, 0]), epochs=[1], ids=["a", "b", "ç", "d"])
    weights = {"neck.weight": np.ones((2, 2), np.float32), "bn.num_batches_tracked": np.array(3)}
    return records.record(spec), history, scores, weights


def finish(store, key="k1", spec=SPEC):
    store.acquire(key)
    store.start_run(key, spec)
    store.open_checkpoint(key).save({"a": np.ones(3)}, {"epoch": 1})
    store.finish_run(key, *whole(spec))
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
    assert store.get_state("k1") == "done" and store.list_keys() == ["k1"]
    record, history, scores, weights = whole(SPEC)
    found = store.read_record("k1")
    assert found["schema"] == RECORD_SCHEMA and found["key"] == "k1"
    assert found["figures"] == record["figures"] and RunSpec.from_dict(found["spec"]) == SPEC
    for name, value in store.read_scores("k1").items():
        assert_array_equal(value, scores[name])
    for name, value in store.read_weights("k1").items():
        assert_array_equal(value, weights[name])
        assert value.shape == weights[name].shape, "a scalar stays one"
    assert pd.read_csv(store.verify_file("k1", "history.csv")).equals(history)
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
    frame = store.build_frame()
    assert len(frame) == 2 and set(frame["key"]) == {"k1", "k2"} and set(frame["rule"]) == {"mean"}
    wanted = {"method", "dataset", "profile", "backbone", "teacher_backbone", "split", "fold", "seed"}
    wanted |= {"fraction", "rho", "hparams", "protocol", "split_hash", "n_train", "n_test", "synthetic"}
    wanted |= {"incomplete", "dataset_title", "seconds", "device", "acc", "ap", "rec", "f1"}
    assert wanted <= set(frame.columns)
    row = frame.set_index("key").loc["k1"]
    assert row["hparams"] == "temperature=2.0" and row["acc"] == whole(SPEC)[0]["figures"]["mean"]["acc"]
    assert (
        store.build_frame("best").set_index("key").loc["k1", "acc"]
        == whole(SPEC)[0]["figures"]["best"]["acc"]
    )
    assert store.build_frame().equals(frame)
    assert Store(store.root / "none").build_frame().empty


def test_failures_are_remembered_until_the_run_succeeds(store):
    store.record_failure("k1", SPEC, "ValueError: no", "Traceback …")
    assert store.get_state("k1") == "failed"
    assert store.read_failure("k1")["message"] == "ValueError: no"
    assert store.summarize() == [("failed", SPEC.format_label(), "ValueError: no", "k1")]
    finish(store)
    assert store.get_state("k1") == "done" and store.read_failure("k1") is None


def test_the_overview_tells_done_running_interrupted_and_failed(store):
    finish(store)
    store.acquire("k2")
    store.start_run("k2", OTHER)
    store.start_run("k3", OTHER)
    store.open_checkpoint("k3").save({"a": np.ones(1)}, {"history": [{"seconds": 2.0}, {"seconds": 4.0}]})
    store.record_failure("k4", SPEC, "RuntimeError: it", "")
    rows = store.summarize()
    assert sorted(row.state for row in rows) == ["done", "failed", "interrupted", "running"]
    assert [(row.label, row.key) for row in rows] == sorted((row.label, row.key) for row in rows)
    remarks = {row.key: row.remark for row in rows}
    epochs = planner.count_epochs(OTHER)
    assert remarks["k2"] == f"no epoch of {epochs} is saved yet"
    assert remarks["k3"] == f"epoch 2 of {epochs}, about {3 * (epochs - 2) / 60:.0f} min left"
    assert store.get_state("k5") == "absent"


# --- a disk that is full, at any moment -----------------------------------------------------------------------


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
        if store.is_finished("k2"):
            # it failed after all was in place, so it has to be whole
            store.read_weights("k2"), store.read_scores("k2")
            shutil.rmtree(store.runs / "k2")
        else:
            assert store.list_keys() == ["k1"], "a half-finished run is none"
        store.release("k2")
        assert [name for name in tree(store.root) if name.endswith(".tmp")] == []
    assert 5 < n < 99, "every write was tried"
    finish(store, "k2", OTHER)
    assert store.list_keys() == ["k1", "k2"] and left(store) == []


def test_a_checkpoint_that_cannot_be_replaced_stays(store, monkeypatch):
    store.open_checkpoint("k1").save({"a": np.ones(3)}, {"epoch": 1})
    monkeypatch.setattr(os, "fsync", Full(0, os.fsync))
    with pytest.raises(UserError, match="disk is full"):
        store.open_checkpoint("k1").save({"a": np.zeros(3)}, {"epoch": 2})
    arrays, meta = store.open_checkpoint("k1").load()
    assert meta == {"epoch": 1} and arrays["a"].tolist() == [1, 1, 1]


def test_a_folder_one_may_not_write_names_out(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="choose another folder with --out"):
        Store(tmp_path / "results").create()


# --- claims ---------------------------------------------------------------------------------------------------


def claim_of(store, key, name):
    """A claim as another process left it."""
    path = store.locks.folder / f"{key}.{name}.0123abcd"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


DEAD = re.sub("[0-9]+$", "12345", format_owner())
"""Once had this process's number, on this machine."""
ELSEWHERE = "00000000-1-99"
"""A process of another machine."""


def test_a_claim_is_held_by_one(store):
    assert store.acquire("k1") and not store.acquire("k1") and not Store(store.root).acquire("k1")
    assert store.get_state("k1") == "running"
    store.release("k1")
    assert store.get_state("k1") == "absent" and store.acquire("k1")
    store.release("k1")
    store.release("k1")
    assert left(store) == []


def test_a_living_processs_claim_is_respected_and_a_dead_ones_is_taken_over(store):
    code = (
        "import sys; from pathlib import Path; from udcd_bench.runs.store import Store\n"
        "print(Store(Path(sys.argv[1])).acquire('k1'), flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, store.root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "True\n"
        assert store.get_state("k1") == "running" and not store.acquire("k1")
        store.release("k1")
        assert store.get_state("k1") == "running", "only its owner gives it back"
        other.kill()
    assert store.get_state("k1") == "absent"
    assert store.acquire("k1") and store.get_state("k1") == "running"
    store.release("k1")
    assert left(store) == []


def test_a_process_that_has_a_dead_ones_number_is_another(store):
    claim_of(store, "k1", DEAD)
    assert store.get_state("k1") == "absent" and store.acquire("k1")


def test_another_machines_claim_expires_when_it_is_silent(store):
    path = claim_of(store, "k1", ELSEWHERE)
    assert store.get_state("k1") == "running" and not store.acquire("k1")
    store.release("k1")
    assert path.exists()
    silent = path.stat().st_mtime - LEASE - 10
    os.utime(path, (silent, silent))
    assert store.get_state("k1") == "absent"
    assert store.acquire("k1") and not path.exists()


def test_signs_of_life_come_while_the_process_is_busy(store, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT", 0.01)
    assert store.acquire("k1")
    (path,) = store.locks.folder.iterdir()
    os.utime(path, (0, 0))
    with store.locks.heartbeat("k1"):
        end = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < end
    assert store.get_state("k1") == "running"
    os.utime(path, (0, 0))
    time.sleep(0.05)
    assert path.stat().st_mtime == 0, "and cease with the run"


def test_a_clock_that_goes_wrong_takes_nothing_over(store, monkeypatch):
    """Silence is measured by the file system's clock: this machine's may be an hour ahead."""
    path = claim_of(store, "k1", ELSEWHERE)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)
    assert not store.acquire("k1") and path.exists()


RACE = """
import fcntl, os, sys, time, traceback
from pathlib import Path
from udcd_bench.runs.store import Store

def race(store, left):
    while left:
        for key in list(left):
            if store.acquire(key):
                if not (store.runs / key).exists():
                    with (store.root / "log").open("a") as log:
                        log.write(f"{key}\\n")
                    time.sleep(0.002)
                    (store.runs / key).mkdir()
                store.release(key)
            if (store.runs / key).exists():
                left.remove(key)

fcntl.flock = fcntl.lockf = lambda *_: None  # as on a network file system that only says it locks
root, processes, keys = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
gate, end = os.pipe()
racers = []
for _ in range(processes):
    if racer := os.fork():
        racers.append(racer)
        continue
    try:
        os.close(end)
        os.read(gate, 1)  # until nobody holds the other end: all are there
        race(Store(root), [f"k{n}" for n in range(keys)])
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
os.close(end)
print([os.waitpid(racer, 0)[1] for racer in racers])
"""


@pytest.mark.slow
@pytest.mark.parametrize("dead", [False, True], ids=["free", "dead claims"])
@pytest.mark.parametrize("processes", [2, 10])
def test_processes_without_locks_take_each_run_once(store, processes, dead):
    keys = 40
    for n in range(keys):
        if dead:
            claim_of(store, f"k{n}", DEAD)
            os.utime(claim_of(store, f"k{n}", ELSEWHERE), (0, 0))
    code = [sys.executable, "-c", RACE, str(store.root), str(processes), str(keys)]
    done = subprocess.run(code, capture_output=True, text=True)
    assert json.loads(done.stdout) == [0] * processes, done.stderr
    assert sorted((store.root / "log").read_text().split()) == sorted(f"k{n}" for n in range(keys))
    assert left(store) == []


@pytest.mark.slow
@pytest.mark.parametrize("dead", [False, True])
def test_of_many_that_claim_at_once_at_most_one_has_it(store, dead):
    for n in range(10):
        if dead:
            claim_of(store, f"k{n}", DEAD)
        gate = threading.Barrier(8)

        def claim(_, n=n, gate=gate):
            gate.wait()
            return store.acquire(f"k{n}")

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(claim, range(8))) <= 1


def test_a_claim_taken_over_meanwhile_is_not_taken_over_again(store, monkeypatch):
    """Two see the same dead claim; the slower one must not take away what the quicker one has by then."""
    claim_of(store, "k1", DEAD)
    slow, quick = Store(store.root), Store(store.root)
    seen = slow.locks._list_markers
    taken = []

    def meanwhile(key):
        found = seen(key)
        if not taken:
            taken.append(quick.acquire("k1"))
        return found

    monkeypatch.setattr(slow.locks, "_list_markers", meanwhile)
    assert [slow.acquire("k1"), *taken] == [False, True]
    assert store.get_state("k1") == "running"


# --- what killed processes leave --------------------------------------------------------------------------------


def test_what_a_killed_process_left_is_cleared_away_and_nothing_else(store):
    finish(store)
    store.start_run("k2", OTHER)
    store.open_checkpoint("k2").save({"a": np.ones(3)}, {"epoch": 1})
    (store.root / "demo").mkdir()
    store.failures.mkdir()
    kept = tree(store.root)
    for folder in (store.root, store.root / "demo", store.failures, store.work / "k2"):
        (folder / f".x.{DEAD}.tmp").touch()
        claim_of(store, "k2", DEAD)
        old = folder / ".record.json.4711.tmp"
        old.touch()
        os.utime(old, (0, 0))  # as versions before this one named theirs
    for name in (f"k2.{DEAD}.whole", f"k3.{DEAD}.whole"):
        (store.work / name).mkdir()
        (store.work / name / "spec.json").touch()
    # killed between the last rename and the end
    (store.work / "k1").mkdir()
    (store.work / "k1" / "checkpoint.safetensors").touch()
    (store.failures / "k1.json").touch()
    store.create()
    assert tree(store.root) == kept and not (store.work / "k1").exists()


def test_what_living_processes_write_is_left_to_them(store):
    claim_of(store, "k2", format_owner())
    claim_of(store, "k2", ELSEWHERE)
    store.start_run("k2", OTHER)
    for name in (format_owner(), ELSEWHERE):
        (store.work / "k2" / f".checkpoint.{name}.tmp").touch()
        (store.work / f"k2.{name}.whole").mkdir()
    before = tree(store.root)
    store.create()
    assert tree(store.root) == before
    os.utime(store.work / "k2" / f".checkpoint.{ELSEWHERE}.tmp", (0, 0))
    store.create()
    assert len(tree(store.root)) == len(before) - 1


# --- versions and damage --------------------------------------------------------------------------------------


def test_a_newer_folder_is_refused(store):
    (store.root / "store.json").write_text(json.dumps({"version": STORE_VERSION + 1}))
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
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": RECORD_SCHEMA + 1}))
    with pytest.raises(UserError, match="written by a newer udcd-bench"):
        store.read_record("k1")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": "x"}', '{"schema": 2}'])
def test_a_damaged_record_is_named_with_the_way_out(store, text):
    finish(store)
    finish(store, "k2", OTHER)
    (store.runs / "k1" / "record.json").write_text(text)
    with pytest.raises(
        DamagedRunError, match=r"k1/record.json is damaged \(.*results verify --out .*results` moves"
    ):
        store.read_record("k1")
    with pytest.raises(UserError, match="k1"):
        store.build_frame()
    assert store.get_state("k1") == "damaged"
    assert [(row.state, row.label, row.key) for row in store.summarize()] == [
        ("damaged", "", "k1"),
        ("done", OTHER.format_label(), "k2"),
    ]


FILES = ["record.json", "scores.npz", "student.safetensors", "history.csv", "spec.json"]


def damaged(data):
    """The bytes cut at several places, and with one bit flipped at several."""
    for part in (0, 1, len(data) // 2, len(data) - 1):
        yield data[:part]
    yield data + b" "
    for place in np.linspace(0, len(data) - 1, 40, dtype=int):
        yield data[:place] + bytes([data[place] ^ 1 << int(place) % 8]) + data[place + 1 :]


@pytest.mark.parametrize("name", FILES)
def test_whatever_is_cut_or_flipped_in_a_finished_run_is_found(store, name):
    finish(store)
    path = store.runs / "k1" / name
    whole = path.read_bytes()
    read = {
        "scores.npz": store.read_scores,
        "student.safetensors": store.read_weights,
        "record.json": store.read_record,
    }
    for data in damaged(whole):
        path.write_bytes(data)
        assert name in store.find_damage("k1", thorough=True)
        with pytest.raises(DamagedRunError, match=f"{name} is damaged"):
            read.get(name, lambda key: store.verify_file(key, name))("k1")
        if len(data) != len(whole):
            assert store.get_state("k1") == "damaged", "that is seen at once, without reading it all"
    path.unlink()
    assert name == "record.json" or store.get_state("k1") == "damaged"
    path.write_bytes(whole)
    assert store.find_damage("k1", thorough=True) == "" and store.get_state("k1") == "done"


def test_what_is_damaged_is_moved_aside_and_can_be_made_again(store):
    for n in (1, 2, 3):
        finish(store)
        (store.runs / "k1" / "scores.npz").write_bytes(b"")
        assert store.quarantine("k1") == store.damaged / f"k1.{n}"
        assert store.get_state("k1") == "absent" and store.list_keys() == []
    finish(store)
    assert store.find_damage("k1", thorough=True) == ""


def test_a_run_under_anothers_name_is_found(store):
    finish(store)
    (store.runs / "k1").rename(store.runs / "k2")
    assert "another run's" in store.find_damage("k2")


def test_a_run_of_the_first_schema_is_still_read(store):
    finish(store)
    path = store.runs / "k1" / "record.json"
    record = {k: v for k, v in store.read_record("k1").items() if k not in ("sha256", "bytes")}
    path.write_text(json.dumps({**record, "schema": 1}))
    assert store.get_state("k1") == "done" and store.read_record("k1")["figures"] == record["figures"]
    assert store.find_damage("k1", thorough=True) == "" and "scores" in store.read_scores("k1")
    (store.runs / "k1" / "scores.npz").unlink()
    assert "scores.npz" in store.find_damage("k1")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"spec": {}, "message": 1}', '{"spec": [], "message": ""}']
)
def test_a_damaged_report_of_a_failure_hides_nothing(store, text):
    store.record_failure("k1", SPEC, "no", "")
    (store.failures / "k1.json").write_text(text)
    assert store.read_failure("k1") is None and store.get_state("k1") == "failed"
    assert store.summarize() == [("failed", "", "which run it is, cannot be read", "k1")]
    store.start_run("k1", SPEC)
    assert store.summarize() == [("failed", SPEC.format_label(), "", "k1")]
    (store.work / "k1" / "spec.json").write_text(text)
    assert (store.summarize()[0].state, store.summarize()[0].key) == ("failed", "k1")


def test_whatever_is_cut_or_flipped_in_a_checkpoint_is_found(store):
    arrays, meta = {"a": np.arange(100.0), "b": np.ones((3, 2), np.float16)}, {"epoch": 1, "rate": 0.1}
    store.open_checkpoint("k1").save(arrays, meta)
    path = store.work / "k1" / "checkpoint.safetensors"
    whole, found = path.read_bytes(), 0
    for data in damaged(whole):
        path.write_bytes(data)
        if (read := store.open_checkpoint("k1").load()) is None:
            found += 1
        else:  # a flip in the name of the checksum's own field: what it is of is right
            assert read[1] == meta and all(np.array_equal(read[0][k], v) for k, v in arrays.items())
            assert read[0].keys() == arrays.keys()
    assert found >= 40


@pytest.mark.parametrize("how", ["cut", "empty", "noise"])
def test_a_damaged_checkpoint_is_put_aside_and_the_run_begins_anew(store, how):
    store.open_checkpoint("k1").save({"a": np.arange(100.0)}, {"epoch": 1})
    path = store.work / "k1" / "checkpoint.safetensors"
    data = path.read_bytes()
    path.write_bytes({"cut": data[:60], "empty": b"", "noise": b"\xff" * 200}[how])
    assert store.open_checkpoint("k1").load() is None
    assert not path.exists() and path.with_suffix(".damaged").exists()
    assert store.open_checkpoint("k1").load() is None
    store.open_checkpoint("k1").save({"a": np.arange(2.0)}, {"epoch": 1})
    assert store.open_checkpoint("k1").load()[1] == {"epoch": 1}


def test_a_checkpoint_keeps_every_kind_of_array(store):
    arrays = {
        "half": np.ones(3, np.float16),
        "whole": np.array(7),
        "state": np.arange(5, dtype=np.uint8),
        "strided": np.arange(12.0).reshape(3, 4).T,
        "empty": np.zeros((0, 3)),
    }
    meta = {"lr": 0.1 + 0.2, "history": [{"loss": 1e-300}]}
    store.open_checkpoint("k1").save(arrays, meta)
    found, again = store.open_checkpoint("k1").load()
    assert again == meta
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert_array_equal(found[name], value)


def test_numbers_that_json_has_no_word_for_do_not_enter_a_record(store):
    record, *rest = whole(SPEC)
    with pytest.raises(ValueError, match="JSON"):
        store.finish_run("k1", {**record, "seconds": float("nan")}, *rest)
    assert store.get_state("k1") != "done"


def test_only_room_and_rights_are_the_users_to_mend():
    other = OSError(errno.EIO, "Input/output error")
    assert as_user_error(other, Path("x")) is other
    assert isinstance(as_user_error(OSError(errno.EDQUOT, ""), Path("x")), UserError)


def test_a_killed_process_that_nobody_reaps_is_dead(store):
    """Process 1 of a container often reaps none; a start must not wait for a run whose process is a zombie."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        mark = read_process_start_time(other.pid)
        claim_of(store, "k1", re.sub("[0-9]+-[0-9]+$", f"{other.pid}-{mark}", format_owner()))
        assert mark and store.get_state("k1") == "running"
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{other.pid}").exists() and store.get_state("k1") == "absent"
        assert store.acquire("k1")


def test_a_record_counts_the_test_images_of_as_many_classes_as_it_names():
    check_record(records.record(SPEC, n_test_by_class=[4, 0, 2]))
    with pytest.raises(ValueError, match="counts test images of 2 classes and names 3"):
        check_record(records.record(SPEC, n_test_by_class=[4, 2]))
    with pytest.raises(ValueError, match="n_test_by_class"):
        check_record(records.record(SPEC, n_test_by_class=[4, -1, 2]))


def test_a_copy_of_a_runs_folder_is_left_out_and_told(tmp_path, caplog):
    store = Store(tmp_path)
    record = keep(store, table2().list_runs(paper())[0])
    shutil.copytree(store.run_folder(record["key"]), store.runs / f"{record['key']} (copy)")
    assert store.list_keys() == [record["key"]]
    assert f"{record['key']} (copy) is left out" in caplog.text
