"""Finding stored runs by what a user types: a key or its beginning, a label of ``status`` or its first words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from udcd_bench.errors import UserError, quote_command
from udcd_bench.runs.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from udcd_bench.runs.store import RunSummary, Store


def open_store(folder: Path) -> Store:
    """Open a results folder for reading. Raises UserError when there is none."""
    from udcd_bench.runs.store import Store

    if not folder.exists():
        raise UserError(f"{folder}: there is no such results folder; --out names one that a run has made.")
    store = Store(folder)
    if not store.version_path.exists() and not store.list_keys():
        raise UserError(f"{folder} is no results folder; give the one that holds store.json and runs.")
    return store


def find_run(store: Store, typed: str) -> str:
    """Find the key of the finished run that is meant. Raises UserError for none or several.

    typed: its key or the beginning of it, its label or the first words of it.
    """
    keys = store.list_keys()
    if typed in keys:
        return typed
    labels = {record["key"]: _format_label(record["spec"]) for record in store.read_records()}
    return _choose(
        typed, {key: labels.get(key, "") for key in keys}, f"{store.root} has no finished run", store
    )


def find_summaries(store: Store, typed: str) -> list[RunSummary]:
    """Find the run that is meant, finished or not, as ``find_run`` does. Raises UserError for none or several.

    Of runs with one label, as a method that was changed leaves them, the newest is meant; where a label is typed, the
    older ones follow it, the newest of these first.
    """
    by_time = sorted(store.summarize(), key=lambda summary: _find_time(store, summary), reverse=True)
    newest: dict[str, str] = {}
    for summary in by_time:
        newest.setdefault(summary.label, summary.key)
    labels = {s.key: s.label for s in by_time if newest[s.label] == s.key or s.key.startswith(typed)}
    chosen = _choose(typed, labels, f"{store.root} has no run", store)
    is_key = chosen.startswith(typed)
    return [s for s in by_time if s.key == chosen or (s.label == labels[chosen] and not is_key)]


def _find_time(store: Store, summary: RunSummary) -> float:
    """Find when a run was finished, failed or begun, in seconds since the epoch; 0 where nothing says it."""
    if summary.state == "done":
        return store.finished_at(summary.key) / 1e9
    if summary.state == "failed" and (report := store.read_failure(summary.key)):
        return float(report.get("time", 0))
    folder = store.work_folder(summary.key)
    return folder.stat().st_mtime if folder.exists() else 0.0


def _choose(typed: str, labels: Mapping[str, str], nothing: str, store: Store) -> str:
    """Choose the one key that is typed, or whose label is, or of which the beginning or the first words are typed.

    nothing: the beginning of the sentence where there is none.
    """
    matching = [key for key in labels if typed in (key, labels[key])]
    matching = matching or [key for key in labels if typed and key.startswith(typed)]
    matching = matching or [key for key in labels if typed and labels[key].startswith(f"{typed} ")]
    if len(matching) == 1:
        return matching[0]
    command = quote_command("status", "--out", store.root)
    if not matching:
        raise UserError(f"{nothing} {typed!r}; `{command}` lists keys and labels, and either is taken.")
    several = ", ".join(f"{key} ({labels[key] or 'damaged'})" for key in matching)
    raise UserError(f"{typed!r} may be any of {several}; give more of the key or of the label.")


def list_folds(store: Store, key: str) -> list[str]:
    """List the runs that differ from this one in their fold alone, itself among them, by fold.

    Of two runs of one fold the newer one counts, as in tables. Raises UserError when there is but one fold.
    """
    spec = RunSpec.from_dict(store.read_record(key)["spec"])
    records = sorted(store.read_records(), key=lambda record: store.finished_at(record["key"]))
    by_fold = {}
    for record in records:
        other = RunSpec.from_dict(record["spec"])
        if replace(other, fold=spec.fold) == spec:
            by_fold[other.fold] = record["key"]
    by_fold[spec.fold] = key
    if len(by_fold) == 1:
        raise UserError(
            f"{store.root} has fold {spec.fold} alone of {spec.format_label()!r}; --ensemble averages two or more."
        )
    return [by_fold[fold] for fold in sorted(by_fold)]


def _format_label(values: dict[str, object]) -> str:
    return RunSpec.from_dict(values).format_label()
