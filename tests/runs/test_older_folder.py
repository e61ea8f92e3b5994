"""What an earlier revision stored is still read: the same lines and values of a results folder, the same images."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from udcd_bench.cli import cli
from udcd_bench.data import sources
from udcd_bench.data.cache import prepared
from udcd_bench.errors import UserError
from udcd_bench.runs.store import Store

WRITTEN = Path(__file__).parents[1] / "fixtures" / "revision4"
"""As revision 4 left it; ``status.txt`` and ``runs.csv`` are what it printed and exported of it."""
RUN = ["train", "scratch", "--dataset=folder:images", "--backbone=resnet-tiny", "--device=cpu"]
SETTINGS = ["--set=batch_size=8", "--set=epochs=2", "--set=image_size=32"]
RUN += SETTINGS


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


def test_status_has_the_same_lines_and_says_that_they_are_older(typed, folder):
    """Of own images it says what they are called, and no longer where they lie."""
    before = (folder / "status.txt").read_text().splitlines()
    ages = [", older: revision 5 or before" * line.startswith("done") for line in before]
    lines = [line.replace("folder:images", "images", 1) + age for line, age in zip(before, ages)]
    shown = [re.sub(r"^(\w+ +)[0-9a-f]{16}  ", r"\1", line) for line in typed("status").splitlines()]
    assert sorted(shown[:-1]) == sorted(lines[:-1]) and sorted(shown[-1]) == sorted(lines[-1])


def test_what_is_written_of_older_runs_says_so(typed):
    asked = (
        "table2",
        "--datasets=folder:images",
        "--methods=scratch,kd",
        "--backbone=resnet-tiny",
        *SETTINGS,
    )
    for words in (("check", *asked), ("compare", *asked, "--with=kd")):
        assert "2 of 2 runs are of a revision before 6" in CliRunner().invoke(cli, words).output
    typed("report", "--to=page.html")
    assert "2 of 2 runs are of a revision before 6." in Path("page.html").read_text()


def test_an_export_has_the_same_values(typed, folder):
    typed("results", "export", "again.csv")
    exported, before = (pd.read_csv(folder / name) for name in ("again.csv", "runs.csv"))
    assert set(before) <= set(exported) and exported["revision"].isna().all()
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


def test_a_start_prepares_own_images_once_more_for_their_digest(typed, folder, caplog):
    (path,) = (folder / "data").glob("*/32")
    before = prepared.load(path)
    with caplog.at_level(logging.INFO):
        planned = typed(*RUN, "--data=data", "--out=results", "--dry-run")
        typed(*RUN, "--data=data", "--out=results", "--dry-run")
    after = prepared.load(path)
    assert f"scratch images ({after.identity.partition('#')[2][:4]}) resnet-tiny fold 0" in planned
    assert after.identity != before.identity and after.fingerprint == before.fingerprint
    assert caplog.text.count("prepared by an earlier version; it is prepared again") == 1
    assert "damaged" not in caplog.text


def test_own_images_that_are_gone_cannot_get_a_digest(typed, folder):
    shutil.rmtree(folder / "images")
    with pytest.raises(
        UserError, match="by an earlier version, without a digest of the images, and folder:images is gone"
    ):
        sources.load_dataset("folder:images", size=32, data=Path("data"))
