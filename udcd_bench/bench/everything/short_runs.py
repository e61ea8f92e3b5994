"""Short training runs, made as ``run`` makes them: repeated, side by side, in both precisions, out of memory."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from udcd_bench import plugins
from udcd_bench.bench.everything.request import choose_images
from udcd_bench.engines import local
from udcd_bench.engines.environment import pick_device
from udcd_bench.engines.execute import RunContext, collect_run_inputs, prepare_data
from udcd_bench.runs import planner
from udcd_bench.runs.spec import TEACHER_METHOD, RunSpec
from udcd_bench.runs.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from udcd_bench.bench.everything.request import Request
    from udcd_bench.runs.planner import Job

EPOCHS = 4
"""Of a run; the last one is tested."""
GREEDY_BATCH = 100_000
"""A batch of all training images."""
BYTES_LEFT = 8 << 30
"""Of a GPU's memory, beside which a batch of all images does not fit and an ordinary one does."""


@dataclass(frozen=True)
class RunOutcome:
    """What became of runs: their store, their jobs, key → message of those that failed, and the seconds of all."""

    store: Store
    jobs: Sequence[Job]
    failures: dict[str, str]
    seconds: float

    def read_rate(self, job: Job) -> float:
        """Read the images a second of a run, the median over its epochs but the first."""
        history = self.store.read_history(job.key)
        return float(np.median([row["images_per_s"] for row in history[1:]]))


def make_spec(request: Request, method: str = "", seed: int = 0, **numbers: Any) -> RunSpec:
    """Make the spec of a short run. method: Scratch, if left out. numbers: of the protocol."""
    images = choose_images(request)
    settings: dict[str, Any] = {
        "image_size": request.image_sizes[0],
        "batch_size": request.batch,
        "epochs": EPOCHS,
        "weights": "none",
        "threads": request.threads,
    }
    if images.n_drawn:
        settings["n_images"] = images.n_drawn
    protocol = tuple((settings | numbers).items())
    name = method or TEACHER_METHOD
    return RunSpec(name, images.dataset, "quick", request.backbone, seed=seed, protocol=protocol)


def make_runs(
    specs: Sequence[RunSpec], request: Request, folder: Path, *, slots: int = 1, deterministic: bool = False
) -> RunOutcome:
    """Make runs of a method in a new results folder, so many at a time; drawn images lie beside it, for all runs.

    Raises RuntimeError with the message of the first that failed, where all did.
    """
    data = folder.parent / "data" if choose_images(request).n_drawn else request.data
    context = RunContext(Store(folder), data, request.device, deterministic)
    load = functools.cache(prepare_data)
    jobs = planner.plan(specs, context.store, lambda spec: collect_run_inputs(spec, context, load))
    context.store.create()
    began = time.perf_counter()
    failures = local.run(jobs, context, slots, lambda event: None)
    if len(failures) == len(jobs):
        raise RuntimeError(next(iter(failures.values())))
    seconds = time.perf_counter() - began
    asked_for = [job for job in jobs if job.spec.method == specs[0].method]
    return RunOutcome(context.store, asked_for, failures, seconds)


def repeat_runs(request: Request, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield how far a run made twice differs, with ``--deterministic`` and without; one with a mean teacher, if any."""
    with_teacher = [
        name for name in request.methods if plugins.read_attributes("methods", name).get("teacher") == "ema"
    ]
    spec = make_spec(request, next(iter(with_teacher), ""))
    for deterministic in (True, False):
        row = {"method": spec.method, "deterministic": deterministic}
        names = [f"repeat-{'deterministic' if deterministic else 'default'}-{n}" for n in (1, 2)]
        try:
            pair = [make_runs([spec], request, folder / name, deterministic=deterministic) for name in names]
        except RuntimeError as error:  # of an operation that has no deterministic form
            yield row | {"error": str(error)}
        else:
            yield row | compare_outcomes(*pair)


def compare_outcomes(first: RunOutcome, second: RunOutcome) -> dict[str, Any]:
    """Compare scores, weights and balanced accuracies of two runs, which are the same one made twice."""
    pair = [(outcome.store, outcome.jobs[0].key) for outcome in (first, second)]
    scores, others = (store.read_scores(key)["scores"] for store, key in pair)
    weights, other_weights = (store.read_weights(key) for store, key in pair)
    same_weights = all(np.array_equal(weights[name], other_weights[name]) for name in weights)
    return {
        "bit_for_bit": same_weights and bool(np.array_equal(scores, others)),
        "largest_logit_difference": float(np.abs(scores - others).max()),
        "rec": [store.read_record(key)["figures"]["mean"]["rec"] for store, key in pair],
        "seconds": [outcome.seconds for outcome in (first, second)],
    }


def compare_jobs(request: Request, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the images a second of one run by itself, and of four on one device together."""
    for n in (1, 4):
        specs = [make_spec(request, seed=seed) for seed in range(n)]
        outcome = make_runs(specs, request, folder / f"together-{n}", slots=n)
        rates = [outcome.read_rate(job) for job in outcome.jobs if job.key not in outcome.failures]
        yield {
            "runs": n,
            "failed": len(outcome.failures),
            "images_per_s": sum(rates),
            "seconds": outcome.seconds,
        }


def compare_precisions(request: Request, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield accuracy and balanced accuracy of runs in bfloat16 and in float32, two seeds each."""
    for precision in ("bf16", "fp32"):
        specs = [make_spec(request, seed=seed, precision=precision) for seed in range(2)]
        outcome = make_runs(specs, request, folder / precision)
        for job in outcome.jobs:
            figures = outcome.store.read_record(job.key)["figures"]["mean"]
            rate = outcome.read_rate(job)
            row = {"precision": precision, "seed": job.spec.seed, "images_per_s": rate}
            yield row | {name: figures[name] for name in ("acc", "rec")}


def exhaust_memory(request: Request, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what becomes of an ordinary run while the one beside it asks a GPU for more than there is."""
    device = pick_device(request.device)
    free = torch.cuda.mem_get_info(device)[0]
    # held by this process while its workers train
    filler = torch.empty(max(0, free - BYTES_LEFT), dtype=torch.uint8, device=device)
    specs = [make_spec(request), make_spec(request, batch_size=GREEDY_BATCH)]
    outcome = make_runs(specs, request, folder / "memory", slots=2)
    yield {"bytes_left": free - filler.numel()} | judge_neighbours(outcome)


def judge_neighbours(outcome: RunOutcome) -> dict[str, Any]:
    """Judge an ordinary run and a greedy one: whether one is done, and what is said of the other."""
    ordinary, greedy = outcome.jobs
    message = outcome.failures.get(greedy.key, "")
    return {
        "ordinary_is_done": outcome.store.is_finished(ordinary.key),
        "greedy_failed": bool(message),
        "says_that_memory_ran_out": message.startswith("memory ran out"),
        "message": message,
    }
