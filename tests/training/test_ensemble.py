"""Several networks as one teacher: their mean logits, what that mean is, and that nothing else of them can be read."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from support import factories, oracles
from udcd_bench import plugins
from udcd_bench.errors import UnreadableError
from udcd_bench.training.ensemble import Ensemble
from udcd_bench.training.network import Features
from udcd_bench.training.step.rehearsal import _compute_losses, rehearse

LOGITS_ALONE = ("dist", "dkd", "kd", "kd-standardized", "mlkd")
FEATURES = {
    "at": "levels",
    "crd": "pooled",
    "fitnet": "levels",
    "pkt": "pooled",
    "reviewkd": "levels",
    "rkd": "pooled",
    "sp": "feature_map",
    "ssd-kd": "pooled",
    "sskd": "pooled",
}
"""Row of a trained teacher → what it reads of it beside the logits, first."""


def make_networks(n, classes=4):
    """n networks in float64, each of its own weights."""
    networks = []
    for seed in range(n):
        torch.manual_seed(seed)
        networks.append(factories.SmallNet(classes, embedding=128).double().eval())
    return networks


def images():
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_loss_of_two_teachers_and_its_gradient_are_the_equations():
    students, teachers = make_networks(3)[2:], make_networks(2)
    method = factories.method("kd", student=lambda _: students[0], teacher=lambda _: Ensemble(teachers))
    method.info = replace(method.info, class_weights=method.info.class_weights.double())
    batch = factories.batch()
    batch = batch._replace(views=(images(),), labels=batch.labels[:5])
    method.compute_losses(batch, None)["kd"].backward()
    loss = method.compute_losses(batch, None)["kd"].item()
    with torch.no_grad():
        first, second = (network(images()).logits.tolist() for network in teachers)
        student = method.student(images()).logits
    mean = [[(a + b) / 2 for a, b in zip(x, y)] for x, y in zip(first, second)]

    def compute(logits):
        rows = oracles.kd(logits, mean, temperature=4.0)
        return 0.9 * sum(rows) / len(rows)

    assert loss == pytest.approx(compute(student.tolist()), rel=1e-12)
    bias, step = method.student.classifier.bias, 1e-6  # whose gradient is that of all logits of its class
    for c in range(4):
        change = torch.zeros(4, dtype=torch.float64).index_fill_(0, torch.tensor([c]), step)
        slope = (compute((student + change).tolist()) - compute((student - change).tolist())) / (2 * step)
        assert bias.grad[c].item() == pytest.approx(slope, rel=1e-5, abs=1e-9)
    assert all(p.grad is None for network in teachers for p in network.parameters())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_softmax_of_the_mean_logits_is_the_geometric_mean_of_the_softmaxes(temperature):
    networks = make_networks(3)
    own = torch.stack([(network(images()).logits / temperature).softmax(1) for network in networks])
    geometric = own.prod(0) ** (1 / 3)
    expected = geometric / geometric.sum(1, keepdim=True)
    found = (Ensemble(networks)(images()).logits / temperature).softmax(1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_nothing_but_logits_can_be_read():
    ensemble = Ensemble(make_networks(2))
    features = ensemble(images())
    for name in set(Features._fields) - {"logits"}:
        with pytest.raises(
            UnreadableError, match=f"it reads the teacher's {name}, and several teachers have"
        ):
            getattr(features, name)
    for name in ("backbone", "neck", "classifier"):
        with pytest.raises(UnreadableError, match=f"it reads the teacher's {name}, "):
            getattr(ensemble, name)
    with pytest.raises(UnreadableError):
        _, *_ = features
    with pytest.raises(UnreadableError):
        features[3]
    assert not hasattr(features, "maps") and not hasattr(ensemble, "head")


@pytest.mark.usefixtures("shipped_suites")
def test_a_rehearsal_tells_which_methods_read_more_than_logits():
    trained = {
        n for n in plugins.list_names("methods") if plugins.load_class("methods", n).teacher == "trained"
    }
    assert trained == {*LOGITS_ALONE, *FEATURES}, "say above what the new method reads"
    for name in trained:
        method_class = plugins.load_class("methods", name)
        if name in LOGITS_ALONE:
            _compute_losses(method_class, (), True, False)  # which lets no error pass
            continue
        with pytest.raises(UnreadableError, match=f"reads the teacher's {FEATURES[name]},"):
            rehearse(method_class, (), has_several_teachers=True, mixes=False)


def test_a_rehearsal_leaves_the_generators_alone_and_other_errors_to_the_run():
    class Broken(plugins.load_class("methods", "kd")):
        def compute_losses(self, batch, progress):
            raise ValueError("images are too small")

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    rehearse(Broken, (), has_several_teachers=True, mixes=False)
    rehearse(plugins.load_class("methods", "kd"), (), has_several_teachers=True, mixes=False)
    assert torch.equal(torch.rand(1), expected)


def test_a_run_that_is_interrupted_ends_as_one_that_is_not():
    def build():
        torch.manual_seed(0)
        teachers = [factories.SmallNet(4), factories.SmallNet(4, width=12)]
        return factories.method("kd", student=factories.SmallNet, teacher=lambda _: Ensemble(teachers))

    whole = factories.train(build())
    again = factories.train_interrupted(build, factories.PROTOCOL.epochs)
    assert (whole.scores == again.scores).all() and (whole.embeddings == again.embeddings).all()
