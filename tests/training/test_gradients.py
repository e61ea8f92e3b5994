"""The size of each term's gradient: against one worked out by hand, and without a trace in the training."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from support.factories import SmallNet
from udcd_bench.training.step.gradients import compute_gradient_norms, watch_feature_maps


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SmallNet(4)


def test_the_norm_is_that_of_both_passes_together(net):
    views = torch.randn(2, 5, 3, 8, 8)
    with watch_feature_maps(net) as maps:
        first, second = net(views[0]), net(views[1])
    assert [m.shape[0] for m in maps] == [5, 5]
    terms = {
        "plain": 3 * first.feature_map.sum(),
        "both": first.feature_map.sum() + 2 * second.feature_map.sum(),
        "square": second.feature_map.square().sum() / 2,
        "none": net.neck.weight.square().sum(),
        "constant": torch.tensor(7.0),
    }
    norms = compute_gradient_norms(terms, maps)
    n = first.feature_map.numel()
    expected = {
        "plain": 3 * n**0.5,
        "both": (n + 4 * n) ** 0.5,
        "square": float(second.feature_map.detach().norm()),
        "none": 0.0,
        "constant": 0.0,
    }
    assert {name: float(norm) for name, norm in norms.items()} == pytest.approx(expected, rel=1e-5)


def test_the_gradients_of_the_step_are_the_same_bit_for_bit(net):
    images = torch.randn(5, 3, 8, 8)

    def step(measured):
        net.zero_grad()
        net.load_state_dict(state)
        with watch_feature_maps(net) as maps:
            features = net(images)
        terms = {"a": features.logits.logsumexp(1).mean(), "b": features.embedding.square().mean()}
        if measured:
            compute_gradient_norms(terms, maps)
        sum(terms.values()).backward()
        return [p.grad.clone() for p in net.parameters()]

    state = {name: value.clone() for name, value in net.state_dict().items()}
    assert_close(step(True), step(False), rtol=0, atol=0)


def test_of_a_student_that_is_not_trained_there_is_none(net):
    net.requires_grad_(False)
    with watch_feature_maps(net) as maps:
        features = net(torch.randn(5, 3, 8, 8))
    assert compute_gradient_norms({"a": features.logits.sum()}, maps) == {}
    net(torch.randn(5, 3, 8, 8))
    assert len(maps) == 1, "nothing is watched any more"
