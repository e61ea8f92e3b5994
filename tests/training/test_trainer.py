"""The loop: schedules against torch and slow loops, modes, and going on after a stop bit for bit."""

from __future__ import annotations

import copy
import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn
from torch.testing import assert_close

from support import factories
from udcd_bench import plugins
from udcd_bench.data import splits
from udcd_bench.engines import execute
from udcd_bench.errors import RunError
from udcd_bench.method import BaseMethod, Progress
from udcd_bench.runs.planner import Job
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store
from udcd_bench.stats import metrics
from udcd_bench.training.network import EMBEDDING_WIDTH
from udcd_bench.training.step.ema import EMA, compute_ema_decay
from udcd_bench.training.trainer import NotFiniteError, Trainer, average_terms


@pytest.fixture
def save_every_epoch(monkeypatch):
    """Checkpoints may take any share of the time, so that every epoch has one."""
    monkeypatch.setattr("udcd_bench.training.trainer.CHECKPOINT_SHARE", math.inf)


@pytest.fixture(scope="module")
def data():
    return factories.dataset()


class Plain(BaseMethod):
    """Cross-entropy; ``seen`` is called at each step with the method and the progress."""

    title = "Plain"
    citation = "None, 2024"
    seen = staticmethod(lambda method, progress: None)

    def compute_losses(self, batch, progress):
        self.seen(self, progress)
        return {"ce": self.cross_entropy(self.student(batch.views[0]).logits, batch.labels)}


class Averaged(Plain):
    teacher = "ema"
    views = 2

    def compute_losses(self, batch, progress):
        self.run_teacher(batch.views[1])
        return super().compute_losses(batch, progress)


class Taught(Averaged):
    teacher = "trained"


def network(classes):
    """A few layers: the loop is the same on any network."""
    return factories.SmallNet(classes, embedding=EMBEDDING_WIDTH)


def trainer(cls, data, *, seen=None, checkpoints=None, seed=0, **protocol):
    train, test = factories.resident(data), factories.resident(data, np.arange(10))
    method = factories.method(cls, train, student=network, seed=seed)
    if seen is not None:
        method.seen = seen
    return Trainer(method, factories.protocol(**protocol), train, test, checkpoints=checkpoints)


# --- pure functions of the step -------------------------------------------------------------------------------


def test_the_averages_decay_is_the_formula():
    assert [compute_ema_decay(step, 0.99) for step in range(4)] == [0.0, 0.5, pytest.approx(2 / 3), 0.75]
    assert (
        compute_ema_decay(98, 0.99) == 1 - 1 / 99
        and compute_ema_decay(100, 0.99) == compute_ema_decay(10_000, 0.99) == 0.99
    )


def test_the_average_is_a_loops_and_leaves_buffers_alone():
    torch.manual_seed(0)
    source, target = nn.BatchNorm1d(5), nn.BatchNorm1d(5)
    other, other_target = nn.Linear(3, 2), nn.Linear(3, 2)
    for parameter in source.parameters():
        nn.init.normal_(parameter)
    source.running_mean.fill_(7.0)
    wanted = [p.detach().clone() for p in (*target.parameters(), *other_target.parameters())]
    averages = EMA([(source, target), (other, other_target)])
    for step in range(5):
        alpha = compute_ema_decay(step, 0.6)
        averages.update(alpha)
        sources = (*source.parameters(), *other.parameters())
        wanted = [alpha * w + (1 - alpha) * p.detach() for w, p in zip(wanted, sources)]
        for w, p in zip(wanted, (*target.parameters(), *other_target.parameters())):
            assert_close(p.detach(), w)
    assert target.running_mean.eq(0).all()
    EMA([]).update(0.5)


def test_the_ramp_is_the_formula():
    for epochs in (1, 6, 30):
        for epoch in range(80):
            wanted = math.exp(-5 * (1 - min(epoch, epochs) / epochs) ** 2)
            assert Progress(epoch, 80, 20, epochs).ramp == pytest.approx(wanted)
    assert Progress(0, 80, 20, 30).ramp == pytest.approx(math.exp(-5))
    assert Progress(30, 80, 20, 30).ramp == Progress(79, 80, 20, 30).ramp == 1
    assert Progress(0, 80, 20, 0).ramp == 1
    assert not Progress(19, 80, 20, 30).teacher_active and Progress(20, 80, 20, 30).teacher_active


# --- one run --------------------------------------------------------------------------------------------------


def test_one_cycle_is_stepped_every_batch(data):
    rates, t = [], None

    def seen(method, progress):
        group = t.optimiser.param_groups[0]
        rates.append((group["lr"], group["betas"][0], group["weight_decay"]))

    t = trainer(Plain, data, seen=seen, learning_rate=2e-3, weight_decay=1e-4)
    history = t.run().history
    total = 3 * 5
    optimiser = torch.optim.Adam([nn.Parameter(torch.zeros(1))], weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=total)
    wanted = []
    for _ in range(total):
        group = optimiser.param_groups[0]
        wanted.append((group["lr"], group["betas"][0], 1e-4))
        optimiser.step()
        schedule.step()
    assert rates == wanted
    assert max(rate for rate, _, _ in rates) == pytest.approx(2e-3, rel=0.05)
    assert [row["learning_rate"] for row in history] == [rates[5 * e][0] for e in range(3)]


def test_a_step_is_adams(data):
    """One step of the loop against the same step written out."""
    t = trainer(Plain, data, epochs=1, batch_size=40, report_epochs=1)
    twin = trainer(Plain, data, epochs=1, batch_size=40, report_epochs=1)
    t.run()
    student, batch = twin.method.student.train(), next(twin.train_data.iterate_batches(40, 1))
    optimiser = torch.optim.Adam(student.parameters(), weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, twin.protocol.learning_rate, total_steps=1)
    rows = nn.functional.cross_entropy(student(batch.views[0]).logits, batch.labels, reduction="none")
    weights = 40 / torch.bincount(batch.labels).float()[batch.labels]
    ((weights * rows).sum() / weights.sum()).backward()
    optimiser.step()
    schedule.step()
    for (name, ours), theirs in zip(t.method.student.named_parameters(), student.parameters()):
        assert_close(ours, theirs, atol=1e-6, rtol=1e-4, msg=name)


def test_history_has_a_row_an_epoch_with_the_mean_of_each_term(data):
    class Two(Plain):
        def compute_losses(self, batch, progress):
            terms = super().compute_losses(batch, progress)
            self.step = getattr(self, "step", -1) + 1
            return {**terms, "step": terms["ce"].detach() * 0 + self.step}

    rows = []
    t = trainer(Two, data)
    t.on_epoch_end = rows.append
    outcome = t.run()
    assert outcome.history == rows and [row["epoch"] for row in rows] == [0, 1, 2]
    assert [row["loss_step"] for row in rows] == [2.0, 7.0, 12.0]
    for row in rows:
        assert row["loss"] == pytest.approx(row["loss_ce"] + row["loss_step"])
        assert row["seconds"] > 0 and row["images_per_s"] == pytest.approx(40 / row["seconds"])
    assert outcome.seconds >= sum(row["seconds"] for row in rows)


def test_only_the_reported_epochs_are_tested(data):
    t = trainer(Plain, data, epochs=5, report_epochs=2)
    tested, test = [], t.scorer.evaluate
    t.scorer.evaluate = lambda data: (tested.append(len(t.history)), test(data))[1]
    outcome = t.run()
    assert tested == [3, 4] == outcome.epochs
    assert outcome.scores.shape == (2, 10, 4) and outcome.embeddings.shape == (10, 128)
    assert not np.array_equal(*outcome.scores)


def test_testing_is_in_rest_and_changes_nothing(data):
    modes = []

    class Watching(Plain):
        def predict(self, images):
            modes.append((self.training, self.student.training, torch.is_grad_enabled()))
            return super().predict(images)

    quiet, busy = (trainer(Watching, data, report_epochs=n) for n in (1, 3))
    one, three = quiet.run(), busy.run()
    assert set(modes) == {(False, False, False)}
    assert_array_equal(one.scores[-1], three.scores[-1])


def test_classes_are_weighted_by_their_inverse_counts_in_the_training_fold(data, tmp_path, monkeypatch):
    told = []

    class Telling(Plain):
        def setup(self):
            told.append(self.info)

    monkeypatch.setattr(execute, "load_data", lambda *_: data)
    monkeypatch.setattr(plugins, "load_class", lambda *_: Telling)
    monkeypatch.setattr(plugins, "check_loaded", lambda *_: None)
    monkeypatch.setattr(plugins, "check_followed", lambda *_: None)
    store = Store(tmp_path)
    store.create()
    settings = (("epochs", 1), ("image_size", factories.SIZE), ("batch_size", factories.BATCH))
    spec = RunSpec("scratch", "synthetic-lesions", "demo", factories.TINY_DENSENET, fold=2, protocol=settings)
    context = execute.RunContext(store, tmp_path)
    inputs = execute.collect_run_inputs(spec, context, execute.load_data)
    execute.execute_run(Job(spec, "k", "absent", 1, inputs), context, print)
    (info,) = told
    split = splits.split_dataset(data, splits.SplitOptions(fold=2))
    counts = np.bincount(data.labels[split.train], minlength=4)
    assert info.n_train == len(split.train) == 32 and info.classes == 4
    assert_close(info.class_weights, torch.from_numpy(32 / counts).float())
    assert_array_equal(info.labels, data.labels[split.train])
    record = store.read_record("k")
    assert record["split_hash"] == split.hash and (record["n_train"], record["n_test"]) == (32, 8)
    assert record["n_test_by_class"] == np.bincount(data.labels[split.test], minlength=4).tolist()
    stored = store.read_scores("k")
    assert_array_equal(stored["labels"], data.labels[split.test])
    assert stored["ids"].tolist() == [data.ids[i] for i in split.test]
    assert record["figures"] == metrics.summarize_epochs(stored["scores"], stored["labels"], ordered=False)


def test_what_follows_a_step_sees_the_new_weights_and_no_gradient(data):
    seen = []

    class After(Plain):
        def after_step(self):
            weight = self.student.classifier.weight
            seen.append((weight.detach().clone(), weight.grad, torch.is_grad_enabled()))

    t = trainer(After, data, epochs=1, report_epochs=1)
    before = t.method.student.classifier.weight.detach().clone()
    t.run()
    weights = [before, *(weight for weight, _, _ in seen)]
    assert len(seen) == 5 and not any(map(torch.equal, weights, weights[1:]))
    assert all(grad is None and not enabled for _, grad, enabled in seen)


# --- modes ----------------------------------------------------------------------------------------------------


def test_an_averaged_teacher_has_statistics_of_its_own_and_no_gradient(data):
    modes = set()

    def seen(method, progress):
        teacher = method.teacher_network
        modes.add((method.student.training, all(m.training for m in teacher.modules())))
        assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())

    t = trainer(Averaged, data, seen=seen)
    before = copy.deepcopy(t.method.teacher_network.state_dict())
    t.run()
    after, student = t.method.teacher_network.state_dict(), t.method.student.state_dict()
    assert modes == {(True, True)}
    for name, value in after.items():
        if "running_mean" in name:
            assert not torch.equal(value, before[name]), "its passes are training passes"
            assert not torch.equal(value, student[name]), "and its statistics are not the student's"
    assert_close(t.method.teacher_network.classifier.weight, average_of(t, data))


def average_of(trained, data):
    """The running average of the classifier's weight, by a loop beside the same run."""
    steps = []
    t = trainer(
        Averaged,
        data,
        seen=lambda method, progress: steps.append(method.student.classifier.weight.detach().clone()),
    )
    t.run()
    steps.append(trained.method.student.classifier.weight.detach())
    wanted = steps[0]
    for step, weight in enumerate(steps[1:]):
        alpha = min(1 - 1 / (step + 1), t.protocol.ema)
        wanted = alpha * wanted + (1 - alpha) * weight
    return nn.Parameter(wanted)


def test_a_trained_teacher_rests(data):
    def seen(method, progress):
        teacher = method.teacher_network
        assert method.student.training and not any(m.training for m in teacher.modules())
        assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())

    t = trainer(Taught, data, seen=seen)
    before = copy.deepcopy(t.method.teacher_network.state_dict())
    t.run()
    for name, value in t.method.teacher_network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("freeze", [False, True])
def test_the_mode_is_set_every_epoch_unless_the_released_codes_slip_is_asked_for(data, freeze):
    modes, means = {}, {}

    def seen(method, progress):
        modes.setdefault(progress.epoch, set()).add(method.student.training)
        means[progress.epoch] = method.student.backbone[1].running_mean.clone()
        # its parameters are trained all the same
        assert all(p.requires_grad for p in method.student.parameters())

    t = trainer(Plain, data, seen=seen, report_epochs=3, freeze_bn_after_first_eval=freeze)
    t.run()
    assert modes == {0: {True}, 1: {not freeze}, 2: {not freeze}}
    assert torch.equal(means[1], means[2]) == freeze


# --- what stops a run, and what goes on -----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_term_epoch_and_step(data, bad, save_every_epoch):
    class Broken(Averaged):
        def compute_losses(self, batch, progress):
            terms = super().compute_losses(batch, progress)
            self.count = getattr(self, "count", -1) + 1
            return {**terms, "extra": terms["ce"] * (bad if self.count == 5 * 2 + 3 else 0.1)}

    kept, rows = factories.MemoryCheckpoints(), []
    t = trainer(Broken, data, checkpoints=kept)
    t.on_epoch_end = rows.append
    with pytest.raises(
        NotFiniteError, match=r"extra is (nan|inf) at epoch 2, step 3 .*; lower the"
    ) as caught:
        t.run()
    assert "learning_rate" in str(caught.value)
    assert [row["epoch"] for row in rows] == [0, 1], "the epoch it happened in is not reported"
    assert kept.saved[-1][1]["epoch"] == 2, "and the last checkpoint is from before it"
    assert all(np.isfinite(value).all() for value in kept.saved[-1][0].values())


UNFIT = {
    "a float as term 'ce'": lambda self, batch: {"ce": 0.5},
    "a float;": lambda self, batch: 0.5,
    "a Tensor;": lambda self, batch: self.student(batch.views[0]).logits.mean(),
    "a list as term 'kd'": lambda self, batch: {"ce": self.student(batch.views[0]).logits.mean(), "kd": [1]},
    r"a tensor of shape \(8, 4\) and type float32 as term 'ce'": lambda self, batch: {
        "ce": self.student(batch.views[0]).logits
    },
    r"a tensor of shape \(\) and type int64 as term 'n'": lambda self, batch: {"n": batch.labels.sum()},
    "no term with a gradient": lambda self, batch: {
        "ce": self.student(batch.views[0]).logits.mean().detach()
    },
    "no term;": lambda self, batch: {},
    "a term called 1,": lambda self, batch: {1: self.student(batch.views[0]).logits.mean()},
    "ce at one step and ce, kd at another": lambda self, batch: dict.fromkeys(
        ("ce", "kd") if self.after else ("ce",), self.student(batch.views[0]).logits.mean()
    ),
}


@pytest.mark.parametrize("said", UNFIT)
def test_terms_that_no_loop_can_train_on_are_named_with_the_file(data, said):
    class Unfit(Plain):
        after = False

        def compute_losses(self, batch, progress):
            terms = UNFIT[said](self, batch)
            self.after = True
            return terms

    place = rf"^{re.escape(__file__)}, line (\d+): compute_losses returns {said}"
    with pytest.raises(RunError, match=place) as caught:
        trainer(Unfit, data, epochs=2, batch_size=8).run()
    line = int(re.match(place, str(caught.value))[1])
    assert Path(__file__).read_text().splitlines()[line - 1].strip() == "return terms"


def test_both_terms_are_named_where_both_are_bad(data):
    class Broken(Plain):
        def compute_losses(self, batch, progress):
            ce = super().compute_losses(batch, progress)["ce"]
            return {"ce": ce * math.nan, "kl": ce * math.inf, "fine": ce}

    with pytest.raises(
        NotFiniteError, match="ce and kl is nan at epoch 0, step 0 of stage 'train'; the stage had"
    ):
        trainer(Broken, data).run()


@pytest.mark.parametrize(
    ("epoch", "step", "advice"), [(0, 0, "the stage had"), (0, 1, "lower"), (1, 0, "lower")]
)
def test_the_learning_rate_is_blamed_where_a_step_came_before(epoch, step, advice):
    values = torch.ones(3, 2)
    values[step:, 1] = math.nan
    place = f"loss term kd is nan at epoch {epoch}, step {step} of stage 's'; {advice}"
    with pytest.raises(NotFiniteError, match=place):
        average_terms(values, ["ce", "kd"], epoch, "s")


def comparable(outcome):
    rows = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in outcome.history]
    return rows, outcome.epochs


@pytest.mark.slow
@pytest.mark.parametrize("name", plugins.list_names("methods"))
def test_a_run_that_was_stopped_goes_on_bit_for_bit(data, name, tmp_path, save_every_epoch):
    store = Store(tmp_path)
    kept = factories.MemoryCheckpoints()
    whole = trainer(name, data, checkpoints=kept)
    undisturbed = whole.run()
    assert len(kept.saved) == len(undisturbed.history) - 1
    # every stop of a run of one stage, one in the middle where there are more
    for saved in kept.saved if len(kept.saved) == 2 else [kept.saved[len(kept.saved) // 2]]:
        store.open_checkpoint("k").save(*saved)
        torch.manual_seed(12345)
        again = trainer(name, data, checkpoints=store.open_checkpoint("k"), seed=99)
        outcome = again.run()
        assert comparable(outcome) == comparable(undisturbed)
        assert_array_equal(outcome.scores, undisturbed.scores)
        assert_array_equal(outcome.embeddings, undisturbed.embeddings)
        for key, value in whole.method.state_dict().items():
            assert torch.equal(again.method.state_dict()[key], value), key
        assert outcome.seconds > saved[1]["seconds"]


def test_a_stopped_run_on_randaugmented_views_goes_on_bit_for_bit(data, save_every_epoch):
    def build(checkpoints):
        train, test = factories.resident(data, augment="randaugment"), factories.resident(data)
        return Trainer(
            factories.method(Plain, train, student=network),
            factories.protocol(augment="randaugment"),
            train,
            test,
            checkpoints=checkpoints,
        )

    kept = factories.MemoryCheckpoints()
    whole = build(kept).run()
    del kept.saved[1:]
    torch.manual_seed(12345)
    again = build(kept).run()
    assert comparable(again) == comparable(whole)
    assert_array_equal(again.scores, whole.scores)
    assert comparable(trainer(Plain, data).run()) != comparable(whole)


def test_slow_saves_take_their_share_of_the_time_and_no_more(data):
    class Slow(factories.MemoryCheckpoints):
        def save(self, arrays, meta):
            super().save(arrays, meta)
            time.sleep(0.2)

    slow = Slow()
    whole = trainer("scratch", data, checkpoints=slow).run()
    assert len(whole.history) > 2 and whole.seconds < 20
    assert [meta["epoch"] for _, meta in slow.saved] == [1], "the next one is due after 20 s"


def test_a_checkpoint_is_of_numbers_and_names(data):
    kept = factories.MemoryCheckpoints()
    trainer("udcd", data, checkpoints=kept).run()
    arrays, meta = kept.saved[0]
    heads = {re.match(r"\w+", name)[0] for name in arrays}
    assert {"method", "optimiser", "data", "random"} <= heads
    assert meta["epoch"] == 1 and meta["step"] == 5 and len(meta["history"]) == 1
    assert any("memory" in name for name in arrays), "a contrast memory is part of the state"
