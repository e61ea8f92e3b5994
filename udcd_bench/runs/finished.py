"""Finished runs of a results folder: reading their files, each verified, and finding damage."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from udcd_bench.errors import UserError, quote_command
from udcd_bench.runs import records
from udcd_bench.stats.rules import BEST_VALIDATION
from udcd_bench.storage import packing
from udcd_bench.storage.checksums import hash_file, load_with_checksum

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from udcd_bench.runs.records import Record
    from udcd_bench.storage.packing import Arrays

RECORD_SCHEMA = 2
"""Version of ``record.json``. 1: without a checksum of its own and without the sizes of the files beside it."""
RECORD, HISTORY, SCORES, WEIGHTS, SPEC = (
    "record.json",
    "history.csv",
    "scores.npz",
    "student.safetensors",
    "spec.json",
)
"""Files of a finished run."""


class DamagedRunError(UserError):
    """A stored run differs from what was written. key: the run's."""

    def __init__(self, key: str, path: Path, reason: str) -> None:
        command = quote_command("results", "verify", "--out", path.parents[2])
        super().__init__(
            f"{path} is damaged ({reason}); `{command}` moves that run aside, and the next start makes it again."
        )
        self.key = key


def _make_unreadable_error(path: Path) -> UserError:
    # no damage: a run that was moved aside for it would be made again for nothing
    return UserError(
        f"{path} may not be read; ask its owner for the right to read it, or give another --out."
    )


_KEY = re.compile(r"[\w-]+")
"""Names of runs' folders; those of copies that file managers make, such as ``KEY (copy)``, have more in them."""


@functools.cache
def _warn_of_stranger(folder: Path) -> None:
    logging.getLogger(__name__).warning(
        "%s is left out: a run's folder is called by its key alone, and a copy of one by no other name.",
        folder,
    )


class FinishedRuns:
    """The finished runs in a folder, one folder a run, named by its key."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def list_keys(self) -> list[str]:
        """List the keys of the finished runs, sorted."""
        if not self.runs.exists():
            return []
        with os.scandir(self.runs) as folders:
            names = sorted(f.name for f in folders if f.name[0] != "." and self.is_finished(f.name))
        for name in names:
            if not _KEY.fullmatch(name):
                _warn_of_stranger(self.runs / name)
        return [name for name in names if _KEY.fullmatch(name)]

    def is_finished(self, key: str) -> bool:
        """Return whether the run is finished, by whichever process."""
        return self.record_path(key).exists()

    def finished_at(self, key: str) -> int:
        """Return when the run was finished or copied, in nanoseconds since the epoch."""
        return self.record_path(key).stat().st_mtime_ns

    def run_folder(self, key: str) -> Path:
        """Return the folder of a finished run."""
        return self.runs / key

    def record_path(self, key: str) -> Path:
        """Return the path of a run's record, which is written last."""
        return self.runs / key / RECORD

    def has_scores(self, key: str) -> bool:
        """Return whether the run's scores are stored: a folder of copied records may lack them."""
        return (self.runs / key / SCORES).exists()

    def has_weights(self, key: str) -> bool:
        """Return whether a finished run is stored with its weights, which a packed one is not."""
        return WEIGHTS in self.read_record(key)["files"]

    # --- reading --------------------------------------------------------------------------------------------

    def read_record(self, key: str) -> Record:
        """Read a finished run's record. Raises DamagedRunError, or UserError when it is from a newer version."""
        path = self.record_path(key)
        try:
            record = load_with_checksum(path.read_bytes(), required=False)
            schema = int(record["schema"])
            if schema == RECORD_SCHEMA and "sha256" not in record:
                raise ValueError("it has no checksum")
            if schema <= RECORD_SCHEMA and record["key"] != key:
                raise ValueError("it is another run's")
            if schema <= RECORD_SCHEMA:
                records.check_record(record)
        except PermissionError as error:
            raise _make_unreadable_error(path) from error
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise DamagedRunError(key, path, str(error) or "it cannot be read") from error
        if schema > RECORD_SCHEMA:
            raise UserError(f"{path} was written by a newer udcd-bench; upgrade, or give another --out.")
        return cast("Record", record)

    def read_records(self) -> Iterator[Record]:
        """Read the record of every finished run, leaving out damaged ones."""
        for key in self.list_keys():
            with contextlib.suppress(DamagedRunError):
                yield self.read_record(key)

    def read_scores(self, key: str) -> Arrays:
        """Read a run's arrays of its test images.

        ``scores`` (E, n, C) logits of the last E epochs, ``epochs`` (E,), ``labels`` (n,), ``ids`` (n,), ``groups``
        (n,), ``embeddings`` (n, 128) of the last epoch, or (n, 0) of a run packed without them. Of a validated run also
        ``chosen_scores`` (1, n, C) of the epoch that is best on the validation images, and of these
        ``validation_scores`` (E, m, C), ``validation_chosen_scores`` (1, m, C), ``validation_labels``,
        ``validation_ids``, ``validation_groups`` (m,).
        """
        record = self.read_record(key)
        path = self._verify_file(key, SCORES, record)
        try:
            arrays = packing.unpack_npz(path)
            records.check_arrays(arrays, len(record["classes"]))
            arrays["embeddings"] = arrays["embeddings"].astype(
                np.float32, copy=False
            )  # packed ones are shorter
        except ValueError as error:
            raise DamagedRunError(key, path, str(error)) from error
        return arrays

    def read_history(self, key: str) -> list[dict[str, Any]]:
        """Read the epochs of all stages of a run: ``stage``, and numbers such as ``loss`` and ``acc``."""
        path = self.verify_file(key, HISTORY)
        try:
            return records.parse_history(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DamagedRunError(key, path, str(error)) from error

    def read_weights(self, key: str) -> Arrays:
        """Read the parameters and buffers of a run's student. Raises UserError for a run packed without them."""
        if not self.has_weights(key):
            raise UserError(
                f"{self.run_folder(key)} was packed without its weights, so no student can learn from it; give an "
                "--out of its own to what is trained."
            )
        path = self.verify_file(key, WEIGHTS)
        try:
            return packing.unpack_arrays(path)
        except ValueError as error:
            raise DamagedRunError(key, path, str(error)) from error

    def build_frame(self, rule: str = "mean") -> pd.DataFrame:
        """Build a table with a row a finished run: its spec's coordinates, its data, and its metrics by ``rule``.

        rule: of ``stats.rules.RULES``; only validated runs have ``best-validation``.
        Raises DamagedRunError rather than leaving a run out.
        """
        import pandas as pd

        stored = (self.read_record(key) for key in self.list_keys())
        has_all = rule != BEST_VALIDATION
        rows = [records.flatten_record(each, rule) for each in stored if has_all or rule in each["figures"]]
        return pd.DataFrame(rows)

    # --- damage ---------------------------------------------------------------------------------------------

    def find_damage(self, key: str, *, thorough: bool = False) -> str:
        """Describe what is wrong with a finished run, naming the file; empty if nothing is.

        The record is read and the other files' sizes are compared; ``thorough`` compares their checksums too.
        """
        try:
            record = self.read_record(key)
            for name, size in record.get("bytes", dict.fromkeys(record["files"], -1)).items():
                self._check_file(key, name, size, record["files"][name] if thorough else "")
        except DamagedRunError as error:
            return str(error)
        return ""

    def verify_file(self, key: str, name: str) -> Path:
        """Return the path of a finished run's file. Raises DamagedRunError when its checksum differs."""
        return self._verify_file(key, name, self.read_record(key))

    def _verify_file(self, key: str, name: str, record: Record) -> Path:
        return self._check_file(key, name, -1, record["files"].get(name, "?"))

    def _check_file(self, key: str, name: str, size: int, checksum: str) -> Path:
        """Compare a file's size, unless it is -1, and its checksum, unless it is empty."""
        path = self.runs / key / name
        try:
            actual_size = path.stat().st_size
            actual_checksum = hash_file(path) if checksum else ""
        except PermissionError as error:
            raise _make_unreadable_error(path) from error
        except OSError as error:
            raise DamagedRunError(key, path, "it cannot be read") from error
        if size not in (-1, actual_size):
            raise DamagedRunError(key, path, f"it has {actual_size} bytes instead of {size}")
        if actual_checksum != checksum:
            raise DamagedRunError(key, path, "its checksum differs")
        return path
