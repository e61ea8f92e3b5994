"""``status RUN``: of a failed run the reason with the method's file and line, a short traceback, and the command."""

from __future__ import annotations

import os
import shlex

import pytest
from click.testing import CliRunner

from support import faults, own_runs, records
from udcd_bench import plugins
from udcd_bench.cli import cli
from udcd_bench.errors import RunError
from udcd_bench.inference.selection import find_summaries
from udcd_bench.inference.status import describe_run
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store

METHOD = '''"""Mine."""

import torch.nn.functional as F

from udcd_bench import method


class Method(method.BaseMethod):
    title = "Mine"
    citation = "Me, 2024"
    hparams = {"temperature": 4.0}  # S

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        {line}
        return {"ce": loss}
'''
LINE = 1 + METHOD.splitlines().index("        {line}")
MISTAKES = {
    "loss = F.cross_entropy(logits, batch.labels[:3])": "ValueError: Expected input batch_size",
    'loss = logits.mean() / getattr(self.hp, "temprature")': (
        "there is no hyper-parameter 'temprature'; did you mean 'temperature'? Known: temperature."
    ),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("status")
    own_runs.draw(folder / "skin")
    return folder


@pytest.fixture
def fail(home, tmp_path, own_suites):
    """Trains a method with a mistake in it; returns the file, what the run's failure says, and its store."""

    def train(mistake):
        file = tmp_path / "mine.py"
        file.write_text(METHOD.replace("{line}", mistake))
        plugins.add_suite(tmp_path)
        with pytest.raises(RunError) as caught:
            own_runs.train(home, "mine")
        return file, str(caught.value), Store(home / "results")

    return train


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_the_line_of_the_method(fail, home, mistake):
    file, message, store = fail(mistake)
    assert f"mine.py, line {LINE}: {MISTAKES[mistake]}" in message
    lines = describe_run(store, "mine skin", home / "data")  # the newest of those whose label begins so
    text = "\n".join(lines)
    assert lines[0].startswith("mine skin ") and f"{'state':10} failed" in lines
    assert f"{'reason':10} mine.py, line {LINE}: {MISTAKES[mistake]}" in text
    first = next(line for line in lines if line.startswith("traceback"))
    assert first == f"{'traceback':10} {file}, line {LINE}, in compute_losses", (
        "the method's frame stands first"
    )
    assert lines[lines.index(first) + 1].strip() == mistake
    assert "frames of the engine and of libraries are left out)" in text and len(lines) < 20
    assert "execute.py" not in text and "trainer.py" not in text


def test_the_command_repeats_the_run(fail, home):
    _, _, store = fail(next(iter(MISTAKES)))
    key = find_summaries(store, "mine skin")[0].key
    (line,) = (line for line in describe_run(store, key[:6], home / "data") if line.startswith("command"))
    words = shlex.split(line.removeprefix("command"))
    assert words[0] == "udcd-bench" and words[words.index("train") + 1] == "mine"
    assert f"folder:{home / 'skin'}" in words and "--fold" in words and "epochs=1" in words
    assert words[words.index("--out") + 1] == str(home / "results")


def test_a_report_of_an_earlier_version_or_of_a_dead_process_has_no_traceback(fail, home):
    _, _, store = fail(next(iter(MISTAKES)))
    summary = find_summaries(store, "mine skin")[0]
    spec = store.read_running_spec(summary.key)
    store.record_failure(summary.key, spec, "its process died, twice", "")
    lines = describe_run(store, summary.key, home / "data")
    assert f"{'reason':10} its process died, twice" in lines
    assert not any(line.startswith("traceback") for line in lines)
    (command,) = (line for line in lines if line.startswith("command"))
    assert f"folder:{home / 'skin'}" in command, "where own images lie is looked up"


def test_a_command_whose_run_fails_names_this_one(home, tmp_path, monkeypatch, own_suites):
    faults.in_threads(monkeypatch)
    (tmp_path / "mine.py").write_text(METHOD.replace("{line}", "raise ValueError('boom')"))
    words = ["--suite", tmp_path, "train", "mine", "--dataset", f"folder:{home / 'skin'}", "--device=cpu"]
    words += ["--data", home / "data", "--out", home / "results"]
    words += [f"--set={name}={value}" for name, value in own_runs.TINY.items()]
    result = CliRunner().invoke(cli, list(map(str, words)), standalone_mode=False)
    assert result.return_value == 1, result.output
    key = find_summaries(Store(home / "results"), "mine skin")[0].key
    assert f" status {key} --out {home / 'results'}" in result.stderr


def test_a_finished_run_is_described_too(home):
    run = own_runs.train(home)
    lines = describe_run(run.store, run.key, home / "data")
    assert lines[0] == run.label and f"{'state':10} done" in lines
    assert any(line.startswith("remark     acc ") for line in lines)
    assert f"{'stored in':10} {run.store.run_folder(run.key)}" in lines


def test_the_command_of_a_method_whose_suite_is_off_turns_it_on(home, own_suites, monkeypatch):
    plugins.add_suite("modern")
    run = own_runs.train(home, "focal")
    monkeypatch.setattr(plugins.suites, "_ADDED_SUITES", [])
    monkeypatch.setenv("UDCD_BENCH_SUITE", "")
    plugins.find_files.cache_clear()
    assert "udcd-bench --suite modern train focal " in "\n".join(
        describe_run(run.store, run.key, home / "data")
    )


def test_of_several_runs_of_one_label_the_newest_is_shown_and_the_others_are_listed(tmp_path):
    store, spec = Store(tmp_path), RunSpec("kd", "digits", "demo", "densenet-tiny")
    for n, key in enumerate(("aa11", "bb22", "cc33")):
        records.store_run(store, records.record(spec, key=key))
        os.utime(store.run_folder(key) / "record.json", (n, n))
    text = "\n".join(describe_run(store, "kd digits", tmp_path))
    assert f"{'key':10} cc33" in text
    assert f"{'older':10} 2 runs of this label too; to see one, give its key:" in text
    assert text.index("bb22 done") < text.index("aa11 done")
    by_key = "\n".join(describe_run(store, "aa", tmp_path))
    assert f"{'key':10} aa11" in by_key and "older" not in by_key
