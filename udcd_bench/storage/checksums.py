"""Checksums of files and bytes, and JSON that carries the checksum of its own text."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CHECKSUM_FIELD = b'\n "sha256": "'


def hash_bytes(data: bytes) -> str:
    """Compute the SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(value: Any) -> bytes:
    """Format a value as readable JSON with sorted keys. Raises ValueError when it holds NaN or infinity."""
    return (json.dumps(value, indent=1, sort_keys=True, default=str, allow_nan=False) + "\n").encode()


def from_json(data: bytes) -> Any:
    """Parse JSON. Raises ValueError when it is not JSON or is nested thousands of levels deep."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def dump_with_checksum(value: Mapping[str, Any]) -> bytes:
    """Format a value as JSON whose field ``sha256`` is the checksum of the text with that field empty."""
    head, field, rest = to_json({**value, "sha256": ""}).partition(_CHECKSUM_FIELD)
    return head + field + hash_bytes(head + field + rest).encode() + rest


def load_with_checksum(data: bytes, *, required: bool) -> dict[str, Any]:
    """Parse what ``dump_with_checksum`` wrote.

    required: whether JSON without a checksum is an error too.
    Raises ValueError when it is not a JSON object or its checksum differs.
    """
    head, field, rest = data.partition(_CHECKSUM_FIELD)
    if field and hash_bytes(head + field + rest[64:]).encode() != rest[:64]:
        raise ValueError("its checksum differs")
    value = from_json(data)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    if required and not field:
        raise ValueError("it has no checksum")
    return value
