"""What a method executes or reads that its runs' keys could not follow: noted by an audit hook, and refused.

The key covers a method's file and the files of its suite that its text imports. Noted are files of the suite that it
reaches in another way, by ``exec``, ``runpy`` or ``open``, and modules that it imports from elsewhere and that are not
installed. What a library opens without Python, and files that it reads outside its suite, are not seen.
"""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

    from udcd_bench.plugins.suites import ContentFile

READING_EVENTS = ("open", "ctypes.dlopen", "sqlite3.connect")
PACKAGE_FOLDERS = ("site-packages", "dist-packages")
ENGINE = f"{Path(__file__).resolve().parents[1]}{os.sep}"

_sources: set[str] = set()
"""The files of the methods that this process has loaded: code of theirs on the stack means that a method does it."""
_roots: set[str] = set()
"""The folders of their suites, each with a separator at its end."""
_noted: dict[str, str] = {}
"""File → ``executes`` or ``reads``, of what methods have done since the last check."""
_is_installed: list[bool] = []
"""Not empty when the hook is there; Python removes none."""


def watch(content: ContentFile, files: Iterable[Path]) -> None:
    """Note from now on what these files, a method's, execute and read."""
    _noted.clear()
    _sources.update(map(str, files))
    _roots.update(f"{root}{os.sep}" for root in content.suite.list_roots())
    if not _is_installed:
        sys.addaudithook(_note)
        _is_installed.append(True)


def forget_noted() -> None:
    """Forget what was noted before a run begins: its network may have been used or traced here for something else."""
    _noted.clear()


def refuse_unfollowed(content: ContentFile, followed: Iterable[Path], modules: Iterable[str] = ()) -> None:
    """Raise UserError when a method has executed or read a file that its key does not cover, since the last check.

    followed: files that its key covers. modules: names that its text imports; they may have been loaded before it was.
    """
    noted, known = dict(_noted), set(map(str, followed))
    _noted.clear()
    for name in modules:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and name.partition(".")[0] != "udcd_bench":
            noted.setdefault(file, "executes")
    for path, act in noted.items():
        forms = _list_forms(path)
        if not forms.isdisjoint(known):
            continue
        if inner := [form for form in forms if _lies_in_suite(Path(form), content)]:
            _forget_modules(path)
            raise UserError(_describe_inner(content, Path(inner[0]), act))
        if act == "executes" and not any(map(_belongs_to_installed, forms)):
            _forget_modules(path)
            raise UserError(
                f"{content.path} imports {path}, which lies outside its suite, so that a change of that file would go "
                "unseen; put it beside the method, or install it as a package."
            )


def _describe_inner(content: ContentFile, path: Path, act: str) -> str:
    if act == "reads":
        fix = (
            f"import it by `import {path.stem}`"
            if path.suffix == ".py"
            else "put its values into a Python file"
        )
        return (
            f"{content.path} reads {path}, which its runs' keys do not cover, so that a change of it would go unseen; "
            f"{fix}."
        )
    return (
        f"{content.path} imports {path} in a way that its text does not show, so that a change of that file would "
        f"go unseen; write `import {path.stem}`, or copy what is needed into one file."
    )


def _forget_modules(path: str) -> None:
    """Forget the modules of a file, so that the next try executes and notes it again."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == path:
            del sys.modules[name]


# --- the hook ---------------------------------------------------------------------------------------------------


def _note(event: str, args: tuple[Any, ...]) -> None:
    """Note a file that a method executes or reads; called by Python at every audit event."""
    if event == "exec":
        path, act = getattr(args[0], "co_filename", None), "executes"
    elif event == "import":
        path, act = args[1], "executes"  # the file of an extension; None for a module in Python
    elif event in READING_EVENTS:
        path, act = args[0], "reads"
        if event == "open" and isinstance(args[2], int) and _only_writes(args[2]):
            return
    else:
        return
    if not isinstance(path, str | bytes | os.PathLike) or os.fsdecode(path).startswith("<"):
        return
    path = os.fsdecode(path)
    is_inner = any(form.startswith(root) for form in _list_forms(path) for root in _roots)
    # a library's own generated modules, as of a compiler, are neither the suite's nor imported by the method itself
    reached = _find_method() if is_inner or act == "executes" else ""
    if (reached and is_inner) or reached == "directly":
        _noted[path] = act if act == "executes" else _noted.get(path, act)


def _only_writes(flags: int) -> bool:
    return flags & (os.O_WRONLY | os.O_RDWR) == os.O_WRONLY or bool(flags & os.O_TRUNC)


def _find_method() -> str:
    """Tell whether a method's code is on the stack: ``directly`` below the standard library, or ``through`` others."""
    frame: FrameType | None = sys._getframe(2)
    reached = "directly"
    while frame is not None:
        file = frame.f_code.co_filename
        if file in _sources:
            return reached
        if not file.startswith("<frozen ") and not _lies_in_library(file):
            reached = "through"
        frame = frame.f_back
    return ""


# --- where a file lies --------------------------------------------------------------------------------------------


def _list_forms(path: str) -> set[str]:
    """List the path of a file as it is written, and with the links among its folders resolved."""
    whole = os.path.abspath(path)  # noqa: PTH100 (of any text, at every file that is opened)
    folder, name = os.path.split(whole)
    return {whole, os.path.join(os.path.realpath(folder), name)}  # noqa: PTH118


def _lies_in_suite(path: Path, content: ContentFile) -> bool:
    """Tell whether a file is the suite's, and not of an environment, of a hidden folder or of bytecode within it."""
    environments = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    for root in content.suite.list_roots():
        if root not in path.parents:
            continue
        inner = [prefix for prefix in environments if root in prefix.parents]
        folders = path.relative_to(root).parts[:-1]
        return not (
            any(prefix in path.parents for prefix in inner)
            or any(name.startswith(".") or name in (*PACKAGE_FOLDERS, "__pycache__") for name in folders)
        )
    return False


@functools.cache
def _list_library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {os.path.dirname(os.__file__), paths["stdlib"], paths["platstdlib"]}  # noqa: PTH120
    return tuple(f"{form}{os.sep}" for folder in folders for form in (folder, os.path.realpath(folder)))


def _lies_in_library(path: str) -> bool:
    """Tell whether a file is the standard library's."""
    return path.startswith(_list_library_folders()) and not _lies_in_packages(path)


def _lies_in_packages(path: str) -> bool:
    return any(f"{os.sep}{folder}{os.sep}" in path for folder in PACKAGE_FOLDERS)


def _belongs_to_installed(path: str) -> bool:
    """Tell whether a file is the engine's, the standard library's or an installed distribution's, editable or not."""
    if path.startswith(ENGINE) or _lies_in_library(path) or _lies_in_packages(path):
        return True
    return any(
        path.startswith(f"{folder}{os.sep}") or path == f"{folder}.py" for folder in _list_editable_folders()
    )


def _list_editable_folders() -> list[str]:
    """List the folders and modules that distributions are installed from in place."""
    import json
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    folders: list[str] = []
    for distribution in metadata.distributions():
        read = distribution.read_text
        direct = json.loads(read("direct_url.json") or "{}")
        if direct.get("dir_info", {}).get("editable"):
            folders.append(os.path.realpath(url2pathname(urlsplit(direct["url"]).path)))
        # an older installation in place has its metadata beside its packages
        names = (read("top_level.txt") or "").split()
        folders += [os.path.realpath(str(distribution.locate_file(name))) for name in names]
    return folders
