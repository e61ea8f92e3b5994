"""The parts in order, each in a process of its own with a limit of time; what is measured is written as it comes."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.bench.everything import processes, short_runs, steps
from udcd_bench.bench.everything.request import Request, choose_images
from udcd_bench.bench.ratio import describe_machine
from udcd_bench.engines.environment import pick_device
from udcd_bench.engines.steps import configure_torch

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET_SECONDS = 600.0
"""Of all parts together."""


@dataclass(frozen=True)
class Part:
    """One measurement: its title, what yields its rows, and the most seconds it may take."""

    title: str
    measure: processes.Measure
    seconds: float
    needs_gpu: bool = False


PARTS = {
    "steps": Part("every step over its floor", steps.measure_steps, 240),
    "repeats": Part("a run made twice", short_runs.repeat_runs, 90),
    "memory": Part("memory that runs out beside another run", short_runs.exhaust_memory, 60, needs_gpu=True),
    "together": Part("four runs on one device against one", short_runs.compare_jobs, 80),
    "input": Part("images on the device against streamed ones", steps.compare_inputs, 40),
    "precision": Part("bf16 against fp32", short_runs.compare_precisions, 80),
}
"""The parts by name, in order; together they may take the whole budget."""


def measure_everything(
    request: Request, write: Callable[[dict[str, Any]], None], log: Callable[[str], None]
) -> dict[str, Any]:
    """Measure all parts that this device has; return the result, which ``write`` is given whenever there is more of it.

    A part that fails or takes too long says so, and the others go on. log: called with the title of each part.
    """
    is_gpu = pick_device(request.device).type == "cuda"
    configure_torch(request.threads, deterministic=False)
    result = make_empty_result(request)
    deadline = time.monotonic() + BUDGET_SECONDS
    with tempfile.TemporaryDirectory(prefix="udcd-bench-", ignore_cleanup_errors=True) as folder:
        for name, part in PARTS.items():
            entry = result["parts"][name]
            write(result)
            if part.needs_gpu and not is_gpu:
                entry |= {"state": "left out", "reason": "needs a GPU"}
                continue
            limit = min(part.seconds, deadline - time.monotonic())
            if limit <= 0:
                entry |= {"state": "left out", "reason": f"the {BUDGET_SECONDS:.0f} s were over"}
                continue
            log(part.title)
            for update in processes.follow_measurement(part.measure, request, Path(folder), limit):
                entry |= update
                write(result)
    write(result)
    return result


def make_empty_result(request: Request) -> dict[str, Any]:
    """Make the result before anything is measured: what is asked, of which machine, on which images."""
    return {
        "ask": asdict(request) | {"data": str(request.data)},
        **describe_machine(pick_device(request.device)),
        "run_images": choose_images(request).describe(request.image_sizes[0]),
        "parts": {
            name: {"title": part.title, "state": "not begun", "reason": "", "seconds": 0.0, "rows": []}
            for name, part in PARTS.items()
        },
    }
