"""Finds and loads the content: one file a method, a table, a figure, by file name."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError, suggest_nearest

if TYPE_CHECKING:
    from types import ModuleType

CONTENT_CLASSES = {"methods": "Method", "tables": "Table", "figures": "Figure"}
"""What a file of each kind defines."""
ENTRY_POINT_GROUP = "udcd_bench.suites"
"""Group under which an installed package names the package of its own that is a suite."""
_ADDED_SUITES: list[Path] = []
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


def find_root() -> Path:
    """The folder that holds ``methods``, ``tables`` and ``figures``: in the wheel, or beside a checkout's engine."""
    here = Path(__file__).resolve().parent
    suite = here / "suite"
    return suite if suite.is_dir() else here.parent


def add_suite(folder: Path) -> None:
    """Take content from a further folder, which has one or more of the three subfolders or holds method files.

    Raises UserError when it is not there.
    """
    if not folder.is_dir():
        raise UserError(f"--suite {folder}: there is no such folder.")
    folder = folder.resolve()
    if folder not in _ADDED_SUITES:
        _ADDED_SUITES.append(folder)
        find_files.cache_clear()
        # worker processes are started afresh, and find the folder where this one was told of it
        named = [Path(p).resolve() for p in os.environ.get("UDCD_BENCH_SUITE", "").split(os.pathsep) if p]
        os.environ["UDCD_BENCH_SUITE"] = os.pathsep.join(map(str, dict.fromkeys([*named, *_ADDED_SUITES])))


def _list_folders(kind: str) -> list[Path]:
    named = [Path(p) for p in os.environ.get("UDCD_BENCH_SUITE", "").split(os.pathsep) if p]
    for folder in named:
        if not folder.is_dir():
            raise UserError(f"UDCD_BENCH_SUITE names {folder}, and there is no such folder.")
    folders = []
    for suite in dict.fromkeys(
        [find_root(), *_find_installed_suites(), *_ADDED_SUITES, *(p.resolve() for p in named)]
    ):
        if (suite / kind).is_dir():
            folders.append(suite / kind)
        elif (
            kind == "methods"
            and suite != find_root()
            and not any((suite / k).is_dir() for k in CONTENT_CLASSES)
        ):
            folders.append(suite)
    return folders


def _find_installed_suites() -> list[Path]:
    """Suites of installed packages, found without importing them."""
    from importlib.metadata import entry_points

    suites = []
    for point in entry_points(group=ENTRY_POINT_GROUP):
        # the package's folder is found without importing it
        package, *inner = point.value.split(".")
        spec = importlib.util.find_spec(package)
        places = [Path(p, *inner) for p in (spec.submodule_search_locations or ())] if spec else []
        if not any(place.is_dir() for place in places):
            raise UserError(
                f"The entry point {point.name!r} of {ENTRY_POINT_GROUP} names {point.value!r}, which is no package; "
                "mend or uninstall the distribution it comes from."
            )
        suites += [place.resolve() for place in places if place.is_dir()]
    return suites


@cache
def find_files(kind: str) -> dict[str, Path]:
    """Name → file of every piece of content of a kind. Raises UserError when two files claim one name."""
    found: dict[str, Path] = {}
    for folder in _list_folders(kind):
        for path in sorted(folder.glob("*.py")):
            name = path.stem
            if name.startswith(("_", ".")):
                continue
            if name in found:
                raise UserError(f"{path} and {found[name]} both claim the name {name!r}; rename one.")
            found[name] = path
    return found


def list_names(kind: str) -> tuple[str, ...]:
    """All names of a kind, sorted."""
    return tuple(sorted(find_files(kind)))


def find_file(kind: str, name: str) -> Path:
    """The file of that name. Raises UserError naming the nearest."""
    known = find_files(kind)
    if name not in known:
        raise UserError(f"There is no {kind[:-1]} {name!r}{suggest_nearest(name, known)}")
    return known[name]


def hash_source(kind: str, name: str) -> str:
    """Hash of the file's text, so that a changed source means a new run."""
    return hashlib.sha256(find_file(kind, name).read_bytes()).hexdigest()[:16]


def load_module(kind: str, name: str) -> ModuleType:
    """Execute the file and return its module. Whatever it raises is told with the file's name."""
    path = find_file(kind, name)
    if kind == "methods":
        with contextlib.suppress(SyntaxError, ValueError):  # executing the file reports these
            _refuse_old_names(ast.parse(path.read_bytes()), path)
    module_name = f"udcd_bench_{kind}_{path.stem}".replace("-", "_")
    loaded = sys.modules.get(module_name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # before executing it: dataclasses and pickling look themselves up there
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise UserError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def load_class(kind: str, name: str) -> Any:
    """The one class a content file defines: ``Method``, ``Table`` or ``Figure``."""
    wanted = CONTENT_CLASSES[kind]
    module = load_module(kind, name)
    found = getattr(module, wanted, None)
    if not isinstance(found, type) or found.__module__ != module.__name__:
        raise UserError(f"{module.__file__} defines no class {wanted}; a file in {kind} has one.")
    return found


def read_attributes(kind: str, name: str) -> dict[str, Any]:
    """The literal class attributes of a content file and its docstring (as ``doc``), read without executing it.

    So that a listing, a plan or a wrong option need not wait for a tensor library.
    """
    path = find_file(kind, name)
    stat = path.stat()
    return dict(_parse_attributes(kind, path, stat.st_mtime_ns, stat.st_size))


@cache
def _parse_attributes(kind: str, path: Path, *_identity: int) -> dict[str, Any]:
    """Read once for each state of the file: a plan of a thousand runs asks a thousand times."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    if kind == "methods":
        _refuse_old_names(tree, path)
    body = next(
        (n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == CONTENT_CLASSES[kind]), None
    )
    if body is None:
        raise UserError(f"{path} defines no class {CONTENT_CLASSES[kind]}; a file in {kind} has one.")
    found: dict[str, Any] = {"doc": ast.get_docstring(tree) or ""}
    for node in body:
        targets: list[ast.expr]
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        elif isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                try:
                    found[target.id] = ast.literal_eval(value)
                except ValueError:
                    raise UserError(
                        f"{path}: {target.id} must be a literal, so that it can be read."
                    ) from None
    return found


def _refuse_old_names(tree: ast.Module, path: Path) -> None:
    """Raise UserError when a method file uses the contract's old names: one sentence with the new ones."""
    renamed: list[tuple[int, str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = {n.name: n.lineno for n in node.body if isinstance(n, ast.FunctionDef)}
            for old, new in RENAMED_METHODS.items():
                if old in methods and new not in methods:
                    renamed.append((methods[old], f"def {old}", f"def {new}"))
        elif isinstance(node, ast.Attribute):
            owner = getattr(node.value, "id", getattr(node.value, "attr", ""))
            old = f"{owner}.{node.attr}"
            if old in RENAMED_ATTRIBUTES:
                renamed.append((node.lineno, old, RENAMED_ATTRIBUTES[old]))
    if renamed:
        changes = ", ".join(
            f"{old!r} (line {line}) is now {new!r}" for line, old, new in sorted(set(renamed))
        )
        raise UserError(f"{path} uses names that have changed: {changes}; rename them in the file.")


def read_comments(kind: str, name: str, attribute: str) -> dict[str, str]:
    """Key → the comment beside it, of a literal dict among a content file's class attributes."""
    text = find_file(kind, name).read_text()
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)):
            continue
        if any(isinstance(target, ast.Name) and target.id == attribute for target in node.targets):
            for key, value in zip(node.value.keys, node.value.values):
                line = text.splitlines()[(value.end_lineno or value.lineno) - 1]
                rest = line.encode()[value.end_col_offset or 0 :].decode()  # the offset counts bytes
                if isinstance(key, ast.Constant) and "#" in rest:
                    found[str(key.value)] = rest.partition("#")[2].strip()
    return found
