"""The logs of a command's runs, kept up to date by the events that its engine passes on."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING, Any

from udcd_bench.engines.events import EpochDone, Event, RunDone, RunFailed, RunStarted
from udcd_bench.engines.logs.writers import WRITERS
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from udcd_bench.engines.logs.writers import LogWriter
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.store import Store

FOLDER = "logs"
"""Of a results folder: it holds a folder for each run that was logged."""
MOST_CHARACTERS = 100
"""Most characters of a run's label in the name of its folder."""


@contextlib.contextmanager
def open_logs(kind: str, store: Store, jobs: Sequence[Job]) -> Iterator[Callable[[Event], None]]:
    """Open the logs of these runs; yields what is to be told of their events. kind: of ``WRITERS``, empty for none."""
    if not kind:
        yield lambda event: None
        return
    logs = RunLogs(kind, store, jobs)
    try:
        yield logs.notify
    finally:
        logs.close()


class RunLogs:
    """A log for each run that this command starts, in ``logs/LABEL-KEY`` of the results folder.

    rows: key → the run's history so far. A run that goes on from its checkpoint goes on in its log from there.
    """

    def __init__(self, kind: str, store: Store, jobs: Sequence[Job]) -> None:
        self.writer_class, self.store = WRITERS[kind], store
        self.labels = {job.key: job.spec.format_label() for job in jobs}
        self.writers: dict[str, LogWriter] = {}
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def notify(self, event: Event) -> None:
        """Follow an event. A log that cannot be written is given up, and its run goes on without it."""
        try:
            self._follow(event)
        except (OSError, UserError) as error:
            logging.getLogger(__name__).warning("The log of a run ends here, the run goes on: %s", error)
            self.writers.pop(event.key, None)

    def _follow(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._open(event.key)
        elif (writer := self.writers.get(event.key)) is None:
            return  # another process trains it
        elif isinstance(event, EpochDone):
            self.rows[event.key] = [*self._take_before(event.key, event.row), event.row]
            writer.write(self.rows[event.key])
        elif isinstance(event, RunDone | RunFailed):
            if isinstance(event, RunDone):
                writer.write(self.store.read_history(event.key))  # with the figures of the tested epochs
            self.writers.pop(event.key).close()

    def _open(self, key: str) -> None:
        if key in self.writers:  # its process died, and it is tried once more
            self.writers.pop(key).close()
        folder = self._find_folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        self.rows[key] = self.store.open_checkpoint(key).read_history()
        self.writers[key] = self.writer_class(folder, self.rows[key])
        if self.rows[key]:
            self.writers[key].write(self.rows[key])

    def _find_folder(self, key: str) -> Path:
        """Find the folder of a run's log by its key, since own images may have been called otherwise before."""
        root = self.store.root / FOLDER
        label = re.sub(r"[^A-Za-z0-9_.=-]+", "-", self.labels[key])[:MOST_CHARACTERS].strip("-.")
        return next(iter(sorted(root.glob(f"*-{key}"))), root / f"{label}-{key}")

    def _take_before(self, key: str, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Take the rows of the epochs before this row's: a checkpoint may be younger than the run's start."""
        place = row["stage"], row["epoch"]
        places = [(each["stage"], each["epoch"]) for each in self.rows[key]]
        return self.rows[key][: places.index(place)] if place in places else self.rows[key]

    def close(self) -> None:
        """Close the logs of runs that have not ended."""
        for writer in self.writers.values():
            with contextlib.suppress(OSError):
                writer.close()
