"""Two laboratories with the same images and weights, called and kept otherwise: one set of runs, one table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image

from support import tables
from support.faults import in_threads
from udcd_bench.cli import cli
from udcd_bench.errors import UserError
from udcd_bench.runs.store import Store

pytestmark = pytest.mark.slow

BACKBONE = "test_resnet"
SETTINGS = ["--set=batch_size=8", "--set=epochs=1", "--set=image_size=32", f"--backbone={BACKBONE}"]
ALONE = ["--device=cpu", "--jobs=1"]
"""Threads would share one random state."""


def draw(folder, seed=0):
    for label, name in enumerate(("benign", "malignant")):
        (folder / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng([seed, label, i]).integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


def typed(*words, fails=False):
    """Types a command in the current folder; returns all that it printed."""
    done = CliRunner().invoke(cli, [str(word) for word in words])
    if fails:
        assert isinstance(done.exception, UserError)
        return str(done.exception)
    assert done.exit_code == 0 and done.exception is None, (done.output, done.exception)
    return done.output


@pytest.fixture
def labs(tmp_path, monkeypatch):
    """Two folders; ``one`` has trained KD's and its teacher's run on its images, from its file of weights."""
    in_threads(monkeypatch)
    one, two = tmp_path / "one", tmp_path / "two"
    draw(one / "skin")
    shutil.copytree(one / "skin", two / "sets" / "moles")
    torch.manual_seed(0)
    torch.save(timm.create_model(BACKBONE, num_classes=0).state_dict(), one / "pre.pth")
    shutil.copy(one / "pre.pth", two / "downloaded.pth")
    monkeypatch.chdir(one)
    typed("train", "kd", "--dataset=folder:skin", "--set=weights=pre.pth", *SETTINGS, *ALONE)
    monkeypatch.chdir(two)
    return one, two


def make_table(*words):
    return typed(
        "run", "table2", "--methods=scratch,kd", f"--datasets=folder:{Path.cwd() / 'sets' / 'moles'}/",
        "--set=weights=downloaded.pth", *SETTINGS, "--data=other data", *ALONE, *words,
    )  # fmt: skip


def test_two_laboratories_join(labs):
    one, two = labs
    make_table("--folds=1,0", "--out=mine")
    stores = Store(one / "results"), Store(two / "mine")
    shared = stores[0].list_keys()
    assert len(shared) == 2 and set(shared) < set(stores[1].list_keys())
    for key in shared:
        records = [store.read_record(key) for store in stores]
        assert [record["spec"]["dataset"].partition("#")[0] for record in records] == [
            "folder:skin",
            "folder:moles",
        ]
        assert (
            records[0]["figures"] == records[1]["figures"] and records[0]["made_of"] == records[1]["made_of"]
        )
    assert "0 runs added, 2 there already, 4 in all" in typed(
        "results", "merge", one / "results", "--out=mine"
    )
    assert "4 runs added" in typed("results", "merge", one / "results", "mine", "--out=joined")
    table = make_table("--folds=0,1", "--out=joined")
    assert "All 4 runs are done" in table and "n = 2" in table
    assert "moles (" in table and "weights=downloaded.pth (" in table
    assert "All 4 runs are done" in typed(
        "run", "table2", "--methods=scratch,kd", f"--datasets=folder:{one / 'skin'}", "--folds=0,1",
        f"--set=weights={one / 'pre.pth'}", *SETTINGS, "--out=joined",
    )  # fmt: skip
    for file in Path("joined/demo").glob("table2.[cmt]*"):
        text = file.read_text()
        assert not any(str(place) in text for place in (one, two)), file
    frame = tables.read_table(Path("joined/demo"), "table2*moles")
    assert frame["dataset"].nunique() == 1 and set(frame["n"]) == {2}


def test_stored_runs_are_found_by_path_or_name(labs):
    one, two = labs
    shutil.copytree(one / "results", two / "results")
    asked = ("compare", "table2", "--with=kd", "--methods=scratch,kd", *SETTINGS)
    weights = "--set=weights=downloaded.pth"
    wanted = typed(*asked, "--datasets=folder:skin", weights)
    assert "difference" in wanted and "skin (" in wanted
    name = Store(two / "results").read_record(Store(two / "results").list_keys()[0])["spec"]["dataset"]
    for dataset in (name, f"folder:any#{name.partition('#')[2]}"):
        assert "n=1" in typed(*asked, f"--datasets={dataset}", weights)
    assert "n=1" in typed(*asked, "--datasets=folder:skin", "--set=weights=pre.pth"), (
        "the weights by their name"
    )
    typed("data", "prepare", "folder:sets/moles", "--size=48")
    assert "n=1" in typed(*asked, "--datasets=folder:sets/moles", weights), "of another size: the same images"
    assert "No run in the results folder is of folder:moles; it has folder:skin#" in typed(
        *asked, "--datasets=folder:moles", weights, fails=True
    )
    assert "is of no.pth; it has pre.pth#" in typed(
        *asked, "--datasets=folder:skin", "--set=weights=no.pth", fails=True
    )
    Image.new("RGB", (32, 32)).save("sets/moles/benign/99.png")
    typed("data", "prepare", "folder:sets/moles", "--size=64")
    next(Path("sets/moles/benign").iterdir()).chmod(0o600)
    assert "n=1" in typed(*asked, "--datasets=folder:sets/moles", weights), "by what the runs were trained on"


def test_the_set_that_was_trained_on_is_found_among_several_prepared_ones(labs):
    one, two = labs
    shutil.copytree(one / "results", two / "results")
    asked = (
        "compare",
        "table2",
        "--with=kd",
        "--methods=scratch,kd",
        *SETTINGS,
        "--set=weights=downloaded.pth",
    )
    Image.new("RGB", (32, 32)).save("sets/moles/benign/99.png")
    typed("data", "prepare", "folder:sets/moles", "--size=40")
    Path("sets/moles/benign/99.png").unlink()
    typed("data", "prepare", "folder:sets/moles", "--size=48")
    assert "n=1" in typed(*asked, "--datasets=folder:sets/moles"), "the first is of other images"
    typed("data", "prepare", "folder:sets/moles", "--size=32")
    for file in Path("sets/moles/benign").iterdir():
        file.chmod(0o600)
    assert "n=1" in typed(*asked, "--datasets=folder:sets/moles"), "no pixel has changed"


def test_two_sets_of_one_name_stay_apart(labs, monkeypatch):
    one, two = labs
    draw(two / "skin", seed=1)
    for folder in (one, two):
        monkeypatch.chdir(folder)
        typed("train", "scratch", "--dataset=folder:skin", *SETTINGS, *ALONE)
    typed("results", "merge", one / "results", "--out=results")
    lines = [
        line for line in typed("status").splitlines() if "scratch skin (" in line and "weights" not in line
    ]
    assert len({line.partition("(")[2][:4] for line in lines}) == len(lines) == 2
    asked = ("check", "table2", "--methods=scratch", *SETTINGS)
    message = typed(*asked, "--datasets=folder:skin", "--data=nothing", fails=True)
    assert message.startswith("folder:skin may mean folder:skin#") and message.count("folder:skin#") == 2


def test_an_earlier_result_compares_under_any_name(labs):
    one, two = labs
    make_table("--out=results")
    shutil.copytree(one / "results", two / "theirs")
    asked = [
        "--methods=scratch,kd",
        *SETTINGS,
        "--set=weights=pre.pth",
        "--datasets=folder:skin",
        "--out=theirs",
    ]
    checked = typed("check", "table2", f"--against={tables.find_file(Path('results/demo'))}", *asked)
    assert "8 reproduced; passed." in checked and "skin (" in checked and "folder:" not in checked
