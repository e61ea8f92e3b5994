"""The examples in the docstrings of losses, memory and sampling give what they print."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

from udcd_bench import losses

MODULES = [f"udcd_bench.losses.{module.name}" for module in pkgutil.iter_modules(losses.__path__)]
MODULES += ["udcd_bench.memory", "udcd_bench.sampling"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"torch": torch})
    assert failed == 0


def test_the_main_losses_have_an_example():
    names = ("kd", "normalized_entropy", "weighted_cross_entropy", "nce", "npairs", "rkd_distance", "cra")
    for name in (*names, "class_anchors", "rotate_four_ways"):
        assert ">>>" in getattr(losses, name).__doc__, name
