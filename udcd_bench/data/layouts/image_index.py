"""What a layout reader returns, and what every reader needs: tables, ids brought to files, the one report."""

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

from udcd_bench.data.layouts.files import IMAGE_SUFFIXES, Archives, FileRef, ScannedFiles
from udcd_bench.errors import UserError, make_printable

# What can be wrong with a set of images: the words, and whether it keeps the set from being prepared.
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


class ValidationReport:
    """Everything found wrong, by kind: how many, and the first three examples of each."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(PROBLEM_KINDS, 0)
        self.examples: dict[str, list[str]] = {kind: [] for kind in PROBLEM_KINDS}

    def add(self, kind: str, example: str) -> None:
        """Count one more finding of `kind`."""
        self.counts[kind] += 1
        if len(self.examples[kind]) < 3:
            short = example if len(example) <= 300 else f"{example[:299]}…"
            self.examples[kind].append(make_printable(short))

    def list_blocking(self) -> list[str]:
        """The kinds found that keep the set from being called complete."""
        return [kind for kind, (_, blocks) in PROBLEM_KINDS.items() if blocks and self.counts[kind]]

    def format_lines(self) -> list[str]:
        """One line a kind: count, words, first examples."""
        found = []
        for kind, (words, blocks) in PROBLEM_KINDS.items():
            if n := self.counts[kind]:
                more = ", …" if n > len(self.examples[kind]) else ""
                mark = "✗" if blocks else "·"
                found.append(f"{mark} {n} {words}: {', '.join(self.examples[kind])}{more}")
        return found

    def format_sentence(self, kinds: Iterable[str]) -> str:
        """The kinds named, with counts and first examples, in a form that fits into one sentence."""
        return "; ".join(
            f"{self.counts[kind]} {PROBLEM_KINDS[kind][0]} ({', '.join(self.examples[kind])}"
            f"{', …' if self.counts[kind] > 3 else ''})"
            for kind in kinds
        )

    def copy(self) -> ValidationReport:
        """An independent copy, so that a listing can be prepared twice."""
        twin = ValidationReport()
        twin.counts = dict(self.counts)
        twin.examples = {kind: list(examples) for kind, examples in self.examples.items()}
        return twin


@dataclass(frozen=True)
class Item:
    """One labelled image: `group` names what must stay on one side of a split ("" = nothing but itself)."""

    id: str
    label: int
    file: FileRef
    group: str = ""
    split: str = ""


@dataclass(frozen=True)
class ExpectedCounts:
    """What the authors of a set say is in it."""

    counts: dict[str, int]
    groups: int | None = None
    group_word: str = "groups"


@dataclass
class ImageIndex:
    """What a layout reader makes of a folder: every usable image, and everything found wrong so far."""

    name: str
    title: str
    classes: tuple[str, ...]
    items: list[Item]
    report: ValidationReport
    expected: ExpectedCounts | None = None
    ordered: bool = False
    source: str = ""

    def compute_checksum(self) -> str:
        """Changes when any file, label, group or blocking finding does; costs no reading of images."""
        # the text that earlier caches were summed by, in which the class had another name
        expected = repr(self.expected).replace("ExpectedCounts(", "Published(", 1)
        head = f"({self.classes!r}, {expected}, {self.report.list_blocking()!r})"
        digest = hashlib.sha256(head.encode())
        for kind in self.report.list_blocking():
            digest.update(repr((kind, self.report.counts[kind], self.report.examples[kind])).encode())
        for item in self.items:
            where = item.file
            row = (item.id, item.label, item.group, item.split, where.name, where.size, where.stamp)
            digest.update(repr(row).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def read_table(file: FileRef, *columns: str) -> dict[str, list[str]]:
    """Column → cells of a CSV or tab-separated table, all of them text, stripped; `columns` must be there.

    Lines without any text are passed over.
    """
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
                says = f"{len(cells)} cells, and the header names {len(rows[0])} columns"
                raise UserError(f"{file.display_path} is not a table: line {lines.line_num} has {says}.")
            if any(cells):
                rows.append([cell.strip() for cell in cells])
    except csv.Error as error:
        raise UserError(f"{file.display_path} is not a table: line {lines.line_num}: {error}.") from error
    if not rows:
        raise UserError(f"{file.display_path} is not a table: it is empty.")
    header = rows.pop(0)
    for column in columns:
        if column not in header:
            found = ", ".join(header[:50])
            raise UserError(f"{file.display_path} has no column {column!r}; it has: {found[:1000]}.")
    if twice := [name for name, n in Counter(header).items() if name and n > 1]:
        raise UserError(f"{file.display_path} has two columns {twice[0]!r}.")
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def normalize_nfc(text: str) -> str:
    """Composed: a letter with an accent is one character on some systems and two on others."""
    return unicodedata.normalize("NFC", text)


def match_files(
    rows: Iterable[tuple[str, int | None, str, str]],
    files: ScannedFiles,
    report: ValidationReport,
    *,
    ignore: str,
    prefer: Callable[[FileRef], bool] = lambda where: True,
) -> list[Item]:
    """Bring labelled ids and files together, by id alone; items come out sorted by id.

    `rows` are (id, label or None when out of range, what the table said, group). Files below a folder that
    matches the pattern `ignore` need not be in the table; `prefer` decides between several files of one id.
    """
    images: dict[str, list[FileRef]] = {}
    for stem, same in files.images.items():
        images.setdefault(normalize_nfc(stem), []).extend(same)
    labels: dict[str, tuple[int | None, str, str]] = {}
    disputed: set[str] = set()
    for id_, label, said, group in rows:
        id_ = normalize_nfc(id_)
        id_ = id_[: -len(suffix)] if (suffix := PurePosixPath(id_).suffix).lower() in IMAGE_SUFFIXES else id_
        if id_ in labels:
            if labels[id_][0] == label:
                report.add("repeated", id_)
            else:
                report.add("conflict", f"{id_} ({labels[id_][1]} and {said})")
                disputed.add(id_)
            continue
        labels[id_] = (label, said, group)
        if label is None:
            report.add("range", f"{id_} ({said or 'empty'})")
    items = []
    for id_ in sorted(labels):
        label, _, group = labels[id_]
        found = images.get(id_, [])
        best = [where for where in found if prefer(where)] or found
        if not best:
            report.add("missing", id_)
        elif len({where.size for where in best}) > 1:
            report.add("ambiguous", f"{id_} ({best[0].display_path}, {best[1].display_path})")
        elif label is not None and id_ not in disputed:
            # A set unpacked twice holds each image twice: plain files before archives, then by name.
            where = min(best, key=lambda w: (bool(w.inside), w.display_path))
            items.append(Item(id_, label, where, group))
    for shown, why in files.broken:
        report.add("unreadable", f"{shown} ({why})")
    for stem in sorted(images.keys() - labels.keys()):
        for where in images[stem]:
            if not any(re.search(ignore, folder) for folder in where.folders):
                report.add("unlisted", where.display_path)
    return items
