"""A method in the loop at the smallest size that is one: 40 random images at 32², a network for two cores, seconds."""

import contextlib
import copy

import numpy as np
import torch
from torch import nn

from udcd_bench import plugins
from udcd_bench.data.batches.resident import DeviceDataset
from udcd_bench.method import DatasetInfo, Progress
from udcd_bench.runs.profiles import TINY_DENSENET, Protocol
from udcd_bench.training import network
from udcd_bench.training.trainer import Trainer

LABELS = np.repeat(np.arange(4), (20, 9, 6, 5))
PROTOCOL = Protocol(
    image_size=32,
    batch_size=8,
    epochs=4,
    learning_rate=2e-3,
    start_epoch=1,
    ramp_epochs=2,
    report_epochs=2,
    weights="none",
)


@contextlib.contextmanager
def one_thread():
    """Sums in one order, and no crowd on shared cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def resident():
    """The images on the CPU, as a run's data are."""
    images = np.random.default_rng(0).integers(0, 256, (len(LABELS), 32, 32, 3), dtype=np.uint8)
    rows = np.arange(len(LABELS))
    return DeviceDataset(images, LABELS, rows, device=torch.device("cpu"), order_seed=1, augment_seed=2)


def batch(views=1, size=8):
    """The first batch of the first epoch."""
    return next(resident().iterate_batches(size, views))


def build(name, *, teacher_backbone=TINY_DENSENET, autocast=False, hparams=(), seed=0):
    """A fresh method with its networks; a trained teacher is an untrained one whose statistics have seen data."""

    def fresh(backbone):
        made = network.build_network(backbone, 4, weights="none", image_size=32, autocast=autocast)
        for p in made.parameters():
            if (
                not p.any()
            ):  # some backbones start batch norms at zero, which keeps gradients from what lies before
                nn.init.constant_(p, 0.1)
        return made

    torch.manual_seed(seed)
    cls = plugins.load_class("methods", name)
    student = fresh(TINY_DENSENET)
    teacher = None
    if cls.teacher == "ema":
        teacher = copy.deepcopy(student)
    elif cls.teacher is not None:
        teacher = fresh(teacher_backbone)
        if cls.teacher == "trained":
            with torch.no_grad():
                teacher.train()(torch.randn(32, 3, 32, 32))
    data = resident()
    info = DatasetInfo(
        n_train=len(data),
        classes=4,
        labels=data.labels,
        class_weights=len(data) / torch.bincount(data.labels).float(),
        student_width=student.width,
        teacher_width=(teacher or student).width,
        embedding_width=network.EMBEDDING_WIDTH,
    )
    return cls(info, student, teacher, tuple(hparams), torch.Generator().manual_seed(seed))


class SmallNet(nn.Module):
    """The features of a network, in the precision of its weights, for recordings of other people's trainers."""

    def __init__(self, classes, width):
        super().__init__()
        self.width = width
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.neck = nn.Linear(width, 10)
        self.classifier = nn.Linear(10, classes)

    def forward(self, images):
        feature_map = self.backbone(images)
        pooled = feature_map.mean((2, 3))
        embedding = self.neck(pooled)
        return network.Features(feature_map, pooled, embedding, self.classifier(embedding))


class Memory:
    """Checkpoints kept here, copied as a file would be."""

    def __init__(self):
        self.kept = None

    def save(self, arrays, meta):
        self.kept = copy.deepcopy((arrays, meta))

    def load(self):
        return copy.deepcopy(self.kept)


class Stopped(Exception):  # noqa: N818  # somebody's Ctrl-C, no error
    """The run was interrupted."""


def train(method, checkpoints=None, report=lambda row: None):
    """The outcome of a run of this method."""
    return Trainer(
        method, PROTOCOL, resident(), resident(), checkpoints=checkpoints, on_epoch_end=report
    ).run()


def train_interrupted(build_anew, epochs):
    """The outcome of a run of `epochs` in all that is stopped after each of them, everything built anew each time."""
    checkpoints = Memory()

    def stop(row):
        raise Stopped

    for _ in range(epochs - 1):
        with contextlib.suppress(Stopped):
            train(build_anew(), checkpoints, stop)
    torch.manual_seed(99)
    return train(build_anew(), checkpoints)


class Loop:
    """One step at a time, in the modes the trainer sets."""

    def __init__(self, method):
        self.method = method
        self.trainer = Trainer(method, PROTOCOL, resident(), resident())

    def backward(self, number, given):
        """Losses of one batch in the stage of that number, their gradients left on the parameters."""
        stage = self.method.stages()[number]
        self.method.zero_grad()
        self.trainer.set_modes(stage)
        terms = stage.compute_losses(given, Progress(0, 4, 0, 0))
        torch.stack(list(terms.values())).sum().backward()
        return {name: value.detach() for name, value in terms.items()}
