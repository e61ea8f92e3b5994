"""The decoded cache: ``<data>/<slug>/<size>/images.npy`` and ``manifest.json``.

Either both are there and whole, or nothing that carries their name is: they are made in a sibling folder and
renamed into place, the manifest written last. The array is memory-mapped, so that any number of processes
share it.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from udcd_bench.data.dataset import Dataset, Images, Ints
from udcd_bench.errors import UserError

SCHEMA = 1
HEADER_BYTES = 128  # bytes before the first row in images.npy
ARRAY, MANIFEST = "images.npy", "manifest.json"
_STAGING_PREFIX = ".incoming-"


@dataclass
class Rows:
    """Everything about a prepared set but its pixels; what the manifest stores."""

    name: str
    title: str
    classes: Sequence[str]
    ids: Sequence[str]
    labels: Sequence[int]
    groups: Sequence[int]
    source_sha256: str
    own_split: Sequence[str] | None = None
    ordered: bool = False
    synthetic: bool = False
    incomplete: str = ""
    source: str = ""
    report: Sequence[str] = field(default_factory=list)

    def compute_sha256(self) -> str:
        """Of what a row means: id, label, group, split, class names."""
        parts = (list(self.classes), list(self.ids), list(self.labels), list(self.groups))
        split = None if self.own_split is None else list(self.own_split)
        return hashlib.sha256(json.dumps([*parts, split]).encode()).hexdigest()


def make_header(n: int, size: int) -> bytes:
    """The .npy header of an (n, size, size, 3) uint8 array, always `HEADER` bytes, so n may change late."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({n}, {size}, {size}, 3), }}"
    room = HEADER_BYTES - 10  # magic, version and length take 10 bytes
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1).encode() + b"\n"


@contextmanager
def open_staging_dir(target: Path, n: int, size: int) -> Iterator[Path]:
    """A temporary sibling of `target` holding an allocated `images.npy`; gone again afterwards.

    Call `publish` inside to keep it. Only one process at a time gets here for one target.
    """
    need = HEADER_BYTES + n * size * size * 3
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock_target(target):
            _remove_stale(target)
            free = shutil.disk_usage(target.parent).free
            if free < need + 2**20:
                raise _make_disk_full_error(target, need)
            work = target.parent / f"{_STAGING_PREFIX}{target.name}-{socket.gethostname()}-{os.getpid()}"
            work.mkdir()
            try:
                with (work / ARRAY).open("wb") as file:
                    file.write(make_header(n, size))
                    _allocate(file.fileno(), need)
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _make_disk_full_error(target, need) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise UserError(
                f"{target} cannot be written ({error.strerror}); choose another --data."
            ) from error
        raise


def _allocate(fd: int, size: int) -> None:
    """Claim the space, so that a full disk shows now and not halfway through."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot promise
            raise
        os.ftruncate(fd, size)


def _make_disk_full_error(target: Path, need: int) -> UserError:
    return UserError(
        f"The disk that holds {target.parent} is full: {need} bytes ({need / 2**30:.2f} GiB) are needed for "
        f"{target}; free some space or choose another folder with --data."
    )


@contextmanager
def _lock_target(target: Path) -> Iterator[None]:
    """One writer a target; a lock that a killed process lets go of."""
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        with suppress(OSError):  # some network file systems have no locks: the final rename still decides
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_stale(target: Path) -> None:
    """Remove what killed processes left behind."""
    start = f"{_STAGING_PREFIX}{target.name}-"
    for left in target.parent.glob(f"{start}*"):
        host, _, pid = left.name[len(start) :].removeprefix("old-").rpartition("-")
        if host == socket.gethostname():
            dead = not (pid.isdigit() and int(pid) != os.getpid() and _is_alive(int(pid)))
        else:
            dead = time.time() - left.stat().st_mtime > 86_400
        if dead:
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def commit(work: Path, target: Path, rows: Rows, size: int) -> Path:
    """Give a finished `work` folder its manifest and its name; the manifest comes last."""
    _sync(work / ARRAY)
    manifest: dict[str, Any] = {"schema": SCHEMA, **asdict(rows), "size": size, "n": len(rows.ids)}
    manifest["bytes"] = (work / ARRAY).stat().st_size
    manifest["sha256"] = {
        "images": _hash_file(work / ARRAY),
        "rows": rows.compute_sha256(),
        "source": rows.source_sha256,
    }
    manifest["sha256"]["manifest"] = _hash_manifest(manifest)
    text = json.dumps(manifest, indent=1, ensure_ascii=True)
    (work / MANIFEST).write_text(text + "\n", encoding="ascii")
    _sync(work / MANIFEST)
    _sync(work)
    for attempt in range(3):
        try:
            work.rename(target)
            break
        except OSError:
            # Something has that name: an older set to replace, or one from a process that came first.
            if attempt == 2:
                raise
            old = target.parent / f"{_STAGING_PREFIX}{target.name}-old-{socket.gethostname()}-{os.getpid()}"
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            shutil.rmtree(old, ignore_errors=True)
    _sync(target.parent)
    return target


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _hash_manifest(info: dict[str, Any]) -> str:
    """Checksum of all that a manifest says, but for itself."""
    sums = {name: value for name, value in info["sha256"].items() if name != "manifest"}
    return hashlib.sha256(json.dumps({**info, "sha256": sums}, sort_keys=True).encode()).hexdigest()


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(target: Path) -> dict[str, Any] | None:
    """The manifest of a prepared set, None where there is none, UserError where it cannot be used."""
    path = target / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="ascii"))
    except (FileNotFoundError, NotADirectoryError):
        if target.is_dir():
            raise _make_damaged_error(target, f"{MANIFEST} is missing") from None
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise _make_damaged_error(target, f"{MANIFEST} cannot be read ({error})") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(
            f"{target} was prepared by a newer udcd-bench (schema {schema}); update, or use another --data."
        )
    wanted = {"schema", "n", "size", "bytes", "sha256", *Rows.__dataclass_fields__}
    if schema != SCHEMA or not wanted <= found.keys() or not all(fits(found) for fits in _MANIFEST_CHECKS):
        raise _make_damaged_error(target, f"{MANIFEST} is not one of this programme's")
    return dict(found)


def _make_type_check(kind: type, *names: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: all(type(found[name]) is kind for name in names)


def _make_list_check(kind: type, *names: str) -> Callable[[dict[str, Any]], bool]:
    return lambda found: all(
        isinstance(found[name], list) and {type(part) for part in found[name]} <= {kind} for name in names
    )


_MANIFEST_CHECKS = (
    _make_type_check(int, "schema", "n", "size", "bytes"),
    _make_type_check(str, "name", "title", "source_sha256", "incomplete", "source"),
    _make_type_check(bool, "ordered", "synthetic"),
    _make_type_check(dict, "sha256"),
    _make_list_check(str, "classes", "ids", "report"),
    _make_list_check(int, "labels", "groups"),
    lambda found: found["own_split"] is None or _make_list_check(str, "own_split")(found),
    lambda found: all(0 <= value < 2**31 for name in ("labels", "groups") for value in found[name]),
    lambda found: found["own_split"] is None or len(found["own_split"]) == len(found["ids"]),
)
"""What must hold of a manifest before anything is made of it; its checksum is looked at later."""


def load(target: Path, *, check_pixels: bool = False) -> Dataset:
    """The prepared set in `target`; everything but the array's checksum is checked, and that too for `whole`.

    Raises DamagedError naming what is wrong. The checksum of an array is computed once a process.
    """
    info = read_manifest(target)
    if info is None:
        raise FileNotFoundError(target)
    rows = _parse_rows(target, info)
    n, size = info["n"], info["size"]
    path = target / ARRAY
    try:
        held = path.stat().st_size
    except OSError as error:
        raise _make_damaged_error(target, f"{ARRAY} is missing") from error
    if held != HEADER_BYTES + n * size * size * 3 or held != info["bytes"]:
        raise _make_damaged_error(target, f"{ARRAY} has {held} bytes instead of {info['bytes']}")
    try:
        with path.open("rb") as file:
            begins = file.read(HEADER_BYTES)
        # nothing is made of a header but that it is the one there must be
        if n < 1 or size < 1 or begins != make_header(n, size):
            raise ValueError("its header is another's")
        images: Images = np.memmap(path, np.uint8, "r", HEADER_BYTES, (n, size, size, 3))
    except (ValueError, OSError) as error:
        raise _make_damaged_error(target, f"{ARRAY} cannot be read ({error})") from error
    # one from before manifests had a checksum of their own has none
    if set(info["sha256"]) != {"images", "rows", "source"} and info["sha256"].get(
        "manifest"
    ) != _hash_manifest(info):
        raise _make_damaged_error(target, f"{MANIFEST} is not what was written (checksum differs)")
    if check_pixels and _hash_array(path, *_read_file_identity(path)) != info["sha256"]["images"]:
        raise _make_damaged_error(
            target, f"the pixels in {ARRAY} are not those that were prepared (checksum differs)"
        )
    labels: Ints = np.asarray(rows.labels, np.int64)
    try:
        return Dataset(
            name=rows.name,
            title=rows.title,
            images=images,
            labels=labels,
            ids=tuple(rows.ids),
            groups=np.asarray(rows.groups, np.int64),
            classes=tuple(rows.classes),
            fingerprint=hashlib.sha256(
                f"{info['sha256']['images']} {rows.compute_sha256()}".encode()
            ).hexdigest()[:16],
            ordered=rows.ordered,
            synthetic=rows.synthetic,
            incomplete=rows.incomplete,
            own_split=None if rows.own_split is None else np.asarray(rows.own_split, np.str_),
        )
    except ValueError as error:
        raise _make_damaged_error(target, str(error)) from error


def _parse_rows(target: Path, info: dict[str, Any]) -> Rows:
    rows = Rows(**{key: info[key] for key in Rows.__dataclass_fields__})
    if len(rows.ids) != info["n"] or rows.compute_sha256() != info["sha256"].get("rows"):
        raise _make_damaged_error(target, f"the ids, labels or groups in {MANIFEST} were changed")
    return rows


def _read_file_identity(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@functools.cache
def _hash_array(path: Path, *_identity: int) -> str:
    return _hash_file(path)


class DamagedDataError(UserError):
    """A prepared set is not what was written."""


def _make_damaged_error(target: Path, what: str) -> DamagedDataError:
    return DamagedDataError(
        f"The prepared data in {target} is damaged: {what}; delete that folder and run "
        "`udcd-bench data prepare` again."
    )


def quarantine(target: Path) -> Path:
    """Move a damaged set out of the way; returns where to."""
    n = 1
    while (place := target.parent / f".damaged-{target.name}.{n}").exists():
        n += 1
    with suppress(FileNotFoundError):  # another process did
        target.rename(place)
    return place


def verify(target: Path) -> None:
    """Check a prepared set down to the last byte; DamagedError names what is wrong."""
    if read_manifest(target) is None:
        raise FileNotFoundError(target)
    _hash_array.cache_clear()
    load(target, check_pixels=True)
