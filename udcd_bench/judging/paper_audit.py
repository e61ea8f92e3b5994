"""The audit of the paper as a whole: its tables by rule, its claims, and what its margins are worth on one fold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.data import splits
from udcd_bench.data.layouts import aptos, ham10000
from udcd_bench.judging import claim_check, claim_file
from udcd_bench.paper import rounded
from udcd_bench.paper.audit import audit_tables, sort_by_rule
from udcd_bench.paper.findings import Finding
from udcd_bench.paper.margins import ACCURACY, Margin, find_untestable_margins, list_best_margins

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from udcd_bench.paper.margins import SettingKey
    from udcd_bench.paper.published import PublishedValue
    from udcd_bench.paper.rounded import RoundedValue

    Tables = Mapping[str, Sequence[PublishedValue]]
    CheckedClaims = Sequence[tuple[claim_file.Claim, claim_check.ClaimVerdict]]

PUBLISHED_COUNTS = {layout.SOURCE.name: layout.EXPECTED_COUNTS.counts for layout in (aptos, ham10000)}
"""Data set → its images by class, as published."""


@dataclass(frozen=True)
class Audit:
    """What the audit of published tables finds, and every margin in accuracy that is called best or claimed."""

    findings: list[Finding]
    margins: list[Margin]


def audit_paper(own_rhos: Mapping[str, float]) -> Audit:
    """Audit the suite's published tables and the paper's claims on them.

    own_rhos: data set → the imbalance of all its images, as tables print it.
    """
    tables = rounded.load_published_tables()
    sizes = find_fold_sizes(tables, own_rhos)
    claims = _check_claims()
    margins = _join_claims([*list_best_margins(tables, sizes), *_list_claimed_margins(claims, sizes)])
    findings = audit_tables(tables, own_rhos)
    return Audit(
        sort_by_rule([*findings, *_find_failed_claims(claims), *find_untestable_margins(margins)]), margins
    )


def audit_other(tables: Tables, own_rhos: Mapping[str, float], n_test: int | None) -> Audit:
    """Audit other tables, of which no claims are known. n_test: test images behind a figure; None where unknown."""
    settings = {(value.dataset, value.rho) for table in tables.values() for value in table}
    margins = list(list_best_margins(tables, dict.fromkeys(settings, n_test))) if n_test else []
    return Audit(sort_by_rule([*audit_tables(tables, own_rhos), *find_untestable_margins(margins)]), margins)


def find_fold_sizes(tables: Tables, own_rhos: Mapping[str, float]) -> dict[SettingKey, int]:
    """Find the test images of one fold of each printed setting, as this suite's protocol has them."""
    sizes = {}
    for dataset, rho in {(value.dataset, value.rho) for table in tables.values() for value in table}:
        if dataset in PUBLISHED_COUNTS:
            counts = np.array(list(PUBLISHED_COUNTS[dataset].values()))
            if rho not in (None, own_rhos.get(dataset)):
                counts = splits.compute_resampled_counts(counts, rho)
            # the first folds are the larger ones
            sizes[dataset, rho] = -(-int(counts.sum()) // splits.FOLDS)
    return sizes


def _check_claims() -> CheckedClaims:
    file = claim_file.find_claims_file()
    claims = claim_file.load_claims(file) if file.is_file() else ()
    return [(claim, claim_check.check_on_paper(claim)) for claim in claims]


def _list_claimed_margins(claims: CheckedClaims, sizes: Mapping[SettingKey, int]) -> Iterator[Margin]:
    """List the margins in accuracy that the paper's claims rest on."""
    for claim, outcome in claims:
        for gain in outcome.gains:
            if gain.metric in ACCURACY and len(gain.cells) == 2:
                subject, other = gain.cells
                if (setting := (subject.dataset, subject.rho)) in sizes:
                    yield Margin(subject, other, sizes[setting], (claim.name,))


def _join_claims(margins: Iterable[Margin]) -> list[Margin]:
    """Join the claims on one and the same margin."""
    joined: dict[tuple[RoundedValue, RoundedValue], Margin] = {}
    for margin in margins:
        cells = (margin.best, margin.other)
        claims = joined[cells].claims if cells in joined else ()
        joined[cells] = replace(margin, claims=(*claims, *margin.claims))
    return list(joined.values())


def _find_failed_claims(claims: CheckedClaims) -> Iterator[Finding]:
    """Find the suite's claims that fail on the published figures, or on which there are none to be had."""
    for claim, outcome in claims:
        rule = "claim-untested" if claim.kind == "no-experiment" else "claim-fails"
        if outcome.outcome == "fails" or claim.kind == "no-experiment":
            cells = tuple(cell for gain in outcome.gains for cell in gain.cells)
            yield Finding(rule, cells, f"“{claim.quote}” ({claim.where}): {outcome.reason}.")


def group_by_rule(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Group findings by the name of their rule, in their order."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.rule, []).append(finding)
    return groups
