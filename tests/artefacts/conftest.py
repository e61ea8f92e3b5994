from __future__ import annotations

import pytest

from udcd_bench.render import picture


@pytest.fixture(autouse=True)
def coarse_tables(monkeypatch):
    """Pictures of tables of few dots, which are made sooner."""
    monkeypatch.setattr(picture, "DPI", 50)
