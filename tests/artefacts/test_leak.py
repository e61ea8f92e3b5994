"""What the leak is worth: the paper's split less the grouped one, row by row."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from support import records as make
from support import tables
from udcd_bench import plugins
from udcd_bench.artefacts import leak
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.runs.results import Results
from udcd_bench.runs.spec import RunSpec, derive_seed
from udcd_bench.runs.store import Store


@pytest.fixture
def table():
    return plugins.load_class("tables", "table2")()


N = 200


def finish(store, spec, share):
    """A finished run of ``N`` test images, of which this share is told right."""
    draws = np.random.default_rng(derive_seed(spec.method, spec.split))
    labels = np.arange(N) % 3
    right = np.arange(N) < round(share * N)
    told = np.where(right, labels, (labels + 1) % 3)
    scores = np.eye(3)[told][None] + draws.uniform(0, 0.1, (1, N, 3))
    acc = float((scores[0].argmax(1) == labels).mean())
    record = make.record(spec, figures=dict.fromkeys(("acc", "ap", "rec", "f1"), acc))
    store.finish_run(
        record["key"], record, pd.DataFrame({"epoch": [0]}), make.arrays(scores, labels), {"w": np.zeros(1)}
    )


ASK = TableRequest("paper", methods=("scratch", "udcd"), split="both")


@pytest.fixture
def stored(table, tmp_path):
    """A store with scores whose accuracy is 0.9 by image and 0.7 by group."""
    store = Store(tmp_path)
    for split, share in (("paper", 0.9), ("grouped", 0.7)):
        for spec in table.list_runs(replace(ASK, split=split)):
            finish(store, spec, share)
    return store


def made(table, store):
    found = {}
    for key in store.list_keys():
        record = store.read_record(key)
        found[RunSpec.from_dict(record["spec"])] = record
    return leak.render(table, ASK, Results(store, found, {}))


def test_the_difference_its_interval_and_its_files(table, stored):
    got = made(table, stored)
    acc = got.frame[got.frame["metric"] == "acc"]
    assert len(acc) == 4
    assert acc["leak"].to_numpy() == pytest.approx(20, abs=1.1) and (acc["low"] > 0).all()
    assert (acc["low"] < acc["leak"]).all() and (acc["leak"] < acc["high"]).all()
    # a binomial's standard errors, of 200 images each, and 0.5 points of training
    half = 1.96 * 100 * math.sqrt(0.9 * 0.1 / 200 + 0.7 * 0.3 / 200 + 2 * 0.005**2)
    assert ((acc["high"] - acc["low"]) / 2).to_numpy() == pytest.approx(half, rel=0.15)
    assert [path.name for path in got.files] == [
        f"table2-scratch-udcd-leak{ending}" for ending in (".csv", ".tex", ".png")
    ]
    assert tables.read_csv(got.files[0])["leak"].notna().all() and "Bold" not in got.files[1].read_text()
    assert "+20" in got.text and "Split grouped" in " ".join(got.text.split())


def test_a_split_without_runs_leaves_a_dash(table, stored):
    found = {}
    for key in stored.list_keys():
        record = stored.read_record(key)
        if (spec := RunSpec.from_dict(record["spec"])).split == "paper" or spec.method == "udcd":
            found[spec] = record
    frame = leak.build_frame(table, ASK, Results(stored, found, {})).set_index("method")
    assert frame.loc["scratch", "leak"].isna().all() and frame.loc["scratch", "low"].isna().all()
    assert frame.loc["udcd", "leak"].notna().all()
