"""Sentences of captions on data sets: sizes, splits, what was left out, how own images were read, and leaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from udcd_bench.data import official, sources
from udcd_bench.errors import format_count
from udcd_bench.runs.names import FOLDER
from udcd_bench.runs.spec import RunSpec, describe_split, format_own_split, parse_split

if TYPE_CHECKING:
    from udcd_bench.runs.records import Record

RESIZED = {"squash": "squashed to squares", "pad": "padded to squares", "crop": "cropped to squares"}
MAX_HASHES = 6
"""Most split hashes of one source that a caption lists."""


def describe_splits(name: str, records: Iterable[Record]) -> str:
    """Describe a split, ``split grouped``, as that which the data bring where they bring one, ``own split``."""
    brought = [own["whose"] if (own := record.get("own_split")) else "" for record in records]
    return " / ".join(
        dict.fromkeys(
            format_own_split(name, whose) if whose else f"split {describe_split(name)}"
            for whose in brought or [""]
        )
    )


def describe_dataset(source: str, records: Mapping[RunSpec, Record]) -> list[str]:
    """Describe sizes and split hashes of one source, a hash for each fold in order, and what was left out of it.

    source: the identity of the data.
    """
    of_source = [(spec, record) for spec, record in records.items() if spec.data_identity == source]
    title = of_source[0][1]["dataset_title"]
    train, test = (_format_range(record[side] for _, record in of_source) for side in ("n_train", "n_test"))
    n_validation = [record.get("n_validation", 0) for _, record in of_source]
    validation = f", {_format_range(n_validation)} validation" if max(n_validation) else ""
    hashes = list(dict.fromkeys(record["split_hash"] for _, record in of_source))
    left_out = dict.fromkeys(record["incomplete"] for _, record in of_source if record["incomplete"])
    on_val = parse_split(of_source[0][0].split)[1] == "val"
    copies = dict.fromkeys(text for _, record in of_source if (text := record.get("copies")))
    shown = f"{title} ({', '.join(copies)})" if copies else title
    split = f"split hash{'es' * (len(hashes) > 1)} {', '.join(hashes)}"
    if len(hashes) > MAX_HASHES:
        split = f"{len(hashes)} splits, whose hashes stand in the CSV"
    return [
        f"{shown}: {train} training{validation} and {test} {'validation' if on_val else 'test'} images"
        f"{_describe_official_test(of_source[0][0])}{_describe_reading(*of_source[0])}, {split}.",
        *describe_sides(of_source[0][0].split, [record for _, record in of_source]),
        *(f"{title} is incomplete: {text.rstrip('.')}." for text in left_out),
    ]


def _describe_reading(spec: RunSpec, record: Record) -> str:
    """Describe what own images are grouped by, and what became of their proportions; empty of published ones."""
    if not spec.dataset.startswith(FOLDER) or "resize" not in (decoding := record.get("decoding", {})):
        return ""
    grouped = ""
    if parse_split(spec.split)[0] == "grouped":
        grouped = f", grouped by {record.get('group_column') or 'copies alone'}"
    return f"{grouped}, {RESIZED.get(decoding['resize'], decoding['resize'])}"


def describe_sides(split: str, records: Sequence[Record]) -> list[str]:
    """Describe what a split that the data bring leaves out, and how many test images have theirs on both sides.

    records: of one data set on this split.
    """
    sentences, title = [], records[0]["dataset_title"]
    if records[0]["spec"]["dataset"].startswith("medmnist:"):
        sentences.append(
            f"ACC of {title}, and AUROC as AUC, are computed as MedMNIST's leaderboard computes them."
        )
    test_part = parse_split(split)[1]
    if own := records[0].get("own_split"):
        if own["n_unused"]:
            sentences.append(f"The {own['unused']} of {title}, {own['n_unused']} images, is not used.")
        if n := own["n_left_out"]:
            sentences.append(
                f"{format_count(n, 'training image')} of {title} left out: of a group with a {test_part} image."
            )
    shared = max(record.get("n_shared", 0) for record in records)
    if shared and not records[0]["synthetic"]:
        sentences.append(
            f"A leak: up to {format_count(shared, 'test image')} of {title} {'has' if shared == 1 else 'have'} one of "
            "the same group (patient, lesion) or a copy among the training images."
        )
    return sentences


def _describe_official_test(spec: RunSpec) -> str:
    if spec.split != official.SPLIT:
        return ""
    return f" (those of {sources.find_title(official.TESTS[spec.dataset])})"


def _format_range(numbers: Iterable[int]) -> str:
    ends = sorted(set(numbers))
    return "–".join(map(str, dict.fromkeys([ends[0], ends[-1]])))
