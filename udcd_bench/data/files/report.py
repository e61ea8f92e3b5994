"""The validation report: what is wrong with a set of images, what was left out and why, and what was understood."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from udcd_bench.errors import make_printable

MOST_LOST = 0.05
"""Share of the images used above which images lost to one reason keep a set from being prepared."""

PROBLEM_KINDS: dict[str, tuple[str, bool]] = {
    "counts": ("counts that differ from the published ones", True),
    "unreadable": ("files that are truncated or not images", True),
    "missing": ("ids without a file", True),
    "dangling": ("links that lead nowhere, or files not downloaded yet", True),
    "range": ("labels out of range", True),
    "unlabelled": ("rows without a label", True),
    "several": ("labels that join several labels of this set", True),
    "conflict": ("ids listed twice with different labels, groups or splits", True),
    "ambiguous": ("ids with several different files (leave one of each)", True),
    "lost_class": ("classes without an image that is read", True),
    "nameless": (
        "class folders whose names say nothing of what they hold (rename them, or move them out)",
        True,
    ),
    "variant": ("classes called as a variant of another's images (join them, or move them out)", True),
    "part_masks": (
        "classes of which some images pass for masks of another's (rename the folder, or move the masks out)",
        True,
    ),
    "copied_class": ("classes whose images are all copies of another class's", True),
    "depth": ("16-bit images whose values use fewer bits", True),
    "deep_colour": ("16-bit colour images whose values use fewer bits", True),
    "one_colour": ("classes whose images are all black to the eye, or of a single colour each", True),
    "exposure": ("classes whose 16-bit images are all darker than another's", False),
    "no_dicom": ("DICOM files (`pip install 'udcd-bench[dicom]'` reads them)", True),
    "format": ("image files of a format that is not read (convert them to PNG)", False),
    "archive": ("archives that are not read (unpack them)", False),
    "outside": ("image files outside the class folders", False),
    "one_sided": ("classes with images in some parts of the split only", False),
    "alike": ("class names that hardly differ", False),
    "joined": ("labels that may join several labels of this set", False),
    "no_label": ("class names that often stand for a missing label", False),
    "formula": ("class names that begin with =, as formulas do that were not computed", False),
    "groups": ("groups that hardly differ, and may be one", False),
    "dark": ("images without a value above 15 of 255 (masks? label maps?)", False),
    "blank": ("images of a single colour", False),
    "cut": ("JPEG files that seem cut: their lowest rows are one middle grey, or scans are missing", False),
    "frames": ("images of several frames, of which the first is used", False),
    "turned": ("images with an EXIF orientation, which is ignored", False),
    "upright": ("images that were turned upright by their EXIF orientation", False),
    "dicom": (
        "DICOM images, read by pydicom: the first frame, through the window that the file states",
        False,
    ),
    "unwindowed": ("DICOM images that state no window, scaled by all bits that they may use", False),
    "alpha": ("images with transparent parts, whose hidden colours are used", False),
    "clipped": ("16-bit images with a few pixels beyond --depth, which become white", False),
    "same_name": ("images that differ from another in the suffix of their name only", False),
    "repeated": ("ids listed twice with the same label", False),
    "unlisted": ("image files without an id", False),
    "respelt": ("names of the table that a file of another case, suffix or separator answers", False),
    "copies": ("further copies of an image, in another folder or archive", False),
    "replaced": ("entries of an archive that a later one of the same name replaces", False),
    "twice": ("links to folders that are read already", False),
    "masks": ("masks or thumbnails beside their images", False),
    "ignored": ("image files of other parts of the set", False),
    "bare": ("folders with other files only", False),
    "own": ("folders of results or prepared images of this program", False),
    "hidden": ("hidden files and caches", False),
    "other": ("other files", False),
    "bytes": ("images byte-identical to another", False),
    "pixels": ("images pixel-identical to another, in a different file", False),
    "disputed": ("groups of identical images with conflicting labels", False),
    "resized": ("images of one size that the originals do not have, so these are copies", False),
}
"""What can be said of a set of images: its description, and whether it keeps the set from being prepared.

Every entry below a folder that is given is an image used, a table that is read, or counted under one of these.
"""
PIXEL_KINDS = frozenset(
    ("counts", "unreadable", "lost_class", "depth", "deep_colour", "one_colour", "exposure", "dark", "blank", "cut",
     "frames", "turned", "upright", "dicom", "unwindowed", "alpha", "clipped", "bytes", "pixels", "disputed", "resized")
)  # fmt: skip
"""What only decoded images show; a class may be lost before too, which changes the set's checksum."""
PIXEL_NOTE = "· 16-bit"
"""The beginning of the sentences that only decoded images lead to."""


def _find_kind(line: str) -> str:
    """Find the kind that a line of the report is of; empty for a sentence."""
    for kind, (description, _) in PROBLEM_KINDS.items():
        if re.match(rf"[✗·] \d+ {re.escape(description)}: ", line):
            return kind
    return ""


class ValidationReport:
    """The problems of a set of images by kind: how many, and the first three examples of each; and plain sentences."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(PROBLEM_KINDS, 0)
        self.examples: dict[str, list[str]] = {kind: [] for kind in PROBLEM_KINDS}
        self.notes: list[str] = []
        self._blocking = {kind for kind, (_, blocks) in PROBLEM_KINDS.items() if blocks}

    def add(self, kind: str, example: str) -> None:
        """Count one more problem of this kind."""
        self.counts[kind] += 1
        if len(self.examples[kind]) < 3:
            short = example if len(example) <= 300 else f"{example[:299]}…"
            self.examples[kind].append(make_printable(short))

    def note(self, sentence: str) -> None:
        """Say how something was understood; once."""
        if (printable := make_printable(sentence)) not in self.notes:
            self.notes.append(printable)

    def block(self, kind: str) -> None:
        """Let a kind that usually does not keep the set from being prepared do so here."""
        self._blocking.add(kind)

    def block_large_losses(self, kinds: Iterable[str], n_images: int) -> None:
        """Block those of these kinds that lose more than ``MOST_LOST`` of the images used."""
        for kind in kinds:
            if self.counts[kind] > MOST_LOST * n_images:
                self.block(kind)

    def list_blocking(self) -> list[str]:
        """List the kinds present that keep the set from being complete."""
        return [kind for kind in PROBLEM_KINDS if kind in self._blocking and self.counts[kind]]

    def format_lines(self) -> list[str]:
        """Format one line per kind: count, description, first examples; ``✗`` marks those that block."""
        lines = []
        for kind, (description, _) in PROBLEM_KINDS.items():
            if n := self.counts[kind]:
                more = ", …" if n > len(self.examples[kind]) else ""
                mark = "✗" if kind in self._blocking else "·"
                lines.append(f"{mark} {n} {description}: {', '.join(self.examples[kind])}{more}")
        return lines + [f"· {sentence}" for sentence in self.notes]

    def refresh_lines(self, stored: Sequence[str]) -> list[str]:
        """Format lines as ``format_lines`` does, with those that only decoded images give taken from ``stored``."""
        pixel_lines = [
            line for line in stored if line.startswith(PIXEL_NOTE) or _find_kind(line) in PIXEL_KINDS
        ]
        known = {_find_kind(line) for line in pixel_lines} - {""}
        others = [line for line in self.format_lines() if _find_kind(line) not in known]
        order = [*PROBLEM_KINDS, ""]
        return sorted([*others, *pixel_lines], key=lambda line: order.index(_find_kind(line)))

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
        twin.notes = list(self.notes)
        twin._blocking = set(self._blocking)
        return twin
