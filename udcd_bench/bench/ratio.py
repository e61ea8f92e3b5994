"""How much of a step is the network's own arithmetic: the loop's step against its floor, in pairs, in one process."""

from __future__ import annotations

import itertools
import platform
import random
import resource
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from udcd_bench.data.batches.resident import DeviceDataset


def compute_quartiles(values: list[float]) -> dict[str, float]:
    """The median, and the quartiles about it."""
    q25, median, q75 = np.percentile(values, [25, 50, 75]).tolist()
    return {"median": median, "q25": q25, "q75": q75}


def count_kernel_launches(call: Callable[[], object], device: torch.device) -> int | None:
    """Kernels that one call starts on a GPU; None on a CPU."""
    if device.type != "cuda":
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        call()
        torch.cuda.synchronize(device)
    return sum(str(event.device_type).endswith("CUDA") for event in watched.events() or [])


def measure_copy_bandwidth(clock: Clock) -> float:
    """Bytes a millisecond that a plain copy of 256 MB reads and writes."""
    source = torch.zeros(1 << 26, device=clock.device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * 4 * len(source) / min(clock(lambda: target.copy_(source)) for _ in range(5))


def measure_ratios(config: BenchConfig, log: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Every method's ratio and parts, as the JSON holds them. ``say`` is told how it goes."""
    device = pick_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    random.seed(0)
    torch.manual_seed(0)
    clock = Clock(device)
    data = make_random_data(config, device)
    log(
        f"{len(config.methods)} methods on {config.backbone}, {config.image_size}², B={config.batch}, on random images"
    )
    subjects = [TimedMethod(config, name, data) for name in config.methods]
    pairs: dict[str, list[tuple[float, float]]] = {s.name: [] for s in subjects}
    for number in range(WARM_UP_ROUNDS + config.rounds):
        for subject in random.sample(subjects, len(subjects)):
            both = [(0, subject.run_step), (1, subject.run_floor)]
            random.shuffle(both)
            took = dict(sorted((kind, clock(call)) for kind, call in both))
            pairs[subject.name].append((took[0], took[1]))
        log(f"round {number + 1} of {WARM_UP_ROUNDS + config.rounds}")
    rate = measure_copy_bandwidth(clock)
    rows = [
        _measure_row(subject, pairs[subject.name][WARM_UP_ROUNDS:], clock, config, rate)
        for subject in subjects
    ]
    return {
        "ask": asdict(config),
        **describe_machine(device),
        "input_images_per_s": {
            views: _measure_input_rate(data, config.batch, views, clock) for views in (1, 2)
        },
        "memory_peak_bytes": _read_peak_memory(device),
        "methods": rows,
    }


def describe_machine(device: torch.device | None = None) -> dict[str, Any]:
    """Hardware and versions."""
    device = device or torch.device("cpu")
    precision = "bf16" if device.type == "cuda" else "fp32"
    found = describe_environment(device, torch.get_num_threads(), precision)
    return {"environment": found, "machine": platform.platform()}


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
    peak = _read_peak_memory(clock.device) if clock.device.type == "cuda" else None
    moved = cost.count_operations(subject.run_step).moved if clock.device.type == "cuda" else None
    started = count_kernel_launches(subject.run_step, clock.device)
    parts = subject.time_parts(clock, config.rounds)
    return {
        "method": subject.name,
        "ratio": compute_quartiles([a / b for a, b in pairs]),
        "step_ms": step,
        "floor_ms": floor,
        "images_per_s": 1e3 * config.batch / step,
        "parts": {name: {"ms": ms, "share": ms / floor} for name, ms in parts.items()},
        "memory_peak_bytes": peak,
        "kernel_launches": started,
        "share_of_copy_bandwidth": moved / step / copy_rate if moved else None,
    }


def _measure_input_rate(data: DeviceDataset, batch_size: int, views: int, clock: Clock) -> float:
    """Images a second that the input path alone makes batches of, each in so many views."""
    batches = cycle_batches(data, batch_size, views)
    took = [clock(lambda: next(batches)) for _ in range(20)]
    return float(1e3 * batch_size / np.median(took))


def _read_peak_memory(device: torch.device) -> int:
    """Bytes at most taken: on a GPU since it was last reset, elsewhere by the process, ever."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # kilobytes, but bytes on a Mac
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_growth(methods: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """How each method's own terms grow with B, n_train, K and C, one at a time: what one core takes, bytes counted.

    One core's own time, unlike a clock's, hardly minds what else the machine does.
    """
    torch.set_num_threads(1)
    for name, (axis, values) in itertools.product(methods, GROWTH_AXES.items()):
        if axis == "negatives" and axis not in plugins.load_class("methods", name).hparams:
            continue
        for value in values:
            call = cost.make_terms_call(name, replace(cost.ProblemSize(), **{axis: value}))
            call()
            took: list[float] = []
            while not took or (sum(took) < 300 and len(took) < 15):
                began = time.process_time()
                call()
                took.append(1e3 * (time.process_time() - began))
            counted = asdict(cost.count_operations(call))
            yield {"method": name, "axis": axis, "value": value, "ms": float(np.median(took)), **counted}


GROWTH_AXES = {
    "batch": (16, 64, 256),
    "n_train": (1000, 10_000, 100_000),
    "negatives": (256, 4096, 16_384),
    "classes": (5, 20, 100),
}
"""What ``growth`` varies, about ``cost.Size``'s values."""
