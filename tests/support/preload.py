"""What the server imports that ``faults`` forks commands from: the engine's own preload, and what commands need beside.

Nothing else imports this module.
"""

from __future__ import annotations

import gc
import importlib

MODULES = (
    "udcd_bench.engines.preload",
    "udcd_bench.engines.local",
    "udcd_bench.cli",
    "udcd_bench.artefacts.figure",
    "udcd_bench.artefacts.leak",
    "udcd_bench.artefacts.side_by_side",
    "udcd_bench.bench.ratio",
    "udcd_bench.data.cache.prepare",
    "udcd_bench.data.synthetic.fundus",
    "udcd_bench.data.synthetic.lesions",
    "udcd_bench.engines.naming",
    "udcd_bench.judging.comparisons",
    "udcd_bench.judging.seed_check",
    "udcd_bench.report.page",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.figure",
    "matplotlib.style",
    "sklearn.datasets",
    "sklearn.manifold",
    "support.faults",
)
"""Modules that a command imports when it needs them, and with them most others."""


def load_for_tables():
    """Load what the first table of a process needs beside modules: fonts, and the LaTeX template."""
    from support.sheets import frame_of, sheet_of
    from udcd_bench.render import latex, picture

    sheet = sheet_of(frame_of({"a": {"acc": 0.5}}), title="±")
    latex.render_latex(sheet)
    picture.render_png(sheet)


for name in MODULES:
    gc.disable()  # the engine's preload enables it at its end
    importlib.import_module(name)
load_for_tables()
gc.enable()
