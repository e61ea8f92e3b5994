"""Arrays as bytes and back, by ``.npz`` and safetensors: nothing is pickled, and damage is detected."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Arrays = dict[str, Any]
"""Name → array."""


def pack_npz(arrays: Mapping[str, Any]) -> bytes:
    """Pack arrays as a compressed NumPy archive."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack_npz(path: Path) -> Arrays:
    """Read the arrays of a NumPy archive. Raises ValueError when it cannot be read."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    # NumPy has no exception of its own for a damaged file: whatever its parts raise, from tokenizer to zlib, comes out
    except Exception as error:
        raise ValueError(str(error)) from error


def pack(arrays: Arrays, meta: Mapping[str, Any] | None = None) -> bytes:
    """Pack arrays as a safetensors file.

    meta: JSON values to store beside the arrays, with a checksum of both; None stores neither.
    """
    from safetensors.numpy import save

    # safetensors needs them contiguous; ``np.ascontiguousarray`` would give a scalar a dimension
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    if meta is None:
        return bytes(save(arrays))
    # JSON in a metadata field, so that no reader ever unpickles anything
    text = json.dumps(meta)
    return bytes(save(arrays, {"meta": text, "sha256": _compute_digest(arrays, text)}))


def unpack(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read arrays and ``meta`` of a file packed with both. Raises ValueError when it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            header = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["sha256"] != _compute_digest(arrays, header["meta"]):
            raise ValueError("its checksum differs")
        return arrays, json.loads(header["meta"])
    except (SafetensorError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise ValueError(str(error)) from error


def unpack_arrays(path: Path) -> Arrays:
    """Read the arrays of a file packed without ``meta``. Raises ValueError when it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays: Arrays = load_file(path)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error
    return arrays


def read_meta(path: Path) -> dict[str, Any]:
    """Read ``meta`` alone, for display: arrays and checksum stay unread. Raises ValueError when it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            meta: dict[str, Any] = json.loads(file.metadata()["meta"])
            return meta
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        raise ValueError(str(error)) from error


def _compute_digest(arrays: Arrays, meta: str) -> str:
    """Compute the checksum of ``meta`` and of the arrays' names, types, shapes and values."""
    sums = hashlib.sha256(meta.encode())
    for name in sorted(arrays):
        sums.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        sums.update(arrays[name])
    return sums.hexdigest()
