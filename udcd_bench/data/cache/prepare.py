"""From a listing of image files to the decoded cache: decode in parallel, check everything, then publish."""

from __future__ import annotations

import multiprocessing
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from udcd_bench.data import workers
from udcd_bench.data.cache import decode, prepared
from udcd_bench.data.cache.decode import DecodedFile
from udcd_bench.data.cache.prepared import Rows
from udcd_bench.data.layouts.image_index import ImageIndex, Item, ValidationReport
from udcd_bench.errors import UserError

CHUNK = 16
ProgressCallback = Callable[[int, int], object]  # how many more are done, of how many in all


@dataclass(frozen=True)
class PreparedSet:
    """Where a prepared set lies, what was found on the way, and whether it was there before."""

    path: Path
    report: Sequence[str]
    fresh: bool
    incomplete: str


def check_size(size: int) -> None:
    """Only sides that are of use to anyone."""
    if not decode.MIN_SIZE <= size <= decode.MAX_SIZE:
        raise UserError(f"--size must be {decode.MIN_SIZE} to {decode.MAX_SIZE} pixels, not {size}.")


def prepare_images(
    image_index: ImageIndex,
    target: Path,
    size: int,
    *,
    jobs: int = 1,
    allow_incomplete: bool = False,
    progress: ProgressCallback | None = None,
) -> PreparedSet:
    """Decode `listing` into `target` unless that has been done; nothing is left there unless all is well.

    `progress` is told how many more files have been decoded, and of how many.
    """
    check_size(size)
    if not image_index.items:
        found = image_index.report.format_sentence(image_index.report.list_blocking())
        raise UserError(f"{image_index.source} holds no labelled images{': ' + found if found else ''}.")
    source = image_index.compute_checksum()
    if done := find_existing(target, source, allow_incomplete):
        return done
    items, report = image_index.items, image_index.report.copy()
    with prepared.open_staging_dir(target, len(items), size) as work:
        if done := find_existing(target, source, allow_incomplete):  # another process did it while we waited
            return done
        rows = {done.row: done for done in _decode(work / prepared.ARRAY, items, size, jobs, progress)}
        for row, item in enumerate(items):
            if rows[row].problem:
                report.add("unreadable", f"{item.file.display_path} ({rows[row].problem})")
        kept = [row for row in range(len(items)) if not rows[row].problem]
        groups = _assign_groups(
            image_index, [items[row] for row in kept], [rows[row] for row in kept], report
        )
        _check_counts(image_index, [items[row] for row in kept], report)
        blocking = report.list_blocking()
        if not kept or (blocking and not allow_incomplete):
            raise UserError(_format_refusal(image_index, report, bool(kept)))
        _compact(work / prepared.ARRAY, kept, len(items), size)
        splits = [items[row].split for row in kept]
        made = Rows(
            name=image_index.name,
            title=image_index.title,
            classes=image_index.classes,
            ids=[items[row].id for row in kept],
            labels=[items[row].label for row in kept],
            groups=groups,
            source_sha256=source,
            own_split=splits if any(splits) else None,
            ordered=image_index.ordered,
            incomplete=_describe_incomplete(image_index, report, blocking, len(kept)),
            source=image_index.source,
            report=report.format_lines(),
        )
        prepared.commit(work, target, made, size)
    return PreparedSet(target, report.format_lines(), True, made.incomplete)


def find_existing(target: Path, source: str, allow_incomplete: bool) -> PreparedSet | None:
    """The set in `target` if it was made from the same source and passes for what is asked."""
    try:
        info = prepared.read_manifest(target)
        if info is None or info["source_sha256"] != source or (info["incomplete"] and not allow_incomplete):
            return None
        prepared.load(target, check_pixels=True)  # a damaged one is made anew
    except UserError:
        return None
    return PreparedSet(target, info["report"], False, info["incomplete"])


def _decode(
    path: Path, items: Sequence[Item], size: int, jobs: int, progress: ProgressCallback | None
) -> Iterator[DecodedFile]:
    # Forwards through every archive: a zip within a zip cannot be read backwards without starting over.
    files = sorted(
        enumerate(item.file for item in items),
        key=lambda pair: (pair[1].path, pair[1].inside[:-1], pair[1].offset),
    )
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]

    def notify(rows: list[DecodedFile]) -> list[DecodedFile]:
        if progress is not None:
            progress(len(rows), len(files))
        return rows

    if jobs <= 1 or len(files) <= 4 * CHUNK:  # a pool costs more than it saves
        try:
            for chunk in chunks:
                yield from notify(decode.decode_rows(str(path), prepared.HEADER_BYTES, size, chunk))
        finally:
            decode.close_archives()
        return
    # spawn: a fork of a process that has used threads or CUDA may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(chunks)), context, workers.start) as pool:
        try:
            waiting = [
                pool.submit(decode.decode_rows, str(path), prepared.HEADER_BYTES, size, chunk)
                for chunk in chunks
            ]
            for finished in as_completed(waiting):
                yield from notify(finished.result())
        except BrokenProcessPool as error:
            raise UserError(
                "A decoding process was killed, likely for memory; try again with --jobs 1."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def merge_groups(keys: Sequence[Iterable[str]]) -> list[int]:
    """Number n rows so that two share a number when they share a key, directly or through others."""
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


def _assign_groups(
    image_index: ImageIndex, items: Sequence[Item], rows: Sequence[DecodedFile], report: ValidationReport
) -> list[int]:
    """One number a lesion and its duplicates; reports the duplicates."""
    same_file: dict[str, str] = {}
    same_pixels: dict[str, list[Item]] = defaultdict(list)
    for item, row in zip(items, rows, strict=True):
        if twins := same_pixels[row.pixels_sha256]:
            if row.file_sha256 in same_file:
                report.add("bytes", f"{item.id} = {same_file[row.file_sha256]}")
            else:
                report.add("pixels", f"{item.id} = {twins[0].id}")
        same_file.setdefault(row.file_sha256, item.id)
        twins.append(item)
    for twins in same_pixels.values():
        if len({item.label for item in twins}) > 1:
            report.add(
                "disputed", " = ".join(f"{item.id} ({image_index.classes[item.label]})" for item in twins[:4])
            )
    pairs = zip(items, rows, strict=True)
    return merge_groups([[f"p{r.pixels_sha256}", *([f"g{i.group}"] if i.group else [])] for i, r in pairs])


def _check_counts(image_index: ImageIndex, items: Sequence[Item], report: ValidationReport) -> None:
    if image_index.expected is None:
        return
    held = Counter(image_index.classes[item.label] for item in items)
    for name, wanted in image_index.expected.counts.items():
        if held[name] != wanted:
            report.add("counts", f"{name} {held[name]} instead of {wanted}")
    groups = len({item.group for item in items if item.group})
    if image_index.expected.groups not in (None, groups):
        report.add(
            "counts", f"{image_index.expected.group_word} {groups} instead of {image_index.expected.groups}"
        )


def _format_refusal(image_index: ImageIndex, report: ValidationReport, any_readable: bool) -> str:
    lines = "\n".join(f"  {line}" for line in report.format_lines())
    if not any_readable:
        return f"{image_index.source}: not one image could be read, so nothing was written.\n{lines}"
    origin = "" if image_index.name.startswith("folder:") else f" --from {shlex.quote(image_index.source)}"
    return (
        f"{image_index.source} is not complete, so nothing was written:\n{lines}\n"
        "Mend what is marked ✗, or go on without those images: `udcd-bench data prepare "
        f"{shlex.quote(image_index.name)}{origin} --allow-incomplete`."
    )


def _describe_incomplete(
    image_index: ImageIndex, report: ValidationReport, blocking: Sequence[str], n_kept: int
) -> str:
    if not blocking:
        return ""
    return f"Incomplete {image_index.title}: {n_kept} images, with {report.format_sentence(blocking)}."


def _compact(path: Path, rows: Sequence[int], n: int, size: int) -> None:
    """Close the gaps that unreadable files left; rows only ever move towards the start."""
    if len(rows) == n:
        return
    row_bytes = size * size * 3
    fd = os.open(path, os.O_RDWR)
    try:
        for to, row in enumerate(rows):
            if to != row:
                os.pwrite(
                    fd,
                    os.pread(fd, row_bytes, prepared.HEADER_BYTES + row * row_bytes),
                    prepared.HEADER_BYTES + to * row_bytes,
                )
        os.ftruncate(fd, prepared.HEADER_BYTES + len(rows) * row_bytes)
        os.pwrite(fd, prepared.make_header(len(rows), size), 0)
    finally:
        os.close(fd)
