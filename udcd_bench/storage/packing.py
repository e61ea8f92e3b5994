"""Arrays as bytes and back: never pickled, and what is read back is what was written."""

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


def pack_npz(arrays: Mapping[str, Any]) -> bytes:
    """A compressed NumPy archive."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def pack(arrays: Arrays, meta: Mapping[str, Any] | None = None) -> bytes:
    """A safetensors file. With ``meta``, JSON values, it also carries those and a checksum of all."""
    from safetensors.numpy import save

    # as safetensors wants them; a scalar stays one, which ``ascontiguousarray`` would not leave it
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    if meta is None:
        return bytes(save(arrays))
    # JSON in a metadata field: no reader ever unpickles anything
    text = json.dumps(meta)
    return bytes(save(arrays, {"meta": text, "sha256": _compute_digest(arrays, text)}))


def unpack(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """What was packed with ``meta``. Raises ValueError where it is not what was written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            says = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if says["sha256"] != _compute_digest(arrays, says["meta"]):
            raise ValueError("its checksum differs")
        return arrays, json.loads(says["meta"])
    except (SafetensorError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise ValueError(str(error)) from error


def read_meta(path: Path) -> dict[str, Any]:
    """The ``meta`` of what was packed with it, to look at: arrays and checksum are left unread. Raises ValueError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            said: dict[str, Any] = json.loads(file.metadata()["meta"])
            return said
    except (SafetensorError, KeyError, TypeError, OSError) as error:
        raise ValueError(str(error)) from error


def _compute_digest(arrays: Arrays, meta: str) -> str:
    """Of the numbers, their names, types and shapes, and of what else is said."""
    sums = hashlib.sha256(meta.encode())
    for name in sorted(arrays):
        sums.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        sums.update(arrays[name])
    return sums.hexdigest()
