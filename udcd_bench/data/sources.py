"""Data sets by name: where each lies, how it is made, and the one way to load it."""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.data.layouts import aptos, folder, ham10000, medmnist
from udcd_bench.errors import UserError, make_printable, suggest_nearest

if TYPE_CHECKING:
    from udcd_bench.data.cache.prepare import PreparedSet, ProgressCallback
    from udcd_bench.data.dataset import Dataset
    from udcd_bench.data.layouts.image_index import ImageIndex

N_IMAGES = 2000  # of a synthetic set, unless asked otherwise
SEED = 2020  # of the synthetic sets; which images there are is part of what they are


@dataclass(frozen=True)
class Source:
    """A data set with a fixed name."""

    title: str
    summary: str
    where_to_get: str = "needs no download"
    reader: Callable[[Path], ImageIndex] | None = None
    synthetic: bool = False


SOURCES = {
    "ham10000": Source(
        ham10000.TITLE,
        "10 015 dermoscopic photographs of 7 470 lesions, 7 classes",
        ham10000.WHERE_TO_GET,
        ham10000.read_index,
    ),
    "aptos": Source(
        aptos.TITLE, "3 662 fundus photographs, grades 0 to 4", aptos.WHERE_TO_GET, aptos.read_index
    ),
    "synthetic-lesions": Source(
        "lesions (synthetic stand-in)", "drawn lesions, 7 classes in HAM10000's proportions", synthetic=True
    ),
    "synthetic-fundus": Source(
        "fundus (synthetic stand-in)", "drawn fundi, 5 grades in APTOS 2019's proportions", synthetic=True
    ),
    "digits": Source("Digits (long-tailed, ρ = 4)", "scikit-learn's 8×8 real handwriting, made long-tailed"),
}


def list_names() -> tuple[str, ...]:
    """The fixed names; ``folder:PATH`` and ``medmnist:NAME`` come on top."""
    return tuple(SOURCES)


def find_title(name: str) -> str:
    """What tables and captions call a data set."""
    if name.startswith(folder.PREFIX):
        return make_printable(_parse_folder_path(name).absolute().name)
    if name.startswith(medmnist.PREFIX):
        return medmnist.check_name(name.removeprefix(medmnist.PREFIX))
    return _find_source(name).title


def is_synthetic(name: str) -> bool:
    """Whether the images are drawn by this suite."""
    return name in SOURCES and SOURCES[name].synthetic


def is_ordered(name: str) -> bool:
    """Whether the classes are grades, as far as the name alone tells."""
    return name in ("aptos", "synthetic-fundus")


def make_slug(name: str, n_images: int | None = None) -> str:
    """The folder below the data folder that holds a data set, one subfolder a size."""
    if name.startswith(folder.PREFIX):
        return folder.make_path_slug(_parse_folder_path(name))
    if name.startswith(medmnist.PREFIX):
        return "medmnist-" + medmnist.check_name(name.removeprefix(medmnist.PREFIX))
    if _find_source(name).synthetic:
        return f"{name}-n{n_images or N_IMAGES}-v{_import_synthetic(name).VERSION}"
    return name


def list_prepared(name: str, data: Path) -> list[Path]:
    """The prepared sets of `name` below `data`, smallest first; damaged ones included."""
    pattern = f"{name}-n*-v*" if is_synthetic(name) else make_slug(name)
    found = [path for path in data.glob(f"{pattern}/*") if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=lambda path: (int(path.name), len(path.parent.name), path.parent.name))


def load_dataset(
    name: str,
    *,
    size: int,
    data: Path,
    n_images: int | None = None,
    prepare_missing: bool = True,
    jobs: int = 1,
    check_pixels: bool = False,
) -> Dataset:
    """The data set called `name` at size×size pixels, memory-mapped from the cache in `data`.

    What needs no download is made there on first use (unless `prepare_missing` is False), and again where it is
    damaged, which is then moved aside; HAM10000 and APTOS have to be prepared. `n_images` is for the synthetic sets.
    `whole`: look at every byte.
    """
    from udcd_bench.data.cache import prepared
    from udcd_bench.data.cache.prepare import check_size

    check_size(size)
    target = data / make_slug(name, n_images) / str(size)
    if prepare_missing and _can_prepare_by_name(name) and target.is_dir():
        try:
            prepared.load(target, check_pixels=check_pixels)
        except prepared.DamagedDataError as error:
            says, _, _ = str(error).partition("; delete")
            logging.getLogger(__name__).warning("%s; moved to %s.", says, prepared.quarantine(target))
    here = (target / prepared.MANIFEST).exists()
    if target.is_dir() and not here:
        prepared.read_manifest(target)  # says what is wrong
    if prepare_missing and _may_have_changed(name, data, here):
        prepare_dataset(name, size=size, data=data, n_images=n_images, jobs=jobs, accept_incomplete=True)
    elif not here:
        raise _make_missing_error(name, size, data)
    return replace(prepared.load(target, check_pixels=check_pixels), name=make_printable(name))


def prepare_dataset(
    name: str,
    *,
    size: int,
    data: Path,
    source_path: Path | None = None,
    n_images: int | None = None,
    jobs: int = 1,
    allow_incomplete: bool = False,
    accept_incomplete: bool = False,
    progress: ProgressCallback | None = None,
) -> PreparedSet:
    """Make the cache of `name` from what lies at `place` (None where the name says where that is).

    `accept_incomplete`: an incomplete set someone allowed earlier is good enough; a new one is not made.
    """
    from udcd_bench.data.cache import prepare as preparing

    preparing.check_size(size)
    if source_path is not None and (name == "digits" or is_synthetic(name) or name.startswith(folder.PREFIX)):
        raise UserError(f"{name} needs no --from: its name says where its images come from.")
    target = data / make_slug(name, n_images) / str(size)
    if name.startswith(medmnist.PREFIX):
        return _prepare_medmnist(name, target, size, source_path, data)
    if name == "digits":
        return _prepare_digits(target, size)
    if is_synthetic(name):
        return _prepare_synthetic(name, target, size, n_images or N_IMAGES, jobs, progress)
    if name.startswith(folder.PREFIX):
        listing = folder.read_index(_parse_folder_path(name))
    else:
        listing = _read_index(name, source_path, target, size, data)
    if accept_incomplete and (done := preparing.find_existing(target, listing.compute_checksum(), True)):
        return done
    return preparing.prepare_images(
        listing, target, size, jobs=jobs, allow_incomplete=allow_incomplete, progress=progress
    )


def _read_index(name: str, source_path: Path | None, target: Path, size: int, data: Path) -> ImageIndex:
    reader = _find_source(name).reader
    assert reader is not None
    if source_path is None:
        raise _make_missing_error(name, size, data)
    return reader(source_path)


def _can_prepare_by_name(name: str) -> bool:
    """Whether a source can be prepared from its name alone."""
    return name.startswith((folder.PREFIX, medmnist.PREFIX)) or _find_source(name).reader is None


def _may_have_changed(name: str, data: Path, is_prepared: bool) -> bool:
    """Whether a source that makes itself should be looked at again; looking costs no decoding."""
    if name.startswith(folder.PREFIX):
        return _parse_folder_path(name).exists() or not is_prepared
    if name.startswith(medmnist.PREFIX):
        return not is_prepared or (data / f"{name.removeprefix(medmnist.PREFIX)}.npz").exists()
    return _find_source(name).reader is None and not is_prepared


def _make_missing_error(name: str, size: int, data: Path) -> UserError:
    option = "" if data == Path("data") else f" --data {shlex.quote(str(data))}"
    if name in SOURCES and (where := SOURCES[name].reader and SOURCES[name].where_to_get):
        return UserError(
            f"{find_title(name)} is not prepared at {size} pixels in {data}: get it from {where}, then run "
            f"`udcd-bench data prepare {name} --from DIR --size {size}{option}` with DIR the folder that "
            "holds it; the demo profile needs none of this."
        )
    return UserError(
        f"{name} is not prepared at {size} pixels in {data}: run `udcd-bench data prepare "
        f"{shlex.quote(name)} --size {size}{option}`; the demo profile needs none of this."
    )


def _find_source(name: str) -> Source:
    if name not in SOURCES:
        raise UserError(
            f"Unknown data set {name!r}{suggest_nearest(name, SOURCES)} Or folder:PATH (your own images), "
            "medmnist:NAME."
        )
    return SOURCES[name]


def _parse_folder_path(name: str) -> Path:
    path = name.removeprefix(folder.PREFIX)
    if not path:
        raise UserError("folder: needs a path, as in folder:my/images or folder:my/labels.csv.")
    return Path(path).expanduser()


def _import_synthetic(name: str) -> Any:
    if name == "synthetic-lesions":
        from udcd_bench.data.synthetic import lesions

        return lesions
    from udcd_bench.data.synthetic import fundus

    return fundus


def _hash_parts(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _prepare_medmnist(
    name: str, target: Path, size: int, source_path: Path | None, data: Path
) -> PreparedSet:
    from udcd_bench.data.cache import prepare
    from udcd_bench.data.layouts import arrays

    short = name.removeprefix(medmnist.PREFIX)
    file = medmnist.find_file(short, source_path, data)
    stat = file.stat()
    source = _hash_parts(short, stat.st_size, stat.st_mtime_ns)
    if done := prepare.find_existing(target, source, True):
        return done
    return arrays.prepare_arrays(medmnist.read_arrays(file, short), target, size, source)


def _prepare_digits(target: Path, size: int) -> PreparedSet:
    from udcd_bench.data.cache import prepare
    from udcd_bench.data.layouts import arrays, digits

    source = _hash_parts(digits.NAME, digits.VERSION, digits.RHO, digits.SEED)
    return prepare.find_existing(target, source, True) or arrays.prepare_arrays(
        digits.read_arrays(), target, size, source
    )


def _prepare_synthetic(
    name: str, target: Path, size: int, n: int, jobs: int, progress: ProgressCallback | None
) -> PreparedSet:
    import numpy as np

    from udcd_bench.data.cache import prepare, prepared
    from udcd_bench.data.synthetic import drawing

    artist = _import_synthetic(name)
    source = _hash_parts(name, artist.VERSION, n, SEED, size)
    if done := prepare.find_existing(target, source, True):
        return done
    labels = artist.make_labels(n, SEED)
    groups = artist.make_groups(n, labels, SEED)
    with prepared.open_staging_dir(target, n, size) as work:
        if done := prepare.find_existing(target, source, True):  # another process drew them while we waited
            return done
        images = np.load(work / prepared.ARRAY, mmap_mode="r+")
        told = None if progress is None else (lambda more: progress(more, n))
        drawing.draw_all(
            artist.draw_image, labels, size, SEED, jobs=jobs, progress=told, groups=groups, out=images
        )
        images.flush()
        rows = prepared.Rows(
            name=name,
            title=SOURCES[name].title,
            classes=artist.CLASSES,
            ids=[f"{name}-{i:06d}" for i in range(n)],
            labels=labels.tolist(),
            groups=groups.tolist(),
            source_sha256=source,
            ordered=is_ordered(name),
            synthetic=True,
            source="drawn by udcd-bench",
        )
        prepared.commit(work, target, rows, size)
    return prepare.PreparedSet(target, (), True, "")
