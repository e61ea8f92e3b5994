"""Fixtures of the tests of data."""

from __future__ import annotations

import pytest

from support import layouts
from udcd_bench.data.layouts import aptos, ham10000


@pytest.fixture
def small_published(monkeypatch):
    """Published counts of HAM10000 and APTOS 2019 as small as the layouts that the tests write."""
    monkeypatch.setattr(ham10000, "EXPECTED_COUNTS", layouts.HAM_PUBLISHED)
    monkeypatch.setattr(aptos, "EXPECTED_COUNTS", layouts.APTOS_PUBLISHED)
