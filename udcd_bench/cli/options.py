"""Options that several commands share; each has its ``UDCD_BENCH_…`` variable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = click.Path(path_type=Path)


def option(*names: str, **how: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A click option that its ``UDCD_BENCH_…`` variable sets too."""
    long = next(name for name in names if name.startswith("--"))
    how.setdefault("envvar", f"UDCD_BENCH_{long[2:].upper().replace('-', '_')}")
    return click.option(*names, **how)


data = option("--data", type=FOLDER, default=Path("data"), show_default=True, help="Folder of prepared data.")
out = option("--out", type=FOLDER, default=Path("results"), show_default=True, help="Results folder.")
