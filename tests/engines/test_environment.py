"""What a record says of where a run was made."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from udcd_bench import plugins
from udcd_bench.engines.environment import _find_commit


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_the_commit_of_a_checkout_and_whether_its_files_differ(tmp_path, monkeypatch):
    def git(*words):
        about = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", tmp_path, *about, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    monkeypatch.setattr(plugins, "find_root", lambda: tmp_path)
    assert _find_commit() == "", "no checkout"
    git("init")
    assert _find_commit() == "", "nothing committed"
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "a")
    commit = git("rev-parse", "HEAD")
    (tmp_path / "b").write_text("unknown to git")
    assert _find_commit() == commit and len(commit) == 40
    (tmp_path / "a").write_text("22")
    assert _find_commit() == f"{commit}+"
