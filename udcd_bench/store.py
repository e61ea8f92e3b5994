"""A results folder: runs that are whole or absent, their claims and checkpoints, and one DataFrame of them all.

<root>/store.json                    the folder's version
<root>/runs/<key>/                   a finished run; ``record.json`` was written last, then the folder renamed
<root>/runs/.work/<key>/             a run under way: claim, checkpoint
<root>/runs/.failed/<key>.json       the last failure of a run that has not succeeded since
<root>/<profile>/                    tables and figures
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench.errors import UserError
from udcd_bench.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

VERSION = 1
SCHEMA = 1
SILENT = 900.0
"""Seconds without a sign of life after which another machine's claim counts as dead."""

Arrays = dict[str, Any]


def write_atomically(path: Path, data: bytes) -> None:
    """The whole file or nothing: a temporary sibling, fsynced, renamed. Raises UserError when the disk is full."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise full_disk(error, path) from error
    _sync_folder(path.parent)


def full_disk(error: OSError, path: Path) -> Exception:
    """``error``, or a sentence for the user where it says that there is no room or no right to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"The disk is full: {path} could not be written; free some space and start again.")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return UserError(f"{path} may not be written; choose another folder with --out.")
    return error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise full_disk(error, folder) from error
    finally:
        os.close(descriptor)


def _to_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, default=str, allow_nan=False) + "\n").encode()


def _npz(arrays: Mapping[str, Any]) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _in_order(arrays: Arrays) -> Arrays:
    """As safetensors wants them; a scalar stays one, which ``ascontiguousarray`` would not leave it."""
    return {name: np.asarray(value, order="C") for name, value in arrays.items()}


def _process_mark(pid: int) -> str:
    """Tells a process from a later one with the same number; empty where it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # a killed process that nobody has reaped, as in a container without an init, is dead all the same
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


class Store:
    """The runs of one results folder.

    Raises UserError when the folder was written by a newer version or is not a folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root / "runs"
        self.work = self.runs / ".work"
        self.failures = self.runs / ".failed"
        mark = root / "store.json"
        there = next(path for path in (root, *root.absolute().parents) if path.exists())
        if not there.is_dir():
            raise UserError(f"{there} is a file; results go into a folder, so give another --out.")
        if mark.exists():
            try:
                version = int(json.loads(mark.read_text())["version"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{mark} is damaged; restore it, or give another --out.") from error
            if version > VERSION:
                raise UserError(
                    f"{root} was written by a newer udcd-bench (its version is {version}, this one reads up to "
                    f"{VERSION}); upgrade, or give another --out."
                )

    def create(self) -> None:
        """Make the folder, if it is not there."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise full_disk(error, self.root) from error
        if not (self.root / "store.json").exists():
            write_atomically(self.root / "store.json", _to_json({"version": VERSION}))

    def state(self, key: str) -> str:
        """``done``, ``running``, ``failed``, ``interrupted`` (a checkpoint waits) or ``absent``."""
        if self.state_is_done(key):
            return "done"
        if self._owner_lives(self.work / key / "claim.json"):
            return "running"
        if (self.failures / f"{key}.json").exists():
            return "failed"
        return "interrupted" if (self.work / key / "checkpoint.safetensors").exists() else "absent"

    def state_is_done(self, key: str) -> bool:
        """Whether the run is finished, whoever finished it."""
        return (self.runs / key / "record.json").exists()

    # --- claims ---------------------------------------------------------------------------------------------

    def begin(self, key: str, spec: RunSpec) -> None:
        """Say of which run the folder of this key is."""
        write_atomically(self.work / key / "spec.json", _to_json(spec.to_dict()))

    def _under_way(self, key: str) -> RunSpec | None:
        try:
            return RunSpec.from_dict(json.loads((self.work / key / "spec.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def claim(self, key: str) -> bool:
        """Take a run for this process; False while a living process has it."""
        claim = self.work / key / "claim.json"
        with self._alone():
            if self._owner_lives(claim):
                return False
            pid = os.getpid()
            owner = {"host": socket.gethostname(), "pid": pid, "mark": _process_mark(pid)}
            write_atomically(claim, _to_json(owner))
        return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time: of several that see a dead claim only one may take it; the system frees the lock."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            lock = (self.work / ".lock").open("w")
        except OSError as error:
            raise full_disk(error, self.work) from error
        with lock:
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def beat(self, key: str) -> None:
        """A sign of life from the claim's owner."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.work / key / "claim.json")

    def release(self, key: str) -> None:
        """Give a claim back; what the run has so far stays."""
        (self.work / key / "claim.json").unlink(missing_ok=True)

    @staticmethod
    def _owner_lives(claim: Path) -> bool:
        try:
            age = time.time() - claim.stat().st_mtime
            owner = json.loads(claim.read_text())
        except FileNotFoundError:
            return False
        except ValueError:
            # damaged, or another file system's idea of a rename; a moment later it is whole or dead
            return age < 10
        if owner.get("host") == socket.gethostname() and _process_mark(os.getpid()):
            return bool(owner.get("mark")) and _process_mark(int(owner["pid"])) == owner["mark"]
        return age < SILENT

    # --- a run under way ------------------------------------------------------------------------------------

    def save_checkpoint(self, key: str, arrays: Arrays, meta: Mapping[str, Any]) -> None:
        """Replace the run's checkpoint, whole."""
        from safetensors.numpy import save

        # JSON in a metadata field: no reader of a checkpoint ever unpickles anything
        data = save(_in_order(arrays), {"meta": json.dumps(meta)})
        write_atomically(self.work / key / "checkpoint.safetensors", data)
        self.beat(key)

    def load_checkpoint(self, key: str) -> tuple[Arrays, dict[str, Any]] | None:
        """The run's checkpoint, or None where there is none or it is damaged (then it is moved aside)."""
        from safetensors import SafetensorError, safe_open

        path = self.work / key / "checkpoint.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, "numpy") as file:
                meta = json.loads(file.metadata()["meta"])
                return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118
        except (SafetensorError, ValueError, KeyError, TypeError, OSError):
            path.replace(path.with_suffix(".damaged"))
            return None

    # --- ends of a run --------------------------------------------------------------------------------------

    def finish(
        self, key: str, record: Mapping[str, Any], history: pd.DataFrame, scores: Arrays, weights: Arrays
    ) -> None:
        """Store a finished run: every file, then ``record.json`` with their checksums, then one rename."""
        from safetensors.numpy import save

        folder = self.work / f"{key}.whole"
        shutil.rmtree(folder, ignore_errors=True)
        files = {
            "history.csv": history.to_csv(index=False).encode(),
            "scores.npz": _npz(scores),
            "student.safetensors": save(_in_order(weights)),
            "spec.json": _to_json(record["spec"]),
        }
        for name, data in files.items():
            write_atomically(folder / name, data)
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        write_atomically(
            folder / "record.json", _to_json({**record, "schema": SCHEMA, "key": key, "files": sums})
        )
        try:
            folder.rename(self.runs / key)
        except OSError:
            # the same run, finished by somebody else meanwhile, is the same run
            if not (self.runs / key / "record.json").exists():
                raise
            shutil.rmtree(folder)
        _sync_folder(self.runs)
        (self.failures / f"{key}.json").unlink(missing_ok=True)
        shutil.rmtree(self.work / key, ignore_errors=True)

    def fail(self, key: str, spec: RunSpec, message: str, trace: str) -> None:
        """Remember that a run failed, with its traceback. The next start tries it again."""
        report = {"spec": spec.to_dict(), "message": message, "traceback": trace, "time": time.time()}
        write_atomically(self.failures / f"{key}.json", _to_json(report))

    # --- reading --------------------------------------------------------------------------------------------

    def failure(self, key: str) -> dict[str, Any] | None:
        """The last failure of a run, if it has not succeeded since."""
        try:
            found: dict[str, Any] = json.loads((self.failures / f"{key}.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found

    def record(self, key: str) -> dict[str, Any]:
        """A finished run's record. Raises UserError when it is damaged or from a newer version."""
        path = self.runs / key / "record.json"
        try:
            record: dict[str, Any] = json.loads(path.read_text())
            schema = int(record["schema"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged; remove {path.parent} and the run is made again.") from error
        if schema > SCHEMA:
            raise UserError(f"{path} was written by a newer udcd-bench; upgrade, or give another --out.")
        return record

    def keys(self) -> list[str]:
        """Finished runs."""
        return sorted(path.parent.name for path in self.runs.glob("[!.]*/record.json"))

    def file(self, key: str, name: str) -> Path:
        """A finished run's file, its checksum seen to be right. Raises UserError when it is not."""
        path = self.runs / key / name
        try:
            whole = hashlib.sha256(path.read_bytes()).hexdigest() == self.record(key)["files"].get(name)
        except FileNotFoundError:
            whole = False
        if not whole:
            raise UserError(f"{path} is damaged; remove {path.parent} and the run is made again.")
        return path

    def scores(self, key: str) -> Arrays:
        """Stored arrays of a run: ``scores`` (E, n, C) logits of the last E epochs, ``epochs`` (E,), ``labels`` (n,),
        ``ids`` (n,), ``groups`` (n,), ``embeddings`` (n, 128) of the last epoch.
        """
        try:
            with np.load(self.file(key, "scores.npz"), allow_pickle=False) as file:
                return dict(file)
        except (ValueError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.runs / key / 'scores.npz'} is damaged ({error}).") from error

    def weights(self, key: str) -> Arrays:
        """Stored parameters and buffers of a run's student."""
        from safetensors.numpy import load_file

        arrays: Arrays = load_file(self.file(key, "student.safetensors"))
        return arrays

    def records(self) -> Iterator[dict[str, Any]]:
        """Every finished run's record."""
        for key in self.keys():
            yield self.record(key)

    def overview(self) -> list[tuple[str, str, str]]:
        """(state, the run's label, remark) of everything in the folder, finished or not."""
        rows = []
        for record in self.records():
            figures = record["figures"]["mean"]
            says = (
                f"acc {100 * figures['acc']:.2f}, rec {100 * figures['rec']:.2f}, {record['seconds']:.0f} s"
            )
            rows.append(("done", RunSpec.from_dict(record["spec"]).label(), says))
        failed = {path.stem for path in self.failures.glob("[!.]*.json")}
        for key in sorted(failed | {path.name for path in self.work.glob("*") if "." not in path.name}):
            if (state := self.state(key)) in ("done", "absent"):
                continue
            if report := self.failure(key):
                rows.append((state, RunSpec.from_dict(report["spec"]).label(), report["message"]))
            elif (spec := self._under_way(key)) is not None:
                rows.append((state, spec.label(), ""))
        return rows

    def frame(self, rule: str = "mean") -> pd.DataFrame:
        """One row a finished run: its spec's coordinates, what it was trained on, and its figures by ``rule``.

        rule: ``mean`` over the reported epochs, ``last`` epoch, or ``best`` epoch by accuracy.
        """
        import pandas as pd

        return pd.DataFrame([flat(record, rule) for record in self.records()])


def flat(record: Mapping[str, Any], rule: str = "mean") -> dict[str, Any]:
    """A record as one flat row."""
    spec = record["spec"]
    row = {k: v for k, v in spec.items() if k not in ("hparams", "protocol")}
    row |= {k: " ".join(f"{a}={b}" for a, b in spec[k]) for k in ("hparams", "protocol")}
    row |= {
        k: record[k]
        for k in ("key", "dataset_title", "synthetic", "incomplete", "split_hash", "n_train", "n_test")
    }
    row |= {"seconds": record["seconds"], "device": record["environment"]["device"], "rule": rule}
    figures: dict[str, Any] = record["figures"][rule]
    return row | figures
