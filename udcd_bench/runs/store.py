"""A results folder: runs that are whole or absent, their checkpoints, and one DataFrame of them all.

<root>/store.json                    the folder's version
<root>/runs/<key>/                   a finished run; ``record.json`` was written last, then the folder renamed
<root>/runs/.work/<key>/             a run under way: its spec, its checkpoint
<root>/runs/.claims/                 who is at which run
<root>/runs/.failed/<key>.json       the last failure of a run that has not succeeded since
<root>/runs/.damaged/<key>.<n>/      what was found not to be what had been written
<root>/<profile>/                    tables and figures
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench.errors import UserError
from udcd_bench.runs import records
from udcd_bench.runs.locks import RunLocks
from udcd_bench.runs.spec import RunSpec
from udcd_bench.storage import packing
from udcd_bench.storage.atomic import as_user_error, quarantine, sync_to_disk, write_atomically
from udcd_bench.storage.checksums import dump_with_checksum, from_json, load_with_checksum, to_json
from udcd_bench.storage.owners import format_owner, remove_stale_files
from udcd_bench.storage.packing import Arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pandas as pd

STORE_VERSION = 1
RECORD_SCHEMA = 2
"""Of records. 1: without a checksum of their own and without the sizes of the files beside them."""


class DamagedRunError(UserError):
    """A stored run is not what was written. key: the run's."""

    def __init__(self, key: str, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is damaged ({reason}); `udcd-bench results verify --out {shlex.quote(str(path.parents[2]))}` moves "
            "that run aside, and the next start makes it again."
        )
        self.key = key


class Store:
    """The runs of one results folder.

    Raises UserError when the folder was written by a newer version or is not a folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"
        self.work = self.runs / ".work"
        self.failures = self.runs / ".failed"
        self.damaged = self.runs / ".damaged"
        self.locks = RunLocks(self.runs / ".claims")
        mark = root / "store.json"
        there = next(path for path in (root, *root.absolute().parents) if path.exists())
        if not there.is_dir():
            raise UserError(f"{there} is a file; results go into a folder, so give another --out.")
        if mark.exists():
            try:
                version = int(from_json(mark.read_bytes())["version"])
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise UserError(f"{mark} is damaged; restore it, or give another --out.") from error
            if version > STORE_VERSION:
                raise UserError(
                    f"{root} was written by a newer udcd-bench (its version is {version}, this one reads up to "
                    f"{STORE_VERSION}); upgrade, or give another --out."
                )

    def create(self) -> None:
        """Make the folder, if it is not there, and clear away what killed processes have left in it."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise as_user_error(error, self.root) from error
        if not (self.root / "store.json").exists():
            write_atomically(self.root / "store.json", to_json({"version": STORE_VERSION}))
        for folder in (self.root, *self.root.glob("[!.]*/"), self.failures, *self.work.glob("*/")):
            remove_stale_files(folder.glob(".*.tmp"))
        remove_stale_files(self.work.glob("*.whole"))
        self.locks.remove_stale()
        for folder in self.work.glob("*/"):
            if self.is_finished(folder.name) and not self.locks.is_locked(folder.name):
                shutil.rmtree(folder, ignore_errors=True)
        for report in self.failures.glob("[!.]*.json"):
            if self.is_finished(report.stem):
                report.unlink(missing_ok=True)

    def get_state(self, key: str) -> str:
        """``done``, ``damaged``, ``running``, ``failed``, ``interrupted`` (a checkpoint waits) or ``absent``."""
        if self.is_finished(key):
            return "damaged" if self.find_damage(key) else "done"
        if self.locks.is_locked(key):
            return "running"
        if (self.failures / f"{key}.json").exists():
            return "failed"
        return "interrupted" if (self.work / key / "checkpoint.safetensors").exists() else "absent"

    def is_finished(self, key: str) -> bool:
        """Whether the run is finished, whoever finished it."""
        return (self.runs / key / "record.json").exists()

    # --- a run under way ------------------------------------------------------------------------------------

    def acquire(self, key: str) -> bool:
        """Take a run for this process; False while a living process has it."""
        return self.locks.acquire(key)

    def release(self, key: str) -> None:
        """Give a claim back; what the run has so far stays."""
        self.locks.release(key)

    def start_run(self, key: str, spec: RunSpec) -> str:
        """Say of which run the folder of this key is; what was wrong with the finished one, if it is moved aside."""
        write_atomically(self.work / key / "spec.json", to_json(spec.to_dict()))
        wrong = self.find_damage(key) if self.is_finished(key) else ""
        return f"{wrong} Moved to {self.quarantine(key)}." if wrong else ""

    def read_running_spec(self, key: str) -> RunSpec | None:
        """Which run the folder of this key is of, where that can be read."""
        try:
            return RunSpec.from_dict(from_json((self.work / key / "spec.json").read_bytes()))
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def save_checkpoint(self, key: str, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Replace the run's checkpoint, whole."""
        write_atomically(self.work / key / "checkpoint.safetensors", packing.pack(arrays, meta))

    def load_checkpoint(self, key: str) -> tuple[Arrays, dict[str, Any]] | None:
        """The run's checkpoint, or None where there is none or it is damaged (then it is moved aside)."""
        path = self.work / key / "checkpoint.safetensors"
        if not path.exists():
            return None
        try:
            return packing.unpack(path)
        except ValueError:
            path.replace(path.with_suffix(".damaged"))
            return None

    def read_checkpoint_history(self, key: str) -> list[dict[str, Any]]:
        """The epochs behind the run's checkpoint, none where there is none: for showing, as nothing is verified."""
        try:
            rows: list[dict[str, Any]] = packing.read_meta(self.work / key / "checkpoint.safetensors")[
                "history"
            ]
            return rows
        except (ValueError, KeyError):
            return []

    # --- ends of a run --------------------------------------------------------------------------------------

    def finish_run(
        self, key: str, record: Mapping[str, Any], history: pd.DataFrame, scores: Arrays, weights: Arrays
    ) -> None:
        """Store a finished run: every file, then ``record.json`` with their checksums, then one rename."""
        files = {
            "history.csv": history.to_csv(index=False).encode(),
            "scores.npz": packing.pack_npz(scores),
            "student.safetensors": packing.pack(weights),
            "spec.json": to_json(record["spec"]),
        }
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        sizes = {name: len(data) for name, data in files.items()}
        about = {"schema": RECORD_SCHEMA, "key": key, "files": sums, "bytes": sizes}
        self.write_run(key, {**files, "record.json": dump_with_checksum({**record, **about})})
        (self.failures / f"{key}.json").unlink(missing_ok=True)
        shutil.rmtree(self.work / key, ignore_errors=True)

    def write_run(self, key: str, files: Mapping[str, bytes]) -> None:
        """Make a run's folder of these files, the last of which is its record: whole, or not at all."""
        folder = self.work / f"{key}.{format_owner()}.whole"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            for name, data in files.items():
                write_atomically(folder / name, data)
            try:
                folder.rename(self.runs / key)
            except OSError:
                # another process may have finished the same run in the meantime
                if not self.is_finished(key):
                    raise
            sync_to_disk(self.runs)
        except OSError as error:
            raise as_user_error(error, self.runs / key) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def record_failure(self, key: str, spec: RunSpec, message: str, trace: str) -> None:
        """Remember that a run failed, with its traceback. The next start tries it again."""
        report = {"spec": spec.to_dict(), "message": message, "traceback": trace, "time": time.time()}
        write_atomically(self.failures / f"{key}.json", to_json(report))

    # --- damage ---------------------------------------------------------------------------------------------

    def find_damage(self, key: str, *, thorough: bool = False) -> str:
        """What is wrong with a finished run, naming the file; empty where nothing is.

        The record is read and the other files' sizes are looked at; ``thorough`` reads those too.
        """
        try:
            record = self.read_record(key)
            for name, size in record.get("bytes", dict.fromkeys(record["files"], -1)).items():
                self._check_file(key, name, size, record["files"][name] if thorough else "")
        except DamagedRunError as error:
            return str(error)
        return ""

    def quarantine(self, key: str) -> Path:
        """Move a damaged run out of the way, so that it is made again; returns where to."""
        return quarantine(self.runs / key, self.damaged / key)

    def _check_file(self, key: str, name: str, size: int, checksum: str) -> Path:
        path = self.runs / key / name
        try:
            held = path.stat().st_size
            data = path.read_bytes() if checksum else b""
        except OSError as error:
            raise DamagedRunError(key, path, "it cannot be read") from error
        if size not in (-1, held):
            raise DamagedRunError(key, path, f"it has {held} bytes instead of {size}")
        if checksum and hashlib.sha256(data).hexdigest() != checksum:
            raise DamagedRunError(key, path, "its checksum differs")
        return path

    # --- reading --------------------------------------------------------------------------------------------

    def read_failure(self, key: str) -> dict[str, Any] | None:
        """The last failure of a run, if it has not succeeded since."""
        try:
            found: dict[str, Any] = from_json((self.failures / f"{key}.json").read_bytes())
            RunSpec.from_dict(found["spec"])
            return {**found, "message": str(found["message"])}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def read_record(self, key: str) -> dict[str, Any]:
        """A finished run's record. Raises DamagedError, or UserError when it is from a newer version."""
        path = self.runs / key / "record.json"
        try:
            record = load_with_checksum(path.read_bytes(), required=False)
            schema = int(record["schema"])
            if schema == RECORD_SCHEMA and "sha256" not in record:
                raise ValueError("it has no checksum")
            if schema <= RECORD_SCHEMA and record["key"] != key:
                raise ValueError("it is another run's")
            if schema <= RECORD_SCHEMA:
                records.check_record(record)
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise DamagedRunError(key, path, str(error) or "it cannot be read") from error
        if schema > RECORD_SCHEMA:
            raise UserError(f"{path} was written by a newer udcd-bench; upgrade, or give another --out.")
        return record

    def list_keys(self) -> list[str]:
        """Finished runs."""
        if not self.runs.exists():
            return []
        with os.scandir(self.runs) as folders:
            return sorted(f.name for f in folders if f.name[0] != "." and self.is_finished(f.name))

    def verify_file(self, key: str, name: str) -> Path:
        """A finished run's file, its checksum seen to be right. Raises DamagedError when it is not."""
        return self._check_file(key, name, -1, self.read_record(key)["files"].get(name, "?"))

    def read_scores(self, key: str) -> Arrays:
        """Stored arrays of a run: ``scores`` (E, n, C) logits of the last E epochs, ``epochs`` (E,), ``labels`` (n,),
        ``ids`` (n,), ``groups`` (n,), ``embeddings`` (n, 128) of the last epoch.
        """
        record = self.read_record(key)
        path = self._check_file(key, "scores.npz", -1, record["files"].get("scores.npz", "?"))
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: np.asarray(file[name]) for name in file.files}
            records.check_arrays(arrays, len(record["classes"]))
            return arrays
        # of a damaged file numpy raises what its parts raise, from tokenizer to zlib
        except Exception as error:
            raise DamagedRunError(key, path, str(error)) from error

    def read_history(self, key: str) -> list[dict[str, Any]]:
        """A finished run's epochs, those of all its stages: ``stage``, and numbers such as ``loss`` and ``acc``."""
        path = self.verify_file(key, "history.csv")
        try:
            return records.parse_history(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DamagedRunError(key, path, str(error)) from error

    def read_weights(self, key: str) -> Arrays:
        """Stored parameters and buffers of a run's student."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.verify_file(key, "student.safetensors")
        try:
            arrays: Arrays = load_file(path)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DamagedRunError(key, path, str(error)) from error
        return arrays

    def read_records(self) -> Iterator[dict[str, Any]]:
        """The record of every finished run but the damaged ones."""
        for key in self.list_keys():
            with contextlib.suppress(DamagedRunError):
                yield self.read_record(key)

    def summarize(self) -> list[tuple[str, str, str]]:
        """(state, the run's label, remark) of everything in the folder, finished or not."""
        rows = []
        for key in self.list_keys():
            try:
                record = self.read_record(key)
            except DamagedRunError as error:
                rows.append(("damaged", key, str(error)))
                continue
            figures = record["figures"]["mean"]
            says = (
                f"acc {100 * figures['acc']:.2f}, rec {100 * figures['rec']:.2f}, {record['seconds']:.0f} s"
            )
            rows.append(("done", RunSpec.from_dict(record["spec"]).format_label(), says))
        failed = {path.stem for path in self.failures.glob("[!.]*.json")}
        for key in sorted(failed | {path.name for path in self.work.glob("*") if "." not in path.name}):
            if (state := self.get_state(key)) in ("done", "damaged", "absent"):
                continue
            if report := self.read_failure(key):
                rows.append((state, RunSpec.from_dict(report["spec"]).format_label(), report["message"]))
            elif (spec := self.read_running_spec(key)) is not None:
                rows.append((state, spec.format_label(), ""))
            else:
                rows.append((state, key, "which run it is, cannot be read"))
        return rows

    def build_frame(self, rule: str = "mean") -> pd.DataFrame:
        """One row a finished run: its spec's coordinates, what it was trained on, and its figures by ``rule``.

        rule: ``mean`` over the reported epochs, ``last`` epoch, or ``best`` epoch by accuracy.
        Raises DamagedError rather than leaving a run out.
        """
        import pandas as pd

        return pd.DataFrame([flatten_record(self.read_record(key), rule) for key in self.list_keys()])


def flatten_record(record: Mapping[str, Any], rule: str = "mean") -> dict[str, Any]:
    """A record as one flat row."""
    spec = record["spec"]
    row = {k: v for k, v in spec.items() if k not in ("hparams", "protocol")}
    row |= {k: " ".join(f"{a}={b}" for a, b in spec.get(k, ())) for k in ("hparams", "protocol")}
    row |= {
        k: record[k]
        for k in ("key", "dataset_title", "synthetic", "incomplete", "split_hash", "n_train", "n_test")
    }
    row |= {"seconds": record["seconds"], "device": record["environment"]["device"], "rule": rule}
    figures: dict[str, Any] = record["figures"].get(rule, {})
    return row | figures
