"""The content of the suites that the package brings, while tests are collected; the fixture has it while they run."""

from __future__ import annotations

import contextlib
import os
from unittest import mock

from udcd_bench import plugins


@contextlib.contextmanager
def use_shipped():
    """Have it within a block."""
    named = os.pathsep.join(plugins.list_shipped_suites())
    plugins.find_files.cache_clear()
    with mock.patch.dict(os.environ, {"UDCD_BENCH_SUITE": named}):
        yield
    plugins.find_files.cache_clear()
