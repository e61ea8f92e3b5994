"""Measurements that cost nothing, for ``bench --everything``; a process imports them without the tensor library."""

from __future__ import annotations

import time


def give_rows(request, folder):
    """Two runs side by side."""
    yield {"runs": 1, "failed": 0, "images_per_s": 100.0, "seconds": 1.0}
    yield {"runs": 4, "failed": 0, "images_per_s": 250.0, "seconds": 2.0}


def fail(request, folder):
    """A row, and then an error of two lines."""
    yield {"precision": "bf16", "seed": 0, "images_per_s": 9.0, "acc": 0.5, "rec": 0.25}
    raise ValueError("it broke\nhere")


def hang(request, folder):
    """A row, and then nothing for ever."""
    yield {"number": 1}
    time.sleep(1e6)
