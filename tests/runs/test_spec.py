"""A run's spec: its key, its teacher, its seeds, and what each of them depends on."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from udcd_bench.runs import spec as module
from udcd_bench.runs.spec import SPLITS, RunSpec, derive_seed, format_split_options, name_split, parse_split

SPEC = RunSpec(
    "kd", "ham10000", "paper", "densenet121", hparams=(("temperature", 2.0),), protocol=(("epochs", 3),)
)
OTHER = {
    "method": "mtg",
    "dataset": "aptos",
    "profile": "quick",
    "backbone": "resnet50",
    "teacher_backbone": "resnet50",
    "split": "grouped",
    "fold": 1,
    "seed": 1,
    "fraction": 0.5,
    "rho": 9.0,
    "hparams": (),
    "protocol": (),
}
KEY = "38a8d589a5d9be8f"
"""Of ``SPEC``: a change of it makes every stored run unknown."""


def test_the_key_is_the_same_in_every_process_and_for_ever():
    made_of = {"data": "f", "method": "m"}
    assert SPEC.compute_key(made_of) == KEY
    code = (
        "from udcd_bench.runs.spec import RunSpec\n"
        f"print(RunSpec.from_dict({SPEC.to_dict()!r}).compute_key({dict(reversed(made_of.items()))!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == KEY


@pytest.mark.parametrize("name", [f.name for f in fields(RunSpec)])
def test_every_field_is_part_of_the_key(name):
    assert name in OTHER, "say here what else the new field may be"
    assert replace(SPEC, **{name: OTHER[name]}).compute_key({}) != SPEC.compute_key({})


def test_the_key_hears_what_the_run_is_made_of_and_the_engines_revision(monkeypatch):
    assert SPEC.compute_key({"data": "a"}) != SPEC.compute_key({"data": "b"}) != SPEC.compute_key({})
    before = SPEC.compute_key({})
    monkeypatch.setattr(module, "REVISION", module.REVISION + 1)
    assert SPEC.compute_key({}) != before


def test_the_order_of_overrides_is_no_matter():
    pairs = (("temperature", 2.0), ("kd_weight", 0.5))
    one, other = (replace(SPEC, hparams=p, protocol=p) for p in (pairs, pairs[::-1]))
    assert one == other and hash(one) == hash(other) and one.compute_key({}) == other.compute_key({})


def test_json_and_back():
    again = RunSpec.from_dict(json.loads(json.dumps(SPEC.to_dict())))
    assert again == SPEC and hash(again) == hash(SPEC) and again.compute_key({}) == SPEC.compute_key({})
    with pytest.raises(ValueError, match="colour"):
        RunSpec.from_dict({**SPEC.to_dict(), "colour": 1})
    with pytest.raises(FrozenInstanceError):
        SPEC.fold = 2


def test_a_teacher_like_its_student_needs_no_name():
    assert replace(SPEC, teacher_backbone="densenet121") == SPEC


def test_the_teacher_keeps_the_coordinates_and_drops_what_is_the_students():
    student = replace(
        SPEC, fold=3, seed=2, rho=9.0, fraction=0.5, split="grouped", teacher_backbone="resnet50"
    )
    teacher = student.build_teacher_spec()
    assert teacher.method == module.TEACHER_METHOD and teacher.hparams == ()
    assert teacher.backbone == "resnet50" and teacher.teacher_backbone == ""
    for name in ("dataset", "profile", "split", "fold", "seed", "fraction", "rho", "protocol"):
        assert getattr(teacher, name) == getattr(student, name)
    shared = {replace(student, method=m, hparams=()).build_teacher_spec() for m in ("kd", "rkd", "crd")}
    assert shared == {teacher}
    assert SPEC.build_teacher_spec().backbone == SPEC.backbone


def test_seeds_name_their_coordinates():
    assert derive_seed("order", "ham10000", "paper", 0, 0) == SPEC.derive_seed_for("order")
    assert derive_seed("a", "bc") != derive_seed("ab", "c"), "coordinates do not run together"
    seeds = {derive_seed("order", fold, seed) for fold in range(30) for seed in range(30)}
    assert len(seeds) == 900 and all(0 <= s < 2**63 for s in seeds)


@pytest.mark.parametrize("name", ["dataset", "split", "fold", "seed"])
def test_a_seed_hears_its_coordinates(name):
    assert replace(SPEC, **{name: OTHER[name]}).derive_seed_for("order") != SPEC.derive_seed_for("order")
    assert SPEC.derive_seed_for("order") != SPEC.derive_seed_for("network")


@pytest.mark.parametrize("name", ["method", "hparams", "backbone", "profile"])
def test_methods_are_compared_in_pairs(name):
    assert replace(SPEC, **{name: OTHER[name]}).derive_seed_for("order") == SPEC.derive_seed_for("order")


def test_labels_say_what_differs_from_the_ordinary():
    plain = RunSpec("kd", "aptos", "paper", "densenet121")
    assert plain.format_label() == f"kd aptos {plain.backbone} fold 0"
    odd = replace(plain, rho=9.0, fraction=0.25, split="grouped", seed=2, hparams=(("temperature", 2.0),))
    assert odd.format_label() == f"kd aptos {odd.backbone} rho=9 25% grouped fold 0 seed 2 temperature=2.0"


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan"), "half"])
def test_a_fraction_is_a_share(fraction):
    with pytest.raises(ValueError, match=r"not a run spec: .*fraction"):
        RunSpec.from_dict({**SPEC.to_dict(), "fraction": fraction})


def test_the_name_of_a_split_says_what_tests():
    assert {name_split(*parse_split(name)) for name in SPLITS} == set(SPLITS)
    words = {name: " ".join(format_split_options(name)) for name in SPLITS}
    assert words == {
        "paper": "",
        "grouped": "--split grouped",
        "paper-val": "--test val",
        "grouped-val": "--split grouped --test val",
    }
    labels = [replace(SPEC, split=name).format_label() for name in SPLITS]
    assert len(set(labels)) == len(SPLITS) and [" tested on val" in label for label in labels] == [
        False,
        False,
        True,
        True,
    ]
