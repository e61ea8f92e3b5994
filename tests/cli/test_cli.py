"""The command line as typed: what it says and how it ends. Every bad input ends in one sentence and status 2."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
import sys
from collections import namedtuple

import pytest
import timm
import torch

from support import layouts, records
from udcd_bench import cli, plugins
from udcd_bench.cli.run import RUN_OPTIONS
from udcd_bench.data import workers
from udcd_bench.engines import execute, local, server
from udcd_bench.engines.events import StepDone
from udcd_bench.engines.job_queue import JobQueue, run_job
from udcd_bench.runs import planner
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import STORE_VERSION, Store
from udcd_bench.training.trainer import NotFiniteError

SMALL = ("--set=n_images=100", "--set=image_size=32", "--set=epochs=2")


def in_this_process(jobs, context, slots, notify):
    """Run the jobs as the local engine does, without its processes, so that a test can break what they use."""

    def tell(event):
        if not isinstance(event, StepDone):  # for the watch over processes alone
            notify(event)

    queue = JobQueue.from_jobs(jobs)
    while (job := queue.find_ready(set(queue.waiting))) is not None:
        del queue.waiting[job.key]
        queue.handle_event(run_job(job, context, tell), job, context.store, notify)
        queue.fail_orphans(notify)
    return queue.failed


@pytest.fixture
def typed(tmp_path, prepared_lesions, own_suites, monkeypatch, capsys):
    """Types a command in an empty folder; returns (status, out, err)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UDCD_BENCH_DATA", str(prepared_lesions))
    monkeypatch.setattr(local, "run", in_this_process)
    monkeypatch.setattr(server, "start_server", lambda: None)
    monkeypatch.setattr(workers, "count_cores", lambda: 1)  # what is drawn is drawn in this process too

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["udcd-bench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture
def refused(typed):
    """Types a command that has to be refused; returns the one sentence."""

    def run(*words):
        status, _, err = typed(*words)
        assert status == 2, err
        assert "Traceback" not in err
        lines = err.rstrip("\n").splitlines()
        assert lines[-1].startswith(("udcd-bench: ", "Error: ")), err
        assert sum(line.startswith(("udcd-bench: ", "Error: ")) for line in lines) == 1
        assert lines[-1].endswith((".", ")", "?", "…", "'")), lines[-1]
        return lines[-1]

    return run


TRAIN = ("train", "scratch", "--dataset=synthetic-lesions", "--device=cpu", *SMALL)
TABLE = ("run", "table2", "--datasets=synthetic-lesions", "--device=cpu", *SMALL)


# --- what the user can fix -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "scrach", *TRAIN[2:]), "There is no method 'scrach'; did you mean 'scratch'?"),
        ((*TABLE, "--methods=udcd,mgt"), "There is no method 'mgt'; did you mean 'mtg'?"),
        ((*TABLE, "--methods="), "--methods"),
        ((*TABLE, "--datasets="), "--datasets"),
        (("run", "tabel2"), "There is no table 'tabel2'; did you mean 'table2'?"),
        ((*TRAIN, "--profile=papr"), "There is no profile 'papr'; did you mean 'paper'?"),
        ((*TABLE, "--profile=papr"), "There is no profile 'papr'; did you mean 'paper'?"),
        ((*TABLE[:2], "--datasets=ham1000"), "Unknown data set 'ham1000'; did you mean 'ham10000'?"),
        (("train", "scratch", "--dataset=folder:nowhere"), "nowhere"),
        (("train", "scratch", "--dataset=folder:"), "needs a path"),
        (("train", "scratch"), "Missing option '--dataset'"),
        ((*TRAIN, "--split=by-lesion"), "--split"),
        ((*TRAIN, "--fold=5"), "--fold"),
        ((*TRAIN, "--fold=-1"), "--fold"),
        ((*TRAIN, "--seed=-1"), "--seed"),
        ((*TRAIN, "--fraction=0"), "--fraction"),
        ((*TRAIN, "--fraction=1.5"), "--fraction"),
        ((*TRAIN, "--fraction=nan"), "the fraction is nan"),
        ((*TRAIN, "--set", "learning_rate=nan"), "invalid learning_rate=nan"),
        ((*TRAIN, "--rho=0.5"), "--rho"),
        ((*TRAIN, "--rho=nan"), "rho is nan"),
        ((*TRAIN, "--rho=inf"), "rho is inf"),
        ((*TRAIN, "--jobs=0"), "--jobs"),
        ((*TABLE, "--folds=0,x"), "give fold numbers such as 0 or 0,1,2, or all"),
        ((*TABLE, "--folds="), "give fold numbers"),
        ((*TABLE, "--folds=5"), "0 to 4"),
        ((*TABLE, "--folds=-1"), "0 to 4"),
        ((*TABLE, "--seeds=0"), "--seeds"),
        ((*TRAIN, "--set=lambda_kl=2"), "Scratch has no hyper-parameter 'lambda_kl'"),
        (("train", "kd", *TRAIN[2:], "--set=temprature=2"), "did you mean 'temperature'?"),
        (("train", "kd", *TRAIN[2:], "--set=temperature=hot"), "invalid temperature=hot: "),
        ((*TABLE, "--methods=kd,mtg", "--set=lamda=2"), "No row (mtg, kd) has a hyper-parameter 'lamda'"),
        (("train", "udcd", *TRAIN[2:], "--set=confidence=high"), "it is one of equation, text, none"),
        ((*TRAIN, "--set", "epochs"), "give name=value"),
        ((*TRAIN, "--set", "epochs="), "'epochs=': the value is missing; give epochs=VALUE"),
        ((*TABLE, "--set=kd.temperature="), "the value is missing; give kd.temperature=VALUE"),
        *(
            ((*TABLE, f"--set={name}=2"), "a name is missing before the =")
            for name in ("", ".x", "x.", "kd.", "*.")
        ),
        ((*TRAIN, "--set", "epochs=many"), "invalid epochs=many: "),
        ((*TRAIN, "--set", "epochs=0"), "it is a count of at least 1"),
        ((*TRAIN, "--set", "image_size=8"), "32 to"),
        ((*TRAIN, "--device=cuda:99"), "torch sees"),
        ((*TRAIN, "--device=gpu"), "it is one of auto, cpu, cuda"),
        ((*TRAIN, "--device=meta"), "cpu or cuda"),
        ((*TRAIN, "--backbone=densnet121"), "timm knows no backbone 'densnet121'. Near: densenet121"),
        ((*TRAIN, "--backbone=vit_tiny_patch16_224"), "vit_tiny_patch16_224"),
        ((*TRAIN, "--set=weights=nowhere.safetensors", "--backbone=resnet18"), "there is no such file"),
        ((*TRAIN, "--set=weights=imagenet"), "add --set weights=none"),
        (("--suite=nowhere", "methods", "list"), "--suite nowhere: there is no such folder"),
        (("methods", "show", "nothing-like-it"), "There is no method 'nothing-like-it'"),
        (("status",), "results: there is no such results folder; --out names one that a run has made"),
        (("stauts",), "No such command 'stauts'"),
        (("run", "table2", "--metods=kd"), "No such option"),
    ],
    ids=lambda value: " ".join(w for w in value if w not in TRAIN[2:]) if isinstance(value, tuple) else "",
)
def test_bad_input_ends_in_one_sentence(refused, words, says):
    assert says in refused(*words)


@pytest.mark.parametrize("words", [("run", "table2"), ("train", "kd", "--dataset=ham10000")])
def test_missing_data_say_where_to_get_them_how_to_prepare_them_and_that_demo_needs_none(
    refused, words, tmp_path
):
    said = refused(*words, "--profile=paper", "--data=elsewhere")
    assert "is not prepared at 224 pixels in elsewhere" in said and "get it from" in said
    assert "`udcd-bench data prepare" in said and "--from DIR --size 224 --data elsewhere`" in said
    assert "the demo profile needs none of this" in said
    assert not (tmp_path / "results").exists(), "nothing is made for a run that cannot be"


@pytest.mark.parametrize(
    "option",
    ["--device=cuda:99", "--backbone=densnet121", "--backbone=vit_tiny_patch16_224", "--teacher-backbone=x"],
)
def test_what_does_not_exist_is_refused_before_anything_is_drawn(refused, tmp_path, option):
    refused("train", "kd", "--dataset=synthetic-fundus", "--data=new", *SMALL, option)
    assert not (tmp_path / "new").exists() and not (tmp_path / "results").exists()


def test_a_method_file_that_ends_the_program_is_named(refused, tmp_path):
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "quits.py").write_text(
        "import sys\nsys.exit(3)\nclass Method:\n    title = 'Quits'\n"
    )
    said = refused("--suite=suite", "train", "quits", *TRAIN[2:])
    assert "quits.py ends the program when it is loaded, by sys.exit(3)" in said


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_a_checkpoint_is_spoken_of_where_there_is_one(has_checkpoint, tmp_path):
    store = Store(tmp_path / "results")
    store.create()
    spec = RunSpec("scratch", "synthetic-lesions", "demo", "densenet-tiny")
    if has_checkpoint:
        store.open_checkpoint("k").save({"a": torch.zeros(1).numpy()}, {"epoch": 1})
    job = planner.Job(spec, "k", "absent", 16, records.make_inputs(spec))
    context = execute.RunContext(store, tmp_path)
    said = str(execute._explain_error(NotFiniteError("The loss is NaN."), job, context))
    assert (
        "The last checkpoint is kept" in said
    ) == has_checkpoint and "the same again: udcd-bench train" in said.lower()


def test_the_words_for_weights_are_heard_in_any_case():
    assert planner.normalize_spec(
        RunSpec("scratch", "aptos", "paper", "densenet121", protocol=(("weights", "None"),))
    ).protocol == (("weights", "none"),)


def test_a_device_that_is_not_there(refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "--device cuda: torch sees 0 CUDA devices; try --device cpu" in refused(
        *TRAIN[:3], *SMALL, "--device=cuda"
    )


def test_imagenet_weights_without_a_network(refused, monkeypatch):
    build = timm.create_model

    def create_model(name, *, pretrained, **options):
        if pretrained:
            raise ConnectionError("no network")
        return build(name, **options)

    monkeypatch.setattr(timm, "create_model", create_model)
    said = refused(*TRAIN, "--backbone=resnet18", "--set=weights=imagenet")
    assert "The ImageNet weights of resnet18 could not be had (ConnectionError)" in said
    assert "--set weights=FILE" in said and "--set weights=none" in said


@pytest.mark.slow
def test_a_damaged_cache_is_moved_aside_and_made_again(typed, prepared_lesions, tmp_path, caplog):
    data = shutil.copytree(prepared_lesions, tmp_path / "data")
    for n, name in enumerate(("images.npy", "images.npy", "manifest.json"), 1):
        (path,) = data.glob(f"*-n100-*/32/{name}")
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] if n == 1 else whole[:-1] + bytes([whole[-1] ^ 1]) if n == 2 else b"{")
        assert typed(*TRAIN, f"--data={data}", "--dry-run")[0] == 0
        (aside,) = data.glob(f"*-n100-*/.damaged-32.{n}")
        assert f"is damaged: {'' if n > 1 else name}" in caplog.text and f"moved to {aside}" in caplog.text
        assert path.read_bytes() == whole


def test_results_of_a_newer_version(refused, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "store.json").write_text(json.dumps({"version": STORE_VERSION + 1}))
    for words in (TRAIN, TABLE, ("status",)):
        assert "written by a newer udcd-bench" in refused(*words)


def test_results_that_are_a_file(refused, tmp_path):
    (tmp_path / "mine").write_text("")
    for words in (TRAIN, TABLE, ("status",)):
        assert "is a file; results go into a folder" in refused(*words, "--out=mine")
    for words in (TRAIN, TABLE):
        assert "mine is a file" in refused(*words, "--out=mine/further/below")


def test_a_full_disk(refused, monkeypatch, tmp_path):
    room, calls, fsync = [0], [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for room[0] in (0, 1, 4, 9):
        calls.clear()
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        assert "The disk is full" in refused(*TRAIN)
        assert Store(tmp_path / "results").list_keys() == []
    monkeypatch.setattr(local, "run", lambda *_: {})
    calls.clear()
    room[0] = 0
    assert "mine.runs.json could not be written" in refused(*TABLE, "--methods=scratch", "--name=mine")


def test_a_disk_too_small_for_the_images(refused, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10))
    said = refused(*TRAIN, "--data=new")
    assert "is full" in said and "choose another folder with --data" in said


def test_a_damaged_run_is_named_moved_aside_and_made_again(typed, tmp_path):
    assert typed(*TABLE, "--methods=scratch")[0] == 0
    (record,) = (tmp_path / "results" / "runs").glob("*/record.json")
    record.write_text("{")
    key = record.parent.name
    status, out, _ = typed("status")
    assert status == 0 and f"damaged      {key}" in out and "1 damaged" in out
    assert "what is stored is damaged" in typed(*TABLE, "--methods=scratch", "--dry-run")[1]
    assert typed(*TABLE, "--methods=scratch")[0] == 0 and "1 done" in typed("status")[1]
    assert (tmp_path / "results" / "runs" / ".damaged" / f"{key}.1" / "record.json").read_text() == "{"


def test_a_broken_suite_names_its_file(refused, tmp_path):
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "mine.py").write_text("class Method(:\n")
    assert "mine.py, line 1, cannot be read" in refused("--suite=suite", "train", "mine", *TRAIN[2:])


# --- what goes well -------------------------------------------------------------------------------------------


def test_train_prints_and_stores_the_record(typed, tmp_path):
    status, out, err = typed(*TRAIN)
    assert status == 0 and "1 of 1 run to make" in err
    assert "lesions (synthetic stand-in)" in out and "no published figure compares" in out
    assert "Scratch on lesions (synthetic stand-in), the last epoch, n=1:" in out
    store = Store(tmp_path / "results")
    (record,) = store.read_records()
    assert out.splitlines()[-1] == f"results/runs/{record['key']}/record.json"
    assert f"{record['figures']['mean']['acc']:.4f}" in out
    again, out_again, err = typed(*TRAIN)
    assert (again, out_again) == (0, out) and "The run is done; nothing to train." in err
    assert typed(*TRAIN, "--set=batch_size=32")[2] == err, "the profile's own value is no other run"


def test_a_run_tested_on_val_tests_those_images_and_says_so(typed, tmp_path):
    for part, n in (("train", 4), ("val", 2)):
        layouts.class_folders(tmp_path / "set" / part, ("a", "b"), n)
    words = ("--dataset=folder:set", "--test=val", f"--data={tmp_path / 'data'}", "--device=cpu")
    status, out, err = typed("train", "scratch", *words, "--set=epochs=1", "--set=image_size=32")
    assert status == 0 and re.search(
        r"Scratch on set \([0-9a-f]{4}\), own split, tested on val, the last epoch, n=1:", out
    )
    assert err.startswith("folder:set: 12 images at 32×32 pixels.\n  2 classes: a (6), b (6).\n")
    store = Store(tmp_path / "results")
    (key,) = store.list_keys()
    assert store.read_record(key)["spec"]["split"] == "paper-val"
    assert {id_.partition("/")[0] for id_ in store.read_scores(key)["ids"]} == {"val"}


def test_the_last_of_two_settings_counts(typed, tmp_path):
    assert typed(*TRAIN, "--set=epochs=3", "--set=epochs=1")[0] == 0
    (record,) = Store(tmp_path / "results").read_records()
    assert record["epochs"] == 1


def test_a_dry_run_says_what_would_run_and_why_and_runs_nothing(typed, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "run", lambda *_: pytest.fail("it ran"))
    status, out, err = typed(*TABLE, "--methods=kd,mtg", "--folds=0,1", "--dry-run")
    understood, to_make, images = err.splitlines()
    assert status == 0 and understood.startswith("synthetic-lesions: 100 drawn images of 7 classes")
    assert to_make.startswith("6 of 6 runs to make")
    assert "6 runs nobody has timed here yet" in err
    assert images == "That is 12 epochs and 960 images, counted anew in every epoch."
    assert [line.split()[0] for line in out.splitlines()] == ["mtg", "mtg", "scratch", "kd", "scratch", "kd"]
    assert all(line.endswith("not made yet") for line in out.splitlines())
    assert not (tmp_path / "results").exists()


def test_a_dry_run_knows_what_is_done_and_how_long_the_rest_takes(typed):
    typed(*TABLE, "--methods=scratch")
    status, out, err = typed(*TABLE, "--methods=scratch,mtg", "--dry-run")
    assert status == 0 and "1 of 2 runs to make" in err and "about" in err and "nobody" not in err
    assert [line.split()[-1] for line in out.splitlines()] == ["done", "yet"]


def test_a_dry_run_goes_by_what_bench_has_measured(typed, refused, tmp_path):
    def measured(methods, batch):
        about = {"backbone": "densenet-tiny", "image_size": 32, "batch": batch}
        rows = [{"method": name, "images_per_s": rate} for name, rate in methods.items()]
        (tmp_path / "bench.json").write_text(json.dumps({"ask": about, "methods": rows}))

    words = (*TABLE, "--methods=scratch,mtg,rkd", "--set=batch_size=16", "--set=image_size=32", "--dry-run")
    words = (*words, "--set=epochs=3", "--rates=bench.json", "--jobs=1", "--set=n_images=100")
    measured({"scratch": 2.0, "mtg": 1.0}, 16)
    # three epochs of four fifths of 100 images; RKD was not measured
    assert "about 6 min and 1 run nobody has timed" in typed(*words)[2]
    measured({"scratch": 2.0, "mtg": 1.0}, 32)
    assert "densenet-tiny, 32 pixels, batches of 32" in refused(*words)
    measured({"scratch": 0.0}, 16)
    assert "--rates bench.json" in refused(*words)


def test_a_failed_run_ends_with_status_1_and_a_table_that_shows_it(typed, monkeypatch):
    monkeypatch.setattr(local, "run", lambda jobs, *_: {job.key: "ValueError: boom" for job in jobs})
    status, out, _ = typed(*TABLE, "--methods=scratch")
    assert status == 1 and "ValueError: boom" in out
    assert typed(*TRAIN)[0] == 1


def test_an_interruption_says_how_to_go_on(typed, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "run", interrupted)
    words = (*TRAIN, "--out=my results")
    status, _, err = typed(*words)
    assert status == 130 and "Traceback" not in err
    assert err.splitlines()[-1].endswith(
        "go on with: udcd-bench " + " ".join(words).replace("--out=my results", "'--out=my results'")
    )


def test_an_error_of_ours_is_not_passed_off_as_the_users(typed, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(local, "run", broken)
    monkeypatch.setattr(sys, "argv", ["udcd-bench", *TRAIN])
    with pytest.raises(OSError, match="Input/output"):
        cli.main()


def test_status_counts(typed, tmp_path):
    store = Store(tmp_path / "results")
    store.create()
    assert typed("status")[1] == "results: no runs yet.\n"
    typed(*TRAIN)
    spec = RunSpec("kd", "digits", "demo", "densenet-tiny")
    store.record_failure("k", spec, "ValueError: boom", "")
    status, out, _ = typed("status")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == f"failed       {'k':16}  {spec.format_label()}  ValueError: boom"
    (key,) = store.list_keys()
    assert lines[1].startswith(f"done         {key}  scratch synthetic-lesions densenet-tiny fold 0")
    assert "acc " in lines[1] and lines[-1] == "results: 1 failed, 1 done."


def test_methods_are_listed(typed, tmp_path):
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "mine.py").write_text("class Method:\n    title = 'Mine'\n    citation = 'Me, 2024'\n")
    status, out, _ = typed("--suite", suite, "methods", "list")
    assert status == 0
    listed = {line.split()[0] for line in out.splitlines()[1:]}
    assert listed == set(plugins.list_names("methods")) and "mine" in listed
    status, out, _ = typed("methods", "show", "kd")
    assert status == 0 and "Hinton" in out and "temperature" in out and "Differs from" in out


def test_options_are_heard_in_the_environment(typed, monkeypatch, tmp_path):
    monkeypatch.setattr(local, "run", lambda *_: {})
    monkeypatch.setenv("UDCD_BENCH_OUT", str(tmp_path / "there"))
    monkeypatch.setenv("UDCD_BENCH_METHODS", "scratch")
    status, out, _ = typed(*TABLE)
    assert status == 0 and str(tmp_path / "there" / "demo" / "table2-scratch") in out and "MTG" not in out


def test_run_and_train_share_their_options():
    run, train = ({option.name for option in cli.cli.commands[name].params} for name in ("run", "train"))
    assert {"data", "device", "jobs", "out", "profile"} <= run & train
    assert len(run & train) >= len(RUN_OPTIONS)


def test_version_and_help(typed):
    assert typed("--version")[1].startswith("udcd-bench, version ")
    status, out, _ = typed("--help")
    assert status == 0 and "udcd-bench run table2" in out


@pytest.mark.slow
def test_the_lines_of_a_dry_run_make_the_runs_it_plans(typed, refused, tmp_path):
    words = [*TABLE, "--methods=kd,mtg", "--seeds=2"]
    lines = typed(*words, "--dry-run", "--format=commands")[1].splitlines()
    assert [shlex.split(line)[2] for line in lines] == ["mtg", "mtg", "scratch", "kd", "scratch", "kd"]
    for line in lines:
        assert typed(*shlex.split(line)[1:])[0] == 0
    assert typed(*words, "--dry-run", "--format=commands")[1] == ""
    assert "6 of 6" not in typed(*words)[2] and len(list(Store(tmp_path / "results").read_records())) == 6
    assert "--dry-run" in refused(*words, "--format=commands")


def test_deterministic_operations_are_switched_on_and_change_nothing_on_a_cpu(typed, tmp_path):
    try:
        for words in ((), ("--deterministic",)):
            assert typed(*TRAIN, *words, f"--out=out{len(words)}")[0] == 0
            assert torch.are_deterministic_algorithms_enabled() == bool(words)
            assert torch.backends.cudnn.benchmark != bool(words)
    finally:
        torch.use_deterministic_algorithms(False)
    stores = [Store(tmp_path / name) for name in ("out0", "out1")]
    (plain,), (again,) = (list(store.read_records()) for store in stores)
    assert plain["key"] == again["key"] and plain["files"]["scores.npz"] == again["files"]["scores.npz"]
    assert again["environment"]["deterministic"] and plain["environment"]["deterministic"]
