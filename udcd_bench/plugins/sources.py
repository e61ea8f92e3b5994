"""The source of a content file: it, and the files of its suite that it imports, directly or through one another.

Imports are followed in the text, wherever they stand, without executing anything. What is followed is what a run's key
covers, so ``loading`` refuses a method that reaches a file of its suite in another way.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from udcd_bench.errors import UserError
from udcd_bench.plugins.contract import describe_unreadable
from udcd_bench.plugins.suites import ContentFile, Suite, find_content, list_suites
from udcd_bench.plugins.variables import refuse_variables
from udcd_bench.storage.file_names import decode_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_helpers: dict[str, Path] = {}
"""Module name → the file that a suite's content imports by it, of all that this process has looked at."""


def hash_sources(kind: str, name: str) -> dict[str, str]:
    """Hash a content file and the files of its suite that it imports: path from the file's folder → SHA-256.

    The hashes enter the run's key, so that a changed source means a new run. Raises UserError when a file cannot be
    read, when a method reads environment variables, or when a file of another suite is imported by the same name.
    """
    content = find_content(kind, name)
    helpers = list_helpers(content)
    if kind == "methods":
        refuse_variables((content.path, *helpers.values()))
    return label_files(content, {path: hash_file(path) for path in (content.path, *helpers.values())})


def label_files(content: ContentFile, hashes: Mapping[Path, str]) -> dict[str, str]:
    """Name files by their path from the content file's folder, whichever way the suite was given."""
    folder = content.path.parent
    return {decode_name(os.path.relpath(path, folder)): hashes[path] for path in sorted(hashes)}


def hash_file(path: Path) -> str:
    """Hash the bytes of a source file."""
    return hashlib.sha256(_read(path)).hexdigest()


def list_helpers(content: ContentFile) -> dict[str, Path]:
    """List the files of its suite that a content file imports, directly or through one another, by module name."""
    helpers: dict[str, Path] = {}
    waiting = [(content.path, "")]
    while waiting:
        file, package = waiting.pop()
        for imported in _list_imports_for(content, file, package):
            for module, path in _locate(imported, content).items():
                if module not in helpers:
                    helpers[module] = path
                    is_package = path.name == "__init__.py"
                    waiting.append((path, module if is_package else module.rpartition(".")[0]))
    _refuse_shared_names(helpers)
    return helpers


def list_source_files(kind: str, name: str) -> tuple[str, ...]:
    """List the paths of a content file and of the files of its suite that it imports."""
    content = find_content(kind, name)
    return tuple(map(str, (content.path, *list_helpers(content).values())))


def list_imported_names(files: Iterable[Path]) -> set[str]:
    """List the modules that files import in their text by absolute name, and what they import from them."""
    return {name for file in files for name in _list_imports(file, "")}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _list_imports(file: Path, package: str) -> list[str]:
    """List the modules that a file of this package may import, by absolute name."""
    try:
        return list(_parse_imports(_read(file), package))
    except (SyntaxError, ValueError) as error:
        raise UserError(describe_unreadable(file, error)) from error


def _list_imports_for(content: ContentFile, file: Path, package: str) -> list[str]:
    """List the modules that a file which a content file needs may import. Raises UserError that names both."""
    try:
        return _list_imports(file, package)
    except UserError as error:
        if file == content.path:
            raise
        raise UserError(f"{content.path} imports {file.stem}, and {error}") from error


@lru_cache(maxsize=1024)
def _parse_imports(source: bytes, package: str) -> tuple[str, ...]:
    return tuple(name for node in ast.walk(ast.parse(source)) for name in _name_imports(node, package))


def _name_imports(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if node.level:
            parents = package.split(".")[: -node.level + 1 or None] if package else []
            if not parents:
                return  # a relative import from a file that is in no package fails when it is executed
            module = ".".join([*parents, *([module] if module else [])])
        yield module
        # each may be a module of the package
        yield from (f"{module}.{alias.name}" for alias in node.names)


def _locate(name: str, content: ContentFile) -> dict[str, Path]:
    """Locate a module, and the packages above it, among the files of a suite: module name → file."""
    parts = name.split(".")
    folder = _find_folder(parts[0], content.path, content.suite)
    files: dict[str, Path] = {}
    for depth in range(1, len(parts) + 1) if folder else ():
        assert folder is not None
        place, module = folder.joinpath(*parts[:depth]), ".".join(parts[:depth])
        file = place.with_name(f"{place.name}.py")
        if (place / "__init__.py").is_file():
            files[module] = place / "__init__.py"
        elif file.is_file():
            files[module] = file
            break
        elif not place.is_dir():
            break
    return files


def _find_folder(top: str, file: Path, suite: Suite) -> Path | None:
    """Find the folder of a suite that has this top-level module: the content file's, the suite's, its package's."""
    if top in sys.stdlib_module_names or top == "udcd_bench":
        return None
    for folder in (file.parent, suite.folder):
        if (folder / f"{top}.py").is_file() or (folder / top / "__init__.py").is_file():
            return folder
        if (folder / top).is_dir() and any((folder / top).glob("*.py")) and not _is_package(top):
            raise UserError(
                f"{file} imports from the folder {folder / top}, which is no package; put an empty __init__.py into it."
            )
    return suite.package.parent if suite.package and suite.package.name == top else None


def _is_package(top: str) -> bool:
    """Tell whether a top-level package of that name is installed, which a plain folder does not hide."""
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def _refuse_shared_names(helpers: Mapping[str, Path]) -> None:
    """Raise UserError when files of two suites are imported by one name: a process holds one module of a name."""
    for module, path in helpers.items():
        other = _helpers.get(module, path)
        folders = [suite.folder for suite in list_suites()] if other != path and other.exists() else []
        if any(folder in other.parents for folder in folders):
            raise UserError(
                f"{path} and {other} are both imported as {module!r}, and a process holds only one of them; "
                "rename one."
            )
        _helpers[module] = path
