"""The content of the suites that the package brings, while tests are collected; the fixture has it while they run.

``UDCD_BENCH_SUITE`` adds one's own to it in ``test_contract.py``.
"""

from __future__ import annotations

import contextlib
import os
from unittest import mock

from udcd_bench import plugins

OWN = [name for name in os.environ.get("UDCD_BENCH_SUITE", "").split(os.pathsep) if name]
"""What the variable names when tests start."""


@contextlib.contextmanager
def use_shipped(own=()):
    """Have it, and that of suites of one's own, within a block."""
    named = os.pathsep.join(dict.fromkeys([*plugins.list_shipped_suites(), *map(plugins.name_suite, own)]))
    plugins.find_files.cache_clear()
    with mock.patch.dict(os.environ, {"UDCD_BENCH_SUITE": named}):
        yield
    plugins.find_files.cache_clear()
