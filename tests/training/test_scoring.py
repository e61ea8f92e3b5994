"""Validation images in the loop: scored every epoch, without a trace in training; the best epoch is tested too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from support import factories
from udcd_bench.stats.metrics import compute_metrics
from udcd_bench.training.network import EMBEDDING_WIDTH
from udcd_bench.training.scoring import Scorer, Validation
from udcd_bench.training.trainer import Trainer

EPOCHS = 6


@pytest.fixture(scope="module")
def data():
    return factories.dataset()


@pytest.fixture
def save_every_epoch(monkeypatch):
    monkeypatch.setattr("udcd_bench.training.trainer.CHECKPOINT_SHARE", 1e9)


def trainer(name, data, *, validated=True, checkpoints=None, **protocol):
    rows = np.arange(10, 30)
    train, test = factories.resident(data, np.arange(16, 40)), factories.resident(data, np.arange(10))
    validation = Validation(factories.resident(data, rows), data.labels[rows]) if validated else None
    small = lambda classes: factories.SmallNet(classes, embedding=EMBEDDING_WIDTH)  # noqa: E731
    method = factories.method(name, train, student=small)
    numbers = {"epochs": EPOCHS, "report_epochs": 2, "learning_rate": 2e-2} | protocol
    return Trainer(
        method, factories.protocol(**numbers), train, test, validation=validation, checkpoints=checkpoints
    )


@pytest.mark.parametrize("name", ["scratch", "ssd-kd"])
def test_validation_leaves_no_trace_in_training(name, data):
    with_it, without = trainer(name, data), trainer(name, data, validated=False)
    ours, plain = with_it.run(), without.run()
    assert_array_equal(ours.scores, plain.scores)
    assert_array_equal(ours.embeddings, plain.embeddings)
    assert ours.epochs == plain.epochs and plain.validation is None
    for key, value in without.method.state_dict().items():
        assert torch.equal(with_it.method.state_dict()[key], value), key
    assert not any(key.startswith("validation") for row in plain.history for key in row)


def test_the_epoch_of_the_best_macro_f1_is_tested(data):
    ours = trainer("scratch", data).run()
    by_epoch = [row["validation_f1"] for row in ours.history]
    validation = ours.validation
    assert len(by_epoch) == EPOCHS and validation.epoch == int(np.argmax(by_epoch)), "the first of equals"
    labels = data.labels[10:30]
    assert compute_metrics(validation.chosen, labels)["f1"] == by_epoch[validation.epoch]
    assert [compute_metrics(s, labels)["f1"] for s in validation.scores] == by_epoch[-2:]
    everything = trainer("scratch", data, report_epochs=EPOCHS).run()
    assert_array_equal(validation.tested, everything.scores[validation.epoch])
    assert ours.epochs == [4, 5] and ours.scores.shape == (2, 10, 4)


def test_only_epochs_that_are_reported_or_best_so_far_are_tested(data, monkeypatch):
    tested, f1 = [], iter([0.2, 0.5, 0.5, 0.4, 0.1, 0.3])
    monkeypatch.setattr(
        "udcd_bench.training.scoring.metrics.compute_metrics", lambda *_, **__: {"f1": next(f1)}
    )
    t = trainer("scratch", data)
    evaluate = t.scorer.evaluate

    def note(which):
        if which is t.scorer.test_data:
            tested.append(len(t.history))
        return evaluate(which)

    t.scorer.evaluate = note
    outcome = t.run()
    assert tested == [0, 1, 4, 5] and outcome.validation.epoch == 1
    assert sorted(t.scorer.tested) == sorted(t.scorer.validated) == [1, 4, 5]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scratch", "ssd-kd"])
def test_a_stopped_run_chooses_and_stores_the_same(name, data, save_every_epoch):
    checkpoints = factories.MemoryCheckpoints()
    whole = trainer(name, data, checkpoints=checkpoints).run()
    for saved in checkpoints.saved:
        again = factories.MemoryCheckpoints()
        again.saved.append(saved)
        outcome = trainer(name, data, checkpoints=again).run()
        ours, wanted = outcome.validation, whole.validation
        assert ours.epoch == wanted.epoch and outcome.epochs == whole.epochs
        for field in ("scores", "chosen", "tested"):
            assert_array_equal(getattr(ours, field), getattr(wanted, field))
        assert_array_equal(outcome.scores, whole.scores)
        assert [row.get("validation_f1") for row in outcome.history] == [
            row.get("validation_f1") for row in whole.history
        ]


def test_a_checkpoint_from_before_validation_is_read():
    scorer = Scorer(None, None, None, 8, lambda: None)
    scorer.restore({"tested": {"4": torch.ones(1, 2), "3": torch.zeros(1, 2)}}, {})
    assert scorer.reported == [3, 4] and scorer.best is None and scorer.collect_validation() is None
