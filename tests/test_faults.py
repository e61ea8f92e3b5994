"""Kills, full disks, damage, crashes, hangs, want of memory: nothing is lost, and no figure changes."""

from __future__ import annotations

import os
import random

import faults
import pandas as pd
import pytest
from faults import Fault, command, litter, record_of, settle

from udcd_bench.data import sources
from udcd_bench.store import Store

SIZE = {"n_images": 100, "image_size": 32, "epochs": 3}
KILLS = int(os.environ.get("UDCD_BENCH_KILLS", "4"))
"""Of the campaign; 50 and more take minutes."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    sources.prepare("synthetic-lesions", size=32, data=folder, n_images=SIZE["n_images"])
    return folder


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
    assert store.keys() == other.keys()
    for key in store.keys():  # noqa: SIM118
        assert store.damage(key, thorough=True) == ""
        for read in (Store.scores, Store.weights):
            one, two = read(store, key), read(other, key)
            assert one.keys() == two.keys()
            assert all(one[name].tobytes() == two[name].tobytes() for name in one)
        assert record_of(store, key) == record_of(other, key)
        rows = [
            pd.read_csv(s.file(key, "history.csv")).drop(columns=["seconds", "images_per_s"])
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
            for key in store.keys():  # noqa: SIM118
                assert store.damage(key, thorough=True) == "", fault
        assert first == (-9 if struck and fault.who == "parent" else 0), (fault, said.read_text())
        assert command(said, *words) == 0, (fault, said.read_text())
        assert litter(out) == [], fault
        assert_same(Store(out), undisturbed)
        if words[0] == "run":
            tables = [(folder / "demo" / "table2.csv").read_bytes() for folder in (out, undisturbed.root)]
            assert tables[0] == tables[1]
        if sum(kills.values()) >= KILLS:
            break
    with capsys.disabled():
        print(f"\n{kills} killed in {n + 1} rounds")
