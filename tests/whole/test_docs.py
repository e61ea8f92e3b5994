"""The pages for people: they name what exists, and what must agree with the code agrees."""

from __future__ import annotations

import configparser
import re
import warnings
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from pdoc import __main__ as pdoc_command

import udcd_bench
from udcd_bench import losses, plugins
from udcd_bench.runs.inputs import COVERED_ELSEWHERE, RunInputs

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/records/*.md")])
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
TESTS = "\n".join(path.read_text() for path in ROOT.glob("tests/*/test_*.py"))

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def make_anchor(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@by_page
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r'src="([^"]+)"', text)]:
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M) if anchor else []
        assert not anchor or anchor in map(make_anchor, headings), target


@by_page
def test_files_and_tests_that_are_named_exist(page):
    for name in re.findall(r"`([^`\n]+)`", page.read_text()):
        if re.fullmatch(r"(udcd_bench|tests|methods|tables|figures|docs)/[\w./-]+", name):
            assert "NAME" in name or (ROOT / name).exists() or name in ("udcd_bench/suite/", "docs/api"), name
        if re.fullmatch(r"test_\w+", name):
            assert f"def {name}(" in TESTS, name


def test_every_module_is_on_the_map():
    block = re.search(r"```\nudcd_bench/\n(.*?)```", ARCHITECTURE, re.S)[1]
    sections, wing = {"": ""}, ""
    for line in block.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        if folder := re.match(r" +(\w+)/ ", line):
            wing = folder[1] if depth == 1 else f"{wing.split('/')[0]}/{folder[1]}"
            sections[wing] = ""
        elif depth == 1:
            sections[""] += line + "\n"
        else:
            sections[wing] += line + "\n"
    content = plugins.list_shipped_suites().values()
    modules = [
        path.relative_to(ROOT / "udcd_bench")
        for path in ROOT.glob("udcd_bench/**/[!_]*.py")
        if not set(content) & set(path.parents)
    ]
    missing = [
        m for m in modules if not re.search(rf"\b{m.stem}\b", sections.get(str(m.parent).strip("."), ""))
    ]
    assert not missing, f"docs/architecture.md does not show {', '.join(map(str, missing))}"
    first_words = {
        f"{wing}/{word}" for wing, text in sections.items() for word in re.findall(r"^ +(\w+)", text, re.M)
    }
    gone = [word for word in first_words if not list((ROOT / "udcd_bench").glob(f"{word.strip('/')}*"))]
    assert not gone, f"docs/architecture.md shows {', '.join(gone)}"


def test_the_floors_are_those_of_the_layering_test():
    from test_layering import LAYERS

    rows = re.findall(r"^\| \d+ \| (.*) \|$", ARCHITECTURE, re.M)
    floors = [set(re.findall(r"`(\w+)`", row)) for row in rows]
    assert floors == [{name for name in layer if not name.startswith("_")} for layer in LAYERS]


def test_every_version_number_is_where_the_table_says():
    section = ARCHITECTURE.partition("## Version numbers")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.M)
    told = {(file, name) for name, files in rows for file in re.findall(r"`([^`]+)`", files)}
    number = re.compile(r"^([A-Z_]*(?:VERSION|REVISION|SCHEMA)|__version__) = [\d\"]", re.M)
    files = list(ROOT.glob("udcd_bench/**/*.py"))
    defined = {
        (str(path.relative_to(ROOT)), name) for path in files for name in number.findall(path.read_text())
    }
    assert told == defined


def test_the_inputs_of_a_key_are_those_of_the_code():
    section = ARCHITECTURE.partition("## What goes into a key")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(f.name for f in fields(RunInputs))
    assert all(f"`{name}`" in section for name in COVERED_ELSEWHERE)


def test_the_citation_names_this_version_and_every_method():
    assert CITATION["cff-version"] == "1.2.0" and CITATION["version"] == udcd_bench.__version__
    cited = {
        reference.get(key, "") for reference in CITATION["references"] for key in ("url", "repository-code")
    }
    for file in [*ROOT.glob("methods/*.py"), *ROOT.glob("udcd_bench/*/methods/*.py")]:
        for link in re.findall(r"https://[\w./-]*[\w/]", file.read_text()):
            assert link in cited, f"{file.name}: {link}"


def test_pre_commit_has_the_linter_of_nox():
    pinned = SETUP["options.extras_require"]["lint"].split()
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert [hook["entry"].split()[0] for hook in hooks] == ["ruff", "ruff", "mypy"]
    for hook in hooks:
        assert set(hook.get("additional_dependencies", ())) <= set(pinned)


def test_github_runs_what_ci_runs():
    for file in ROOT.glob(".github/**/*.yml"):
        assert yaml.safe_load(file.read_text())["name"], file.name
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert ".ci/run" in [step.get("run") for step in workflow["jobs"]["check"]["steps"]]


def test_the_api_pages_are_written(tmp_path, monkeypatch):
    modules = re.findall(r'"(udcd_bench\.\w+)"', (ROOT / "noxfile.py").read_text())
    assert "udcd_bench.method" in modules and "udcd_bench.losses" in modules
    # what it warns of is an error here; it takes this function over for good
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    pdoc_command.cli(["--no-show-source", "-o", str(tmp_path), *modules])
    for module in modules:
        assert (tmp_path / "udcd_bench" / f"{module.removeprefix('udcd_bench.')}.html").exists()
    page = (tmp_path / "udcd_bench" / "losses.html").read_text()
    assert all(f'id="{name}"' in page for name in losses.__all__)
