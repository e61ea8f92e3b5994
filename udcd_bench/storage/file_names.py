"""Names of files as text: UTF-8 whatever the locale, so that one file has one name, and its runs one key, anywhere."""

from __future__ import annotations

import os
import sys


def decode_name(name: str) -> str:
    """Decode a name of the file system, or typed, as UTF-8; one that is decoded already stays."""
    if sys.getfilesystemencoding() == "utf-8":
        return name
    try:
        return os.fsencode(name).decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return name


def encode_name(text: str) -> str:
    """Return how this process calls a file of that name in UTF-8."""
    if sys.getfilesystemencoding() == "utf-8":
        return text
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))
