"""docs/reproduction.md: its commands are typed on a copy of ``evidence/``, and its tables are what they write."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from udcd_bench import plugins
from udcd_bench.cli import cli
from udcd_bench.render import picture, plots

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```console\n(.*?)```", PAGE, re.S) for line in block.splitlines()]
ROWS = [line for line in PAGE.splitlines() if re.match(r"\| [^|]+ \| [*\d]", line)]
"""Lines of tables that hold figures."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the page's commands print, and the folder that they are typed in."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(ROOT / "evidence", folder / "evidence")
    printed = {}
    for command in COMMANDS:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for module in (picture, plots):  # fewer dots, since nobody looks at them here
                patch.setattr(module, "DPI", 50)
            # a command that names a suite is to name it for itself
            patch.setattr(plugins.suites, "_ADDED_SUITES", [])
            patch.setenv("UDCD_BENCH_SUITE", "")
            plugins.find_files.cache_clear()
            done = CliRunner().invoke(cli, shlex.split(command)[1:], standalone_mode=False)
        plugins.find_files.cache_clear()
        assert done.exception is None, (command, done.exception)
        printed[command] = done.stdout
    return printed, folder


def test_each_command_makes_what_the_page_says(made):
    printed, folder = made
    assert len(printed) == len(COMMANDS) >= 5
    written = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("evidence/lite/*.md"))
    assert len(ROWS) > 30
    assert set(ROWS) <= set(written.splitlines())


def test_the_figures_of_its_sentences_are_printed(made):
    printed, _ = made
    compare = next(text for command, text in printed.items() if " compare " in command)
    lines = re.findall(r"UDCD +[\d.]+ +[\d.]+ +(\S+) \[(\S+), (\S+)\] n=", compare)
    for difference, low, high in (lines[0], lines[len(lines) // 2]):
        for figure in (difference.lstrip("-"), low, high):
            assert figure.replace("-", "−") in PAGE
    gradients = next(text for command, text in printed.items() if " gradients " in command)
    (share,) = re.findall(r"UDCD on APTOS 2019: CRA, eq\. 5, (\d+) %", " ".join(gradients.split()))
    assert f"({share} %)" in PAGE
