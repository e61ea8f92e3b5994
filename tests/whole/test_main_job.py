"""The main job as the README gives it, and what a real problem makes of its rows. Minutes on two cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import tables
from udcd_bench import plugins

pytestmark = pytest.mark.slow


def bench(folder: Path, *words: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UDCD_BENCH_")}
    code = "from udcd_bench.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder the command was typed in, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, bench(folder, "run", "table2")


def test_table2_of_the_demo(demo):
    folder, said = demo
    out = folder / "results" / "demo"
    for name in ("table2.csv", "table2.tex", "table2.png"):
        assert f"results/demo/{name}" in said and (out / name).stat().st_size > 0
    assert (
        "synthetic stand-in" in said.lower()
        and "synthetic stand-in" in (out / "table2.tex").read_text().lower()
    )
    frame = tables.read_csv(out / "table2.csv")
    assert set(frame["verdict"]) == {"synthetic stand-in"} and frame["published"].isna().all()
    assert set(frame["method"]) == set(plugins.list_names("methods"))
    for path in (folder / "results" / "runs").glob("*/record.json"):
        record = json.loads(path.read_text())
        with np.load(path.parent / "scores.npz") as stored:
            predicted = np.bincount(stored["scores"][-1].argmax(1), minlength=len(record["classes"]))
            majority = np.bincount(stored["labels"]).argmax()
        told = f"{record['spec']['method']} on {record['spec']['dataset']}"
        # a row that fell for the majority would reach 1 / C in balanced accuracy
        assert predicted[majority] < 0.9 * predicted.sum(), told
        assert record["figures"]["last"]["rec"] > 1.5 / len(record["classes"]), told


def test_the_same_command_again_trains_nothing(demo):
    folder, _ = demo
    again = [sys.executable, "-m", "udcd_bench", "run", "table2"]
    done = subprocess.run(again, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and "nothing to train" in done.stderr


def test_digits_are_learned(tmp_path):
    # half of the profile's epochs are enough
    words = ("--datasets", "digits", "--methods", "scratch,udcd", "--set", "epochs=20", "--name", "digits")
    bench(tmp_path, "run", "table2", *words)
    frame = tables.read_csv(tmp_path / "results" / "demo" / "digits.csv")
    recalls = frame[frame["metric"] == "rec"].set_index("method")["ours"]
    assert len(recalls) == 2 and (recalls >= 95).all(), recalls.to_dict()
