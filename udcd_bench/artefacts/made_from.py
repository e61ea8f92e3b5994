"""Which runs the files of a table or figure were made from: a small index beside them, and what all indices name."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from udcd_bench.render.csv_text import skip_command
from udcd_bench.storage.atomic import write_atomically
from udcd_bench.storage.checksums import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from udcd_bench.runs.records import Record

INDEX_ENDING = ".runs.json"
TRIALS_ENDING = "-trials.csv"
"""Of a search's CSV of trials, which has an index of its own."""


def write_index(path: Path, keys: Iterable[str]) -> None:
    """Write the keys of the runs that the files with this path's stem were made from."""
    write_atomically(path.with_name(path.stem + INDEX_ENDING), to_json({"runs": sorted(keys)}))


def add_indices(source: Path, target: Path) -> None:
    """Add to a results folder's indices what those of another name, whose runs have been copied into it."""
    for path in source.glob(f"*/*{INDEX_ENDING}"):
        copy = target / path.relative_to(source)
        if (keys := _read_index(path)) - _read_index(copy):
            write_atomically(copy, to_json({"runs": sorted(keys | _read_index(copy))}))


def _read_index(path: Path) -> set[str]:
    """Read the keys that an index names; none of one that is missing or damaged."""
    try:
        return set(map(str, from_json(path.read_bytes())["runs"]))
    except (OSError, ValueError, TypeError, KeyError):
        return set()


def find_used_keys(root: Path, records: Mapping[str, Record]) -> set[str]:
    """Find the keys of the runs that any table or figure in a results folder was made from.

    Of a CSV without an index, as older versions wrote it, these are all runs with a split hash that stands in it.
    records: the folder's finished runs by key.
    """
    used: set[str] = set()
    indexed = set()
    for path in root.glob(f"*/*{INDEX_ENDING}"):
        try:
            used.update(map(str, from_json(path.read_bytes())["runs"]))
            indexed.add(path.with_name(path.name.removesuffix(INDEX_ENDING)))
        except (OSError, ValueError, TypeError, KeyError):
            continue  # as if there were no index
    hashes: set[str] = set()
    for path in root.glob("*/*.csv"):
        if not _list_index_stems(path) & indexed:
            hashes |= _read_split_hashes(path)
    return used | {key for key, record in records.items() if record["split_hash"] in hashes}


def find_trial_keys(root: Path) -> set[str]:
    """Find the keys of the runs that are trials of a search, and that no table or figure was made from."""
    ending = TRIALS_ENDING.removesuffix(".csv") + INDEX_ENDING
    trials: set[str] = set()
    others: set[str] = set()
    for path in root.glob(f"*/*{INDEX_ENDING}"):
        (trials if path.name.endswith(ending) else others).update(_read_index(path))
    return trials - others


def _list_index_stems(path: Path) -> set[Path]:
    """List the stems by which an index of a CSV may be named: a figure's further CSVs have the figure's."""
    stem = path.with_suffix("")
    if stem.name.endswith(("-compare", "-leak", "-splits", "-trials")):
        return {stem}
    return {stem, stem.with_name(stem.name.rpartition("-")[0] or stem.name)}


def _read_split_hashes(path: Path) -> set[str]:
    """Read the split hashes of all lines of a CSV; none of one that is damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(skip_command(file)))
    except (OSError, ValueError, csv.Error):
        return set()
    texts = [line[name] for line in lines for name in line if str(name).startswith("split_hash")]
    return {word for text in texts for word in str(text).split()}
