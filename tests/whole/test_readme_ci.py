"""The README's GitHub workflow: it parses, and its commands do on a stored results folder what is said of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from support.stored import fill, paper

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().partition("\n## In CI\n")[2].partition("\n## ")[0]
(WORKFLOW,) = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", SECTION, re.S))
STEPS = WORKFLOW["jobs"]["check"]["steps"]
COMMANDS = [step["run"] for step in STEPS if step.get("run", "").startswith("udcd-bench ")]


def typed(folder, *lines):
    """Exit statuses and what is printed of lines typed into a shell as GitHub's runner does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = []
    for line in lines:
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line]
        done = subprocess.run(
            shell, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        found.append((done.returncode, done.stdout))
    return found


def test_the_workflow_is_one():
    assert set(WORKFLOW) == {"name", True, "jobs"}, "YAML reads the key on as true"
    assert all(("uses" in step) != ("run" in step) for step in STEPS)
    assert len(COMMANDS) == 2 and "--format github" in COMMANDS[0] and "> check.xml" in COMMANDS[1]
    upload = STEPS[-1]
    assert upload["uses"].startswith("actions/upload-artifact@") and upload["with"]["path"] == "check.xml"


@pytest.mark.parametrize(("right", "status"), [(0.96, 0), (0.5, 1)])
def test_its_commands_pass_and_fail_as_they_should(tmp_path, right, status):
    fill(tmp_path / "results", paper(), n=1000, right=right)
    for file in (tmp_path / "results").rglob("*"):
        if file.is_file() and "runs" in file.parts and file.name not in ("record.json", "scores.npz"):
            file.unlink()
    (code, annotations), (again, _) = typed(tmp_path, *COMMANDS)
    assert code == again == status
    lines = annotations.splitlines()
    assert all(line.startswith("::") for line in lines)
    assert any(line.startswith("::error ") for line in lines) == bool(status)
    assert lines[-1].endswith("failed." if status else "passed.")
    suite = ElementTree.parse(tmp_path / "check.xml").getroot()
    assert int(suite.get("tests")) == 72 and (int(suite.get("failures")) > 0) == bool(status)


def test_the_gate_of_ones_own(tmp_path):
    before, after = re.findall(r"`(check table2 [^`]*seeds\.json)`", SECTION)
    fill(tmp_path / "results", paper(seeds=(0, 1, 2)), n=1000)
    record, against = (f"udcd-bench {line} --profile paper" for line in (before, after))
    assert [code for code, _ in typed(tmp_path, record, against)] == [0, 0]
    fill(tmp_path / "later", paper(seeds=(3,)), n=1000, right=0.5)
    ((code, out),) = typed(tmp_path, f"{against} --out later")
    assert code == 1 and "lower" in out
