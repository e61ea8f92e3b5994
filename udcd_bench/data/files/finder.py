"""The files that a table's names mean, and what there is in place of one that is not found."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from udcd_bench.data.files.kinds import (
    IMAGE_SUFFIXES,
    OWN_SUFFIXES,
    UNREAD_FORMATS,
    decode_name,
    encode_name,
    get_suffix,
)
from udcd_bench.data.files.scan import make_forbidden_error
from udcd_bench.data.files.tables import normalize_nfc
from udcd_bench.errors import make_printable

REMOTE = re.compile(r"(https?|ftp|s3|gs)://", re.I)
ELSEWHERE = re.compile(r"[a-z]:[\\/]|\\\\", re.I)
"""A drive's letter, or a Windows server."""


class _Listing(NamedTuple):
    """The names in a folder: all, and those that are the same but for case and accents, or but for their suffix."""

    names: list[str]
    by_fold: dict[str, list[str]]
    images_by_stem: dict[str, list[str]]


class FileFinder:
    """The files that a table means, found in folders that are listed once each.

    Attributes
    ----------
    base: the table's folder. matched: the real path of each file that a row means, and the path it was found by.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.matched: dict[str, str] = {}
        self._listings: dict[Path, _Listing] = {}
        self._places: dict[str, tuple[str, str]] = {}

    def find(self, text: str) -> str | None:
        """Find the file of that name below ``base``: as written, or else the one that answers to it.

        Separators may be backslashes, accents in either form, the case and the suffix of the name another's. Where
        several files would answer, none does.
        """
        text = encode_name(_strip_scheme(text))
        as_written = os.path.join(self.base, text)  # noqa: PTH118 (pathlib raises where a name is too long, and is slow)
        if os.path.isfile(as_written):  # noqa: PTH113
            return as_written
        written = Path(text.replace("\\", "/"))
        path = Path(written.anchor) if written.is_absolute() else self.base
        for part in written.parent.relative_to(written.anchor).parts:
            if os.path.isdir(path / part):  # noqa: PTH112
                path = path / part
            elif len(same := self.list_folder(path).by_fold.get(_fold(part), [])) == 1:
                path = path / same[0]
            else:
                return None
        return self._find_last(path, written.name)

    def _find_last(self, folder: Path, name: str) -> str | None:
        listing = self.list_folder(folder)
        candidates = listing.by_fold.get(_fold(name), [])
        if not candidates:
            stems = {_fold(_strip_suffix(name)), _fold(name)}
            candidates = [other for stem in stems for other in listing.images_by_stem.get(stem, [])]
            # of a DICOM file and the picture that was made of it, the picture
            candidates = [other for other in candidates if get_suffix(other) in IMAGE_SUFFIXES] or candidates
        files = [str(folder / other) for other in candidates if os.path.isfile(folder / other)]  # noqa: PTH113
        return files[0] if len(files) == 1 else None

    def locate(self, file: str) -> tuple[str, str]:
        """Return the one path of a file whose folders may be links, and its path from ``base`` for people.

        Both are the same however a table spells the file. A link to a file is a file of its own.
        """
        folder, name = os.path.split(file)
        if folder not in self._places:
            below = os.path.relpath(folder, self.base).replace(os.sep, "/")
            self._places[folder] = (os.path.realpath(folder), "" if below == "." else f"{below}/")
        real, below = self._places[folder]
        return f"{real}/{name}", make_printable(normalize_nfc(decode_name(below + name)))

    def find_common_folder(self) -> str:
        """Find the innermost folder that holds all matched files, wherever the table lies."""
        folders = {os.path.dirname(os.path.abspath(path)) for path in self.matched.values()}  # noqa: PTH100, PTH120
        return os.path.commonpath(folders) if folders else ""

    def list_folder(self, folder: Path) -> _Listing:
        """List the names in a folder, none if there is no such folder. Raises UserError when it may not be read."""
        if folder not in self._listings:
            try:
                names = sorted(path.name for path in folder.iterdir())
            except PermissionError as error:
                raise make_forbidden_error(folder, error) from error
            except (OSError, ValueError):
                names = []
            by_fold: dict[str, list[str]] = {}
            by_stem: dict[str, list[str]] = {}
            for name in names:
                by_fold.setdefault(_fold(name), []).append(name)
                if get_suffix(name) in OWN_SUFFIXES:
                    by_stem.setdefault(_fold(_strip_suffix(name)), []).append(name)
            self._listings[folder] = _Listing(names, by_fold, by_stem)
        return self._listings[folder]

    def describe_missing(self, text: str) -> str:
        """Say what there is in place of a file that was not found. Raises UserError when it may not be looked for."""
        text = _strip_scheme(text)
        if REMOTE.match(text):
            return "it is a URL: download the images, and list their files"
        if ELSEWHERE.match(text):
            return "it is a path of another machine: make paths relative to the CSV"
        written = Path(text.replace("\\", "/"))
        folder = self.base / written.parent
        if os.path.isdir(self.base / text):  # noqa: PTH112
            return "it is a folder: list the images in it"
        try:
            (self.base / text).stat()
        except PermissionError as error:
            raise make_forbidden_error(self.base / text, error) from error
        except (OSError, ValueError):
            pass
        if not os.path.isdir(folder):  # noqa: PTH112
            if not written.is_absolute() and os.path.isfile(self.base / ".." / written):  # noqa: PTH113
                return "it is in the folder above, and paths are relative to the CSV: move the CSV there"
            return f"there is no folder {folder}, and paths are relative to the CSV"
        near = self.list_folder(folder).images_by_stem.get(_fold(_strip_suffix(written.name)), [])[:3]
        return f"{folder} has {', '.join(near)}" if near else f"it is not in {folder}"


def make_id(path: str, common: str) -> str:
    """Make the id of a listed image: its path from the folder of all, the same wherever that lies."""
    return make_printable(normalize_nfc(decode_name(os.path.relpath(path, common)))).replace(os.sep, "/")


def _fold(name: str) -> str:
    return normalize_nfc(decode_name(name)).casefold()


def _strip_suffix(name: str) -> str:
    """Strip the suffix of an image, also of a format that is not read: it may have been converted."""
    suffix = get_suffix(name)
    stem = name[:-3] if name.lower().endswith(".nii.gz") else name
    return stem[: -len(suffix)] if suffix in IMAGE_SUFFIXES | UNREAD_FORMATS else name


def _strip_scheme(text: str) -> str:
    """Turn ``file:///home/x%20y/1.png`` into the path that it means; any other text stays."""
    match = re.match(r"file://(localhost)?/(?=([a-z]:)?)", text, re.I)
    if match is None:
        return text
    return unquote(text[match.end() :] if match[2] else text[match.end() - 1 :])
