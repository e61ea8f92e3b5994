"""Carries out one run: data, split, method, training loop, record. The one place where all of them meet."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from udcd_bench import plugins
from udcd_bench.data import official, sources, splits, understanding, workers
from udcd_bench.engines.environment import pick_device
from udcd_bench.engines.events import EpochDone, Event, StepDone
from udcd_bench.engines.teachers import origins
from udcd_bench.errors import RunError, RunMemoryError, UserError, locate_error, suggest_nearest
from udcd_bench.runs import inputs, planner
from udcd_bench.runs.spec import REVISION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from udcd_bench.data.dataset import Dataset
    from udcd_bench.engines.steps import RunSetup
    from udcd_bench.method import BaseMethod
    from udcd_bench.runs.inputs import RunInputs
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.profiles import Protocol
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store
    from udcd_bench.training.trainer import TrainingResult

    DatasetLoader = Callable[[str, Protocol, "RunContext"], Dataset]


@dataclass(frozen=True)
class RunContext:
    """Where runs are made and stored; the same for all runs of a command.

    data: the folder of prepared data. device: ``auto``, ``cpu``, ``cuda`` or one GPU such as ``cuda:1``.
    deterministic: use slower operations on a GPU, so that a run repeated has the same figures; a CPU always does.
    locations: identity of own images or of a file of weights, as of ``runs.names`` → its path.
    """

    store: Store
    data: Path
    device: str = "auto"
    deterministic: bool = False
    locations: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def places(self) -> planner.CommandPlaces:
        """Where this makes runs, as a shell command says it."""
        return planner.CommandPlaces(
            self.data, self.store.root, self.device, self.deterministic, self.locations
        )


def prepare_data(name: str, protocol: Protocol, context: RunContext) -> Dataset:
    """Load a data set for planning: prepare it on all cores if it is missing, and verify the pixels' checksum.

    The checksum takes about 1 s for HAM10000 at 224²; the runs that follow skip it.
    """
    return sources.load_dataset(
        context.places.locate_data(name),
        size=protocol.image_size,
        data=context.data,
        n_images=protocol.n_images,
        options=sources.LoadOptions(jobs=workers.count_cores(), check_pixels=True),
    )


def load_data(name: str, protocol: Protocol, context: RunContext) -> Dataset:
    """Load a data set for a run, which trusts what planning has verified."""
    return sources.load_dataset(
        context.places.locate_data(name),
        size=protocol.image_size,
        data=context.data,
        n_images=protocol.n_images,
    )


def name_images(spec: RunSpec) -> str:
    """Name the images of a run, see ``official.name_images``."""
    return official.name_images(spec.dataset, spec.split)


def make_split(spec: RunSpec, protocol: Protocol, dataset: Dataset) -> splits.Split:
    """Choose the images a run trains on and those it is tested on."""
    return _split_dataset(dataset, choose_split(spec, protocol))


def choose_split(spec: RunSpec, protocol: Protocol) -> splits.SplitOptions:
    """Choose how the images of a run are split."""
    return splits.SplitOptions(
        kind=spec.split,
        fold=spec.fold,
        rho=spec.rho,
        imbalance=protocol.imbalance,
        fraction=spec.fraction,
        # the folds come from the data alone, and all seeds share them
        seed=spec.seed if spec.rho is not None or spec.fraction < 1 else 0,
        validation=protocol.validation,
    )


@functools.lru_cache(maxsize=256)
def _split_dataset(dataset: Dataset, options: splits.SplitOptions) -> splits.Split:
    """Split a data set; methods share a split."""
    return splits.split_dataset(dataset, options)


def describe_data(jobs: Iterable[Job], context: RunContext, load: DatasetLoader) -> list[str]:
    """Describe what was understood of the data of these runs, each set once, in lines to print before they start.

    Raises UserError when the data of a run cannot be split as it asks.
    """
    datasets: dict[tuple[object, ...], Dataset] = {}
    batches: dict[Dataset, list[tuple[splits.Split, int]]] = {}
    for job in jobs:
        protocol = planner.resolve_protocol(job.spec)
        dataset = load(name_images(job.spec), protocol, context)
        # runs whose protocols differ load the same images anew
        dataset = datasets.setdefault((dataset.name, dataset.size, dataset.fingerprint), dataset)
        batches.setdefault(dataset, []).append((make_split(job.spec, protocol, dataset), protocol.batch_size))
    return [
        line
        for dataset, pairs in batches.items()
        for line in understanding.describe_dataset(dataset, list(dict.fromkeys(pairs)))
    ]


def collect_run_inputs(spec: RunSpec, context: RunContext, load: DatasetLoader | None = None) -> RunInputs:
    """Collect what goes into a run's key, but for its teachers' keys.

    load: used in place of ``prepare_data``.
    """
    protocol = planner.resolve_protocol(spec)
    return _collect_inputs(
        spec, protocol, (load or prepare_data)(name_images(spec), protocol, context), context
    )


def _collect_inputs(spec: RunSpec, protocol: Protocol, dataset: Dataset, context: RunContext) -> RunInputs:
    declared = plugins.read_attributes("methods", spec.method)
    teacher = spec.teacher_backbone or spec.backbone
    hash_weights = functools.partial(_hash_weights, context.places.locate_weights(protocol.weights))
    weights = hash_weights(spec.backbone)
    if teacher != spec.backbone and planner.has_teacher_network(spec.method):
        origins.check_weights(spec, teacher, hash_weights)
    split = make_split(spec, protocol, dataset)
    files = origins.inspect_teachers(origins.Taught(spec, dataset, split, context.store, context.places))
    is_alone = len(planner.list_teachers(spec)) < 2
    return inputs.RunInputs(
        method=spec.method,
        sources=plugins.hash_sources("methods", spec.method),
        hparams=planner.resolve_hparams(spec),
        protocol=inputs.select_numbers(asdict(protocol)),
        backbone=spec.backbone,
        teacher_backbone=teacher if is_alone and planner.has_teacher_network(spec.method) else "",
        weights=weights,
        teacher_weights=hash_weights(teacher) if declared.get("teacher") == "own" else "",
        teacher_key="",
        data=dataset.fingerprint,
        data_identity=dataset.identity,
        ordered=dataset.ordered,
        split=spec.split,
        fold=spec.fold,
        seed=spec.seed,
        fraction=spec.fraction,
        rho=spec.rho,
        split_hash=split.hash,
        teacher_file=files[0][0] if files and is_alone else "",
        teacher_files=() if is_alone else tuple(files),
    )


def _hash_weights(weights: str, backbone: str) -> str:
    """Hash the tensors that a backbone begins with; what draws them needs no tensor library."""
    if weights == "none":
        return "none"
    from udcd_bench.training.weights import compute_digest

    return compute_digest(backbone, weights)


def execute_run(job: Job, context: RunContext, notify: Callable[[Event], None]) -> None:
    """Train a run that this process has locked and store its record, resuming from its checkpoint if it has one.

    notify: called after every batch and every epoch. The lock is always released.
    Raises UserError or RunError. It is stored as the run's failure, except for a UserError before training: that is
    likely to be every run's.
    """
    store, trained = context.store, False

    def notify_trained(event: Event) -> None:
        nonlocal trained
        trained = trained or isinstance(event, EpochDone)
        notify(event)

    try:
        with store.locks.heartbeat(job.key):
            _train_and_store(job, context, notify_trained)
    except Exception as error:
        known = error if isinstance(error, UserError | RunError) else _explain_error(error, job, context)
        if trained or not isinstance(known, UserError):
            with contextlib.suppress(UserError):  # on a full disk this does not fit either
                command = planner.format_command(job.spec, context.places)
                store.record_failure(job.key, job.spec, str(known), traceback.format_exc(), command)
        if known is error:
            raise
        raise known from error
    finally:
        store.release(job.key)


def _train_and_store(job: Job, context: RunContext, notify: Callable[[Event], None]) -> None:
    from udcd_bench.engines import steps
    from udcd_bench.engines.teachers import networks
    from udcd_bench.training.trainer import Trainer

    plugins.forget_noted()
    spec, store, protocol = job.spec, context.store, planner.resolve_protocol(job.spec)
    dataset = load_data(name_images(spec), protocol, context)
    inputs.check_inputs(job.inputs, _collect_inputs(spec, protocol, dataset, context))
    split = make_split(spec, protocol, dataset)
    weights = context.places.locate_weights(protocol.weights)
    setup = steps.RunSetup(spec, protocol, dataset, split, pick_device(context.device), weights)
    steps.configure_torch(protocol.threads, context.deterministic)
    train_data, test_data, validation = steps.load_on_device(setup)
    teacher = networks.load_teacher(job.inputs, setup, store, context.places)
    method = steps.build_method(setup, train_data.labels, teacher)

    def notify_step() -> None:
        plugins.check_followed(spec.method)  # a dynamic import in a loss is to stop a run at its first step
        notify(StepDone(job.key))

    trainer = Trainer(
        method,
        protocol,
        train_data,
        test_data,
        validation=validation,
        checkpoints=store.open_checkpoint(job.key),
        on_epoch_end=lambda row: notify(EpochDone(job.key, row)),
        on_step=notify_step,
    )
    result = trainer.run()
    plugins.check_loaded(spec.method, job.inputs.sources)
    _store_run(job, store, setup, method, result)


def _store_run(job: Job, store: Store, setup: RunSetup, method: BaseMethod, result: TrainingResult) -> None:
    """Store what a run's training returned, with what it was made of."""
    from udcd_bench.engines import steps

    record = steps.make_record(setup, result) | {
        "teacher_key": job.inputs.teacher_key or None,
        "revision": REVISION,
        "made_of": job.inputs.to_dict(),
    }
    history, arrays = steps.make_history(setup, result), steps.collect_arrays(setup, result)
    store.finish_run(job.key, record, history, arrays, steps.collect_weights(method))


def _explain_error(error: Exception, job: Job, context: RunContext) -> RunError:
    """Describe what went wrong in a run, with its fix or with the command that repeats it where there is one."""
    import torch

    from udcd_bench.training.trainer import NotFiniteError

    batch_size = planner.resolve_protocol(job.spec).batch_size
    # on the CPU torch raises a plain RuntimeError
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        reason = str(error).partition("\n")[0] or type(error).__name__
        return RunMemoryError(
            f"memory ran out at batch_size {batch_size} ({reason}); "
            f"give it less to hold, --set batch_size={max(2, batch_size // 2)}, or make fewer runs at a time, --jobs 1"
        )
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        reason = str(error).strip().partition("\n")[0]
        return RunError(f"{job.spec.backbone} was not compiled ({reason}); leave out --set compile=true")
    if isinstance(error, NotFiniteError):
        command = planner.format_command(job.spec, context.places)
        has_checkpoint = context.store.open_checkpoint(job.key).path.exists()
        checkpoint = "The last checkpoint is kept; the same again" if has_checkpoint else "The same again"
        return RunError(f"{error} {checkpoint}: {command}")
    return RunError(_describe_error(error, job.spec.method))


def _describe_error(error: Exception, method: str) -> str:
    """Describe an error that nobody foresaw, with the file and line of the method that it came from, if it did."""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, AttributeError) and isinstance(error.obj, SimpleNamespace):  # which self.hp is
        reason = (
            f"there is no hyper-parameter {error.name!r}{suggest_nearest(str(error.name), vars(error.obj))}"
        )
    place = locate_error(error, plugins.list_source_files("methods", method))
    return (
        f"{Path(place).name}: {reason}" if place else reason
    )  # tables show it, and have no place for folders
