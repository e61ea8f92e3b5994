"""The benchmark: what its floor is made of, that step and floor are paired, and what it prints and writes."""

from __future__ import annotations

import functools
import importlib
import json
import os

import pytest
import torch
from click.testing import CliRunner
from torch.testing import assert_close

from udcd_bench import losses, plugins
from udcd_bench.bench import cost, ratio, reference_forms
from udcd_bench.bench.step import WARM_UP_ROUNDS, BenchConfig, Clock, TimedMethod, make_random_data
from udcd_bench.cli import cli
from udcd_bench.engines.server import ALLOCATOR_ENV
from udcd_bench.runs.profiles import TINY_DENSENET

pytestmark = pytest.mark.slow

command = importlib.import_module("udcd_bench.cli.bench")  # its package holds the command by that name
CPU = torch.device("cpu")
METHODS = plugins.list_names("methods")


def ask(*methods, **changes):
    small = {
        "backbone": TINY_DENSENET,
        "image_size": 32,
        "batch": 8,
        "device": "cpu",
        "rounds": 3,
        "n_train": 64,
    }
    return BenchConfig(methods, **{**small, **changes})


@pytest.fixture(scope="module")
def data():
    return make_random_data(ask(), CPU)


@pytest.fixture(scope="module")
def subject_of(data):
    """Makes the subject of a method, once."""
    return functools.cache(lambda name: TimedMethod(ask(), name, data))


@pytest.fixture(scope="module")
def found():
    lines = []
    return ratio.measure_ratios(ask(*METHODS), lines.append), lines


# --- floor and step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "images"), [("scratch", [8]), ("udcd", [8, 8]), ("kd", [8, 8]), ("sskd", [32, 32])]
)
def test_the_floor_has_the_images_that_the_networks_are_given(subject_of, name, images):
    subject = subject_of(name)
    assert [len(x) for x in subject.network_inputs] == images
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in subject.network_inputs)


def calls_of(subject, call):
    """(which network, training mode, with gradient) of each pass, in order."""
    seen, handles = [], []
    networks = {"student": subject.method.student, "teacher": subject.method.teacher_network}
    for which, module in networks.items():
        if module is not None:

            def watch(module, inputs, which=which):
                seen.append((which, module.training, torch.is_grad_enabled()))

            handles.append(module.register_forward_pre_hook(watch))
    call()
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("name", METHODS)
def test_step_and_floor_make_the_same_passes(subject_of, name):
    """A method that ran its network twice a step would show as a ratio of two, not hide in its floor."""
    subject = subject_of(name)
    step, floor = calls_of(subject, subject.run_step), calls_of(subject, subject.run_floor)
    assert step == floor and step[0] == ("student", True, True)


def test_the_steady_state_is_measured(subject_of):
    subject = subject_of("udcd")
    assert subject.progress.teacher_active and subject.progress.ramp == 1
    assert set(subject.run_step()[0]) == {"ce", "kl", "scl", "cra"}
    assert subject.stage.name == "train" and subject_of("scl-ikd").stage.name == "student"


def test_the_floor_trains_the_student_and_nothing_else(subject_of):
    subject = subject_of("udcd")
    before = {k: v.clone() for k, v in subject.method.named_parameters()}
    subject.run_floor()
    moved = {k for k, v in subject.method.named_parameters() if not torch.equal(v, before[k])}
    assert moved == {k for k in before if k.startswith("student.")}
    assert isinstance(subject.optimiser, type(subject.trainer.optimiser))
    assert subject.optimiser.defaults == subject.trainer.optimiser.defaults | {
        "lr": subject.optimiser.defaults["lr"]
    }


def test_measuring_the_parts_leaves_the_method_as_it_was(subject_of):
    subject = subject_of("crckd")
    parts = subject.time_parts(Clock(CPU), 1)
    assert list(parts) == ["views", "losses", "sampling", "memory", "EMA", "logging"]
    assert min(parts[k] for k in parts if k != "losses") > 0
    assert subject.method.student.backbone is not None and "loss" not in subject.run_step()[0]


# --- what it finds ----------------------------------------------------------------------------------------------


def test_every_method_has_its_ratio_and_parts(found):
    result, lines = found
    assert [row["method"] for row in result["methods"]] == list(METHODS)
    for row in result["methods"]:
        ratio = row["ratio"]
        assert 0 < ratio["q25"] <= ratio["median"] <= ratio["q75"]
        assert row["step_ms"] > 0 and row["images_per_s"] == pytest.approx(8e3 / row["step_ms"])
        assert row["kernel_launches"] is None and row["share_of_copy_bandwidth"] is None
        assert row["parts"]["views"]["share"] == row["parts"]["views"]["ms"] / row["floor_ms"]
    assert result["environment"]["torch"] == torch.__version__ and result["environment"]["threads"] == 1
    assert result["memory_peak_bytes"] > 50e6 and set(result["input_images_per_s"]) == {1, 2}
    assert lines[-1] == f"round {WARM_UP_ROUNDS + 3} of {WARM_UP_ROUNDS + 3}"
    json.dumps(result)


def test_the_table_says_what_was_measured_where(found):
    result, _ = found
    shown = command._format_step_table(result)
    for name in METHODS:
        assert name in shown
    assert "not measured on a CPU" in shown and "1 thread, fp32" in shown and torch.__version__ in shown
    # of three rounds, a median is known to 1.57 / √3 of what lies between the quartiles
    sure = {**result, "methods": [{**result["methods"][0], "ratio": {"median": 1.02, "q25": 1, "q75": 1.1}}]}
    assert "1.020 ± 0.091    1.000–1.100" in command._format_step_table(sure)
    gpu = {"kernel_launches": 2000, "share_of_copy_bandwidth": 0.5, "memory_peak_bytes": 2**30}
    as_on_a_gpu = {**result, "methods": [{**row, **gpu} for row in result["methods"]]}
    assert "2000 kernel launches a step, 50% of the copy bandwidth" in command._format_step_table(as_on_a_gpu)


def test_quartiles_and_bandwidth_are_figures():
    assert ratio.compute_quartiles([4.0, 1, 2, 3, 5]) == {"median": 3, "q25": 2, "q75": 4}
    assert ratio.measure_copy_bandwidth(Clock(CPU)) > 1e4
    assert ratio.profile_kernels(lambda: None, CPU) is None


def test_growth_has_a_row_for_each_value_that_a_method_depends_on(monkeypatch):
    monkeypatch.setattr(ratio, "GROWTH_AXES", {"batch": (4, 8), "negatives": (16, 32)})
    small = functools.partial(cost.ProblemSize, n_train=2000, negatives=500, width=64)
    monkeypatch.setattr(ratio.cost, "ProblemSize", small)
    rows = list(ratio.measure_growth(("mtg", "crd")))
    assert [(r["method"], r["axis"], r["value"]) for r in rows] == [
        ("mtg", "batch", 4), ("mtg", "batch", 8),
        ("crd", "batch", 4), ("crd", "batch", 8), ("crd", "negatives", 16), ("crd", "negatives", 32),
    ]  # fmt: skip
    assert all(r["ms"] > 0 and r["moved"] > r["largest"] > 0 for r in rows)
    shown = command._format_growth_table(rows)
    assert "B=4,8" in shown and "K=16,32" in shown


# --- the direct forms -------------------------------------------------------------------------------------------


def test_the_direct_forms_are_the_same_losses():
    torch.manual_seed(0)
    a, b = torch.randn(2, 6, 5, dtype=torch.float64)
    assert_close(reference_forms.compute_angle_loss(a, b), losses.rkd_angle(a, b))
    a, b = torch.randn(2, 3, 4, 2, 2, dtype=torch.float64)
    assert_close(reference_forms.compute_gram_loss(a, b), losses.channel_gram(a, b))


def test_ours_of_the_contrast_memory_is_the_closer_to_float64():
    torch.manual_seed(0)
    form = reference_forms._build_memory_form()
    error, error_of_direct = form.errors
    assert error < error_of_direct < 1e-5
    form.ours(), form.direct()


def test_a_jpeg_becomes_two_views():
    first, second = reference_forms.decode_batch([reference_forms.make_jpeg(60, 40)], 32)
    assert first.shape == second.shape == (1, 3, 32, 32) and not torch.equal(first, second)


def test_a_form_has_its_row():
    row = {"what": "thing", "ours_ms": 1.0, "direct_ms": 20.0, "ratio": ratio.compute_quartiles([20.0])}
    assert "20.0×" in command._format_forms_table([row | {"errors": (1e-7, 2e-7)}, row])


# --- the command ------------------------------------------------------------------------------------------------


def test_it_runs_in_a_process_with_the_allocators_settings(monkeypatch):
    for name in ALLOCATOR_ENV:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name in ALLOCATOR_ENV:
        assert command._call_in_process(os.getenv, name) == ALLOCATOR_ENV[name]


def test_the_command_prints_and_writes(tmp_path, monkeypatch):
    # the README's line makes a process
    monkeypatch.setattr(command, "_call_in_process", lambda function, *arguments: function(*arguments))
    words = [
        "--methods",
        "mtg",
        "--backbone",
        TINY_DENSENET,
        "--image-size",
        "32",
        "--batch",
        "4",
        "--device",
        "cpu",
    ]
    words += ["--threads", "1", "--rounds", "3", "--json", str(tmp_path / "new" / "bench.json")]
    done = CliRunner().invoke(cli, ["bench", *words])
    assert done.exit_code == 0, done.output
    assert "mtg" in done.stdout and str(tmp_path / "new" / "bench.json") in done.stdout
    (row,) = json.loads((tmp_path / "new" / "bench.json").read_text())["methods"]
    assert row["method"] == "mtg" and row["ratio"].keys() == {"median", "q25", "q75"}


def test_what_is_not_there_is_told_before_anything_is_measured():
    done = CliRunner().invoke(cli, ["bench", "--methods", "scrach"])
    assert done.exit_code != 0 and "scratch" in str(done.exception)
