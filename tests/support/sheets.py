"""Tables of a few figures, laid out but not rendered."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from udcd_bench.render.sheet import Sheet, lay_out


def frame_of(values: dict[str, dict[str, float]], dataset: str = "a") -> pd.DataFrame:
    """A table's frame of these figures: method → metric → value."""
    none = ("published", "rho", "spread", "spread_folds", "spread_seeds", "low", "high")
    rest = {**dict.fromkeys(none, math.nan), "verdict": "", "note": "", "mark": ""}
    return pd.DataFrame(
        [
            {
                "dataset": dataset,
                "method": method,
                "method_title": method,
                "metric": metric,
                "ours": ours,
                **rest,
            }
            for method, figures in values.items()
            for metric, ours in figures.items()
        ]
    )


def sheet_of(
    frame: pd.DataFrame, *, headings=None, title="T", warning="", caption=(), **changes: Any
) -> Sheet:
    """A frame laid out as a table."""
    headings = headings or list(dict.fromkeys(frame["dataset"]))
    bands, notes = lay_out(frame, headings, **changes)
    return Sheet("t1", title, warning, tuple(caption), notes, bands)
