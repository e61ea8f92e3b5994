"""Runs on a real Ray cluster of several machines' worth of processes: the figures of ``local``, whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from support import records, tables
from support.faults import HANG_SECONDS, litter, record_of
from udcd_bench.cli import cli
from udcd_bench.engines import execute, ray_worker
from udcd_bench.engines import ray as engine
from udcd_bench.engines.events import Note, RunDone, RunFailed, RunLocked, RunStarted, StepDone
from udcd_bench.errors import UserError
from udcd_bench.runs import planner
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store
from udcd_bench.storage.checksums import dump_with_checksum

pytestmark = pytest.mark.slow

SIZE = {"n_images": 100, "image_size": 32, "epochs": 3}
METHOD = '''"""Does something in its second epoch."""

import os
import time
from pathlib import Path

from udcd_bench import method


class Method(method.BaseMethod):
    title = "{name}"
    citation = "None, 2024"

    def compute_losses(self, batch, progress):
        if progress.epoch == 1:
            {what}
        return {{"ce": self.cross_entropy(self.student(batch.views[0]).logits, batch.labels)}}
'''


@pytest.fixture(scope="module")
def data(prepared_lesions):
    return prepared_lesions


@pytest.fixture(scope="module", autouse=True)
def suite(tmp_path_factory):
    """Methods of one's own: one raises; one always ends its process, one does once; one hangs once."""
    folder = tmp_path_factory.mktemp("suite")
    once = "if not Path({!r}).exists(): Path({!r}).touch(); "
    for name, what in {
        "boom": 'raise ValueError("boom it went")',
        "gone": "os._exit(3)",
        "crashes": once.format(*2 * [str(folder / "crashed")]) + "os.abort()",
        "hangs": once.format(*2 * [str(folder / "hung")]) + "time.sleep(999)",
    }.items():
        (folder / f"{name}.py").write_text(METHOD.format(name=name, what=what))
    patch = pytest.MonkeyPatch()
    patch.setenv("UDCD_BENCH_SUITE", str(folder))
    patch.setattr(engine, "RETRIES", 1)
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def cluster():
    """A machine that only leads, and two of a core each."""
    pytest.importorskip("ray", reason="Ray is not installed; nox -s ray does it")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    for _ in range(2):
        made.add_node(num_cpus=1, **small)
    made.small = small
    yield made
    made.shutdown()


def options(data, out, **changes):
    settings = (f"--set={name}={value}" for name, value in {**SIZE, **changes}.items())
    return [f"--data={data}", f"--out={out}", "--device=cpu", *settings]


def table(data, out, methods, *words, **changes):
    return [
        "run",
        "table2",
        "--datasets=synthetic-lesions",
        f"--methods={methods}",
        *options(data, out, **changes),
        *words,
    ]


def on_ray(cluster, *words):
    return cli.main([*words, "--engine=ray", f"--address={cluster.address}"], standalone_mode=False)


def planned(data, store, method, **changes):
    spec = RunSpec(
        method, "synthetic-lesions", "demo", "densenet-tiny", protocol=tuple((SIZE | changes).items())
    )
    context = execute.RunContext(store, data, "cpu")
    return planner.plan([spec], store, lambda spec: execute.collect_run_inputs(spec, context)), context


def assert_same(store, other):
    assert store.list_keys() == other.list_keys() != []
    for key in store.list_keys():
        for read in (Store.read_scores, Store.read_weights):
            one, two = read(store, key), read(other, key)
            assert one.keys() == two.keys()
            assert all(one[name].tobytes() == two[name].tobytes() for name in one)
        assert record_of(store, key) == record_of(other, key)


def test_as_local_to_the_last_bit_and_what_fails_fails_alone(cluster, data, tmp_path, capsys):
    words = "boom,gone,scratch,kd,udcd"
    assert cli.main(table(data, tmp_path / "local", words, "--jobs=2"), standalone_mode=False) == 1
    assert on_ray(cluster, *table(data, tmp_path / "ray", words)) == 1
    local, ray = Store(tmp_path / "local"), Store(tmp_path / "ray")
    assert_same(ray, local)
    assert {record["spec"]["method"] for record in ray.read_records()} == {"scratch", "kd", "udcd"}
    shown = capsys.readouterr()
    assert "raylet" not in shown.out
    told = shown.err
    assert "5 of 5 runs to make, 2 at a time" in told and "made again" not in told, (
        "no student began too early"
    )
    failed = {
        spec["spec"]["method"]: spec
        for spec in map(ray.read_failure, (p.stem for p in ray.failures.glob("*.json")))
    }
    assert re.fullmatch(r"boom\.py, line \d+: ValueError: boom it went", failed["boom"]["message"])
    assert "boom.py" in failed["boom"]["traceback"]
    assert (
        failed["gone"]["message"] == "its process or machine died, and so in each of Ray's further tries (1)"
    )
    assert set(failed) == {"boom", "gone"} and list(ray.locks.folder.iterdir()) == []
    frames = [tables.read_table(s.root / "demo").drop(columns="note") for s in (ray, local)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_a_machine_killed_in_the_middle_of_a_run(cluster, data, tmp_path):
    """The run goes on from its checkpoint on another machine."""
    words = ["train", "udcd", "--dataset=synthetic-lesions"]
    store = Store(tmp_path / "ray")
    doomed = [cluster.add_node(num_cpus=1, **cluster.small)]
    owners = []

    def strike():
        end = time.monotonic() + HANG_SECONDS
        while time.monotonic() < end and not owners:
            for claim in store.locks.folder.glob("*"):
                key, owner, _ = claim.name.split(".")
                if len(store.open_checkpoint(key).read_history()) >= 2:
                    owners.append(owner)
            time.sleep(0.01)
        pid = int(owners[0].split("-")[1])
        parent = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        (node,) = [n for n in cluster.worker_nodes if raylet(n) == parent]
        doomed[:] = [node]
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=strike)
    killer.start()
    assert on_ray(cluster, *words, *options(data, store.root, epochs=30)) == 0
    killer.join(HANG_SECONDS)
    assert len(owners) == 1 and doomed[0] not in cluster.worker_nodes
    other = tmp_path / "local"
    assert cli.main([*words, *options(data, other, epochs=30), "--jobs=1"], standalone_mode=False) == 0
    assert_same(store, Store(other))
    assert litter(store.root) == []


def raylet(node):
    from ray._private.ray_constants import PROCESS_TYPE_RAYLET

    return node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid


def test_a_process_that_crashes_or_hangs_is_started_anew(cluster, data, tmp_path, monkeypatch):
    monkeypatch.setenv("UDCD_BENCH_HANG", "30")
    monkeypatch.setattr(engine, "RETRIES", 3)  # on a crowded machine the first step takes long too
    assert on_ray(cluster, *table(data, tmp_path, "crashes,hangs")) == 0
    store = Store(tmp_path)
    assert len(store.list_keys()) == 2 and litter(tmp_path) == []


def test_a_failed_teacher_fails_its_students(cluster, data, tmp_path):
    jobs, context = planned(data, Store(tmp_path), "kd", learning_rate=1e30)
    teacher, student = jobs
    store, told = Store(tmp_path), []
    store.create()
    with engine.join_cluster(cluster.address, "cpu", None, 1) as made:
        failed = made.run(jobs, context, made.slots, told.append)
    assert "loss term ce is" in failed[teacher.key] and failed[student.key] == "its teacher's run failed"
    assert [event.key for event in told if isinstance(event, RunFailed)] == [teacher.key, student.key]
    assert store.list_keys() == [] and not (store.work / student.key).exists()


def test_a_run_that_another_start_is_at_is_left_to_it(cluster, data, tmp_path):
    store, told = Store(tmp_path), []
    store.create()
    (job,), context = planned(data, store, "scratch")
    assert store.acquire(job.key)

    def finish():
        time.sleep(5)
        about = {"schema": 2, "key": job.key, "files": {}}
        store.write_run(job.key, {"record.json": dump_with_checksum(records.record(job.spec) | about)})
        store.release(job.key)

    other = threading.Thread(target=finish)
    with engine.join_cluster(cluster.address, "cpu", None, 1) as made:
        other.start()
        assert made.run([job], context, made.slots, told.append) == {}
    other.join()
    assert [type(event) for event in told] == [RunStarted, RunDone] and store.get_state(job.key) == "done"


@pytest.mark.parametrize("change", ["key", "folder"])
def test_a_machine_that_is_not_as_this_one_says_so(cluster, data, tmp_path, change):
    """Another version of a method there, or a results folder that is not shared."""
    store = Store(tmp_path / "results")
    (job,), context = planned(data, store, "scratch")
    if change == "key":
        store.create()
        job = replace(job, key="0" * 16)
    says = {"key": "install the same on every machine", "folder": "have to share the results folder"}[change]
    with engine.join_cluster(cluster.address, "cpu", None, 1) as made, pytest.raises(UserError, match=says):
        made.run([job], context, made.slots, lambda event: None)
    assert store.list_keys() == []


def test_ctrl_c_on_a_new_cluster_gives_claims_back(data, suite, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed; nox -s ray does it")
    out = tmp_path / "results"
    words = ["train", "scratch", "--dataset=synthetic-lesions", *options(data, "results", epochs=500)]
    # what a shell starts in the background is deaf to Ctrl-C, and so are its children
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from udcd_bench.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words, "--engine=ray", "--jobs=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
        env={**os.environ, "UDCD_BENCH_SUITE": os.path.relpath(suite, tmp_path)},
    )
    try:
        end = time.monotonic() + HANG_SECONDS
        while not list(out.glob("runs/.work/*/checkpoint.safetensors")):
            assert process.poll() is None and time.monotonic() < end, process.communicate()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=HANG_SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, said
    assert (
        "Interrupted. Nothing is lost; go on with: udcd-bench train scratch" in said
        and "Traceback" not in said
    )
    assert list((out / "runs" / ".claims").iterdir()) == []
    assert [row.state for row in Store(out).summarize()] == ["interrupted"]


def test_what_a_cluster_without_gpus_cannot_do(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    with pytest.raises(UserError, match="--jobs says how many runs share a GPU, and the cluster has none"):
        engine.join_cluster("auto", "cpu", 2, 1).__enter__()
    with pytest.raises(UserError, match="--device cuda: the cluster has no GPU"):
        engine.join_cluster(cluster.address, "cuda", None, 1).__enter__()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there; start one with `ray start --head`"),
        ("nobody.invalid:6379", "no Ray cluster answers there"),
        ("127.0.0.1:99999", "no Ray cluster answers there"),
        ("somewhere", "give auto, or host:port"),
        ("ray://127.0.0.1:10001", "give auto, or host:port"),
        ("auto", "no Ray cluster answers there"),  # where RAY_ADDRESS says
    ],
)
def test_an_address_where_nobody_is(address, says, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed; nox -s ray does it")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=says):
        engine.join_cluster(address, "cpu", None, 1).__enter__()


def test_a_cluster_that_wants_a_token(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed; nox -s ray does it")
    monkeypatch.setattr(engine, "_check_address", lambda address: None)

    def refuse(**how):
        raise RuntimeError(
            "ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken: it is missing or incorrect"
        )

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError, match="the Ray cluster there wants a token; set RAY_AUTH_MODE=token"):
        engine.join_cluster("127.0.0.1:6379", "cpu", None, 1).__enter__()


def test_without_ray_a_sentence_says_how_to_get_it(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--engine ray needs Ray: pip install 'udcd-bench\[ray\]'\."):
        cli.main([*table(data, tmp_path, "scratch"), "--engine=ray"], standalone_mode=False)


def test_ray_chooses_the_gpu():
    pytest.importorskip("ray", reason="Ray is not installed; nox -s ray does it")
    with pytest.raises(UserError, match="Ray chooses the GPU; give --device cuda"):
        engine.join_cluster("", "cuda:1", None, 1).__enter__()


def test_an_address_is_for_ray(data, tmp_path):
    with pytest.raises(UserError, match="add --engine ray"):
        cli.main([*table(data, tmp_path, "scratch"), "--address=auto"], standalone_mode=False)


def test_a_task_returns_its_notes_before_its_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a task changes the working directory
    spec = RunSpec("scratch", "digits", "demo", "densenet-tiny")
    job = planner.Job(spec, "k", "absent", 1, records.make_inputs(spec))

    def run_job(job, context, notify):
        for event in (RunStarted("k"), Note("k", "Moved."), StepDone("k")):
            notify(event)
        return RunDone("k")

    monkeypatch.setattr(ray_worker, "_check_same_inputs", lambda *_: None)
    monkeypatch.setattr(ray_worker, "run_job", run_job)
    assert ray_worker.run_task(job, None, tmp_path) == [Note("k", "Moved."), RunDone("k")]
    waiting = ray_worker.run_task(job, None, tmp_path, [RunDone("s")], [RunFailed("t", "no")])
    assert waiting == [RunLocked("k")], "a student whose teacher failed is left to the queue"
