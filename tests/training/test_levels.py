"""The maps of every level: timm's own, of every family, and nothing changed in what a network computes beside them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from support import factories
from udcd_bench.engines.environment import check_early
from udcd_bench.errors import UserError
from udcd_bench.method import BaseMethod
from udcd_bench.runs.spec import RunSpec
from udcd_bench.training import network
from udcd_bench.training.assemble import assemble_method, build_networks
from udcd_bench.training.backbones import TINY_BACKBONES
from udcd_bench.training.step.gradients import watch_feature_maps

SIZES = {
    "densenet-tiny": (16, 8, 4, 2, 1),
    "resnet-tiny": (16, 8, 4, 2, 1),
    "efficientnet-tiny": (16, 8, 4, 2),
    "mobilenet-tiny": (16, 8, 4, 2),
    "mobilenetv2_100": (16, 8, 4, 2, 1),
    "tf_efficientnet_lite0": (16, 8, 4, 2, 1),
}
"""Backbone → sides of its levels at 32²."""


class Levels(BaseMethod):
    title = "Levels"
    citation = "None, 2024"
    levels = True

    def compute_losses(self, batch, progress):
        features = self.student(batch.views[0])
        return {"ce": self.cross_entropy(features.logits, batch.labels), "map": features.levels[1].mean()}


class Averaged(Levels):
    teacher = "ema"


class Plain(Levels):
    levels = False


def images(n=4):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def flatten(features):
    return [features.feature_map, features.pooled, features.embedding, features.logits]


@pytest.mark.parametrize("name", SIZES)
def test_a_level_ends_where_timm_says_and_the_deepest_has_the_size_of_the_map(name):
    built = factories.network(backbone=name).eval()
    assert built(images()).levels == () == built.level_widths
    built.collect_levels()
    built.collect_levels()  # once is enough
    with torch.inference_mode():
        features = built(images())
    assert tuple(level.shape[-1] for level in features.levels) == SIZES[name]
    assert tuple(level.shape[1] for level in features.levels) == built.level_widths
    assert features.levels[-1].shape[2:] == features.feature_map.shape[2:]
    if hasattr(built.backbone, "forward_intermediates"):
        with torch.inference_mode():
            _, wanted = built.backbone.forward_intermediates(images())
        assert len(wanted) == len(features.levels)
        assert all(map(torch.equal, features.levels, wanted))


@pytest.mark.parametrize("name", TINY_BACKBONES)
def test_what_else_a_network_computes_stays_bit_for_bit(name):
    torch.manual_seed(0)
    plain = factories.network(backbone=name)
    asked = copy.deepcopy(plain)
    asked.collect_levels()
    assert asked.state_dict().keys() == plain.state_dict().keys()
    one, other = (flatten(built.train()(images())) for built in (plain, asked))
    assert all(map(torch.equal, one, other))
    for outputs in (one, other):
        outputs[-1].square().sum().backward()
    for p, q in zip(plain.parameters(), asked.parameters()):
        assert torch.equal(p.grad, q.grad)


def test_an_average_collects_its_own_levels_and_a_network_keeps_none():
    student, teacher = build_networks(Averaged, factories.network)
    kept = student(images(2)).levels
    teacher_levels = teacher(images(3)).levels
    assert [len(level) for level in (*kept, *teacher_levels)] == [2] * 5 + [3] * 5
    again = copy.deepcopy(student)
    assert len(again(images(1)).levels) == 5 and len(student(images()).levels) == 5
    assert student._levels == teacher._levels == again._levels == []


def test_a_method_knows_the_channels_of_both_networks_from_the_end():
    labels = torch.arange(8) % 4

    class Taught(Levels):
        teacher = "own"

    networks = build_networks(
        Taught, lambda: factories.network(backbone="mobilenet-tiny"), lambda: factories.network()
    )
    info = assemble_method(Taught, networks, labels, 4).info
    assert info.student_levels == (8, 16, 16, 32) and info.teacher_levels == (16, 32, 32, 32, 32)
    alone = assemble_method(Levels, build_networks(Levels, factories.network), labels, 4).info
    assert alone.student_levels == alone.teacher_levels == (16, 32, 32, 32, 32)
    plain = assemble_method(Plain, build_networks(Plain, factories.network), labels, 4)
    assert plain.info.student_levels == () == plain.student.level_widths


def test_a_level_may_be_in_the_precision_of_the_backbone():
    built = factories.network(autocast=True)
    built.collect_levels()
    features = built(images())
    assert features.levels[1].dtype == features.feature_map.dtype == torch.bfloat16
    assert features.logits.dtype == torch.float32


def test_gradients_are_measured_where_all_terms_pass():
    method = factories.method(Levels)
    with watch_feature_maps(method.student) as maps:
        method.student(images())
    assert maps[0].shape == (4, 16, 16, 16)


def test_of_several_maps_of_one_size_the_deepest_ends_the_level():
    built = factories.network()
    twice = [*built.backbone.feature_info, {"num_chs": 9, "reduction": 8, "module": "features.transition2"}]
    built.backbone.feature_info = sorted(twice, key=lambda entry: entry["reduction"])
    assert [width for _, width in network.find_levels(built.backbone)] == [16, 32, 9, 32, 32]


def test_a_stopped_run_of_such_a_method_goes_on_bit_for_bit():
    def build():
        return factories.method(Averaged, student=lambda n: factories.SmallNet(n, embedding=128))

    whole = factories.train(build())
    parts = factories.train_interrupted(build, len(whole.history))
    assert (whole.scores == parts.scores).all()
    assert all(row["gradient_map"] > 0 and row["gradient_ce"] > 0 for row in whole.history)


def test_a_backbone_without_levels_is_refused_in_a_sentence(monkeypatch):
    with pytest.raises(UserError, match="tells 0 in a Sequential; give another --backbone"):
        network.find_levels(nn.Sequential(nn.Conv2d(3, 8, 3)))
    built = factories.network()
    built.backbone.feature_info = built.backbone.feature_info[:3]
    monkeypatch.setattr(network, "build_network", lambda *_, **__: built)
    reads = {"scratch": False, "levels": True}
    monkeypatch.setattr("udcd_bench.plugins.read_attributes", lambda kind, name: {"levels": reads[name]})
    specs = [RunSpec(name, "digits", "demo", "odd_net") for name in reads]
    check_early(specs[:1], "cpu")
    with pytest.raises(UserError, match="tells 3 in a DenseNet"):
        check_early(specs, "cpu")
