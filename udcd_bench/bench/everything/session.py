"""The parts in order, each in a process of its own with a limit of time; what is measured is written as it comes."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.bench.everything import short_runs, steps
from udcd_bench.bench.everything.request import Request, choose_images
from udcd_bench.bench.ratio import describe_machine
from udcd_bench.data import workers
from udcd_bench.engines.environment import pick_device
from udcd_bench.engines.steps import configure_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUDGET_SECONDS = 600.0
"""Of all parts together."""
CHECK_SECONDS = 0.5
"""Between two looks at what a part has measured."""


@dataclass(frozen=True)
class Part:
    """One measurement: its title, what yields its rows, and the most seconds it may take."""

    title: str
    measure: Callable[[Request, Path], Iterator[dict[str, Any]]]
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
            log(part.title)
            measurement = _Measurement(name, request, Path(folder))
            limit = min(part.seconds, deadline - time.monotonic())
            for update in measurement.follow(limit):
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


class _Measurement:
    """One part, measured in a process of its own, which appends each row to a file."""

    def __init__(self, name: str, request: Request, folder: Path) -> None:
        self.name, self.request, self.folder = name, request, folder
        self.file = folder / f"{name}.jsonl"

    def follow(self, limit: float) -> Iterator[dict[str, Any]]:
        """Yield what is new of the part's entry until it ends, after ``limit`` seconds at the latest."""
        began = time.monotonic()
        pool = workers.open_pool(1)
        try:
            (future,) = workers.submit_all(
                pool, write_rows, [(self.name, self.request, self.folder, self.file)]
            )
            yield {"state": "under way"}
            while not future.done() and time.monotonic() - began < limit:
                wait([future], timeout=CHECK_SECONDS)
                yield {"rows": self._read_rows(), "seconds": time.monotonic() - began}
            if not future.done():
                yield {"state": "stopped", "reason": f"it had its {limit:.0f} s"}
            elif error := future.exception():
                yield {
                    "state": "failed",
                    "reason": f"{type(error).__name__}: {str(error).strip()}".split("\n")[0],
                }
            else:
                yield {"state": "done"}
        finally:
            workers.abandon(pool)

    def _read_rows(self) -> list[dict[str, Any]]:
        text = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
        # a row that is being written has no end yet
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def write_rows(name: str, request: Request, folder: Path, file: Path) -> None:
    """Measure a part, and append each of its rows to a file as it comes."""
    with file.open("a", encoding="utf-8") as rows:
        for row in PARTS[name].measure(request, folder):
            rows.write(f"{json.dumps(row)}\n")
            rows.flush()
