"""The list of images that a layout reader returns, and the matching of labels with files by id."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from udcd_bench.data.files.archives import FileRef, have_same_content
from udcd_bench.data.files.kinds import IMAGE_SUFFIXES
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import ScannedFiles
from udcd_bench.data.files.tables import normalize_nfc

TOLD_LOSSES = ("format", "archive", "outside", "masks", "bare")
"""Kinds of what was left out that change a set's checksum even where they do not block."""


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
    original_size: width and height of every image as published; None where they differ.
    group_column: as in ``Dataset``.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    items: list[Item]
    report: ValidationReport
    expected: ExpectedCounts | None = None
    ordered: bool = False
    source: str = ""
    original_size: tuple[int, int] | None = None
    group_column: str = ""

    def compute_checksum(self) -> str:
        """Compute a checksum that changes when any file, label, group or blocking problem does; reads no image."""
        # the text that earlier caches were summed by, in which the class had another name
        expected = repr(self.expected).replace("ExpectedCounts(", "Published(", 1)
        head = f"({self.classes!r}, {expected}, {self.report.list_blocking()!r})"
        digest = hashlib.sha256(head.encode())
        for kind in self.report.list_blocking():
            digest.update(repr((kind, self.report.counts[kind], self.report.examples[kind])).encode())
        if losses := [(kind, self.report.counts[kind]) for kind in TOLD_LOSSES if self.report.counts[kind]]:
            digest.update(repr(losses).encode())  # or a set prepared earlier would show its old report
        for item in self.items:
            file = item.file
            row = (item.id, item.label, item.group, item.split, file.name, file.size, file.stamp)
            digest.update(repr(row).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


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
    respelt = _match_case(labels.keys(), images.keys())
    items = []
    for id_ in sorted(labels):
        row = labels[id_]
        copies = images.get(respelt.get(id_, id_), [])
        best = sorted([file for file in copies if prefer(file)] or copies, key=_rank_copy)
        if not best:
            report.add("missing", id_)
        elif len(best) > 1 and not have_same_content(best):
            report.add("ambiguous", f"{id_} ({best[0].display_path}, {best[1].display_path})")
        else:
            for file in copies:
                if file is not best[0]:
                    report.add("copies", file.display_path)
            if id_ in respelt:
                report.add("respelt", f"{id_} → {best[0].display_path}")
            if row.label is not None and id_ not in disputed:
                items.append(Item(id_, row.label, best[0], row.group))
    unlisted = sorted(images.keys() - labels.keys() - set(respelt.values()))
    _report_unlisted([file for stem in unlisted for file in images[stem]], report, ignore)
    files.report_left_out(report)
    return items


def _report_unlisted(files: Iterable[FileRef], report: ValidationReport, ignore: str) -> None:
    """Report files that the table does not name, those below a folder that matches ``ignore`` apart."""
    for file in files:
        is_ignored = any(re.search(ignore, folder) for folder in file.folders)
        report.add("ignored" if is_ignored else "unlisted", file.display_path)


def _match_case(ids: Set[str], stems: Set[str]) -> dict[str, str]:
    """Match the ids without a file with the one file that no id has and that differs from it in case only."""
    free: dict[str, list[str]] = {}
    for stem in stems - ids:
        free.setdefault(stem.casefold(), []).append(stem)
    wanted = Counter(id_.casefold() for id_ in ids - stems)
    candidates = {id_: free.get(id_.casefold(), []) for id_ in ids - stems}
    return {
        id_: same[0] for id_, same in candidates.items() if len(same) == 1 and wanted[id_.casefold()] == 1
    }


def _rank_copy(file: FileRef) -> tuple[bool, str]:
    """Rank the files of one id, as a set unpacked twice has them: plain files before archives, then by name."""
    return bool(file.inside), file.display_path


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
