"""Ranges that a method file declares for a search, readable without executing it: ``between(1, 10, log=True)``."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Between:
    """The numbers from ``low`` to ``high``, both included. log: sampled evenly by their logarithm."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"between({self.low!r}, {self.high!r}): the first is the lower end")
        if self.log and self.low <= 0:
            raise ValueError(f"between({self.low!r}, {self.high!r}, log=True): both ends are above 0")


def between(low: float, high: float, *, log: bool = False) -> Between:
    """Declare a range in the ``search`` of a method file: the numbers from ``low`` to ``high``, both included.

    log: sample them evenly by their logarithm, for what is positive and may be any power of ten.
    """
    return Between(low, high, log)


def read_literal(node: ast.expr) -> Any:
    """Read a literal, in which ``between(...)`` may stand as a value of a dict.

    Raises ValueError for anything else, and for a range that is none.
    """
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError("a dict that takes in another is no literal")
        keys = (ast.literal_eval(key) for key in node.keys if key is not None)
        return {key: read_literal(value) for key, value in zip(keys, node.values)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "between":
        options = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
        try:
            return between(*map(ast.literal_eval, node.args), **options)
        except TypeError as error:
            raise ValueError(str(error)) from error
    return ast.literal_eval(node)
