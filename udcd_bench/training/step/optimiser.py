"""The optimiser of a stage and its schedule: Adam and OneCycle, for some modules at rates of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from udcd_bench.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from udcd_bench.method import Stage
    from udcd_bench.runs.profiles import Protocol

Schedule = torch.optim.lr_scheduler.OneCycleLR


def make_optimiser(
    parameters: Sequence[Tensor] | Sequence[dict[str, Any]], protocol: Protocol
) -> torch.optim.Optimizer:
    """Make the optimiser that every stage uses; the schedule sets its learning rate."""
    return torch.optim.Adam(parameters, weight_decay=protocol.weight_decay, fused=True)


def make_optimiser_of_stage(
    stage: Stage, protocol: Protocol, total_steps: int
) -> tuple[torch.optim.Optimizer, Schedule]:
    """Make the optimiser of what a stage trains, and its schedule over so many steps.

    The first group of parameters has the protocol's rate. Raises RunError as ``group_parameters`` does.
    """
    groups = group_parameters(stage)
    rates = [protocol.learning_rate * group.pop("rate_factor") for group in groups]
    for group in groups:
        group["weight_decay"] = protocol.weight_decay * group.pop("decay_factor")
    optimiser = make_optimiser(groups, protocol)
    return optimiser, Schedule(optimiser, rates, total_steps=total_steps)


def group_parameters(stage: Stage) -> list[dict[str, Any]]:
    """List what a stage trains as groups of the optimiser, with ``rate_factor`` and ``decay_factor``; first the rest.

    Raises RunError when a group holds what the stage does not train, or two groups hold the same.
    """
    rest = _list_trained(stage.trained_modules)
    trained_ids = {id(p) for p in rest}
    groups = []
    for group in stage.parameter_groups:
        parameters = _list_trained(group.modules)
        if not {id(p) for p in parameters} <= trained_ids:
            raise RunError(
                f"a parameter group of stage {stage.name!r} holds what the stage does not train, or what another group "
                "holds; name each module once, and in trained_modules too."
            )
        trained_ids -= {id(p) for p in parameters}
        groups.append(
            {"params": parameters, "rate_factor": group.rate_factor, "decay_factor": group.decay_factor}
        )
    rest = [p for p in rest if id(p) in trained_ids]
    return [{"params": rest, "rate_factor": 1.0, "decay_factor": 1.0}, *groups]


def _list_trained(modules: Iterable[torch.nn.Module]) -> list[Tensor]:
    return [p for module in modules for p in module.parameters() if p.requires_grad]
