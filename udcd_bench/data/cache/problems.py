"""What decoded images show to be wrong with a set: duplicates, counts, values; and the words in which it is refused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from udcd_bench.data.cache import decode
from udcd_bench.data.cache.decode import DecodedFile
from udcd_bench.data.cache.options import PrepareOptions, format_prepare_command
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.layouts.image_index import ImageIndex, Item
from udcd_bench.runs import names


def drop_unreadable(
    image_index: ImageIndex, files: Sequence[DecodedFile], report: ValidationReport
) -> list[tuple[Item, DecodedFile]]:
    """Leave out the images whose files cannot be read, and report them."""
    pairs = list(zip(image_index.items, files, strict=True))
    for item, file in pairs:
        if file.problem:
            report.add("unreadable", f"{item.file.display_path} ({file.problem})")
    return [(item, file) for item, file in pairs if not file.problem]


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
    image_index: ImageIndex,
    pairs: Sequence[tuple[Item, DecodedFile]],
    report: ValidationReport,
    depth: int | None,
) -> None:
    """Report images that come out black or of one colour, 16-bit ones of fewer bits among them."""
    _report_depths([(item, file) for item, file in pairs if file.deep_max >= 0], report, depth)
    _report_class_depths(image_index, pairs, report, depth)
    explained = report.counts["depth"] + report.counts["deep_colour"] > 0
    for item, file in pairs:
        report_file(file, item.file.display_path, report, explained=explained and file.deep_max >= 0)
    is_wanted = depth is not None and all(file.deep_max >= 0 for _, file in pairs)  # the user has said so
    if report.counts["dark"] == len(pairs) and not is_wanted:
        report.block("dark")
    else:
        _report_flat_classes(image_index, pairs, report)


def report_file(file: DecodedFile, path: str, report: ValidationReport, *, explained: bool = False) -> None:
    """Report what one image has and its pixels have not, and whether it is black or of one colour.

    explained: why it is black is said already.
    """
    if file.highest <= decode.DARK and not explained:
        report.add("dark", f"{path} (at most {file.highest})")
    elif file.lowest == file.highest:
        report.add("blank", path)
    for kind in file.dropped:
        report.add(kind, path)


def _report_flat_classes(
    image_index: ImageIndex, pairs: Sequence[tuple[Item, DecodedFile]], report: ValidationReport
) -> None:
    """Report classes with nothing to see in any image; of 16-bit ones the depth is judged instead."""
    flat: dict[int, bool] = {}
    for item, file in pairs:
        is_flat = file.deep_max < 0 and (file.highest <= decode.DARK or file.lowest == file.highest)
        flat[item.label] = flat.get(item.label, True) and is_flat
    for label in sorted(label for label, is_flat in flat.items() if is_flat):
        report.add("one_colour", image_index.classes[label])


def _count_bits(files: Iterable[DecodedFile]) -> int:
    return max(max(file.deep_max for file in files).bit_length(), decode.MIN_DEPTH)


def _report_depths(
    deep: Sequence[tuple[Item, DecodedFile]], report: ValidationReport, depth: int | None
) -> None:
    """Report 16-bit images of which none uses all bits: grey without a depth, and colour, which has no depth."""
    for is_colour, kind in ((False, "depth"), (True, "deep_colour")):
        some = [(item, file) for item, file in deep if file.is_colour == is_colour]
        bits = _count_bits(file for _, file in some) if some else decode.MAX_DEPTH
        if some and depth is not None and not is_colour:
            report.note(f"16-bit images are read as of {depth} bits (--depth {depth})")
        elif bits < decode.MAX_DEPTH and depth != decode.MAX_DEPTH:
            for item, file in some:
                report.add(kind, f"{item.file.display_path} (at most {file.deep_max} of 65535)")
            fix = "convert them to 8 bits, as --depth is for grey" if is_colour else f"give --depth {bits}"
            name = "16-bit colour images" if is_colour else "16-bit images"
            report.note(f"{name} that use {bits} bits come out dark: {fix}, or --depth 16 to leave them")


def _report_class_depths(
    image_index: ImageIndex,
    pairs: Sequence[tuple[Item, DecodedFile]],
    report: ValidationReport,
    depth: int | None,
) -> None:
    """Report classes whose 16-bit images are all much darker than another's: the class would be the exposure."""
    by_class: dict[int, list[DecodedFile]] = defaultdict(list)
    for item, file in pairs:
        if file.deep_max >= 0:
            by_class[item.label].append(file)
    bits = {label: _count_bits(files) for label, files in sorted(by_class.items())}
    most = max(bits.values(), default=0)
    for label, n in bits.items():
        if n <= most - 2:
            report.add("exposure", f"{image_index.classes[label]} ({n} bits of {most})")
    if report.counts["exposure"] and depth is None:
        report.block("exposure")
        report.note(
            "16-bit images of some classes use fewer bits, so brightness alone may tell the classes apart: scale them "
            "alike, or give --depth 16 to leave them"
        )


def drop_lost_classes(
    image_index: ImageIndex, pairs: Sequence[tuple[Item, DecodedFile]], report: ValidationReport
) -> tuple[ImageIndex, list[tuple[Item, DecodedFile]]]:
    """Leave out the classes of own images that have no image, and report them; the others are numbered anew."""
    present = sorted({item.label for item, _ in pairs})
    for label, name in enumerate(image_index.classes):
        if label not in present:
            report.add("lost_class", f"{name} (no image of it can be used)")
    number = {old: new for new, old in enumerate(present)}
    smaller = replace(image_index, classes=tuple(image_index.classes[label] for label in present))
    return smaller, [(replace(item, label=number[item.label]), file) for item, file in pairs]


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


def report_copies(
    image_index: ImageIndex, pairs: Sequence[tuple[Item, DecodedFile]], report: ValidationReport
) -> str:
    """Report images that are all of one size which the originals do not have, and name them: ``128 px copies``.

    Where the originals have many sizes, images that are all one square are copies; of own images nothing is known.
    """
    sizes = {(file.width, file.height) for _, file in pairs}
    if image_index.name.startswith(names.FOLDER) or len(sizes) != 1:
        return ""
    ((width, height),) = sizes
    if (width, height) == image_index.original_size or (not image_index.original_size and width != height):
        return ""
    for item, _ in pairs:
        report.add("resized", f"{item.file.display_path} ({width}×{height})")
    return f"{min(width, height)} px copies"


def format_refusal(
    image_index: ImageIndex, report: ValidationReport, target: Path, options: PrepareOptions, n_classes: int
) -> str:
    """Say why nothing was written, all reasons together, and the command that goes on all the same.

    n_classes: with an image that can be used. depth: that was given.
    """
    lines = "\n".join(f"  {line}" for line in report.format_lines())
    if n_classes < 2:
        what = "images of one class only" if n_classes else "not one image"
        return f"{image_index.source}: {what} could be read, so nothing was written.\n{lines}"
    command = format_prepare_command(image_index.name, target, replace(options, allow_incomplete=True))
    return (
        f"{image_index.source} is not complete, so nothing was written:\n{lines}\n"
        f"Fix what is marked ✗, or go on all the same: `{command}`."
    )


def describe_incomplete(image_index: ImageIndex, report: ValidationReport, n_images: int) -> str:
    """Say in one sentence what a set lacks that was prepared all the same; empty if it lacks nothing."""
    blocking = report.list_blocking()
    if not blocking:
        return ""
    return f"Incomplete {image_index.title}: {n_images} images, with {report.format_sentence(blocking)}."
