"""What an earlier revision stored is still read: the same lines and values of a results folder, the same images."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from udcd_bench.cli import cli
from udcd_bench.data import sources
from udcd_bench.data.cache import prepared
from udcd_bench.runs.store import Store

WRITTEN = Path(__file__).parents[1] / "fixtures" / "revision4"
"""As revision 4 left it; ``status.txt`` and ``runs.csv`` are what it printed and exported of it."""
RUN = ["train", "scratch", "--dataset=folder:images", "--backbone=resnet-tiny", "--device=cpu"]
RUN += ["--set=batch_size=8", "--set=epochs=2", "--set=image_size=32"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of what was written, as the current folder."""
    copied = shutil.copytree(WRITTEN, tmp_path / "revision4")
    monkeypatch.chdir(copied)
    # a prepared set is known by its files' times, which a checkout does not keep
    for name, nanoseconds in json.loads((copied / "mtimes.json").read_text()).items():
        os.utime(copied / name, ns=(nanoseconds, nanoseconds))
    (prepared_set,) = (copied / "data").iterdir()
    # a folder's own data are kept under a hash of its path, which is another one here
    prepared_set.rename(copied / "data" / sources.make_slug("folder:images"))
    return copied


@pytest.fixture
def typed(folder):
    """Types a command; returns its standard output."""

    def run(*words):
        done = CliRunner().invoke(cli, [*words])
        assert done.exit_code == 0 and done.exception is None, (done.output, done.exception)
        return done.stdout

    return run


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_status_has_the_same_lines(typed, folder):
    assert typed("status") == (folder / "status.txt").read_text()


def test_an_export_has_the_same_values(typed, folder):
    typed("results", "export", "again.csv")
    exported, before = (pd.read_csv(folder / name) for name in ("again.csv", "runs.csv"))
    assert set(before) <= set(exported)
    pd.testing.assert_frame_equal(exported[list(before)], before, check_exact=True)


def test_every_file_is_whole(typed, folder):
    before = contents(folder / "results" / "runs")
    assert "whole" in typed("results", "verify")
    after = contents(folder / "results" / "runs")
    assert before.items() <= after.items(), "nothing was moved aside"
    store = Store(folder / "results")
    keys = store.list_keys()
    assert len(keys) == 2 and all(store.find_damage(key, thorough=True) == "" for key in keys)
    for key in keys:
        assert store.read_scores(key)["scores"].shape[1:] == (5, 2) and store.read_weights(key)
        assert len(pd.read_csv(store.verify_file(key, "history.csv"))) == 2


def test_prepared_images_are_loaded(typed, folder):
    (path,) = (folder / "data").glob("*/32")
    data = prepared.load(path)
    assert data.images.shape == (24, 32, 32, 3) and np.bincount(data.labels).tolist() == [12, 12]
    assert "is whole" in typed("data", "verify", "folder:images", "--data=data")
    loaded = sources.load_dataset("folder:images", size=32, data=Path("data"))
    assert np.array_equal(loaded.images, data.images) and loaded.fingerprint == data.fingerprint


def test_a_start_prepares_nothing_anew(typed, folder, caplog):
    assert not sources.prepare_dataset("folder:images", size=32, data=Path("data")).fresh
    before = contents(folder / "data")
    with caplog.at_level(logging.INFO):
        planned = typed(*RUN, "--data=data", "--out=results", "--dry-run")
    assert "scratch folder:images resnet-tiny fold 0" in planned
    assert contents(folder / "data") == before and "damaged" not in caplog.text
