"""Events of a run under way, from the process that trains it to the queue and the progress display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Something that happened to a run. key: the run's."""

    key: str


@dataclass(frozen=True)
class RunStarted(Event):
    """Training has begun, or goes on from a checkpoint."""


@dataclass(frozen=True)
class StepDone(Event):
    """A batch has been trained on or tested: a sign of progress that is not shown."""


@dataclass(frozen=True)
class EpochDone(Event):
    """An epoch has ended. row: its row of the history."""

    row: dict[str, Any]


@dataclass(frozen=True)
class Note(Event):
    """A message about a run that goes on."""

    message: str


@dataclass(frozen=True)
class RunLocked(Event):
    """Another process has locked the run, or a teacher is missing: look again later."""


@dataclass(frozen=True)
class RunDone(Event):
    """The run is finished and stored, by this process or another."""


@dataclass(frozen=True)
class RunFailed(Event):
    """The run has failed.

    user_error: the user can fix the reason, and it is likely to be every run's.
    out_of_memory: it may fit with fewer runs at a time. process_died: its process died or hung.
    damaged_key: of the stored run, such as its teacher, whose damage is the reason.
    """

    message: str
    user_error: bool = False
    out_of_memory: bool = False
    process_died: bool = False
    damaged_key: str = ""


END_EVENTS = (RunLocked, RunDone, RunFailed)
"""Events after which a process is free for another run."""
