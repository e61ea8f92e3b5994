"""Runs on a Ray cluster: a task a run, which its students' tasks wait for. What there is, the results folder holds.

That folder, the data and the suites are found on every machine by the paths they have on the first one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.engines import local
from udcd_bench.engines.job_queue import RETRY_INTERVAL, Event, JobQueue, read_hang_timeout, run_job
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from udcd_bench.engines.execute import RunContext
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

RETRIES = 3
"""How often Ray tries a run anew whose process or machine is gone."""
SHUTDOWN_GRACE = 20.0
"""Seconds that runs have to give their claims back when all is stopped."""
VISIBILITY_DELAY = 60.0
"""Seconds after which a shared folder shows what another machine has put there."""
_OBJECT_STORE_BYTES = 100 * 2**20
"""Bytes of a new cluster's object store, through which next to nothing goes."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined. slots: runs at a time. share: what a run takes, in Ray's words."""

    slots: int
    run_resources: Mapping[str, float]

    def run(
        self,
        jobs: Sequence[Job],
        store: Store,
        run_context: RunContext,
        slots: int,
        notify: Callable[[Event], None],
    ) -> dict[str, str]:
        """As ``local.run`` does, on the cluster."""
        import ray

        work = JobQueue.from_jobs(jobs)
        read_hang_timeout()
        task = ray.remote(_run_task).options(
            max_retries=RETRIES, runtime_env={"env_vars": _collect_env_vars()}, **self.run_resources
        )
        run_context, root = replace(run_context, data=run_context.data.absolute()), store.root.absolute()
        refs: dict[str, Any] = {}
        flying: dict[Any, Job] = {}
        progress = _ProgressReader(store)
        try:
            while work.waiting or flying:
                work.fail_orphans(notify)
                while job := work.find_ready(work.waiting):
                    del work.waiting[job.key]
                    progress.expect(job.key)
                    teacher = refs.get(job.teacher_key or "")
                    ref = task.remote(
                        job.spec, job.key, job.teacher_key, teacher, root, run_context, Path.cwd()
                    )
                    refs[job.key], flying[ref] = ref, job
                if not flying:
                    time.sleep(RETRY_INTERVAL)
                    continue
                ended = set(ray.wait(list(flying), num_returns=len(flying), timeout=RETRY_INTERVAL)[0])
                for event in progress.read_events(job.key for job in flying.values()):
                    work.handle_event(event, work.jobs[event["key"]], store, notify)
                for ref in [ref for ref in flying if ref in ended]:  # teachers first
                    job = flying.pop(ref)
                    for event in _collect_events(ref, job, work, store):
                        work.handle_event(event, job, store, notify)
        finally:
            for ref in flying:
                ray.cancel(ref)
            if flying:
                ray.wait(list(flying), num_returns=len(flying), timeout=SHUTDOWN_GRACE)
            for job in flying.values():
                store.locks.remove_stale(job.key)
        return work.failed


@contextlib.contextmanager
def join_cluster(address: str, device: str, jobs: int | None, threads: int) -> Iterator[Cluster]:
    """Join the cluster at this address (``auto``: the one that this machine belongs to; empty: a new one, here).

    jobs: runs on each GPU or, on a new cluster without any, at a time. threads: of a run; 0 for all of a machine.
    Raises UserError where Ray is not installed or nothing is at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # tells nobody
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'udcd-bench[ray]'.") from error
    if device.startswith("cuda:"):
        raise UserError(f"--device {device}: with --engine ray, Ray chooses the GPU; give --device cuda.")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    cores = 0
    if address:
        address = os.environ.get("RAY_ADDRESS") or address if address == "auto" else address
        _check_address(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            why = _make_token_error if "AuthToken" in str(error) else _make_unreachable_error
            raise why(address) from error
    else:
        gpus = {"num_gpus": 0} if device == "cpu" else {}
        # on a machine with GPUs a run takes no core of Ray's
        cores = local.count_slots("cpu", threads, jobs)
        ray.init(
            address="local",
            num_cpus=cores,
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            **gpus,
            **quiet,
        )
    # Ray says on stdout, which is for tables, that a process died, and may say so as late as this
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield _make_cluster(device, jobs, threads, new=not address)
        finally:
            ray.shutdown()


def _make_cluster(device: str, jobs: int | None, threads: int, *, new: bool) -> Cluster:
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = int(sum(machine.get("GPU", 0) for machine in machines))
    if device == "cuda" or (device == "auto" and gpus):
        if not gpus:
            raise UserError("--device cuda: the cluster has no GPU; try --device cpu.")
        return Cluster(gpus * (jobs or 1), {"num_cpus": 0, "num_gpus": 1 / (jobs or 1)})
    if new:
        return Cluster(int(machines[0]["CPU"]), {"num_cpus": 1})
    if jobs:
        raise UserError("--jobs says how many runs share a GPU, and the cluster has none; leave it out.")
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    if not any(cores):
        raise UserError("The Ray cluster has no core to run on; add a machine with `ray start`.")
    each = min(threads or max(cores), max(cores))
    return Cluster(sum(n // each for n in cores), {"num_cpus": each})


def _make_unreachable_error(address: str) -> UserError:
    return UserError(
        f"--address {address}: no Ray cluster answers there; start one with `ray start --head`, or leave --address out."
    )


def _make_token_error(address: str) -> UserError:
    return UserError(
        f"--address {address}: the Ray cluster there wants a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH "
        "to a file that holds the one it was started with."
    )


def _check_address(address: str) -> None:
    """Ray itself waits for minutes, and then ends the process."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host:
        if address != "auto":
            raise UserError(f"--address {address}: give auto, or host:port as `ray start --head` says it.")
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _make_unreachable_error(address) from error


def _collect_env_vars() -> dict[str, str]:
    """What a run's process on another machine needs to know of this one's."""
    known = {k: v for k, v in os.environ.items() if k.startswith("UDCD_BENCH_")} | local.ALLOCATOR_ENV
    if suites := known.get("UDCD_BENCH_SUITE"):
        known["UDCD_BENCH_SUITE"] = os.pathsep.join(
            str(Path(suite).absolute()) for suite in suites.split(os.pathsep) if suite
        )
    return known


def _collect_events(ref: Any, job: Job, queue: JobQueue, store: Store) -> list[Event]:
    """What a task that has ended says, or what is to be said of it."""
    import ray

    try:
        events: list[Event] = ray.get(ref)
    except ray.exceptions.RayError as error:
        if job.teacher_key in queue.failed:  # its end is Ray's answer to its students too
            return [{"kind": "busy", "key": job.key}]
        reason = next(iter(reversed(str(error).strip().splitlines())), "")
        says = f"Ray could not make it ({type(error).__name__}: {reason})"
        if isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.NodeDiedError):
            says = f"its process or machine died, and so in each of Ray's further tries ({RETRIES})"
            store.locks.remove_stale(job.key)
        store.record_failure(job.key, job.spec, says, str(error))
        return [{"kind": "failed", "key": job.key, "message": says}]
    end = time.monotonic() + VISIBILITY_DELAY
    while events[-1]["kind"] == "done" and not store.is_finished(job.key):
        if time.monotonic() > end:
            says = f"made on another machine, but not to be found in {store.root}, which all have to share"
            return [{"kind": "failed", "key": job.key, "message": says}]
        time.sleep(RETRY_INTERVAL)
    return events


class _ProgressReader:
    """What the results folder says of runs under way: who is at them, how many epochs are behind their checkpoints."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.epochs_sent: dict[str, int] = {}
        self.begun: set[str] = set()

    def expect(self, key: str) -> None:
        """A run is about to begin, or to go on."""
        self.epochs_sent[key] = len(self.store.read_checkpoint_history(key))

    def read_events(self, keys: Iterator[str]) -> Iterator[Event]:
        """Events since the last call."""
        with contextlib.suppress(FileNotFoundError):
            claimed = {path.name.partition(".")[0] for path in self.store.locks.folder.iterdir()}
            for key in claimed.intersection(keys):
                if key not in self.begun:
                    self.begun.add(key)
                    yield {"kind": "begin", "key": key}
                rows = self.store.read_checkpoint_history(key)
                for row in rows[self.epochs_sent[key] :]:
                    yield {"kind": "epoch", "key": key, "row": row}
                self.epochs_sent[key] = max(self.epochs_sent[key], len(rows))


# --- in a process of the cluster ------------------------------------------------------------------------------


def _run_task(
    spec: RunSpec,
    key: str,
    teacher_key: str | None,
    teacher_events: list[Event] | None,
    root: Path,
    run_context: RunContext,
    working_dir: Path,
) -> list[Event]:
    """Make a run; what there is to say of it, its end last. teacher: what its teacher's task has said."""
    from udcd_bench.engines.execute import collect_run_inputs, load_data
    from udcd_bench.runs.store import Store

    if teacher_events and teacher_events[-1]["kind"] != "done":
        return [
            {"kind": "busy", "key": key}
        ]  # what becomes of it, is decided where its teacher's end is judged
    limit, notes = read_hang_timeout(), list[Event]()
    armed = 0.0

    def collect_event(event: Event) -> None:
        nonlocal armed
        if event["kind"] == "note":
            notes.append(event)
        if (now := time.monotonic()) > armed + local.PROGRESS_INTERVAL:
            armed = now
            # ends a process that hangs, in whatever library it does; Ray tries the run anew
            faulthandler.dump_traceback_later(limit, exit=True, file=2)

    def make_failure(why: str) -> list[Event]:
        message = f"{socket.gethostname()}: {why}"
        return [{"kind": "failed", "key": key, "message": message, "mend": True}]

    try:
        with contextlib.suppress(OSError):
            os.chdir(working_dir)  # relative paths of images
        if not (root / "store.json").exists():
            return make_failure(
                f"{root} is not there; all machines of the cluster have to share the results folder."
            )
        parts = dict(collect_run_inputs(spec, run_context, functools.partial(load_data, planning=False)))
        if spec.compute_key(parts | ({"teacher": teacher_key} if teacher_key else {})) != key:
            return make_failure(
                "its udcd-bench, method or data is another one; install the same on every machine."
            )
    except UserError as error:
        return make_failure(str(error))
    try:
        return [*notes, run_job(spec, key, teacher_key, Store(root), run_context, collect_event)]
    finally:
        faulthandler.cancel_dump_traceback_later()
