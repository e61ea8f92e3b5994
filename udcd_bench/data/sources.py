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
from udcd_bench.errors import UserError, nearest, printable

if TYPE_CHECKING:
    from udcd_bench.data.cache.prepare import Prepared, Progress
    from udcd_bench.data.dataset import Dataset
    from udcd_bench.data.layouts.image_index import Listing

N_IMAGES = 2000  # of a synthetic set, unless asked otherwise
SEED = 2020  # of the synthetic sets; which images there are is part of what they are


@dataclass(frozen=True)
class Source:
    """A data set with a fixed name."""

    title: str
    what: str
    where: str = "needs no download"
    read: Callable[[Path], Listing] | None = None
    synthetic: bool = False


SOURCES = {
    "ham10000": Source(
        ham10000.TITLE,
        "10 015 dermoscopic photographs of 7 470 lesions, 7 classes",
        ham10000.WHERE_TO_GET,
        ham10000.read,
    ),
    "aptos": Source(aptos.TITLE, "3 662 fundus photographs, grades 0 to 4", aptos.WHERE_TO_GET, aptos.read),
    "synthetic-lesions": Source(
        "lesions (synthetic stand-in)", "drawn lesions, 7 classes in HAM10000's proportions", synthetic=True
    ),
    "synthetic-fundus": Source(
        "fundus (synthetic stand-in)", "drawn fundi, 5 grades in APTOS 2019's proportions", synthetic=True
    ),
    "digits": Source("Digits (long-tailed, ρ = 4)", "scikit-learn's 8×8 real handwriting, made long-tailed"),
}


def names() -> tuple[str, ...]:
    """The fixed names; ``folder:PATH`` and ``medmnist:NAME`` come on top."""
    return tuple(SOURCES)


def title(name: str) -> str:
    """What tables and captions call a data set."""
    if name.startswith(folder.PREFIX):
        return printable(_path(name).absolute().name)
    if name.startswith(medmnist.PREFIX):
        return medmnist.check_name(name.removeprefix(medmnist.PREFIX))
    return _source(name).title


def is_synthetic(name: str) -> bool:
    """Whether the images are drawn by this suite."""
    return name in SOURCES and SOURCES[name].synthetic


def is_ordered(name: str) -> bool:
    """Whether the classes are grades, as far as the name alone tells."""
    return name in ("aptos", "synthetic-fundus")


def slug(name: str, n_images: int | None = None) -> str:
    """The folder below the data folder that holds a data set, one subfolder a size."""
    if name.startswith(folder.PREFIX):
        return folder.slug(_path(name))
    if name.startswith(medmnist.PREFIX):
        return "medmnist-" + medmnist.check_name(name.removeprefix(medmnist.PREFIX))
    if _source(name).synthetic:
        return f"{name}-n{n_images or N_IMAGES}-v{_artist(name).VERSION}"
    return name


def prepared(name: str, data: Path) -> list[Path]:
    """The prepared sets of `name` below `data`, smallest first; damaged ones included."""
    pattern = f"{name}-n*-v*" if is_synthetic(name) else slug(name)
    found = [path for path in data.glob(f"{pattern}/*") if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=lambda path: (int(path.name), len(path.parent.name), path.parent.name))


def load(
    name: str,
    *,
    size: int,
    data: Path,
    n_images: int | None = None,
    prepare_missing: bool = True,
    jobs: int = 1,
    whole: bool = False,
) -> Dataset:
    """The data set called `name` at size×size pixels, memory-mapped from the cache in `data`.

    What needs no download is made there on first use (unless `prepare_missing` is False), and again where it is
    damaged, which is then moved aside; HAM10000 and APTOS have to be prepared. `n_images` is for the synthetic sets.
    `whole`: look at every byte.
    """
    from udcd_bench.data.cache import prepared
    from udcd_bench.data.cache.prepare import check_size

    check_size(size)
    target = data / slug(name, n_images) / str(size)
    if prepare_missing and _makes_itself(name) and target.is_dir():
        try:
            prepared.load(target, whole=whole)
        except prepared.DamagedError as error:
            says, _, _ = str(error).partition("; delete")
            logging.getLogger(__name__).warning("%s; moved to %s.", says, prepared.set_aside(target))
    here = (target / prepared.MANIFEST).exists()
    if target.is_dir() and not here:
        prepared.manifest(target)  # says what is wrong
    if prepare_missing and _may_have_changed(name, data, here):
        prepare(name, size=size, data=data, n_images=n_images, jobs=jobs, accept_incomplete=True)
    elif not here:
        raise _missing(name, size, data)
    return replace(prepared.load(target, whole=whole), name=printable(name))


def prepare(
    name: str,
    *,
    size: int,
    data: Path,
    place: Path | None = None,
    n_images: int | None = None,
    jobs: int = 1,
    allow_incomplete: bool = False,
    accept_incomplete: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Make the cache of `name` from what lies at `place` (None where the name says where that is).

    `accept_incomplete`: an incomplete set someone allowed earlier is good enough; a new one is not made.
    """
    from udcd_bench.data.cache import prepare as preparing

    preparing.check_size(size)
    if place is not None and (name == "digits" or is_synthetic(name) or name.startswith(folder.PREFIX)):
        raise UserError(f"{name} needs no --from: its name says where its images come from.")
    target = data / slug(name, n_images) / str(size)
    if name.startswith(medmnist.PREFIX):
        return _prepare_medmnist(name, target, size, place, data)
    if name == "digits":
        return _prepare_digits(target, size)
    if is_synthetic(name):
        return _draw(name, target, size, n_images or N_IMAGES, jobs, progress)
    if name.startswith(folder.PREFIX):
        listing = folder.read(_path(name))
    else:
        listing = _read(name, place, target, size, data)
    if accept_incomplete and (done := preparing.existing(target, listing.checksum(), True)):
        return done
    return preparing.prepare(
        listing, target, size, jobs=jobs, allow_incomplete=allow_incomplete, progress=progress
    )


def _read(name: str, place: Path | None, target: Path, size: int, data: Path) -> Listing:
    reader = _source(name).read
    assert reader is not None
    if place is None:
        raise _missing(name, size, data)
    return reader(place)


def _makes_itself(name: str) -> bool:
    """Whether a source can be prepared from its name alone."""
    return name.startswith((folder.PREFIX, medmnist.PREFIX)) or _source(name).read is None


def _may_have_changed(name: str, data: Path, here: bool) -> bool:
    """Whether a source that makes itself should be looked at again; looking costs no decoding."""
    if name.startswith(folder.PREFIX):
        return _path(name).exists() or not here
    if name.startswith(medmnist.PREFIX):
        return not here or (data / f"{name.removeprefix(medmnist.PREFIX)}.npz").exists()
    return _source(name).read is None and not here


def _missing(name: str, size: int, data: Path) -> UserError:
    option = "" if data == Path("data") else f" --data {shlex.quote(str(data))}"
    if name in SOURCES and (where := SOURCES[name].read and SOURCES[name].where):
        return UserError(
            f"{title(name)} is not prepared at {size} pixels in {data}: get it from {where}, then run "
            f"`udcd-bench data prepare {name} --from DIR --size {size}{option}` with DIR the folder that "
            "holds it; the demo profile needs none of this."
        )
    return UserError(
        f"{name} is not prepared at {size} pixels in {data}: run `udcd-bench data prepare "
        f"{shlex.quote(name)} --size {size}{option}`; the demo profile needs none of this."
    )


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise UserError(
            f"Unknown data set {name!r}{nearest(name, SOURCES)} Or folder:PATH (your own images), "
            "medmnist:NAME."
        )
    return SOURCES[name]


def _path(name: str) -> Path:
    path = name.removeprefix(folder.PREFIX)
    if not path:
        raise UserError("folder: needs a path, as in folder:my/images or folder:my/labels.csv.")
    return Path(path).expanduser()


def _artist(name: str) -> Any:
    if name == "synthetic-lesions":
        from udcd_bench.data.synthetic import lesions

        return lesions
    from udcd_bench.data.synthetic import fundus

    return fundus


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _prepare_medmnist(name: str, target: Path, size: int, place: Path | None, data: Path) -> Prepared:
    from udcd_bench.data.cache import prepare
    from udcd_bench.data.layouts import arrays

    short = name.removeprefix(medmnist.PREFIX)
    file = medmnist.find(short, place, data)
    stat = file.stat()
    source = _digest(short, stat.st_size, stat.st_mtime_ns)
    if done := prepare.existing(target, source, True):
        return done
    return arrays.prepare(medmnist.read(file, short), target, size, source)


def _prepare_digits(target: Path, size: int) -> Prepared:
    from udcd_bench.data.cache import prepare
    from udcd_bench.data.layouts import arrays, digits

    source = _digest(digits.NAME, digits.VERSION, digits.RHO, digits.SEED)
    return prepare.existing(target, source, True) or arrays.prepare(digits.read(), target, size, source)


def _draw(name: str, target: Path, size: int, n: int, jobs: int, progress: Progress | None) -> Prepared:
    import numpy as np

    from udcd_bench.data.cache import prepare, prepared
    from udcd_bench.data.synthetic import drawing

    artist = _artist(name)
    source = _digest(name, artist.VERSION, n, SEED, size)
    if done := prepare.existing(target, source, True):
        return done
    labels = artist.labels(n, SEED)
    groups = artist.groups(n, labels, SEED)
    with prepared.incoming(target, n, size) as work:
        if done := prepare.existing(target, source, True):  # another process drew them while we waited
            return done
        images = np.load(work / prepared.ARRAY, mmap_mode="r+")
        told = None if progress is None else (lambda more: progress(more, n))
        drawing.draw_all(artist.draw, labels, size, SEED, jobs=jobs, progress=told, groups=groups, out=images)
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
        prepared.publish(work, target, rows, size)
    return prepare.Prepared(target, (), True, "")
