"""UDCD under every reading of its paper: how far the result moves, and whether UDCD is still the best.

The first row is UDCD as described, the second its released code; each further row changes one thing that the paper
leaves open. Below the rule stand the rows of the paper's Table 2, which UDCD surpasses according to the paper.

Differs from the paper: it has no such table. Which readings are open is this suite's finding (``methods show udcd``);
the weights tried, a tenth of each λ and all of them 1, since it prints none, are this suite's choice (S).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from udcd_bench.artefacts import table
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from udcd_bench.grid.cells import TableRow
    from udcd_bench.runs.results import Results


class Table(table.Table):
    """One row for each reading, then the rivals; ACC, AP, REC and F1 on either data set."""

    name = "readings"
    title = "UDCD under each reading of its paper"
    datasets = ("aptos", "ham10000")
    metrics = ("acc", "ap", "rec", "f1")
    further = False
    rows: ClassVar = {
        "udcd": "as described",
        "udcd-released": "as released",
        "udcd:confidence=text": "ψ as the text has it",
        "udcd:anchors=rectified": "anchors rectified",
        "udcd:teacher_anchors=student": "the student's anchors for both",
        "udcd:relation=kl": "relations by KL",
        "udcd:reduction=sum": "sums over anchors and triplets",
        "udcd:projectors=frozen": "projections frozen",
        "udcd:lambda_kl=0.1": "λ₁ a tenth, 0.1",
        "udcd:lambda_scl=0.01": "λ₂ a tenth, 0.01",
        "udcd:lambda_cra=2.5": "λ₃ a tenth, 2.5",
        "udcd:lambda_kl=1,lambda_scl=1,lambda_cra=1": "λ₁ = λ₂ = λ₃ = 1",
        "udcd:ce_normalise=batch": "cross-entropy over B",
        "udcd:freeze_bn_after_first_eval=true": "BatchNorm left in evaluation",
        "scratch": "Scratch",
        "mtg": "MTG",
        "rkd": "RKD",
        "sskd": "SSKD",
        "crckd": "CRCKD",
        "crd": "CRD",
        "scl-ikd": "SCL-IKD",
        "ssd-kd": "SSD-KD",
    }

    def list_rows(self, request: table.TableRequest) -> list[TableRow]:
        """List the readings, then the rivals, which stand below a rule."""
        return [replace(row, listed=_is_reading(row.name)) for row in super().list_rows(request)]

    def build_frame(self, request: table.TableRequest, results: Results) -> pd.DataFrame:
        """Build the long frame with two columns more, for readings.

        ``moved``: points above UDCD as described. ``place``: rank among the rivals that have figures, 1 the best.
        """
        frame = super().build_frame(request, results)
        moved, ranks = [], []
        for row in frame.to_dict("records"):
            column = frame[
                (frame["dataset"] == row["dataset"])
                & (frame["metric"] == row["metric"])
                & frame["ours"].notna()
            ].set_index("method")["ours"]
            rivals = column[[not _is_reading(method) for method in column.index]]
            ours = row["ours"] if _is_reading(row["method"]) else math.nan
            moved.append(round(ours - column.get("udcd", math.nan), 2))
            ranks.append(1 + int((rivals > ours).sum()) if len(rivals) and not math.isnan(ours) else pd.NA)
        return frame.assign(moved=moved, place=pd.array(ranks, dtype="Int64"))

    def describe(self, frame: pd.DataFrame) -> tuple[str, ...]:
        """Return how far the readings move UDCD, and under how many it is still the best."""
        sentences = []
        for title, group in frame.groupby("dataset_title", sort=False):
            parts = []
            for metric, column in group[group["place"].notna()].groupby("metric", sort=False):
                n, best = len(column), int((column["place"] == 1).sum())
                moved = column["moved"].dropna()
                part = f"{METRICS[metric].title} under {best} of {n} readings"
                if len(moved):
                    part += f" (moved by {moved.min():+.2f} to {moved.max():+.2f} points)".replace("-", "−")
                parts.append(part)
            if parts:
                sentences.append(f"{title}: no row below the rule surpasses UDCD in {', in '.join(parts)}.")
        return tuple(sentences)


def _is_reading(row: str) -> bool:
    return row.startswith("udcd")
