"""The engine's imports point downwards, and what need not wait for a tensor library does not."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from udcd_bench import plugins

ENGINE = Path(plugins.__file__).parents[1]
LAYERS = [
    {"errors"},
    {"storage", "stats", "losses"},
    {"plugins", "render"},
    {"runs", "paper"},
    {"data"},
    {"memory", "sampling", "method", "grid"},
    {"training", "judging"},
    {"engines", "artefacts", "inference"},
    {"report", "bench", "tuning", "api"},
    {"cli", "__main__"},
]
"""From the bottom. A module may import its own layer and those below."""
UPWARDS: set[tuple[str, str]] = set()
"""(file, module it imports inside a function) of the exceptions; each would need a reason here."""
NO_TORCH = [
    "runs.spec",
    "runs.profiles",
    "plugins",
    "runs.store",
    "runs.planner",
    "runs.rates",
    "cli",
    "artefacts.table",
    "stats.metrics",
    "paper.published",
    "render.sheet",
    "report.page",
    "data.splits",
    "data.sources",
    "engines.local",
    "engines.execute",
    "engines.environment",
    "engines.job_queue",
    "engines.ray",
    "api.artefacts",
    "inference.frames",
    "tuning.tuned_table",
]

RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
SHIPPED = plugins.list_shipped_suites()
SOURCES = sorted(p for p in ENGINE.rglob("*.py") if not set(SHIPPED.values()) & set(p.parents))


def imported(tree):
    """(engine module, whether inside a function) of every import but those under TYPE_CHECKING."""
    found = []

    def walk(node, inside):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = []
        ours = [name.split(".") for name in names if name.split(".")[0] == "udcd_bench"]
        found.extend((parts[1] if len(parts) > 1 else "", inside) for parts in ours)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            walk(child, inside)

    walk(tree, False)
    return found


def layer(path):
    return path.relative_to(ENGINE).parts[0].removesuffix(".py")


def test_every_module_has_its_layer():
    named = {layer(path) for path in SOURCES} - {"__init__"}
    assert named <= RANK.keys(), f"say in LAYERS where {named - RANK.keys()} stand"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ENGINE)))
def test_imports_point_downwards(path):
    if path == ENGINE / "__init__.py":
        assert not imported(ast.parse(path.read_text()))
        return
    here = RANK[layer(path)]
    for name, inside in imported(ast.parse(path.read_text())):
        if name in ("", "__version__") or (inside and (path.name, name) in UPWARDS):
            continue
        assert RANK[name] <= here, f"{path.name} imports {name}, which stands above it"


@pytest.mark.usefixtures("shipped_suites")
@pytest.mark.parametrize("kind", plugins.CONTENT_CLASSES)
def test_content_imports_the_engine_and_no_other_content(kind):
    others = {name for k in plugins.CONTENT_CLASSES for name in plugins.list_names(k)} | set(
        plugins.CONTENT_CLASSES
    )
    for name in plugins.list_names(kind):
        tree = ast.parse(plugins.find_file(kind, name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: content is no package"
                modules = [node.module]
            else:
                continue
            for module in modules:
                assert module.split(".")[0] not in others, f"{name} imports {module}"
                wing = ".".join(module.split(".")[1:2])
                assert wing not in {"suite", *SHIPPED}, f"{name} imports {module}"


@pytest.mark.usefixtures("shipped_suites")
def test_the_engine_reaches_content_through_plugins_only():
    methods = set(plugins.list_names("methods"))
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                compared = [node.left, *node.comparators]
                words = {n.value for n in compared if isinstance(n, ast.Constant)}
                names = {ast.unparse(n) for n in compared if not isinstance(n, ast.Constant)}
                clash = words & methods and any(n.endswith(("method", "name")) for n in names)
                assert not clash, f"{path.name}:{node.lineno}: {ast.unparse(node)}"


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_plans_and_reports_does_not_import_torch():
    code = "import importlib, sys\n"
    for name in NO_TORCH:
        code += f"importlib.import_module('udcd_bench.{name}')\n"
        code += (
            f"assert not {{'torch', 'timm', 'torchvision'}} & sys.modules.keys(), '{name} imports torch'\n"
        )
    python(code)


def test_help_is_there_at_once():
    code = (
        "import sys\n"
        "from udcd_bench.cli import cli\n"
        "for words in ([], ['run'], ['train'], ['methods'], ['data']):\n"
        "    cli([*words, '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'sklearn', 'matplotlib', 'PIL', 'rich', 'jinja2'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
        "print('modules:', len(sys.modules))\n"
    )
    shown = python(code)
    assert "udcd-bench run table2" in shown
    assert int(shown.rpartition("modules:")[2]) < 350
