"""What a method's own terms cost beside its networks, counted: the same on every machine, so no limit can flake."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from udcd_bench import losses, plugins
from udcd_bench.bench import cost, reference_forms
from udcd_bench.bench.cost import OperationCounts, ProblemSize
from udcd_bench.memory import ContrastMemory
from udcd_bench.training.network import build_backbone

METHODS = plugins.list_names("methods")
SMALL = {"batch": 16, "n_train": 2000, "negatives": 500, "classes": 8, "width": 64}
SHARE_OF_OPERATIONS = 0.04
SHARE_OF_BYTES = 0.08
MORE_BYTES = {"ssd-kd": 0.28}
"""The B³ angles of four turns of 64 images, in float64."""


@pytest.fixture(scope="module")
def network():
    """DenseNet-121 at 64², per image."""
    with torch.device("meta"):  # counted without being computed
        backbone, images = build_backbone("densenet121").train(), torch.empty(64, 3, 64, 64)
    whole = cost.count_operations(lambda: backbone.forward_features(images).sum().backward())
    return whole.moved / 64, whole.flops / 64


def counted(name, **changes) -> OperationCounts:
    call = cost.make_terms_call(name, replace(ProblemSize(), **changes))
    call()  # what the first step alone does
    return cost.count_operations(call)


def images_a_step(name):
    """Images that the student is given in a step of 64: four times what a step of 16 shows."""
    seen = []
    forward = cost.StubNetwork.forward

    class Watching(cost.StubNetwork):
        def forward(self, images):
            if torch.is_grad_enabled():
                seen.append(len(images))
            return forward(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "StubNetwork", Watching)
        cost.make_terms_call(name, replace(ProblemSize(), **SMALL))()
    return max(seen) * 64 // SMALL["batch"]


def within(name, found, network):
    """Whether own terms stay within their share of the student's forward and backward pass."""
    moved, flops = (images_a_step(name) * one for one in network)
    limit = MORE_BYTES.get(name, SHARE_OF_BYTES)
    return found.moved <= limit * moved and found.flops <= SHARE_OF_OPERATIONS * flops


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_own_terms_stay_within_their_share_of_the_network(name, network):
    found = counted(name)
    assert within(name, found, network), (found, network)


def test_the_share_is_of_all_the_images_that_the_student_sees():
    assert [images_a_step(name) for name in ("scratch", "udcd", "sskd")] == [64, 64, 256]


def test_gathering_the_rows_of_the_memory_would_exceed_the_share(monkeypatch, network):
    def gathered(self, z, bank, index, normaliser):
        normaliser.copy_(torch.where(normaliser < 0, torch.ones(()), normaliser))
        return reference_forms.compute_gathered_scores(z, bank, index, normaliser, self.temperature)

    monkeypatch.setattr(ContrastMemory, "_compute_scores", gathered)
    assert not within("crd", counted("crd"), network)


def test_the_angles_of_all_differences_would_exceed_the_share(monkeypatch, network):
    monkeypatch.setattr(losses, "rkd_angle", reference_forms.compute_angle_loss)
    assert not within("rkd", counted("rkd"), network)


def test_counts_do_not_depend_on_the_day():
    assert counted("udcd", **SMALL) == counted("udcd", **SMALL)


# --- growth -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counted_small():
    """Counts a method's terms at small sizes, once."""
    return cache(lambda name: counted(name, **SMALL))


@pytest.mark.parametrize("axis", ["n_train", "negatives", "classes"])
@pytest.mark.parametrize("name", METHODS)
def test_nothing_grows_faster_than_the_data_the_negatives_or_the_classes(counted_small, name, axis):
    """Twice as many, at most twice the bytes; and nothing that has no such thing grows at all."""
    one, two = counted_small(name), counted(name, **{**SMALL, axis: 2 * SMALL[axis]})
    assert two.moved <= 2.01 * one.moved and two.flops <= 2.01 * one.flops
    if axis == "negatives" and axis not in plugins.load_class("methods", name).hparams:
        assert two == one


@pytest.mark.slow
@pytest.mark.parametrize("name", ["udcd", "rkd"])
def test_no_tensor_of_all_triples_is_ever_made(name):
    """The triples of a batch of 256 are 134 MB for each class, in float64 as much again; a chunk has no more than 8."""
    call = cost.make_terms_call(name, replace(ProblemSize(), **{**SMALL, "batch": 256, "classes": 7}))
    assert cost.count_operations(call).largest <= 10e6


def test_what_cra_keeps_for_the_backward_pass_is_small():
    kept = []
    student, teacher = (torch.randn(256, 7).softmax(1) for _ in range(2))
    student.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes) or x, lambda x: x):
        losses.cra(student, teacher)
    assert kept and sum(kept) <= 4 * 256 * 256 * 7 * 2


# --- the counter ------------------------------------------------------------------------------------------------


def test_bytes_and_operations_are_those_of_a_product():
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    found = cost.count_operations(lambda: (a.T.T @ b).mul_(2))
    product = 4 * 3 * 7
    # what is read and written: the product's three matrices, then its result twice, in place; views cost nothing
    assert found == OperationCounts(
        moved=4 * (15 + 35) + product + 2 * product, largest=product, flops=2 * 3 * 5 * 7
    )


def test_a_tensor_that_repeats_itself_counts_once():
    a = torch.ones(1, 4).expand(1000, 4)
    assert cost.count_operations(lambda: a.sum()).moved == 4 * 4 + 4


def test_recalled_features_ask_for_a_gradient_where_a_networks_do():
    stand_in = cost.StubNetwork(ProblemSize(width=6, side=3))
    images = torch.zeros(4, 3, 8, 8)
    assert stand_in(images).levels == ()
    stand_in = cost.StubNetwork(ProblemSize(width=6, side=3, levels=((2, 6), (5, 3))))
    stand_in.collect_levels()
    features = stand_in(images)
    assert features.feature_map.shape == (4, 6, 3, 3) and features.logits.shape == (4, 7)
    assert [x.shape for x in features.levels] == [(4, 2, 6, 6), (4, 5, 3, 3)]
    assert stand_in.level_widths == (2, 5)

    def flatten(features):
        return [*features[:4], *features.levels]

    assert all(x.requires_grad for x in flatten(features))
    with torch.no_grad():
        assert not any(x.requires_grad for x in flatten(stand_in(images)))
    assert all(torch.equal(a, b) for a, b in zip(flatten(features), flatten(stand_in(images))))
