"""Carries out one run: data, split, method, training loop, record. The one place where all of them meet."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.data import sources, splits, workers
from udcd_bench.engines.environment import pick_device
from udcd_bench.engines.events import EpochDone, Event, StepDone
from udcd_bench.errors import RunError, RunMemoryError, UserError
from udcd_bench.runs import planner

if TYPE_CHECKING:
    from collections.abc import Callable

    from udcd_bench.data.dataset import Dataset
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.profiles import Protocol
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

    DatasetLoader = Callable[[str, Protocol, "RunContext"], Dataset]


@dataclass(frozen=True)
class RunContext:
    """Where runs are made and stored; the same for all runs of a command.

    data: the folder of prepared data. device: ``auto``, ``cpu``, ``cuda`` or one GPU such as ``cuda:1``.
    deterministic: use slower operations on a GPU, so that a run repeated has the same figures; a CPU always does.
    """

    store: Store
    data: Path
    device: str = "auto"
    deterministic: bool = False


def prepare_data(name: str, protocol: Protocol, context: RunContext) -> Dataset:
    """Load a data set for planning: prepare it on all cores if it is missing, and verify the pixels' checksum.

    The checksum takes about 1 s for HAM10000 at 224²; the runs that follow skip it.
    """
    return sources.load_dataset(
        name,
        size=protocol.image_size,
        data=context.data,
        n_images=protocol.n_images,
        options=sources.LoadOptions(jobs=workers.count_cores(), check_pixels=True),
    )


def load_data(name: str, protocol: Protocol, context: RunContext) -> Dataset:
    """Load a data set for a run, which trusts what planning has verified."""
    return sources.load_dataset(name, size=protocol.image_size, data=context.data, n_images=protocol.n_images)


def collect_run_inputs(
    spec: RunSpec, context: RunContext, load: DatasetLoader | None = None
) -> dict[str, Any]:
    """Collect everything but the spec that decides a run's figures, for its key.

    load: used in place of ``prepare_data``.
    """
    protocol = planner.resolve_protocol(spec)
    return _collect_inputs(spec, protocol, (load or prepare_data)(spec.dataset, protocol, context))


def make_split(spec: RunSpec, protocol: Protocol, dataset: Dataset) -> splits.Split:
    """Choose the images a run trains on and those it is tested on."""
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
        known = error if isinstance(error, UserError) else _explain_error(error, job, context)
        if trained or not isinstance(known, UserError):
            with contextlib.suppress(UserError):  # on a full disk this does not fit either
                store.record_failure(job.key, job.spec, str(known), traceback.format_exc())
        if known is error:
            raise
        raise known from error
    finally:
        store.release(job.key)


def _train_and_store(job: Job, context: RunContext, notify: Callable[[Event], None]) -> None:
    from udcd_bench.engines import steps
    from udcd_bench.training.trainer import Trainer

    spec, store = job.spec, context.store
    protocol = planner.resolve_protocol(spec)
    dataset = load_data(spec.dataset, protocol, context)
    # before training, so that a source edited meanwhile is not recorded as this run's
    inputs = _collect_inputs(spec, protocol, dataset)
    split = make_split(spec, protocol, dataset)
    setup = steps.RunSetup(spec, protocol, dataset, split, pick_device(context.device))
    steps.configure_torch(protocol.threads, context.deterministic)
    train_data, test_data = steps.load_on_device(setup)
    teacher_weights = store.read_weights(job.teacher_key) if job.teacher_key else None
    method = steps.build_method(setup, train_data.labels, teacher_weights)
    trainer = Trainer(
        method,
        protocol,
        train_data,
        test_data,
        checkpoints=store.open_checkpoint(job.key),
        on_epoch_end=lambda row: notify(EpochDone(job.key, row)),
        on_step=lambda: notify(StepDone(job.key)),
    )
    result = trainer.run()
    record = {**steps.make_record(setup, result), "teacher_key": job.teacher_key, "made_of": inputs}
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
    if isinstance(error, NotFiniteError):
        command = planner.format_command(
            job.spec,
            data=context.data,
            out=context.store.root,
            device=context.device,
            deterministic=context.deterministic,
        )
        has_checkpoint = context.store.open_checkpoint(job.key).path.exists()
        checkpoint = "The last checkpoint is kept; the same again" if has_checkpoint else "The same again"
        return RunError(f"{error} {checkpoint}: {command}")
    return RunError(f"{type(error).__name__}: {error}")
