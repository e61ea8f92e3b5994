"""Drawn images: the stand-ins for skin lesions and fundus photographs. Knows nothing of real data."""

from __future__ import annotations

from typing import Any


def import_artist(name: str) -> Any:
    """Import the module that draws ``synthetic-lesions`` or ``synthetic-fundus``."""
    if name == "synthetic-lesions":
        from udcd_bench.data.synthetic import lesions

        return lesions
    from udcd_bench.data.synthetic import fundus

    return fundus
