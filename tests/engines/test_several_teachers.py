"""Several teachers of one run: rows, stored runs and files as one list, their keys, their names, and who is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

import udcd_bench as ub
from support import own_runs, records, suites
from udcd_bench.artefacts import unneeded
from udcd_bench.cli import cli
from udcd_bench.engines.events import RunFailed
from udcd_bench.engines.job_queue import JobQueue
from udcd_bench.engines.naming import NameResolver
from udcd_bench.engines.teachers.naming import name_teachers
from udcd_bench.errors import UserError
from udcd_bench.inference.export import export_run
from udcd_bench.runs import names, planner
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store

KD = RunSpec("kd", "aptos", "demo", "densenet-tiny")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with images, Scratch and RKD runs, and a network of another backbone as a file."""
    home = tmp_path_factory.mktemp("lab")
    own_runs.draw(home / "skin")
    rkd = own_runs.train(home, "rkd")
    scratch = own_runs.train(home)
    large = own_runs.train(home, backbone="resnet-tiny")
    export_run(large, home / "large.safetensors")
    return home, scratch, rkd, large


@pytest.fixture
def write(tmp_path, own_suites):
    """Writes method files whose teachers are given, in a suite of their own."""
    return partial(suites.write_taught, tmp_path / "mine")


# --- what is planned ------------------------------------------------------------------------------------------


def test_rows_that_teach_are_made_first_in_whichever_order_they_are_named():
    for teacher in ("rkd/crd", "crd/rkd"):
        runs = planner.list_runs([replace(KD, teacher=teacher)])
        assert [(s.method, s.teacher) for s in runs] == [
            ("scratch", ""), ("crd", ""), ("rkd", ""), ("kd", "crd/rkd")
        ]  # fmt: skip
    assert planner.normalize_spec(replace(KD, method="mtg", teacher="crd/rkd")).teacher == ""


def test_a_method_names_several_rows(write):
    write(mine=["trained:rkd", "trained"], others=("trained", "trained:mine"))
    mine = planner.normalize_spec(replace(KD, method="mine"))
    assert [s.method for s in planner.list_runs([replace(KD, method="others")])] == [
        "scratch", "rkd", "mine", "others",
    ]  # fmt: skip
    assert planner.normalize_spec(replace(mine, teacher="scratch/rkd")) == mine, "as it declares"
    assert planner.normalize_spec(replace(mine, teacher="rkd")).teacher == "rkd"
    shown = CliRunner().invoke(cli, ["methods", "list"]).stdout
    assert "taught by rkd + scratch" in shown and "taught by scratch + mine" in shown
    assert "trained:rkd, trained\n" in CliRunner().invoke(cli, ["methods", "show", "mine"]).stdout


def test_a_ring_through_one_of_several_is_refused(write):
    write(one=["trained", "trained:two"], two=["trained:rkd", "trained:one"])
    with pytest.raises(UserError, match=r"two.py: teacher = 'trained:one' makes a ring, one → two → one"):
        planner.list_runs([replace(KD, method="one")])


def test_a_run_waits_for_all_its_teachers_and_fails_with_any(tmp_path):
    store, notes = Store(tmp_path), []
    jobs = planner.plan([replace(KD, teacher="crd/rkd")], store, records.make_inputs)
    by_method = {job.spec.method: job for job in jobs}
    student, crd, rkd = (by_method[name] for name in ("kd", "crd", "rkd"))
    assert set(student.teacher_keys) == {crd.key, rkd.key}
    queue = JobQueue({}, {student.key: student})
    for left in ({crd.key}, {rkd.key}, {crd.key, rkd.key}):
        assert queue.find_ready(left) is None
    assert queue.find_ready(set()) is student
    assert JobQueue.from_jobs(jobs).waiting.keys() - {student.key} == set(
        list(JobQueue.from_jobs(jobs).waiting)[:3]
    )
    queue.failed = {rkd.key: "no"}
    queue.fail_orphans(notes.append)
    assert notes == [RunFailed(student.key, "its teacher's run failed")]


def test_keys_hold_every_teacher_and_no_order(tmp_path):
    def plan(teacher):
        return planner.plan([replace(KD, teacher=teacher)], Store(tmp_path), records.make_inputs)[-1]

    several = {teacher: plan(teacher) for teacher in ("", "crd", "rkd", "crd/rkd", "crd/scratch")}
    assert len({job.key for job in several.values()}) == 5
    assert plan("rkd/crd").key == several["crd/rkd"].key
    assert several["crd"].inputs.teacher_keys == () and several["crd/rkd"].inputs.teacher_key == ""
    run = several["crd/rkd"].teacher_keys[0]
    with pytest.raises(UserError, match=rf"Two teachers of kd are one run, {run}; name each teacher once\."):
        plan(f"crd/rkd/run:{run}")


# --- what is typed and shown ----------------------------------------------------------------------------------


def test_what_is_typed_is_split_at_commas(lab):
    home, _, rkd, large = lab
    named = name_teachers(f"scratch, {rkd.key[:9]},{home / 'large.safetensors'}", "", large.store)
    parts = names.split_teachers(named.name)
    assert {"scratch", f"run:{rkd.key}"} < set(parts) and parts == sorted(parts)
    (path,) = named.paths.values()
    assert path == str(home / "large.safetensors") and named.backbone == ""
    assert name_teachers(named.name, "", large.store).name == named.name, "a spec's names stay"
    comma = home / "kd,rkd.safetensors"
    comma.write_bytes((home / "large.safetensors").read_bytes())
    assert name_teachers(str(comma), "", large.store).name.startswith("kd,rkd.safetensors#")
    resolver = NameResolver(home / "data", store=large.store)
    once = resolver.resolve_spec(replace(KD, teacher=str(comma)))
    assert resolver.resolve_spec(once) == once and once.teacher_backbone == "resnet-tiny"


def test_who_is_no_teacher_or_two_is_refused(lab, tmp_path):
    home, _, rkd, large = lab
    file = home / "large.safetensors"
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(file.read_bytes())

    def refuse(match, teacher, **options):
        before = large.store.list_keys()
        with pytest.raises(UserError, match=match):
            own_runs.train(home, options.pop("method", "kd"), teacher=teacher, **options)
        assert large.store.list_keys() == before, "before anything is trained"

    refuse(r"--teacher kdd is no row, no file and no finished run", "scratch,kdd")
    refuse(r"--teacher , is no row, no file and no finished run", ",")
    refuse(r"--teacher rkd, is no row, no file and no finished run", ["rkd", ""])
    rkd_file = tmp_path / "rkd.safetensors"
    export_run(rkd, rkd_file)
    refuse(
        rf"Two teachers are one network, run {rkd.key} and a file of it; name each", f"{rkd.key},{rkd_file}"
    )
    with pytest.raises(UserError, match=r"Two teachers are one network"):
        own_runs.train(home, "kd", teacher=f"rkd,{rkd_file}")  # known once the row's run is there
    refuse(r"--teacher rkd,crd,rkd names rkd twice; name each teacher once\.", "rkd,crd,rkd")
    refuse(rf"names {copy} twice; name each", f"{file},{copy}")
    refuse(rf"Two teachers of kd are one run, {rkd.key}", f"rkd,{rkd.key}")
    refuse(
        r"--teacher-backbone resnet-tiny is of none of the teachers .*, all of which say theirs; leave it out\.",
        f"{rkd.key},{large.key}",
        teacher_backbone="resnet-tiny",
    )
    for teacher in (f"scratch,{large.key}", f"scratch,{file}"):
        refuse(r"was trained on another part of skin .*fold 0\) than this run", teacher, fold=1)
    refuse(
        r"^rkd: it reads the teacher's pooled, and several .*; leave the row out, or give it one teacher\.",
        "scratch,crd",
        method="rkd",
    )


def test_commands_and_captions_name_all_teachers():
    places = planner.CommandPlaces(Path("d"), Path("r"), locations={"#0123456789ab": "/nets/a.safetensors"})
    spec = replace(KD, teacher="a.safetensors#0123456789ab/rkd/run:0123456789abcdef")
    words = planner.format_command(spec, places)
    assert "--teacher /nets/a.safetensors,rkd,0123456789abcdef" in words
    assert "teachers a.safetensors (0123) + rkd + run 0123456789abcdef fold 0" in spec.format_label()
    renamed = replace(spec, teacher="rkd/run:0123456789abcdef/z.safetensors#0123456789ab")
    assert renamed == spec and hash(renamed) == hash(spec)


# --- what is made ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught(lab):
    """KD as taught by two rows' runs."""
    return own_runs.train(lab[0], "kd", teacher="rkd,scratch")


def test_a_run_is_taught_by_all(lab, taught):
    home, scratch, rkd, _ = lab
    made_of = taught.record["made_of"]
    assert made_of["teacher_keys"] == sorted([scratch.key, rkd.key]) and taught.record["teacher_key"] is None
    assert taught.record["spec"]["teacher"] == "rkd/scratch" and "teachers rkd + scratch" in taught.label
    assert own_runs.train(home, "kd", teacher=["scratch", "rkd"]).key == taught.key
    assert own_runs.train(home, "kd", teacher=f"{scratch.key},rkd").key == taught.key, (
        "the runs of those rows"
    )
    alone = own_runs.train(home, "kd", teacher="rkd")
    figures = {run.key: run.record["figures"] for run in (taught, alone, own_runs.train(home, "kd"))}
    assert len(figures) == 3
    assert unneeded._list_teachers({taught.key}, {taught.key: taught.record}) == {scratch.key, rkd.key}
    assert taught.network is not None, "its own network is put together without its teachers"


def test_runs_and_files_of_other_backbones_teach_beside_rows(lab):
    home, _, rkd, large = lab
    by_file = own_runs.train(home, "kd", teacher=f"rkd,{home / 'large.safetensors'}")
    (file,) = by_file.record["made_of"]["teacher_files"]
    assert file[1] == "resnet-tiny" and by_file.record["made_of"]["teacher_keys"] == [rkd.key]
    by_run = own_runs.train(home, "kd", teacher=f"rkd,{large.key}")
    assert by_run.key != by_file.key and by_run.record["made_of"].keys().isdisjoint({"teacher_files"})
    for name, tensor in by_run.store.read_weights(by_run.key).items():
        other = by_file.store.read_weights(by_file.key)[name]
        assert (tensor == other).all(), f"{name}: a sum of two is the same in either order"


def test_a_table_takes_the_runs_that_all_of_them_have_taught(lab, taught):
    home, *_ = lab
    table = ub.table(
        "table2", home / "results", methods="kd", datasets=f"folder:{home / 'skin'}", data=home / "data",
        teacher=["scratch", "rkd"], settings=own_runs.TINY,
    )  # fmt: skip
    with pytest.raises(
        UserError, match=r"is no teacher; give a row, a run or a file as text, or a list of these\."
    ):
        ub.table("table2", home / "results", teacher=[home])
    with pytest.raises(UserError, match=r"is no teacher; give a row"):
        own_runs.train(home, "kd", teacher=home)
    ours = table.frame.set_index("metric").loc["acc", "ours"]
    assert ours == 100 * taught.record["figures"]["mean"]["acc"]
    assert "densenet-tiny, teachers rkd + scratch, " in " ".join(repr(table).split())
    assert "--teacher rkd,scratch " in table.sheet.command and "teacher-rkd" in table.sheet.stem


def test_the_table_of_teachers_has_no_row_for_several(lab):
    home, *_ = lab
    rows = ("kd", "scratch:backbone=teacher")
    options = {"datasets": f"folder:{home / 'skin'}", "data": home / "data", "settings": own_runs.TINY}
    one, several = (
        ub.table("teachers", home / "results", methods=rows, teacher=teacher, **options)
        for teacher in ("rkd", "rkd,scratch")
    )
    assert "The teacher itself" in repr(one) and "The teacher itself" not in repr(several)
    assert "--teacher rkd,scratch " in several.sheet.command


def test_a_file_that_is_gone_is_named_among_several(lab, tmp_path):
    home, *_ = lab
    file = tmp_path / "gone.safetensors"
    file.write_bytes((home / "large.safetensors").read_bytes())
    run = own_runs.train(home, "kd", teacher=f"rkd,{file}", settings={"kd_weight": 0.5})
    file.unlink()
    table = ub.table(
        "table2", home / "results", methods="kd", datasets=f"folder:{home / 'skin'}", data=home / "data",
        teacher="gone.safetensors,rkd", settings=own_runs.TINY | {"kd_weight": 0.5},
    )  # fmt: skip
    assert table.frame.set_index("metric").loc["acc", "ours"] == 100 * run.record["figures"]["mean"]["acc"]
    assert "The teacher gone.safetensors (" in " ".join(repr(table).split())


def test_a_dry_run_lists_all_teachers_and_refuses_before_it_plans(lab):
    home, *_ = lab
    words = [
        "train",
        "kd",
        f"--dataset=folder:{home / 'skin'}",
        "--teacher=crd,rkd",
        "--dry-run",
        "--device=cpu",
    ]
    words += [f"--data={home / 'data'}", f"--out={home / 'results'}"]
    words += [f"--set={name}={value}" for name, value in own_runs.TINY.items()]
    shown = CliRunner().invoke(cli, words, catch_exceptions=False).stdout
    rows = [line.split()[0] for line in shown.splitlines() if "skin (" in line]
    assert rows == ["scratch", "crd", "rkd", "kd"] and "teachers crd + rkd fold 0" in shown
    with pytest.raises(UserError, match=r"^rkd: it reads the teacher's pooled"):
        CliRunner().invoke(cli, [words[0], "rkd", *words[2:]], catch_exceptions=False)


def test_a_method_that_names_several_says_so_below_its_table(lab, write):
    write(mine=["trained:rkd", "trained"])
    home, scratch, rkd, _ = lab
    run = own_runs.train(home, "mine")
    assert run.record["made_of"]["teacher_keys"] == sorted([scratch.key, rkd.key])
    table = ub.table(
        "table2", home / "results", methods="mine", datasets=f"folder:{home / 'skin'}", data=home / "data",
        settings=own_runs.TINY,
    )  # fmt: skip
    assert set(table.frame["note"]) == {"Taught by the runs of rkd and scratch."}
