"""Exceptions whose messages are shown to the user, and what many of them end with: a near word, a command to type."""

from __future__ import annotations

import difflib
import os
import shlex
import traceback
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def make_printable(text: str, keep: str = "") -> str:
    """Replace control characters and lone surrogates by ``[U+…]``, so that a text is safe to print and to store.

    A name from a file or an archive could otherwise end its line, or control the terminal. keep: characters to leave.
    """
    if text.isprintable():
        return text
    unsafe_categories = ("Cc", "Cs", "Zl", "Zp")
    return "".join(
        f"[U+{ord(c):04X}]" if unicodedata.category(c) in unsafe_categories and c not in keep else c
        for c in text
    )


def format_count(n: int, noun: str) -> str:
    """Format a number with what it counts, as ``1 run`` or ``2 runs``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


class UserError(Exception):
    """An error the user can fix.

    Its message is one sentence (or one list) that names the thing and the fix; the command line prints it without a
    traceback and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(make_printable(message, keep="\n"))


class UnreadableError(UserError):
    """A method reads what its run has not: one label of a mixed image, or what several teachers do not share."""


class RunError(Exception):
    """A run failed for a known reason, given in one sentence. Other runs go on; this one is not tried again."""


class RunMemoryError(RunError):
    """Memory ran out; with fewer runs at a time this one may fit."""


def locate_error(error: BaseException, files: Collection[str]) -> str:
    """Locate where an error was raised: ``FILE, line N`` of the innermost of its frames in these files, or empty."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((f"{f.filename}, line {f.lineno}" for f in reversed(frames) if f.filename in files), "")


def suggest_nearest(word: str, known: Iterable[str]) -> str:
    """Make the end of a sentence about an unknown word: the nearest known word if one is close, and all known words."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {', '.join(words)}."


def quote_command(*words: object, suites: Iterable[str] | None = None) -> str:
    """Format a command of this program for a shell, with these suites or else all that are in use."""
    if suites is None:
        suites = [suite for suite in os.environ.get("UDCD_BENCH_SUITE", "").split(os.pathsep) if suite]
    given = [word for suite in suites for word in ("--suite", suite)]
    return shlex.join(["udcd-bench", *given, *map(str, words)])


def quote_name(name: str) -> str:
    """Quote a name as options with names between commas take it."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name
