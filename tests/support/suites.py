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


_METHOD = '''"""Mine."""

from udcd_bench import method


class Method(method.BaseMethod):
    title = "{title}"
    citation = "Me, 2024"
    teacher = {teacher!r}

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        return {losses}
'''


def write_method(folder, name, losses, *, teacher=None):
    """Write a method whose losses are this expression, in which ``logits`` are the student's; returns the folder."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(_METHOD.format(title=name, teacher=teacher, losses=losses))
    return folder


def write_taught(folder, **teachers):
    """Write methods that learn from the logits of these teachers, by name, and turn on the suite that they make."""
    losses = '{"kd": (logits - self.run_teacher(batch.views[0]).logits).square().mean()}'
    for name, teacher in teachers.items():
        write_method(folder, name, losses, teacher=teacher)
    plugins.add_suite(folder)
