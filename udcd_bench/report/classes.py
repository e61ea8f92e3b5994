"""Classes of the report: each row's confusion matrix, and each class's recall, precision and F1 with an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.runs.spec import derive_seed
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import count_confusions
from udcd_bench.stats.rules import select_reported_epochs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from udcd_bench.runs.records import Record
    from udcd_bench.runs.store import Store
    from udcd_bench.stats.metrics import Floats

CLASS_METRICS = {"recall": "recall", "precision": "precision", "f1": "F1"}
"""Metric of a class → its title."""


@dataclass(frozen=True)
class ClassFigures:
    """What one row reaches on each class, over its folds and seeds; percent, NaN for a class without images.

    shares (C, C): of the true class's images. images (C,): test images of each class, every fold's once.
    figures: metric → (C,), means over epochs and runs. low, high: ends of their 95 % intervals, of the
    test images alone.
    """

    classes: tuple[str, ...]
    shares: Floats
    images: tuple[int, ...]
    figures: Mapping[str, Floats]
    low: Mapping[str, Floats]
    high: Mapping[str, Floats]

    @property
    def macro(self) -> float:
        """Mean recall over the classes that have test images, percent."""
        return float(np.nanmean(self.figures["recall"]))


def build_classes(records: Sequence[Record], store: Store, rule: str) -> ClassFigures:
    """Build the figures of a row's runs in the epochs that a rule reports."""
    classes = tuple(map(str, records[0]["classes"]))
    by_test_set: dict[tuple[int, str], list[Mapping[str, Any]]] = {}
    for record in records:
        test_set = (record["spec"]["fold"], record["split_hash"])
        arrays = store.read_scores(record["key"])
        reported = {**arrays, "scores": select_reported_epochs(arrays, rule)}
        by_test_set.setdefault(test_set, []).append(reported)
    runs = [arrays for members in by_test_set.values() for arrays in members]
    counts = [[count_confusions(epoch, arrays["labels"]) for epoch in arrays["scores"]] for arrays in runs]
    total = np.sum([np.mean(epochs, axis=0) for epochs in counts], axis=0)
    by_run = [statistics.compute_class_metrics(np.asarray(epochs)) for epochs in counts]
    draws = _draw_classes(by_test_set, records[0]["spec"]["dataset"])
    level = load_tolerances().level
    ends = {
        metric: [
            100 * np.quantile(draws[metric], share, axis=0) for share in ((1 - level) / 2, (1 + level) / 2)
        ]
        for metric in draws
    }
    unknown = np.full(len(classes), np.nan)
    support = [np.bincount(members[0]["labels"], minlength=len(classes)) for members in by_test_set.values()]
    with np.errstate(invalid="ignore"):
        shares = 100 * total / total.sum(1, keepdims=True)
    return ClassFigures(
        classes=classes,
        shares=shares,
        images=tuple(int(n) for n in np.sum(support, axis=0)),
        figures={
            metric: 100 * np.mean([values[metric].mean(0) for values in by_run], axis=0)
            for metric in CLASS_METRICS
        },
        low={metric: ends[metric][0] if ends else unknown for metric in CLASS_METRICS},
        high={metric: ends[metric][1] if ends else unknown for metric in CLASS_METRICS},
    )


def _draw_classes(
    by_test_set: Mapping[tuple[int, str], Sequence[Mapping[str, Any]]], dataset: str
) -> dict[str, Floats]:
    """Draw each class's figures (draws, C): runs on one test set together, test sets apart; empty without groups."""
    sums: dict[str, list[Floats]] = {}
    n_runs = sum(map(len, by_test_set.values()))
    for test_set, members in by_test_set.items():
        resampling = statistics.Resampling(
            members[0]["labels"],
            members[0]["groups"],
            load_tolerances().draws,
            np.random.default_rng(derive_seed("classes", dataset, *test_set)),
        )
        of_set = statistics.bootstrap_classes([arrays["scores"] for arrays in members], resampling)
        for metric, draws in of_set.items():
            sums.setdefault(metric, []).append(draws.sum(1) / n_runs)
    complete = all(len(values) == len(by_test_set) for values in sums.values())
    return {metric: np.sum(values, axis=0) for metric, values in sums.items()} if complete else {}
