"""Does that distillation paper hold? The engine of a reproduction benchmark of UDCD (MICCAI 2024).

For scripts and notebooks: ``load_run``, ``results``, ``train``, ``table`` and ``figure``, imported when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udcd_bench.api.artefacts import figure, results, table
    from udcd_bench.api.runs import load_run, train

__version__ = "0.1.0"
__all__ = ["figure", "load_run", "results", "table", "train"]

_MODULES = {
    "load_run": "udcd_bench.api.runs",
    "results": "udcd_bench.api.artefacts",
    "train": "udcd_bench.api.runs",
    "table": "udcd_bench.api.artefacts",
    "figure": "udcd_bench.api.artefacts",
}


def __getattr__(name: str) -> Any:
    """Import a function when it is first used: what imports this package alone waits for no tensor library."""
    if name not in _MODULES:
        raise AttributeError(f"module 'udcd_bench' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
