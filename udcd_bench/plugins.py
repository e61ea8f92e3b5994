"""Finding and loading content: method, table and figure files, one file each, by file name."""

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
    from collections.abc import Iterator
    from types import ModuleType

CONTENT_CLASSES = {"methods": "Method", "tables": "Table", "figures": "Figure"}
"""Kind of content → the class that its files define."""
ENTRY_POINT_GROUP = "udcd_bench.suites"
"""Entry-point group by which an installed package names its subpackage that is a suite."""
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
RENAMED_IMPORTS = {
    ("udcd_bench.method", "Method"): "BaseMethod",
    ("udcd_bench.method", "Info"): "DatasetInfo",
    ("udcd_bench.losses", "confidence"): "normalized_entropy",
}
"""(module, name) that a method file imported → the name now."""
RENAMED_STAGE_FIELDS = {"losses": "compute_losses", "trains": "trained_modules", "averages": "ema_pairs"}
"""Keyword of ``Stage`` → its name now."""


def find_root() -> Path:
    """Find the folder that holds ``methods``, ``tables`` and ``figures``: in the wheel, or the root of a checkout."""
    package = Path(__file__).resolve().parent
    suite = package / "suite"
    return suite if suite.is_dir() else package.parent


def add_suite(folder: Path) -> None:
    """Load content from a further folder, which has one or more of the three subfolders or holds method files.

    Raises UserError when the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"--suite {folder}: there is no such folder.")
    folder = folder.resolve()
    if folder not in _ADDED_SUITES:
        _ADDED_SUITES.append(folder)
        find_files.cache_clear()
        # worker processes do not share this module's state; they read the variable
        named = [path.resolve() for path in _list_environment_suites()]
        os.environ["UDCD_BENCH_SUITE"] = os.pathsep.join(map(str, dict.fromkeys([*named, *_ADDED_SUITES])))


def _list_environment_suites() -> list[Path]:
    return [Path(p) for p in os.environ.get("UDCD_BENCH_SUITE", "").split(os.pathsep) if p]


def _list_folders(kind: str) -> list[Path]:
    """List the folders with files of this kind, those of the suite itself first."""
    named = _list_environment_suites()
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
    """Find the suites of installed packages, without importing them."""
    from importlib.metadata import entry_points

    suites = []
    for point in entry_points(group=ENTRY_POINT_GROUP):
        package, *inner = point.value.split(".")
        spec = importlib.util.find_spec(package)
        folders = [Path(p, *inner) for p in (spec.submodule_search_locations or ())] if spec else []
        if not any(folder.is_dir() for folder in folders):
            raise UserError(
                f"The entry point {point.name!r} of {ENTRY_POINT_GROUP} names {point.value!r}, which is no package; "
                "fix or uninstall the distribution it comes from."
            )
        suites += [folder.resolve() for folder in folders if folder.is_dir()]
    return suites


@cache
def find_files(kind: str) -> dict[str, Path]:
    """Find the files of a kind, by name. Raises UserError when two files have one name."""
    files: dict[str, Path] = {}
    for folder in _list_folders(kind):
        for path in sorted(folder.glob("*.py")):
            name = path.stem
            if name.startswith(("_", ".")):
                continue
            if name in files:
                raise UserError(f"{path} and {files[name]} both claim the name {name!r}; rename one.")
            files[name] = path
    return files


def list_names(kind: str) -> tuple[str, ...]:
    """List the names of a kind, sorted."""
    return tuple(sorted(find_files(kind)))


def find_file(kind: str, name: str) -> Path:
    """Find the file of that name. Raises UserError that names the nearest name when there is none."""
    known = find_files(kind)
    if name not in known:
        raise UserError(f"There is no {kind[:-1]} {name!r}{suggest_nearest(name, known)}")
    return known[name]


def hash_source(kind: str, name: str) -> str:
    """Hash the bytes of a file. The hash enters the run's key, so that a changed source means a new run."""
    return hashlib.sha256(find_file(kind, name).read_bytes()).hexdigest()[:16]


def load_module(kind: str, name: str) -> ModuleType:
    """Execute a file and return its module. Raises UserError that names the file when it raises anything."""
    path = find_file(kind, name)
    module_name = f"udcd_bench_{kind}_{path.stem}".replace("-", "_")
    loaded = sys.modules.get(module_name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    if kind == "methods":
        with contextlib.suppress(SyntaxError, ValueError):  # executing the file reports these
            _refuse_old_names(ast.parse(path.read_bytes()), path)
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # before executing it: dataclasses and pickle look up the module by name
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        del sys.modules[module_name]
        raise UserError(
            f"{path} ends the program when it is loaded, by sys.exit({error.code}); take that out."
        ) from error
    except Exception as error:
        del sys.modules[module_name]
        raise UserError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def load_class(kind: str, name: str) -> Any:
    """Load the one class a content file defines: ``Method``, ``Table`` or ``Figure``."""
    class_name = CONTENT_CLASSES[kind]
    module = load_module(kind, name)
    content = getattr(module, class_name, None)
    if not isinstance(content, type) or content.__module__ != module.__name__:
        raise UserError(f"{module.__file__} defines no class {class_name}; a file in {kind} has one.")
    return content


def read_attributes(kind: str, name: str) -> dict[str, Any]:
    """Read the literal class attributes of a content file, and its docstring (as ``doc``).

    They are parsed from the source, so that listing, planning and option errors do not import torch.
    """
    path = find_file(kind, name)
    stat = path.stat()
    return dict(_parse_attributes(kind, path, stat.st_mtime_ns, stat.st_size))


@cache
def _parse_attributes(kind: str, path: Path, *_identity: int) -> dict[str, Any]:
    """Parse a file, once for each size and time of change: a plan of many runs reads it as many times."""
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
    attributes: dict[str, Any] = {"doc": ast.get_docstring(tree) or ""}
    for name, value in _list_assignments(body):
        try:
            attributes[name] = ast.literal_eval(value)
        except ValueError:
            raise UserError(f"{path}: {name} must be a literal, so that it can be read.") from None
    return attributes


def _list_assignments(body: list[ast.stmt]) -> list[tuple[str, ast.expr]]:
    """List (name, value) of the assignments in the body of a class."""
    assignments: list[tuple[str, ast.expr]] = []
    for node in body:
        targets: list[ast.expr]
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        elif isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        else:
            continue
        assignments += [(target.id, value) for target in targets if isinstance(target, ast.Name)]
    return assignments


def _refuse_old_names(tree: ast.Module, path: Path) -> None:
    """Raise UserError when a method file uses the contract's old names: one sentence with the new ones."""
    renamed = sorted({change for node in ast.walk(tree) for change in _list_old_names(node)})
    if renamed:
        changes = ", ".join(f"{old!r} (line {line}) is now {new!r}" for line, old, new in renamed)
        unassigned = any(old == "memory.updated" for _, old, _ in renamed)
        hint = " (memory.update returns nothing: do not assign it)" if unassigned else ""
        raise UserError(f"{path} uses names that have changed: {changes}{hint}; rename them in the file.")


def _list_old_names(node: ast.AST) -> Iterator[tuple[int, str, str]]:
    """List (line, old, new) of the contract's old names in one node of a method file."""
    if isinstance(node, ast.ClassDef) and node.name == CONTENT_CLASSES["methods"]:
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
