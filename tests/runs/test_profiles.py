"""The protocol's numbers: the paper's as methods.md has them, the smaller profiles made from them, overrides."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from udcd_bench.data import sources
from udcd_bench.errors import UserError
from udcd_bench.runs import profiles
from udcd_bench.runs.profiles import PROFILES, Protocol, coerce_value, resolve_hparams

PAPER = {
    "image_size": 224,
    "batch_size": 64,
    "epochs": 80,
    "learning_rate": 3e-4,
    "weight_decay": 1e-5,
    "start_epoch": 20,
    "ramp_epochs": 30,
    "ema": 0.99,
    "report_epochs": 10,
    "weights": "imagenet",
    "ce_normalise": "weights",
    "freeze_bn_after_first_eval": False,
    "imbalance": "power",
    "rotation": 10.0,
    "translation": 0.02,
    "flip": 0.5,
}
"""The table "Protocol `paper`" and the switches below it, typed a second time."""


@pytest.mark.parametrize("dataset", ["ham10000", "aptos"])
def test_paper_is_the_papers(dataset):
    found = asdict(profiles.build_protocol("paper", dataset))
    assert {key: found[key] for key in PAPER} == PAPER
    assert found["precision"] == "auto"
    assert profiles.find_profile("paper").backbone == "densenet121"
    assert profiles.find_profile("paper").resolve_dataset(dataset) == dataset


def test_lite_is_an_eighth_of_it_at_64():
    lite = profiles.build_protocol("lite", "aptos")
    assert (lite.epochs, lite.start_epoch, lite.ramp_epochs, lite.report_epochs) == (10, 2, 3, 1)
    assert (lite.image_size, lite.threads, lite.weights) == (64, 1, "imagenet")
    changed = {"epochs", "start_epoch", "ramp_epochs", "report_epochs", "image_size", "threads"}
    paper = asdict(profiles.build_protocol("paper", "aptos"))
    assert {k for k, v in asdict(lite).items() if v != paper[k]} == changed
    assert profiles.find_profile("lite").backbone == "tf_efficientnet_lite0"


def test_quick_is_a_quarter_of_it_at_128():
    found = profiles.build_protocol("quick", "ham10000")
    assert (found.epochs, found.start_epoch, found.image_size) == (20, 5, 128)
    assert found.ramp_epochs == 7 and found.report_epochs == 2
    changed = {"epochs", "start_epoch", "ramp_epochs", "report_epochs", "image_size"}
    paper = asdict(profiles.build_protocol("paper", "ham10000"))
    assert {k for k, v in asdict(found).items() if v != paper[k]} == changed


def test_demo_needs_no_data_and_no_network():
    demo = profiles.find_profile("demo")
    assert all(sources.is_synthetic(source) for _, source in demo.datasets)
    for _, source in demo.datasets:
        found = profiles.build_protocol("demo", source)
        assert found.weights == "none" and found.start_epoch < found.epochs and found.threads == 1
    assert demo.backbone == profiles.TINY_DENSENET


def test_scaling_keeps_the_proportions_of_the_paper():
    assert Protocol().with_epochs(80) == Protocol()
    for epochs in range(1, 200):
        p = Protocol().with_epochs(epochs)
        assert p.epochs == epochs and 1 <= p.report_epochs <= epochs
        assert p.start_epoch == max(1, epochs // 4) and p.ramp_epochs == max(1, 3 * epochs // 8)


def test_fewer_epochs_move_start_ramp_and_report_unless_they_are_set_too():
    p = profiles.build_protocol("paper", "aptos", (("epochs", "16"),))
    assert (p.epochs, p.start_epoch, p.ramp_epochs, p.report_epochs) == (16, 4, 6, 2)
    p = profiles.build_protocol("paper", "aptos", (("epochs", "16"), ("start_epoch", "9")))
    assert (p.epochs, p.start_epoch, p.ramp_epochs) == (16, 9, 6)
    p = profiles.build_protocol("paper", "aptos", (("learning_rate", "1e-3"),))
    assert p == replace(Protocol(), learning_rate=1e-3)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("epochs", "many", "invalid epochs=many: epochs is of type int, such as"),
        ("epochs", "2.5", "of type int"),
        ("epochs", "0", "at least 1"),
        ("epochs", "-3", "at least 1"),
        ("batch_size", "1", "two images"),
        ("learning_rate", "0", "positive"),
        ("weight_decay", "-1e-5", "at least 0"),
        ("learning_rate", "nan", "of type float"),
        ("learning_rate", "inf", "of type float"),
        ("weight_decay", "nan", "of type float"),
        ("weight_decay", "inf", "of type float"),
        ("ema", "1", r"\[0, 1\)"),
        ("freeze_bn_after_first_eval", "perhaps", "of type bool"),
        ("ce_normalise", "sum", "weights, batch"),
        ("imbalance", "smote", "power, truncate"),
        ("precision", "fp16", "auto, fp32, bf16"),
        ("threads", "-1", "at least 0"),
        ("image_size", "", "of type int"),
        ("epochs", 4.0, "of type int"),
        ("epochs", [4], "of type int"),
    ],
)
def test_numbers_that_will_not_do(key, value, says):
    profiles.build_protocol("demo", "synthetic-fundus", (("epochs", 4),))  # equal to one of them
    with pytest.raises(UserError, match=says) as caught:
        profiles.build_protocol("demo", "synthetic-fundus", ((key, value),))
    assert key in str(caught.value)


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'paper'"):
        profiles.find_profile("papr")
    assert set(PROFILES) == {"demo", "lite", "quick", "paper"}


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("3", 1, 3),
        ("1e-3", 1.0, 1e-3),
        ("2", 1.0, 2.0),
        ("true", False, True),
        ("No", True, False),
        ("0", True, False),
        ("word", "other", "word"),
        (5, 1, 5),
        (True, False, True),
    ],
)
def test_text_becomes_the_type_of_the_default(text, default, value):
    got = coerce_value("key", text, default)
    assert got == value and type(got) is type(default)


def test_hyper_parameters_resolve():
    defaults, choices = {"weight": 1.0, "kind": "a"}, {"kind": ("a", "b")}
    assert resolve_hparams("KD", defaults, choices, ()) == defaults
    assert resolve_hparams("KD", defaults, choices, (("weight", "2"), ("kind", "b"))) == {
        "weight": 2.0,
        "kind": "b",
    }
    with pytest.raises(UserError, match="KD has no hyper-parameter 'wieght'; did you mean 'weight'"):
        resolve_hparams("KD", defaults, choices, (("wieght", "2"),))
    with pytest.raises(UserError, match="invalid kind=c: it is one of a, b"):
        resolve_hparams("KD", defaults, choices, (("kind", "c"),))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("epoch", "epochs"),
        ("lr", "learning_rate"),
        ("batchsize", "batch_size"),
        ("wieght", "weight"),
        ("zz", ""),
    ],
)
def test_an_unknown_setting_names_all_of_the_methods_own_and_then_the_nearest_of_the_protocol(typed, meant):
    own = ["weight", *(f"lambda_{n}" for n in range(40))]
    said = profiles.suggest_setting(typed, own)
    hint, own_named, numbers = (
        said.partition(" Hyper-parameters: ")[0],
        *said.split(". Numbers of the protocol "),
    )
    assert hint == (f"; did you mean {meant!r}?" if meant else ".")
    assert own_named.endswith(f"Hyper-parameters: {', '.join(own)}")
    first = meant if meant in profiles.Protocol.list_names() else ""
    assert numbers.startswith(f"can be set too, the nearest first: {first}")
    assert numbers.endswith("more.") and numbers.count(",") <= 12
    of_none = profiles.suggest_setting("learn_rate", ())
    assert "Numbers of the protocol can be set, the nearest first: learning_rate, " in of_none
