"""Breaks things on purpose: commands in processes of their own that are killed, or find the disk full, at a given call.

The processes are forked from a server that has loaded the tensor library, so that a start takes a moment; what they do
is what a command does, slots' processes of their own included.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from udcd_bench.data import workers

CALLS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "open")
HANG_SECONDS = 180
"""Seconds after which something is wrong."""


@dataclass(frozen=True)
class Fault:
    """Dies once, at the ``n``-th ``call`` of the process, or ``after`` seconds.

    who: ``parent``, the command's own process, or ``worker``, a slot's. marker: a file made when it strikes. half: cut
    what is being flushed in two first, as a machine without power does.
    """

    who: str
    marker: Path
    call: str = ""
    n: int = 0
    after: float = 0.0
    half: bool = False

    def install(self):
        """Lie in wait in this process."""
        if self.after:
            threading.Timer(self.after, self.strike).start()
        if self.call:
            count, real = 0, getattr(os, self.call)

            def counted(*arguments, **named):
                nonlocal count
                count += 1
                if count == self.n:
                    if self.half and self.call == "fsync":
                        with contextlib.suppress(OSError):  # a folder
                            os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                    self.strike()
                return real(*arguments, **named)

            setattr(os, self.call, counted)

    def strike(self):
        """End this process, unless that has been done before."""
        with contextlib.suppress(FileExistsError):
            self.marker.open("x").close()
            os.kill(os.getpid(), signal.SIGKILL)


def context():
    """Where processes come from: forked from a server with everything loaded."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["support.preload"])
    # where the server finds ``support``
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(Path(__file__).parents[1])}):
        forkserver.ensure_running()
    return made


class _Slots:
    """Stands for the engine's own way of starting processes."""

    def __init__(self, *told):
        self.told, self.context = told, context()
        self.Pipe = self.context.Pipe

    def Process(self, target, args, daemon):  # noqa: N802
        return self.context.Process(target=_worker, args=(*self.told, target, args), daemon=daemon)


def _open_pool(environment, processes):
    """Stands for the engine's own way of starting a pool."""
    return ProcessPoolExecutor(
        processes, mp_context=context(), initializer=_begin, initargs=(environment, Path.cwd())
    )


def _begin(environment, folder):
    os.environ.update(environment)
    os.chdir(folder)
    workers.start()


def _worker(environment, fault, log, target, args):
    os.environ.update(environment)
    from udcd_bench.engines import execute

    if log:
        real = execute._train_and_store

        def logged(job, *more):
            with log.open("a") as file:
                file.write(f"{job.key}\n")
            real(job, *more)

        execute._train_and_store = logged
    if fault and fault.who == "worker":
        fault.install()
    target(*args)


def _command(words, environment, fault, log, said, errors, cwd):
    gc.freeze()  # no collection visits what the server has imported
    os.environ.update(environment)
    if cwd:
        os.chdir(cwd)
    for path in (said, errors):
        if path:
            Path(path).write_text("")
    with Path(said).open("a") as out, Path(errors or said).open("a") as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
    from udcd_bench.cli import main
    from udcd_bench.engines import local, server

    # the server that this process is from serves it too, whoever asks for one
    forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None
    local.start_server = server.start_server = lambda: None
    workers.open_pool = partial(_open_pool, environment)
    slots = _Slots(environment, fault, log)
    local.multiprocessing = SimpleNamespace(get_context=lambda _: slots)
    sys.argv = ["udcd-bench", *words]
    if fault and fault.who == "parent":
        fault.install()
    main()


@contextlib.contextmanager
def started(said, *words, fault=None, log=None, errors=None, cwd=None, **environment):
    """The command, begun. said: the file its words go to. log: a file that has a line for every training.

    errors: the file that its standard error goes to, if not to ``said``. cwd: the folder to run it in.
    """
    arguments = (words, environment, fault, log, said, errors, cwd)
    process = context().Process(target=_command, args=arguments)
    with workers.hide_main_module():  # which is pytest's, and would be run anew
        process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def command(said, *words, **how):
    """The command's exit status, -9 where it was killed."""
    with started(said, *words, **how) as process:
        process.join(HANG_SECONDS)
        assert process.exitcode is not None, Path(said).read_text()
        return process.exitcode


def in_threads(monkeypatch):
    """Slots that are threads: for what is said between a slot and its parent, not for what its process does."""
    from udcd_bench.engines import local

    monkeypatch.setattr(local.workers, "start", lambda: None)

    def start(context):
        ours, theirs = multiprocessing.Pipe()
        serving = threading.Thread(target=local._serve_runs, args=(theirs, context))
        serving.start()
        return local._Worker(SimpleNamespace(terminate=lambda: None, join=serving.join), ours, context)

    monkeypatch.setattr(local, "_start_worker", start)


class Full:
    """From the n-th call on, as on a full disk."""

    def __init__(self, n, call):
        self.n, self.call, self.count = n, call, 0

    def __call__(self, *arguments, **named):
        self.count += 1
        if self.count > self.n:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.call(*arguments, **named)


def settle(store):
    """Wait until a killed command's other processes have noticed and ended."""
    end = time.monotonic() + HANG_SECONDS
    while any(store.locks.is_locked(path.name.partition(".")[0]) for path in store.locks.folder.glob("*")):
        assert time.monotonic() < end
        time.sleep(0.02)


def litter(root):
    """What nobody is at and nobody needs: claims, temporary files, folders of runs under way."""
    found = [p for p in root.rglob("*") if ".tmp" in p.name or ".whole" in p.name or ".incoming-" in p.name]
    found += [*root.glob("runs/.claims/*"), *root.glob("runs/.work/*"), *root.glob("runs/.failed/*")]
    return found


def record_of(store, key):
    """What two makings of one run have in common: all but how long it took, and the commit that a checkout was at."""
    record = store.read_record(key)
    record["environment"].pop("commit")
    return json.dumps({k: v for k, v in record.items() if k not in ("seconds", "files", "bytes", "sha256")})
