"""Modules with rates of their own: through the whole schedule, against torch, and across a stop bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from support import factories
from udcd_bench.errors import RunError
from udcd_bench.method import BaseMethod, ParameterGroup, Stage
from udcd_bench.training.step.optimiser import make_optimiser_of_stage
from udcd_bench.training.trainer import Trainer


class Plain(BaseMethod):
    title = "Plain"
    citation = "None, 2024"

    def setup(self):
        self.head = nn.Linear(128, self.info.classes)

    def compute_losses(self, batch, progress):
        student = self.student(batch.views[0])
        return {
            "ce": self.cross_entropy(student.logits, batch.labels),
            "head": self.cross_entropy(self.head(student.embedding), batch.labels),
        }


class Grouped(Plain):
    def list_parameter_groups(self):
        return [
            ParameterGroup([self.head], rate_factor=10),
            ParameterGroup([self.student.neck, self.student.classifier], rate_factor=0.5, decay_factor=0),
        ]


def build(cls):
    return factories.method(cls, student=lambda n: factories.SmallNet(n, embedding=128))


def train(cls, steps=5, **protocol):
    """A method of that class after its first steps, and (rate, momentum, decay) of each group before each."""
    method = build(cls)
    data = factories.resident()
    trainer = Trainer(method, factories.protocol(learning_rate=2e-3, **protocol), data, data)
    (stage,) = method.stages()
    trainer.start_stage(stage)
    seen = []
    for batch in list(data.iterate_batches(factories.BATCH, 1))[:steps]:
        groups = trainer.optimiser.param_groups
        seen.append([(group["lr"], group["betas"][0], group["weight_decay"]) for group in groups])
        trainer.run_training_step(stage, batch, trainer.make_progress(stage, 0))
    return method, seen


def test_a_group_has_its_share_of_the_rate_throughout_the_schedule():
    _, seen = train(Grouped, weight_decay=1e-2)
    _, wanted = train(Plain, weight_decay=1e-2)
    for groups, (own,) in zip(seen, wanted, strict=True):
        rate, momentum, decay = own
        assert groups[0] == own
        assert groups[1] == pytest.approx((10 * rate, momentum, decay))
        assert groups[2] == pytest.approx((0.5 * rate, momentum, 0))
    assert len({groups[1][0] for groups in seen}) == len(seen)


def test_its_first_step_is_adams_at_that_rate():
    before = {name: p.detach().clone() for name, p in build(Grouped).named_parameters()}
    moved = {}
    for cls in (Plain, Grouped):
        method, _ = train(cls, steps=1, weight_decay=0.0)
        moved[cls] = {name: p.detach() - before[name] for name, p in method.named_parameters()}
    factors = {"head": 10, "student.neck": 0.5, "student.classifier": 0.5, "student.backbone": 1}
    for name, step in moved[Grouped].items():
        (factor,) = [value for start, value in factors.items() if name.startswith(start)]
        torch.testing.assert_close(step, factor * moved[Plain][name], rtol=1e-3, atol=1e-7, msg=name)


def test_without_groups_there_is_one_of_all_parameters_in_order():
    method = build(Plain)
    (stage,) = method.stages()
    optimiser, _ = make_optimiser_of_stage(stage, factories.protocol(), 10)
    (group,) = optimiser.param_groups
    wanted = [p for module in (method.student, method.head) for p in module.parameters()]
    assert all(p is q for p, q in zip(group["params"], wanted, strict=True))
    alone = torch.optim.Adam(wanted, weight_decay=factories.protocol().weight_decay, fused=True)
    torch.optim.lr_scheduler.OneCycleLR(alone, factories.protocol().learning_rate, total_steps=10)
    rest = alone.state_dict()["param_groups"][0]
    assert optimiser.state_dict()["param_groups"][0] == rest


def test_a_stopped_run_with_groups_goes_on_bit_for_bit():
    whole = factories.train(build(Grouped))
    parts = factories.train_interrupted(lambda: build(Grouped), len(whole.history))
    assert (whole.scores == parts.scores).all()
    assert whole.history[-1]["loss_head"] == parts.history[-1]["loss_head"]
    assert not (whole.scores == factories.train(build(Plain)).scores).all()


def test_all_may_stand_in_groups():
    class All(Plain):
        def list_parameter_groups(self):
            return [ParameterGroup([self.head, self.student], rate_factor=2)]

    _, seen = train(All, steps=2)
    assert [len(groups) for groups in seen] == [2, 2]


@pytest.mark.parametrize("twice", [False, True])
def test_a_group_of_what_is_not_trained_or_of_what_another_holds_is_refused(twice):
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [ParameterGroup([one]), ParameterGroup([one if twice else other])]
    stage = Stage("warm-up", lambda *_: {}, [one], parameter_groups=groups)
    with pytest.raises(RunError, match="a parameter group of stage 'warm-up' holds"):
        make_optimiser_of_stage(stage, factories.protocol(), 10)
