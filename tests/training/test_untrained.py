"""Parameters that no stage would train are refused when a method is put together; what it may hold beside is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from support import factories
from udcd_bench.errors import UserError
from udcd_bench.method import BaseMethod
from udcd_bench.training.assemble import assemble_method, build_networks

REFUSED = {
    "parameter": (
        lambda: nn.Parameter(torch.ones(1)),
        r"parameter of no module, so nothing trains it; write",
    ),
    "tensor": (lambda: torch.ones(1, requires_grad=True), r"parameter of no module"),
    "list": (
        lambda: [nn.Linear(2, 2)],
        r"plain list of modules or parameters.* make it an nn\.ModuleList or",
    ),
    "nested": (
        lambda: ([nn.ReLU()], [nn.Linear(2, 2)]),
        r"plain tuple .*nn\.ModuleList or nn\.ParameterList\.",
    ),
    "dict": (
        lambda: {"a": nn.Parameter(torch.ones(1))},
        r"plain dict .*nn\.ModuleDict or nn\.ParameterDict\.",
    ),
}
FINE = {
    "module": lambda own: nn.ParameterList([nn.Parameter(torch.ones(1))]),
    "constant": lambda own: nn.Parameter(torch.ones(1), requires_grad=False),
    "pair": lambda own: [(own.student, own.student.classifier)],
    "numbers": lambda own: [1, "a", torch.ones(2), nn.ReLU()],
}


def make(value):
    class Method(BaseMethod):
        title = "Mine"
        citation = "None, 2024"

        def setup(self):
            self.held = value(self)

    return Method


def assemble(cls):
    networks = build_networks(cls, lambda: factories.SmallNet(4, embedding=128))
    return assemble_method(cls, networks, torch.arange(8) % 4, 4)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_stage_trains_is_refused(kind):
    value, says = REFUSED[kind]
    for build in (assemble, factories.method):
        with pytest.raises(UserError, match=f"^Mine: held is a {says}"):
            build(make(lambda own: value()))


@pytest.mark.parametrize("kind", FINE)
def test_what_a_method_may_hold(kind):
    assert assemble(make(FINE[kind])).held is not None
