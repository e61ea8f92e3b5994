"""Whose network teaches a run: the Scratch run's, another row's, a stored run's or a file's; and which may not."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

import udcd_bench as ub
from support import own_runs, suites
from udcd_bench import plugins
from udcd_bench.cli import cli
from udcd_bench.engines.teachers import origins
from udcd_bench.engines.teachers.naming import name_teacher
from udcd_bench.errors import UserError
from udcd_bench.inference.export import export_run
from udcd_bench.runs import planner
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store

KD = RunSpec("kd", "aptos", "demo", "densenet-tiny")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with images, a Scratch run on another backbone, its network as a file, and a KD run."""
    home = tmp_path_factory.mktemp("lab")
    own_runs.draw(home / "skin")
    large = own_runs.train(home, backbone="resnet-tiny")
    export_run(large, home / "large.safetensors")
    return home, large, own_runs.train(home, "kd")


@pytest.fixture
def write(tmp_path, own_suites):
    """Writes method files whose teacher is given, in a suite of their own."""
    return partial(suites.write_taught, tmp_path / "mine")


def get_teacher(run):
    return run.record["spec"].get("teacher", ""), run.record["teacher_key"]


# --- rows -----------------------------------------------------------------------------------------------------


def test_a_row_that_teaches_is_made_first_and_shared(lab):
    home, _, kd = lab
    run = own_runs.train(home, "rkd", teacher="kd")
    assert get_teacher(run) == ("kd", kd.key) and "teacher kd" in run.label
    assert run.key != own_runs.train(home, "rkd").key
    assert own_runs.train(home, "rkd", teacher="scratch").key == own_runs.train(home, "rkd").key


def test_the_usual_teacher_by_name_is_no_other_spec():
    assert planner.normalize_spec(replace(KD, teacher="scratch")) == planner.normalize_spec(KD)
    assert planner.normalize_spec(replace(KD, method="udcd", teacher="kd")).teacher == ""
    taught_by_itself = planner.list_runs([replace(KD, teacher="kd")])
    assert [(s.method, s.teacher) for s in taught_by_itself] == [("scratch", ""), ("kd", ""), ("kd", "kd")]


def test_a_method_names_the_row_that_teaches_it(write, lab):
    write(mine="trained:kd")
    runs = planner.list_runs([replace(KD, method="mine", teacher_backbone="resnet-tiny")])
    assert [(s.method, s.backbone) for s in runs] == [
        ("scratch", "resnet-tiny"), ("kd", "resnet-tiny"), ("mine", "densenet-tiny"),
    ]  # fmt: skip
    assert planner.normalize_spec(replace(KD, method="mine", teacher="kd")).teacher == ""
    home, _, kd = lab
    assert get_teacher(own_runs.train(home, "mine")) == ("", kd.key)
    frame = show(home, "", "mine").frame
    assert set(frame["note"]) == {"Taught by the run of kd."} and frame["n"].eq(1).all()


@pytest.mark.parametrize(
    ("name", "value"), [("validation", "0.2"), ("n_images", 100), ("imbalance", "truncate")]
)
def test_what_tests_or_validates_has_not_taught_the_teacher_of_a_row_that_says_so(name, value):
    spec = replace(KD, dataset="synthetic-fundus", rho=2.0, hparams=((name, value),))
    teacher, student = planner.list_runs([spec])
    assert teacher.protocol == student.hparams == ((name, value),)


def test_a_ring_is_refused(write):
    write(one="trained:two", two="trained:one", alone="trained:alone")
    with pytest.raises(UserError, match=r"one.py: teacher = 'trained:two' makes a ring, two → one → two"):
        planner.list_runs([replace(KD, method="two")])
    with pytest.raises(UserError, match="alone → alone"):
        planner.normalize_spec(replace(KD, method="alone"))


def test_a_network_that_is_tested_with_another_classifier_teaches_as_it_was_tested(lab):
    home, _, _ = lab
    settings = {"epochs": 1, "hidden": 8}
    own = own_runs.train(home, "scl-ikd", settings=settings)
    from udcd_bench.engines.teachers import networks

    class Setup:
        device = torch.device("cpu")

    images = torch.rand(2, 3, 32, 32)
    teacher = networks.load_run(own.store, own.key, Setup)
    assert torch.equal(teacher.eval()(images).logits, own.network(images))
    assert teacher.width == own.network.student.width
    run = own_runs.train(home, "kd", teacher=own.key)
    assert get_teacher(run) == (f"run:{own.key}", own.key)
    export_run(own, home / "own.safetensors")
    with pytest.raises(
        UserError, match=r"is of scl-ikd, which is tested with more .*give the run's key or label"
    ):
        own_runs.train(home, "kd", teacher=str(home / "own.safetensors"))


# --- stored runs and files ------------------------------------------------------------------------------------


def test_a_run_and_the_file_of_its_network_teach_the_same(lab):
    home, large, _ = lab
    taught = own_runs.train(home, "kd", teacher_backbone="resnet-tiny")
    by_run = own_runs.train(home, "kd", teacher=large.key[:8])
    assert by_run.key == taught.key, "it is the run that the row would have made"
    by_file = own_runs.train(home, "kd", teacher=str(home / "large.safetensors"))
    assert by_file.key != taught.key and by_file.record["teacher_key"] is None
    assert by_file.record["figures"] == taught.record["figures"]
    for name, tensor in by_file.store.read_weights(by_file.key).items():
        assert (tensor == taught.store.read_weights(taught.key)[name]).all(), name
    moved = shutil.copy(home / "large.safetensors", home / "other name.safetensors")
    assert own_runs.train(home, "kd", teacher=str(moved)).key == by_file.key
    assert by_file.label.startswith("kd skin") and "teacher large.safetensors (" in by_file.label
    assert by_file.network is not None, "its own network is put together without the file"


def test_a_label_names_a_run_too(lab):
    _, large, _ = lab
    named = name_teacher(large.label, "", large.store)
    assert named == (f"run:{large.key}", "resnet-tiny", "")
    assert name_teacher("kd", "", large.store) == ("kd", "", ""), "a row is a row"


def test_a_teacher_of_another_fold_is_refused(lab):
    home, large, _ = lab
    for teacher in (large.key, str(home / "large.safetensors")):
        with pytest.raises(UserError, match=r"another part of skin .*fold 0\) than this run is \(.*fold 1\)"):
            own_runs.train(home, "kd", teacher=teacher, fold=1)


def test_a_teacher_that_has_seen_the_validation_images_is_refused(lab):
    home, large, _ = lab
    for settings in ({}, {"fraction": 0.5}):
        with pytest.raises(UserError, match=r"another part of skin .*fold 0\) .*fold 0, validation 0.3 of "):
            own_runs.train(home, "kd", teacher=large.key, settings={"validation": 0.3}, **settings)


def test_a_teacher_may_have_learned_from_fewer_images(lab):
    home, _, _ = lab
    held_out = own_runs.train(home, settings={"validation": 0.3})
    assert get_teacher(own_runs.train(home, "kd", teacher=held_out.key))[1] == held_out.key
    with pytest.raises(UserError, match=r"validation 0.3 of 100%\) .*validation 0.3 of 50%"):
        own_runs.train(home, "kd", teacher=held_out.key, settings={"validation": 0.3}, fraction=0.5)


def test_a_teacher_of_a_method_that_is_in_no_suite_is_refused(lab, write, monkeypatch):
    home, _, _ = lab
    write(mine="ema")
    run = own_runs.train(home, "mine")
    export_run(run, home / "mine.safetensors")
    monkeypatch.setattr(plugins.suites, "_ADDED_SUITES", [])
    monkeypatch.setenv("UDCD_BENCH_SUITE", "")
    plugins.find_files.cache_clear()
    for teacher in (run.key, str(home / "mine.safetensors")):  # who knows how it is tested
        with pytest.raises(UserError, match="There is no method 'mine'"):
            own_runs.train(home, "kd", teacher=teacher)


def test_the_same_fold_of_other_images_is_refused(lab, monkeypatch):
    home, large, _ = lab
    read = origins.read_run_origin
    monkeypatch.setattr(origins, "read_run_origin", lambda *a: read(*a)._replace(split_hash="0" * 16))
    with pytest.raises(
        UserError, match=r"another part of skin .*fold 0, split hash 0{16}\) than this run is"
    ):
        own_runs.train(home, "kd", teacher=large.key)


def test_a_teacher_of_other_classes_is_refused(lab, tmp_path):
    home, large, _ = lab
    shutil.copytree(home / "skin", tmp_path / "skin")
    (tmp_path / "skin" / "wart").rename(tmp_path / "skin" / "bite")
    with pytest.raises(
        UserError, match=r"knows the classes mole, scar, old, wart, and skin .* has bite, mole"
    ):
        ub.train(
            "kd", f"folder:{tmp_path / 'skin'}", home / "results", own_runs.TINY, data=home / "data",
            teacher=large.key,
        )  # fmt: skip


def test_what_is_no_teacher_is_refused(lab, tmp_path):
    home, large, _ = lab

    def refuse(match, method="kd", **options):
        with pytest.raises(UserError, match=match):
            own_runs.train(home, method, **options)

    refuse(r"--teacher kdd is no row, no file and no finished run in .*; did you mean 'kd'", teacher="kdd")
    refuse(
        r"--teacher is of methods that learn from a trained network, and udcd does not", "udcd", teacher="kd"
    )
    refuse(
        r"--teacher .* is of backbone resnet-tiny, not mobilenet-tiny; leave",
        teacher=large.key, teacher_backbone="mobilenet-tiny",
    )  # fmt: skip
    refuse(r"may be any of .*give more of the key", teacher="scratch skin")
    tensors = load_file(home / "large.safetensors")
    bare = tmp_path / "bare.safetensors"
    save_file(tensors, bare)  # without what export writes beside the tensors
    refuse(r"does not hold a network of this backbone.*give its --teacher-backbone", teacher=str(bare))
    save_file({**tensors, "head.weight": torch.zeros(2)}, bare)
    refuse(r"head.weight is none of its tensors", teacher=str(bare), teacher_backbone="resnet-tiny")
    save_file({**tensors, "neck.bias": tensors["neck.bias"] * torch.nan}, bare)
    refuse(r"NaN or infinity in neck.bias", teacher=str(bare), teacher_backbone="resnet-tiny")
    refuse(r"names a file by what it holds; give the file's path", teacher="gone.safetensors#0123456789ab")


def test_a_packed_run_teaches_nobody(lab, tmp_path):
    _, large, _ = lab
    packed = Store(tmp_path)
    packed.create()
    packed.pack_run(large.key, large.store)
    with pytest.raises(UserError, match="packed without its weights; give a run that has them"):
        name_teacher(large.key, "", packed)


# --- tables, captions and commands ----------------------------------------------------------------------------


def show(home, teacher, method="kd"):
    return ub.table(
        "table2", home / "results", methods=method, datasets=f"folder:{home / 'skin'}", data=home / "data",
        teacher=teacher, settings=own_runs.TINY,
    )  # fmt: skip


def test_a_table_takes_the_runs_of_the_teacher_that_is_named(lab):
    home, _, kd = lab
    taught = own_runs.train(home, "kd", teacher="rkd")
    tables = {teacher: show(home, teacher) for teacher in ("", "rkd", "crd")}
    ours = {teacher: table.frame.set_index("metric").loc["acc", "ours"] for teacher, table in tables.items()}
    assert ours[""] == 100 * kd.record["figures"]["mean"]["acc"]
    assert ours["rkd"] == 100 * taught.record["figures"]["mean"]["acc"]
    assert tables["crd"].frame["n"].eq(0).all(), "which taught nobody here"
    text = " ".join(repr(tables["rkd"]).split())
    assert "densenet-tiny, teacher rkd, " in text and "--teacher rkd " in tables["rkd"].sheet.command
    assert "teacher" not in tables[""].sheet.command
    assert tables["rkd"].sheet.stem.startswith("table2-kd-") and "teacher-rkd" in tables["rkd"].sheet.stem


def test_a_file_that_is_gone_is_named_as_the_runs_call_it(lab, tmp_path):
    home, _, _ = lab
    file = shutil.copy(home / "large.safetensors", tmp_path / "gone.safetensors")
    run = own_runs.train(home, "kd", teacher=str(file), settings={"kd_weight": 0.5})
    here = ub.table(
        "table2", home / "results", methods="kd", datasets=f"folder:{home / 'skin'}", data=home / "data",
        teacher=str(file), settings=own_runs.TINY | {"kd_weight": 0.5},
    )  # fmt: skip
    (tmp_path / "gone.safetensors").unlink()
    by_name = ub.table(
        "table2", home / "results", methods="kd", datasets=f"folder:{home / 'skin'}", data=home / "data",
        teacher="gone.safetensors", settings=own_runs.TINY | {"kd_weight": 0.5},
    )  # fmt: skip
    assert repr(here) == repr(by_name) and by_name.frame["n"].eq(1).all()
    text = " ".join(repr(by_name).split())
    assert (
        "teacher gone.safetensors (" in text
        and "is a file: which images it has learned from is known" in text
    )
    assert (
        run.record["made_of"]["teacher_file"]
        == own_runs.train(home, "kd", teacher=str(home / "large.safetensors")).record["made_of"][
            "teacher_file"
        ]
    )


def test_commands_name_the_teacher_as_the_option_takes_it(lab):
    places = planner.CommandPlaces(Path("d"), Path("r"), locations={"#0123456789ab": "/nets/a b.safetensors"})
    teachers = {
        "rkd": "--teacher rkd",
        "run:0123456789abcdef": "--teacher 0123456789abcdef",
        "a b.safetensors#0123456789ab": "--teacher '/nets/a b.safetensors'",
    }
    for teacher, words in teachers.items():
        assert words in planner.format_command(replace(KD, teacher=teacher), places)
    assert "--teacher" not in planner.format_command(KD, places)


def test_a_dry_run_lists_the_teachers_run_first(lab):
    home, _, _ = lab
    words = [
        "run",
        "table2",
        "--methods=rkd",
        f"--datasets=folder:{home / 'skin'}",
        "--teacher=crd",
        "--dry-run",
    ]
    words += [f"--data={home / 'data'}", f"--out={home / 'results'}", "--device=cpu"]
    words += [f"--set={name}={value}" for name, value in own_runs.TINY.items()]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    rows = [line.split()[0] for line in result.stdout.splitlines() if "skin (" in line]
    assert rows[:3] == ["scratch", "crd", "rkd"], result.output
    assert re.search(r"^rkd skin .* teacher crd fold 0", result.stdout, re.M)
    with pytest.raises(UserError, match=r"and mtg, udcd do not; leave it out\."):
        CliRunner().invoke(
            cli, [*words[:2], "--methods=mtg,udcd", "--teacher=kd", "--dry-run", f"--out={home / 'results'}"],
            catch_exceptions=False,
        )  # fmt: skip
