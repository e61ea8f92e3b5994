"""The list of images that a layout reader returns, its validation report, and tools that every reader needs."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from udcd_bench.data.layouts.files import IMAGE_SUFFIXES, Archives, FileRef, ScannedFiles
from udcd_bench.errors import UserError, make_printable

PROBLEM_KINDS: dict[str, tuple[str, bool]] = {
    "counts": ("counts that differ from the published ones", True),
    "unreadable": ("files that are truncated or not images", True),
    "missing": ("ids without a file", True),
    "range": ("labels out of range", True),
    "conflict": ("ids listed twice with different labels", True),
    "ambiguous": ("ids with several different files", True),
    "repeated": ("ids listed twice with the same label", False),
    "unlisted": ("image files without an id", False),
    "bytes": ("images byte-identical to another", False),
    "pixels": ("images pixel-identical to another, in a different file", False),
    "disputed": ("groups of identical images with conflicting labels", False),
}
"""What can be wrong with a set of images: its description, and whether it keeps the set from being prepared."""


class ValidationReport:
    """The problems of a set of images by kind: how many, and the first three examples of each."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(PROBLEM_KINDS, 0)
        self.examples: dict[str, list[str]] = {kind: [] for kind in PROBLEM_KINDS}

    def add(self, kind: str, example: str) -> None:
        """Count one more problem of this kind."""
        self.counts[kind] += 1
        if len(self.examples[kind]) < 3:
            short = example if len(example) <= 300 else f"{example[:299]}…"
            self.examples[kind].append(make_printable(short))

    def list_blocking(self) -> list[str]:
        """List the kinds present that keep the set from being complete."""
        return [kind for kind, (_, blocks) in PROBLEM_KINDS.items() if blocks and self.counts[kind]]

    def format_lines(self) -> list[str]:
        """Format one line per kind: count, description, first examples; ``✗`` marks those that block."""
        lines = []
        for kind, (description, blocks) in PROBLEM_KINDS.items():
            if n := self.counts[kind]:
                more = ", …" if n > len(self.examples[kind]) else ""
                mark = "✗" if blocks else "·"
                lines.append(f"{mark} {n} {description}: {', '.join(self.examples[kind])}{more}")
        return lines

    def format_sentence(self, kinds: Iterable[str]) -> str:
        """Format these kinds, with counts and first examples, as part of a sentence."""
        return "; ".join(
            f"{self.counts[kind]} {PROBLEM_KINDS[kind][0]} ({', '.join(self.examples[kind])}"
            f"{', …' if self.counts[kind] > 3 else ''})"
            for kind in kinds
        )

    def copy(self) -> ValidationReport:
        """Make an independent copy, so that an index can be prepared twice."""
        twin = ValidationReport()
        twin.counts = dict(self.counts)
        twin.examples = {kind: list(examples) for kind, examples in self.examples.items()}
        return twin


class LabelRow(NamedTuple):
    """One row of a table of labels.

    Attributes
    ----------
    id: the image's. label: the class's number, None if it is out of range. text: the label as the table has it.
    group: images of one group must stay on one side of a split; empty if the image is alone.
    """

    id: str
    label: int | None
    text: str
    group: str


@dataclass(frozen=True)
class Item:
    """One labelled image.

    Attributes
    ----------
    group: images of one group must stay on one side of a split; empty if the image is alone.
    split: ``train``, ``val`` or ``test`` if the set prescribes it, else empty.
    """

    id: str
    label: int
    file: FileRef
    group: str = ""
    split: str = ""


@dataclass(frozen=True)
class ExpectedCounts:
    """The published numbers of a set: images by class, and groups."""

    counts: dict[str, int]
    groups: int | None = None
    group_word: str = "groups"


@dataclass
class ImageIndex:
    """What a layout reader returns: every usable image, and the problems seen so far.

    Attributes
    ----------
    name, title, classes, ordered: as in ``Dataset``.
    items: the images, in the order of the rows.
    report: the problems seen so far.
    expected: published numbers to compare with, if any.
    source: the path that was read.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    items: list[Item]
    report: ValidationReport
    expected: ExpectedCounts | None = None
    ordered: bool = False
    source: str = ""

    def compute_checksum(self) -> str:
        """Compute a checksum that changes when any file, label, group or blocking problem does; reads no image."""
        # the text that earlier caches were summed by, in which the class had another name
        expected = repr(self.expected).replace("ExpectedCounts(", "Published(", 1)
        head = f"({self.classes!r}, {expected}, {self.report.list_blocking()!r})"
        digest = hashlib.sha256(head.encode())
        for kind in self.report.list_blocking():
            digest.update(repr((kind, self.report.counts[kind], self.report.examples[kind])).encode())
        for item in self.items:
            file = item.file
            row = (item.id, item.label, item.group, item.split, file.name, file.size, file.stamp)
            digest.update(repr(row).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def read_table(file: FileRef, *columns: str) -> dict[str, list[str]]:
    """Read a CSV or tab-separated table: the cells of each column as stripped text. Empty lines are left out.

    columns: those that the table must have.

    Raises UserError when the file is no table, or a column is missing or ambiguous.
    """
    rows = _read_rows(file)
    header = rows.pop(0)
    for column in columns:
        if column not in header:
            names = ", ".join(header[:50])
            raise UserError(f"{file.display_path} has no column {column!r}; it has: {names[:1000]}.")
    if twice := [name for name, n in Counter(header).items() if name and n > 1]:
        raise UserError(f"{file.display_path} has two columns {twice[0]!r}.")
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _read_rows(file: FileRef) -> list[list[str]]:
    """Read the rows of a table, its header first. Raises UserError when it has none or their lengths differ."""
    with closing(Archives()) as archives:
        try:
            text = archives.read(file).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            raise UserError(f"{file.display_path} cannot be read: {error}.") from error
    separator = "\t" if "\t" in re.split(r"[\r\n]", text, maxsplit=1)[0] else ","
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    try:
        for cells in lines:
            if rows and any(cells) and len(cells) != len(rows[0]):
                widths = f"{len(cells)} cells, and the header names {len(rows[0])} columns"
                raise UserError(f"{file.display_path} is not a table: line {lines.line_num} has {widths}.")
            if any(cells):
                rows.append([cell.strip() for cell in cells])
    except csv.Error as error:
        raise UserError(f"{file.display_path} is not a table: line {lines.line_num}: {error}.") from error
    if not rows:
        raise UserError(f"{file.display_path} is not a table: it is empty.")
    return rows


def normalize_nfc(text: str) -> str:
    """Compose accents: a letter with an accent is one character on some systems and two on others."""
    return unicodedata.normalize("NFC", text)


def match_files(
    rows: Iterable[LabelRow],
    files: ScannedFiles,
    report: ValidationReport,
    *,
    ignore: str,
    prefer: Callable[[FileRef], bool] = lambda file: True,
) -> list[Item]:
    """Match labelled ids with files by id alone, and report what does not match; items come out sorted by id.

    ignore: a pattern; files below a folder that matches it may be missing from the table. prefer: decides between
    several files of one id.
    """
    images: dict[str, list[FileRef]] = {}
    for stem, copies in files.images.items():
        images.setdefault(normalize_nfc(stem), []).extend(copies)
    labels, disputed = _merge_rows(rows, report)
    items = []
    for id_ in sorted(labels):
        row = labels[id_]
        copies = images.get(id_, [])
        best = [file for file in copies if prefer(file)] or copies
        if not best:
            report.add("missing", id_)
        elif len({file.size for file in best}) > 1:
            report.add("ambiguous", f"{id_} ({best[0].display_path}, {best[1].display_path})")
        elif row.label is not None and id_ not in disputed:
            # A set unpacked twice holds each image twice: plain files before archives, then by name.
            file = min(best, key=lambda file: (bool(file.inside), file.display_path))
            items.append(Item(id_, row.label, file, row.group))
    for path, problem in files.broken:
        report.add("unreadable", f"{path} ({problem})")
    for stem in sorted(images.keys() - labels.keys()):
        for file in images[stem]:
            if not any(re.search(ignore, folder) for folder in file.folders):
                report.add("unlisted", file.display_path)
    return items


def _merge_rows(rows: Iterable[LabelRow], report: ValidationReport) -> tuple[dict[str, LabelRow], set[str]]:
    """Bring rows to one per id, and report repetitions and labels out of range.

    Returns the first row of every id, and the ids whose rows disagree.
    """
    labels: dict[str, LabelRow] = {}
    disputed: set[str] = set()
    for row in rows:
        id_ = normalize_nfc(row.id)
        id_ = id_[: -len(suffix)] if (suffix := PurePosixPath(id_).suffix).lower() in IMAGE_SUFFIXES else id_
        if id_ in labels:
            if labels[id_].label == row.label:
                report.add("repeated", id_)
            else:
                report.add("conflict", f"{id_} ({labels[id_].text} and {row.text})")
                disputed.add(id_)
            continue
        labels[id_] = row
        if row.label is None:
            report.add("range", f"{id_} ({row.text or 'empty'})")
    return labels, disputed
