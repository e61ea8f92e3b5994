"""Values that Python code gives as options: NumPy's numbers are numbers, and ``True`` is none."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from udcd_bench.runs.spec import Overrides


def read_whole(value: object) -> int:
    """Read a whole number, of Python or NumPy. Raises TypeError for anything else."""
    if isinstance(value, bool):
        raise TypeError(f"{value} is no number")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{value!r} is no whole number") from None


def read_number(value: object) -> float:
    """Read a number, of Python or NumPy. Raises TypeError for anything else."""
    if isinstance(value, bool | str):
        raise TypeError(f"{value!r} is no number")
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{value!r} is no number") from None


def read_teacher(value: object) -> str:
    """Read a teacher, or a list of several, as ``--teacher`` takes them. Raises TypeError for anything else."""
    names = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{value!r} is no teacher; give a row, a run or a file as text, or a list of these")
    return ",".join(map(str, names))


def list_settings(settings: Mapping[str, Any] | None) -> Overrides:
    """List settings as overrides; NumPy's scalars become Python's."""
    return tuple(
        (name, value.item() if isinstance(value, np.generic) else value)
        for name, value in (settings or {}).items()
    )
