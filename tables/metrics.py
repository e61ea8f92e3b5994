"""Every metric of the suite for Table 2's rows and data sets, both definitions of F1 side by side.

All are computed from the runs that Table 2 needs; none is trained for this.

Differs from the paper: it has no such table. It prints ACC, AP, REC and F1 alone, and some of its F1 follow one
definition, some the other (``udcd-bench audit``).
"""

from __future__ import annotations

from udcd_bench.artefacts import table


class Table(table.Table):
    """Methods in Table 2's order (``PAPER_ROWS``); every metric, one data set to a band."""

    name = "metrics"
    title = "Every metric for the rows of Table 2"
    datasets = ("aptos", "ham10000")
    metrics = ("acc", "ap", "rec", "f1", "f1_of_means", "auroc", "auprc", "kappa", "ece")
    groups_per_band = 1
