"""The imports that every run needs, made once by the server that worker processes are forked from.

``server.start_server`` names this module, and only the server imports it. None of these imports may start a thread or
touch a GPU: a forked process could use neither.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os

MODULES = (
    "torch",
    "timm",
    "torchvision",
    "pandas",
    "safetensors.numpy",
    "udcd_bench.data.batches.resident",
    "udcd_bench.data.cache.prepared",
    "udcd_bench.engines.execute",
    "udcd_bench.engines.steps",
    "udcd_bench.losses",
    "udcd_bench.memory",
    "udcd_bench.sampling",
    "udcd_bench.training.network",
    "udcd_bench.training.trainer",
)

# garbage collection takes a fifth of the time of these imports and finds next to nothing
gc.disable()
for module in MODULES:
    with contextlib.suppress(Exception):  # the run that needs the module reports what is wrong with it
        importlib.import_module(module)
gc.enable()
# the server has nothing to tidy up, and would hold the command's output open while torch is taken down
atexit.register(os._exit, 0)
