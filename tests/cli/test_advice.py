"""Names between commas, and commands that the program tells people to type: both survive any path."""

from __future__ import annotations

import re
import shlex
import sys

import click
import pytest

from udcd_bench import cli
from udcd_bench.cli import option_values, options


@pytest.fixture
def typed(tmp_path, own_suites, monkeypatch, capsys):
    """Types a command in an empty folder; returns (status, err)."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["udcd-bench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().err

    return run


# --- names ----------------------------------------------------------------------------------------------------


def read(*values):
    return option_values.parse_datasets(None, None, values)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (("a,b",), ("a", "b")),
        ((" a , b ,",), ("a", "b")),
        (("a", "b,c"), ("a", "b", "c")),
        (('folder:"photos, 2019"',), ("folder:photos, 2019",)),
        (('"folder:photos, 2019",digits',), ("folder:photos, 2019", "digits")),
        (('folder:"5"" disk, old",digits',), ('folder:5" disk, old', "digits")),
        ((), None),
    ],
)
def test_names_are_split_at_commas_outside_quotes(values, names):
    assert read(*values) == names


@pytest.mark.parametrize("values", [("",), (",",), ("a", ""), ('folder:"a',), ('a"',)])
def test_what_holds_no_name_or_half_a_quote_is_refused(values):
    with pytest.raises(click.BadParameter):
        read(*values)


@pytest.mark.parametrize(
    "name", ["a", "folder:a b", "folder:a,b", 'folder:a "b", c', 'folder:""', "folder:it's"]
)
def test_a_quoted_name_comes_back(name):
    assert read(f"{options.quote_name(name)},digits") == (name, "digits")


def test_a_path_with_a_comma_is_told_how_to_quote(tmp_path, monkeypatch):
    (tmp_path / "photos, 2019").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.BadParameter) as error:
        read("digits,folder:photos, 2019,aptos")
    said = str(error.value)
    assert said.startswith("folder:photos, 2019 has a comma")
    (again,) = shlex.split(said.rpartition("--datasets ")[2].removesuffix("."))
    assert read(again) == ("digits", "folder:photos, 2019", "aptos")


def test_a_variable_holds_names_with_spaces_and_the_option_may_be_repeated(typed, tmp_path, monkeypatch):
    (tmp_path / "my photos").mkdir()
    monkeypatch.setenv("UDCD_BENCH_DATASETS", "folder:my photos,digits")
    status, err = typed("compare", "table2")
    assert status == 2 and "No run in the results folder is of folder:my photos" in err
    monkeypatch.setenv("UDCD_BENCH_DATASETS", "folder:my photos,digit")
    assert "Unknown data set 'digit'" in typed("compare", "table2")[1]
    status, err = typed("compare", "table2", "--datasets", "digits", "--datasets", "ham1000")
    assert status == 2 and "Unknown data set 'ham1000'" in err


# --- advice ---------------------------------------------------------------------------------------------------

TYPED = (
    "--datasets", 'folder:"my photos, 2019",digits', "--methods=kd", "--methods", "scratch", "--set=epochs=2", "--set",
    "temperature=3", "--backbone=resnet-tiny", "--teacher-backbone=densenet-tiny", "--folds=0,2", "--seeds=2",
    "--split=grouped", "--profile=quick", "--out=other results",
)  # fmt: skip


@pytest.mark.parametrize("command", [("compare", "--with=scratch"), ("check", "--record=f.json")])
def test_advice_repeats_every_option_that_was_typed(typed, tmp_path, monkeypatch, command):
    (tmp_path / "my suite").mkdir()
    said = typed(command[0], "table2", *command[1:], *TYPED)[1]
    assert "make them with" not in said, "there is nothing to make runs from"
    (tmp_path / "my photos, 2019").mkdir()
    status, err = typed("--suite", "my suite", command[0], "table2", *command[1:], *TYPED)
    assert status == 2
    words = shlex.split(err.strip().splitlines()[-1].rpartition("make them with ")[2])
    assert words[:3] == ["udcd-bench", "--suite", str(tmp_path / "my suite")]
    made = []
    monkeypatch.setattr(cli.run, "callback", lambda **params: made.append(params))
    cli.cli.main(words[1:], standalone_mode=False)
    cli.cli.main(["run", "table2", *TYPED], standalone_mode=False)
    assert made[0] == made[1] and made[0]["datasets"] == ("folder:my photos, 2019", "digits")


def test_advice_is_short_where_little_was_typed(typed):
    assert typed("compare", "table2")[1].rstrip().endswith("make them with udcd-bench run table2")


@pytest.mark.parametrize(
    ("variable", "words", "settings"),
    [
        ("epochs=1 image_size=32", (), {"epochs": "1", "image_size": "32"}),
        ("weights=/my w.pth  epochs = 2", (), {"weights": "/my w.pth", "epochs": "2"}),
        ("epochs=1 image_size=32", ("--set=epochs=3",), {"epochs": "3", "image_size": "32"}),
        ("", ("--set=epochs=3",), {"epochs": "3"}),
        ("validation=0.3", ("--validation=.20",), {"validation": "0.2"}),
        ("validation=0.3", ("--validation=0.2", "--set=validation=0.1"), {"validation": "0.1"}),
    ],
)
def test_settings_of_the_variable_count_beside_typed_ones(monkeypatch, variable, words, settings):
    monkeypatch.setenv("UDCD_BENCH_SET", variable)
    made = []
    monkeypatch.setattr(cli.run, "callback", lambda **params: made.append(dict(params["settings"])))
    cli.cli.main(["run", "table2", *words], standalone_mode=False)
    assert made == [settings]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("train", "kd", "--datasets=digits"), "--dataset"),
        (("run", "table2", "--dataset=digits"), "--datasets"),
    ],
)  # fmt: skip
def test_each_command_names_its_own_option(typed, words, meant):
    said = typed(*words)[1]
    assert meant in re.findall(r"--\w+", said.split("No such option")[1]), said


def test_a_name_that_tables_do_not_take_is_refused_by_train_too(typed):
    for words in (("train", "scratch", "--dataset"), ("run", "table2", "--datasets")):
        assert "Unknown data set 'ham10000-official'" in typed(*words, "ham10000-official")[1]
