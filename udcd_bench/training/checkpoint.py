"""Checkpoints of a training run: optimiser, schedule and random states as named arrays and plain numbers, and back.

Checkpoints are stored as safetensors, which hold arrays only, so that loading one executes nothing; what PyTorch would
pickle is taken apart and put together here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from udcd_bench.storage.packing import Arrays

Metadata = dict[str, Any]
Schedule = torch.optim.lr_scheduler.LRScheduler


class Checkpoints(Protocol):
    """The storage of a run's checkpoint. Arrays are numpy's; metadata is what JSON can hold."""

    def save(self, arrays: Arrays, meta: Metadata) -> None:
        """Replace the stored checkpoint."""

    def load(self) -> tuple[Arrays, Metadata] | None:
        """Load the stored checkpoint; None if no checkpoint is stored."""


def split_by_prefix(arrays: Arrays) -> dict[str, dict[str, Tensor]]:
    """Group a checkpoint's arrays, as tensors, by the word before the first dot of their names."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name, value in arrays.items():
        prefix, _, rest = name.partition(".")
        groups.setdefault(prefix, {})[rest] = torch.from_numpy(value)
    return groups


def dump_optimiser(
    optimiser: torch.optim.Optimizer, schedule: Schedule
) -> tuple[dict[str, Tensor], Metadata]:
    """Return the optimiser's moments as tensors ``<parameter number>.<name>``, and the numbers of both."""
    moments = {
        f"{number}.{name}": value
        for number, state in optimiser.state_dict()["state"].items()
        for name, value in state.items()
    }
    groups = [{key: group[key] for key in ("lr", "betas")} for group in optimiser.param_groups]
    numbers = {k: v for k, v in schedule.state_dict().items() if isinstance(v, int | float)}
    return moments, {"schedule": numbers, "groups": groups}


def restore_optimiser(
    optimiser: torch.optim.Optimizer, schedule: Schedule, moments: dict[str, Tensor], meta: Metadata
) -> None:
    """Put what ``dump_optimiser`` returned into a fresh optimiser and schedule of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for name, value in moments.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
        if value.ndim:
            # the fused optimiser walks through memory, so a moment must have its parameter's layout
            state[int(number)][key] = torch.empty_like(parameters[int(number)]).copy_(value)
    groups = optimiser.state_dict()["param_groups"]
    for group, saved in zip(groups, meta["groups"]):
        group |= {"lr": saved["lr"], "betas": tuple(saved["betas"])}
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    schedule.load_state_dict(meta["schedule"])


def dump_random_states(generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """Return the states of the method's generator and of PyTorch's global ones, the device's included."""
    states = {"method": generator.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random_states(
    states: dict[str, Tensor], generator: torch.Generator, device: torch.device
) -> None:
    """Put what ``dump_random_states`` returned back."""
    generator.set_state(states["method"])
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
