"""Names of own images and of files of weights: what they are called, and a digest of what they hold; never a place.

Own images are ``folder:NAME#DIGEST`` and a file of weights ``NAME#DIGEST``, with 12 hexadecimal digits. The digest says
which they are, the name is for people: two laboratories may call the same images differently. What has no digest
is a source's name, or was stored by an earlier revision, which named own images and files by their path.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

FOLDER = "folder:"
DIGEST_DIGITS = 12
_SHOWN_DIGITS = 4
_NAMED = re.compile(rf"(.*)#([0-9a-f]{{{DIGEST_DIGITS}}})", re.DOTALL)


class NamedContent(NamedTuple):
    """What something is called, and the digest of what it holds; the digest is empty where the name has none."""

    name: str
    digest: str


def parse_name(text: str) -> NamedContent:
    """Parse ``NAME#DIGEST``, with or without ``folder:`` before it."""
    text = text.removeprefix(FOLDER)
    match = _NAMED.fullmatch(text)
    return NamedContent(match[1], match[2]) if match else NamedContent(text, "")


def format_data_name(name: str, digest: str) -> str:
    """Format the name of own images. digest: of any length, of which the first digits are taken."""
    return f"{FOLDER}{format_file_name(name, digest)}"


def format_file_name(name: str, digest: str) -> str:
    """Format the name of a file of weights. digest: of any length, of which the first digits are taken."""
    return f"{name}#{digest[:DIGEST_DIGITS]}"


def identify_data(name: str) -> str:
    """Identify a data set: own images by their digest alone, others by their name."""
    digest = parse_name(name).digest if name.startswith(FOLDER) else ""
    return f"folder#{digest}" if digest else name


def identify_file(value: str) -> str:
    """Identify a file of weights by its digest alone; other values stay."""
    digest = parse_name(value).digest
    return f"#{digest}" if digest else value


def matches(typed: str, name: str) -> bool:
    """Tell whether ``NAME`` or ``NAME#DIGEST``, as typed, means this name; a stored path goes by its last part."""
    wanted, known = parse_name(typed), parse_name(name)
    if wanted.digest:
        return wanted.digest == known.digest
    return wanted.name == (known.name if known.digest else take_last_part(known.name))


def format_data_title(name: str) -> str:
    """Format a data set's name for people: own images by their name and the first digits of their digest."""
    return format_file_title(name) if name.startswith(FOLDER) else name


def format_file_title(text: str) -> str:
    """Format ``NAME#DIGEST`` for people as ``NAME (DIGE)``, and a path by its last part."""
    name, digest = parse_name(text)
    return f"{name} ({digest[:_SHOWN_DIGITS]})" if digest else take_last_part(name)


def take_last_part(path: str) -> str:
    """Take the last part of a path as what it leads to is called, without the suffix of a table or an archive."""
    last = os.path.basename(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111, PTH119 (of any text)
    stem, suffix = os.path.splitext(last)  # noqa: PTH122
    return stem if suffix.lower() in (".csv", ".zip") else last
