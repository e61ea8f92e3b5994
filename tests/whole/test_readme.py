"""Every command that the README and docs/commands.md show, as typed, and the method given as an example."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support import faults, layouts

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = (ROOT / "docs" / "commands.md").read_text()
BLOCKS = re.findall(r"```console\n(.*?)```", README, re.S)
IN_BLOCKS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("udcd-bench ")]
IN_TABLES = re.findall(r"^\| `(udcd-bench [^`]+)`", README + COMMANDS, re.M)
LINES = [*IN_BLOCKS, *IN_TABLES]
AS_INSTALLED = {
    "udcd-bench status",
    "udcd-bench methods list",
    "udcd-bench --suite mine run table2 --methods scratch,labelsmooth",
}
"""Typed into a shell: the console script, and slots that are started as it starts them. The others are forked."""
RESAMPLED = {"udcd-bench run all", *(line for line in LINES if "imbalance" in line)}
"""Resample the stand-in of HAM10000 to ρ = 144: it takes about a thousand images for five of the smallest class."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder to type in, with real layouts of tiny images in ~/Downloads; variables make everything small."""
    home = tmp_path_factory.mktemp("home")
    layouts.published(home / "Downloads" / "ham10000", home / "Downloads" / "aptos2019")
    code = re.search(r"```python\n(.*?)```", README, re.S)[1]
    assert len(code.splitlines()) <= 30
    (home / "mine").mkdir()
    (home / "mine" / "labelsmooth.py").write_text(code)
    small = {
        "UDCD_BENCH_SIZE": "32",
        "UDCD_BENCH_SET": "image_size=32 epochs=1 batch_size=512 n_images=100 weights=none threads=1",
        "UDCD_BENCH_METHODS": "scratch,udcd",
        "UDCD_BENCH_BACKBONE": "densenet-tiny",
        "UDCD_BENCH_DEVICE": "cpu",
        "UDCD_BENCH_ROUNDS": "3",
        "UDCD_BENCH_IMAGE_SIZE": "32",
        "UDCD_BENCH_BATCH": "8",
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return home, small


def run_line(line, home, environment):
    """Exit status, standard output and standard error of a line, typed in ``home``."""
    words = [os.path.expandvars(word.replace("~", str(home), 1)) for word in shlex.split(line)]
    if line in RESAMPLED:
        settings = f"{environment['UDCD_BENCH_SET']} n_images=1000"
        environment = {**environment, "UDCD_BENCH_SET": settings, "UDCD_BENCH_DATASETS": "synthetic-lesions"}
    if line in AS_INSTALLED:
        done = subprocess.run(
            words, cwd=home, env={**os.environ, **environment}, capture_output=True, text=True
        )
        return done.returncode, done.stdout, done.stderr
    out, err = home / "out.txt", home / "err.txt"
    code = faults.command(out, *words[1:], errors=err, cwd=home, **environment)
    return code, out.read_text(), err.read_text()


def test_the_readme_shows_commands():
    assert len(IN_BLOCKS) >= 4 and len(IN_TABLES) >= 8
    assert len(AS_INSTALLED & set(LINES)) >= 3


@pytest.mark.parametrize("number", range(len(LINES)), ids=LINES)
def test_readme_command(desk, number):
    """One line; they run in the README's order in one folder, so a later one reads what an earlier one made."""
    line = LINES[number]
    code, out, err = run_line(line, *desk)
    if " check " in line:
        # one epoch on specks of noise is no protocol of the paper's; compared all the same, it falls below
        assert code == 2 and "another protocol" in err, f"{line}\n{out}\n{err}"
        code, out, err = run_line(f"{line} --compare", *desk)
    assert code == (1 if " check " in line else 0), f"{line}\n{out}\n{err}"
    assert "Traceback" not in err
    if "labelsmooth" in line:
        assert "Label smoothing" in out
    if "--profile paper" in line:
        assert "synthetic" not in out.lower()


def test_the_two_commands_are_what_ci_runs():
    first, second = (block.strip() for block in BLOCKS[:2])
    assert first.endswith("udcd-bench run table2") and second.endswith("bin/nox")
    assert "bin/nox$" in (ROOT / ".ci" / "run").read_text()


def test_what_the_readme_links_to_is_there():
    for target in re.findall(r"\]\((?!https://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
