"""Writing the decoded cache: a set is made in a staging folder, which is renamed when it is whole."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from udcd_bench.data.cache.prepared import (
    ARRAY,
    HEADER_BYTES,
    MANIFEST,
    SCHEMA,
    Rows,
    hash_manifest,
    make_header,
)
from udcd_bench.errors import UserError
from udcd_bench.storage.atomic import NO_PLACE, sync_to_disk, write_atomically
from udcd_bench.storage.checksums import hash_file
from udcd_bench.storage.owners import format_owner, remove_stale_files

MAX_STAGING_AGE = 86_400.0
"""Seconds after which a staging folder of another machine counts as abandoned."""


@contextmanager
def open_staging_dir(target: Path, n: int, size: int) -> Iterator[Path]:
    """Make a temporary sibling of ``target`` that holds an allocated ``images.npy``; it is removed afterwards.

    Call ``commit`` inside to keep it. Only one process at a time gets past this for one target; others wait.

    Raises UserError when the disk is full or the folder cannot be written.
    """
    n_bytes = HEADER_BYTES + n * size * size * 3
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock_target(target):
            remove_stale_files(target.parent.glob(f"{_prefix(target)}*"), max_age=MAX_STAGING_AGE)
            if shutil.disk_usage(target.parent).free < n_bytes + 2**20:
                raise _make_disk_full_error(target, n_bytes)
            staging = target.parent / f"{_prefix(target)}{format_owner()}"
            shutil.rmtree(staging, ignore_errors=True)  # left by this process, if it could not be removed
            staging.mkdir()
            try:
                with (staging / ARRAY).open("wb") as file:
                    file.write(make_header(n, size))
                    _allocate(file.fileno(), n_bytes)
                yield staging
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _make_disk_full_error(target, n_bytes) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, *NO_PLACE):
            raise UserError(
                f"{target} cannot be written ({error.strerror}); choose another --data."
            ) from error
        raise


def commit(staging: Path, target: Path, rows: Rows, size: int) -> None:
    """Give a finished staging folder its manifest and its name; the manifest comes last.

    size: side of the images in pixels.
    """
    sync_to_disk(staging / ARRAY)
    manifest: dict[str, Any] = {"schema": SCHEMA, **asdict(rows), "size": size, "n": len(rows.ids)}
    manifest["bytes"] = (staging / ARRAY).stat().st_size
    manifest["sha256"] = {
        "images": hash_file(staging / ARRAY),
        "rows": rows.compute_sha256(),
        "source": rows.source_sha256,
    }
    manifest["sha256"]["manifest"] = hash_manifest(manifest)
    text = json.dumps(manifest, indent=1, ensure_ascii=True)
    write_atomically(staging / MANIFEST, f"{text}\n".encode("ascii"))
    _rename(staging, target)
    sync_to_disk(target.parent)


def replace_report(target: Path, lines: Sequence[str]) -> None:
    """Write another validation report into the manifest of a prepared set."""
    with _lock_target(target):
        manifest = json.loads((target / MANIFEST).read_text(encoding="ascii"))
        manifest["report"] = list(lines)
        manifest["sha256"]["manifest"] = hash_manifest(manifest)
        text = json.dumps(manifest, indent=1, ensure_ascii=True)
        write_atomically(target / MANIFEST, f"{text}\n".encode("ascii"))


def _prefix(target: Path) -> str:
    return f".incoming-{target.name}-"


def _rename(staging: Path, target: Path) -> None:
    """Rename the staging folder to ``target``, in place of a set that is there already."""
    for attempt in range(3):
        try:
            staging.rename(target)
            return
        except OSError:
            # Something has that name: an older set to replace, or one from a process that came first.
            if attempt == 2:
                raise
            old = target.parent / f"{_prefix(target)}old-{format_owner()}"
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            shutil.rmtree(old, ignore_errors=True)


def _allocate(descriptor: int, n_bytes: int) -> None:
    """Reserve the space, so that a full disk shows now and not halfway through."""
    try:
        os.posix_fallocate(descriptor, 0, n_bytes)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot reserve
            raise
        os.ftruncate(descriptor, n_bytes)


def _make_disk_full_error(target: Path, n_bytes: int) -> UserError:
    return UserError(
        f"The disk that holds {target.parent} is full: {n_bytes} bytes ({n_bytes / 2**30:.2f} GiB) are needed for "
        f"{target}; free some space or choose another folder with --data."
    )


@contextmanager
def _lock_target(target: Path) -> Iterator[None]:
    """Wait until no other process prepares ``target``. The system releases the lock of a killed process."""
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        with suppress(OSError):  # some network file systems have no locks: the final rename still decides
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
