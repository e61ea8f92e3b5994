"""Which runs of a table's rows may be paired with those of another row: the same fold, seed and test images."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any

from udcd_bench.runs.records import identify_images
from udcd_bench.runs.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from udcd_bench.runs.results import Results

FoldAndSeed = tuple[int, int]
"""(fold, seed)."""
SpecsByRun = dict[FoldAndSeed, RunSpec]
"""A row's finished runs."""


def pair_rows(
    specs_by_row: Mapping[str, Iterable[RunSpec]], other: str, results: Results
) -> tuple[dict[str, SpecsByRun], dict[str, str]]:
    """Pair the finished runs of every row with those of ``other``.

    Returns the runs that are paired, of the rows that can be, and every row's reason why not, empty where it can.
    """
    runs = {row: {(spec.fold, spec.seed): spec for spec in specs} for row, specs in specs_by_row.items()}
    hash_images = functools.cache(lambda spec: _hash_test_images(results.read_scores(spec)))
    reasons = {
        row: _explain_unpaired(specs, runs[other], results, hash_images) for row, specs in runs.items()
    }
    paired = {
        row: {run: spec for run, spec in specs.items() if run in runs[other]}
        for row, specs in runs.items()
        if not reasons[row]
    }
    return paired, reasons


def _hash_test_images(arrays: Mapping[str, Any]) -> str:
    """Hash what a run was tested on: ids, labels and groups of its images."""
    whole = hashlib.sha256()
    for name in ("ids", "labels", "groups"):
        whole.update(repr(arrays[name].tolist()).encode())
    return whole.hexdigest()


def _explain_unpaired(
    ours: SpecsByRun, theirs: SpecsByRun, results: Results, hash_images: Callable[[RunSpec], str]
) -> str:
    """Explain why two rows are not paired; empty when they are."""
    if not ours or not theirs:
        return "not run" if not ours else "the row to compare with is not run"
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        return "no fold and seed in common"
    for run in shared:
        pair = (ours[run], theirs[run])
        refused = f"refused: fold {run[0]}, seed {run[1]} "
        hashes = [results.records[spec]["split_hash"] for spec in pair]
        if hashes[0] != hashes[1]:
            return f"{refused}was tested on other images (split hashes {hashes[0]} and {hashes[1]})"
        if not all(map(results.has_scores, pair)):
            return f"{refused}has lost its scores"
        if hash_images(pair[0]) != hash_images(pair[1]):
            return f"{refused}was tested on other images, labels or groups, although the split hashes agree"
        (data, size), (other_data, other_size) = (identify_images(results.records[spec]) for spec in pair)
        if data and other_data and size == other_size and data != other_data:
            return f"{refused}was tested on other images of the same names"
    return ""
