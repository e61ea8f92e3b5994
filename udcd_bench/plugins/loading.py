"""Loading content: a file is executed together with the files of its suite that it imports, from their sources."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import sys
import threading
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError, locate_error
from udcd_bench.plugins import sources, unfollowed
from udcd_bench.plugins.old_names import refuse_old_names
from udcd_bench.plugins.suites import CONTENT_CLASSES, ContentFile, find_content
from udcd_bench.plugins.variables import refuse_variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_loaded: dict[str, dict[Path, str]] = {}
"""Name of a content module → its files and their hashes, as they were when it was loaded."""
_executed: dict[Path, str] = {}
"""File → the hash of the source that was executed last."""
_thread = threading.local()
"""Its ``executing`` is whether this thread is executing a content file."""


class _SourceLoader(SourceFileLoader):
    """Executes the source itself: a stored .pyc is judged by the source's size and second, and may be of another."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        _executed[Path(path)] = hashlib.sha256(source).hexdigest()
        return self.source_to_code(source, path)


class _HelperFinder(MetaPathFinder):
    """Finds the files of suites that loaded content imports, and nothing else."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return _make_spec(fullname, self.files[fullname]) if fullname in self.files else None


_finder = _HelperFinder()


def _make_spec(module_name: str, file: Path) -> ModuleSpec:
    spec = importlib.util.spec_from_file_location(
        module_name,
        file,
        loader=_SourceLoader(module_name, str(file)),
        submodule_search_locations=[str(file.parent)] if file.name == "__init__.py" else None,
    )
    assert spec is not None
    return spec


def load_module(kind: str, name: str) -> ModuleType:
    """Execute a content file and return its module; once, until it or a file that it imports has changed.

    Raises UserError that names the file when it raises anything, or imports what its key could not follow.
    """
    content = find_content(kind, name)
    if kind == "methods":
        _refuse_nested(content.path)
    module_name = _name_module(kind, content)
    module = sys.modules.get(module_name)
    if module is not None and module.__file__ == str(content.path) and _is_current(module_name):
        return module
    if kind == "methods":
        with contextlib.suppress(SyntaxError, ValueError):  # reported below
            refuse_old_names(ast.parse(content.path.read_bytes()), content.path)
    helpers = sources.list_helpers(content)
    files = (content.path, *helpers.values())
    _claim_names(helpers, content)
    _loaded[module_name] = {path: sources.hash_file(path) for path in files}
    if kind == "methods":
        refuse_variables(files)
        unfollowed.watch(content, files)
    module = _execute(module_name, content)
    if kind == "methods":
        _refuse_unfollowed(module_name, content, sources.list_imported_names(files))
    return module


def load_class(kind: str, name: str) -> Any:
    """Load the one class a content file defines: ``Method``, ``Table`` or ``Figure``."""
    class_name = CONTENT_CLASSES[kind]
    module = load_module(kind, name)
    content = getattr(module, class_name, None)
    if not isinstance(content, type) or content.__module__ != module.__name__:
        raise UserError(f"{module.__file__} defines no class {class_name}; a file in {kind} has one.")
    return content


def check_loaded(name: str, hashes: Mapping[str, str]) -> None:
    """Check that what this process has executed of a method is the source of these hashes, and nothing besides.

    Raises UserError when a file changed while it was loaded, or as ``check_followed`` does.
    """
    check_followed(name)
    content = find_content("methods", name)
    module_name = _name_module("methods", content)
    loaded = {path: _executed.get(path, known) for path, known in _loaded[module_name].items()}
    if sources.label_files(content, loaded) != hashes:
        raise UserError(f"{content.path} or a file that it imports changed while it was loaded; start again.")


def check_followed(name: str) -> None:
    """Check that a loaded method has reached no file that its key does not cover, since the last check; it is quick.

    Raises UserError that names the file and the fix.
    """
    content = find_content("methods", name)
    _refuse_unfollowed(_name_module("methods", content), content)


def _name_module(kind: str, content: ContentFile) -> str:
    return f"udcd_bench_{kind}_{content.path.stem}".replace("-", "_")


def _is_current(module_name: str) -> bool:
    """Tell whether a loaded content module's files are still those that were executed."""
    known = _loaded.get(module_name, {})
    return bool(known) and all(path.exists() and sources.hash_file(path) == known[path] for path in known)


def _claim_names(helpers: Mapping[str, Path], content: ContentFile) -> None:
    """Let these files be imported by name, and forget what an earlier file of such a name has left."""
    # all anew where one has changed: another may have taken values from it
    changed = any(_executed.get(path) != sources.hash_file(path) for path in helpers.values())
    for name, path in helpers.items():
        module = sys.modules.get(name)
        same_file = getattr(module, "__file__", None) == str(path)
        if isinstance(getattr(module, "__loader__", None), _SourceLoader):
            if changed or not same_file:
                del sys.modules[name]
        elif module is not None and not same_file:
            raise UserError(
                f"{content.path} imports {name!r}, which is {path} and also a module that is loaded already "
                f"({getattr(module, '__file__', None) or 'built in'}); rename the file."
            )
        _finder.files[name] = path
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    importlib.invalidate_caches()


def _execute(module_name: str, content: ContentFile) -> ModuleType:
    """Execute a content file as a module of this name. Raises UserError when it raises anything."""
    spec = _make_spec(module_name, content.path)
    module = importlib.util.module_from_spec(spec)
    # before executing it: dataclasses and pickle look up the module by name
    sys.modules[module_name] = module
    _thread.executing = True
    try:
        assert spec.loader is not None
        spec.loader.exec_module(module)
    except SystemExit as error:
        del sys.modules[module_name]
        raise UserError(
            f"{content.path} ends the program when it is loaded, by sys.exit({error.code}); take that out."
        ) from error
    except Exception as error:
        del sys.modules[module_name]
        raise UserError(_describe_failure(error, content)) from error
    finally:
        _thread.executing = False
    return module


def _describe_failure(error: Exception, content: ContentFile) -> str:
    """Describe why a content file cannot be loaded, with the fix where an import is written as it cannot work."""
    place = locate_error(error, [str(content.path)])
    where = f"{place}," if place else content.path
    reason = f"{where} cannot be loaded: {type(error).__name__}: {error}"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return f"{reason}; a file of content is in no package, so write `from _h import x` for `from ._h import x`."
    if isinstance(error, ModuleNotFoundError) and content.path.is_symlink():
        return f"{reason}; the file is a link, and what it imports is looked for beside the link: put it there too."
    return reason


def _refuse_nested(path: Path) -> None:
    if getattr(_thread, "executing", False):
        raise UserError(
            f"it loads the method {path.stem!r}, whose changes its runs' keys would not follow; copy what it needs "
            "into a file of its own suite and import that"
        )


def _refuse_unfollowed(module_name: str, content: ContentFile, modules: Iterable[str] = ()) -> None:
    """Raise UserError, and forget the method, when it has reached what its key does not cover."""
    try:
        unfollowed.refuse_unfollowed(content, _loaded[module_name].keys(), modules)
    except UserError:
        sys.modules.pop(module_name, None)  # the next try is to see it again
        raise
