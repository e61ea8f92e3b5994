"""``--set compile=true``: the same network under the same names, in few graphs, and rounded no worse."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import udcd_bench as ub
from support import factories, records
from udcd_bench import plugins
from udcd_bench.bench import cost
from udcd_bench.engines import execute
from udcd_bench.runs.planner import Job
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store
from udcd_bench.training import backbones, network
from udcd_bench.training.network import Network
from udcd_bench.training.trainer import Trainer

pytestmark = pytest.mark.slow

DRAW = {"Tensor.random_ op"}
"""The one operation that the compiler does not trace: a contrast sampler's draw from its own generator."""


@pytest.fixture
def graphs(monkeypatch):
    """The compiler's counts, from nothing; it traces as ever and leaves the arithmetic to the operations themselves."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    # nor does it measure how fast each graph's guards are, for which it first empties the processor's cache
    monkeypatch.setattr("torch._dynamo.guards.profile_guard_manager", lambda *_: 0.0, raising=False)
    yield from watched_compiler()


@pytest.fixture
def own_kernels():
    """The same of the compiler with kernels of its own, made here rather than by processes."""
    from torch._inductor import config

    with config.patch(compile_threads=1):
        yield from watched_compiler()


def watched_compiler():
    from torch._dynamo.utils import counters

    network._get_compiled_call.cache_clear()
    torch.compiler.reset()
    counters.clear()
    yield counters["stats"]
    torch.compiler.reset()
    network._get_compiled_call.cache_clear()


def small_network(classes):
    return factories.SmallNet(classes, embedding=network.EMBEDDING_WIDTH)


class SmallBackbone(nn.Sequential):
    """Few layers of the kinds that backbones have."""

    num_features = 6

    def __init__(self):
        super().__init__(nn.Conv2d(3, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.SiLU())

    def forward_features(self, images):
        return self(images)


def compiled_network(classes=4, batch_size=factories.BATCH, backbone=SmallBackbone):
    built = Network(backbone(), classes)
    built.compiled_batch_size = batch_size
    return built


def train(name, batch_size):
    """The outcome and the method of three epochs of forty images in batches of 12, the last one smaller."""
    student = functools.partial(compiled_network, batch_size=batch_size)
    method = factories.method(name, student=student)
    protocol = factories.protocol(batch_size=12)
    return Trainer(method, protocol, factories.resident(), factories.resident()).run(), method


# --- graph breaks -----------------------------------------------------------------------------------------------


# the compiler looks at the gradient of whatever goes over a break, and that of PyTorch 2.11 makes functions' instances
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", plugins.list_names("methods"))
def test_nothing_but_a_samplers_draw_breaks_the_graph_of_a_methods_losses(graphs, name):
    method = factories.method(name, student=small_network)
    stage = cost.find_student_stage(method)
    batch = factories.batch(stage.views)
    if hasattr(method, "sampler"):
        sample, drawn = method.sampler.sample, method.sampler.sample(batch.index)
        broken = torch._dynamo.explain(lambda: sample(batch.index))()
        assert {reason.reason.partition("\n")[0] for reason in broken.break_reasons} == DRAW
        method.sampler.sample = lambda index: drawn
    traced = torch._dynamo.explain(lambda: stage.compute_losses(batch, cost.STEADY_PROGRESS))()
    assert not traced.break_reasons and traced.graph_count == 1


@pytest.mark.parametrize("name", backbones.TINY_BACKBONES)
def test_a_backbone_is_one_graph(graphs, name):
    built = factories.network(backbone=name)
    built.compiled_batch_size = factories.BATCH
    images = torch.randn(factories.BATCH, 3, factories.SIZE, factories.SIZE)
    assert built(images).logits.shape == (factories.BATCH, 4)
    assert graphs["unique_graphs"] == 1


# --- training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_graphs"), [("scratch", 1), ("mtg", 2), ("kd", 2), ("sskd", 2), ("scl-ikd", 2)]
)
def test_each_kind_of_pass_is_compiled_once_and_changes_nothing(graphs, name, n_graphs):
    """Passes with gradients and without, of what is trained and what is not; not one for each epoch or batch size."""
    outcome, method = train(name, batch_size=12)
    assert graphs["unique_graphs"] == n_graphs
    plain, plain_method = train(name, batch_size=0)
    np.testing.assert_array_equal(outcome.scores, plain.scores)
    for row, plain_row in zip(outcome.history, plain.history, strict=True):
        for key in plain_row.keys() - {"seconds", "images_per_s"}:
            assert row[key] == plain_row[key], key
    state, plain_state = method.state_dict(), plain_method.state_dict()
    assert list(state) == list(plain_state) and all(map(torch.equal, state.values(), plain_state.values()))


def test_a_last_smaller_batch_and_tests_are_not_compiled(graphs):
    built = compiled_network(batch_size=8)
    images = torch.randn(16, 3, 8, 8)
    built(images[:5])
    with torch.inference_mode():
        built(images)
    assert graphs["unique_graphs"] == 0
    built(images[:8])
    assert graphs["unique_graphs"] == 1
    built(images)
    assert graphs["unique_graphs"] == 2, "the four turns of a batch are a whole batch too"


def test_it_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(graphs, monkeypatch):
    monkeypatch.setattr("udcd_bench.training.trainer.CHECKPOINT_SHARE", np.inf)

    def build():
        return factories.method("mtg", student=compiled_network)

    whole = factories.train(build())
    stopped = factories.train_interrupted(build, factories.PROTOCOL.epochs)
    np.testing.assert_array_equal(whole.scores, stopped.scores)
    assert graphs["unique_graphs"] > 0


def test_a_stored_run_says_that_it_was_compiled_and_is_read_like_any_other(
    graphs, prepared_lesions, tmp_path
):
    def store_run(**settings):
        small = {"image_size": 32, "n_images": 100, "epochs": 2, "batch_size": 32}
        return ub.train(
            "mtg",
            "synthetic-lesions",
            tmp_path,
            small | settings,
            backbone="resnet-tiny",
            data=prepared_lesions,
            device="cpu",
        )

    plain, compiled = store_run(), store_run(compile=True)
    assert graphs["unique_graphs"] == 2 and compiled.key != plain.key
    assert compiled.record["protocol"]["compile"] is True
    pd.testing.assert_frame_equal(compiled.scores, plain.scores)
    weights, plain_weights = (run.network.state_dict() for run in (compiled, plain))
    assert list(weights) == list(plain_weights)
    assert all(map(torch.equal, weights.values(), plain_weights.values()))


def test_a_backbone_that_is_not_one_graph_is_told_of_in_a_sentence(graphs, tmp_path):
    class Broken(SmallBackbone):
        def forward_features(self, images):
            torch._dynamo.graph_break()
            return self(images)

    spec = RunSpec("scratch", "digits", "demo", "resnet-tiny", protocol=(("compile", True),))
    job = Job(spec, "k", "absent", 16, records.make_inputs(spec))
    with pytest.raises(torch._dynamo.exc.TorchDynamoException) as raised:
        compiled_network(backbone=Broken)(torch.zeros(factories.BATCH, 3, 8, 8))
    context = execute.RunContext(Store(tmp_path), tmp_path)
    sentence = str(execute._explain_error(raised.value, job, context))
    assert sentence.startswith("resnet-tiny was not compiled (") and "\n" not in sentence
    assert sentence.endswith("leave out --set compile=true")


# --- rounding ---------------------------------------------------------------------------------------------------


def compute_passes(built, images, compiled):
    """The feature map of a training pass, and the gradient of its first weights."""
    built.compiled_batch_size = len(images) if compiled else 0
    built.zero_grad()
    features = built(images).feature_map
    (
        features * torch.linspace(-1, 1, features.numel(), dtype=features.dtype).view_as(features)
    ).sum().backward()
    return features.detach(), next(built.parameters()).grad.clone()


def test_compiled_arithmetic_is_as_near_to_the_exact_one_as_the_operations_are(own_kernels):
    """In float64 it agrees to float64's digits; in float32 it errs by no more than the operations do, times four.

    Both round every sum of K products: an error of about √K·2⁻²⁴ of its size, in an order of their own. Of two draws of
    the same spread, the largest of hundreds is hardly ever four times the other's.
    """
    torch.manual_seed(0)
    images = torch.randn(8, 3, 12, 12, dtype=torch.float64)
    built = compiled_network()
    built.backbone.double()
    exact = compute_passes(built, images, compiled=False)
    assert own_kernels["unique_graphs"] == 0
    for ours, theirs in zip(compute_passes(built, images, compiled=True), exact):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    built.backbone.float()
    plain = compute_passes(built, images.float(), compiled=False)
    compiled = compute_passes(built, images.float(), compiled=True)
    assert own_kernels["unique_graphs"] == 2
    for ours, theirs, truth in zip(compiled, plain, exact):
        error, usual = ((x.double() - truth).abs().max() for x in (ours, theirs))
        assert error <= 4 * usual, (error, usual)
