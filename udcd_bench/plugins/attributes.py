"""What a content file declares, parsed from its source without executing it."""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError
from udcd_bench.plugins import contract
from udcd_bench.plugins.old_names import refuse_old_names
from udcd_bench.plugins.ranges import read_literal
from udcd_bench.plugins.suites import (
    CONTENT_CLASSES,
    find_file,
    find_files,
    find_root,
    list_names,
    list_shipped_suites,
)

if TYPE_CHECKING:
    from pathlib import Path


def read_attributes(kind: str, name: str) -> dict[str, Any]:
    """Read the literal class attributes of a content file, and its docstring (as ``doc``).

    They are parsed from the source, so that listing, planning and option errors do not import torch.
    """
    path = find_file(kind, name)
    try:
        stat = path.stat()
    except OSError as error:  # removed since the files were listed, as from a notebook
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    return dict(_parse_attributes(kind, path, stat.st_mtime_ns, stat.st_size))


@cache
def _parse_attributes(kind: str, path: Path, *_identity: int) -> dict[str, Any]:
    """Parse a file, once for each size and time of change: a plan of many runs reads it as many times."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        raise UserError(contract.describe_unreadable(path, error)) from error
    if kind == "methods":
        refuse_old_names(tree, path)
    content = next(
        (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == CONTENT_CLASSES[kind]), None
    )
    if content is None:
        raise UserError(
            f"{path} defines no class {CONTENT_CLASSES[kind]}; a file in {kind} has one. "
            f"What others import may be called _{path.name}."
        )
    attributes: dict[str, Any] = {"doc": ast.get_docstring(tree) or ""}
    for name, node in contract.list_assignments(content.body):
        value = node.value
        assert value is not None
        try:
            attributes[name] = read_literal(value)
        except ValueError as error:
            place = f"{path}, line {value.lineno}:"
            if str(error).startswith("between"):
                raise UserError(f"{place} {error}.") from None
            raise UserError(f"{place} {name} must be a literal, so that it can be read.") from None
    if kind == "methods":
        contract.check_declared(content, attributes, list_names("methods"), path)
        _refuse_same_title(content, attributes.get("title"), path)
    return attributes


def _refuse_same_title(method: ast.ClassDef, title: object, path: Path) -> None:
    """Raise UserError when a method has the title of another before it: no table would tell the two rows apart.

    Files of one's own come after those of the package.
    """
    shipped = {find_root(), *list_shipped_suites().values()}
    files = sorted(find_files("methods").items(), key=lambda item: item[1].suite.folder not in shipped)
    for name, other in files if title else ():
        if other.path == path:
            return
        if not other.path.exists():  # removed since the files were listed
            continue
        stat = other.path.stat()
        if title == _find_title(other.path, stat.st_mtime_ns, stat.st_size):
            line = dict(contract.list_assignments(method.body))["title"].lineno
            raise UserError(f"{path}, line {line}: title = {title!r} is that of {name} too; give it another.")


@cache
def _find_title(path: Path, *_identity: int) -> object:
    """Find the literal title in a method file; empty where there is none, or where the file cannot be parsed."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError, OSError):
        return ""
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == CONTENT_CLASSES["methods"]:
            values = [each.value for name, each in contract.list_assignments(node.body) if name == "title"]
            return values[-1].value if values and isinstance(values[-1], ast.Constant) else ""
    return ""


def read_comments(kind: str, name: str, attribute: str) -> dict[str, str]:
    """Read the comments beside the entries of a literal dict among a file's class attributes: key → comment."""
    text = find_file(kind, name).read_text(encoding="utf-8")
    comments: dict[str, str] = {}
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)):
            continue
        if any(isinstance(target, ast.Name) and target.id == attribute for target in node.targets):
            for key, value in zip(node.value.keys, node.value.values):
                line = text.splitlines()[(value.end_lineno or value.lineno) - 1]
                rest = line.encode()[value.end_col_offset or 0 :].decode()  # the offset counts bytes
                if isinstance(key, ast.Constant) and "#" in rest:
                    comments[str(key.value)] = rest.partition("#")[2].strip()
    return comments
