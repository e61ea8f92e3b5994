"""Files of weights: their tensors by name; and a file that holds no weights is called what it is."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from udcd_bench.errors import UserError

ENDINGS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
"""Of files that may hold weights, for the sentence about a folder."""
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself; run `git lfs pull` where it is from"),
    (rb"\s*<", "a page of HTML or XML, so the download went wrong; fetch the file itself"),
    (rb"\x89HDF\r\n\x1a\n", "HDF5, as Keras writes it; give PyTorch's weights"),
    (rb"\x08[\x01-\x20]\x12.{1,40}(pytorch|onnx|tf2onnx)|\x08[\x01-\x20]:", "an ONNX graph; give PyTorch's weights"),
    (rb"\x93NUMPY", "an array of NumPy; give a state_dict that torch.save has written"),
    (rb"GGUF", "GGUF; give PyTorch's weights"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!", "compressed; unpack it and give the file inside"),
    (rb"\x89PNG|\xff\xd8\xff|%PDF", "a picture or a document; give PyTorch's weights"),
)  # fmt: skip
"""How files begin that people take for weights, and what to call them."""
LEGACY_MAGIC = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""Near the beginning of what torch.save has written before it wrote zip archives."""
MAX_DEPTH = 8
ARRAY_MAKERS = ("numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct")
"""How a pickled array names the function that makes it, in NumPy 2 and before."""
PLAIN_CLASSES: list[Any] = [
    argparse.Namespace, np.ndarray, np.dtype, type(np.dtype("f4")), type(np.dtype("f8")), type(np.dtype("f2")),
    type(np.dtype("i8")), type(np.dtype("i4")),
    *((np.empty(0).__reduce__()[0], name) for name in ARRAY_MAKERS),
]  # fmt: skip
"""What may be unpickled beside tensors: timm's own options, and arrays of NumPy, whose makers execute nothing."""


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors or PyTorch file by name; names of nested dicts are joined by dots.

    Raises UserError, with what the file is instead, when it holds none or more than tensors.
    """
    if file.is_dir():
        inside = sorted(path.name for path in file.iterdir() if path.suffix in ENDINGS)
        example = f", such as {file / inside[0]}" if inside else ""
        raise UserError(f"weights={file}: it is a folder; give a file of weights{example}.")
    if not file.is_file():
        raise UserError(
            f"weights={file}: there is no such file; weights is one of imagenet, none, or a file."
        )
    try:
        beginning = _read_beginning(file)
        if kind := _identify(file, beginning):
            raise UserError(f"{file} holds no weights that can be read: it is {kind}.")
        tensors = _read_safetensors(file) if _is_safetensors(beginning) else _read_pickle(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read as weights ({error.strerror or error}).") from error
    if not tensors:
        raise UserError(f"{file} holds no tensors with names; give a state_dict, or a file that has one.")
    return {name: _make_plain(name, tensor, file) for name, tensor in tensors.items()}


def _make_plain(name: str, tensor: Tensor, file: Path) -> Tensor:
    """Return a parameter, or a sparse or quantised tensor, as a plain tensor that holds its values."""
    try:
        plain = tensor.detach()
        if plain.is_quantized:
            plain = plain.dequantize()
        if plain.is_meta or plain.is_nested:
            raise TypeError("it has a shape and no values" if plain.is_meta else "it is nested")
        return plain.to_dense() if plain.layout != torch.strided else plain.as_subclass(Tensor)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{file} holds {name} in a form that is not read ({reason}); save plain tensors, such as a state_dict()."
        ) from error


def _read_beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(512)


def _identify(file: Path, beginning: bytes) -> str:
    """Name what a file is when it holds no weights, with what to do; empty where it may hold some."""
    if not beginning:
        return "empty; fetch it again"
    for pattern, kind in BEGINNINGS:
        if re.match(pattern, beginning, re.DOTALL | re.IGNORECASE):
            return kind
    if beginning.startswith(b"PK\x03\x04"):
        return _identify_archive(file) if zipfile.is_zipfile(file) else "cut short or damaged; fetch it again"
    if beginning[257:262] == b"ustar":
        return "a tar archive; unpack it and give the file inside"
    text = beginning.decode("utf-8", "replace").rstrip("\ufffd")  # the last letter may be cut
    if text and "\ufffd" not in text and all(c.isprintable() or c.isspace() for c in text):
        return f"text, which begins {' '.join(text.split())[:40]!r}; give PyTorch's weights"
    return ""


def _identify_archive(file: Path) -> str:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "a TorchScript archive, which is a program; load it where you trust it and save its state_dict()"
        )
    if any(name.endswith(("data.pkl", "data/data.pkl")) for name in names):
        return ""
    if any(name.endswith(".npy") for name in names):
        return "an archive of NumPy; give a state_dict that torch.save has written"
    if any(name.endswith((".h5", "keras_metadata.pb")) for name in names):
        return "a Keras model; give PyTorch's weights"
    return f"a zip archive of {len(names)} files; unpack it and give the file of weights inside"


def _is_safetensors(beginning: bytes) -> bool:
    """Tell whether a file begins as safetensors does, whatever its name: a length, then JSON."""
    return beginning[8:9] == b"{" and beginning[:2] != b"\x80\x02"


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(file)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{file} is damaged or cut short; fetch it again ({error}).") from error
    return tensors


def _read_pickle(file: Path) -> dict[str, Tensor]:
    """Read what ``torch.save`` has written; only tensors, plain values and timm's own options are unpickled."""
    try:
        with torch.serialization.safe_globals(PLAIN_CLASSES), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = torch.load(file, map_location="cpu", weights_only=True)
    # a damaged or hostile pickle may raise anything
    except Exception as error:
        raise UserError(_describe_unreadable(file, error)) from error
    return dict(_list_tensors(whole))


def _describe_unreadable(file: Path, error: Exception) -> str:
    beginning = _read_beginning(file)
    if re.match(rb"\x80[\x02-\x05]", beginning) and LEGACY_MAGIC not in beginning[:20]:
        return (
            f"{file} cannot be read as weights: it is a pickle that torch.save has not written, which could run any "
            "code; load it where you trust it and save its state_dict() with torch.save."
        )
    if needed := re.search(r"GLOBAL ([\w.]+)", str(error)):
        kind = "a whole pickled model" if _is_one_object(file) else "a pickle of more than tensors"
        return (
            f"{file} cannot be read as weights: it is {kind} ({needed[1]}), which could run any code; load it where "
            "you trust it and save its state_dict()."
        )
    reason = " ".join(str(error).split())[:100]
    return (
        f"{file} cannot be read as weights: it is damaged, or of no kind that PyTorch writes "
        f"({type(error).__name__}: {reason}); fetch it again."
    )


def _is_one_object(file: Path) -> bool:
    """Tell whether the first thing in the pickle is a class that is no dict, as of a model saved whole."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as pickle:
            beginning = pickle.read(40)
    return beginning[2:3] == b"c" and not beginning[3:].startswith(b"collections\n")


def _list_tensors(value: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """List (name, tensor) of all tensors and arrays in nested dicts."""
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        for key, inner in value.items():
            if isinstance(inner, np.ndarray) and inner.dtype.kind in "fiub":
                yield f"{prefix}{key}", torch.from_numpy(inner)
            elif isinstance(inner, Tensor):
                yield f"{prefix}{key}", inner
            else:
                yield from _list_tensors(inner, f"{prefix}{key}.", depth + 1)
