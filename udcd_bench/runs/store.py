"""A results folder: runs that are whole or absent, runs under way with their checkpoints and locks, and failures.

<root>/store.json                    the folder's version
<root>/runs/<key>/                   a finished run; ``record.json`` was written last, then the folder renamed
<root>/runs/.work/<key>/             a run under way: its spec, its checkpoint
<root>/runs/.claims/                 run locks: which process is at which run
<root>/runs/.failed/<key>.json       the last failure of a run that has not succeeded since
<root>/runs/.damaged/<key>.<n>/      finished runs that were found damaged
<root>/logs/                         with ``--log``, the epochs of runs for other programs
<root>/<profile>/                    tables and figures
"""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from udcd_bench.errors import UserError
from udcd_bench.runs import planner
from udcd_bench.runs.checkpoints import RunCheckpoint
from udcd_bench.runs.finished import (
    HISTORY,
    RECORD,
    RECORD_SCHEMA,
    SCORES,
    SPEC,
    WEIGHTS,
    DamagedRunError,
    FinishedRuns,
)
from udcd_bench.runs.locks import RunLocks
from udcd_bench.runs.records import describe_age
from udcd_bench.runs.spec import RunSpec
from udcd_bench.storage import packing
from udcd_bench.storage.atomic import as_user_error, quarantine, sync_to_disk, write_atomically
from udcd_bench.storage.checksums import dump_with_checksum, from_json, hash_bytes, to_json
from udcd_bench.storage.owners import format_owner, remove, remove_stale_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from udcd_bench.storage.packing import Arrays

STORE_VERSION = 1
"""Version of the folder's layout."""


class RunSummary(NamedTuple):
    """A run in a line: its state as of ``Store.get_state``, its label, a remark, its key. Of some the label is lost."""

    state: str
    label: str
    remark: str
    key: str


class Store(FinishedRuns):
    """The runs of one results folder, finished or not.

    Raises UserError when the folder was written by a newer version or is a file.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root / "runs")
        self.root = root
        self.version_path = root / "store.json"
        self.work = self.runs / ".work"
        self.failures = self.runs / ".failed"
        self.damaged = self.runs / ".damaged"
        self.locks = RunLocks(self.runs / ".claims")
        nearest = next(path for path in (root, *root.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise UserError(f"{nearest} is a file; results go into a folder, so give another --out.")
        if self.version_path.exists():
            self._check_version()

    def _check_version(self) -> None:
        try:
            version = int(from_json(self.version_path.read_bytes())["version"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"{self.version_path} is damaged; restore it, or give another --out.") from error
        if version > STORE_VERSION:
            raise UserError(
                f"{self.root} was written by a newer udcd-bench (its version is {version}, this one reads up to "
                f"{STORE_VERSION}); upgrade, or give another --out."
            )

    def create(self) -> None:
        """Make the folder if it is missing, and remove what killed processes have left in it."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise as_user_error(error, self.root) from error
        if not self.version_path.exists():
            write_atomically(self.version_path, to_json({"version": STORE_VERSION}))
        for folder in (self.root, *self.root.glob("[!.]*/"), self.failures, *self.work.glob("*/")):
            remove_stale_files(folder.glob(".*.tmp"))
        remove_stale_files(self.work.glob("*.whole"))
        self.locks.remove_stale()
        for folder in self.work.glob("*/"):
            if self.is_finished(folder.name) and not self.locks.is_locked(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
        for key in self.list_failed():
            if self.is_finished(key):
                self.failure_path(key).unlink(missing_ok=True)

    # --- paths ----------------------------------------------------------------------------------------------

    def work_folder(self, key: str) -> Path:
        """Return the folder of a run under way."""
        return self.work / key

    def failure_path(self, key: str) -> Path:
        """Return the path of the report of a run's last failure."""
        return self.failures / f"{key}.json"

    def list_failed(self) -> list[str]:
        """List the keys of the runs whose last failure is stored, sorted."""
        return sorted(path.stem for path in self.failures.glob("[!.]*.json"))

    def list_work_folders(self) -> list[Path]:
        """List the folders of runs under way, and those being renamed into place, sorted."""
        return sorted(self.work.glob("[!.]*"))

    def list_damaged(self) -> list[Path]:
        """List the folders of damaged runs that were moved aside, sorted."""
        return sorted(self.damaged.glob("*"))

    # --- a run under way ------------------------------------------------------------------------------------

    def get_state(self, key: str) -> str:
        """Return a run's state: ``done``, ``damaged``, ``running``, ``failed``, ``interrupted`` or ``absent``.

        An interrupted run has a checkpoint to go on from.
        """
        if self.is_finished(key):
            return "damaged" if self.find_damage(key) else "done"
        if self.locks.is_locked(key):
            return "running"
        if self.failure_path(key).exists():
            return "failed"
        return "interrupted" if self.open_checkpoint(key).path.exists() else "absent"

    def acquire(self, key: str) -> bool:
        """Lock a run for this process; return False while a living process has locked it."""
        return self.locks.acquire(key)

    def release(self, key: str) -> None:
        """Release a run's lock; its checkpoint stays."""
        self.locks.release(key)

    def start_run(self, key: str, spec: RunSpec) -> str:
        """Store which run this key is of. If the finished run is damaged, move it aside and return a message."""
        write_atomically(self.work_folder(key) / SPEC, to_json(spec.to_dict()))
        damage = self.find_damage(key) if self.is_finished(key) else ""
        return f"{damage} Moved to {self.quarantine(key)}." if damage else ""

    def read_running_spec(self, key: str) -> RunSpec | None:
        """Read which run this key is of, from the folder of a run under way; None if it cannot be read."""
        try:
            return RunSpec.from_dict(from_json((self.work_folder(key) / SPEC).read_bytes()))
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def open_checkpoint(self, key: str) -> RunCheckpoint:
        """Return a run's checkpoint, which may not exist yet."""
        return RunCheckpoint(self.work_folder(key) / "checkpoint.safetensors")

    # --- ends of a run --------------------------------------------------------------------------------------

    def finish_run(
        self, key: str, record: Mapping[str, Any], history: pd.DataFrame, scores: Arrays, weights: Arrays
    ) -> None:
        """Store a finished run: every file, then ``record.json`` with their checksums, then one rename."""
        files = {
            HISTORY: history.to_csv(index=False).encode(),
            SCORES: packing.pack_npz(scores),
            WEIGHTS: packing.pack(weights),
            SPEC: to_json(record["spec"]),
        }
        self._write_with_record(key, {**record, "schema": RECORD_SCHEMA, "key": key}, files)
        self.failure_path(key).unlink(missing_ok=True)
        shutil.rmtree(self.work_folder(key), ignore_errors=True)

    def _write_with_record(self, key: str, record: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Store a run's folder of these files and of its record, to which their checksums and sizes are added."""
        sums = {name: hash_bytes(data) for name, data in files.items()}
        sizes = {name: len(data) for name, data in files.items()}
        self.write_run(key, {**files, RECORD: dump_with_checksum({**record, "files": sums, "bytes": sizes})})

    def copy_run(self, key: str, source: Store) -> None:
        """Copy a finished run of another store, whole or not at all; one that is here already gives way to it."""
        names = [*source.read_record(key)["files"], RECORD]
        files = {name: (source.run_folder(key) / name).read_bytes() for name in names}
        self.write_run(key, files, self.is_finished(key))

    def pack_run(self, key: str, source: Store, *, with_embeddings: bool = True) -> None:
        """Store a finished run of another store without its weights, and with its embeddings in half precision.

        What reads records, scores and histories reads it as it is. It can be no other run's teacher.
        with_embeddings: if not, they are left out, an array (n, 0).
        """
        record, arrays = dict(source.read_record(key)), source.read_scores(key)
        if not with_embeddings:
            arrays["embeddings"] = arrays["embeddings"][:, :0]
        if np.abs(arrays["embeddings"]).max(initial=0) <= np.finfo(np.float16).max:
            arrays["embeddings"] = arrays["embeddings"].astype(np.float16)
        files = {name: source.verify_file(key, name).read_bytes() for name in (HISTORY, SPEC)}
        record.pop("sha256", None)
        self._write_with_record(key, record, {**files, SCORES: packing.pack_npz(arrays)})

    def write_run(self, key: str, files: Mapping[str, bytes], replaces: bool = False) -> None:
        """Store a run's folder made of these files, the last of which is its record: whole or not at all.

        replaces: a run of this key that is there gives way.
        """
        folder = self.work / f"{key}.{format_owner()}.whole"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            for name, data in files.items():
                write_atomically(folder / name, data)
            if replaces:
                remove(self.run_folder(key))
            try:
                folder.rename(self.run_folder(key))
            except OSError:
                # another process may have finished the same run in the meantime
                if not self.is_finished(key):
                    raise
            sync_to_disk(self.runs)
        except OSError as error:
            raise as_user_error(error, self.run_folder(key)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def record_failure(self, key: str, spec: RunSpec, message: str, trace: str, command: str = "") -> None:
        """Store that a run failed, its traceback and the command that repeats it. The next start tries it again."""
        report = {"spec": spec.to_dict(), "message": message, "traceback": trace, "time": time.time()}
        write_atomically(self.failure_path(key), to_json({**report, "command": command}))

    def read_failure(self, key: str) -> dict[str, Any] | None:
        """Read the report of a run's last failure; None if it has none or the report is damaged."""
        try:
            report: dict[str, Any] = from_json(self.failure_path(key).read_bytes())
            RunSpec.from_dict(report["spec"])
            return {**report, "message": str(report["message"])}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def quarantine(self, key: str) -> Path:
        """Move a damaged run aside, so that it is made again, and return its new path."""
        return quarantine(self.run_folder(key), self.damaged / key)

    # --- overview -------------------------------------------------------------------------------------------

    def summarize(self) -> list[RunSummary]:
        """Summarize every run in the folder, finished or not, by label."""
        rows = [self._summarize_finished(key) for key in self.list_keys()]
        running = {path.name for path in self.work.glob("*") if "." not in path.name}
        states = {key: self.get_state(key) for key in {*self.list_failed(), *running}}
        shown = ("running", "failed", "interrupted")
        rows += [self._summarize_unfinished(key, state) for key, state in states.items() if state in shown]
        return sorted(rows, key=lambda row: (row.label, row.key))

    def _summarize_finished(self, key: str) -> RunSummary:
        try:
            record = self.read_record(key)
        except DamagedRunError as error:
            return RunSummary("damaged", "", str(error), key)
        figures = record["figures"]["mean"]
        remark = f"acc {100 * figures['acc']:.2f}, rec {100 * figures['rec']:.2f}, {record['seconds']:.0f} s"
        if age := describe_age(record):
            remark = f"{remark}, {age}"
        return RunSummary("done", RunSpec.from_dict(record["spec"]).format_label(), remark, key)

    def _summarize_unfinished(self, key: str, state: str) -> RunSummary:
        if report := self.read_failure(key):
            return RunSummary(state, RunSpec.from_dict(report["spec"]).format_label(), report["message"], key)
        if (spec := self.read_running_spec(key)) is not None:
            progress = "" if state == "failed" else self._describe_progress(key, spec, state)
            return RunSummary(state, spec.format_label(), progress, key)
        return RunSummary(state, "", "which run it is, cannot be read", key)

    def _describe_progress(self, key: str, spec: RunSpec, state: str) -> str:
        """Describe the last epoch that a run has saved, and how long the rest takes at its own pace."""
        checkpoint = self.open_checkpoint(key)
        history = checkpoint.read_history()
        with contextlib.suppress(UserError, OSError, KeyError, TypeError):  # for display only
            epochs = planner.count_epochs(spec)
            if not history:
                return f"no epoch of {epochs} is saved yet"
            left = (epochs - len(history)) * sum(row["seconds"] for row in history) / len(history)
            if state == "running":
                left -= time.time() - checkpoint.path.stat().st_mtime
            time_left = f"{max(left, 0):.0f} s" if left < 120 else f"{left / 60:.0f} min"
            return f"epoch {len(history)} of {epochs}, about {time_left} left"
        return ""
