"""Preparing image files: decode in parallel, check everything, then commit to the decoded cache."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from udcd_bench.data import workers
from udcd_bench.data.cache import decode, prepared, problems, staging
from udcd_bench.data.cache.decode import DecodedFile
from udcd_bench.data.cache.options import OWN, RELEASED, Decoding, PreparedSet, PrepareOptions
from udcd_bench.data.cache.prepared import Rows
from udcd_bench.data.files.archives import FileRef
from udcd_bench.data.layouts.image_index import ImageIndex, Item
from udcd_bench.errors import UserError
from udcd_bench.runs import names

ANY = PrepareOptions(allow_incomplete=True)
"""What any prepared set answers to."""
CHUNK = 16
"""Files that a worker decodes per task."""
Chunk = Sequence[tuple[int, FileRef]]
"""Rows and their files."""
DecodedParts = Generator[list[DecodedFile], None, None]
DecodeChunk = Callable[[Chunk], list[DecodedFile]]


def check_size(size: int) -> None:
    """Check the side of the images in pixels. Raises UserError when it is too small or too large."""
    if not decode.MIN_SIZE <= size <= decode.MAX_SIZE:
        raise UserError(f"--size must be {decode.MIN_SIZE} to {decode.MAX_SIZE} pixels, not {size}.")


def check_depth(depth: int | None) -> None:
    """Check the bits that 16-bit greys use. Raises UserError when there are too few or too many."""
    if depth is not None and not decode.MIN_DEPTH <= depth <= decode.MAX_DEPTH:
        raise UserError(f"--depth must be {decode.MIN_DEPTH} to {decode.MAX_DEPTH} bits, not {depth}.")


def prepare_images(image_index: ImageIndex, target: Path, size: int, options: PrepareOptions) -> PreparedSet:
    """Decode the images of an index into ``target``, unless the same set is prepared there already.

    size: side of the images in pixels.

    Raises UserError when anything keeps the set from being complete, unless ``options.allow_incomplete``; nothing is
    written then.
    """
    check_size(size)
    check_depth(options.depth)
    if not image_index.items:
        causes = image_index.report.format_sentence(image_index.report.list_blocking())
        raise UserError(f"{image_index.source} holds no labelled images{': ' + causes if causes else ''}.")
    checksum = image_index.compute_checksum()
    if existing := find_existing(target, checksum, options):
        return refresh_report(existing, image_index)
    n = len(image_index.items)
    with staging.open_staging_dir(target, n, size) as folder:
        # another process may have prepared it while this one waited
        if existing := find_existing(target, checksum, options):
            return existing
        decode_chunk = functools.partial(
            decode.decode_rows,
            str(folder / prepared.ARRAY),
            prepared.HEADER_BYTES,
            size,
            decoding=_make_decoding(image_index, options),
        )
        files = _decode(image_index.items, decode_chunk, options)
        rows = _build_rows(image_index, files, target, options)
        readable = [file.row for file in files if not file.problem]
        _compact(folder / prepared.ARRAY, readable, n, size)
        staging.commit(folder, target, rows, size)
    return PreparedSet(target, rows.report, fresh=True, incomplete=rows.incomplete)


def find_existing(
    target: Path, checksum: str, options: PrepareOptions = ANY, *, check_pixels: bool = True
) -> PreparedSet | None:
    """Return the set in ``target`` if it is undamaged and was made from the source with this checksum.

    options: whether an incomplete set will be returned too, and how it must have been read; where nothing is said any
    will do. check_pixels: compare the array with its checksum.
    """
    try:
        manifest = prepared.read_manifest(target)
        if manifest is None or manifest.source_sha256 != checksum:
            return None
        if manifest.incomplete and not options.allow_incomplete:
            return None
        readings = (
            (options.depth, manifest.depth),
            (options.exif, manifest.exif),
            (options.resize, manifest.resize),
        )
        if any(wanted not in (None, present) for wanted, present in readings):
            return None
        if (
            prepared.lacks_digest(manifest)
            or prepared.lacks_reading(manifest)
            or prepared.lacks_copies(manifest)
        ):
            return None
        prepared.load(target, check_pixels=check_pixels)
    except UserError:  # a damaged one is prepared again
        return None
    return PreparedSet(target, manifest.report, fresh=False, incomplete=manifest.incomplete)


def refresh_report(existing: PreparedSet, image_index: ImageIndex) -> PreparedSet:
    """Bring the report of a prepared set up to date with its source, whose other files may have changed since.

    What only decoded images show is kept as it was; nothing is decoded. Where it cannot be written it is returned.
    """
    lines = image_index.report.refresh_lines(existing.report)
    if lines == list(existing.report):
        return existing
    with suppress(OSError, UserError):  # a read-only disk
        staging.replace_report(existing.path, lines)
    return replace(existing, report=lines)


def _make_decoding(image_index: ImageIndex, options: PrepareOptions) -> Decoding:
    return options.make_decoding(OWN if image_index.name.startswith(names.FOLDER) else RELEASED)


def _decode(items: Sequence[Item], decode_chunk: DecodeChunk, options: PrepareOptions) -> list[DecodedFile]:
    """Decode every item into its row of the array file; results in the order of the rows."""
    # Forwards through every archive: a zip within a zip cannot be read backwards without starting over.
    files = sorted(
        enumerate(item.file for item in items),
        key=lambda pair: (pair[1].path, pair[1].inside[:-1], pair[1].offset),
    )
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    if options.jobs <= 1 or len(files) <= 4 * CHUNK:  # a pool costs more than it saves
        parts = _decode_in_process(decode_chunk, chunks)
    else:
        parts = _decode_in_pool(decode_chunk, chunks, options.jobs)
    decoded: list[DecodedFile] = []
    with closing(parts):  # the pool ends at once when the callback raises
        for part in parts:
            decoded += part
            if options.progress is not None:
                options.progress(len(part), len(files))
    return sorted(decoded, key=lambda file: file.row)


def _decode_in_process(decode_chunk: DecodeChunk, chunks: Sequence[Chunk]) -> DecodedParts:
    try:
        for chunk in chunks:
            yield decode_chunk(chunk)
    finally:
        decode.close_archives()


def _decode_in_pool(decode_chunk: DecodeChunk, chunks: Sequence[Chunk], jobs: int) -> DecodedParts:
    """Decode chunks in worker processes. Raises UserError when one of them is killed."""
    tasks = [(chunk,) for chunk in chunks]
    with workers.open_pool(min(jobs, len(chunks))) as pool:
        try:
            for finished in as_completed(workers.submit_all(pool, decode_chunk, tasks)):
                yield finished.result()
        except BrokenProcessPool as error:
            raise UserError(
                "A decoding process was killed, likely for memory; try again with --jobs 1."
            ) from error
        except BaseException:
            workers.abandon(pool)
            raise


def _build_rows(
    image_index: ImageIndex, files: Sequence[DecodedFile], target: Path, options: PrepareOptions
) -> Rows:
    """Check the decoded set and describe it. Raises UserError when it may not be committed."""
    report, decoding = image_index.report.copy(), _make_decoding(image_index, options)
    pairs = problems.drop_unreadable(image_index, files, report)
    items = [item for item, _ in pairs]
    problems.report_duplicates(image_index, pairs, report)
    problems.report_counts(image_index, items, report)
    problems.report_values(image_index, pairs, report, options.depth)
    copies = problems.report_copies(image_index, pairs, report)
    checksum = image_index.compute_checksum()
    if image_index.name.startswith(names.FOLDER):
        image_index, pairs = problems.drop_lost_classes(image_index, pairs, report)
    items = [item for item, _ in pairs]
    n_classes = len(image_index.classes) if items else 0
    if n_classes < 2 or (report.list_blocking() and not options.allow_incomplete):
        raise UserError(problems.format_refusal(image_index, report, target, options, n_classes))
    splits = [item.split for item in items]
    return Rows(
        name=image_index.name,
        title=image_index.title,
        classes=image_index.classes,
        ids=[item.id for item in items],
        labels=[item.label for item in items],
        groups=_assign_groups(pairs),
        source_sha256=checksum,
        content_sha256=_hash_content(image_index.classes, pairs, decoding),
        own_split=splits if any(splits) else None,
        ordered=image_index.ordered,
        incomplete=problems.describe_incomplete(image_index, report, len(items)),
        source=image_index.source,
        report=report.format_lines(),
        depth=options.depth,
        copies=copies,
        exif=decoding.exif,
        resize=decoding.resize,
        group_column=image_index.group_column,
        column_given=options.group_column is not None,
    )


def _hash_content(
    classes: Sequence[str], pairs: Sequence[tuple[Item, DecodedFile]], decoding: Decoding
) -> str:
    """Hash what a set holds: classes, and of each image id, label, given group, split and the bytes of its file.

    How the files were read is in it where it is not as the released code reads them, and changed a pixel.
    """
    rows = sorted((item.id, item.label, item.group, item.split, file.file_sha256) for item, file in pairs)
    parts = [list(classes), rows, *([] if decoding.depth is None else [decoding.depth])]
    parts += ["upright"] if any("upright" in file.dropped for _, file in pairs) else []
    parts += [decoding.resize] if decoding.resize != RELEASED.resize else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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
