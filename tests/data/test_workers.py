"""Pools of worker processes: one that is given up ends at once, whatever its processes are at."""

from __future__ import annotations

import subprocess
import sys

import pytest

# large results, so that a process is likely to be sending one when it is ended
ABANDON = """
import numpy as np
from concurrent.futures import as_completed
from udcd_bench.data import workers

for stop_at in (3, 8, 13, 21):
    with workers.open_pool(2) as pool:
        futures = workers.submit_all(pool, np.zeros, [(400_000,)] * 200)
        for done, _ in enumerate(as_completed(futures)):
            if done == stop_at:
                break
        workers.abandon(pool)
    print(stop_at)
"""


@pytest.mark.slow
def test_a_pool_is_given_up_while_results_are_sent():
    done = subprocess.run([sys.executable, "-c", ABANDON], capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["3", "8", "13", "21"], done.stderr
