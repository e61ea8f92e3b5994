"""No name that says nothing: every variable, parameter, attribute and function is called by what it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    p for kind in ("udcd_bench", "methods", "tables", "figures") for p in (ROOT / kind).rglob("*.py")
)
VAGUE = {
    "there",
    "found",
    "made",
    "told",
    "said",
    "says",
    "kept",
    "about",
    "here",
    "drawn",
    "judged",
    "asked",
}
ALLOWED: dict[tuple[str, str], str] = {}
"""(file, name) → why that name stays: only what users type or files store."""


def bound_names(tree):
    """(line, name) of all that a module names: variables, parameters, attributes, functions, classes, aliases."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.lineno, node.name


def vague_names(text, file=""):
    """Those of a module that say nothing; a leading underscore changes nothing."""
    bound = bound_names(ast.parse(text))
    return [(line, name) for line, name in bound if name.strip("_") in VAGUE and (file, name) not in ALLOWED]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_say_what_they_are(path):
    assert vague_names(path.read_text(), path.relative_to(ROOT).as_posix()) == []


def test_what_is_allowed_exists():
    for file, name in ALLOWED:
        assert name in {bound for _, bound in bound_names(ast.parse((ROOT / file).read_text()))}, (file, name)


@pytest.mark.parametrize(
    "code",
    ["found = 1", "def told(): pass", "def f(*, about): pass", "self.kept = 1", "[x for made in y]", "lambda said: 1",
     "import numpy as here", "if (there := 1): pass", "class _drawn: pass", "with x as asked: pass"],
)  # fmt: skip
def test_every_way_to_name_is_seen(code):
    assert len(vague_names(code)) == 1


def test_what_others_named_is_not_ours():
    assert vague_names("x = np.found(y.told)\ndef about_this(): pass") == []
