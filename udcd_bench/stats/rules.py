"""Reporting rules: the epochs that a run's figures are taken from.

``mean`` of the figures of the last epochs; ``last`` epoch; ``best`` epoch by accuracy on the test images themselves,
which is optimistic; ``best-validation``, the epoch of the highest macro F1 on images that neither train nor test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench.stats import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from udcd_bench.stats.metrics import Floats

BEST_VALIDATION = "best-validation"
RULES = ("mean", "last", "best", BEST_VALIDATION)
CHOSEN_BY = "f1"
"""The metric by which an epoch is best on validation images: macro F1 falls with what is missed and with what is
falsely found, of every class alike; accuracy overlooks rare classes, and balanced accuracy false finds."""


def select_reported_epochs(arrays: Mapping[str, Any], rule: str) -> Floats:
    """Select the test scores that a rule takes its figures from: (E', n, C).

    arrays: as of ``FinishedRuns.read_scores``; those of a validated run for ``best-validation``.
    """
    scores: Floats = arrays["scores"]
    if rule == "mean":
        return scores
    if rule == "last":
        return scores[-1:]
    if rule == BEST_VALIDATION:
        chosen: Floats = arrays["chosen_scores"]
        return chosen
    best = int(np.argmax([(epoch.argmax(1) == arrays["labels"]).mean() for epoch in scores]))
    return scores[best : best + 1]


def summarize_test(arrays: Mapping[str, Any], *, ordered: bool) -> dict[str, dict[str, float]]:
    """Compute the figures of a run's test images by each rule that it has: rule → metric → value."""
    figures = metrics.summarize_epochs(arrays["scores"], arrays["labels"], ordered=ordered)
    if "chosen_scores" in arrays:
        chosen = arrays["chosen_scores"][0]
        figures[BEST_VALIDATION] = metrics.compute_metrics(chosen, arrays["labels"], ordered=ordered)
    return figures


def summarize_validation(arrays: Mapping[str, Any], *, ordered: bool) -> dict[str, dict[str, float]]:
    """Compute the figures of a run's validation images by each rule but ``best``: rule → metric → value."""
    labels = arrays["validation_labels"]
    figures = metrics.summarize_epochs(arrays["validation_scores"], labels, ordered=ordered)
    chosen = metrics.compute_metrics(arrays["validation_chosen_scores"][0], labels, ordered=ordered)
    return {"mean": figures["mean"], "last": figures["last"], BEST_VALIDATION: chosen}
