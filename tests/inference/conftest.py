"""A results folder with a few runs on one's own images, made once; tests only read it."""

from __future__ import annotations

import pytest

from support import own_runs


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """``skin``, and ``results`` with two folds of Scratch and one of SCL-IKD, which has a head of its own."""
    folder = tmp_path_factory.mktemp("home")
    own_runs.draw(folder / "skin")
    for fold in (0, 1):
        own_runs.train(folder, fold=fold)
    own_runs.train(folder, "scl-ikd")
    return folder


@pytest.fixture(scope="session")
def runs(home):
    """The runs by method and fold; they are there already."""
    made = {("scratch", fold): own_runs.train(home, fold=fold) for fold in (0, 1)}
    return made | {("scl-ikd", 0): own_runs.train(home, "scl-ikd")}


@pytest.fixture
def typed(home, monkeypatch, capfd):
    """Types a command in ``home``; returns (status, standard output, standard error)."""
    import sys

    from udcd_bench import cli

    monkeypatch.chdir(home)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["udcd-bench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err, err
        return ended.value.code, out, err

    return run
