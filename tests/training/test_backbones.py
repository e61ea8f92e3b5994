"""Every row on every backbone that the paper's figures name, small images and large."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from udcd_bench import plugins
from udcd_bench.data.batches.resident import DeviceDataset
from udcd_bench.method import DatasetInfo
from udcd_bench.runs.profiles import PROFILES
from udcd_bench.training import network
from udcd_bench.training.trainer import Trainer

BACKBONES = ("densenet121", "resnet50", "efficientnet_b0", "mobilenetv2_100")
SMALL = [PROFILES["demo"].resolve_backbone(name) for name in BACKBONES]
N, CLASSES = 8, 3


def steps(name: str, student: str, teacher: str, size: int) -> dict[str, float]:
    """One epoch of two steps a stage, teacher terms begun; the last epoch's losses."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (N, size, size, 3), np.uint8)
    labels = np.arange(N, dtype=np.int64) % CLASSES
    data = DeviceDataset(
        images, labels, np.arange(N), device=torch.device("cpu"), order_seed=1, augment_seed=2
    )
    nets = [network.build_network(b, CLASSES, weights="none", image_size=size) for b in (student, teacher)]
    cls = plugins.load_class("methods", name)
    info = DatasetInfo(
        n_train=N,
        classes=CLASSES,
        labels=data.labels,
        class_weights=N / torch.bincount(data.labels).float(),
        student_width=nets[0].width,
        teacher_width=nets[1].width,
        embedding_width=network.EMBEDDING_WIDTH,
    )
    smaller = (("negatives", 16),) if "negatives" in cls.hparams else ()
    method = cls(info, nets[0], nets[1] if cls.teacher else None, smaller)
    protocol = PROFILES["demo"].protocol.with_overrides(
        (("epochs", 1), ("batch_size", 4), ("start_epoch", 0), ("ramp_epochs", 0), ("report_epochs", 1))
    )
    outcome = Trainer(method, protocol, data, data).run()
    assert outcome.scores.shape == (1, N, CLASSES) and np.isfinite(outcome.scores).all()
    return outcome.history[-1]


@pytest.mark.parametrize("backbone", [*BACKBONES, *SMALL[1:]])
@pytest.mark.parametrize("name", plugins.list_names("methods"))
def test_small_images(name, backbone):
    assert math.isfinite(steps(name, backbone, backbone, 32)["loss"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backbone"),
    [*(("udcd", b) for b in BACKBONES), ("ssd-kd", "mobilenetv2_100"), ("crckd", "mobilenetv2_100")],
)
def test_large_images(name, backbone):
    assert math.isfinite(steps(name, backbone, backbone, 224)["loss"])


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in plugins.list_names("methods")
        if plugins.read_attributes("methods", n).get("teacher") != "ema"
    ],
)
def test_a_teacher_of_another_architecture(name):
    assert math.isfinite(steps(name, "mobilenetv2_100", "resnet50", 64)["loss"])


def test_the_demo_has_a_small_one_of_each_family():
    for name, small in zip(BACKBONES, SMALL):
        assert (
            small in network.TINY_BACKBONES
            and small.partition("-")[0] == name[: len(small.partition("-")[0])]
        )
        made = network.build_network(small, CLASSES, weights="none", image_size=48)
        assert sum(p.numel() for p in made.parameters()) < 150_000
        with pytest.raises(network.UserError, match="weights=none"):
            network.build_backbone(small, "imagenet")
