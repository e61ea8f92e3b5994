"""Runs in real processes: all done and once, failures alone, and stops of every kind that change no figure."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from support import faults, records, tables
from support.faults import HANG_SECONDS, in_threads
from udcd_bench import plugins
from udcd_bench.cli import cli
from udcd_bench.engines import execute, job_queue, local
from udcd_bench.engines.events import RunDone, RunFailed, RunStarted
from udcd_bench.errors import UserError
from udcd_bench.runs import planner
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store
from udcd_bench.storage.checksums import dump_with_checksum

pytestmark = pytest.mark.slow

SIZE = {"n_images": 100, "image_size": 32}
EPOCHS = 4

METHOD = '''"""Fails in its second epoch."""

import os

from udcd_bench import method


class Method(method.BaseMethod):
    title = "{name}"
    citation = "None, 2024"

    def compute_losses(self, batch, progress):
        if progress.epoch == 1:
            {how}
        return {{"ce": self.cross_entropy(self.student(batch.views[0]).logits, batch.labels)}}
'''


def settings(**changes):
    return [f"--set={key}={value}" for key, value in {**SIZE, "epochs": EPOCHS, **changes}.items()]


@pytest.fixture(scope="module")
def data(prepared_lesions):
    """The drawn images, which every command finds prepared."""
    return prepared_lesions


@pytest.fixture(scope="module", autouse=True)
def suite(tmp_path_factory):
    """Two methods of one's own: one raises, one ends its process."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "boom.py").write_text(METHOD.format(name="boom", how='raise ValueError("boom it went")'))
    (folder / "gone.py").write_text(METHOD.format(name="gone", how="os._exit(3)"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins.suites, "_ADDED_SUITES", [])
        patch.setenv("UDCD_BENCH_SUITE", "")
        yield folder


def table(data, out, methods, *words):
    arguments = ["run", "table2", "--datasets=synthetic-lesions", f"--methods={methods}", f"--data={data}"]
    return [*arguments, f"--out={out}", "--device=cpu", *settings(), *words]


def scores(store):
    """Method → its stored scores."""
    return {record["spec"]["method"]: store.read_scores(record["key"]) for record in store.read_records()}


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def claims(store):
    return list(store.locks.folder.glob("*"))


@contextlib.contextmanager
def started(*arguments):
    """The command in a group of processes of its own, as a terminal starts it."""
    # what a shell starts in the background is deaf to Ctrl-C, and so are its children
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from udcd_bench.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=HANG_SECONDS)


def wait_for_checkpoint(store, method, runs, says):
    """The key of the run of that method, once it has one. runs, says: whether the command runs, and what it says."""
    end = time.monotonic() + HANG_SECONDS
    while True:
        for path in store.work.glob("*/checkpoint.safetensors"):
            with contextlib.suppress(OSError):
                if json.loads(path.with_name("spec.json").read_text())["method"] == method:
                    return path.parent.name
        assert runs(), says()
        assert time.monotonic() < end
        time.sleep(0.005)


def train(method, data, out, **changes):
    words = ["train", method, "--dataset=synthetic-lesions", "--jobs=1", "--device=cpu"]
    return [*words, f"--data={data}", f"--out={out}", *settings(**changes)]


@pytest.fixture(scope="module")
def killed(data, tmp_path_factory):
    """Three methods one after another, killed in the middle of the second and started again."""
    out = tmp_path_factory.mktemp("killed") / "results"
    words, store = table(data, out, "scratch,udcd,kd", "--jobs=1"), Store(out)
    said = out.with_name("said")
    with faults.started(said, *words) as process:
        key = wait_for_checkpoint(store, "udcd", process.is_alive, said.read_text)
        (marker,) = store.locks.folder.glob(f"{key}.*")
        for pid in (
            process.pid,
            int(marker.name.split("-")[1]),
        ):  # the command, and the worker that has the run
            os.kill(pid, signal.SIGKILL)
        process.join(HANG_SECONDS)
    faults.settle(store)
    # the first is done and stays as it is, the second goes on, the third begins
    assert list(scores(store)) == ["scratch"] and store.get_state(key) == "interrupted"
    (before,) = store.list_keys()
    stamp = (store.runs / before / "record.json").stat().st_mtime_ns
    assert 1 <= store.open_checkpoint(key).load()[1]["epoch"] < EPOCHS
    code = cli.main(words, standalone_mode=False)
    assert (store.runs / before / "record.json").stat().st_mtime_ns == stamp
    return code, store


@pytest.fixture(scope="module")
def mixed(data, suite, tmp_path_factory):
    """The same three, two at a time and undisturbed, with two that fail among them."""
    out = tmp_path_factory.mktemp("mixed") / "results"
    faults.context()  # its server serves this process too
    plugins.add_suite(suite)
    words = table(data, out, "boom,gone,scratch,udcd,kd", "--jobs=2")
    return cli.main(words, standalone_mode=False), Store(out)


def test_all_are_done_and_nothing_is_left_lying(killed):
    code, store = killed
    assert code == 0 and set(scores(store)) == {"scratch", "kd", "udcd"}
    assert claims(store) == [] and [p for p in store.work.iterdir() if p.is_dir()] == []
    for record in store.read_records():
        assert record["epochs"] == EPOCHS and record["synthetic"]
        history = pd.read_csv(store.verify_file(record["key"], "history.csv"))
        assert history["epoch"].tolist() == [0, 1, 2, 3] and history["loss"].notna().all()
        assert history["acc"].notna().tolist() == [False, False, False, True], (
            "the last epoch is the reported one"
        )
    kd = next(r for r in store.read_records() if r["spec"]["method"] == "kd")
    assert store.read_record(kd["teacher_key"])["spec"]["method"] == "scratch"
    assert {p.suffix for p in (store.root / "demo").iterdir()} == {".csv", ".tex", ".md", ".png", ".json"}


def test_the_same_command_again_runs_nothing(killed, data, monkeypatch, capsys):
    _, store = killed
    before = {path: path.stat().st_mtime_ns for path in store.runs.rglob("*")}
    monkeypatch.setattr(local, "_start_worker", lambda *_: pytest.fail("a process was started"))
    assert cli.main(table(data, store.root, "scratch,udcd,kd"), standalone_mode=False) == 0
    shown = capsys.readouterr()
    assert "All 3 runs are done; nothing to train." in shown.err and "Scratch" in shown.out
    assert {path: path.stat().st_mtime_ns for path in store.runs.rglob("*")} == before


def test_neither_a_kill_nor_how_many_run_at_a_time_changes_a_figure(killed, mixed):
    one, other = killed[1], mixed[1]
    assert one.list_keys() == other.list_keys()
    for key in one.list_keys():
        assert same(one.read_scores(key), other.read_scores(key))
        assert same(one.read_weights(key), other.read_weights(key))
        assert one.read_record(key)["figures"] == other.read_record(key)["figures"]
        rows = [pd.read_csv(store.verify_file(key, "history.csv")) for store in (one, other)]
        rows = [frame.drop(columns=["seconds", "images_per_s"]) for frame in rows]
        pd.testing.assert_frame_equal(*rows, check_exact=True)


def test_a_failure_is_alone_and_told_everywhere(mixed):
    code, store = mixed
    assert code == 1 and set(scores(store)) == {"scratch", "kd", "udcd"} and claims(store) == []
    failed = {}
    for path in store.failures.glob("*.json"):
        report = json.loads(path.read_text())
        assert store.get_state(path.stem) == "failed"
        failed[report["spec"]["method"]] = report
    assert failed.keys() == {"boom", "gone"}
    assert failed["boom"]["message"] == "boom.py, line 14: ValueError: boom it went"
    assert "boom.py" in failed["boom"]["traceback"]
    assert "ended by itself (exit code 3)" in failed["gone"]["message"]
    frame = tables.read_table(store.root / "demo").set_index("method")
    assert set(frame.loc[["boom", "gone"], "verdict"]) == {"failed"}
    assert "boom it went" in frame.loc["boom", "note"].iloc[0]
    assert frame.loc["kd", "ours"].notna().all()


def test_a_failed_teacher_fails_its_students(tmp_path, data, monkeypatch):
    told = []
    specs = [RunSpec("kd", "synthetic-lesions", "demo", "densenet-tiny")]
    store = Store(tmp_path)
    jobs = planner.plan(specs, store, records.make_inputs)
    teacher, student = jobs
    slot = local._Worker(None, None, None)
    work = local.JobQueue({}, {student.key: student}, failed={teacher.key: "no"})
    local._assign_jobs([slot], work, told.append)
    assert work.waiting == {} and slot.job is None
    assert told == [RunFailed(student.key, "its teacher's run failed")]


def test_teachers_begin_before_all_others_and_the_longest_runs_next(tmp_path):
    methods = ("mtg", "kd", "sskd", "udcd", "scl-ikd")
    specs = [RunSpec(method, "synthetic-lesions", "demo", "densenet-tiny") for method in methods]
    jobs = planner.plan([*specs, replace(specs[-1], fraction=0.1)], Store(tmp_path), records.make_inputs)
    work, begun = local.JobQueue.from_jobs(jobs), []
    while (ready := work.find_ready(set(work.waiting))) is not None:
        del work.waiting[ready.key]
        begun.append((ready.spec.method, ready.spec.fraction))
    whole = ("scratch", "scl-ikd", "sskd", "mtg", "kd", "udcd")
    assert begun == [*((method, 1.0) for method in whole), ("scl-ikd", 0.1)]


def test_the_longest_run_begins_next_once_times_are_known(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("udcd_bench.engines.job_queue.time.monotonic", lambda: clock[0])
    seconds = {"mtg": 30, "udcd": 50, "crckd": 20}
    specs = [
        RunSpec(method, data, "demo", "densenet-tiny")
        for data in ("synthetic-lesions", "synthetic-fundus")
        for method in ("mtg", "crckd", "udcd")
    ]
    jobs = planner.plan(specs, Store(tmp_path), records.make_inputs)
    work, begun = local.JobQueue.from_jobs(jobs), []
    while (ready := work.find_ready(set(work.waiting))) is not None:
        del work.waiting[ready.key]
        begun.append((ready.spec.dataset, ready.spec.method))
        work.handle_event(RunStarted(ready.key), ready, None, print)
        clock[0] += seconds[ready.spec.method]
        work.handle_event(RunDone(ready.key), ready, None, print)
    lesions, fundus = begun[:3], begun[3:]
    assert [method for _, method in lesions] == ["mtg", "crckd", "udcd"], "as planned, while no time is known"
    assert fundus == [("synthetic-fundus", method) for method in ("udcd", "mtg", "crckd")]


def test_what_the_user_can_mend_ends_the_start(tmp_path, data, monkeypatch):
    in_threads(monkeypatch)
    with pytest.raises(UserError, match=r"--device cuda:99: torch sees \d+ CUDA devices; try --device cpu"):
        cli.main([*train("scratch", data, tmp_path), "--device=cuda:99"], standalone_mode=False)
    store = Store(tmp_path)
    assert claims(store) == [] and list(store.failures.glob("*")) == [] and store.summarize() == []


def test_a_run_that_another_start_finishes_meanwhile_is_done(tmp_path, data, monkeypatch):
    in_threads(monkeypatch)
    for module in (local, job_queue):
        monkeypatch.setattr(module, "RETRY_INTERVAL", 0.1)
    store = Store(tmp_path)
    store.create()
    spec = RunSpec("scratch", "synthetic-lesions", "demo", "densenet-tiny", protocol=tuple(SIZE.items()))
    (job,) = planner.plan([spec], store, records.make_inputs)
    assert store.acquire(job.key)
    events = []
    slots = threading.Thread(
        target=local.run, args=([job], execute.RunContext(store, data, "cpu"), 1, events.append)
    )
    slots.start()
    time.sleep(0.2)
    assert store.get_state(job.key) == "running" and events == []
    about = {"schema": 2, "key": job.key, "files": {}}
    store.write_run(job.key, {"record.json": dump_with_checksum(records.record(spec) | about)})
    store.release(job.key)
    slots.join(HANG_SECONDS)
    assert events == [RunDone(job.key)] and claims(store) == []


# --- stops ----------------------------------------------------------------------------------------------------


def test_ctrl_c_leaves_all_valid_and_says_how_to_go_on(tmp_path, data):
    words = train("scratch", data, tmp_path / "my results", epochs=500)
    store = Store(tmp_path / "my results")
    with started(*words) as process:
        key = wait_for_checkpoint(store, "scratch", lambda: process.poll() is None, process.communicate)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert "Interrupted. Nothing is lost; go on with: udcd-bench train scratch" in said
    assert f"'--out={tmp_path}/my results'" in said and "Traceback" not in said
    assert store.get_state(key) == "interrupted" and claims(store) == []
    assert store.open_checkpoint(key).load()[1]["epoch"] >= 1
    assert [row.state for row in store.summarize()] == ["interrupted"]


START = """
import os, signal, sys, threading, time
from multiprocessing import get_context
from pathlib import Path
from look import look
from udcd_bench.data import workers
from udcd_bench.engines import execute, local
from udcd_bench.runs.store import Store
if __name__ == '__main__':
    signal.signal(signal.SIGINT, lambda *_: None)
    def interrupt():
        while not stop.wait(0.01):
            os.killpg(0, signal.SIGINT)
    stop = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    slot = local._start_worker(execute.RunContext(Store(Path(sys.argv[1])), Path('.')))
    time.sleep(0.5)
    stop.set()
    thread.join()
    slot.pipe.close()
    slot.process.join(60)
    print(slot.process.exitcode, flush=True)
    with workers.hide_main_module():
        process = get_context('forkserver').Process(target=look)
        process.start()
    process.join(60)
"""
"""A script that starts a worker amid Ctrl-C, prints how it ended, and has another of the same server look around."""

LOOK = """
import os, sys
def look():
    shared = 'udcd_bench.engines.preload' in sys.modules
    from udcd_bench.engines import preload
    shared = shared and all(name in sys.modules for name in preload.MODULES)
    import numpy as np, torch
    from udcd_bench.data import splits
    from udcd_bench.stats import metrics
    labels = np.arange(50) % 5
    splits._assign_folds(labels)
    metrics.compute_metrics(np.eye(5)[labels], labels)
    threads = [len(os.listdir(f'/proc/{pid}/task')) for pid in (os.getppid(), 'self')]
    print(shared, threads, torch.cuda.is_initialized())
    print({'sklearn', 'scipy', 'matplotlib'} & sys.modules.keys(), flush=True)
"""


@pytest.fixture(scope="module")
def started_amid_interrupts(tmp_path_factory):
    """The lines that the script ``START`` printed, and its standard error."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "start.py").write_text(START)
    (folder / "look.py").write_text(LOOK)
    decoy = (
        folder / "elsewhere" / "udcd_bench"
    )  # not on the script's module path, so no process may import it
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, folder / "start.py", folder],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        start_new_session=True,
        cwd=decoy.parent,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    return done.stdout.splitlines(), done.stderr


def test_ctrl_c_while_processes_start_reaches_the_parent_alone(started_amid_interrupts):
    printed, errors = started_amid_interrupts
    assert (printed[0], errors) == ("0", "")


def test_what_workers_share_starts_no_thread_uses_no_gpu_and_spares_scikit_learn(started_amid_interrupts):
    assert started_amid_interrupts[0][1:] == ["True [1, 1] False", "set()"]


def test_a_claim_of_another_process_outlives_an_interruption(tmp_path, monkeypatch):
    """A start that waits for a run another process is at, and is stopped meanwhile, leaves that claim alone."""
    store = Store(tmp_path)
    store.create()
    (job,) = planner.plan([RunSpec("scratch", "digits", "demo", "densenet-tiny")], store, records.make_inputs)
    assert store.acquire(job.key)

    class Nothing:
        def close(self):
            pass

        terminate = join = close

    slot = local._Worker(Nothing(), Nothing(), None)
    monkeypatch.setattr(local, "_start_worker", lambda *_: slot)

    def interrupt(*_):
        slot.job = job
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "_assign_jobs", interrupt)
    with pytest.raises(KeyboardInterrupt):
        local.run([job], execute.RunContext(store, tmp_path), 1, print)
    assert store.get_state(job.key) == "running"


def test_slots_are_as_many_as_the_cores_hold(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert local.count_slots("cpu", 1, None) == 6 and local.count_slots("cpu", 4, None) == 1
    assert local.count_slots("cpu", 0, None) == 1, "a run that takes all threads runs alone"
    assert local.count_slots("cuda:1", 1, None) == 1
    assert local.count_slots("cpu", 4, 3) == local.count_slots("cuda:1", 1, 3) == 3


@pytest.mark.parametrize(
    ("visible", "device", "names"),
    [
        (None, "auto", ["cuda:0", "cuda:1", "cuda:2"]),
        ("1,2", "cuda", ["cuda:0", "cuda:1"]),
        ("", "auto", []),
        ("-1", "auto", []),
        ("1,2", "cuda:1", ["cuda:1"]),
        (None, "cpu", []),
    ],
)
def test_jobs_are_counted_on_each_gpu(monkeypatch, tmp_path, visible, device, names):
    for name in ("nvidia0", "nvidia1", "nvidia2", "nvidiactl"):
        (tmp_path / name).touch()
    monkeypatch.setattr(local, "DEVICE_DIR", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local.list_gpus(device) == names
    assert local.count_slots(device, 1, 2) == 2 * max(1, len(names))
    places = local._make_contexts(execute.RunContext(Store(tmp_path), tmp_path, device))
    assert [place.device for place in places] == (names if len(names) > 1 else [device])
