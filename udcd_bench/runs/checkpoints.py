"""The checkpoint of one run under way: arrays and JSON values in one safetensors file, replaced as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from udcd_bench.storage import packing
from udcd_bench.storage.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from udcd_bench.storage.packing import Arrays


class RunCheckpoint:
    """The checkpoint in a file, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Replace the checkpoint. meta: JSON values."""
        write_atomically(self.path, packing.pack(arrays, meta))

    def load(self) -> tuple[Arrays, dict[str, Any]] | None:
        """Read the checkpoint; None if it is missing or damaged, in which case it is moved aside."""
        if not self.path.exists():
            return None
        try:
            return packing.unpack(self.path)
        except ValueError:
            self.path.replace(self.path.with_suffix(".damaged"))
            return None

    def read_history(self) -> list[dict[str, Any]]:
        """Read the epochs behind the checkpoint, for display only: nothing is verified. Empty if there is none."""
        try:
            rows: list[dict[str, Any]] = packing.read_meta(self.path)["history"]
            return rows
        except (ValueError, KeyError):
            return []
