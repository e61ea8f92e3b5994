"""The steps of one run: its data on the device, its method, and what is stored of its training."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from udcd_bench import plugins
from udcd_bench.data.batches.augment import AffineRange
from udcd_bench.data.batches.resident import DeviceDataset
from udcd_bench.data.own_splits import count_shared, describe_own_split
from udcd_bench.engines.environment import check_compiler, describe_environment
from udcd_bench.runs.profiles import split_overrides
from udcd_bench.stats import metrics, rules
from udcd_bench.training import network
from udcd_bench.training.assemble import MethodOptions, assemble_method, build_networks
from udcd_bench.training.scoring import Validation
from udcd_bench.training.step.global_generators import seed_global_generators

if TYPE_CHECKING:
    from udcd_bench.data.dataset import Dataset, Ints
    from udcd_bench.data.splits import Split
    from udcd_bench.method import BaseMethod
    from udcd_bench.runs.profiles import Protocol
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.storage.packing import Arrays
    from udcd_bench.training.trainer import TrainingResult


@dataclass(frozen=True)
class RunSetup:
    """What a run is made from: its spec, its protocol, its data, and the device it is trained on.

    weights: ``Protocol.weights``, a file of them by its path.
    """

    spec: RunSpec
    protocol: Protocol
    dataset: Dataset
    split: Split
    device: torch.device
    weights: str

    @property
    def autocast(self) -> bool:
        """Whether networks compute in bfloat16."""
        return network.uses_autocast(self.protocol.precision, self.device)

    @property
    def test_labels(self) -> Ints:
        """Labels (n_test,) of the test images."""
        return self.dataset.labels[self.split.test]


def configure_torch(threads: int, deterministic: bool) -> None:
    """Set PyTorch's number of CPU threads (0 leaves it alone) and its choice of operations, for this process.

    deterministic: choose operations that repeat their figures bit for bit; otherwise a GPU times its convolutions and
    takes the fastest.
    """
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        # cuBLAS reads this when the process makes its first handle
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if threads:
        torch.set_num_threads(threads)


def load_on_device(setup: RunSetup) -> tuple[DeviceDataset, DeviceDataset, Validation | None]:
    """Make the training set, the test set and, where images validate, these on the device."""

    def load(rows: Ints) -> DeviceDataset:
        return DeviceDataset(
            setup.dataset.images,
            setup.dataset.labels,
            rows,
            device=setup.device,
            order_seed=setup.spec.derive_seed_for("order"),
            augment_seed=setup.spec.derive_seed_for("augmentation"),
            affine_range=AffineRange(
                setup.protocol.rotation, setup.protocol.translation, setup.protocol.flip
            ),
            augment=setup.protocol.augment,
        )

    rows = setup.split.validation
    validation = (
        Validation(load(rows), setup.dataset.labels[rows], setup.dataset.ordered) if len(rows) else None
    )
    return load(setup.split.train), load(setup.split.test), validation


def build_method(setup: RunSetup, labels: torch.Tensor, teacher: network.Network | None) -> BaseMethod:
    """Build the networks and put the run's method together, each from its own seed.

    labels: (n_train,) of the training images, on the device. teacher: a trained one, of the method that has one.
    """
    spec, protocol = setup.spec, setup.protocol
    if protocol.compile:
        check_compiler(setup.device)
        torch.compiler.reset()  # what earlier runs of this process compiled counts against this one's graphs
    method_class: type[BaseMethod] = plugins.load_class("methods", spec.method)

    def build(backbone: str, weights: str) -> network.Network:
        built = network.build_network(
            backbone,
            len(setup.dataset.classes),
            weights=weights,
            image_size=protocol.image_size,
            autocast=setup.autocast,
        )
        built.compiled_batch_size = protocol.batch_size if protocol.compile else 0
        return built

    def build_teacher() -> network.Network:
        return teacher or build(spec.teacher_backbone or spec.backbone, setup.weights)

    torch.manual_seed(spec.derive_seed_for("network"))
    networks = build_networks(method_class, lambda: build(spec.backbone, setup.weights), build_teacher)
    generator = torch.Generator(device=setup.device).manual_seed(spec.derive_seed_for("method"))
    torch.manual_seed(spec.derive_seed_for("heads"))
    seed_global_generators(spec.derive_seed_for("heads"))
    _, hparams = split_overrides(spec.hparams)
    options = MethodOptions(hparams, protocol.ce_normalise, generator)
    return assemble_method(method_class, networks, labels, len(setup.dataset.classes), options)


def make_record(setup: RunSetup, result: TrainingResult) -> dict[str, Any]:
    """Make the record of a finished run, but for its teacher and the inputs that enter its key."""
    dataset, n_epochs = setup.dataset, len(result.epochs)
    arrays = collect_arrays(setup, result)
    precision = "bf16" if setup.autocast else "fp32"
    return {
        "spec": setup.spec.to_dict(),
        "method_title": plugins.load_class("methods", setup.spec.method).title,
        "dataset_title": dataset.title,
        "synthetic": dataset.synthetic,
        "incomplete": dataset.incomplete,
        "copies": dataset.copies,
        "classes": list(dataset.classes),
        "ordered": dataset.ordered,
        "split_hash": setup.split.hash,
        "n_train": len(setup.split.train),
        "n_test": len(setup.split.test),
        "n_test_by_class": metrics.count_labels(setup.test_labels, len(dataset.classes)),
        "epochs": len(result.history),
        "seconds": result.seconds,
        "protocol": asdict(setup.protocol),
        "group_column": dataset.group_column,
        "own_split": asdict(own_split) if (own_split := describe_own_split(dataset, setup.split)) else {},
        "n_shared": count_shared(dataset, setup.split.test, setup.split.train),
        "decoding": {"depth": dataset.depth, "exif": dataset.exif, "resize": dataset.resize},
        "reporting": f"mean over the last {n_epochs} epochs" if n_epochs > 1 else "the last epoch",
        "figures": rules.summarize_test(arrays, ordered=dataset.ordered),
        **_describe_validation(setup, result),
        "environment": describe_environment(setup.device, torch.get_num_threads(), precision),
    }


def _describe_validation(setup: RunSetup, result: TrainingResult) -> dict[str, Any]:
    """Describe the validation images of a run: how many, the epoch that is best on them, their figures by rule."""
    if result.validation is None:
        return {}
    arrays = collect_arrays(setup, result)
    return {
        "n_validation": len(setup.split.validation),
        "best_epoch": result.validation.epoch,
        "validation": rules.summarize_validation(arrays, ordered=setup.dataset.ordered),
    }


def make_history(setup: RunSetup, result: TrainingResult) -> pd.DataFrame:
    """Make the history, a row an epoch of every stage, with the metrics of those epochs that were tested."""
    history = pd.DataFrame(result.history)
    for epoch, scores in zip(result.epochs, result.scores):
        values = metrics.compute_metrics(scores, setup.test_labels, ordered=setup.dataset.ordered)
        row = history.index[(history["stage"] == result.stage) & (history["epoch"] == epoch)][0]
        history.loc[row, list(values)] = list(values.values())
    return history


def collect_arrays(setup: RunSetup, result: TrainingResult) -> Arrays:
    """Collect the arrays that are stored of test and validation images, of the shapes in ``read_scores``."""
    test = setup.split.test
    arrays = {
        "scores": result.scores,
        "epochs": result.epochs,
        "labels": setup.test_labels,
        "ids": [setup.dataset.ids[i] for i in test],
        "groups": setup.dataset.groups[test],
        "embeddings": result.embeddings,
    }
    if (validated := result.validation) is None:
        return arrays
    rows = setup.split.validation
    return arrays | {
        "chosen_scores": validated.tested[None],
        "validation_scores": validated.scores,
        "validation_chosen_scores": validated.chosen[None],
        "validation_labels": setup.dataset.labels[rows],
        "validation_ids": [setup.dataset.ids[i] for i in rows],
        "validation_groups": setup.dataset.groups[rows],
    }


def collect_weights(method: BaseMethod) -> Arrays:
    """Collect the parameters and buffers that are stored of a trained method."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in method.get_inference_state_dict().items()}
