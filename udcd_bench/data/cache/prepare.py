"""Preparing image files: decode in parallel, check everything, then commit to the decoded cache."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path

from udcd_bench.data import workers
from udcd_bench.data.cache import decode, prepared, staging
from udcd_bench.data.cache.decode import DecodedFile
from udcd_bench.data.cache.options import PreparedSet, PrepareOptions
from udcd_bench.data.cache.prepared import Rows
from udcd_bench.data.layouts.files import FileRef
from udcd_bench.data.layouts.image_index import ImageIndex, Item, ValidationReport
from udcd_bench.errors import UserError, quote_command

CHUNK = 16
"""Files that a worker decodes per task."""
Chunk = Sequence[tuple[int, FileRef]]
"""Rows and their files."""
DecodedParts = Generator[list[DecodedFile], None, None]


def check_size(size: int) -> None:
    """Check the side of the images in pixels. Raises UserError when it is too small or too large."""
    if not decode.MIN_SIZE <= size <= decode.MAX_SIZE:
        raise UserError(f"--size must be {decode.MIN_SIZE} to {decode.MAX_SIZE} pixels, not {size}.")


def prepare_images(image_index: ImageIndex, target: Path, size: int, options: PrepareOptions) -> PreparedSet:
    """Decode the images of an index into ``target``, unless the same set is prepared there already.

    size: side of the images in pixels.

    Raises UserError when anything keeps the set from being complete, unless ``options.allow_incomplete``; nothing is
    written then.
    """
    check_size(size)
    if not image_index.items:
        problems = image_index.report.format_sentence(image_index.report.list_blocking())
        raise UserError(
            f"{image_index.source} holds no labelled images{': ' + problems if problems else ''}."
        )
    checksum = image_index.compute_checksum()
    allow_incomplete = options.allow_incomplete
    if existing := find_existing(target, checksum, allow_incomplete=allow_incomplete):
        return existing
    n = len(image_index.items)
    with staging.open_staging_dir(target, n, size) as folder:
        # another process may have prepared it while this one waited
        if existing := find_existing(target, checksum, allow_incomplete=allow_incomplete):
            return existing
        files = _decode(folder / prepared.ARRAY, image_index.items, size, options)
        rows = _build_rows(image_index, files, checksum, allow_incomplete=allow_incomplete)
        readable = [file.row for file in files if not file.problem]
        _compact(folder / prepared.ARRAY, readable, n, size)
        staging.commit(folder, target, rows, size)
    return PreparedSet(target, rows.report, fresh=True, incomplete=rows.incomplete)


def find_existing(target: Path, checksum: str, *, allow_incomplete: bool = True) -> PreparedSet | None:
    """Return the set in ``target`` if it is undamaged and was made from the source with this checksum.

    allow_incomplete: whether an incomplete set will be returned too.
    """
    try:
        manifest = prepared.read_manifest(target)
        if manifest is None or manifest.source_sha256 != checksum:
            return None
        if manifest.incomplete and not allow_incomplete:
            return None
        prepared.load(target, check_pixels=True)
    except UserError:  # a damaged one is prepared again
        return None
    return PreparedSet(target, manifest.report, fresh=False, incomplete=manifest.incomplete)


def _decode(path: Path, items: Sequence[Item], size: int, options: PrepareOptions) -> list[DecodedFile]:
    """Decode every item into its row of the array file at ``path``; results in the order of the rows."""
    # Forwards through every archive: a zip within a zip cannot be read backwards without starting over.
    files = sorted(
        enumerate(item.file for item in items),
        key=lambda pair: (pair[1].path, pair[1].inside[:-1], pair[1].offset),
    )
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    if options.jobs <= 1 or len(files) <= 4 * CHUNK:  # a pool costs more than it saves
        parts = _decode_in_process(path, size, chunks)
    else:
        parts = _decode_in_pool(path, size, chunks, options.jobs)
    decoded: list[DecodedFile] = []
    with closing(parts):  # the pool ends at once when the callback raises
        for part in parts:
            decoded += part
            if options.progress is not None:
                options.progress(len(part), len(files))
    return sorted(decoded, key=lambda file: file.row)


def _decode_in_process(path: Path, size: int, chunks: Sequence[Chunk]) -> DecodedParts:
    try:
        for chunk in chunks:
            yield decode.decode_rows(str(path), prepared.HEADER_BYTES, size, chunk)
    finally:
        decode.close_archives()


def _decode_in_pool(path: Path, size: int, chunks: Sequence[Chunk], jobs: int) -> DecodedParts:
    """Decode chunks in worker processes. Raises UserError when one of them is killed."""
    tasks = [(str(path), prepared.HEADER_BYTES, size, chunk) for chunk in chunks]
    with workers.open_pool(min(jobs, len(chunks))) as pool:
        try:
            for finished in as_completed(workers.submit_all(pool, decode.decode_rows, tasks)):
                yield finished.result()
        except BrokenProcessPool as error:
            raise UserError(
                "A decoding process was killed, likely for memory; try again with --jobs 1."
            ) from error
        except BaseException:
            workers.abandon(pool)
            raise


def _build_rows(
    image_index: ImageIndex, files: Sequence[DecodedFile], checksum: str, *, allow_incomplete: bool
) -> Rows:
    """Check the decoded set and describe it. Raises UserError when it may not be committed."""
    report = image_index.report.copy()
    pairs = list(zip(image_index.items, files, strict=True))
    for item, file in pairs:
        if file.problem:
            report.add("unreadable", f"{item.file.display_path} ({file.problem})")
    pairs = [(item, file) for item, file in pairs if not file.problem]
    items = [item for item, _ in pairs]
    _report_duplicates(image_index, pairs, report)
    _check_counts(image_index, items, report)
    blocking = report.list_blocking()
    if not items or (blocking and not allow_incomplete):
        raise UserError(_format_refusal(image_index, report, any_readable=bool(items)))
    splits = [item.split for item in items]
    return Rows(
        name=image_index.name,
        title=image_index.title,
        classes=image_index.classes,
        ids=[item.id for item in items],
        labels=[item.label for item in items],
        groups=_assign_groups(pairs),
        source_sha256=checksum,
        own_split=splits if any(splits) else None,
        ordered=image_index.ordered,
        incomplete=_describe_incomplete(image_index, report, len(items)),
        source=image_index.source,
        report=report.format_lines(),
    )


def merge_groups(keys: Sequence[Iterable[str]]) -> list[int]:
    """Number rows so that two share a number when they share a key, directly or through other rows.

    keys: the keys of each row. Returns one number per row, counted up from 0 in order of first appearance.
    """
    parent = list(range(len(keys)))

    def find_root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for row, row_keys in enumerate(keys):
        for key in row_keys:
            a, b = find_root(first.setdefault(key, row)), find_root(row)
            parent[max(a, b)] = min(a, b)
    number: dict[int, int] = {}
    return [number.setdefault(find_root(row), len(number)) for row in range(len(keys))]


def _assign_groups(pairs: Sequence[tuple[Item, DecodedFile]]) -> list[int]:
    """Number the groups: one number for a lesion (or patient) and all its duplicates."""
    return merge_groups(
        [[f"p{file.pixels_sha256}", *([f"g{item.group}"] if item.group else [])] for item, file in pairs]
    )


def _report_duplicates(
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


def _check_counts(image_index: ImageIndex, items: Sequence[Item], report: ValidationReport) -> None:
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


def _format_refusal(image_index: ImageIndex, report: ValidationReport, *, any_readable: bool) -> str:
    lines = "\n".join(f"  {line}" for line in report.format_lines())
    if not any_readable:
        return f"{image_index.source}: not one image could be read, so nothing was written.\n{lines}"
    origin = () if image_index.name.startswith("folder:") else ("--from", image_index.source)
    again = quote_command("data", "prepare", image_index.name, *origin, "--allow-incomplete")
    return (
        f"{image_index.source} is not complete, so nothing was written:\n{lines}\n"
        f"Fix what is marked ✗, or go on without those images: `{again}`."
    )


def _describe_incomplete(image_index: ImageIndex, report: ValidationReport, n_images: int) -> str:
    blocking = report.list_blocking()
    if not blocking:
        return ""
    return f"Incomplete {image_index.title}: {n_images} images, with {report.format_sentence(blocking)}."


def _compact(path: Path, rows: Sequence[int], n: int, size: int) -> None:
    """Close the gaps that unreadable files left in an array of ``n`` rows; ``rows`` are those that stay, ascending."""
    if len(rows) == n:
        return
    row_bytes = size * size * 3
    descriptor = os.open(path, os.O_RDWR)
    try:
        for new, old in enumerate(rows):
            if new != old:
                pixels = os.pread(descriptor, row_bytes, prepared.HEADER_BYTES + old * row_bytes)
                os.pwrite(descriptor, pixels, prepared.HEADER_BYTES + new * row_bytes)
        os.ftruncate(descriptor, prepared.HEADER_BYTES + len(rows) * row_bytes)
        os.pwrite(descriptor, prepared.make_header(len(rows), size), 0)
    finally:
        os.close(descriptor)
