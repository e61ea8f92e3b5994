"""The contract's old names: a method file that uses them is refused, with the new ones."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RENAMED_METHODS = {
    "losses": "compute_losses",
    "averages": "list_ema_pairs",
    "deployed": "get_inference_state_dict",
    "teach": "run_teacher",
}
"""What a method file's class defined under an old name → its name now."""
RENAMED_ATTRIBUTES = {
    "method.Method": "method.BaseMethod",
    "method.Info": "method.DatasetInfo",
    "losses.confidence": "losses.normalized_entropy",
    "memory.updated": "memory.update",
    "progress.started": "progress.teacher_active",
    "self.teach": "self.run_teacher",
}
"""What a method file used under an old name → its name now."""
RENAMED_IMPORTS = {
    ("udcd_bench.method", "Method"): "BaseMethod",
    ("udcd_bench.method", "Info"): "DatasetInfo",
    ("udcd_bench.losses", "confidence"): "normalized_entropy",
}
"""(module, name) that a method file imported → the name now."""
RENAMED_STAGE_FIELDS = {"losses": "compute_losses", "trains": "trained_modules", "averages": "ema_pairs"}
"""Keyword of ``Stage`` → its name now."""


def refuse_old_names(tree: ast.Module, path: Path) -> None:
    """Raise UserError when a method file uses the contract's old names: one sentence with the new ones."""
    renamed = sorted({change for node in ast.walk(tree) for change in _list_old_names(node)})
    if renamed:
        changes = ", ".join(f"{old!r} (line {line}) is now {new!r}" for line, old, new in renamed)
        unassigned = any(old == "memory.updated" for _, old, _ in renamed)
        hint = " (memory.update returns nothing: do not assign it)" if unassigned else ""
        raise UserError(f"{path} uses names that have changed: {changes}{hint}; rename them in the file.")


def _list_old_names(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    """List (line, old, new) of the contract's old names in one node of a method file."""
    if isinstance(node, ast.ClassDef) and node.name == "Method":
        methods = {n.name: n.lineno for n in node.body if isinstance(n, ast.FunctionDef)}
        for old, new in RENAMED_METHODS.items():
            if old in methods and new not in methods:
                yield methods[old], f"def {old}", f"def {new}"
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if (name := RENAMED_IMPORTS.get((node.module or "", alias.name))) is not None:
                yield node.lineno, f"{node.module}.{alias.name}", f"{node.module}.{name}"
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Stage":
        for keyword in node.keywords:
            if keyword.arg in RENAMED_STAGE_FIELDS:
                yield node.lineno, f"Stage({keyword.arg}=)", f"Stage({RENAMED_STAGE_FIELDS[keyword.arg]}=)"
    elif isinstance(node, ast.Attribute):
        owner = "self" if ast.unparse(node.value) == "super()" else ast.unparse(node.value).rpartition(".")[2]
        old = f"{owner}.{node.attr}"
        if old in RENAMED_ATTRIBUTES:
            yield node.lineno, old, RENAMED_ATTRIBUTES[old]
