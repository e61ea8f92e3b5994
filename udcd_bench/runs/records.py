"""What a run's record, arrays and history must say before anything is made of them."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Any

from udcd_bench.runs.spec import check_spec_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from udcd_bench.storage.packing import Arrays

_FIELD_TYPES: dict[str, type] = {
    **dict.fromkeys(("method_title", "dataset_title", "incomplete", "split_hash", "reporting"), str),
    **dict.fromkeys(("n_train", "n_test", "epochs"), int),
    **dict.fromkeys(("synthetic", "ordered"), bool),
    **dict.fromkeys(("environment", "files", "figures"), dict),
    "classes": list,
}
_ENVIRONMENT_FIELDS = ("device", "threads", "precision", "python", "torch", "timm", "udcd_bench", "commit")


def check_record(record: Mapping[str, Any]) -> None:
    """Raises ValueError naming what is missing or of another kind than a finished run's, by whatever hand."""
    try:
        check_spec_values(record["spec"])
        for name, kind in _FIELD_TYPES.items():
            if type(record[name]) is not kind:
                raise ValueError(f"{name} is {record[name]!r:.100}")
        # a rule or a metric may be newer than the run
        for figures in record["figures"].values():
            for name, value in figures.items():
                if not _is_number(value):
                    raise ValueError(f"figure {name} is {value!r:.100}")
        if {"acc", "rec"} - record["figures"]["mean"].keys() or not _is_number(record["seconds"]):
            raise ValueError("it has no accuracy, recall or seconds")
        if not record["classes"] or any(type(name) is not str for name in record["classes"]):
            raise ValueError("its classes are no names")
        sizes = record.get("bytes", {})
        if (
            any(type(value) is not str for value in record["files"].values())
            or sizes.keys() - record["files"].keys()
        ):
            raise ValueError("its list of files is another's")
        if any(type(value) not in (str, int, bool) for value in record["environment"].values()):
            raise ValueError("its environment is no list of names and versions")
        for name in _ENVIRONMENT_FIELDS:
            record["environment"][name]
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error
    except (TypeError, AttributeError) as error:
        raise ValueError("it is no finished run's") from error


def check_arrays(arrays: Arrays, classes: int) -> None:
    """Raises ValueError where these cannot be the arrays of one run's test images, of so many classes."""
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
        raise ValueError("its scores or embeddings are no fractions")
    labels = arrays["labels"]
    if labels.dtype.kind not in "iu" or not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"its labels are no classes from 0 to {classes - 1}")


def parse_history(text: str) -> list[dict[str, Any]]:
    """The rows of a ``history.csv``, one an epoch: ``stage`` and numbers, NaN where an epoch has none.

    Raises ValueError where it has no epoch, lacks ``stage``, ``loss`` or ``acc``, or says no number.
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


def flatten_record(record: Mapping[str, Any], rule: str = "mean") -> dict[str, Any]:
    """Flatten a record into one row. rule: ``mean``, ``last`` or ``best``, as in ``FinishedRuns.build_frame``."""
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
