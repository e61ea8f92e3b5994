"""What a layout reader returns, and what every reader needs: tables, ids brought to files, the one report."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from udcd_bench.data.files import IMAGE_SUFFIXES, Archives, Files, Where
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

# What can be wrong with a set of images: the words, and whether it keeps the set from being prepared.
KINDS: dict[str, tuple[str, bool]] = {
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


class Report:
    """Everything found wrong, by kind: how many, and the first three examples of each."""

    def __init__(self) -> None:
        self.count = dict.fromkeys(KINDS, 0)
        self.examples: dict[str, list[str]] = {kind: [] for kind in KINDS}

    def add(self, kind: str, example: str) -> None:
        """Count one more finding of `kind`."""
        self.count[kind] += 1
        if len(self.examples[kind]) < 3:
            self.examples[kind].append(example)

    def blocking(self) -> list[str]:
        """The kinds found that keep the set from being called complete."""
        return [kind for kind, (_, blocks) in KINDS.items() if blocks and self.count[kind]]

    def lines(self) -> list[str]:
        """One line a kind: count, words, first examples."""
        found = []
        for kind, (words, blocks) in KINDS.items():
            if n := self.count[kind]:
                more = ", …" if n > len(self.examples[kind]) else ""
                mark = "✗" if blocks else "·"
                found.append(f"{mark} {n} {words}: {', '.join(self.examples[kind])}{more}")
        return found

    def sentence(self, kinds: Iterable[str]) -> str:
        """The kinds named, with counts and first examples, in a form that fits into one sentence."""
        return "; ".join(
            f"{self.count[kind]} {KINDS[kind][0]} ({', '.join(self.examples[kind])}"
            f"{', …' if self.count[kind] > 3 else ''})"
            for kind in kinds
        )

    def copy(self) -> Report:
        """An independent copy, so that a listing can be prepared twice."""
        twin = Report()
        twin.count = dict(self.count)
        twin.examples = {kind: list(examples) for kind, examples in self.examples.items()}
        return twin


@dataclass(frozen=True)
class Item:
    """One labelled image: `group` names what must stay on one side of a split ("" = nothing but itself)."""

    id: str
    label: int
    where: Where
    group: str = ""
    split: str = ""


@dataclass(frozen=True)
class Published:
    """What the authors of a set say is in it."""

    counts: dict[str, int]
    groups: int | None = None
    group_word: str = "groups"


@dataclass
class Listing:
    """What a layout reader makes of a folder: every usable image, and everything found wrong so far."""

    name: str
    title: str
    classes: tuple[str, ...]
    items: list[Item]
    report: Report
    published: Published | None = None
    ordered: bool = False
    source: str = ""

    def checksum(self) -> str:
        """Changes when any file, label, group or blocking finding does; costs no reading of images."""
        digest = hashlib.sha256(repr((self.classes, self.published, self.report.blocking())).encode())
        for kind in self.report.blocking():
            digest.update(repr((kind, self.report.count[kind], self.report.examples[kind])).encode())
        for item in self.items:
            where = item.where
            row = (item.id, item.label, item.group, item.split, where.name, where.size, where.stamp)
            digest.update(repr(row).encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def read_table(where: Where, *columns: str) -> pd.DataFrame:
    """A CSV or tab-separated table as text, its names and cells stripped; `columns` must be there."""
    import pandas as pd

    with closing(Archives()) as archives:
        try:
            data = archives.read(where)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{where.shown} cannot be read: {error}.") from error
    separator = "\t" if b"\t" in data.split(b"\n", 1)[0] else ","
    try:
        # Text throughout: an id such as "007" or "NA" must survive.
        table = pd.read_csv(
            BytesIO(data), sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{where.shown} is not a table: {str(error).strip().splitlines()[0]}.") from error
    table.columns = table.columns.str.strip()
    for column in columns:
        if column not in table.columns:
            found = ", ".join(table.columns)
            raise UserError(f"{where.shown} has no column {column!r}; it has: {found}.")
    for column in table.columns:
        table[column] = table[column].str.strip()
    return table


def match(
    rows: Iterable[tuple[str, int | None, str, str]],
    files: Files,
    report: Report,
    *,
    ignore: str,
    prefer: Callable[[Where], bool] = lambda where: True,
) -> list[Item]:
    """Bring labelled ids and files together, by id alone; items come out sorted by id.

    `rows` are (id, label or None when out of range, what the table said, group). Files below a folder that
    matches the pattern `ignore` need not be in the table; `prefer` decides between several files of one id.
    """
    labels: dict[str, tuple[int | None, str, str]] = {}
    disputed: set[str] = set()
    for id_, label, said, group in rows:
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
        found = files.images.get(id_, [])
        best = [where for where in found if prefer(where)] or found
        if not best:
            report.add("missing", id_)
        elif len({where.size for where in best}) > 1:
            report.add("ambiguous", f"{id_} ({best[0].shown}, {best[1].shown})")
        elif label is not None and id_ not in disputed:
            # A set unpacked twice holds each image twice: plain files before archives, then by name.
            where = min(best, key=lambda w: (bool(w.inside), w.shown))
            items.append(Item(id_, label, where, group))
    for shown, why in files.broken:
        report.add("unreadable", f"{shown} ({why})")
    for stem in sorted(files.images.keys() - labels.keys()):
        for where in files.images[stem]:
            if not any(re.search(ignore, folder) for folder in where.folders):
                report.add("unlisted", where.shown)
    return items
