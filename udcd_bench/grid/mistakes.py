"""Methods that a table leaves out since their files have a mistake; whoever asks for one by name is refused instead."""

from __future__ import annotations

import logging
from functools import cache

from udcd_bench import plugins


def warn_of_mistakes() -> None:
    """Log each method that cannot be read, with what is wrong; once in a process, however many tables leave it out."""
    for name in plugins.list_names("methods"):
        if mistake := plugins.find_mistake(name):
            _warn_once(mistake)


@cache
def _warn_once(mistake: str) -> None:
    logging.getLogger(__name__).warning("left out: %s", mistake)
