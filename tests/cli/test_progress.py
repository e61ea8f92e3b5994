"""What is shown of runs under way: on a pipe a line now and then; and what --log writes from a command."""

from __future__ import annotations

import re
import sys
import threading
import time

import pandas as pd
import pytest

from support import records as make
from udcd_bench import cli
from udcd_bench.cli.training import making, progress
from udcd_bench.cli.training.estimates import format_duration
from udcd_bench.cli.training.progress import ProgressBoard
from udcd_bench.engines import local
from udcd_bench.engines.events import EpochDone, RunDone, RunFailed, RunStarted
from udcd_bench.engines.job_queue import JobQueue, run_job
from udcd_bench.runs.planner import Job
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store


def make_job(method, key, epochs):
    spec = RunSpec(method, "digits", "demo", "densenet-tiny", protocol=(("epochs", epochs),))
    total = {"scl-ikd": 2 * epochs + epochs // 4}.get(method, epochs)
    return Job(spec, key, "absent", total, make.make_inputs(spec))


def make_row(epoch, stage="train"):
    return {"stage": stage, "epoch": epoch, "loss": 1.5, "images_per_s": 100.0}


def wait_for(board, capsys, text):
    """Wait until a line with this text has been printed; return it."""
    printed, end = "", time.monotonic() + 20
    while text not in printed and time.monotonic() < end:
        time.sleep(0.01)
        printed += capsys.readouterr().err
    return next(line for line in reversed(printed.splitlines()) if text in line)


def test_a_pipe_gets_a_line_now_and_then_even_within_an_epoch(monkeypatch, capsys):
    monkeypatch.setattr(progress, "REPORT_INTERVAL", 0.02)
    jobs = [make_job("scratch", "a", 16), make_job("scl-ikd", "b", 8), make_job("udcd", "c", 8)]
    with ProgressBoard(jobs, 2) as board:
        board.notify(RunStarted("a"))
        line = wait_for(board, capsys, "under way")
        assert (
            line.startswith("After ") and "0 of 3 runs and 0 of 42 epochs; under way: scratch digits" in line
        )
        # it goes on from a checkpoint of five epochs
        board.notify(EpochDone("a", make_row(5)))
        line = wait_for(board, capsys, "(6 of 16 epochs)")
        assert "6 of 42 epochs, " in line and " left; under way: " in line
        board.notify(RunStarted("b"))
        board.notify(EpochDone("b", make_row(1, "student")))
        line = wait_for(board, capsys, "scl-ikd digits densenet-tiny fold 0 epochs=8 (10 of 18 epochs)")
        board.notify(RunDone("a"))
        board.notify(RunFailed("b", "ValueError: my own mistake"))
        line = wait_for(board, capsys, "FAILED")
        assert re.fullmatch(r"\[2/3\] scl-ikd .*: FAILED, \d+ s left: ValueError: my own mistake", line)
        board.notify(RunStarted("c"))
        line = wait_for(board, capsys, "2 of 3 runs and 34 of 42 epochs")
        assert "scratch" not in line and "under way: udcd" in line
    assert not board.reporter.is_alive()
    assert threading.active_count() < 20


def test_failed_runs_are_named_up_to_a_few_with_the_commands_that_repeat_them(tmp_path):
    store = Store(tmp_path / "results")
    for n in range(5):
        store.failure_path(f"k{n}").parent.mkdir(parents=True, exist_ok=True)
        store.failure_path(f"k{n}").touch()
    of_one = making._list_failures(["k0", "untried"], store)
    assert of_one == [
        f"Where it failed, and the command that repeats it: udcd-bench status k0 --out {store.root}"
    ]
    head, *commands, more = making._list_failures([f"k{n}" for n in range(5)], store)
    assert head == "Where they failed, and the commands that repeat them:"
    assert [line.split()[2] for line in commands] == ["k0", "k1", "k2"]
    assert more == f"  and 2 more, which this lists: udcd-bench status --out {store.root}"
    assert making._list_failures(["untried"], store) == []


def test_runs_under_way_are_named_up_to_a_few(monkeypatch):
    jobs = [make_job("scratch", str(n), 16) for n in range(5)]
    board = ProgressBoard(jobs, 5)
    for job in jobs:
        board.notify(RunStarted(job.key))
    assert board._describe_all().count("scratch") == progress.MOST_NAMED
    assert board._describe_all().endswith(" and 2 more")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (720, "12 min"), (11_100, "3 h 05 min"), (359_990, "100 h"), (5_616_000, "1560 h")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


# --- --log -------------------------------------------------------------------------------------------------------


def in_this_process(jobs, context, slots, notify):
    queue = JobQueue.from_jobs(jobs)
    while (job := queue.find_ready(set(queue.waiting))) is not None:
        del queue.waiting[job.key]
        queue.handle_event(run_job(job, context, notify), job, context.store, notify)
    return queue.failed


@pytest.fixture
def trained(tmp_path, prepared_lesions, monkeypatch):
    """Types a training with these words; returns its results folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local, "run", in_this_process)

    def train(out, *words):
        small = ("--set=n_images=100", "--set=image_size=32", "--set=epochs=2", f"--data={prepared_lesions}")
        line = [
            "train",
            "scratch",
            "--dataset=synthetic-lesions",
            "--device=cpu",
            *small,
            f"--out={out}",
            *words,
        ]
        monkeypatch.setattr(sys, "argv", ["udcd-bench", *line])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        return Store(tmp_path / out)

    return train


def test_a_log_changes_neither_key_nor_figures(trained):
    plain, logged = trained("plain"), trained("logged", "--log=csv")
    (key,) = plain.list_keys()
    assert logged.list_keys() == [key] and not (plain.root / "logs").exists()
    assert logged.read_record(key)["figures"] == plain.read_record(key)["figures"]
    assert logged.read_record(key)["made_of"] == plain.read_record(key)["made_of"]
    (folder,) = (logged.root / "logs").iterdir()
    assert folder.name.startswith("scratch-synthetic-lesions-densenet-tiny-fold-0-") and folder.name.endswith(
        key
    )
    log = pd.read_csv(folder / "epochs.csv")
    history = pd.read_csv(logged.verify_file(key, "history.csv"))
    assert {"loss_ce", "learning_rate", "images_per_s", "acc", "f1"} <= set(log) and len(log) == 2
    pd.testing.assert_frame_equal(log[list(history)], history, check_dtype=False)
