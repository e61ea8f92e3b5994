"""Reading the decoded cache: ``<data>/<slug>/<size>/images.npy`` and ``manifest.json``.

Either both exist and are whole, or neither exists: ``staging`` makes them in a sibling folder and renames it at the
end. The array is memory-mapped, so that any number of processes share it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from udcd_bench.data.cache.options import RELEASED
from udcd_bench.data.dataset import Dataset, Images, Ints
from udcd_bench.errors import UserError
from udcd_bench.runs import names
from udcd_bench.storage.checksums import from_json, hash_file

SCHEMA = 2
"""Version of the manifest. 1: without ``content_sha256``."""
HEADER_BYTES = 128
"""Bytes before the first row in ``images.npy``."""
ARRAY, MANIFEST = "images.npy", "manifest.json"
ADDED_FIELDS = {"content_sha256", "depth"}
"""Fields that manifests of schema 1 lack, and whose default is right for them."""
LATER_FIELDS = {"copies", "exif", "resize", "group_column", "column_given"}
"""Fields that manifests of either schema may lack, and whose default says so."""

Index = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


@dataclass
class Rows:
    """Everything about a prepared set but its pixels: what the manifest stores.

    Attributes
    ----------
    name, title, classes, ids, labels, groups, ordered, synthetic, incomplete, own_split: as in ``Dataset``.
    source_sha256: changes when the source does, so that a set is prepared again.
    content_sha256: of the image files, their ids, labels, given groups and split, and the classes: the same wherever
        they lie and at every size. Empty in manifests of schema 1, and of sets that do not come as files.
    source: the path that the images came from, or what made them.
    report: the lines of the validation report.
    depth, exif, resize: how the files were read, as in ``options.Decoding``; exif and resize are empty in manifests of
        earlier versions, and of sets that do not come as files.
    copies: as in ``Dataset``; None in manifests of earlier versions, which did not look.
    group_column: as in ``Dataset``. column_given: whether ``--group-column`` named it.
    """

    name: str
    title: str
    classes: Sequence[str]
    ids: Sequence[str]
    labels: Sequence[Index]
    groups: Sequence[Index]
    source_sha256: str
    content_sha256: str = ""
    own_split: Sequence[str] | None = None
    ordered: bool = False
    synthetic: bool = False
    incomplete: str = ""
    source: str = ""
    report: Sequence[str] = field(default_factory=list)
    depth: int | None = None
    copies: str | None = None
    exif: str = ""
    resize: str = ""
    group_column: str = ""
    column_given: bool = False

    def compute_sha256(self) -> str:
        """Hash what a row means: id, label, group, split, class names."""
        parts = (list(self.classes), list(self.ids), list(self.labels), list(self.groups))
        split = None if self.own_split is None else list(self.own_split)
        return hashlib.sha256(json.dumps([*parts, split]).encode()).hexdigest()


@dataclass(kw_only=True)
class Manifest(Rows):
    """What ``manifest.json`` says, its fields and types checked.

    Attributes
    ----------
    schema: version of the format. n: number of rows. size: side of the images in pixels. bytes: size of the array file.
    sha256: checksums by what they are of: ``images`` (the array file), ``rows``, ``source`` and, except in manifests of
        early versions, ``manifest``.
    """

    schema: int
    n: int
    size: int
    bytes: int
    sha256: dict[str, str]


class DamagedDataError(UserError):
    """A prepared set is not what was written."""

    def __init__(self, target: Path, damage: str) -> None:
        super().__init__(
            f"The prepared data in {target} is damaged: {damage}; delete that folder and run "
            "`udcd-bench data prepare` again."
        )


def make_header(n: int, size: int) -> bytes:
    """Make the .npy header of an (n, size, size, 3) uint8 array, always ``HEADER_BYTES`` long, so ``n`` may change."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({n}, {size}, {size}, 3), }}"
    room = HEADER_BYTES - 10  # magic, version and length take 10 bytes
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1).encode() + b"\n"


def hash_manifest(content: dict[str, Any]) -> str:
    """Hash all that a manifest says except this very checksum."""
    sums = {name: value for name, value in content["sha256"].items() if name != "manifest"}
    return hashlib.sha256(json.dumps({**content, "sha256": sums}, sort_keys=True).encode()).hexdigest()


def read_manifest(target: Path) -> Manifest | None:
    """Read the manifest of a prepared set; None if nothing is prepared in ``target``.

    Raises UserError when it cannot be used.
    """
    content = _read_content(target)
    return None if content is None else _parse_manifest(target, content)


def load(target: Path, *, check_pixels: bool = False) -> Dataset:
    """Load the prepared set in ``target``, its images memory-mapped.

    Everything but the array's checksum is checked; with ``check_pixels`` that too, once a process.

    Raises DamagedDataError when something is wrong, and FileNotFoundError when nothing is prepared there.
    """
    content = _read_content(target)
    if content is None:
        raise FileNotFoundError(target)
    manifest = _parse_manifest(target, content)
    if len(manifest.ids) != manifest.n or manifest.compute_sha256() != manifest.sha256.get("rows"):
        raise DamagedDataError(target, f"the ids, labels or groups in {MANIFEST} were changed")
    images = _map_images(target, manifest)
    # early manifests have no checksum of their own
    has_checksum = set(manifest.sha256) != {"images", "rows", "source"}
    if has_checksum and manifest.sha256.get("manifest") != hash_manifest(content):
        raise DamagedDataError(target, f"{MANIFEST} is not what was written (checksum differs)")
    if check_pixels:
        stat = (target / ARRAY).stat()
        identity = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if _hash_array(target / ARRAY, *identity) != manifest.sha256["images"]:
            raise DamagedDataError(
                target, f"the pixels in {ARRAY} are not those that were prepared (checksum differs)"
            )
    return _make_dataset(target, manifest, images)


def verify(target: Path) -> None:
    """Check a prepared set down to the last byte. Raises what ``load`` raises."""
    _hash_array.cache_clear()
    load(target, check_pixels=True)


def _read_content(target: Path) -> dict[str, Any] | None:
    """Read the JSON of a manifest of this or an older schema, its fields still unchecked."""
    path = target / MANIFEST
    try:
        content = from_json(path.read_text(encoding="ascii").encode())
    except (FileNotFoundError, NotADirectoryError):
        if target.is_dir():
            raise DamagedDataError(target, f"{MANIFEST} is missing") from None
        return None
    except (OSError, ValueError) as error:
        raise DamagedDataError(target, f"{MANIFEST} cannot be read ({error})") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(
            f"{target} was prepared by a newer udcd-bench (schema {schema}); update, or use another --data."
        )
    if schema not in (1, SCHEMA):
        raise _make_foreign_error(target)
    return dict(content)


def _parse_manifest(target: Path, content: dict[str, Any]) -> Manifest:
    # a field left out must not get its default: a stand-in would pass for real data
    required = {attribute.name for attribute in fields(Manifest)} - LATER_FIELDS
    complete = required - (ADDED_FIELDS if content["schema"] == 1 else set()) <= content.keys()
    try:
        manifest = msgspec.convert(content, Manifest)
    except msgspec.ValidationError as error:
        raise _make_foreign_error(target) from error
    if not complete or (manifest.own_split is not None and len(manifest.own_split) != len(manifest.ids)):
        raise _make_foreign_error(target)
    return manifest


def _make_foreign_error(target: Path) -> DamagedDataError:
    return DamagedDataError(target, f"{MANIFEST} is not one of this programme's")


def _map_images(target: Path, manifest: Manifest) -> Images:
    """Map the array into memory, its length and header checked."""
    n, size = manifest.n, manifest.size
    path = target / ARRAY
    try:
        n_bytes = path.stat().st_size
    except OSError as error:
        raise DamagedDataError(target, f"{ARRAY} is missing") from error
    if n_bytes != HEADER_BYTES + n * size * size * 3 or n_bytes != manifest.bytes:
        raise DamagedDataError(target, f"{ARRAY} has {n_bytes} bytes instead of {manifest.bytes}")
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
        # the header is compared with the expected bytes, never parsed
        if n < 1 or size < 1 or header != make_header(n, size):
            raise ValueError("its header is another's")
        return np.memmap(path, np.uint8, "r", HEADER_BYTES, (n, size, size, 3))
    except (ValueError, OSError) as error:
        raise DamagedDataError(target, f"{ARRAY} cannot be read ({error})") from error


@functools.cache
def _hash_array(path: Path, *_identity: int) -> str:
    return hash_file(path)


def lacks_digest(manifest: Manifest) -> bool:
    """Tell whether a set is of own images and an earlier version prepared it, without a digest of its content."""
    return manifest.name.startswith(names.FOLDER) and not manifest.content_sha256


def lacks_reading(manifest: Manifest) -> bool:
    """Tell whether an earlier version prepared own images: by another choice of groups, and as they are stored."""
    return manifest.name.startswith(names.FOLDER) and not manifest.exif


def lacks_copies(manifest: Manifest) -> bool:
    """Tell whether an earlier version prepared a published set from files without a look at their sizes."""
    is_own = manifest.name.startswith(names.FOLDER)
    return manifest.copies is None and bool(manifest.content_sha256) and not is_own


def make_identity(manifest: Manifest) -> str:
    """Make the identity of a prepared set: own images by their content, others by their name."""
    if not manifest.name.startswith(names.FOLDER) or lacks_digest(manifest):
        return manifest.name
    return names.identify_data(names.format_data_name("", manifest.content_sha256))


def _make_dataset(target: Path, manifest: Manifest, images: Images) -> Dataset:
    """Make the dataset. Raises DamagedDataError when its parts do not fit together."""
    fingerprint = f"{manifest.sha256['images']} {manifest.compute_sha256()}"
    labels: Ints = np.asarray(manifest.labels, np.int64)
    try:
        return Dataset(
            name=manifest.name,
            title=manifest.title,
            images=images,
            labels=labels,
            ids=tuple(manifest.ids),
            groups=np.asarray(manifest.groups, np.int64),
            classes=tuple(manifest.classes),
            fingerprint=hashlib.sha256(fingerprint.encode()).hexdigest()[:16],
            ordered=manifest.ordered,
            synthetic=manifest.synthetic,
            incomplete=manifest.incomplete,
            copies=manifest.copies or "",
            report=tuple(manifest.report),
            own_split=None if manifest.own_split is None else np.asarray(manifest.own_split, np.str_),
            identity=make_identity(manifest),
            depth=manifest.depth,
            exif=manifest.exif or RELEASED.exif,
            resize=manifest.resize or RELEASED.resize,
            group_column=manifest.group_column,
        )
    except ValueError as error:
        raise DamagedDataError(target, str(error)) from error
