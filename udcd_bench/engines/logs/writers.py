"""The two forms of a run's log: a CSV, and events for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from udcd_bench.errors import UserError
from udcd_bench.stats.metrics import METRICS
from udcd_bench.storage.atomic import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

Rows = Sequence[Mapping[str, Any]]
"""A run's history so far: a row an epoch, over all its stages."""


class LogWriter(Protocol):
    """Writes one run's log into its folder, which goes on from the epochs in ``saved``, those of its checkpoint."""

    def __init__(self, folder: Path, saved: Rows) -> None: ...

    def write(self, rows: Rows) -> None:
        """Bring the log up to date with all rows so far."""

    def close(self) -> None:
        """End the log."""


class CsvLog:
    """``epochs.csv``, written anew after every epoch: it is small, and always whole."""

    def __init__(self, folder: Path, saved: Rows) -> None:
        self.path = folder / "epochs.csv"

    def write(self, rows: Rows) -> None:
        """Write all rows; terms that a stage has not are empty there."""
        import pandas as pd

        write_atomically(self.path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode())

    def close(self) -> None:
        """Do nothing: the file is whole."""


class TensorBoardLog:
    """An event file. Where an earlier one is there, TensorBoard is told to drop what that has beyond ``saved``."""

    def __init__(self, folder: Path, saved: Rows) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        is_continued = any(folder.glob("*tfevents*"))
        self.written = {
            (s, tag) for s, row in enumerate(saved) for tag, _ in list_scalars(row) if is_continued
        }
        self.writer = EventFileWriter(str(folder))
        start = SessionLog(status=SessionLog.START)
        self.writer.add_event(Event(step=len(saved) if is_continued else 0, session_log=start))

    def write(self, rows: Rows) -> None:
        """Add the numbers that are not in the log yet, each at the count of epochs before its own."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        for step, row in enumerate(rows):
            for tag, value in list_scalars(row):
                if (step, tag) not in self.written:
                    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                    self.writer.add_event(Event(step=step, summary=summary))
                    self.written.add((step, tag))
        self.writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self.writer.close()


WRITERS: dict[str, type[LogWriter]] = {"csv": CsvLog, "tensorboard": TensorBoardLog}
"""Value of ``--log`` → what writes it."""


def check_installed(kind: str) -> None:
    """Raise UserError when a log of this kind needs a package that is not installed."""
    if kind == "tensorboard":
        try:
            from tensorboard.summary.writer import event_file_writer  # noqa: F401
        except ImportError as error:
            raise UserError(
                "--log tensorboard needs TensorBoard: pip install 'udcd-bench[tensorboard]'."
            ) from error


def list_scalars(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """List the numbers of a row with the tags that TensorBoard groups them by: loss, gradient, test and the rest."""
    for name, value in row.items():
        if name in ("stage", "epoch") or math.isnan(value):
            continue
        kind, _, term = name.partition("_")
        if kind in ("loss", "gradient"):
            yield f"{kind}/{term or 'sum'}", float(value)
        else:
            yield f"test/{name}" if name in METRICS else name, float(value)
