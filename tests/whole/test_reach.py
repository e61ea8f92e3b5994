"""Two starts of one command on one folder, interrupted at random, end in the table of an undisturbed serial run."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from support import tables
from support.faults import HANG_SECONDS, litter, settle, started
from udcd_bench.runs.store import Store

pytestmark = pytest.mark.slow

SIZE = {"n_images": 100, "image_size": 32, "epochs": 2}
ROUNDS = (1, 0, 2, 1)
"""Two starts each, both stopped a random moment after so many runs more are done, if any, and another has begun."""


def command(data, out):
    words = [
        "run",
        "table2",
        "--datasets=synthetic-lesions",
        "--methods=scratch,kd",
        "--seeds=2",
        "--folds=0,1",
    ]
    words += [f"--data={data}", f"--out={out}", "--device=cpu", "--jobs=1"]
    return words + [f"--set={name}={value}" for name, value in SIZE.items()]


def ended(process, said):
    process.join(HANG_SECONDS)
    assert process.exitcode is not None, said.read_text()
    return process.exitcode


def planned(said):
    return said.exists() and "runs to make" in said.read_text()


def trained(log):
    return log.read_text().split() if log.exists() else []


def test_ends_in_the_table_of_an_undisturbed_serial_run(tmp_path, prepared_lesions):
    said = [tmp_path / "said-0", tmp_path / "said-1"]
    with started(said[0], *command(prepared_lesions, tmp_path / "serial")) as process:
        assert ended(process, said[0]) == 0, said[0].read_text()

    draw, shared, log = random.Random(7), Store(tmp_path / "shared"), tmp_path / "log"
    words = command(prepared_lesions, shared.root)
    done, stops = [], []
    for more in ROUNDS:
        for path in said:
            path.unlink(missing_ok=True)
        before, end = len(trained(log)), time.monotonic() + HANG_SECONDS
        with started(said[0], *words, log=log) as one, started(said[1], *words, log=log) as two:
            while one.is_alive() and two.is_alive():
                begun = len(trained(log)) > before + more and all(planned(path) for path in said)
                if begun and len(shared.list_keys()) >= len(done) + more:
                    break
                assert time.monotonic() < end
                time.sleep(0.01)
            for process in draw.sample((one, two), 2):
                time.sleep(draw.uniform(0.1, 0.5))
                stops.append(how := draw.choice((signal.SIGINT, signal.SIGKILL)))
                if process.is_alive():
                    os.kill(process.pid, how)
            codes = [ended(process, path) for process, path in zip((one, two), said)]
        assert set(codes) <= {0, 130, -signal.SIGKILL}, [path.read_text() for path in said]
        settle(shared)
        now = shared.list_keys()
        assert set(done) <= set(now), "what is done stays"
        assert all(shared.find_damage(key, thorough=True) == "" for key in now)
        done = now
    assert set(stops) == {signal.SIGINT, signal.SIGKILL}
    assert len(done) >= sum(ROUNDS)
    with started(said[0], *words, log=log) as one, started(said[1], *words, log=log) as two:
        assert [ended(process, path) for process, path in zip((one, two), said)] == [0, 0]
    assert len(shared.list_keys()) == 8 and litter(shared.root) == []
    for ending in (".csv", ".tex"):
        one, two = (
            tables.find_file(root / "demo", ending=ending) for root in (shared.root, tmp_path / "serial")
        )
        assert one.read_bytes() == two.read_bytes()
    assert shared.list_keys() == Store(tmp_path / "serial").list_keys()
