"""What ``--teacher`` means: a row, a stored run by its key or label, or a file by the digest of its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench import plugins
from udcd_bench.engines.teachers.origins import read_file_origin, read_run_origin
from udcd_bench.errors import UserError, make_printable, suggest_nearest
from udcd_bench.inference.selection import find_run
from udcd_bench.runs import names
from udcd_bench.storage.file_names import decode_name

if TYPE_CHECKING:
    from udcd_bench.runs.store import Store


class NamedTeacher(NamedTuple):
    """A teacher by its name in a ``RunSpec``, the backbone that it is known to be of, and a file's path."""

    name: str
    backbone: str
    path: str = ""


def name_teacher(typed: str, backbone: str, store: Store | None) -> NamedTeacher:
    """Name a teacher as a spec does. backbone: as typed, empty where nothing is said. store: where runs are looked up.

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
    known = read_run_origin(store, key).spec.backbone if store else ""
    return NamedTeacher(f"{names.RUN}{key}", _choose_backbone(typed, backbone, known))


def _find_run(typed: str, store: Store | None) -> str:
    try:
        if store is not None:
            return find_run(store, typed)
    except UserError as error:
        if "may be any of" in str(error):
            raise
    where = f"no finished run in {store.root}" if store else "no run"
    raise UserError(
        f"--teacher {typed} is no row, no file and {where}{suggest_nearest(typed, plugins.list_names('methods'))}"
    )


def _choose_backbone(typed: str, backbone: str, known: str) -> str:
    if backbone and known and backbone != known:
        raise UserError(
            f"--teacher {typed} is of backbone {known}, not {backbone}; leave --teacher-backbone out."
        )
    return backbone or known
