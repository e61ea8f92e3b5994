"""A run's spec: what makes two the same, its teacher, its seeds, its label, and what each of them depends on."""

from __future__ import annotations

import json
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
    "teacher": "rkd",
}


def test_the_order_of_overrides_is_no_matter():
    pairs = (("temperature", 2.0), ("kd_weight", 0.5))
    one, other = (replace(SPEC, hparams=p, protocol=p) for p in (pairs, pairs[::-1]))
    assert one == other and hash(one) == hash(other)


@pytest.mark.parametrize("name", [f.name for f in fields(RunSpec)])
def test_specs_that_differ_are_others(name):
    assert name in OTHER, "say here what else the new field may be"
    assert replace(SPEC, **{name: OTHER[name]}) != SPEC


def test_what_data_and_weights_are_called_is_no_matter():
    def named(data, file):
        return replace(SPEC, dataset=f"folder:{data}", protocol=(("weights", file),))

    one, other = (
        named("mine#0123456789ab", "a.pth#ba9876543210"),
        named("y#urs#0123456789ab", "b#ba9876543210"),
    )
    assert one == other and hash(one) == hash(other) and len({one, other}) == 1
    assert one.derive_seed_for("order") == other.derive_seed_for("order")
    assert one.to_dict() != other.to_dict(), "the names stay for people"
    assert (
        named("mine#0123456789ac", "a.pth#ba9876543210")
        != one
        != named("mine#0123456789ab", "a#ba9876543211")
    )
    assert named("mine", "a.pth") != named("yours", "a.pth"), "an earlier revision's, without a digest"


def test_json_and_back():
    again = RunSpec.from_dict(json.loads(json.dumps(SPEC.to_dict())))
    assert again == SPEC and hash(again) == hash(SPEC)
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
    assert replace(plain, dataset="folder:skin#0123456789ab").format_label().startswith("kd skin (0123) ")
    assert replace(plain, dataset="folder:/lab/skin/").format_label().startswith("kd skin ")
    weighed = replace(plain, protocol=(("weights", "/lab/w.pth"),)).format_label()
    assert weighed.endswith("fold 0 weights=w.pth")
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
        "official": "--split official",
    }
    labels = [replace(SPEC, split=name).format_label() for name in SPLITS]
    assert len(set(labels)) == len(SPLITS) and [" tested on val" in label for label in labels] == [
        False,
        False,
        True,
        True,
        False,
    ]
