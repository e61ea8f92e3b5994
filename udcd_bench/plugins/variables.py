"""Environment variables that a method reads: refused by its text, since no key could cover their values."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import TYPE_CHECKING

from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

READERS = frozenset({"environ", "environb", "getenv", "getenvb"})
"""What Python reads environment variables by, of ``os``."""
MODULES = ("os", "posix")


def refuse_variables(files: Iterable[Path]) -> None:
    """Raise UserError when one of these files, of a method, reads an environment variable; setting one is allowed."""
    for file in files:
        if reader := _find_first_reader(file.read_bytes()):
            line, name = reader
            raise UserError(
                f"{file}, line {line}, reads environment variables ({name}), which its runs' keys do not cover, so "
                "that another value would go unseen; make it a hyper-parameter, an entry of hparams that --set changes."
            )


@lru_cache(maxsize=256)
def _find_first_reader(source: bytes) -> tuple[int, str] | None:
    try:
        return min(_list_readers(ast.parse(source)), default=None)
    except (SyntaxError, ValueError):  # said where the file is loaded
        return None


def _list_readers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """List (line, name) of what reads variables: an attribute of ``os``, or a name imported from it."""
    nodes = list(ast.walk(tree))
    only_set = {
        node.value
        for node in nodes
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)
    }
    imported = [alias for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    # `import os.path` binds os
    modules = {a.asname or a.name.partition(".")[0] for a in imported if a.name.partition(".")[0] in MODULES}
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in READERS and node not in only_set:
            if isinstance(node.value, ast.Name) and node.value.id in modules:
                yield node.lineno, f"os.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield from ((node.lineno, f"os.{alias.name}") for alias in node.names if alias.name in READERS)
