"""The content is found from a wheel, an sdist, an editable install and a bare checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import udcd_bench
from udcd_bench import plugins

ROOT = Path(__file__).parents[2]
SAY = (
    "from udcd_bench import plugins; from udcd_bench.paper import published; print(plugins.find_root());"
    "print(*(name for kind in plugins.CONTENT_CLASSES for name in plugins.list_names(kind)));"
    "print(len(published.load_table('table2')));"
    "plugins.add_suite('modern'); print(*map(str, (plugins.find_file('methods', 'dkd'),"
    "plugins.find_file('tables', 'imbalance'))))"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel and an sdist of a copy of the checkout, so that nothing is left in it."""
    copy, out = tmp_path_factory.mktemp("checkout") / "copy", tmp_path_factory.mktemp("dist")
    files = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True)
    if files.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, files.stdout.split("\0")):
        if (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "build", "--no-isolation", "-o", out, copy],
        check=True,
        capture_output=True,
    )
    return out


def say(folder: Path) -> tuple[Path, str, str]:
    """Its root, the names of its content and how many figures it has; the suite that it brings lies in it."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    environment.pop("UDCD_BENCH_SUITE", None)
    lines = subprocess.run(
        [sys.executable, "-c", SAY], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert all("udcd_bench/modern/" in path for path in lines[3].split()) and len(lines) == 4
    return Path(lines[0]), lines[1], lines[2]


def here() -> str:
    tracked = subprocess.run(
        ["git", "-C", ROOT, "ls-files", *plugins.CONTENT_CLASSES], capture_output=True, text=True
    )
    paths = [Path(line) for line in tracked.stdout.splitlines() if line.endswith(".py")]
    return " ".join(
        name
        for kind in plugins.CONTENT_CLASSES
        for name in sorted(p.stem for p in paths if p.parts[0] == kind)
    )


@pytest.mark.slow
def test_wheel(built, tmp_path):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path)
    root, names, figures = say(tmp_path)
    assert root == tmp_path / "udcd_bench" / "suite" and names == here() and int(figures) == 72
    assert not (tmp_path / "tables").exists()  # a top-level package of that name would hide others'
    for name in (
        "render/templates/table.tex.jinja",
        "report/templates/report.html.jinja",
        "report/templates/report.css",
        "report/templates/report.js",
    ):
        assert (tmp_path / "udcd_bench" / name).exists(), name
    assert (tmp_path / "udcd_bench" / "py.typed").exists()


def test_sdist(built, tmp_path):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    root, names, _ = say(folder)
    assert root == folder and names == here()
    for name in ("LICENSE", "README.md", "noxfile.py", "tests/whole/test_packaging.py", "tables/table2.csv"):
        assert (folder / name).exists(), name


def test_checkout():
    root, names, _ = say(ROOT)
    assert root == ROOT and set(here().split()) <= set(names.split())


def test_installed(tmp_path):
    """As installed for these tests, editable or not, and started in a folder that has nothing to do with it."""
    root, names, figures = say(tmp_path)
    assert root == plugins.find_root() and set(here().split()) <= set(names.split()) and int(figures) == 72
    assert metadata.version("udcd-bench") == udcd_bench.__version__
    (script,) = metadata.entry_points(group="console_scripts", name="udcd-bench")
    assert script.value == "udcd_bench.cli:main" and callable(script.load())
