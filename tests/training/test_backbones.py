"""Every row on every backbone that the paper's figures name, small images and large."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch

from udcd_bench import plugins
from udcd_bench.data.batches.resident import DeviceDataset
from udcd_bench.errors import UserError
from udcd_bench.method import DatasetInfo, Progress
from udcd_bench.runs.profiles import PROFILES
from udcd_bench.training import backbones, network, weights
from udcd_bench.training.trainer import Trainer

BACKBONES = ("densenet121", "resnet50", "efficientnet_b0", "mobilenetv2_100")
SMALL = [PROFILES["demo"].resolve_backbone(name) for name in BACKBONES]
CLASSES = 3


@pytest.fixture(scope="module", autouse=True)
def forget_networks():
    yield
    build_once.cache_clear()


@cache
def build_once(backbone: str) -> tuple[tuple[network.Network, ...], list[torch.Tensor]]:
    """Two networks of that backbone, alike, made once for the rows that start from them; their tensors at the start."""
    torch.manual_seed(0)
    built = network.build_network(backbone, CLASSES, weights="none", image_size=32)
    return (built, copy.deepcopy(built)), [tensor.clone() for tensor in built.state_dict().values()]


def start_anew(backbone: str, role: str) -> network.Network:
    """That network as it was built, whatever the row before made of it; role: which of a row's two networks it is."""
    built, tensors = build_once(backbone)
    chosen = built[role == "teacher"]
    for tensor, value in zip(chosen.state_dict().values(), tensors, strict=True):
        tensor.copy_(value)
    chosen.zero_grad()
    return chosen.requires_grad_(True).train()


def assert_one_step_is_finite(name: str, student: str, teacher: str, size: int, batch_size: int = 4) -> None:
    """Make one step of each stage, teacher terms begun, then test all images; all stays finite."""
    torch.manual_seed(0)
    n = batch_size
    images = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)
    labels = np.arange(n, dtype=np.int64) % CLASSES
    data = DeviceDataset(
        images, labels, np.arange(n), device=torch.device("cpu"), order_seed=1, augment_seed=2
    )
    cls = plugins.load_class("methods", name)
    student_network = start_anew(student, "student")
    teacher_network = start_anew(teacher, "teacher") if cls.teacher else None
    info = DatasetInfo(
        n_train=n,
        classes=CLASSES,
        labels=data.labels,
        class_weights=n / torch.bincount(data.labels).float(),
        student_width=student_network.width,
        teacher_width=(teacher_network or student_network).width,
        embedding_width=network.EMBEDDING_WIDTH,
    )
    smaller = (("negatives", 16),) if "negatives" in cls.hparams else ()
    method = cls(info, student_network, teacher_network, smaller)
    changes = {"epochs": 1, "batch_size": batch_size, "start_epoch": 0, "ramp_epochs": 0, "report_epochs": 1}
    protocol = PROFILES["demo"].protocol.with_overrides(tuple(changes.items()))
    trainer = Trainer(method, protocol, data, data)
    for stage in method.stages():
        trainer.start_stage(stage)
        batch = next(data.iterate_batches(batch_size, stage.views))
        names, terms = trainer.run_training_step(stage, batch, Progress(0, 1, 0, 0))
        assert names and torch.isfinite(terms).all(), (stage.name, names, terms)
    method.eval()
    with torch.inference_mode():
        scores = torch.cat([method.predict(views).logits for views in data.iterate_images(batch_size)])
    assert scores.shape == (n, CLASSES) and scores.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [*BACKBONES, *SMALL[1:]])
@pytest.mark.parametrize("name", plugins.list_names("methods"))
def test_small_images(name, backbone):
    assert_one_step_is_finite(name, backbone, backbone, 32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backbone"),
    [*(("udcd", b) for b in BACKBONES), ("ssd-kd", "mobilenetv2_100"), ("crckd", "mobilenetv2_100")],
)
def test_large_images(name, backbone):
    assert_one_step_is_finite(name, backbone, backbone, 224, batch_size=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        n
        for n in plugins.list_names("methods")
        if plugins.read_attributes("methods", n).get("teacher") != "ema"
    ],
)
def test_a_teacher_of_another_architecture(name):
    assert_one_step_is_finite(name, "mobilenetv2_100", "resnet50", 64)


def test_the_demo_has_a_small_one_of_each_family():
    for name, small in zip(BACKBONES, SMALL):
        assert (
            small in backbones.TINY_BACKBONES
            and small.partition("-")[0] == name[: len(small.partition("-")[0])]
        )
        made = network.build_network(small, CLASSES, weights="none", image_size=48)
        assert sum(p.numel() for p in made.parameters()) < 150_000
        with pytest.raises(UserError, match="weights=none"):
            weights.build_backbone(small, "imagenet")
