"""The exceptions a user is meant to see, and the hint most of its messages end with."""

from __future__ import annotations

import difflib
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def make_printable(text: str, keep: str = "") -> str:
    """A name from a file or an archive made safe to print and to store: controls and what is no text by number.

    Else a name could end its line, or tell the terminal what to do.
    """
    if text.isprintable():
        return text
    bad = ("Cc", "Cs", "Zl", "Zp")
    return "".join(
        f"[U+{ord(c):04X}]" if unicodedata.category(c) in bad and c not in keep else c for c in text
    )


class UserError(Exception):
    """Something the user can mend.

    Its message is one sentence (or one list) that names the thing and the mend; the command line prints it
    without a traceback and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(make_printable(message, keep="\n"))


class RunError(Exception):
    """A run failed by itself, for a reason that is known: one sentence. Other runs go on, and it is not tried again."""


class RunMemoryError(RunError):
    """Memory ran out: alone, the run may fit."""


def suggest_nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one if there is any, and all of them."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {', '.join(words)}."
