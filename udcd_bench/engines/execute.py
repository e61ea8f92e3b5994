"""Carries out one run: data, split, network, method, loop, record. The one place where all of them meet."""

from __future__ import annotations

import contextlib
import os
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.data import sources, splits
from udcd_bench.engines.environment import describe_environment, pick_device
from udcd_bench.errors import RunError, RunMemoryError, UserError
from udcd_bench.runs import planner
from udcd_bench.stats import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from udcd_bench.data.dataset import Dataset
    from udcd_bench.runs.profiles import Protocol
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store
    from udcd_bench.training.network import Network

    DatasetLoader = Callable[[str, Protocol, "RunContext"], Dataset]


@dataclass(frozen=True)
class RunContext:
    """Where runs happen: the folder of prepared data, the device (``auto``, ``cpu``, ``cuda``, ``cuda:1``).

    deterministic: use slower operations on a GPU, so that the same run has the same figures; a CPU always does.
    """

    data: Path
    device: str = "auto"
    deterministic: bool = False


def load_data(name: str, protocol: Protocol, run_context: RunContext, planning: bool = True) -> Dataset:
    """The data set of that name, at the protocol's size.

    planning: prepared by all cores where that has yet to be done, and looked at down to the last byte, once a start: a
    second for HAM10000 at 224². Runs take what a plan has found good.
    """
    return sources.load_dataset(
        name,
        size=protocol.image_size,
        data=run_context.data,
        n_images=protocol.n_images,
        options=sources.LoadOptions(jobs=(os.cpu_count() or 1) if planning else 1, check_pixels=planning),
    )


def collect_run_inputs(
    spec: RunSpec, run_context: RunContext, load: DatasetLoader | None = None
) -> dict[str, Any]:
    """Everything but the spec that decides a run's figures, for its key. load: in place of ``load_data``."""
    protocol = planner.resolve_protocol(spec)
    return _collect_inputs(spec, protocol, (load or load_data)(spec.dataset, protocol, run_context))


def make_split(spec: RunSpec, protocol: Protocol, dataset: Dataset) -> splits.Split:
    """The images a run trains on and those it is tested on."""
    options = splits.SplitOptions(
        kind=spec.split,
        fold=spec.fold,
        rho=spec.rho,
        imbalance=protocol.imbalance,
        fraction=spec.fraction,
        seed=spec.seed,
    )
    return splits.split_dataset(dataset, options)


def _collect_inputs(spec: RunSpec, protocol: Protocol, dataset: Dataset) -> dict[str, Any]:
    return {
        "method": plugins.hash_source("methods", spec.method),
        "protocol": asdict(protocol),
        "data": dataset.fingerprint,
    }


def _describe_reporting(epochs: int) -> str:
    return f"mean over the last {epochs} epochs" if epochs > 1 else "the last epoch"


class _RunCheckpoint:
    """A run's checkpoint in the store."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key

    def save(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        self.store.save_checkpoint(self.key, arrays, meta)

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        return self.store.load_checkpoint(self.key)


def _build_network(
    backbone: str, dataset: Dataset, protocol: Protocol, *, autocast: bool, weights: str
) -> Network:
    from udcd_bench.training import network

    return network.build_network(
        backbone, len(dataset.classes), weights=weights, image_size=protocol.image_size, autocast=autocast
    )


def execute_run(
    spec: RunSpec,
    key: str,
    teacher_key: str | None,
    store: Store,
    run_context: RunContext,
    on_epoch_end: Callable[[dict[str, Any]], None],
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Train a run that this process has claimed and store its record, going on from its checkpoint if it has one.

    teacher_key: of the finished run whose student is the teacher of an offline method. report: told every epoch's row
    of the history. alive: called after every batch.
    Raises UserError or RunError, after it has been stored as the run's failure unless it is the user's to mend before
    the run has trained; a claim is always given back.
    """
    trained = False

    def record_epoch(row: dict[str, Any]) -> None:
        nonlocal trained
        trained = True
        on_epoch_end(row)

    try:
        with store.locks.heartbeat(key):
            _train_and_store(spec, key, teacher_key, store, run_context, record_epoch, on_step)
    except Exception as error:
        known = error if isinstance(error, UserError) else _explain_error(error, spec, store, run_context)
        if trained or not isinstance(known, UserError):
            with contextlib.suppress(UserError):  # where the disk is full, this does not fit either
                store.record_failure(key, spec, str(known), traceback.format_exc())
        if known is error:
            raise
        raise known from error
    finally:
        store.release(key)


def _explain_error(error: Exception, spec: RunSpec, store: Store, run_context: RunContext) -> RunError:
    """What went wrong in a run, with the mend or the command that makes it go wrong again where there is one."""
    import torch

    from udcd_bench.training.trainer import NotFiniteError

    batch_size = planner.resolve_protocol(spec).batch_size
    # on the CPU torch has no exception of its own for this
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        says = str(error).partition("\n")[0] or type(error).__name__
        return RunMemoryError(
            f"memory ran out at batch_size {batch_size} ({says}); "
            f"give it less to hold, --set batch_size={max(2, batch_size // 2)}, or make fewer runs at a time, --jobs 1"
        )
    if isinstance(error, NotFiniteError):
        again = planner.format_command(
            spec,
            data=run_context.data,
            out=store.root,
            device=run_context.device,
            deterministic=run_context.deterministic,
        )
        return RunError(f"{error} The last checkpoint is kept; the same again: {again}")
    return RunError(f"{type(error).__name__}: {error}")


def _train_and_store(
    spec: RunSpec,
    key: str,
    teacher_key: str | None,
    store: Store,
    run_context: RunContext,
    on_epoch_end: Callable[[dict[str, Any]], None],
    on_step: Callable[[], None],
) -> None:
    import copy

    import pandas as pd
    import torch

    from udcd_bench.data.batches.augment import AffineRange
    from udcd_bench.data.batches.resident import DeviceDataset
    from udcd_bench.method import DatasetInfo
    from udcd_bench.training.trainer import Trainer

    protocol = planner.resolve_protocol(spec)
    dataset = load_data(spec.dataset, protocol, run_context, False)
    # before training: what is edited meanwhile is not what this run is made of
    parts = _collect_inputs(spec, protocol, dataset)
    split = make_split(spec, protocol, dataset)
    device = pick_device(run_context.device)
    if run_context.deterministic:
        # read when the first handle of the process is made
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    autocast = protocol.precision == "bf16" or (protocol.precision == "auto" and device.type == "cuda")
    if protocol.threads:
        torch.set_num_threads(protocol.threads)

    def make_device_dataset(rows: Any) -> DeviceDataset:
        return DeviceDataset(
            dataset.images,
            dataset.labels,
            rows,
            device=device,
            order_seed=spec.derive_seed_for("order"),
            augment_seed=spec.derive_seed_for("augmentation"),
            affine_range=AffineRange(protocol.rotation, protocol.translation, protocol.flip),
        )

    train, test = make_device_dataset(split.train), make_device_dataset(split.test)
    cls = plugins.load_class("methods", spec.method)
    torch.manual_seed(spec.derive_seed_for("network"))
    student = _build_network(spec.backbone, dataset, protocol, autocast=autocast, weights=protocol.weights)
    teacher = None
    if cls.teacher == "ema":
        teacher = copy.deepcopy(student)
    elif cls.teacher == "own":
        teacher = _build_network(
            spec.teacher_backbone or spec.backbone,
            dataset,
            protocol,
            autocast=autocast,
            weights=protocol.weights,
        )
    elif cls.teacher == "trained":
        assert teacher_key is not None
        backbone = spec.teacher_backbone or spec.backbone
        teacher = _build_network(backbone, dataset, protocol, autocast=autocast, weights="none")
        teacher.load_state_dict({k: torch.from_numpy(v) for k, v in store.read_weights(teacher_key).items()})
    info = DatasetInfo.from_labels(
        train.labels, len(dataset.classes), student, teacher, ce_normalise=protocol.ce_normalise
    )
    torch.manual_seed(spec.derive_seed_for("heads"))
    generator = torch.Generator(device=device).manual_seed(spec.derive_seed_for("method"))
    method = cls(info, student, teacher, spec.hparams, generator).to(device)
    kept = _RunCheckpoint(store, key)
    trainer = Trainer(
        method, protocol, train, test, checkpoints=kept, on_epoch_end=on_epoch_end, on_step=on_step
    )
    outcome = trainer.run()

    labels = dataset.labels[split.test]
    record = {
        "spec": spec.to_dict(),
        "teacher_key": teacher_key,
        "method_title": cls.title,
        "dataset_title": dataset.title,
        "synthetic": dataset.synthetic,
        "incomplete": dataset.incomplete,
        "classes": list(dataset.classes),
        "ordered": dataset.ordered,
        "split_hash": split.hash,
        "n_train": len(train),
        "n_test": len(test),
        "epochs": len(outcome.history),
        "seconds": outcome.seconds,
        "protocol": asdict(protocol),
        "reporting": _describe_reporting(len(outcome.epochs)),
        "figures": metrics.summarize_epochs(outcome.scores, labels, ordered=dataset.ordered),
        "environment": describe_environment(device, torch.get_num_threads(), "bf16" if autocast else "fp32"),
        "made_of": parts,
    }
    history = pd.DataFrame(outcome.history)
    for epoch, scores in zip(outcome.epochs, outcome.scores):
        tested = metrics.compute_metrics(scores, labels, ordered=dataset.ordered)
        row = history.index[(history["stage"] == outcome.stage) & (history["epoch"] == epoch)][0]
        history.loc[row, list(tested)] = list(tested.values())
    arrays = {
        "scores": outcome.scores,
        "epochs": outcome.epochs,
        "labels": labels,
        "ids": [dataset.ids[i] for i in split.test],
        "groups": dataset.groups[split.test],
        "embeddings": outcome.embeddings,
    }
    state = {k: v.detach().cpu().numpy() for k, v in method.get_inference_state_dict().items()}
    store.finish_run(key, record, history, arrays, state)
