"""Prepared images of one's own: known by what they hold, and found by it or by their path."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench.data.cache.options import OWN
from udcd_bench.data.layouts import folder
from udcd_bench.errors import UserError
from udcd_bench.runs import names
from udcd_bench.storage.file_names import encode_name

if TYPE_CHECKING:
    from udcd_bench.data.cache.options import PrepareOptions
    from udcd_bench.data.dataset import Dataset


class OwnImages(NamedTuple):
    """Prepared images of one's own: their name by content, and the path that they came from."""

    name: str
    path: str


def list_own_images(data: Path) -> list[OwnImages]:
    """List the prepared images of one's own below the folder ``data`` whose path still leads to them."""
    from udcd_bench.data.cache import prepared

    sets = []
    for target in sorted(data.glob("folder-*/*")):
        with suppress(UserError):
            manifest = prepared.read_manifest(target) if target.name.isdecimal() else None
            if manifest is None or not manifest.content_sha256:
                continue
            path = manifest.name.removeprefix(names.FOLDER)
            if folder.make_path_slug(Path(encode_name(path))) == target.parent.name:
                name = names.format_data_name(names.take_last_part(path), manifest.content_sha256)
                sets.append(OwnImages(name, encode_name(path)))
    return sets


def parse_path(name: str) -> Path:
    """Parse the path of own images from what is typed. Raises UserError when there is none."""
    path = names.parse_place(name).path
    if not path:
        raise UserError("folder: needs a path, as in folder:my/images or folder:my/labels.csv.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{name}: nobody here has that home folder; give the whole path.") from error


def find_prepared_digests(path: Path, data: Path) -> dict[int, str]:
    """Find the digests of what is prepared of own images at a path, by size; the images are not looked at."""
    from udcd_bench.data.cache import prepared

    digests = {}
    for target in data.glob(f"{folder.make_path_slug(path)}/*"):
        with suppress(UserError):  # a damaged set names nothing
            manifest = prepared.read_manifest(target) if target.name.isdecimal() else None
            if manifest is not None and manifest.content_sha256:
                digests[int(target.name)] = manifest.content_sha256
    return digests


def name_by_content(dataset: Dataset, target: Path, own_name: str) -> Dataset:
    """Give own images a title of their name and their digest. Raises UserError when there is no digest."""
    digest = dataset.identity.partition("folder#")[2]
    if not digest:
        raise UserError(
            f"{target} was prepared by an earlier version, without a digest of the images, and {dataset.name} is gone; "
            "bring the images back there, and they are prepared again."
        )
    return replace(dataset, title=names.format_data_title(names.format_data_name(own_name, digest)))


def find_depth(target: Path) -> int | None:
    """Find the --depth that a set was prepared with; None if nothing is prepared, or without one."""
    from udcd_bench.data.cache import prepared

    with suppress(UserError):
        manifest = prepared.read_manifest(target)
        return None if manifest is None else manifest.depth
    return None


def recall_options(target: Path, options: PrepareOptions) -> PrepareOptions:
    """Complete what is said of own images by what was said before, at this size or, failing that, at another."""
    from udcd_bench.data.cache import prepared

    sizes = [path for path in target.parent.glob("*/") if path.name.isdecimal() and path != target]
    manifest = None
    for path in (target, *sorted(sizes, key=lambda path: -path.stat().st_mtime)):
        with suppress(UserError, OSError):
            manifest = prepared.read_manifest(path)
        if manifest is not None and not prepared.lacks_reading(manifest):
            break
        manifest = None
    if manifest is None:
        return options
    exif = manifest.exif if manifest.exif != OWN.exif else None
    resize = manifest.resize if manifest.resize != OWN.resize else None
    column = manifest.group_column if manifest.column_given else None
    return replace(
        options,
        exif=options.exif or exif,
        resize=options.resize or resize,
        group_column=column if options.group_column is None else options.group_column,
    )


def announce_renewal(target: Path) -> None:
    """Log that a set will be prepared again because an earlier version prepared it."""
    from udcd_bench.data.cache import prepared

    with suppress(UserError):  # what is damaged is announced elsewhere
        manifest = prepared.read_manifest(target)
        if manifest is not None and (prepared.lacks_digest(manifest) or prepared.lacks_reading(manifest)):
            logging.getLogger(__name__).warning(
                "%s was prepared by an earlier version; it is prepared again.", target
            )
