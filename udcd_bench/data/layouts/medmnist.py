"""``medmnist:NAME``: the npz layout of MedMNIST (Yang et al., Sci. Data 2023), with its own split.

A set comes as 28² images in ``NAME.npz``, and some also as ``NAME_64.npz``, ``NAME_128.npz`` and ``NAME_224.npz``; of
those that are there the one of the wanted size is read. Keys ``{train,val,test}_{images,labels}``; images (n, h, w) or
(n, h, w, 1) grey or (n, h, w, 3), labels (n, 1). The package ``medmnist`` is not needed. Classes are named by their
numbers, since the file has no names.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench.data.cache.options import PrepareOptions, format_prepare_command
from udcd_bench.data.files.archives import MAX_UNPACK_RATIO, ZIP_METHODS, make_stamp
from udcd_bench.data.layouts.image_arrays import ImageArrays
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "medmnist:"
PARTS = ("train", "val", "test")
WHERE_TO_GET = "https://zenodo.org/records/10519652 (MedMNIST v2, doi 10.5281/zenodo.10519652)"
LARGER_SIZES = (64, 128, 224)
"""Sides of the images in files that are called by them."""
ORDERED = frozenset({"retinamnist"})  # graded 0 to 4, like APTOS


def check_name(name: str) -> str:
    """Return the NAME of ``medmnist:NAME``, which becomes part of a file name. Raises UserError when it cannot."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise UserError(
            f"medmnist:{name} is no MedMNIST set; give its file name without .npz, as in medmnist:dermamnist."
        )
    return name


def find_file(name: str, source_path: Path | None, target: Path) -> Path:
    """Find the npz file of a set: ``source_path``, or the set's in that folder, or else in the folder of prepared data.

    target: where the set will be prepared. Raises UserError when there is no such file, or its name is another set's.
    """
    folder = target.parent.parent if source_path is None else source_path
    file = (
        find_in_folder(name, folder, int(target.name)) if source_path is None or folder.is_dir() else folder
    )
    if not file.is_file():
        command = format_prepare_command(f"{PREFIX}{name}", target, PrepareOptions(source_path=Path("DIR")))
        raise UserError(
            f"There is no {file}; get {_list_files(name, int(target.name))} from {WHERE_TO_GET} and put it there, or "
            f"give its place with `{command}`; the demo profile needs no data."
        )
    called = re.match(r"[a-z]+mnist", file.stem.lower())
    if called and not name.lower().startswith(called[0]):
        raise UserError(
            f"{file} is called as another set, and not {name}; give medmnist:{file.stem}, or {name}.npz."
        )
    return file


def find_in_folder(name: str, folder: Path, size: int) -> Path:
    """Find the file of a set in a folder: of the wanted size if it is there, else NAME.npz, there or not."""
    exact = folder / f"{name}_{size}.npz"
    return exact if size in LARGER_SIZES and exact.is_file() else folder / f"{name}.npz"


def _list_files(name: str, size: int) -> str:
    larger = f"{name}_{size}.npz or " if size in LARGER_SIZES else ""
    return f"{larger}{name}.npz"


def compute_checksum(file: Path, name: str) -> str:
    """Compute a checksum that changes when the set or its file does; the file is not read."""
    stat = file.stat()
    return hashlib.sha256(repr((name, stat.st_size, make_stamp(stat))).encode()).hexdigest()


def read_arrays(file: Path, name: str) -> ImageArrays:
    """Read all images of an npz file in the order train, val, test.

    Raises UserError when the file is damaged or does not have MedMNIST's layout.
    """
    arrays = _read_npz(file)
    for split in PARTS:
        _check_split_arrays(file, split, arrays[f"{split}_images"], arrays[f"{split}_labels"])
    labels = np.concatenate([arrays[f"{split}_labels"].reshape(-1) for split in PARTS]).astype(np.int64)
    if not len(labels) or labels.min() < 0 or labels.max() >= len(labels):
        raise UserError(f"{file} holds no images, or labels below 0, or fewer images than classes.")
    sizes = np.bincount(labels)
    if len(sizes) < 2 or not sizes.all():
        listing = ", ".join(f"{label} ({n})" for label, n in enumerate(sizes))
        raise UserError(
            f"{file} needs images of two classes or more, numbered from 0 without a gap: {listing}."
        )
    counts = {split: len(arrays[f"{split}_labels"]) for split in PARTS}
    return ImageArrays(
        name=f"{PREFIX}{name}",
        title=name,
        classes=tuple(str(c) for c in range(int(labels.max()) + 1)),
        ids=[f"{split}-{i:06d}" for split in PARTS for i in range(counts[split])],
        labels=labels,
        images=[
            image.reshape(image.shape[:2]) if image.shape[2:] == (1,) else image
            for split in PARTS
            for image in arrays[f"{split}_images"]
        ],
        own_split=[split for split in PARTS for _ in range(counts[split])],
        ordered=name.split("_")[0] in ORDERED,
        source=str(file),
    )


def _read_npz(file: Path) -> dict[str, Any]:
    """Read images and labels of every split from an npz file, still unchecked. Raises UserError when it is damaged."""
    keys = [f"{split}_{part}" for split in PARTS for part in ("images", "labels")]
    try:
        _check_unpacked_size(file)
        with file.open("rb") as opened, _silence_numpy(), np.load(opened, allow_pickle=False) as npz:
            if missing := [key for key in keys if key not in npz.files]:
                raise UserError(
                    f"{file} has no {', '.join(missing)}; it has: {', '.join(npz.files)} (MedMNIST files "
                    "hold {train,val,test}_{images,labels})."
                )
            return {key: npz[key] for key in keys}
    except UserError:
        raise
    except Exception as error:  # of a damaged file numpy raises what its parts raise, from tokenizer to zlib
        raise UserError(f"{file} is damaged or no npz file: {error}.") from error


@contextlib.contextmanager
def _silence_numpy() -> Iterator[None]:
    """Silence numpy's warnings of odd headers and shapes: the arrays are checked afterwards."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _check_unpacked_size(file: Path) -> None:
    """Check that a file is an npz, and not a zip bomb. Raises UserError when it is not safe to read."""
    with file.open("rb") as opened:
        if opened.read(6) == b"\x93NUMPY":
            raise UserError(f"{file} is a single array, not an npz file.")
    with zipfile.ZipFile(file) as archive:
        size = sum(info.file_size for info in archive.infolist())
        if size > MAX_UNPACK_RATIO * max(file.stat().st_size, 2**20):
            raise UserError(
                f"{file} says that it unpacks to more than {MAX_UNPACK_RATIO} times its size; it is no set."
            )
        if {info.compress_type for info in archive.infolist()} - ZIP_METHODS:
            raise UserError(f"{file} has members that are neither stored nor deflated; save it again.")


def _check_split_arrays(file: Path, split: str, images: Any, labels: Any) -> None:
    """Check shapes and types of one split. Raises UserError when they are not MedMNIST's."""
    if not isinstance(images, np.ndarray) or not isinstance(labels, np.ndarray):
        raise UserError(f"{file} is damaged: what it holds for {split} is no array.")
    flat = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or 0 in images.shape[1:] or not flat:
        raise UserError(
            f"{file} holds {split}_images of shape {images.shape} and type {images.dtype}; only flat uint8 "
            "images (n, h, w), (n, h, w, 1) or (n, h, w, 3) can be used, not volumes."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise UserError(
            f"{file} is a multi-label set ({labels.shape[1]} labels an image), and every method here "
            "chooses one class."
        )
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(images),), (len(images), 1)):
        raise UserError(
            f"{file} holds {len(images)} {split}_images but {split}_labels of shape {labels.shape}."
        )
