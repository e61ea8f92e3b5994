"""The paper's Table 2: what every baseline and UDCD reach on APTOS 2019 and HAM10000.

Differs from the paper: bold are our figures that cannot be told from the best; methods that it has no row of,
KD among them, stand below a rule.
"""

from __future__ import annotations

from udcd_bench.artefacts import table


class Table(table.Table):
    """Methods in the printed order (``PAPER_ROWS``); ACC, AP, REC and F1 on either data set."""

    name = "table2"
    title = "Baselines and UDCD, laid out as the paper's Table 2"
    datasets = ("aptos", "ham10000")
    metrics = ("acc", "ap", "rec", "f1")
