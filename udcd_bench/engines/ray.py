"""Runs on a Ray cluster: one task a run, which the tasks of its students wait for.

Progress is read from the results folder. Every machine finds that folder, the data and the suites at the paths they
have on the first machine.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.engines import local, server
from udcd_bench.engines.events import EpochDone, Event, RunDone, RunFailed, RunLocked, RunStarted
from udcd_bench.engines.job_queue import RETRY_INTERVAL, JobQueue, read_hang_timeout
from udcd_bench.engines.ray_worker import run_task
from udcd_bench.errors import UserError
from udcd_bench.runs.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from udcd_bench.engines.execute import RunContext
    from udcd_bench.runs.planner import Job

RETRIES = 3
"""How often Ray repeats a run whose process or machine died."""
SHUTDOWN_GRACE = 20.0
"""Seconds that runs have to release their locks when everything is stopped."""
VISIBILITY_DELAY = 60.0
"""Seconds within which a shared folder shows what another machine has written."""
_OBJECT_STORE_BYTES = 100 * 2**20
"""Size of a new cluster's object store, through which almost nothing passes."""
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined.

    slots: runs at a time. run_resources: the share of a machine that a run takes, as options of ``ray.remote``.
    """

    slots: int
    run_resources: Mapping[str, float]

    def run(
        self, jobs: Sequence[Job], context: RunContext, slots: int, notify: Callable[[Event], None]
    ) -> dict[str, str]:
        """Carry out the jobs on the cluster, as ``local.run`` does on this machine. slots: unused, Ray decides."""
        read_hang_timeout()  # raises here rather than on every machine
        session = _Session(self, JobQueue.from_jobs(jobs), context, notify)
        try:
            session.run()
        finally:
            session.cancel()
        return session.queue.failed


class _Session:
    """The tasks of one call of ``Cluster.run``.

    refs: key → the task of a run, for the tasks of its students. flying: task → its job, for tasks that have not ended.
    """

    def __init__(
        self, cluster: Cluster, queue: JobQueue, context: RunContext, notify: Callable[[Event], None]
    ) -> None:
        import ray

        self.queue, self.notify, self.store = queue, notify, context.store
        self.task = ray.remote(run_task).options(
            max_retries=RETRIES, runtime_env={"env_vars": _collect_env_vars()}, **cluster.run_resources
        )
        self.context = replace(
            context, store=Store(context.store.root.absolute()), data=context.data.absolute()
        )
        self.refs: dict[str, Any] = {}
        self.flying: dict[Any, Job] = {}
        self.progress = _ProgressReader(context.store)

    def run(self) -> None:
        """Submit tasks and handle their events until nothing is left to do."""
        import ray

        while self.queue.waiting or self.flying:
            self._submit_ready()
            if not self.flying:
                time.sleep(RETRY_INTERVAL)
                continue
            tasks = list(self.flying)
            ended = set(ray.wait(tasks, num_returns=len(tasks), timeout=RETRY_INTERVAL)[0])
            for event in self.progress.read_events(job.key for job in self.flying.values()):
                self.queue.handle_event(event, self.queue.jobs[event.key], self.store, self.notify)
            for ref in [ref for ref in self.flying if ref in ended]:  # teachers first
                job = self.flying.pop(ref)
                for event in _collect_events(ref, job, self.queue, self.store):
                    self.queue.handle_event(event, job, self.store, self.notify)

    def _submit_ready(self) -> None:
        self.queue.fail_orphans(self.notify)
        while job := self.queue.find_ready(self.queue.waiting):
            del self.queue.waiting[job.key]
            self.progress.expect(job.key)
            teachers = [self.refs[key] for key in job.teacher_keys if key in self.refs]
            ref = self.task.remote(job, self.context, Path.cwd(), *teachers)
            self.refs[job.key], self.flying[ref] = ref, job

    def cancel(self) -> None:
        """Cancel the tasks that have not ended, and remove the locks they leave."""
        import ray

        for ref in self.flying:
            ray.cancel(ref)
        if self.flying:
            ray.wait(list(self.flying), num_returns=len(self.flying), timeout=SHUTDOWN_GRACE)
        for job in self.flying.values():
            self.store.locks.remove_stale(job.key)


# --- joining a cluster ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def join_cluster(address: str, device: str, jobs: int | None, threads: int) -> Iterator[Cluster]:
    """Join the cluster at an address.

    address: ``auto`` is the cluster this machine belongs to; empty starts a new one on this machine.
    jobs: runs on each GPU or, on a new cluster without any, at a time. threads: of a run; 0 for all of a machine.
    Raises UserError when Ray is not installed or no cluster answers at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'udcd-bench[ray]'.") from error
    if device.startswith("cuda:"):
        raise UserError(f"--device {device}: with --engine ray, Ray chooses the GPU; give --device cuda.")
    if address:
        _connect(address)
    else:
        _start_cluster(device, threads, jobs)
    # Ray prints that a process died on stdout, which is for tables, possibly as late as here
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield _make_cluster(device, jobs, threads, new=not address)
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    import ray

    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
    _check_address(address)
    try:
        ray.init(address=address, **_QUIET)
    except (ConnectionError, RuntimeError, ValueError) as error:
        make_error = _make_token_error if "AuthToken" in str(error) else _make_unreachable_error
        raise make_error(address) from error


def _start_cluster(device: str, threads: int, jobs: int | None) -> None:
    import ray

    gpus: dict[str, Any] = {"num_gpus": 0} if device == "cpu" else {}
    ray.init(
        address="local",
        # on a machine with GPUs a run takes none of Ray's cores
        num_cpus=local.count_slots("cpu", threads, jobs),
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        **gpus,
        **_QUIET,
    )


def _make_cluster(device: str, jobs: int | None, threads: int, *, new: bool) -> Cluster:
    """Decide how many runs share the machines of the cluster that Ray has joined."""
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
    """Check that something listens: Ray itself waits for minutes and then ends the process."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host:
        if address != "auto":
            raise UserError(f"--address {address}: give auto, or host:port as `ray start --head` prints it.")
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _make_unreachable_error(address) from error


def _collect_env_vars() -> dict[str, str]:
    """Collect the environment variables of this process that a run on another machine needs."""
    variables = {k: v for k, v in os.environ.items() if k.startswith("UDCD_BENCH_")} | server.ALLOCATOR_ENV
    if suites := variables.get("UDCD_BENCH_SUITE"):
        variables["UDCD_BENCH_SUITE"] = os.pathsep.join(
            plugins.name_suite(suite) for suite in suites.split(os.pathsep) if suite
        )
    return variables


# --- events of tasks ------------------------------------------------------------------------------------------


def _collect_events(ref: Any, job: Job, queue: JobQueue, store: Store) -> list[Event]:
    """Collect the events that an ended task has returned, its end last, or make one that explains why it has not."""
    import ray

    try:
        events: list[Event] = ray.get(ref)
    except ray.exceptions.RayError as error:
        if queue.failed.keys() & job.teacher_keys:  # Ray reports a teacher's end to its students too
            return [RunLocked(job.key)]
        reason = next(iter(reversed(str(error).strip().splitlines())), "")
        message = f"Ray could not make it ({type(error).__name__}: {reason})"
        if isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.NodeDiedError):
            message = f"its process or machine died, and so in each of Ray's further tries ({RETRIES})"
            store.locks.remove_stale(job.key)
        store.record_failure(job.key, job.spec, message, str(error))
        return [RunFailed(job.key, message)]
    end = time.monotonic() + VISIBILITY_DELAY
    while isinstance(events[-1], RunDone) and not store.is_finished(job.key):
        if time.monotonic() > end:
            message = f"made on another machine, but not to be found in {store.root}, which all have to share"
            return [RunFailed(job.key, message)]
        time.sleep(RETRY_INTERVAL)
    return events


class _ProgressReader:
    """Reads the progress of runs under way from the results folder: their locks, and their checkpoints' epochs."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.epochs_sent: dict[str, int] = {}
        self.started: set[str] = set()

    def expect(self, key: str) -> None:
        """Note how far a run is that is about to start."""
        self.epochs_sent[key] = len(self.store.open_checkpoint(key).read_history())

    def read_events(self, keys: Iterator[str]) -> Iterator[Event]:
        """Yield the events of these runs since the last call."""
        for key in self.store.locks.list_keys().intersection(keys):
            if key not in self.started:
                self.started.add(key)
                yield RunStarted(key)
            rows = self.store.open_checkpoint(key).read_history()
            for row in rows[self.epochs_sent[key] :]:
                yield EpochDone(key, row)
            self.epochs_sent[key] = max(self.epochs_sent[key], len(rows))
