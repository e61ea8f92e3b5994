"""What a record says of where a run was made."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from udcd_bench import plugins
from udcd_bench.engines.environment import _find_commit

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Calls git in a folder that stands for the checkout."""
    monkeypatch.setattr(plugins, "find_root", lambda: tmp_path)

    def call(*words):
        about = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", tmp_path, *about, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    return call


@pytest.fixture
def commit(git, tmp_path):
    """The commit of a file."""
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    return git("rev-parse", "HEAD")


def test_what_has_no_commit_has_none(git):
    assert _find_commit() == "", "no checkout"
    git("init")
    assert _find_commit() == "", "nothing committed"


def test_the_commit_of_a_checkout_and_whether_its_files_differ(commit, git, tmp_path):
    (tmp_path / "b").write_text("unknown to git")
    assert _find_commit() == commit and len(commit) == 40
    git("checkout", "--detach")
    assert _find_commit() == commit
    (tmp_path / "a").write_text("22")
    assert _find_commit() == f"{commit}+"
    git("add", "a")
    assert _find_commit() == f"{commit}+"


def test_names_of_files_in_any_encoding(commit, git, tmp_path):
    git("config", "core.quotePath", "false")
    (tmp_path / os.fsdecode(b"n\xe9")).touch()
    git("add", "-A")
    assert _find_commit() == f"{commit}+"


@pytest.mark.parametrize("variable", ["GIT_TEST_ASSUME_DIFFERENT_OWNER=1", "PATH=/proc/none"])
def test_where_git_will_not_answer_nothing_is_known(commit, variable, monkeypatch):
    assert _find_commit() == commit
    monkeypatch.setenv(*variable.split("="))
    assert _find_commit() == ""
