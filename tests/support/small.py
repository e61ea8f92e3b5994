"""What training needs, as small as it gets: random images, a tiny network, one method on them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from udcd_bench import plugins
from udcd_bench.data.batches.resident import DeviceDataset
from udcd_bench.data.dataset import Dataset
from udcd_bench.method import BaseMethod, DatasetInfo
from udcd_bench.runs import profiles
from udcd_bench.runs.profiles import TINY_DENSENET, Protocol
from udcd_bench.training.network import EMBEDDING_WIDTH, Network, build_network

SIZE = 32
BATCH = 8


def dataset(n: int = 40, classes: int = 4, **changes: Any) -> Dataset:
    """Random images; class c of C holds about 1/(c+1) of what class 0 does, and at least five."""
    rng = np.random.default_rng(5)
    share = 1 / (1 + np.arange(classes))
    counts = np.maximum(5, np.floor(n * share / share.sum())).astype(int)
    counts[0] += n - counts.sum()
    labels = rng.permutation(np.repeat(np.arange(classes), counts))
    made = {
        "name": "small",
        "title": "Small",
        "images": rng.integers(0, 256, (n, SIZE, SIZE, 3), np.uint8),
        "labels": labels,
        "ids": tuple(f"image-{i}" for i in range(n)),
        "groups": np.arange(n) // 2,
        "classes": tuple("abcdefg"[:classes]),
        "fingerprint": "0123456789abcdef",
    }
    return Dataset(**{**made, **changes})


def protocol(**changes: Any) -> Protocol:
    """Three epochs, the teacher's terms from the second one on, the last two reported."""
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


def resident(data: Dataset, rows: Any = None) -> DeviceDataset:
    """All images of a data set, or some rows of it."""
    rows = np.arange(len(data.labels)) if rows is None else rows
    return DeviceDataset(
        data.images, data.labels, rows, device=torch.device("cpu"), order_seed=1, augment_seed=2
    )


def network(classes: int = 4) -> Network:
    """The tiny backbone."""
    return build_network(TINY_DENSENET, classes, weights="none", image_size=SIZE)


def method(
    which: str | type[BaseMethod], train: DeviceDataset, *, classes: int = 4, seed: int = 0, **how: Any
) -> BaseMethod:
    """A method as the engine makes it, from a file's name or a class; how: overrides of its hyper-parameters."""
    cls: type[BaseMethod] = plugins.load_class("methods", which) if isinstance(which, str) else which
    torch.manual_seed(seed)
    student = network(classes)
    teacher = None
    if cls.teacher == "ema":
        teacher = copy.deepcopy(student)
    elif cls.teacher is not None:
        teacher = network(classes)
    info = DatasetInfo(
        n_train=len(train),
        classes=classes,
        labels=train.labels,
        class_weights=len(train) / torch.bincount(train.labels, minlength=classes).float(),
        student_width=student.width,
        teacher_width=student.width,
        embedding_width=EMBEDDING_WIDTH,
    )
    return cls(info, student, teacher, tuple(how.items()), torch.Generator().manual_seed(seed))


class Kept:
    """Every checkpoint a run makes, as the store is given it."""

    def __init__(self) -> None:
        self.saved: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def save(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        self.saved.append(({k: np.array(v) for k, v in arrays.items()}, copy.deepcopy(meta)))

    def load(self) -> None:
        return None
