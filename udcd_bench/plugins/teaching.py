"""Methods and the rows that teach them, one behind the other: what their files lack, and the suites they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from udcd_bench.errors import UserError
from udcd_bench.plugins.attributes import read_attributes
from udcd_bench.plugins.contract import parse_trained_rows
from udcd_bench.plugins.suites import find_files, find_root, find_shipped_suite, name_suite

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN_SUITE = "FOLDER"
"""Stands for the suite of a method that is in none here."""


def find_mistake(method: str) -> str:
    """Find why a method's file, or that of a row that teaches it, cannot be read; empty where all can."""
    return next(filter(None, _follow_teachers([method]).values()), "")


def list_needed_suites(methods: Iterable[str]) -> list[str]:
    """List what ``--suite`` has to name so that these methods are found, and the rows that teach them.

    The paper's and those of installed packages need no name. A method that is in no suite here may be in one that this
    package brings; nobody knows the suite of any other, ``UNKNOWN_SUITE``.
    """
    return sorted({_find_suite(method) for method in _follow_teachers(methods)} - {""})


def _follow_teachers(methods: Iterable[str]) -> dict[str, str]:
    """Follow methods to all that teach them: each one's name, and why its file cannot be read or empty."""
    mistakes: dict[str, str] = {}
    waiting = list(methods)
    while waiting:
        method = waiting.pop()
        if method in mistakes:
            continue
        mistakes[method] = ""
        try:
            rows = parse_trained_rows(read_attributes("methods", method).get("teacher"))
            waiting += filter(None, rows)
        except UserError as error:
            mistakes[method] = str(error)
    return mistakes


def _find_suite(method: str) -> str:
    files = find_files("methods")
    if method not in files:
        return find_shipped_suite("methods", method) or UNKNOWN_SUITE
    suite = files[method].suite
    return "" if suite.package or suite.folder == find_root() else name_suite(suite.folder)
