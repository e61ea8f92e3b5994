"""What a command says of one's own data, and refuses, before anything trains; and a class that nothing tests."""

from __future__ import annotations

import re

import numpy as np
import pytest
from click.testing import CliRunner

from support import layouts, tables
from support import records as make
from udcd_bench import plugins
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.cli import cli
from udcd_bench.engines import local
from udcd_bench.errors import UserError
from udcd_bench.runs.results import load_results
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store
from udcd_bench.stats import metrics

SMALL = ("--set=epochs=1", "--set=image_size=32", "--set=batch_size=8", "--device=cpu")
VERBS = (("run", "table2", "--methods=scratch"), ("plot", "tsne", "--methods=scratch"))


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Types a command in a folder with pictures; a run that starts fails the test. Returns (status, out, err)."""
    monkeypatch.chdir(tmp_path)

    def refuse(*_):
        raise AssertionError("something trains")

    monkeypatch.setattr(local, "run", refuse)

    def typed(*words):
        done = CliRunner().invoke(cli, [*words, *SMALL])
        if isinstance(done.exception, UserError):
            return 2, done.stdout, done.stderr + str(done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.stdout, done.stderr

    return typed


def commands(dataset, *words):
    """Every command that trains, on this set."""
    yield ("train", "scratch", f"--dataset={dataset}", *words)
    for verb in VERBS:
        yield (*verb, f"--datasets={dataset}", *words)


def make_parts(root, **n):
    """A folder of parts, each of two classes with n different pictures in each."""
    for part, count in n.items():
        layouts.class_folders(root / part, ("a", "b"), count)
        for i, path in enumerate(sorted((root / part).rglob("*.png"))):
            path.write_bytes(layouts.encode(layouts.picture(1000 * len(part) + ord(part[0]) + 7 * i), "PNG"))


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_set_without_a_test_part_is_refused_by_every_command(invoke, tmp_path, dry):
    make_parts(tmp_path / "set", train=4, val=2)
    layouts.medmnist_file(tmp_path / "data" / "emptytest.npz", (40, 10, 0))
    for dataset in ("folder:set", "medmnist:emptytest"):
        for words in commands(dataset, *dry):
            status, _, err = invoke(*words)
            assert (
                status == 2
                and f"{dataset} has train and val and no test; add --test val to test on val" in err
            )


def test_a_missing_compiler_is_told_before_anything_is_prepared(invoke, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    for words in commands("digits", "--set=compile=true"):
        status, _, err = invoke(*words)
        assert status == 2 and not (tmp_path / "data").exists()
        assert "compile=true needs the C++ compiler no-such-compiler, which is not here; install it" in err
    monkeypatch.delenv("CXX")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert "Python's headers (Python.h)" in invoke(*words)[2]
    status, out, _ = invoke(*words, "--dry-run")
    assert status == 0 and "digits" in out, "what is planned here may be made elsewhere"


def test_val_tests_where_it_is_asked_to_and_is_called_so(invoke, tmp_path):
    make_parts(tmp_path / "set", train=4, val=2)
    for words in commands("folder:set", "--test=val", "--dry-run"):
        status, out, err = invoke(*words)
        assert status == 0 and re.search(r"set \([0-9a-f]{4}\) densenet-tiny tested on val fold 0", out)
        assert "Own split, tested on val: 8 training and 4 test images." in err
    status, out, err = invoke(*next(commands("folder:set", "--test=val", "--dry-run", "--format=commands")))
    assert status == 0 and "--test val" in out and "2 classes: a (6), b (6)." in err
    status, _, err = invoke(*VERBS[0], "--datasets=folder:set", "--test=val", "--split=both")
    assert status == 2 and "--split both says which images test" in err


def test_a_fold_that_is_not_there_is_refused(invoke, tmp_path):
    make_parts(tmp_path / "set", train=4, test=2)
    for words in (("train", "scratch", "--dataset=folder:set", "--fold=1"),
                  (*VERBS[0], "--datasets=folder:set", "--folds=0,1", "--dry-run")):  # fmt: skip
        status, _, err = invoke(*words)
        assert status == 2 and "folder:set comes with a split of its own, so there is only fold 0" in err


def test_fewer_groups_than_folds_are_refused(invoke, tmp_path):
    layouts.class_folders(tmp_path / "im", ("a", "b"), 6)
    rows = [f"im/{c}/image {i} é'.png,{c},site{i % 3}" for c in "ab" for i in range(6)]
    (tmp_path / "sites.csv").write_text("\n".join(["path,label,group", *rows]) + "\n")
    for words in (
        *commands("folder:sites.csv", "--split=grouped"),
        *commands("folder:sites.csv", "--split=grouped"),
    ):
        status, _, err = invoke(*words)
        assert status == 2 and "folder:sites.csv has 3 groups and 5 folds need at least 5" in err


def write_patients(root, column="patient_id", name="labels.csv", each=2):
    """A CSV of 24 images of two classes, so many of each patient."""
    rows = []
    for c in "ab":
        for i in range(12):
            picture = layouts.encode(layouts.picture(100 * ord(c) + i), "PNG")
            layouts.write(root / "im" / c / f"{i}.png", picture)
            rows.append(f"im/{c}/{i}.png,{c},{c}{i // each}")
    return layouts.write(root / name, "\n".join([f"path,label,{column}", *rows]) + "\n")


def test_images_with_groups_are_divided_by_group_where_nothing_is_said(invoke, tmp_path):
    """No patient on both sides, and the command that is printed makes the same run."""
    write_patients(tmp_path / "derm")
    for words in commands("folder:derm/labels.csv", "--dry-run"):
        status, out, err = invoke(*words)
        assert status == 0 and re.search(r"derm \([0-9a-f]{4}\) densenet-tiny grouped fold 0", out)
        assert "Split grouped, 5 folds by group: fold 0, " in err
        assert "12 groups of 2 or more images by patient_id, 24 images in all." in err and "Up to" not in err
    first = next(commands("folder:derm/labels.csv", "--dry-run", "--format=commands"))
    assert "--split grouped" in invoke(*first)[1]
    by_image = next(commands("folder:derm/labels.csv", "--split=paper", "--dry-run", "--format=commands"))
    status, out, err = invoke(*by_image)
    assert "--split paper" in out and re.search(r"Up to \d test images of split paper have a group", err)


def test_a_column_is_named_and_the_set_too(invoke, tmp_path):
    write_patients(tmp_path / "derm", "ward", each=1)
    status, out, err = invoke(
        *VERBS[0], "--datasets=folder:derm/labels.csv@skin", "--group-column=ward", "--dry-run"
    )
    assert status == 0 and re.search(r"scratch skin \([0-9a-f]{4}\) densenet-tiny grouped fold 0", out)
    assert "groups are those of the column ward, by --group-column" in err
    status, _, err = invoke(*VERBS[0], "--datasets=digits", "--group-column=ward", "--dry-run")
    assert status == 2 and "--group-column is for images of your own" in err


def test_a_split_by_group_of_images_without_groups_is_refused(invoke, tmp_path):
    make_parts(tmp_path / "all", set=6)
    for words in commands("folder:all/set", "--split=grouped", "--dry-run"):
        status, _, err = invoke(*words)
        assert (
            status == 2
            and "folder:all/set has no groups, so --split grouped would divide image by image" in err
        )
    status, out, _ = invoke(*next(commands("folder:all/set", "--dry-run")))
    assert status == 0 and "grouped" not in out


def test_data_sets_of_two_defaults_ask_for_the_split(invoke, tmp_path):
    write_patients(tmp_path / "derm")
    words = (*VERBS[0], "--datasets=digits,folder:derm/labels.csv", "--dry-run")
    status, _, err = invoke(*words)
    assert (
        status == 2 and "has groups (patient_id) and digits is divided by image where nothing is said" in err
    )
    assert invoke(*words, "--split=grouped")[0] == 0


# --- a class without a test image ---------------------------------------------------------------------------------


def store_untested(out, ask, *, counted):
    """Runs of three classes, the third without a test image; ``counted``: their records say so themselves."""
    table, store = plugins.load_class("tables", "table2")(), Store(out)
    labels = np.arange(40) % 2
    for spec in table.list_runs(ask):
        scores = np.random.default_rng(spec.fold).normal(0, 1, (2, 40, 3)).astype(np.float32)
        counts = {"n_test_by_class": [20, 20, 0]} if counted else {}
        record = make.record(spec, n_test=40, **counts)
        record["figures"] = metrics.summarize_epochs(scores, labels)
        make.store_run(store, record, make.arrays(scores, labels))
    return table, load_results(store)


@pytest.mark.slow
@pytest.mark.parametrize("counted", [True, False], ids=["by the record", "by the scores"])
def test_every_form_of_a_table_says_over_how_many_classes_it_averages(tmp_path, counted):
    ask = TableRequest(methods=("scratch",), datasets=("digits",), folds=(0, 1), split="grouped")
    table, results = store_untested(tmp_path, ask, counted=counted)
    rendered = table.render(ask, results)
    sentence = "c has no test image in folds 0, 1: macro figures are over 2 of 3 classes there."
    assert sentence in " ".join(rendered.text.split())
    by_ending = {path.suffix: path for path in rendered.files}
    assert sentence in by_ending[".tex"].read_text() and sentence in by_ending[".md"].read_text()
    assert set(tables.read_csv(by_ending[".csv"])["note"]) == {sentence}
    for command in (["check"], ["compare", "--with=scratch"]):
        words = [
            "table2",
            "--methods=scratch,kd",
            "--datasets=digits",
            "--split=grouped",
            f"--out={tmp_path}",
        ]
        assert sentence in CliRunner().invoke(cli, [*command, *words]).stderr
    figure = plugins.load_class("figures", "confusion")()
    assert f": {sentence}" in " ".join(figure.render(ask, results).text.split())


def test_a_table_of_all_classes_says_nothing(tmp_path):
    ask, table = (
        TableRequest(methods=("scratch",), datasets=("digits",)),
        plugins.load_class("tables", "table2")(),
    )
    (spec,) = table.list_runs(ask)
    make.finish(Store(tmp_path), spec)
    assert "no test image" not in table.render(ask, load_results(Store(tmp_path))).text


def test_a_split_on_val_stays_apart_from_the_one_on_test(tmp_path):
    on_test = RunSpec("scratch", "digits", "demo", "densenet-tiny")
    on_val = RunSpec("scratch", "digits", "demo", "densenet-tiny", split="paper-val")
    assert on_val.derive_seed_for("network") == on_test.derive_seed_for("network"), "the same training"
    store = Store(tmp_path)
    make.finish(store, on_val)
    table = plugins.load_class("tables", "table2")()
    ask = TableRequest(methods=("scratch",), datasets=("digits",), split="paper-val")
    rendered = table.render(ask, load_results(store))
    text = " ".join(rendered.text.split())
    assert "split paper, tested on val, fold 0" in text and "200 validation images" in text.replace(
        "60 v", "200 v"
    )
    assert {path.name.split(".")[0] for path in rendered.files} == {"table2-scratch-digits-paper-val"}
    assert (
        "not run"
        in table.render(TableRequest(methods=("scratch",), datasets=("digits",)), load_results(store)).text
    )
