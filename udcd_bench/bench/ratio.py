"""Measurements of ``bench``: paired ratios of step and floor, and the growth of each method's own terms."""

from __future__ import annotations

import itertools
import platform
import random
import resource
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from udcd_bench import plugins
from udcd_bench.bench import cost
from udcd_bench.bench.step import (
    WARM_UP_ROUNDS,
    BenchConfig,
    Clock,
    TimedMethod,
    cycle_batches,
    make_random_data,
)
from udcd_bench.engines.environment import describe_environment, pick_device
from udcd_bench.engines.steps import configure_torch
from udcd_bench.errors import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from udcd_bench.data.batches.resident import DeviceDataset

GROWTH_AXES = {
    "batch": (16, 64, 256),
    "n_train": (1000, 10_000, 100_000),
    "negatives": (256, 4096, 16_384),
    "classes": (5, 20, 100),
}
"""Sizes that ``bench --growth`` varies, one at a time, from the defaults of ``cost.ProblemSize``."""


def compute_quartiles(values: list[float]) -> dict[str, float]:
    """Compute the median and the quartiles on either side of it."""
    q25, median, q75 = np.percentile(values, [25, 50, 75]).tolist()
    return {"median": median, "q25": q25, "q75": q75}


class KernelTally(NamedTuple):
    """The kernels of one call: how many a GPU launches, and the milliseconds that they keep it busy."""

    launches: int
    busy_ms: float


def profile_kernels(call: Callable[[], object], device: torch.device) -> KernelTally | None:
    """Profile the kernels that one call launches on a GPU; None on a CPU."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize(device)
    return tally_kernels(profiler.events() or [])


def tally_kernels(events: Iterable[Any]) -> KernelTally:
    """Count the events of a profile that a GPU carried out, and add up how long they took."""
    kernels = [event for event in events if str(event.device_type).endswith("CUDA")]
    return KernelTally(len(kernels), sum(event.time_range.elapsed_us() for event in kernels) / 1e3)


def measure_copy_bandwidth(clock: Clock) -> float:
    """Measure the bytes a millisecond that a plain copy of 256 MB reads and writes."""
    source = torch.zeros(1 << 26, device=clock.device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * 4 * len(source) / min(clock(lambda: target.copy_(source)) for _ in range(5))


def measure_ratios(config: BenchConfig, log: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure every method's step against its floor; return ratios, parts and machine as ``bench --json`` writes them.

    log: called with a line of progress.
    """
    device = pick_device(config.device)
    configure_torch(config.threads, deterministic=False)
    random.seed(0)
    torch.manual_seed(0)
    clock = Clock(device)
    data = make_random_data(config, device)
    log(
        f"{format_count(len(config.methods), 'method')} on {config.backbone}, {config.image_size}², "
        f"B={config.batch}, on random images"
    )
    subjects = [TimedMethod(config, name, data) for name in config.methods]
    pairs = time_pairs(subjects, clock, config.rounds, log)
    rate = measure_copy_bandwidth(clock)
    rows = [_measure_row(subject, pairs[subject.name], clock, config, rate) for subject in subjects]
    return {
        "ask": asdict(config),
        **describe_machine(device),
        "input_images_per_s": {
            views: measure_input_rate(data, config.batch, views, clock) for views in (1, 2)
        },
        "memory_peak_bytes": read_peak_memory(device),
        "methods": rows,
    }


def time_pairs(
    subjects: list[TimedMethod], clock: Clock, rounds: int, log: Callable[[str], None] = lambda line: None
) -> dict[str, list[tuple[float, float]]]:
    """Time (step, floor) of every method in each round, in random order; the warm-up rounds are left out."""
    pairs: dict[str, list[tuple[float, float]]] = {subject.name: [] for subject in subjects}
    for number in range(WARM_UP_ROUNDS + rounds):
        for subject in random.sample(subjects, len(subjects)):
            pairs[subject.name].append(time_pair(clock, subject.run_step, subject.run_floor))
        log(f"round {number + 1} of {WARM_UP_ROUNDS + rounds}")
    return {name: timed[WARM_UP_ROUNDS:] for name, timed in pairs.items()}


def time_pair(clock: Clock, first: Callable[[], object], second: Callable[[], object]) -> tuple[float, float]:
    """Time two calls in random order; return their milliseconds in the order of the arguments."""
    calls = [(0, first), (1, second)]
    random.shuffle(calls)
    milliseconds = {number: clock(call) for number, call in calls}
    return milliseconds[0], milliseconds[1]


def describe_machine(device: torch.device | None = None) -> dict[str, Any]:
    """Describe hardware and versions."""
    device = device or torch.device("cpu")
    precision = "bf16" if device.type == "cuda" else "fp32"
    environment = describe_environment(device, torch.get_num_threads(), precision)
    return {"environment": environment, "machine": platform.platform()}


def _measure_row(
    subject: TimedMethod,
    pairs: list[tuple[float, float]],
    clock: Clock,
    config: BenchConfig,
    copy_rate: float,
) -> dict[str, Any]:
    step, floor = (float(np.median(side)) for side in zip(*pairs))
    if clock.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(clock.device)
        subject.run_step()
    peak = read_peak_memory(clock.device) if clock.device.type == "cuda" else None
    moved = cost.count_operations(subject.run_step).moved if clock.device.type == "cuda" else None
    kernels = profile_kernels(subject.run_step, clock.device)
    parts = subject.time_parts(clock, config.rounds)
    return {
        "method": subject.name,
        "ratio": compute_quartiles([a / b for a, b in pairs]),
        "step_ms": step,
        "floor_ms": floor,
        "images_per_s": 1e3 * config.batch / step,
        "parts": {name: {"ms": ms, "share": ms / floor} for name, ms in parts.items()},
        "memory_peak_bytes": peak,
        "kernel_launches": kernels.launches if kernels else None,
        "share_of_copy_bandwidth": moved / step / copy_rate if moved else None,
    }


def measure_input_rate(data: DeviceDataset, batch_size: int, views: int, clock: Clock) -> float:
    """Measure the images a second of the input path alone, each in so many views."""
    batches = cycle_batches(data, batch_size, views)
    milliseconds = [clock(lambda: next(batches)) for _ in range(20)]
    return float(1e3 * batch_size / np.median(milliseconds))


def read_peak_memory(device: torch.device) -> int:
    """Read the peak memory in bytes: on a GPU since its last reset, elsewhere since the process started."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # kilobytes, but bytes on a Mac
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_growth(methods: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield how each method's own terms grow with B, n_train, K and C, one at a time: ms of one core, and bytes.

    The time is the process's own CPU time, which other work on the machine hardly changes.
    """
    torch.set_num_threads(1)
    for name, (axis, values) in itertools.product(methods, GROWTH_AXES.items()):
        if axis == "negatives" and axis not in plugins.load_class("methods", name).hparams:
            continue
        for value in values:
            change: dict[str, Any] = {axis: value}
            call = cost.make_terms_call(name, replace(cost.ProblemSize(), **change))
            call()
            milliseconds: list[float] = []
            while not milliseconds or (sum(milliseconds) < 300 and len(milliseconds) < 15):
                began = time.process_time()
                call()
                milliseconds.append(1e3 * (time.process_time() - began))
            row = {"method": name, "axis": axis, "value": value, "ms": float(np.median(milliseconds))}
            yield row | asdict(cost.count_operations(call))
