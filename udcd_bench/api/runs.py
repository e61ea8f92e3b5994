"""``ub.train`` and ``ub.load_run``: make a run, use one."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from udcd_bench.api.values import list_settings, read_number, read_teacher, read_whole
from udcd_bench.engines.environment import check_early, check_reads, use_default_settings
from udcd_bench.engines.events import RunFailed, RunLocked
from udcd_bench.engines.execute import RunContext, collect_run_inputs, describe_data, prepare_data
from udcd_bench.engines.job_queue import run_job
from udcd_bench.engines.naming import NameResolver
from udcd_bench.errors import RunError, UserError
from udcd_bench.inference.stored_run import StoredRun
from udcd_bench.runs import planner, profiles
from udcd_bench.runs.spec import RunSpec, check_spec_values
from udcd_bench.runs.store import Store
from udcd_bench.training.step.global_generators import keep_global_generators

if TYPE_CHECKING:
    import os

    from udcd_bench.runs.planner import Job


def load_run(path: str | os.PathLike[str], device: str = "auto") -> StoredRun:
    """Load a finished run from its folder, ``RESULTS/runs/KEY``.

    Returns a ``StoredRun``: ``.network`` (images (B, 3, size, size) float32 → logits (B, C)), ``.transform`` (an image
    → (3, size, size) float32), ``.predict(images)``, ``.scores`` (a row a test image; probabilities are fractions),
    ``.classes`` and ``.record``, whose metrics are fractions.

    device: ``auto``, ``cpu``, ``cuda`` or one GPU such as ``cuda:1``.
    Raises UserError when no finished run lies there; what needs its weights raises it when they are not there.
    """
    folder = Path(path).absolute()
    store = Store(folder.parent.parent)
    if folder.parent.name != "runs" or not store.is_finished(folder.name):
        raise UserError(f"{path} is no finished run; give its folder, as in results/runs/0123456789abcdef.")
    run = StoredRun(store, folder.name, device)
    _ = run.record  # raises for a damaged one
    return run


@keep_global_generators()
def train(
    method: str,
    dataset: str,
    out: str | os.PathLike[str] = "results",
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> StoredRun:
    """Train a method in this process, and first the teacher it needs; return the run, which may be done already.

    method: a row, such as ``udcd``. dataset: a source's name, ``folder:PATH`` or ``medmnist:NAME``. out: the results
    folder. settings: hyper-parameters of the method and numbers of the protocol by name, such as ``{"epochs": 2}``.
    options: ``profile`` ("demo"), ``backbone``, ``teacher_backbone``, ``teacher`` (a row, a stored run, a file that
    export wrote; or a list of several), ``fold`` (0 to 4), ``seed``, ``split`` ("paper", "grouped", "official";
    without it grouped where own images have groups, else paper), ``rho``, ``fraction``; ``data``, the folder of
    prepared data ("data"); ``device``. They are those of ``udcd-bench train``.

    PyTorch's own settings (autocast, ``no_grad``, default types) have no part in it. Raises UserError for what can be
    fixed, and RunError when training fails; it goes on from the last checkpoint when it is called again.
    """
    data, device = Path(options.pop("data", "data")), options.pop("device", "auto")
    store = Store(Path(out))
    resolver = NameResolver(data, store=store)
    typed = _make_spec(method, dataset, settings, options)
    planner.check_teacher([typed.method], typed.teacher)
    check_early([typed], device)
    spec = resolver.resolve_spec(typed)
    check_reads([spec])
    context = RunContext(store, data, device, locations=resolver.locations)
    load = functools.cache(prepare_data)
    jobs = planner.plan([spec], context.store, lambda each: collect_run_inputs(each, context, load))
    todo = [job for job in jobs if not job.done]
    for line in describe_data(todo, context, load):
        logging.getLogger(__name__).info("%s", line)
    context.store.create()
    for job in todo:
        _carry_out(job, context)
    return StoredRun(context.store, jobs[-1].key, device)


_READERS: Mapping[str, Callable[[object], float | str]] = {
    "teacher": read_teacher,
    "fold": read_whole,
    "seed": read_whole,
    "fraction": read_number,
    "rho": read_number,
}


def _make_spec(
    method: str, dataset: str, settings: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> RunSpec:
    """Make the spec of a run. Raises UserError for an option that there is not."""
    known = RunSpec.__dataclass_fields__.keys() - {"method", "dataset", "hparams", "protocol"}
    if unknown := sorted(options.keys() - known):
        raise UserError(
            f"train takes no {unknown[0]!r}; its options are {', '.join(sorted({*known, 'data', 'device'}))}, and "
            "what a method or the protocol is set to belongs into settings."
        )
    profile = profiles.find_profile(options.get("profile", "demo"))
    protocol, hparams = planner.split_settings(method, list_settings(settings))
    chosen = {"profile": profile.name, "backbone": profile.backbone, "split": ""} | {
        name: value for name, value in options.items() if value is not None
    }
    if not isinstance(dataset, str):
        raise UserError(
            f"the data set {dataset!r} is no name; own images are named as in 'folder:{dataset}'."
        )
    try:
        chosen |= {name: convert(chosen[name]) for name, convert in _READERS.items() if name in chosen}
        spec = RunSpec(method, dataset, **chosen, hparams=hparams, protocol=protocol)
        check_spec_values(spec.to_dict())
    except (TypeError, ValueError) as error:
        raise UserError(f"train cannot take these options: {error}.") from error
    return spec


def _carry_out(job: Job, context: RunContext) -> None:
    """Train one run here as a process of its own would; PyTorch's settings are left as they were."""
    threads = torch.get_num_threads()
    try:
        with use_default_settings():
            end = run_job(job, context, lambda event: None)
    finally:
        torch.set_num_threads(threads)
    if isinstance(end, RunLocked):
        raise RunError(f"{job.spec.format_label()} is being trained by another process; wait for it.")
    if isinstance(end, RunFailed):
        error = UserError if end.user_error else RunError
        raise error(f"{job.spec.format_label()}: {end.message}")
