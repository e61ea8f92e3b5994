"""What ``--teacher`` means: rows, stored runs by their keys or labels, files by the digests of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench import plugins
from udcd_bench.engines.teachers.origins import read_file_origin, read_run_origin
from udcd_bench.errors import UserError, make_printable, suggest_nearest
from udcd_bench.inference.selection import find_run
from udcd_bench.runs import names
from udcd_bench.storage.file_names import decode_name

if TYPE_CHECKING:
    from udcd_bench.runs.store import Store

NONE_STORED: Mapping[str, str] = MappingProxyType({})


class NamedTeacher(NamedTuple):
    """A teacher by its name in a ``RunSpec``, the backbone that it is known to be of, and a file's path."""

    name: str
    backbone: str
    path: str = ""


class NamedTeachers(NamedTuple):
    """What a ``RunSpec`` says of its teachers, and the paths of those that are files, by their identity.

    Several teachers have each a backbone of its own; ``backbone`` is that of rows, and of files that do not say theirs.
    """

    name: str
    backbone: str
    paths: Mapping[str, str]


def name_teachers(
    typed: str, backbone: str, store: Store | None, stored_files: Mapping[str, str] = NONE_STORED
) -> NamedTeachers:
    """Name one teacher, or several with commas between, as a spec does.

    backbone: as typed, empty where nothing is said. store: where runs are looked up. stored_files: files that taught
    stored runs, by name, with their backbones: they may be gone, and their names are enough.
    Raises UserError for what is no teacher, for one that is named twice, and for a backbone that is nobody's.
    """
    words = _split(typed, store, stored_files)
    is_alone = len(words) == 1
    files = stored_files if is_alone else dict.fromkeys(stored_files, "")
    teachers = [_name_one(word, backbone if is_alone else "", store, files) for word in words]
    identities = [names.identify_file(teacher.name) for teacher in teachers]
    if twice := [word for n, word in enumerate(words) if identities[n] in identities[:n]]:
        raise UserError(f"--teacher {typed} names {twice[0]} twice; name each teacher once.")
    paths = {identity: each.path for identity, each in zip(identities, teachers) if each.path}
    if is_alone:
        return NamedTeachers(teachers[0].name, teachers[0].backbone, paths)
    if teachers and backbone and all(teacher.backbone for teacher in teachers):
        raise UserError(
            f"--teacher-backbone {backbone} is of none of the teachers {typed}, all of which say theirs; leave it out."
        )
    return NamedTeachers(names.join_teachers(teacher.name for teacher in teachers), backbone, paths)


def _split(typed: str, store: Store | None, stored_files: Mapping[str, str]) -> list[str]:
    """Split what is typed at commas, unless it is a whole: the name of a file and the label of a run may have some."""
    named = names.split_teachers(typed)
    if len(named) > 1 and all(map(_is_named, named)):
        return named
    is_whole = "," not in typed or Path(typed).expanduser().is_file() or _match_stored(typed, stored_files)
    if is_whole or _find_run(typed, store):
        return [typed] if typed else []
    words = [word.strip() for word in typed.split(",")]
    return (
        words if all(words) else [typed]
    )  # which is refused: a teacher that is left out is not to go unnoticed


def _is_named(typed: str) -> bool:
    """Tell whether it is a teacher as a spec names it."""
    return typed in plugins.list_names("methods") or bool(
        names.parse_run(typed) or names.parse_name(typed).digest
    )


def _match_stored(typed: str, stored_files: Mapping[str, str]) -> list[str]:
    return [name for name in stored_files if names.matches(typed, name)]


def _name_one(
    typed: str, backbone: str, store: Store | None, stored_files: Mapping[str, str]
) -> NamedTeacher:
    is_file = Path(typed).expanduser().is_file()
    matching = {} if is_file else {names.identify_file(n): n for n in _match_stored(typed, stored_files)}
    if len(matching) > 1:
        several = " or ".join(sorted(matching.values()))
        raise UserError(
            f"--teacher {typed} may mean {several} in the results folder; give one of these in full."
        )
    for name in matching.values():
        return NamedTeacher(name, backbone or stored_files[name])
    return name_teacher(typed, backbone, store)


def name_teacher(typed: str, backbone: str, store: Store | None) -> NamedTeacher:
    """Name one teacher as a spec does. The parameters are those of ``name_teachers``.

    Raises UserError for what is no row, run or file, and for a run or an exported file of another backbone.
    """
    if typed in plugins.list_names("methods") or names.parse_run(typed) or not typed:
        return NamedTeacher(typed, backbone)
    file = Path(typed).expanduser()
    if file.is_file():
        from udcd_bench.engines.teachers.networks import hash_file

        name = names.format_file_name(make_printable(decode_name(file.name)), hash_file(typed))
        origin = read_file_origin(file)
        known = origin.spec.backbone if origin else ""
        return NamedTeacher(name, _choose_backbone(typed, backbone, known), typed)
    if names.parse_name(typed).digest:
        return NamedTeacher(typed, backbone)
    key = _find_run(typed, store)
    if not key or store is None:
        where = f"no finished run in {store.root}" if store else "no run"
        near = suggest_nearest(typed, plugins.list_names("methods"))
        raise UserError(f"--teacher {typed} is no row, no file and {where}{near}")
    known = read_run_origin(store, key).spec.backbone
    return NamedTeacher(f"{names.RUN}{key}", _choose_backbone(typed, backbone, known))


def _find_run(typed: str, store: Store | None) -> str:
    """Find the key of the run that is meant; empty for none. Raises UserError for several."""
    try:
        return find_run(store, typed) if store is not None else ""
    except UserError as error:
        if "may be any of" in str(error):
            raise
        return ""


def _choose_backbone(typed: str, backbone: str, known: str) -> str:
    if backbone and known and backbone != known:
        raise UserError(
            f"--teacher {typed} is of backbone {known}, not {backbone}; leave --teacher-backbone out."
        )
    return backbone or known
