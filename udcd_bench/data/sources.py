"""Data sets by name: the list of them, the folder each is prepared in, and the functions that prepare and load one."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from udcd_bench.data import official, own_images
from udcd_bench.data.cache.options import PrepareOptions, format_prepare_command
from udcd_bench.data.layouts import aptos, digits, folder, ham10000, medmnist
from udcd_bench.data.layouts.source import Source
from udcd_bench.data.synthetic import import_artist
from udcd_bench.errors import UserError, make_printable, suggest_nearest
from udcd_bench.runs import names
from udcd_bench.storage.atomic import quarantine
from udcd_bench.storage.file_names import decode_name

if TYPE_CHECKING:
    from udcd_bench.data.cache.options import PreparedSet
    from udcd_bench.data.dataset import Dataset
    from udcd_bench.data.layouts.image_index import ImageIndex

N_IMAGES = 2000
"""Images of a synthetic set, unless another number is chosen."""

SOURCES = {
    source.name: source
    for source in (
        ham10000.SOURCE,
        aptos.SOURCE,
        ham10000.TEST_SOURCE,
        ham10000.VALIDATION_SOURCE,
        Source(
            "synthetic-lesions",
            "lesions (synthetic stand-in)",
            "drawn lesions, 7 classes in HAM10000's proportions",
            synthetic=True,
        ),
        Source(
            "synthetic-fundus",
            "fundus (synthetic stand-in)",
            "drawn fundi, 5 grades in APTOS 2019's proportions",
            ordered=True,
            synthetic=True,
        ),
        digits.SOURCE,
    )
}
"""The data sets with fixed names; ``folder:PATH`` and ``medmnist:NAME`` are known by their prefixes."""


PREPARE = PrepareOptions()


@dataclass(frozen=True)
class LoadOptions:
    """How a set is loaded.

    Attributes
    ----------
    jobs: processes that decode or draw what is not prepared yet.
    check_pixels: compare the array with its checksum, about a second for HAM10000 at 224².
    prepare_missing: prepare on first use what can be prepared from its name alone.
    reading: what is said of how own images are read; the rest of it has no effect.
    """

    jobs: int = 1
    check_pixels: bool = False
    prepare_missing: bool = True
    reading: PrepareOptions = PREPARE


LOAD = LoadOptions()


def list_names() -> tuple[str, ...]:
    """List the fixed names."""
    return tuple(SOURCES)


def find_title(name: str) -> str:
    """Return the title that tables and captions print for a data set. Raises UserError when the name is unknown."""
    if name.startswith(names.FOLDER):
        return make_printable(names.format_data_title(name))
    if name.startswith(medmnist.PREFIX):
        return medmnist.check_name(name.removeprefix(medmnist.PREFIX))
    return _find_source(name).title


def is_synthetic(name: str) -> bool:
    """Whether the images are drawn by this suite."""
    return name in SOURCES and SOURCES[name].synthetic


def is_ordered(name: str) -> bool:
    """Whether the classes are grades with an order; False for sets that are known only once they are read."""
    return name in SOURCES and SOURCES[name].ordered


def make_slug(name: str, n_images: int | None = None) -> str:
    """Return the name of the folder that holds a prepared data set, with one subfolder per image size.

    n_images: how many images a synthetic set has; None for the default.
    """
    if name.startswith(names.FOLDER):
        return folder.make_path_slug(own_images.parse_path(name))
    if name.startswith(medmnist.PREFIX):
        return "medmnist-" + medmnist.check_name(name.removeprefix(medmnist.PREFIX))
    if _find_source(name).synthetic:
        return f"{name}-n{n_images or N_IMAGES}-v{import_artist(name).VERSION}"
    return name


def list_prepared(name: str, data: Path) -> list[Path]:
    """List the prepared sets of ``name`` below the folder ``data``, smallest first, damaged ones included."""
    pattern = f"{name}-n*-v*" if is_synthetic(name) else make_slug(name)
    paths = [path for path in data.glob(f"{pattern}/*") if path.is_dir() and path.name.isdecimal()]
    return sorted(paths, key=lambda path: (int(path.name), len(path.parent.name), path.parent.name))


def load_dataset(
    name: str, *, size: int, data: Path, n_images: int | None = None, options: LoadOptions = LOAD
) -> Dataset:
    """Load a data set from the cache, memory-mapped.

    What needs no download is prepared on first use, and again when it is damaged; the damaged set is then moved aside.
    HAM10000 and APTOS have to be prepared before.

    size: side of the images in pixels. data: the folder of prepared data. n_images: of a synthetic set.

    Raises UserError when the set is not prepared and cannot be, or is damaged.
    """
    from udcd_bench.data.cache import prepare, prepared

    prepare.check_size(size)
    if (sides := official.split_name(name)) is not None:
        train, test = (load_dataset(side, size=size, data=data, options=options) for side in sides)
        target = data / name / str(size)
        return official.join(train, test, target, check_pixels=options.check_pixels)
    target = data / make_slug(name, n_images) / str(size)
    prepares = options.prepare_missing and _can_prepare_by_name(name)
    if prepares and target.is_dir():
        _quarantine_if_damaged(target, check_pixels=options.check_pixels)
    is_prepared = (target / prepared.MANIFEST).exists()
    if target.is_dir() and not is_prepared:
        prepared.read_manifest(target)  # raises: the folder has no manifest
    if prepares and _may_have_changed(name, target, is_prepared=is_prepared):
        _prepare(
            name, size, data, n_images, replace(options.reading, jobs=options.jobs), accept_incomplete=True
        )
    elif not is_prepared:
        raise _make_missing_error(name, target)
    dataset = replace(
        prepared.load(target, check_pixels=options.check_pixels), name=make_printable(decode_name(name))
    )
    if not name.startswith(names.FOLDER):
        return dataset
    own_name = make_printable(decode_name(names.parse_place(name).name))
    return own_images.name_by_content(dataset, target, own_name)


def prepare_dataset(
    name: str, *, size: int, data: Path, n_images: int | None = None, options: PrepareOptions = PREPARE
) -> PreparedSet:
    """Decode or draw a data set into the cache, unless the same set is prepared already.

    size: side of the images in pixels. data: the folder of prepared data. n_images: of a synthetic set.

    Raises UserError when the images cannot be read, or are not complete and ``options`` does not allow it.
    """
    return _prepare(name, size, data, n_images, options)


def _prepare(
    name: str,
    size: int,
    data: Path,
    n_images: int | None,
    options: PrepareOptions,
    *,
    accept_incomplete: bool = False,
) -> PreparedSet:
    """Prepare a data set as ``prepare_dataset`` does.

    accept_incomplete: an incomplete set that was allowed earlier is good enough; a new one is not made.
    """
    from udcd_bench.data.cache import prepare, prepare_arrays, prepare_synthetic

    prepare.check_size(size)
    target = data / make_slug(name, n_images) / str(size)  # raises for a name that is unknown
    _check_options(name, options)
    source = SOURCES.get(name)
    if name.startswith(medmnist.PREFIX):
        short = name.removeprefix(medmnist.PREFIX)
        file = medmnist.find_file(short, options.source_path, target)
        checksum = medmnist.compute_checksum(file, short)
        return prepare_arrays.prepare_arrays(
            lambda: medmnist.read_arrays(file, short), target, size, checksum
        )
    if source is digits.SOURCE:
        return prepare_arrays.prepare_arrays(digits.read_arrays, target, size, digits.compute_checksum())
    if source and source.synthetic:
        return prepare_synthetic.prepare_synthetic(source, target, size, n_images or N_IMAGES, options)
    return _prepare_files(name, target, size, options, accept_incomplete=accept_incomplete)


def _prepare_files(
    name: str, target: Path, size: int, options: PrepareOptions, *, accept_incomplete: bool
) -> PreparedSet:
    """Prepare a data set of image files, as ``_prepare`` does."""
    from udcd_bench.data.cache import prepare

    if name.startswith(names.FOLDER):
        options = own_images.recall_options(target, options)
    image_index = _read_index(name, target, options)
    if accept_incomplete and options.depth is None:
        options = replace(options, depth=own_images.find_depth(target))  # as it was prepared before
    own_images.announce_renewal(target)
    if accept_incomplete and (
        existing := prepare.find_existing(
            target, image_index.compute_checksum(), replace(options, allow_incomplete=True)
        )
    ):
        return prepare.refresh_report(existing, image_index)
    return prepare.prepare_images(image_index, target, size, options)


def _check_options(name: str, options: PrepareOptions) -> None:
    """Check that the options are for such a set. Raises UserError."""
    has_reader = name in SOURCES and SOURCES[name].read_index is not None
    if options.source_path is not None and not has_reader and not name.startswith(medmnist.PREFIX):
        raise UserError(f"{name} needs no --from: its name says where its images come from.")
    if options.depth is not None and not has_reader and not name.startswith(names.FOLDER):
        raise UserError(f"--depth is for sets of image files, and {name} is none.")
    for option in ("exif", "resize", "group_column"):
        if getattr(options, option) is not None and not name.startswith(names.FOLDER):
            words = option.replace("_", "-")
            raise UserError(
                f"--{words} is for images of your own, folder:PATH, and {name} is none; leave it out."
            )


def _read_index(name: str, target: Path, options: PrepareOptions) -> ImageIndex:
    """List the images of a set that comes as files. Raises UserError when it needs a path and has none."""
    if name.startswith(names.FOLDER):
        return folder.read_index(own_images.parse_path(name), options.group_column)
    read_index = _find_source(name).read_index
    assert read_index is not None
    if options.source_path is None:
        raise _make_missing_error(name, target)
    return read_index(options.source_path)


def _quarantine_if_damaged(target: Path, *, check_pixels: bool) -> None:
    """Move a prepared set out of the way if it is damaged, and log a warning."""
    from udcd_bench.data.cache import prepared

    try:
        prepared.load(target, check_pixels=check_pixels)
    except prepared.DamagedDataError as error:
        message, _, _ = str(error).partition("; delete")
        with suppress(FileNotFoundError):  # another process moved it first
            path = quarantine(target, target.parent / f".damaged-{target.name}")
            logging.getLogger(__name__).warning("%s; moved to %s.", message, path)


def _can_prepare_by_name(name: str) -> bool:
    """Whether a set can be prepared from its name alone."""
    return name.startswith((names.FOLDER, medmnist.PREFIX)) or _find_source(name).read_index is None


def _may_have_changed(name: str, target: Path, *, is_prepared: bool) -> bool:
    """Whether a set that can be prepared by name has to be compared with its source, which decodes nothing."""
    if name.startswith(names.FOLDER):
        return own_images.parse_path(name).exists() or not is_prepared
    if name.startswith(medmnist.PREFIX):
        short, place = name.removeprefix(medmnist.PREFIX), target.parent.parent
        return not is_prepared or medmnist.find_in_folder(short, place, int(target.name)).exists()
    return not is_prepared


def _make_missing_error(name: str, target: Path) -> UserError:
    head = f"{find_title(name)} is not prepared at {target.name} pixels in {target.parent.parent}: "
    source = SOURCES.get(name)
    if source is not None and source.read_index:
        command = format_prepare_command(name, target, PrepareOptions(source_path=Path("DIR")))
        return UserError(
            f"{head}get it from {source.where_to_get}, then run `{command}` with DIR the folder that holds it; "
            "the demo profile needs none of this."
        )
    command = format_prepare_command(name, target, PREPARE)
    return UserError(f"{head}run `{command}`; the demo profile needs none of this.")


def _find_source(name: str) -> Source:
    if name not in SOURCES:
        raise UserError(
            f"Unknown data set {name!r}{suggest_nearest(name, SOURCES)} Or folder:PATH (your own images), "
            "medmnist:NAME."
        )
    return SOURCES[name]
