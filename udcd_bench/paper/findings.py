"""What an audit finds: the rules with their severities and sources, and a finding's figures and sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from udcd_bench.paper.rounded import RoundedValue

SEVERITIES = {
    "impossible": "no measurement gives this figure",
    "contradiction": "two places that speak of the same thing exclude each other",
    "mislabelled": "a figure, column, row or mark stands under a name that is not its own",
    "unsupported": "what is claimed does not follow from what is printed",
}
"""Severity of a finding → what it means, the gravest first."""


class AuditRule(NamedTuple):
    """What a rule finds, in a sentence, how grave that is (``SEVERITIES``), and where the rule comes from."""

    description: str
    severity: str
    source: str


OPITZ = "Opitz & Burst 2019, Macro F1 and Macro F1, arXiv:1911.03347"
COMPARED = "the tables, compared with each other"
AUDIT_RULES = {
    "f1-above-harmonic-mean": AuditRule(
        "Impossible, if the precision is macro-averaged: the mean of the per-class F1 never exceeds the F1 of the mean "
        "precision and recall, and averaging over folds or epochs cannot change that, since the harmonic mean is "
        "concave.",
        "impossible",
        OPITZ,
    ),
    "stale-column": AuditRule(
        "In several rows only recall differs between two tables, while F1 goes with one table's recall in both.",
        "contradiction",
        COMPARED,
    ),
    "same-setting-other-figures": AuditRule(
        "The same data set, imbalance and method stand in two places with different figures.",
        "contradiction",
        COMPARED,
    ),
    "same-figures-other-method": AuditRule(
        "Two methods' rows in the same setting share all figures but at most one.", "mislabelled", COMPARED
    ),
    "f1-is-harmonic-mean": AuditRule(
        "Definition revealed: F1 is 2·P·R/(P + R) of the printed precision and recall to the last digit, in more "
        "rows than by chance; so that precision is a precision, whatever its column is called.",
        "mislabelled",
        OPITZ,
    ),
    "f1-definitions-mixed": AuditRule(
        "Some rows print the harmonic mean of precision and recall as F1, others a figure below it.",
        "mislabelled",
        OPITZ,
    ),
    "f1-definitions-by-row": AuditRule(
        "Within a table the definition of F1 goes with the method: F1 of some is never below the harmonic mean, that "
        "of others is.",
        "mislabelled",
        OPITZ,
    ),
    "best-mark": AuditRule(
        "A figure marked best is not, or the best is not marked.", "mislabelled", "the table's own figures"
    ),
    "second-mark": AuditRule(
        "A figure marked second best is not, or the second best is not marked.",
        "mislabelled",
        "the table's own figures",
    ),
    "claim-fails": AuditRule(
        "A sentence that the printed figures do not bear out.", "unsupported", "the sentence, as quoted"
    ),
    "claim-untested": AuditRule(
        "A sentence on which the paper has no experiment.", "unsupported", "the sentence, as quoted"
    ),
    "margin-within-chance": AuditRule(
        "A best accuracy whose margin is so few test images that no exact test on one fold could tell it from chance, "
        "even if every image on which the two rows differ spoke for the best.",
        "unsupported",
        "McNemar 1947, Psychometrika 12; the exact test is binomial",
    ),
}
"""Each rule by its name, in the order in which findings are listed."""


@dataclass(frozen=True)
class Finding:
    """What a rule found: the figures it concerns, and one sentence."""

    rule: str
    cells: tuple[RoundedValue, ...]
    sentence: str

    @property
    def severity(self) -> str:
        """How grave it is, a key of ``SEVERITIES``."""
        return AUDIT_RULES[self.rule].severity

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "rule": self.rule,
            "severity": self.severity,
            "source": AUDIT_RULES[self.rule].source,
            "where": [cell.to_dict() for cell in self.cells],
            "sentence": self.sentence,
        }
