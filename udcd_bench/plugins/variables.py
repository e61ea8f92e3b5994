"""Environment variables that a method reads: refused by its text, since no key could cover their values."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import TYPE_CHECKING

from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

READERS = frozenset({"environ", "environb", "getenv", "getenvb", "expandvars"})
"""What Python reads environment variables by, of ``os`` and ``os.path``; other modules hand them on."""
MODULES = frozenset({"os", "os.path", "posix", "posixpath"})
PROGRAMS = "subprocess"
"""The module that starts other programs, which have the variables of this one."""


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
    """List (line, name) of what reads variables: one of ``READERS``, whatever it is reached through, or a program."""
    nodes = list(ast.walk(tree))
    only_set = {
        node.value
        for node in nodes
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del)
    }
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in READERS and node not in only_set:
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Constant) and node.value in READERS:  # for getattr
            yield node.lineno, repr(node.value)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            names = {alias.name for alias in node.names}
            yield from ((node.lineno, f"{node.module}.{name}") for name in names & {*READERS, "*"})
        elif isinstance(node, ast.Import | ast.ImportFrom) and PROGRAMS in _list_imported(node):
            yield node.lineno, PROGRAMS


def _list_imported(node: ast.Import | ast.ImportFrom) -> set[str | None]:
    return {node.module} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
