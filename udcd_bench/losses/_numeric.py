"""Numerical helpers of the losses: precision, unit rows, reductions, a zero that stays in the graph."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import nullcontext
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")

TINY = 1e-12
"""A length at or below this counts as zero."""


def use_full_precision(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Decorate a loss to run outside autocast, its floating tensors promoted to one dtype of at least float32."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        floats = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point()]
        dtype = torch.float32
        for x in floats:
            dtype = torch.promote_types(dtype, x.dtype)

        def promote(x: object) -> object:
            return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x

        with disable_autocast(floats[0]) if floats else nullcontext():
            return function(
                *(promote(x) for x in args),  # type: ignore[arg-type]
                **{name: promote(x) for name, x in kwargs.items()},  # type: ignore[arg-type]
            )

    return wrapper


def disable_autocast(x: Tensor) -> torch.autocast | nullcontext[None]:
    """Return a context in which autocast is off for the device of ``x``."""
    kind = x.device.type
    # PyTorch 2.11 does not trace the first question, and what is compiled is on a device that has autocast
    available = torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind)
    active = available and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if active else nullcontext()


def to_float64(x: Tensor) -> Tensor:
    """Convert ``x`` to float64; on a device that has no float64, return it unchanged."""
    return x if x.device.type == "mps" else x.double()


def normalize_rows(x: Tensor) -> Tensor:
    """Scale rows to length one along the last axis; a zero row stays zero and gets no gradient."""
    squared = x.square().sum(-1, keepdim=True)
    return x * compute_inverse_root(squared)


def compute_inverse_root(squared: Tensor) -> Tensor:
    """Compute 1/√squared; 0, without gradient, for a length that counts as zero."""
    return squared.masked_fill(squared <= TINY**2, torch.inf).rsqrt()


def make_zero_with_grad(*tensors: Tensor) -> Tensor:
    """Make a scalar zero that is connected to the graph of ``tensors`` and gives them zero gradients."""
    return torch.stack([(x * 0).sum() for x in tensors]).sum()


def check_reduction(reduction: str) -> None:
    """Raise ValueError unless ``reduction`` is "mean" or "none"."""
    if reduction not in ("mean", "none"):
        raise ValueError(f'reduction must be "mean" or "none", not {reduction!r}.')


def reduce(rows: Tensor, reduction: str) -> Tensor:
    """Return the rows themselves, or their mean, which is zero when there are no rows."""
    if reduction == "none":
        return rows
    return rows.mean() if rows.numel() else rows.sum()
