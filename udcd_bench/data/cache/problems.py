"""What decoded images show to be wrong with a set: duplicates, counts, values; and the words in which it is refused."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from udcd_bench.data.cache import decode
from udcd_bench.data.cache.decode import DecodedFile
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.layouts.image_index import ImageIndex, Item


def report_duplicates(
    image_index: ImageIndex, pairs: Sequence[tuple[Item, DecodedFile]], report: ValidationReport
) -> None:
    """Report images that are the same, byte for byte or pixel for pixel, and those of them whose labels differ."""
    same_file: dict[str, str] = {}
    same_pixels: dict[str, list[Item]] = defaultdict(list)
    for item, file in pairs:
        if twins := same_pixels[file.pixels_sha256]:
            if file.file_sha256 in same_file:
                report.add("bytes", f"{item.id} = {same_file[file.file_sha256]}")
            else:
                report.add("pixels", f"{item.id} = {twins[0].id}")
        same_file.setdefault(file.file_sha256, item.id)
        twins.append(item)
    for twins in same_pixels.values():
        if len({item.label for item in twins}) > 1:
            report.add(
                "disputed", " = ".join(f"{item.id} ({image_index.classes[item.label]})" for item in twins[:4])
            )
    _report_copied_classes(image_index, list(same_pixels.values()), report)


def _report_copied_classes(
    image_index: ImageIndex, twins: Sequence[Sequence[Item]], report: ValidationReport
) -> None:
    """Report the classes whose images are all in one other class too, such as a backup of its folder."""
    pictures: dict[int, set[int]] = defaultdict(set)
    for picture, items in enumerate(twins):
        for item in items:
            pictures[item.label].add(picture)
    for label in sorted(pictures):
        others = [
            other
            for other in sorted(pictures)
            if pictures[label] < pictures[other] or (pictures[label] == pictures[other] and other < label)
        ]
        if others:
            report.add("copied_class", f"{image_index.classes[label]} = {image_index.classes[others[0]]}")


def report_values(
    pairs: Sequence[tuple[Item, DecodedFile]], report: ValidationReport, depth: int | None
) -> None:
    """Report images that come out black or of one colour, 16-bit ones of fewer bits among them."""
    deep = [(item, file.deep_max) for item, file in pairs if file.deep_max >= 0]
    largest = max((value for _, value in deep), default=0)
    bits = max(largest.bit_length(), decode.MIN_DEPTH)
    if depth is not None and deep:
        report.note(f"16-bit images are read as of {depth} bits (--depth {depth})")
    elif deep and bits < decode.MAX_DEPTH:
        for item, value in deep:
            report.add("depth", f"{item.file.display_path} (at most {value} of 65535)")
        report.note(
            f"16-bit images that use {bits} bits come out dark: give --depth {bits}, or --depth 16 to leave them"
        )
    for item, file in pairs:
        if file.highest <= decode.DARK and not (report.counts["depth"] and file.deep_max >= 0):
            report.add("dark", f"{item.file.display_path} (at most {file.highest})")
        elif file.lowest == file.highest:
            report.add("blank", item.file.display_path)
        for kind in file.dropped:
            report.add(kind, item.file.display_path)
    if (
        report.counts["dark"] == len(pairs) and depth is None
    ):  # with a depth the user has said how to read them
        report.block("dark")


def report_counts(image_index: ImageIndex, items: Sequence[Item], report: ValidationReport) -> None:
    """Report classes, and groups, whose numbers differ from the published ones."""
    expected = image_index.expected
    if expected is None:
        return
    counts = Counter(image_index.classes[item.label] for item in items)
    for name, count in expected.counts.items():
        if counts[name] != count:
            report.add("counts", f"{name} {counts[name]} instead of {count}")
    groups = len({item.group for item in items if item.group})
    if expected.groups not in (None, groups):
        report.add("counts", f"{expected.group_word} {groups} instead of {expected.groups}")


def format_refusal(
    image_index: ImageIndex, report: ValidationReport, target: Path, *, any_readable: bool
) -> str:
    """Say why nothing was written, all reasons together, and the command that goes on all the same."""
    lines = "\n".join(f"  {line}" for line in report.format_lines())
    if not any_readable:
        return f"{image_index.source}: not one image could be read, so nothing was written.\n{lines}"
    words = [image_index.name]
    if not image_index.name.startswith("folder:"):
        words += ["--from", image_index.source]
    words += ["--size", target.name]
    if (data := target.parent.parent) != Path("data"):
        words += ["--data", str(data)]
    return (
        f"{image_index.source} is not complete, so nothing was written:\n{lines}\n"
        "Fix what is marked ✗, or go on all the same: "
        f"`udcd-bench data prepare {shlex.join(words)} --allow-incomplete`."
    )


def describe_incomplete(image_index: ImageIndex, report: ValidationReport, n_images: int) -> str:
    """Say in one sentence what a set lacks that was prepared all the same; empty if it lacks nothing."""
    blocking = report.list_blocking()
    if not blocking:
        return ""
    return f"Incomplete {image_index.title}: {n_images} images, with {report.format_sentence(blocking)}."
