"""``bench --everything``: each part on a CPU, at small sizes; one that fails or hangs stops no other."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from support import parts
from udcd_bench import plugins
from udcd_bench.bench import ratio
from udcd_bench.bench.everything import processes, request, session, short_runs, steps, summary
from udcd_bench.bench.everything.request import Request
from udcd_bench.bench.everything.session import Part
from udcd_bench.cli import cli
from udcd_bench.engines import local
from udcd_bench.engines.events import RunFailed
from udcd_bench.engines.job_queue import run_job
from udcd_bench.runs.profiles import TINY_DENSENET
from udcd_bench.runs.spec import RunSpec

pytestmark = pytest.mark.slow

command = importlib.import_module("udcd_bench.cli.bench")
HUNGRY = '''"""A method that a GPU has room for in small batches only."""

import torch

from udcd_bench import method


class Method(method.BaseMethod):
    title = "Hungry"
    citation = "None, 2024"

    def compute_losses(self, batch, progress):
        if len(batch.index) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"ce": self.cross_entropy(self.student(batch.views[0]).logits, batch.labels)}
'''


@pytest.fixture
def asked(tmp_path):
    return Request(("scratch", "mtg"), TINY_DENSENET, (32,), 20, "cpu", 1, 3, tmp_path / "data")


@pytest.fixture
def folder(tmp_path, prepared_lesions, monkeypatch):
    """A folder for the parts, with the tests' drawn images in it; runs are made in this process."""

    def run_here(jobs, context, slots, notify):
        ends = {job.key: run_job(job, context, notify) for job in jobs}
        return {key: end.message for key, end in ends.items() if isinstance(end, RunFailed)}

    monkeypatch.setattr(local, "run", run_here)
    monkeypatch.setattr(request, "BATCHES_OF_A_STAND_IN", 5)  # of 20, as many as are drawn
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "data").symlink_to(prepared_lesions)
    return tmp_path / "scratch"


@pytest.fixture
def brief(folder, monkeypatch):
    """The same folder, where no rate is compared: runs of two epochs."""
    monkeypatch.setattr(short_runs, "EPOCHS", 2)
    return folder


# --- the parts --------------------------------------------------------------------------------------------------


def test_every_step_has_its_floor(asked, tmp_path):
    rows = list(steps.measure_steps(asked, tmp_path))
    assert [(row["method"], row["image_size"]) for row in rows] == [("scratch", 32), ("mtg", 32)]
    for row in rows:
        assert row["ratio"]["q25"] <= row["ratio"]["median"] <= row["ratio"]["q75"]
        assert row["images_per_s"] == pytest.approx(2e4 / row["step_ms"])
    (head, *_, last) = summary._format_steps(rows)
    assert "step/floor" in head and last.endswith("they need a GPU.")


def test_a_step_that_does_not_fit_leaves_the_others(asked, tmp_path, monkeypatch):
    def run_out(subject, asked):
        if subject.name == "scratch":
            raise torch.OutOfMemoryError("CUDA out of memory.\nSee the documentation.")
        return {"ratio": ratio.compute_quartiles([1.0]), "step_ms": 1.0, "images_per_s": 1.0}

    monkeypatch.setattr(steps, "_measure_method", run_out)
    first, second = steps.measure_steps(asked, tmp_path)
    assert first["error"] == "CUDA out of memory." and "error" not in second
    assert "scratch           32²  CUDA out of memory." in list(summary._format_steps([first, second]))


def test_streamed_images_are_compared_with_resident_ones(asked, tmp_path):
    resident, streamed = steps.compare_inputs(asked, tmp_path)
    assert (resident["images"], streamed["images"]) == ("resident", "streamed")
    for row in (resident, streamed):
        assert row["one_view_per_s"] > row["step_images_per_s"] > 0


def test_a_run_made_twice_is_the_same_on_a_cpu(asked, brief):
    try:
        rows = list(short_runs.repeat_runs(asked, brief))
    finally:
        torch.use_deterministic_algorithms(False)
    assert [row["deterministic"] for row in rows] == [True, False]
    for row in rows:
        assert row["method"] == "mtg" and row["bit_for_bit"] and row["largest_logit_difference"] == 0
        assert row["rec"][0] == row["rec"][1]
    assert "mtg as by default: bit for bit" in "\n".join(summary._format_repeats(rows))


def test_runs_that_differ_are_said_to_differ(asked, brief):
    first, other = (
        short_runs.make_runs([short_runs.make_spec(asked, "scratch", seed)], asked, brief / str(seed))
        for seed in (0, 1)
    )
    compared = short_runs.compare_outcomes(first, other)
    assert not compared["bit_for_bit"] and compared["largest_logit_difference"] > 0


def test_four_runs_are_added_up(asked, folder):
    one, four = short_runs.compare_jobs(asked, folder)
    assert (one["runs"], four["runs"]) == (1, 4) and not one["failed"] and not four["failed"]
    assert four["images_per_s"] > 2 * one["images_per_s"] > 0, (
        "made one after the other, each at its own pace"
    )
    assert list(summary._format_together([one, four]))[-1].startswith("Four are ")


def test_both_precisions_have_their_figures(asked, brief):
    rows = list(short_runs.compare_precisions(asked, brief))
    assert [(row["precision"], row["seed"]) for row in rows] == [
        ("bf16", 0),
        ("bf16", 1),
        ("fp32", 0),
        ("fp32", 1),
    ]
    assert all(0 <= row["acc"] <= 1 and 0 <= row["rec"] <= 1 for row in rows)
    bf16, fp32 = summary._format_precision(rows)
    assert bf16.startswith("bf16: accuracy ") and fp32.startswith("fp32: accuracy ")


def test_an_ordinary_run_lives_beside_one_that_runs_out_of_memory(asked, folder, own_suites, monkeypatch):
    (folder / "suite" / "methods").mkdir(parents=True)
    (folder / "suite" / "methods" / "hungry.py").write_text(HUNGRY)
    plugins.add_suite(folder / "suite")
    monkeypatch.setattr(short_runs, "TEACHER_METHOD", "hungry")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    (row,) = short_runs.exhaust_memory(asked, folder)
    assert row["ordinary_is_done"] and row["greedy_failed"] and row["says_that_memory_ran_out"]
    assert "at batch_size 100000 (CUDA out of memory.)" in row["message"]
    assert "The other failed as it should: True" in list(summary._format_memory([row]))


def test_kernels_are_added_up():
    class Event:
        def __init__(self, device_type, microseconds):
            self.device_type, self.time_range = device_type, self
            self.elapsed_us = lambda: microseconds

    events = [Event("DeviceType.CUDA", 1500), Event("DeviceType.CPU", 9000), Event("DeviceType.CUDA", 500)]
    assert ratio.tally_kernels(events) == (2, 2.0)
    row = {"method": "udcd", "image_size": 224, "ratio": ratio.compute_quartiles([1.0]), "step_ms": 20.0}
    row |= {"images_per_s": 3200.0, "step_launches": 2350, "step_busy": 0.5, "floor_busy": 0.625}
    _, line, remark = summary._format_steps([row | {"memory_peak_bytes": 2**30}])
    assert line.split()[-4:] == ["2350", "50%", "62%", "1024"] and remark.startswith("Busy")


# --- the images -------------------------------------------------------------------------------------------------


def test_real_images_are_taken_where_they_are_prepared_in_that_size(asked):
    assert "drawn stand-ins (synthetic-lesions)" in request.choose_images(asked).describe(32)
    (asked.data / "aptos" / "64").mkdir(parents=True)
    assert request.choose_images(asked).n_drawn == 30 * 20
    (asked.data / "aptos" / "32").mkdir()
    assert request.choose_images(asked).describe(32) == "real images, aptos at 32²"
    spec = short_runs.make_spec(asked)
    assert isinstance(spec, RunSpec) and spec.dataset == "aptos" and "n_images" not in dict(spec.protocol)


# --- the session ------------------------------------------------------------------------------------------------


def test_what_a_part_had_by_its_end_stays(asked, tmp_path):
    following = processes.follow_measurement(parts.hang, asked, tmp_path, 600)
    rows = next(update["rows"] for update in following if update.get("rows"))
    following.close()
    assert rows == [{"number": 1}] == processes.read_rows(tmp_path / "hang.jsonl")
    with (tmp_path / "hang.jsonl").open("a") as file:
        file.write('{"number": ')
    assert processes.read_rows(tmp_path / "hang.jsonl") == rows
    ends = list(processes.follow_measurement(parts.hang, asked, tmp_path / "none", 0))
    assert ends[-1] == {"state": "stopped", "reason": "its 0 s were over"}


def test_the_command_measures_what_it_can_and_says_what_it_cannot(tmp_path, monkeypatch):
    made = {
        "memory": Part("memory", parts.give_rows, 60, needs_gpu=True),
        "precision": Part("bf16 against fp32", parts.fail, 60),
        "together": Part("four runs", parts.give_rows, 60),
        "input": Part("images", parts.hang, 0),
    }
    monkeypatch.setattr(session, "PARTS", made)
    file = tmp_path / "gpu.json"
    written = []
    monkeypatch.setattr(
        command, "_write_json", lambda path, result: written.append(json.loads(json.dumps(result)))
    )
    words = ["--methods=scratch", "--image-size=32", "--batch=8", "--device=cpu", f"--json={file}"]
    done = CliRunner().invoke(cli, ["bench", "--everything", *words])
    assert done.exit_code == 0, done.output
    states = [{name: entry["state"] for name, entry in result["parts"].items()} for result in written]
    assert set(states[0].values()) == {"not begun"} and "under way" in states[2].values()
    end = {"memory": "left out", "precision": "failed", "together": "done", "input": "left out"}
    assert states[-1] == end
    assert (
        written[-1]["ask"]["image_sizes"] == [32] and written[-1]["environment"]["torch"] == torch.__version__
    )
    shown = done.stdout
    assert "Memory: left out (needs a GPU)" in shown and "Four are 2.50 times one" in shown
    assert "failed (ValueError: it broke)" in shown and "bf16: accuracy 50.00 %, balanced 25.00 %" in shown


def test_the_parts_fit_into_the_budget_and_each_has_its_format():
    assert sum(part.seconds for part in session.PARTS.values()) <= session.BUDGET_SECONDS
    assert session.PARTS.keys() == summary._FORMATS.keys()
    assert np.unique([part.measure.__name__ for part in session.PARTS.values()]).size == len(session.PARTS)


def test_a_backbone_that_does_not_exist_is_told_before_anything_is_measured(tmp_path):
    words = ["--backbone=densenet1210", "--device=cpu", f"--json={tmp_path / 'gpu.json'}"]
    done = CliRunner().invoke(cli, ["bench", "--everything", *words])
    assert "densenet1210" in str(done.exception) and not list(Path(tmp_path).iterdir())
