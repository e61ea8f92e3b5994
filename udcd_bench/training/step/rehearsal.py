"""One step of a method on a few drawn images, to learn before any run whether it reads what its runs do not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from udcd_bench.data.batches.mixup import MixedIndex, Mixup
from udcd_bench.data.batches.resident import Batch
from udcd_bench.errors import UnreadableError
from udcd_bench.method import Progress
from udcd_bench.runs.profiles import TINY_DENSENET
from udcd_bench.training.assemble import MethodOptions, assemble_method, build_networks
from udcd_bench.training.ensemble import Ensemble
from udcd_bench.training.network import Network, build_network
from udcd_bench.training.step.global_generators import keep_global_generators

if TYPE_CHECKING:
    from udcd_bench.method import BaseMethod
    from udcd_bench.runs.spec import Overrides

CLASSES, N_TRAIN, BATCH_SIZE, SIDE = 3, 96, 12, 32
EPOCHS = (Progress(0, 3, 1, 2), Progress(2, 3, 1, 2))
"""Before and after the terms of a teacher start."""


def rehearse(
    method_class: type[BaseMethod], hparams: Overrides, *, has_several_teachers: bool, mixes: bool
) -> None:
    """Compute the losses of each stage once, of a tiny network.

    hparams: overrides. has_several_teachers: give it an ensemble. mixes: give it a mixed batch.
    Raises UnreadableError when the method reads what there is none of. What else goes wrong, such as a method that
    wants larger images, is the run's to tell.
    """
    try:
        with keep_global_generators(), torch.random.fork_rng(devices=[]):
            _compute_losses(method_class, hparams, has_several_teachers, mixes)
    except UnreadableError:
        raise
    except Exception:
        return


def _compute_losses(
    method_class: type[BaseMethod], hparams: Overrides, has_several_teachers: bool, mixes: bool
) -> None:
    def build() -> Network:
        return build_network(TINY_DENSENET, CLASSES, weights="none", image_size=SIDE)

    def build_teacher() -> Network:
        return Ensemble([build(), build()]) if has_several_teachers else build()

    labels = torch.arange(N_TRAIN) % CLASSES
    networks = build_networks(method_class, build, build_teacher)
    method = assemble_method(method_class, networks, labels, CLASSES, MethodOptions(hparams))
    index = torch.arange(BATCH_SIZE)
    for stage in method.stages():
        views = tuple(torch.rand(BATCH_SIZE, 3, SIDE, SIDE) for _ in range(stage.views))
        batch = Batch(views, labels[index], index)
        if mixes:
            batch = Batch(*Mixup(0).mix(views, batch.labels), MixedIndex(index))
        for progress in EPOCHS:
            stage.compute_losses(batch, progress)
