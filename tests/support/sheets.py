"""Tables of a few figures, laid out but not rendered."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from udcd_bench.render.sheet import Sheet, lay_out


def frame_of(values: dict[str, dict[str, float]], dataset: str = "a") -> pd.DataFrame:
    """A table's frame of these figures: method → metric → value."""
    none = ("published", "rho", "spread", "spread_folds", "spread_seeds", "low", "high")
    rest = {**dict.fromkeys(none, math.nan), "verdict": "", "note": ""}
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


def sheet_of(frame: pd.DataFrame, **changes: Any) -> Sheet:
    """A frame laid out as a table."""
    headings = list(dict.fromkeys(frame["dataset"]))
    return lay_out(frame, **({"name": "t1", "title": "T", "headings": headings} | changes))
