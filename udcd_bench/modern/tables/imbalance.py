"""Losses made for imbalance beside UDCD, on HAM10000 at the four imbalances of the paper's Table 1.

Differs from the paper: it has no such table. Its Table 1 compares UDCD with other distillation alone, though the losses
here, which only change how the labels count, are what imbalance is usually met with. The data are resampled as for
Table 1. ``balanced-softmax`` has no row, since it is ``logit-adjustment`` with τ = 1 but for rounding; ``--methods``
adds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from udcd_bench.artefacts import table

if TYPE_CHECKING:
    import pandas as pd


class Table(table.Table):
    """Scratch, the losses for imbalance by year, UDCD; ACC, AP, REC and F1 at each ρ, two to a band."""

    name = "imbalance"
    title = "Losses for imbalance beside UDCD"
    datasets = ("ham10000",)
    metrics = ("acc", "ap", "rec", "f1")
    rhos = (144.0, None, 17.0, 9.0)
    own_rho = 58.0
    further = False
    rows: ClassVar = {
        "scratch": "Scratch",
        "focal": "Focal",
        "class-balanced": "Class-balanced",
        "ldam-drw": "LDAM-DRW",
        "logit-adjustment": "Logit adjustment",
        "udcd": "UDCD",
    }

    def describe(self, frame: pd.DataFrame) -> tuple[str, ...]:
        """Return what the other rows have in the place of their losses."""
        return (
            "Scratch, Focal and UDCD weigh the classes of the cross-entropy by inverse frequency; in the other rows "
            "weights, margins or shifts of their own take that place.",
        )
