"""A measurement in a process of its own, which has a limit of time and leaves the rows that it had by then."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

from udcd_bench.bench.everything.request import Request
from udcd_bench.data import workers

Measure = Callable[[Request, Path], Iterator[dict[str, Any]]]
"""Yields rows; the folder is for what it writes, and the same for all measurements."""
CHECK_SECONDS = 0.5
"""Between two looks at what has been measured."""


def follow_measurement(
    measure: Measure, request: Request, folder: Path, limit: float
) -> Iterator[dict[str, Any]]:
    """Yield what is new of a measurement until it ends, after ``limit`` seconds at the latest.

    Each is a dict with some of ``state``, ``reason``, ``rows`` and ``seconds``.
    """
    began = time.monotonic()
    file = folder / f"{measure.__name__}.jsonl"
    pool = workers.open_pool(1)
    try:
        (future,) = workers.submit_all(pool, write_rows, [(measure, request, folder, file)])
        yield {"state": "under way"}
        while not future.done() and time.monotonic() - began < limit:
            wait([future], timeout=CHECK_SECONDS)
            yield {"rows": read_rows(file), "seconds": time.monotonic() - began}
        if not future.done():
            yield {"state": "stopped", "reason": f"its {max(0, limit):.0f} s were over"}
        elif error := future.exception():
            yield {"state": "failed", "reason": f"{type(error).__name__}: {error}".partition("\n")[0]}
        else:
            yield {"state": "done"}
    finally:
        workers.abandon(pool)


def write_rows(measure: Measure, request: Request, folder: Path, file: Path) -> None:
    """Measure, and append each row to a file as it comes."""
    with file.open("a", encoding="utf-8") as rows:
        for row in measure(request, folder):
            rows.write(f"{json.dumps(row)}\n")
            rows.flush()


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read the rows so far; one that is being written has no end yet."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
