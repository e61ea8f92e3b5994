"""CSVs of tables and figures: the command that made one is a comment in its first line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TextIO

from udcd_bench.errors import make_printable

if TYPE_CHECKING:
    import pandas as pd

MARK = "#"


def format_csv(frame: pd.DataFrame, float_format: str | None = None) -> str:
    """Format a frame as CSV. float_format: such as ``%.6g``.

    Where a cell has a ``#``, all text is quoted, so that readers told that it begins a comment keep the cell whole.
    """
    texts = [*frame.columns, *(cell for name in frame for cell in frame[name] if isinstance(cell, str))]
    quoting: Literal[0, 2] = (
        2 if any(MARK in text for text in texts) else 0
    )  # csv.QUOTE_NONNUMERIC, QUOTE_MINIMAL
    return frame.to_csv(index=False, lineterminator="\n", quoting=quoting, float_format=float_format)


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
