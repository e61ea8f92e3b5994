"""What a method's ``compute_losses`` returns, checked before the loop uses it, in the words of who wrote the method."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from udcd_bench.errors import RunError

if TYPE_CHECKING:
    from udcd_bench.method import Stage

EXAMPLE = 'a dict such as {"ce": loss}, each a tensor of one value without a shape'


def check_terms(terms: Any, stage: Stage) -> None:
    """Raise RunError, with the method's file and line, when a loop could not train on what a stage returns."""
    if problem := _find_problem(terms):
        raise RunError(f"{_describe_function(stage.compute_losses)} returns {problem}; it returns {EXAMPLE}.")


def check_names(names: list[str], step_names: list[str], stage: Stage) -> list[str]:
    """Return the names of an epoch's terms. Raises RunError when a step has others."""
    if names != step_names:
        raise RunError(
            f"{_describe_function(stage.compute_losses)} returns {', '.join(names)} at one step and "
            f"{', '.join(step_names)} at another of the same epoch; return the same terms, 0 where one is left out."
        )
    return names


def _describe_function(function: Callable[..., Any]) -> str:
    """Describe where a function returns: file, the line of its only ``return`` or else its own, and its name."""
    name = getattr(function, "__name__", "compute_losses")
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
        returns = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Return)]
        line = first + (returns[0] - 1 if len(returns) == 1 else 0)
        return f"{inspect.getfile(function)}, line {line}: {name}"
    except (OSError, TypeError, SyntaxError):  # of a callable that is no function, or whose file is gone
        return name


def _find_problem(terms: Any) -> str:
    """Describe what is wrong with terms; empty if nothing is."""
    if not isinstance(terms, Mapping):
        return f"a {type(terms).__name__}"
    if not terms:
        return "no term"
    for name, term in terms.items():
        if not isinstance(name, str):
            return f"a term called {name!r}, which is no text"
        if not isinstance(term, torch.Tensor):
            return f"a {type(term).__name__} as term {name!r}"
        if term.ndim or not term.is_floating_point():
            kind = str(term.dtype).removeprefix("torch.")
            return f"a tensor of shape {tuple(term.shape)} and type {kind} as term {name!r}"
    if not any(term.requires_grad for term in terms.values()):
        return (
            f"no term with a gradient ({', '.join(terms)} do not depend on what is trained, or were detached)"
        )
    return ""
