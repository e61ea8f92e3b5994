"""``methods list`` and ``methods show``; suites of installed packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from udcd_bench import plugins
from udcd_bench.cli import cli
from udcd_bench.cli.methods import methods
from udcd_bench.errors import UserError
from udcd_bench.runs import rates


def show(*arguments):
    result = CliRunner().invoke(methods, ["show", *arguments], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("name", plugins.list_names("methods"))
def test_show_tells_every_value_and_its_source(name):
    text, about = show(name), plugins.read_attributes("methods", name)
    assert about["citation"] in text and "Differs from" in text
    for key, value in about.get("hparams", {}).items():
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{key}  "))
        assert repr(value) in line and any(f"[{letter}" in line for letter in "PROS"), line


def test_numbers_that_sources_refer_to_as_above_are_above():
    alone, beside = show("udcd"), show("udcd", "udcd-released")
    assert alone.index("Differs from") < alone.index("\n3. ") < alone.index("see 3 above")
    assert beside.index("citation") < beside.index("Differs from") < beside.index("lambda_scl  ")


def test_two_side_by_side_mark_what_differs():
    lines = show("udcd", "udcd-released").splitlines()
    marked = {line.split()[0] for line in lines if "≠" in line and not line.startswith("  ")}
    same = {
        line.split()[0] for line in lines if line.strip() and "≠" not in line and not line.startswith("  ")
    }
    assert {"method", "lambda_scl", "confidence", "negatives"} <= marked
    assert {"teacher", "views", "temperature", "momentum"} <= same


@pytest.mark.usefixtures("shipped_suites")
def test_suite_family_and_levels_are_shown_where_declared():
    lines = {line.split()[0]: line.split()[1:] for line in show("fitnet").splitlines() if line.strip()}
    assert lines["suite"] == ["modern"] and lines["family"] == ["features"]
    assert lines["levels"] == ["of", "student", "and", "teacher"]
    assert not {"family", "levels"} & {line.split(" ")[0] for line in show("kd").splitlines()}


def test_three_are_too_many():
    result = CliRunner().invoke(methods, ["show", "kd", "mtg", "udcd"])
    assert result.exit_code == 2 and "two to compare" in result.output


def test_the_list_has_suite_family_teacher_and_cost(own_suites, monkeypatch):
    def listed(*words):
        result = CliRunner().invoke(cli, ["methods", "list", *words])
        assert result.exit_code == 0, result.output
        return {line.split()[0]: line.split() for line in result.output.splitlines()}

    paper = listed()
    assert paper["method"] == ["method", "suite", "family", "teacher", "cost", "citation"]
    assert paper["sskd"][1:5] == ["paper", "trained", "teacher", "4.9×"] and "dkd" not in paper
    assert listed("--suite", "modern")["dkd"][1:6] == ["modern", "logits", "trained", "teacher", "1.3×"]
    monkeypatch.setattr(rates, "MEASURED", ())
    assert listed()["sskd"][1:6] == ["paper", "trained", "teacher", "not", "measured"]


@pytest.mark.parametrize("words", [["methods", "list", "--suite=modern"], ["--suite", "modern", "methods", "list"],
                                   ["methods", "--suite", "modern", "list"]], ids=" ".join)  # fmt: skip
def test_a_suite_may_be_named_anywhere(own_suites, words):
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0 and "logit-adjustment" in result.output, result.output


def test_a_suite_without_a_name_is_refused(own_suites):
    result = CliRunner().invoke(cli, ["methods", "list", "--suite"])
    assert result.exit_code == 2 and "--suite" in result.output


@pytest.mark.parametrize(
    "line", ["run imbalance", "run table2 --methods dkd", "methods show dkd", "report --methods dkd"]
)
def test_what_a_suite_of_the_package_has_is_told(own_suites, line):
    result = CliRunner().invoke(cli, line.split())
    assert isinstance(result.exception, UserError) and "add --suite modern." in str(result.exception)


METHOD = (
    '"""Mine."""\nfrom udcd_bench import method\n\n\nclass Method(method.BaseMethod):\n    title = "Mine"\n'
    '    citation = "Me, 2024"\n'
)


def installed(site: Path, value: str) -> None:
    """A distribution in ``site`` that names a suite."""
    (site / "my_package" / "suite" / "methods").mkdir(parents=True)
    (site / "my_package" / "__init__.py").write_text("raise RuntimeError('a listing imports no package')\n")
    (site / "my_package" / "suite" / "methods" / "mine.py").write_text(METHOD)
    info = site / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[udcd_bench.suites]\nmine = {value}\n")


def test_an_installed_package_joins(tmp_path):
    (tmp_path / "p").mkdir()
    installed(tmp_path, "my_package.suite")
    code = "from udcd_bench.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code, "methods", "list"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0 and "mine" in result.stdout.split(), result.stderr


def test_an_entry_point_to_nothing_is_named(tmp_path, monkeypatch):
    installed(tmp_path, "no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"'mine' of udcd_bench.suites names 'no_such_package'"):
        plugins.list_names("methods")
