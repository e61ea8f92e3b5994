"""The package as folders: few modules in each, wings that say what they hold, functions of few parameters."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from udcd_bench import plugins

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "udcd_bench"
TOP = {"__init__", "__main__", "errors", "method", "memory", "sampling"}
"""Modules at the top of the package: what a method file imports."""
MOST_MODULES = 12
MOST_PARAMETERS = 5
FOLDERS = sorted(path.parent for path in ENGINE.rglob("__init__.py"))
WINGS = [path for path in FOLDERS if path.parent == ENGINE]
MATHEMATICS = {
    "losses/contrast.py": {"memory_scl"},
    "losses/relations.py": {"crp"},
    "losses/views.py": {"sskd_terms"},
}
"""File → functions whose parameters are an equation's own symbols, however many."""


def short(path):
    return path.relative_to(ENGINE).as_posix()


@pytest.mark.parametrize("folder", FOLDERS, ids=short)
def test_a_folder_has_few_modules(folder):
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert len(modules) <= MOST_MODULES, sorted(modules)


def test_the_top_holds_wings_and_what_a_method_file_imports():
    assert {path.stem for path in ENGINE.glob("*.py")} == TOP
    others = {path.name for path in ENGINE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert others == {*(wing.name for wing in WINGS), *plugins.list_shipped_suites()}


@pytest.mark.parametrize("wing", WINGS, ids=short)
def test_a_wing_says_what_it_holds_and_what_it_knows(wing):
    doc = ast.get_docstring(ast.parse((wing / "__init__.py").read_text())) or ""
    assert "Knows n" in doc, "its first lines say what it holds and which wings it knows nothing of"


def public_functions(tree):
    """Functions and methods that others call by name; what makes an object takes its fields, however many."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node


def count_parameters(function):
    """Parameters that a caller gives: ``self`` and ``cls`` are not."""
    given = function.args
    names = [parameter.arg for parameter in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_the_mathematics_are_functions():
    for file, names in MATHEMATICS.items():
        assert names <= {f.name for f in public_functions(ast.parse((ENGINE / file).read_text()))}, file


@pytest.mark.parametrize(
    "path", [p for p in sorted(ENGINE.rglob("*.py")) if p.parent != ENGINE / "cli"], ids=short
)
def test_a_public_function_takes_few_parameters(path):
    free = MATHEMATICS.get(short(path), set())
    functions = [f for f in public_functions(ast.parse(path.read_text())) if f.name not in free]
    many = {f.name: count_parameters(f) for f in functions if count_parameters(f) > MOST_PARAMETERS}
    assert not many, many
