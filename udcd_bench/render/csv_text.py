"""CSVs of tables and figures: the command that made one is a comment in its first line."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any, TextIO

from udcd_bench.errors import make_printable

if TYPE_CHECKING:
    import pandas as pd

MARK = "#"


def format_csv(frame: pd.DataFrame, **options: Any) -> str:
    """Format a frame as CSV. options: of ``DataFrame.to_csv``.

    Where a cell has a ``#``, all text is quoted, so that readers told that it begins a comment keep the cell whole.
    """
    texts = [*frame.columns, *(cell for name in frame for cell in frame[name] if isinstance(cell, str))]
    quoting = csv.QUOTE_NONNUMERIC if any(MARK in text for text in texts) else csv.QUOTE_MINIMAL
    result: str = frame.to_csv(index=False, lineterminator="\n", quoting=quoting, **options)
    return result


def add_command(text: str, command: str) -> bytes:
    """Put the command that makes a CSV above it, as a comment, and encode both."""
    return f"{MARK} {make_printable(command)}\n{text}".encode()


def read_command(first_line: str) -> str:
    """Read the command in the first line of a CSV; empty where it has none, as those of older versions."""
    return first_line.removeprefix(MARK).strip() if first_line.startswith(MARK) else ""


def skip_command(file: TextIO) -> TextIO:
    """Move a file that has just been opened to the line after its comment, if it begins with one."""
    if not file.readline().startswith(MARK):
        file.seek(0)
    return file
