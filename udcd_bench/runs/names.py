"""Names of own images and of files of weights: what they are called, and a digest of what they hold; never a place.

Own images are ``folder:NAME#DIGEST`` and a file of weights ``NAME#DIGEST``, with 12 hexadecimal digits. The digest says
which they are, the name is for people: two laboratories may call the same images differently. What has no digest
is a source's name, or was stored by an earlier revision, which named own images and files by their path.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = "folder:"
RUN = "run:"
"""Before the key of a stored run that is a teacher."""
BETWEEN_TEACHERS = "/"
"""In a spec, between several teachers: files are named without their folder, so that it is part of no name."""
DIGEST_DIGITS = 12
_SHOWN_DIGITS = 4
_NAMED = re.compile(rf"(.*)#([0-9a-f]{{{DIGEST_DIGITS}}})", re.DOTALL)
_OWN_NAME = re.compile(r"[^/\\#@\s]([^/\\#@]*[^/\\#@\s])?")
"""What follows the @ of ``PATH@NAME``."""
_COMMON_NAMES = frozenset(
    ("annotation", "annotations", "csv", "csvs", "data", "dataset", "ground_truth", "groundtruth", "group", "groups",
     "image", "images", "img", "imgs", "index", "label", "labels", "list", "meta", "metadata", "split", "splits",
     "table", "train")
)  # fmt: skip
"""What tables, and the folders that they lie in, are called whatever they are of."""


class NamedContent(NamedTuple):
    """What something is called, and the digest of what it holds; the digest is empty where the name has none."""

    name: str
    digest: str


class OwnPlace(NamedTuple):
    """Where own images lie, and what they are called."""

    path: str
    name: str


def parse_place(text: str) -> OwnPlace:
    """Parse ``PATH@NAME`` or ``PATH``, with or without ``folder:`` before it; what exists as a whole is a path."""
    text = text.removeprefix(FOLDER)
    path, at, name = text.rpartition("@")
    if path and at and _OWN_NAME.fullmatch(name) and not os.path.lexists(os.path.expanduser(text)):  # noqa: PTH111
        return OwnPlace(path, name)
    return OwnPlace(text, take_last_part(text))


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
    return f"{name} ({digest[:_SHOWN_DIGITS]})" if digest else parse_place(name).name


def split_teachers(teacher: str) -> list[str]:
    """Split the teachers of a spec; none where it leaves them to the method."""
    return teacher.split(BETWEEN_TEACHERS) if teacher else []


def join_teachers(teachers: Iterable[str]) -> str:
    """Join teachers as a spec names them, in an order that does not depend on the one in which they were given."""
    return BETWEEN_TEACHERS.join(sorted(teachers))


def identify_teacher(teacher: str) -> str:
    """Identify the teachers of a spec, files by their digests alone."""
    return join_teachers(map(identify_file, split_teachers(teacher)))


def select_rows(teachers: Iterable[str]) -> list[str]:
    """Select of a spec's teachers those that are rows, whose runs are made for it."""
    return [teacher for teacher in teachers if not parse_run(teacher) and not parse_name(teacher).digest]


def parse_run(teacher: str) -> str:
    """Parse the key of the stored run that is a teacher; empty for a row or a file."""
    return teacher.removeprefix(RUN) if teacher.startswith(RUN) else ""


def format_teacher_option(teacher: str) -> str:
    """Format teachers as ``--teacher`` takes them: rows, runs' keys, what files are called, commas between."""
    return ",".join(parse_run(each) or parse_name(each).name for each in split_teachers(teacher))


def format_teacher_title(teacher: str) -> str:
    """Format teachers for people: a row by its name, a run by its key, a file as ``format_file_title`` does."""
    return " + ".join(map(_format_one_teacher, split_teachers(teacher)))


def _format_one_teacher(teacher: str) -> str:
    key, file = parse_run(teacher), parse_name(teacher)
    return f"run {key}" if key else format_file_title(teacher) if file.digest else teacher


def take_last_part(path: str) -> str:
    """Take the last part of a path as what it leads to is called, without the suffix of a table or an archive.

    A table that is called as any is, such as ``derm/labels.csv``, takes the name of its folder.
    """
    whole = PurePath(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 (of any text)
    stem, suffix = os.path.splitext(whole.name)  # noqa: PTH122
    if suffix.lower() == ".csv" and stem.lower() in _COMMON_NAMES:
        above = [part for part in whole.parent.parts[1:] if part.lower() not in _COMMON_NAMES]
        return above[-1] if above else stem
    return stem if suffix.lower() in (".csv", ".zip") else whole.name
