"""Per-image results as data frames: a row an image, with the predicted class and a probability for each class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from udcd_bench.stats.metrics import softmax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from udcd_bench.runs.records import Record
    from udcd_bench.runs.store import Store
    from udcd_bench.stats.metrics import Floats
    from udcd_bench.storage.packing import Arrays

PREFIX = "p_"
"""Begins the name of a probability's column; the class's name follows."""


def build_probability_columns(probabilities: Floats, classes: Sequence[str]) -> pd.DataFrame:
    """Build ``predicted``, a column a class, and ``entropy`` in nats, of probabilities (n, C)."""
    p = np.asarray(probabilities, dtype=np.float64)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    predicted = [classes[c] for c in p.argmax(1)] if len(p) else []
    columns = {f"{PREFIX}{name}": p[:, c] for c, name in enumerate(classes)}
    return pd.DataFrame({"predicted": predicted} | columns | {"entropy": np.abs((p * logs).sum(1))})


def compute_probabilities(logits: Floats) -> Floats:
    """Compute probabilities (n, C) of logits (n, C), in double precision."""
    return softmax(np.asarray(logits, dtype=np.float64))


def build_runs_frame(store: Store, keys: Sequence[str]) -> pd.DataFrame:
    """Build the rows of ``build_scores_frame`` of several runs, each after its key, method, data set and seed.

    The columns of all classes stand in each row, empty where a run's data set has no such class.
    """
    parts = []
    for key in keys:
        record = store.read_record(key)
        frame = build_scores_frame(record, store.read_scores(key))
        spec = record["spec"]
        coordinates = {"key": key} | {name: spec.get(name, 0) for name in ("method", "dataset", "seed")}
        for place, (name, value) in enumerate(coordinates.items()):
            frame.insert(place, name, value)
        parts.append(frame)
    if not parts:
        return pd.DataFrame(
            columns=["key", "method", "dataset", "seed", "id", "group", "fold", "label", "predicted"]
        )
    return pd.concat(parts, ignore_index=True)


def build_scores_frame(record: Record, arrays: Arrays) -> pd.DataFrame:
    """Build a row for each test image of a run: id, group, fold, label, and the columns of its probabilities.

    The scores are those after the last epoch, by the network that is stored. arrays: as ``Store.read_scores`` returns.
    """
    classes = record["classes"]
    first = pd.DataFrame(
        {
            "id": arrays["ids"],
            "group": arrays["groups"],
            "fold": record["spec"].get("fold", 0),
            "label": [classes[label] for label in arrays["labels"]],
        }
    )
    probabilities = compute_probabilities(arrays["scores"][-1])
    return pd.concat([first, build_probability_columns(probabilities, classes)], axis=1)
