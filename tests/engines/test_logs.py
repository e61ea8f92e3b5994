"""``--log``: what other programs can follow, which changes nothing of the run and goes on where a run goes on."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from support import records as make
from udcd_bench.engines.events import EpochDone, RunDone, RunFailed, RunStarted
from udcd_bench.engines.logs import writers
from udcd_bench.engines.logs.run_logs import RunLogs, open_logs
from udcd_bench.errors import UserError
from udcd_bench.runs.planner import Job
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store

SPEC = RunSpec("scl-ikd", "digits", "demo", "densenet-tiny")
KEY = "0123456789abcdef"
FOLDER = f"scl-ikd-digits-densenet-tiny-fold-0-{KEY}"


def make_row(epoch, stage="student", loss=2.0, **terms):
    row = {"stage": stage, "epoch": epoch, "learning_rate": 0.01, "seconds": 3.0, "images_per_s": 90.5}
    return row | {"loss": loss, "loss_ce": loss / 2, "gradient_ce": 0.5} | terms


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.create()
    return store


def open_runs(store, kind):
    return RunLogs(kind, store, [Job(SPEC, KEY, "absent", 4, make.make_inputs(SPEC))])


def save_checkpoint(store, rows):
    store.open_checkpoint(KEY).save({}, {"history": rows})


def read_events(store):
    """(step, tag) → value, as TensorBoard shows them: what a restart takes back is gone."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(store.root / "logs" / FOLDER)).Reload()
    tags = events.Tags()["scalars"]
    listed = [((event.step, tag), event.value) for tag in tags for event in events.Scalars(tag)]
    assert len(dict(listed)) == len(listed), "no number twice"
    return dict(listed)


def read_csv(store):
    return pd.read_csv(store.root / "logs" / FOLDER / "epochs.csv")


def test_a_csv_has_a_row_an_epoch_and_goes_on_where_the_run_does(store):
    logs = open_runs(store, "csv")
    logs.notify(RunStarted(KEY))
    assert not list((store.root / "logs" / FOLDER).iterdir()), "nothing is known yet"
    first = [make_row(0, "teacher", 3.0, loss_extra=1.0), make_row(0), make_row(1)]
    for row in first:
        logs.notify(EpochDone(KEY, row))
    frame = read_csv(store)
    assert frame["loss"].tolist() == [3.0, 2.0, 2.0] and frame["loss_extra"].isna().tolist() == [
        False,
        True,
        True,
    ]
    # it is killed after it has saved two epochs, and makes the third anew
    save_checkpoint(store, first[:2])
    logs = open_runs(store, "csv")
    logs.notify(RunStarted(KEY))
    assert read_csv(store)["loss"].tolist() == [3.0, 2.0]
    for row in (make_row(1), make_row(2, loss=1.0)):
        logs.notify(EpochDone(KEY, row))
    assert read_csv(store)["loss"].tolist() == [3.0, 2.0, 2.0, 1.0]
    logs.notify(RunFailed(KEY, "it broke"))
    assert logs.writers == {}


def test_tensorboard_reads_every_number_once_after_a_restart(store):
    logs = open_runs(store, "tensorboard")
    logs.notify(RunStarted(KEY))
    for row in (make_row(0, "teacher", 4.0), make_row(0, loss=3.0), make_row(1, loss=9.0)):
        logs.notify(EpochDone(KEY, row))
    logs.close()
    save_checkpoint(store, [make_row(0, "teacher", 4.0), make_row(0, loss=3.0)])
    logs = open_runs(store, "tensorboard")
    logs.notify(RunStarted(KEY))
    for row in (make_row(1, loss=2.0), make_row(2, loss=1.0)):
        logs.notify(EpochDone(KEY, row))
    rows = [make_row(0, "teacher", 4.0), make_row(0, loss=3.0), make_row(1, loss=2.0), make_row(2, loss=1.0)]
    store.read_history = lambda key: [*rows[:3], rows[3] | {"acc": 0.75, "rec": float("nan")}]
    logs.notify(RunDone(KEY))
    events = read_events(store)
    assert [events[step, "loss/sum"] for step in range(4)] == [4.0, 3.0, 2.0, 1.0]
    assert {tag for step, tag in events if step == 3} == {
        "loss/sum", "loss/ce", "gradient/ce", "learning_rate", "seconds", "images_per_s", "test/acc",
    }  # fmt: skip
    assert events[3, "test/acc"] == 0.75 and events[0, "images_per_s"] == 90.5
    assert {tag for step, tag in events if step == 2 and tag.startswith("test")} == set()


def test_a_log_begun_late_has_the_epochs_before_it(store):
    save_checkpoint(store, [make_row(0, loss=3.0), make_row(1, loss=2.0)])
    logs = open_runs(store, "tensorboard")
    logs.notify(RunStarted(KEY))
    logs.notify(EpochDone(KEY, make_row(1, loss=2.0)))  # the checkpoint was younger than the start
    logs.notify(EpochDone(KEY, make_row(2, loss=1.0)))
    logs.close()
    assert [read_events(store)[step, "loss/sum"] for step in range(3)] == [3.0, 2.0, 1.0]


def test_a_run_that_another_process_trains_is_not_logged(store):
    logs = open_runs(store, "csv")
    logs.notify(RunDone(KEY))
    assert not (store.root / "logs").exists()
    with open_logs("", store, []) as log:
        log(RunStarted(KEY))
    assert not (store.root / "logs").exists()


def test_a_log_that_cannot_be_written_stops_no_run(store, caplog):
    (store.root / "logs").write_text("a file where the folder would be")
    logs = open_runs(store, "csv")
    for event in (RunStarted(KEY), EpochDone(KEY, make_row(0)), RunDone(KEY)):
        logs.notify(event)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "the run goes on" in said


def test_own_images_called_otherwise_go_on_in_the_same_log(store):
    (store.root / "logs" / f"udcd-earlier-name-{KEY}").mkdir(parents=True)
    open_runs(store, "csv").notify(RunStarted(KEY))
    assert [path.name for path in (store.root / "logs").iterdir()] == [f"udcd-earlier-name-{KEY}"]


def test_without_tensorboard_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer", None)
    with pytest.raises(UserError, match=r"pip install 'udcd-bench\[tensorboard\]'"):
        writers.check_installed("tensorboard")
    for kind in ("", "csv"):
        writers.check_installed(kind)
