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
from udcd_bench.engines.environment import environment, pick_device
from udcd_bench.errors import CrowdedError, RunError, UserError
from udcd_bench.runs import planner
from udcd_bench.stats import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from udcd_bench.data.dataset import Dataset
    from udcd_bench.runs.profiles import Protocol
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store
    from udcd_bench.training.network import Network

    Load = Callable[[str, Protocol, "Place"], Dataset]


@dataclass(frozen=True)
class Place:
    """Where runs happen: the folder of prepared data, the device (``auto``, ``cpu``, ``cuda``, ``cuda:1``).

    deterministic: use slower operations on a GPU, so that the same run has the same figures; a CPU always does.
    """

    data: Path
    device: str = "auto"
    deterministic: bool = False


def load_data(name: str, protocol: Protocol, place: Place, planning: bool = True) -> Dataset:
    """The data set of that name, at the protocol's size.

    planning: prepared by all cores where that has yet to be done, and looked at down to the last byte, once a start: a
    second for HAM10000 at 224². Runs take what a plan has found good.
    """
    return sources.load(
        name,
        size=protocol.image_size,
        data=place.data,
        n_images=protocol.n_images,
        jobs=(os.cpu_count() or 1) if planning else 1,
        whole=planning,
    )


def made_of(spec: RunSpec, place: Place, load: Load | None = None) -> dict[str, Any]:
    """Everything but the spec that decides a run's figures, for its key. load: in place of ``load_data``."""
    protocol = planner.protocol_of(spec)
    return _parts(spec, protocol, (load or load_data)(spec.dataset, protocol, place))


def split_of(spec: RunSpec, protocol: Protocol, dataset: Dataset) -> splits.Split:
    """The images a run trains on and those it is tested on."""
    return splits.split(
        dataset,
        kind=spec.split,
        fold=spec.fold,
        rho=spec.rho,
        imbalance=protocol.imbalance,
        fraction=spec.fraction,
        seed=spec.seed,
    )


def _parts(spec: RunSpec, protocol: Protocol, dataset: Dataset) -> dict[str, Any]:
    return {
        "method": plugins.source_hash("methods", spec.method),
        "protocol": asdict(protocol),
        "data": dataset.fingerprint,
    }


def _reporting(epochs: int) -> str:
    return f"mean over the last {epochs} epochs" if epochs > 1 else "the last epoch"


class _Kept:
    """A run's checkpoint in the store."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key

    def save(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        self.store.save_checkpoint(self.key, arrays, meta)

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        return self.store.load_checkpoint(self.key)


def _network(backbone: str, dataset: Dataset, protocol: Protocol, *, autocast: bool, weights: str) -> Network:
    from udcd_bench.training import network

    return network.build(
        backbone, len(dataset.classes), weights=weights, image_size=protocol.image_size, autocast=autocast
    )


def execute(
    spec: RunSpec,
    key: str,
    teacher_key: str | None,
    store: Store,
    place: Place,
    report: Callable[[dict[str, Any]], None],
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Train a run that this process has claimed and store its record, going on from its checkpoint if it has one.

    teacher_key: of the finished run whose student is the teacher of an offline method. report: told every epoch's row
    of the history. alive: called after every batch.
    Raises UserError or RunError, after it has been stored as the run's failure unless it is the user's to mend before
    the run has trained; a claim is always given back.
    """
    trained = False

    def told(row: dict[str, Any]) -> None:
        nonlocal trained
        trained = True
        report(row)

    try:
        with store.claims.beating(key):
            _execute(spec, key, teacher_key, store, place, told, alive)
    except Exception as error:
        known = error if isinstance(error, UserError) else _explained(error, spec, store, place)
        if trained or not isinstance(known, UserError):
            with contextlib.suppress(UserError):  # where the disk is full, this does not fit either
                store.fail(key, spec, str(known), traceback.format_exc())
        if known is error:
            raise
        raise known from error
    finally:
        store.release(key)


def _explained(error: Exception, spec: RunSpec, store: Store, place: Place) -> RunError:
    """What went wrong in a run, with the mend or the command that makes it go wrong again where there is one."""
    import torch

    from udcd_bench.training.trainer import NotFiniteError

    batch_size = planner.protocol_of(spec).batch_size
    # on the CPU torch has no exception of its own for this
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        says = str(error).partition("\n")[0] or type(error).__name__
        return CrowdedError(
            f"memory ran out at batch_size {batch_size} ({says}); "
            f"give it less to hold, --set batch_size={max(2, batch_size // 2)}, or make fewer runs at a time, --jobs 1"
        )
    if isinstance(error, NotFiniteError):
        again = planner.command(
            spec, data=place.data, out=store.root, device=place.device, deterministic=place.deterministic
        )
        return RunError(f"{error} The last checkpoint is kept; the same again: {again}")
    return RunError(f"{type(error).__name__}: {error}")


def _execute(
    spec: RunSpec,
    key: str,
    teacher_key: str | None,
    store: Store,
    place: Place,
    report: Callable[[dict[str, Any]], None],
    alive: Callable[[], None],
) -> None:
    import copy

    import pandas as pd
    import torch

    from udcd_bench.data.batches.augment import Warp
    from udcd_bench.data.batches.resident import Resident
    from udcd_bench.method import Info
    from udcd_bench.training.trainer import Trainer

    protocol = planner.protocol_of(spec)
    dataset = load_data(spec.dataset, protocol, place, False)
    # before training: what is edited meanwhile is not what this run is made of
    parts = _parts(spec, protocol, dataset)
    split = split_of(spec, protocol, dataset)
    device = pick_device(place.device)
    if place.deterministic:
        # read when the first handle of the process is made
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    autocast = protocol.precision == "bf16" or (protocol.precision == "auto" and device.type == "cuda")
    if protocol.threads:
        torch.set_num_threads(protocol.threads)

    def resident(rows: Any) -> Resident:
        return Resident(
            dataset.images,
            dataset.labels,
            rows,
            device=device,
            order_seed=spec.seed_for("order"),
            augment_seed=spec.seed_for("augmentation"),
            warp=Warp(protocol.rotation, protocol.translation, protocol.flip),
        )

    train, test = resident(split.train), resident(split.test)
    cls = plugins.load_class("methods", spec.method)
    torch.manual_seed(spec.seed_for("network"))
    student = _network(spec.backbone, dataset, protocol, autocast=autocast, weights=protocol.weights)
    teacher = None
    if cls.teacher == "ema":
        teacher = copy.deepcopy(student)
    elif cls.teacher == "own":
        teacher = _network(
            spec.teacher_backbone or spec.backbone,
            dataset,
            protocol,
            autocast=autocast,
            weights=protocol.weights,
        )
    elif cls.teacher == "trained":
        assert teacher_key is not None
        backbone = spec.teacher_backbone or spec.backbone
        teacher = _network(backbone, dataset, protocol, autocast=autocast, weights="none")
        teacher.load_state_dict({k: torch.from_numpy(v) for k, v in store.weights(teacher_key).items()})
    info = Info.of(train.labels, len(dataset.classes), student, teacher, ce_normalise=protocol.ce_normalise)
    torch.manual_seed(spec.seed_for("heads"))
    generator = torch.Generator(device=device).manual_seed(spec.seed_for("method"))
    method = cls(info, student, teacher, spec.hparams, generator).to(device)
    kept = _Kept(store, key)
    trainer = Trainer(method, protocol, train, test, checkpoints=kept, report=report, alive=alive)
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
        "reporting": _reporting(len(outcome.epochs)),
        "figures": metrics.summaries(outcome.scores, labels, ordered=dataset.ordered),
        "environment": environment(device, torch.get_num_threads(), "bf16" if autocast else "fp32"),
        "made_of": parts,
    }
    history = pd.DataFrame(outcome.history)
    for epoch, scores in zip(outcome.epochs, outcome.scores):
        tested = metrics.figures(scores, labels, ordered=dataset.ordered)
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
    state = {k: v.detach().cpu().numpy() for k, v in method.deployed().items()}
    store.finish(key, record, history, arrays, state)
