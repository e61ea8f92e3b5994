"""The imports that every run needs, made once by the server that worker processes are forked from.

No module of ours imports this one: ``local.start_server`` names it. Nothing here may start a thread or use a GPU,
because the server's copies would inherit either in an unusable state.
"""

from __future__ import annotations

import contextlib
import gc
import importlib

MODULES = (
    "torch",
    "timm",
    "torchvision",
    "pandas",
    "safetensors.numpy",
    "udcd_bench.engines.execute",
    "udcd_bench.data.batches.resident",
    "udcd_bench.data.cache.prepared",
    "udcd_bench.losses",
    "udcd_bench.memory",
    "udcd_bench.sampling",
    "udcd_bench.runs.store",
    "udcd_bench.training.network",
    "udcd_bench.training.trainer",
)

# collections take a fifth of the time of these imports, which leave next to nothing to collect
gc.disable()
for module in MODULES:
    with contextlib.suppress(Exception):  # the run that needs the module reports what is wrong with it
        importlib.import_module(module)
gc.enable()
