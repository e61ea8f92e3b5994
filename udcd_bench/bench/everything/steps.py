"""Single steps: their time over the floor's, what of it the device is busy, memory, and images from host memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from udcd_bench.bench import ratio
from udcd_bench.bench.step import Clock, TimedMethod, make_random_data
from udcd_bench.engines.environment import pick_device
from udcd_bench.engines.steps import configure_torch
from udcd_bench.runs.spec import TEACHER_METHOD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from udcd_bench.bench.everything.request import Request


def measure_steps(request: Request, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield, for each size and method, the time of a step and of its floor, and on a GPU what keeps it busy.

    A method whose step fails, as for lack of memory, has a row that says why.
    """
    configure_torch(request.threads, deterministic=False)
    torch.manual_seed(0)
    device = pick_device(request.device)
    for image_size in request.image_sizes:
        data = make_random_data(request.make_config(image_size), device)
        for name in request.methods:
            row = {"method": name, "image_size": image_size}
            try:
                yield row | _measure_method(
                    TimedMethod(request.make_config(image_size, name), name, data), request
                )
            except RuntimeError as error:
                yield row | {"error": str(error).partition("\n")[0]}


def _measure_method(subject: TimedMethod, request: Request) -> dict[str, Any]:
    clock = Clock(subject.device)
    pairs = ratio.time_pairs([subject], clock, request.rounds)[subject.name]
    step, floor = (float(np.median(side)) for side in zip(*pairs))
    row: dict[str, Any] = {
        "ratio": ratio.compute_quartiles([a / b for a, b in pairs]),
        "step_ms": step,
        "floor_ms": floor,
        "images_per_s": 1e3 * request.batch / step,
    }
    if subject.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(subject.device)
        subject.run_step()
        row["memory_peak_bytes"] = ratio.read_peak_memory(subject.device)
        for name, call, ms in (("step", subject.run_step, step), ("floor", subject.run_floor, floor)):
            kernels = ratio.profile_kernels(call, subject.device)
            assert kernels is not None
            row[f"{name}_launches"] = kernels.launches
            row[f"{name}_busy"] = kernels.busy_ms / ms
    return row


def compare_inputs(request: Request, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rate of the input path, and of Scratch on it, with the images on the device and streamed to it."""
    configure_torch(request.threads, deterministic=False)
    device, image_size = pick_device(request.device), request.image_sizes[0]
    clock, config = Clock(device), request.make_config(image_size)
    for streamed in (False, True):
        data = make_random_data(config, device)
        if streamed:
            data.device_images = None
        views = {n: ratio.measure_input_rate(data, request.batch, n, clock) for n in (1, 2)}
        subject = TimedMethod(config, TEACHER_METHOD, data)
        times = [clock(subject.run_step) for _ in range(2 + request.rounds)][2:]
        yield {
            "images": "streamed" if streamed else "resident",
            "one_view_per_s": views[1],
            "two_views_per_s": views[2],
            "method": subject.name,
            "step_images_per_s": 1e3 * request.batch / float(np.median(times)),
        }
