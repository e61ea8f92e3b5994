"""What a method file declares, checked in its text: a teacher, views, stages and hyper-parameters that there are.

A mistake is told where it is, with file and line, before anything is executed.
"""

from __future__ import annotations

import ast
import difflib
from typing import TYPE_CHECKING, Any, NamedTuple

from udcd_bench.errors import UserError, suggest_nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

TEACHERS = (None, "ema", "trained", "own")
"""Values of ``teacher``; behind ``trained:`` may stand the row that is trained, and a list holds several of these."""
MOST_VIEWS = 2
FAMILIES = ("logits", "features", "relations", "contrast", "imbalance", "self-distillation")
"""What a method file may call its kind, for lists of methods."""
ATTRIBUTES = ("title", "citation", "family", "teacher", "views", "levels", "stage_shares", "hparams", "protocol",
              "choices", "search")  # fmt: skip
"""All that a method's class may declare; its own constants have other names."""
INFO = ("n_train", "classes", "labels", "class_weights", "student_width", "teacher_width", "embedding_width",
        "ce_normalise", "student_levels", "teacher_levels", "count_images")  # fmt: skip
"""What a method may read of ``self.info``, a ``method.DatasetInfo``: all but how it is made."""


class Mistake(NamedTuple):
    """What is wrong in a file, with its fix, and the line that it is in."""

    line: int
    problem: str


def parse_trained_rows(teacher: object) -> list[str]:
    """Parse the rows behind ``trained:``, an empty one for ``trained`` alone; none for any other teacher."""
    teachers = teacher if isinstance(teacher, list | tuple) else [teacher]
    parts = [each.partition(":") if isinstance(each, str) else ("", "", "") for each in teachers]
    return [row for kind, colon, row in parts if kind == "trained" and bool(colon) == bool(row)]


def describe_unreadable(path: Path, error: Exception) -> str:
    """Describe why a file is no Python, with its line."""
    line = getattr(error, "lineno", None)
    where = f"{path}, line {line}," if line else str(path)
    reason = getattr(error, "msg", None) or str(error)
    return f"{where} cannot be read: {type(error).__name__}: {reason}; fix {'that line' if line else 'the file'}."


def check_declared(
    method: ast.ClassDef, declared: Mapping[str, Any], methods: Collection[str], path: Path
) -> None:
    """Raise UserError, with file and line, for the first thing that a method declares or uses and there is not.

    method: its class. declared: its literal attributes. methods: the names of all methods of the suites.
    """
    checks = (_check_names, _check_hparams, _check_info, _check_reads)
    mistakes = [
        *_check_values(method, declared, methods),
        *(m for check in checks for m in check(method, declared)),
    ]
    if mistakes:
        line, problem = min(mistakes)
        raise UserError(f"{path}, line {line}: {problem}")


def _check_values(
    method: ast.ClassDef, declared: Mapping[str, Any], methods: Collection[str]
) -> Iterator[Mistake]:
    lines = {name: node.lineno for name, node in list_assignments(method.body)}
    if "teacher" in declared and (problem := _find_teacher_problem(declared["teacher"], methods)):
        yield Mistake(lines["teacher"], problem)
    views = declared.get("views", 1)
    if type(views) is not int or not 1 <= views <= MOST_VIEWS:
        yield Mistake(lines["views"], f"views = {views!r} is no number of views; give 1 or {MOST_VIEWS}.")
    shares = declared.get("stage_shares", {"train": 1.0})
    if not isinstance(shares, dict) or not shares or not all(map(_is_share, shares.items())):
        yield Mistake(
            lines["stage_shares"],
            f"stage_shares = {shares!r} names no stages with their shares of the epochs; give a dict such as "
            '{"head": 0.25, "student": 1.0}.',
        )
    for name in ("hparams", "protocol", "choices", "search"):
        if not isinstance(declared.get(name, {}), dict):
            yield Mistake(
                lines[name], f"{name} = {declared[name]!r} is no dict; give names with their values."
            )
    family = declared.get("family", "")
    if family and family not in FAMILIES:
        yield Mistake(
            lines["family"], f"family = {family!r} is no family{suggest_nearest(str(family), FAMILIES)}"
        )


def _check_names(method: ast.ClassDef, declared: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield each declared name that comes close to one of ``ATTRIBUTES``, and a title or citation that is missing."""
    free = [name for name in ATTRIBUTES if name not in declared]
    near = {name: close for name in declared if (close := _find_near(name, free))}
    for name, node in list_assignments(method.body):
        if name in near:
            problem = f"{name} is nothing that a method declares; did you mean {near[name]!r}?"
            yield Mistake(node.lineno, f"{problem} A constant of its own needs another name.")
    for name in ("title", "citation"):
        if _inherits_nothing(method) and name not in declared and name not in near.values():
            yield Mistake(method.lineno, f'the class has no {name}; write {name} = "…" in it.')


def _find_near(name: str, free: Collection[str]) -> str:
    """Find the attribute that a name may have been meant for, of those that are not declared; empty for none."""
    near = [] if name in ATTRIBUTES or name == "doc" else difflib.get_close_matches(name, free, 1, cutoff=0.8)
    return near[0] if near else ""


def _find_teacher_problem(teacher: object, methods: Collection[str]) -> str:
    if isinstance(teacher, list | tuple):
        return _find_teachers_problem(teacher, methods)
    rows = parse_trained_rows(teacher)
    if any(rows) and rows[0] not in methods:
        return f"teacher = {teacher!r} names no method{suggest_nearest(rows[0], methods)}"
    if rows or teacher in TEACHERS:
        return ""
    if isinstance(teacher, str) and teacher in methods:
        return f"teacher = {teacher!r} names a row; write teacher = 'trained:{teacher}'."
    words = [word for word in TEACHERS if word is not None]
    near = suggest_nearest(teacher, words).partition(" Known")[0] if isinstance(teacher, str) else "."
    known = "None, 'ema', 'trained', 'trained:ROW', a list of these two, or 'own'"
    return f"teacher = {teacher!r} is no teacher{near} Give {known}."


def _find_teachers_problem(teachers: Sequence[object], methods: Collection[str]) -> str:
    """Find what is wrong with a list of teachers, each of which is the student of a row's run."""
    if problem := next(filter(None, (_find_teacher_problem(each, methods) for each in teachers)), ""):
        return problem
    if len(parse_trained_rows(teachers)) < max(2, len(teachers)) or len({*teachers}) < len(teachers):
        return (
            f"teacher = {teachers!r} is no list of teachers; give two or more different ones of 'trained' and "
            "'trained:ROW'."
        )
    return ""


def _is_share(item: tuple[object, object]) -> bool:
    stage, share = item
    return isinstance(stage, str) and type(share) in (int, float) and share > 0  # type: ignore[operator]


def list_assignments(body: Iterable[ast.stmt]) -> list[tuple[str, ast.Assign | ast.AnnAssign]]:
    """List the names that the body of a class gives values, each with its statement."""
    assignments: list[tuple[str, ast.Assign | ast.AnnAssign]] = []
    for node in body:
        targets: list[ast.expr]
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            continue
        assignments += [(target.id, node) for target in targets if isinstance(target, ast.Name)]
    return assignments


# --- what is read ---------------------------------------------------------------------------------------------


def _check_hparams(method: ast.ClassDef, declared: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield each ``self.hp.NAME``, directly or through ``hp = self.hp``, whose name is not declared."""
    if "hparams" not in declared and not _inherits_nothing(method):
        return  # a base class of the suite's own may declare them
    known = declared.get("hparams", {})
    for node in _list_reads(method, "self.hp") if isinstance(known, dict) else ():
        if node.attr not in known:
            fix = suggest_nearest(node.attr, known) if known else "; declare it there, with its source."
            yield Mistake(node.lineno, f"self.hp.{node.attr} is read, and hparams has no {node.attr!r}{fix}")


def _check_info(method: ast.ClassDef, _: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield each ``self.info.NAME``, directly or through ``info = self.info``, that there is not."""
    for node in _list_reads(method, "self.info"):
        if node.attr not in INFO:
            fix = suggest_nearest(node.attr, INFO)
            yield Mistake(node.lineno, f"self.info.{node.attr} is read, and info has no {node.attr!r}{fix}")


def _check_reads(method: ast.ClassDef, declared: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield what is read of levels by a method without them, and of a teacher by one without a teacher."""
    if not _inherits_nothing(method):
        return
    for node in ast.walk(method):
        if not (isinstance(node, ast.Attribute) and type(node.ctx) is ast.Load):
            continue
        if not declared.get("levels") and _reads_levels(node):
            problem = f"{ast.unparse(node)} is read, and holds nothing without levels = True in the class; add that."
            yield Mistake(node.lineno, problem)
        if declared.get("teacher") is None and ast.unparse(node) == "self.run_teacher":
            problem = (
                "self.run_teacher is read, and the class has no teacher; give teacher = 'trained' or another."
            )
            yield Mistake(node.lineno, problem)


def _reads_levels(node: ast.Attribute) -> bool:
    """Tell whether it is the levels of features or of ``info``, not an attribute of the method's own."""
    owner = ast.unparse(node.value)
    if node.attr in ("student_levels", "teacher_levels"):
        return owner != "self"
    return node.attr == "levels" and owner != "self" and isinstance(node.value, ast.Name | ast.Call)


def _inherits_nothing(method: ast.ClassDef) -> bool:
    return [ast.unparse(base).rpartition(".")[2] for base in method.bases] == ["BaseMethod"]


def _list_reads(method: ast.ClassDef, owner: str) -> Iterator[ast.Attribute]:
    """List the attributes that functions read of ``self.hp`` or the like, and of names that stand for nothing but it.

    owner: the text of what they are read of. Names with two underscores are Python's own.
    """
    for function in method.body:
        if isinstance(function, ast.FunctionDef):
            owners = {owner, *_list_short_names(function, owner)}
            for node in ast.walk(function):
                if (
                    isinstance(node, ast.Attribute)
                    and type(node.ctx) is ast.Load
                    and not node.attr.startswith("__")
                    and ast.unparse(node.value) in owners
                ):
                    yield node


def _list_short_names(function: ast.FunctionDef, owner: str) -> set[str]:
    """List the names that are assigned once in a function, and that to the owner, as in ``hp, info = self.hp, …``."""
    values: dict[str, list[str]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for name, value in _pair(target, node.value):
                    values.setdefault(name, []).append(value)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            values.setdefault(node.id, [])
    stores = [n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return {name for name, each in values.items() if each == [owner] and stores.count(name) == 1}


def _pair(target: ast.expr, value: ast.expr) -> list[tuple[str, str]]:
    """Pair the names of an assignment with the texts of their values."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return [pair for each in zip(target.elts, value.elts) for pair in _pair(*each)]
    return [(target.id, ast.unparse(value))] if isinstance(target, ast.Name) else []
