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
from udcd_bench.data.cache.decode import Decoded
from udcd_bench.data.cache.prepared import Rows
from udcd_bench.data.layouts.image_index import Item, Listing, Report
from udcd_bench.errors import UserError

CHUNK = 16
Progress = Callable[[int, int], object]  # how many more are done, of how many in all


@dataclass(frozen=True)
class Prepared:
    """Where a prepared set lies, what was found on the way, and whether it was there before."""

    path: Path
    report: Sequence[str]
    fresh: bool
    incomplete: str


def check_size(size: int) -> None:
    """Only sides that are of use to anyone."""
    if not decode.SMALLEST <= size <= decode.LARGEST:
        raise UserError(f"--size must be {decode.SMALLEST} to {decode.LARGEST} pixels, not {size}.")


def prepare(
    listing: Listing,
    target: Path,
    size: int,
    *,
    jobs: int = 1,
    allow_incomplete: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Decode `listing` into `target` unless that has been done; nothing is left there unless all is well.

    `progress` is told how many more files have been decoded, and of how many.
    """
    check_size(size)
    if not listing.items:
        found = listing.report.sentence(listing.report.blocking())
        raise UserError(f"{listing.source} holds no labelled images{': ' + found if found else ''}.")
    source = listing.checksum()
    if done := existing(target, source, allow_incomplete):
        return done
    items, report = listing.items, listing.report.copy()
    with prepared.incoming(target, len(items), size) as work:
        if done := existing(target, source, allow_incomplete):  # another process did it while we waited
            return done
        rows = {done.row: done for done in _decode(work / prepared.ARRAY, items, size, jobs, progress)}
        for row, item in enumerate(items):
            if rows[row].problem:
                report.add("unreadable", f"{item.where.shown} ({rows[row].problem})")
        kept = [row for row in range(len(items)) if not rows[row].problem]
        groups = _groups(listing, [items[row] for row in kept], [rows[row] for row in kept], report)
        _check_published(listing, [items[row] for row in kept], report)
        blocking = report.blocking()
        if not kept or (blocking and not allow_incomplete):
            raise UserError(_refusal(listing, report, bool(kept)))
        _compact(work / prepared.ARRAY, kept, len(items), size)
        splits = [items[row].split for row in kept]
        made = Rows(
            name=listing.name,
            title=listing.title,
            classes=listing.classes,
            ids=[items[row].id for row in kept],
            labels=[items[row].label for row in kept],
            groups=groups,
            source_sha256=source,
            own_split=splits if any(splits) else None,
            ordered=listing.ordered,
            incomplete=_incomplete(listing, report, blocking, len(kept)),
            source=listing.source,
            report=report.lines(),
        )
        prepared.publish(work, target, made, size)
    return Prepared(target, report.lines(), True, made.incomplete)


def existing(target: Path, source: str, allow_incomplete: bool) -> Prepared | None:
    """The set in `target` if it was made from the same source and passes for what is asked."""
    try:
        info = prepared.manifest(target)
        if info is None or info["source_sha256"] != source or (info["incomplete"] and not allow_incomplete):
            return None
        prepared.load(target, whole=True)  # a damaged one is made anew
    except UserError:
        return None
    return Prepared(target, info["report"], False, info["incomplete"])


def _decode(
    path: Path, items: Sequence[Item], size: int, jobs: int, progress: Progress | None
) -> Iterator[Decoded]:
    # Forwards through every archive: a zip within a zip cannot be read backwards without starting over.
    files = sorted(
        enumerate(item.where for item in items),
        key=lambda pair: (pair[1].path, pair[1].inside[:-1], pair[1].offset),
    )
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]

    def told(rows: list[Decoded]) -> list[Decoded]:
        if progress is not None:
            progress(len(rows), len(files))
        return rows

    if jobs <= 1 or len(files) <= 4 * CHUNK:  # a pool costs more than it saves
        try:
            for chunk in chunks:
                yield from told(decode.decode_rows(str(path), prepared.HEADER, size, chunk))
        finally:
            decode.close_archives()
        return
    # spawn: a fork of a process that has used threads or CUDA may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(chunks)), context, workers.start) as pool:
        try:
            waiting = [
                pool.submit(decode.decode_rows, str(path), prepared.HEADER, size, chunk) for chunk in chunks
            ]
            for finished in as_completed(waiting):
                yield from told(finished.result())
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

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for row, row_keys in enumerate(keys):
        for key in row_keys:
            a, b = root(first.setdefault(key, row)), root(row)
            parent[max(a, b)] = min(a, b)
    number: dict[int, int] = {}
    return [number.setdefault(root(row), len(number)) for row in range(len(keys))]


def _groups(listing: Listing, items: Sequence[Item], rows: Sequence[Decoded], report: Report) -> list[int]:
    """One number a lesion and its duplicates; reports the duplicates."""
    same_file: dict[str, str] = {}
    same_pixels: dict[str, list[Item]] = defaultdict(list)
    for item, row in zip(items, rows, strict=True):
        if twins := same_pixels[row.pixels]:
            if row.file in same_file:
                report.add("bytes", f"{item.id} = {same_file[row.file]}")
            else:
                report.add("pixels", f"{item.id} = {twins[0].id}")
        same_file.setdefault(row.file, item.id)
        twins.append(item)
    for twins in same_pixels.values():
        if len({item.label for item in twins}) > 1:
            report.add(
                "disputed", " = ".join(f"{item.id} ({listing.classes[item.label]})" for item in twins[:4])
            )
    pairs = zip(items, rows, strict=True)
    return merge_groups([[f"p{r.pixels}", *([f"g{i.group}"] if i.group else [])] for i, r in pairs])


def _check_published(listing: Listing, items: Sequence[Item], report: Report) -> None:
    if listing.published is None:
        return
    held = Counter(listing.classes[item.label] for item in items)
    for name, wanted in listing.published.counts.items():
        if held[name] != wanted:
            report.add("counts", f"{name} {held[name]} instead of {wanted}")
    groups = len({item.group for item in items if item.group})
    if listing.published.groups not in (None, groups):
        report.add("counts", f"{listing.published.group_word} {groups} instead of {listing.published.groups}")


def _refusal(listing: Listing, report: Report, some: bool) -> str:
    lines = "\n".join(f"  {line}" for line in report.lines())
    if not some:
        return f"{listing.source}: not one image could be read, so nothing was written.\n{lines}"
    origin = "" if listing.name.startswith("folder:") else f" --from {shlex.quote(listing.source)}"
    return (
        f"{listing.source} is not complete, so nothing was written:\n{lines}\n"
        "Mend what is marked ✗, or go on without those images: `udcd-bench data prepare "
        f"{shlex.quote(listing.name)}{origin} --allow-incomplete`."
    )


def _incomplete(listing: Listing, report: Report, blocking: Sequence[str], kept: int) -> str:
    if not blocking:
        return ""
    return f"Incomplete {listing.title}: {kept} images, with {report.sentence(blocking)}."


def _compact(path: Path, kept: Sequence[int], n: int, size: int) -> None:
    """Close the gaps that unreadable files left; rows only ever move towards the start."""
    if len(kept) == n:
        return
    row_bytes = size * size * 3
    fd = os.open(path, os.O_RDWR)
    try:
        for to, row in enumerate(kept):
            if to != row:
                os.pwrite(
                    fd,
                    os.pread(fd, row_bytes, prepared.HEADER + row * row_bytes),
                    prepared.HEADER + to * row_bytes,
                )
        os.ftruncate(fd, prepared.HEADER + len(kept) * row_bytes)
        os.pwrite(fd, prepared.header(len(kept), size), 0)
    finally:
        os.close(fd)
