"""A run's record as a type, and validation of stored records, arrays and histories."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypedDict

import msgspec

from udcd_bench import plugins
from udcd_bench.errors import UserError
from udcd_bench.runs.spec import REVISION, Count, FiniteNumber, check_spec_values

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from udcd_bench.storage.packing import Arrays


class Record(TypedDict):
    """The record of a finished run, as ``record.json`` stores it.

    figures: reporting rule → metric → value. files: name → SHA-256. bytes: name → size.
    decoding: how image files were read: ``depth``, the bits of 16-bit greys, or None; in records of later versions
    ``exif`` and ``resize``, as of ``data.cache.options.Decoding``.
    n_validation, best_epoch, validation: of a validated run its validation images, the epoch of the last stage that is
    best on them, and their figures as in ``figures``.
    group_column: of own images, as in ``Dataset``. own_split: of ``data.own_splits.OwnSplit``, empty where the data
    bring none. n_shared: test images that have one of their group, or a copy, among the training images.
    seconds: of training and testing. revision: of the engine, from 6 on. made_of: the inputs of the run's key, from
    revision 6 on as of ``RunInputs``.
    """

    schema: NotRequired[int]
    key: str
    spec: dict[str, Any]
    teacher_key: NotRequired[str | None]
    method_title: str
    dataset_title: str
    synthetic: bool
    incomplete: str
    copies: NotRequired[str]
    classes: Annotated[list[str], msgspec.Meta(min_length=1)]
    ordered: bool
    split_hash: str
    n_train: int
    n_test: int
    n_test_by_class: NotRequired[list[Count]]
    n_validation: NotRequired[Count]
    best_epoch: NotRequired[Count]
    validation: NotRequired[dict[str, dict[str, FiniteNumber]]]
    epochs: int
    seconds: FiniteNumber
    protocol: NotRequired[dict[str, Any]]
    decoding: NotRequired[dict[str, Any]]
    group_column: NotRequired[str]
    own_split: NotRequired[dict[str, Any]]
    n_shared: NotRequired[Count]
    reporting: str
    figures: dict[str, dict[str, FiniteNumber]]
    environment: dict[str, str | int | bool]
    revision: NotRequired[int]
    made_of: NotRequired[dict[str, Any]]
    files: dict[str, str]
    bytes: NotRequired[dict[str, int]]
    sha256: NotRequired[str]


LAST_REVISION_UNSTATED = 5
"""Records of revisions up to this one do not say which they are of."""
_REQUIRED_METRICS = {"acc", "rec"}
_REQUIRED_ENVIRONMENT = {"device", "threads", "precision", "python", "torch", "timm", "udcd_bench", "commit"}


def check_record(record: Mapping[str, Any]) -> None:
    """Check a record read from a file. Raises ValueError that names what is missing or of the wrong type."""
    try:
        msgspec.convert(record, Record)
        check_spec_values(record["spec"])
    except (msgspec.ValidationError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from error
    # metrics and rules may be newer or older than this version
    if missing := _REQUIRED_METRICS - record["figures"].get("mean", {}).keys():
        raise ValueError(f"its figures have no {min(missing)}")
    if missing := _REQUIRED_ENVIRONMENT - record["environment"].keys():
        raise ValueError(f"its environment has no {min(missing)}")
    if len(counts := record.get("n_test_by_class", record["classes"])) != len(record["classes"]):
        raise ValueError(f"it counts test images of {len(counts)} classes and names {len(record['classes'])}")
    if unknown := record.get("bytes", {}).keys() - record["files"].keys():
        raise ValueError(f"it has a size but no checksum of {min(unknown)}")


def describe_age(record: Mapping[str, Any]) -> str:
    """Describe the revision of a run that an earlier engine made; empty for this one's."""
    revision = record.get("revision")
    if revision is None:
        return f"older: revision {LAST_REVISION_UNSTATED} or before"
    return f"older: revision {revision}" if revision < REVISION else ""


def identify_images(record: Mapping[str, Any]) -> tuple[str, int]:
    """Return the digest of a run's prepared images and their side; nothing for a record that does not say."""
    made_of = record.get("made_of", {})
    return made_of.get("data", ""), made_of.get("protocol", {}).get("image_size", 0)


def describe_origins(records: Collection[Mapping[str, Any]]) -> str:
    """Describe what one figure or table should not join in silence; empty where there is nothing.

    Runs of an earlier revision of the engine, runs of one row that differ in more than fold and seed, such as in the
    text of their method, rows whose method has another text here, and runs of one data set that differ in its images.
    """
    older = sum(bool(describe_age(record)) for record in records)
    sentences = [f"{older} of {len(records)} runs are of a revision before {REVISION}."] if older else []
    sentences += [
        f"The file of {method} is not the one that its runs were trained with."
        for method in _list_changed_methods(records)
    ]
    return " ".join([*sentences, *_list_mixtures(records)])


def is_by_method_here(record: Mapping[str, Any]) -> bool:
    """Tell whether a run was made by its method as it is here: of two suites with one name, each has its own run."""
    return bool(record.get("made_of", {}).get("sources", "unknown") == _hash_method(record["spec"]["method"]))


def _list_changed_methods(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the methods of this revision's runs whose files are others here; not those that are in no suite here."""
    sources: dict[str, list[object]] = {}
    for record in records:
        if (made_of := record.get("made_of")) and not describe_age(record):
            sources.setdefault(record["spec"]["method"], []).append(made_of.get("sources"))
    hashes = {method: _hash_method(method) for method in sources}
    return sorted(
        m for m, each in sources.items() if hashes[m] and any(made_of != hashes[m] for made_of in each)
    )


def _hash_method(method: str) -> dict[str, str] | None:
    """Hash the files of a method as they are here; None where it is in no suite, or cannot be read."""
    with contextlib.suppress(UserError):
        return plugins.hash_sources("methods", method)
    return None


def _list_mixtures(records: Collection[Mapping[str, Any]]) -> list[str]:
    """List, as sentences, rows and data sets whose runs are not of one making; records of before say nothing of it."""
    by_row: dict[str, list[dict[str, Any]]] = {}
    images: dict[tuple[str, str, int], set[str]] = {}
    for record in records:
        if made_of := record.get("made_of"):
            row = {name: value for name, value in record["spec"].items() if name not in ("fold", "seed")}
            by_row.setdefault(json.dumps(row, sort_keys=True), []).append(made_of)
            digest, size = identify_images(record)
            data = (record["dataset_title"], record["spec"]["split"], size)
            images.setdefault(data, set()).add(digest)
    sentences = [
        f"The runs of {of_row[0]['method']} on {of_row[0]['data_identity']} differ in {', '.join(differing)}."
        for of_row in by_row.values()
        if (differing := _list_differing(of_row))
    ]
    return [
        *dict.fromkeys(sentences),
        *(
            f"The runs on {title} are of {len(each)} sets of images."
            for (title, *_), each in images.items()
            if len(each) > 1
        ),
    ]


_MAY_DIFFER = {
    "sources": "the text of their method",
    "protocol": "numbers of the protocol",
    "hparams": "hyper-parameters",
    "weights": "the weights that they begin with",
}
"""Inputs of a run that its spec names, and whose content the spec does not hold."""


def _list_differing(of_row: Sequence[Mapping[str, Any]]) -> list[str]:
    """List in words the inputs in which runs of one spec, but for fold and seed, differ."""
    return [
        words
        for name, words in _MAY_DIFFER.items()
        if len({json.dumps(made_of.get(name), sort_keys=True) for made_of in of_row}) > 1
    ]


def list_teacher_keys(record: Record) -> list[str]:
    """List the keys of the runs whose students taught a finished run, sorted."""
    if alone := record.get("teacher_key"):
        return [alone]
    return sorted(record.get("made_of", {}).get("teacher_keys", ()))


def check_arrays(arrays: Arrays, classes: int) -> None:
    """Check the arrays of a run's test images. classes: how many there are.

    Raises ValueError when an array is missing or of another shape or type than ``FinishedRuns.read_scores`` gives.
    """
    try:
        scores, embeddings, epochs = (arrays[name] for name in ("scores", "embeddings", "epochs"))
        per_image = [arrays[name] for name in ("labels", "ids", "groups")]
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error
    if scores.ndim != 3 or embeddings.ndim != 2 or 0 in scores.shape or not epochs.ndim == 1:
        raise ValueError(
            "its arrays have other axes than scores (E, n, C), embeddings (n, D) and epochs (E,)"
        )
    if scores.shape[2] != classes:
        raise ValueError(f"its scores are of {scores.shape[2]} classes, its record names {classes}")
    n = scores.shape[1]
    if {array.shape for array in per_image} != {(n,)} or len(embeddings) != n or len(epochs) != len(scores):
        raise ValueError("its arrays are of different lengths")
    if any(array.dtype.kind != "f" for array in (scores, embeddings)):
        raise ValueError("its scores or embeddings are not floating-point numbers")
    _check_labels(arrays["labels"], classes)
    if "validation_scores" in arrays:
        _check_validation(arrays, scores.shape)


def _check_validation(arrays: Arrays, shape: tuple[int, ...]) -> None:
    """Check the arrays of validation images. shape: (E, n, C) of the test scores."""
    try:
        labels, scores = arrays["validation_labels"], arrays["validation_scores"]
        chosen, tested = arrays["validation_chosen_scores"], arrays["chosen_scores"]
        per_image = [arrays[name] for name in ("validation_ids", "validation_groups")]
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error
    n = len(labels)
    shapes = [scores.shape, chosen.shape, tested.shape]
    if shapes != [(shape[0], n, shape[2]), (1, n, shape[2]), (1, *shape[1:])] or {
        len(a) for a in per_image
    } != {n}:
        raise ValueError("its arrays of validation images are of different lengths")
    if any(array.dtype.kind != "f" for array in (scores, chosen, tested)):
        raise ValueError("its scores of validation images are not floating-point numbers")
    _check_labels(labels, shape[2])


def _check_labels(labels: npt.NDArray[Any], classes: int) -> None:
    if labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"its labels are not integers from 0 to {classes - 1}")


def parse_history(text: str) -> list[dict[str, Any]]:
    """Parse a ``history.csv`` into a row for each epoch: ``stage``, and numbers, NaN if missing.

    Raises ValueError when it has no epoch, lacks ``stage``, ``loss`` or ``acc``, or holds something but a number.
    """
    try:
        rows: list[dict[str, Any]] = list(csv.DictReader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if not rows or {"stage", "loss", "acc"} - rows[0].keys():
        raise ValueError("it has no epochs with stage, loss and acc")
    for row in rows:
        if None in row or None in row.values():
            raise ValueError("its rows are of different lengths")
        for name in row.keys() - {"stage"}:
            row[name] = float(row[name] or math.nan)
    return rows


def flatten_record(record: Record, rule: str = "mean") -> dict[str, Any]:
    """Flatten a record into one row. rule: of ``stats.rules.RULES``, as in ``FinishedRuns.build_frame``."""
    spec = record["spec"]
    row = {k: v for k, v in spec.items() if k not in ("hparams", "protocol")}
    row |= {k: " ".join(f"{a}={b}" for a, b in spec.get(k, ())) for k in ("hparams", "protocol")}
    row |= {
        k: record[k]
        for k in ("key", "dataset_title", "synthetic", "incomplete", "split_hash", "n_train", "n_test")
    }
    row |= {"revision": record.get("revision")}
    row |= {"seconds": record["seconds"], "device": record["environment"]["device"], "rule": rule}
    if "n_validation" in record:
        values = record.get("validation", {}).get(rule, {})
        row |= {"n_validation": record["n_validation"]}
        row |= {f"validation_{name}": value for name, value in values.items()}
    figures: dict[str, Any] = record["figures"].get(rule, {})
    return row | figures
