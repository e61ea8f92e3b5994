"""Suites: the folders that hold content, and its files by name."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench.errors import UserError, suggest_nearest
from udcd_bench.storage.file_names import decode_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from importlib.metadata import EntryPoint

CONTENT_CLASSES = {"methods": "Method", "tables": "Table", "figures": "Figure"}
"""Kind of content → the class that its files define."""
ENTRY_POINT_GROUP = "udcd_bench.suites"
"""Entry-point group by which an installed package names its subpackage that is a suite."""
_ADDED_SUITES: list[Path] = []


@dataclass(frozen=True)
class Suite:
    """A folder with ``methods``, ``tables`` or ``figures``, or of method files alone.

    package: the folder of the installed package that it belongs to; None for a plain folder.
    """

    folder: Path
    package: Path | None = None

    @property
    def name(self) -> str:
        """What lists call it: ``paper`` for the built-in one, an installed package's name or the folder's."""
        return "paper" if self.folder == find_root() else decode_name((self.package or self.folder).name)

    def find_folder(self, kind: str) -> Path | None:
        """Find the folder with its files of a kind; None if it has none."""
        if (self.folder / kind).is_dir():
            return self.folder / kind
        holds_methods_only = not any((self.folder / k).is_dir() for k in CONTENT_CLASSES)
        return self.folder if kind == "methods" and holds_methods_only else None

    def list_roots(self) -> list[Path]:
        """List the folders whose files are its own: of the built-in one, which may be a checkout, those of content."""
        if self.folder == find_root():
            return [self.folder / kind for kind in CONTENT_CLASSES]
        return [self.folder, *([self.package] if self.package else [])]


class ContentFile(NamedTuple):
    """A file of content, and the suite that it belongs to."""

    path: Path
    suite: Suite


def find_root() -> Path:
    """Find the folder that holds ``methods``, ``tables`` and ``figures``: in the wheel, or the root of a checkout."""
    package = Path(__file__).resolve().parents[1]
    suite = package / "suite"
    return suite if suite.is_dir() else package.parent


@cache
def list_shipped_suites() -> Mapping[str, Path]:
    """List the suites that this package brings and that are off until they are named: name → folder.

    Each is a folder of the package with methods in it. It has no entry point: that would turn it on for everyone, and
    a checkout that is not installed has none.
    """
    folders = [path.parent for path in Path(__file__).resolve().parents[1].glob("*/methods") if path.is_dir()]
    return MappingProxyType({folder.name: folder for folder in sorted(folders) if folder != find_root()})


def add_suite(named: Path | str) -> None:
    """Load content from a further suite: one that this package brings, by its name, or a folder.

    The folder has one or more of the three subfolders or holds method files. Raises UserError when there is neither.
    """
    folder = _locate_suite(named)
    if not folder.is_dir():
        hint = suggest_nearest(str(named), list_shipped_suites())
        raise UserError(f"--suite {named}: there is no such folder, and no suite of that name{hint}")
    if folder not in _ADDED_SUITES:
        _ADDED_SUITES.append(folder)
        find_files.cache_clear()
        # worker processes do not share this module's state; they read the variable
        folders = dict.fromkeys([*map(_locate_suite, list_environment_suites()), *_ADDED_SUITES])
        os.environ["UDCD_BENCH_SUITE"] = os.pathsep.join(map(name_suite, folders))


def name_suite(named: Path | str) -> str:
    """Name a suite as it can be named from every folder and machine: a shipped one by its name, others by path."""
    folder = _locate_suite(named)
    return folder.name if folder in list_shipped_suites().values() else str(folder)


def _locate_suite(named: Path | str) -> Path:
    """Locate the folder of a suite; a name that this package has wins over a folder here, which ``./NAME`` means."""
    return list_shipped_suites().get(str(named)) or Path(named).resolve()


def list_suites() -> list[Suite]:
    """List the suites, the built-in one first. Raises UserError when one that is named does not exist."""
    named = {name: _locate_suite(name) for name in list_environment_suites()}
    for name, folder in named.items():
        if not folder.is_dir():
            raise UserError(f"UDCD_BENCH_SUITE names {name}, and there is no such folder.")
    suites = [Suite(find_root()), *_find_installed_suites()]
    suites += [Suite(folder) for folder in (*_ADDED_SUITES, *named.values())]
    return list({suite.folder: suite for suite in reversed(suites)}.values())[::-1]


def list_named_suites() -> list[str]:
    """List the names of the suites that have been turned on by ``--suite`` or its variable: a folder by its last part.

    Those of the package come first.
    """
    folders = {*_ADDED_SUITES, *map(_locate_suite, list_environment_suites())}
    shipped = list_shipped_suites()
    own = [suite.name for suite in list_suites() if suite.folder in folders - {*shipped.values()}]
    return [*(name for name, folder in shipped.items() if folder in folders), *own]


def list_environment_suites() -> list[str]:
    """List the suites in use that ``--suite`` or the variable names, as they are named there."""
    return [name for name in os.environ.get("UDCD_BENCH_SUITE", "").split(os.pathsep) if name]


def _find_installed_suites() -> list[Suite]:
    """Find the suites of installed packages, without importing them."""
    suites = []
    for point in _read_entry_points(tuple(sys.path)):
        package, *inner = point.value.split(".")
        spec = importlib.util.find_spec(package)
        packages = [Path(p).resolve() for p in (spec.submodule_search_locations or ())] if spec else []
        folders = [Suite(path.joinpath(*inner).resolve(), path) for path in packages]
        if not any(suite.folder.is_dir() for suite in folders):
            raise UserError(
                f"The entry point {point.name!r} of {ENTRY_POINT_GROUP} names {point.value!r}, which is no package; "
                "fix or uninstall the distribution it comes from."
            )
        suites += [suite for suite in folders if suite.folder.is_dir()]
    return suites


@cache
def _read_entry_points(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Read the entry points of the packages on that ``sys.path``; once, for it opens a file of each of them."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group=ENTRY_POINT_GROUP))


@cache
def find_files(kind: str) -> dict[str, ContentFile]:
    """Find the files of a kind, by name. Raises UserError when two files have one name."""
    files: dict[str, ContentFile] = {}
    for suite in list_suites():
        folder = suite.find_folder(kind)
        for path in sorted(folder.glob("*.py")) if folder else ():
            name = decode_name(path.stem)
            if name.startswith(("_", ".")) or _is_helper(path, CONTENT_CLASSES[kind]):
                continue
            if name in files:
                raise UserError(f"{path} and {files[name].path} both claim the name {name!r}; rename one.")
            files[name] = ContentFile(path, suite)
    return files


def _is_helper(path: Path, class_name: str) -> bool:
    """Tell whether a file defines no content of its own, and another beside it imports it."""
    if re.search(rf"^class {class_name}\b".encode(), path.read_bytes(), re.MULTILINE):
        return False
    return any(
        path.stem in _list_imported_words(other) for other in path.parent.glob("*.py") if other != path
    )


def _list_imported_words(path: Path) -> set[str]:
    """List the words of all imports in a file; none where it cannot be parsed, which loading it says."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return set()
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            words.update(module.split("."), *(alias.name.split(".") for alias in node.names))
    return words


def list_names(kind: str) -> tuple[str, ...]:
    """List the names of a kind, sorted."""
    return tuple(sorted(find_files(kind)))


def suggest_content(kind: str, name: str, known: Iterable[str]) -> str:
    """Make the end of a sentence about an unknown name: the suite of this package that has it, or the nearest name.

    Where no suite has been named, it says how one's own is.
    """
    if suite := find_shipped_suite(kind, name):
        return f" without its suite; add --suite {suite}."
    own = f" A {kind[:-1]} of your own needs --suite FOLDER." if len(list_suites()) == 1 else ""
    return suggest_nearest(name, known) + own


def find_shipped_suite(kind: str, name: str) -> str:
    """Find the suite of this package that brings a file of that name, whether it is turned on or not; else empty."""
    for suite, folder in list_shipped_suites().items():
        if f"{name}.py" in (path.name for path in folder.glob(f"{kind}/*.py")):
            return suite
    return ""


def find_content(kind: str, name: str) -> ContentFile:
    """Find the file of that name and its suite. Raises UserError that names the nearest name when there is none."""
    known = find_files(kind)
    if name not in known:
        raise UserError(f"There is no {kind[:-1]} {name!r}{suggest_content(kind, name, known)}")
    return known[name]


def find_file(kind: str, name: str) -> Path:
    """Find the file of that name. Raises UserError that names the nearest name when there is none."""
    return find_content(kind, name).path
