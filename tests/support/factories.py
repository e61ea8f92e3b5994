"""What training needs, as small as it gets: forty random images at 32², tiny networks, a method in the loop."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from udcd_bench import plugins
from udcd_bench.data.batches.resident import DeviceDataset
from udcd_bench.data.dataset import Dataset
from udcd_bench.method import DatasetInfo, Progress
from udcd_bench.runs import profiles
from udcd_bench.runs.profiles import TINY_DENSENET, Protocol
from udcd_bench.training.assemble import refuse_untrained
from udcd_bench.training.network import EMBEDDING_WIDTH, Features, build_network
from udcd_bench.training.trainer import Trainer

SIZE = 32
BATCH = 8
PROTOCOL = Protocol(
    image_size=SIZE,
    batch_size=BATCH,
    epochs=4,
    learning_rate=2e-3,
    start_epoch=1,
    ramp_epochs=2,
    report_epochs=2,
    weights="none",
)


# --- images -----------------------------------------------------------------------------------------------------


def dataset(n=40, classes=4, **changes):
    """Random images; class c of C holds about 1/(c+1) of what class 0 does, and at least five."""
    rng = np.random.default_rng(5)
    share = 1 / (1 + np.arange(classes))
    counts = np.maximum(5, np.floor(n * share / share.sum())).astype(int)
    counts[0] += n - counts.sum()
    labels = rng.permutation(np.repeat(np.arange(classes), counts))
    fields = {
        "name": "small",
        "title": "Small",
        "images": rng.integers(0, 256, (n, SIZE, SIZE, 3), np.uint8),
        "labels": labels,
        "ids": tuple(f"image-{i}" for i in range(n)),
        "groups": np.arange(n) // 2,
        "classes": tuple("abcdefg"[:classes]),
        "fingerprint": "0123456789abcdef",
    }
    return Dataset(**{**fields, **changes})


def resident(data=None, rows=None, augment="paper"):
    """All images of a data set, or some rows of it, on the CPU as a run's data are; forty random images by default."""
    data = data or dataset()
    rows = np.arange(len(data.labels)) if rows is None else rows
    return DeviceDataset(
        data.images,
        data.labels,
        rows,
        device=torch.device("cpu"),
        order_seed=1,
        augment_seed=2,
        augment=augment,
    )


def batch(views=1, size=BATCH):
    """The first batch of the first epoch."""
    return next(resident().iterate_batches(size, views))


# --- networks and methods ---------------------------------------------------------------------------------------


def protocol(**changes):
    """The demo's, of three epochs: the teacher's terms from the second one on, the last two reported."""
    base = replace(
        profiles.build_protocol("demo", "synthetic-lesions"),
        image_size=SIZE,
        batch_size=BATCH,
        epochs=3,
        start_epoch=1,
        ramp_epochs=2,
        report_epochs=2,
    )
    return replace(base, **changes)


def network(classes=4, backbone=TINY_DENSENET, autocast=False):
    """A network of the tiny backbone, or of another."""
    return build_network(backbone, classes, weights="none", image_size=SIZE, autocast=autocast)


def nonzero_network(classes=4, backbone=TINY_DENSENET, autocast=False):
    """A network without a tensor of zeros: some backbones start so, and no gradient passes what lies before."""
    started = network(classes, backbone, autocast)
    for p in started.parameters():
        if not p.any():
            nn.init.constant_(p, 0.1)
    return started


def warmed_up(teacher):
    """An untrained teacher whose statistics have seen images, in place of a trained one."""
    with torch.no_grad():
        teacher.train()(torch.randn(32, 3, SIZE, SIZE))
    return teacher


def method(which, train=None, *, student=network, teacher=None, classes=4, seed=0, **hparams):
    """A method as the engine makes it, from a file's name or a class; ``hparams`` override its hyper-parameters.

    student, teacher: make its networks; a teacher is made as the student is unless said otherwise.
    """
    cls = plugins.load_class("methods", which) if isinstance(which, str) else which
    train = train or resident()
    torch.manual_seed(seed)
    student_network, teacher_network = student(classes), None
    if cls.teacher == "ema":
        teacher_network = copy.deepcopy(student_network)
    elif cls.teacher is not None:
        teacher_network = (teacher or student)(classes)
    for built in (student_network, teacher_network):
        if cls.levels and built is not None:
            built.collect_levels()
    info = DatasetInfo(
        n_train=len(train),
        classes=classes,
        labels=train.labels,
        class_weights=len(train) / torch.bincount(train.labels, minlength=classes).float(),
        student_width=student_network.width,
        teacher_width=(teacher_network or student_network).width,
        embedding_width=EMBEDDING_WIDTH,
        student_levels=student_network.level_widths,
        teacher_levels=(teacher_network or student_network).level_widths,
    )
    generator = torch.Generator().manual_seed(seed)
    built = cls(info, student_network, teacher_network, tuple(hparams.items()), generator)
    refuse_untrained(built)
    return built


def ready_method(name, *, teacher_backbone=TINY_DENSENET, autocast=False, seed=0, **hparams):
    """A method that a gradient passes through everywhere: no tensor of zeros, a trained teacher warmed up."""
    is_trained = plugins.load_class("methods", name).teacher not in (None, "ema", "own")

    def student(classes):
        return nonzero_network(classes, autocast=autocast)

    def teacher(classes):
        built = nonzero_network(classes, teacher_backbone, autocast)
        return warmed_up(built) if is_trained else built

    return method(name, student=student, teacher=teacher, seed=seed, **hparams)


class SmallNet(nn.Module):
    """The features of a network, in the precision of its weights, as recordings of other people's trainers have them.

    width: of the pooled features. embedding: width of the embedding.
    """

    def __init__(self, classes, width=8, embedding=16):
        super().__init__()
        self.width = width
        self.level_widths = ()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.neck = nn.Linear(width, embedding)
        self.classifier = nn.Linear(embedding, classes)

    def collect_levels(self):
        """Give the maps of both convolutions."""
        self.level_widths = 6, self.width

    def forward(self, images):
        layers = list(self.backbone)  # a part of a Sequential would be another module, made at each pass
        first = images.to(self.neck.weight.dtype)
        for layer in layers[:3]:
            first = layer(first)
        feature_map = first
        for layer in layers[3:]:
            feature_map = layer(feature_map)
        pooled = feature_map.mean((2, 3))
        embedding = self.neck(pooled)
        levels = (first, feature_map) if self.level_widths else ()
        return Features(feature_map, pooled, embedding, self.classifier(embedding), levels)


# --- in the loop ------------------------------------------------------------------------------------------------


class MemoryCheckpoints:
    """Every checkpoint a run makes, copied as a file would be."""

    def __init__(self):
        self.saved = []

    def save(self, arrays, meta):
        self.saved.append(copy.deepcopy((arrays, meta)))

    def load(self):
        return copy.deepcopy(self.saved[-1]) if self.saved else None


class Stopped(Exception):  # noqa: N818  # somebody's Ctrl-C, no error
    """The run was interrupted."""


def train(method, checkpoints=None, report=lambda row: None):
    """The outcome of a run of this method."""
    return Trainer(
        method, PROTOCOL, resident(), resident(), checkpoints=checkpoints, on_epoch_end=report
    ).run()


def train_interrupted(build_anew, epochs):
    """The outcome of a run of `epochs` in all that is stopped after each of them, everything built anew each time."""
    checkpoints = MemoryCheckpoints()

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
