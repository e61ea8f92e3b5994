"""The list of what goes into a key: each of it changes the key, and so does the engine's revision."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, fields, replace

import pytest

from udcd_bench.runs import inputs
from udcd_bench.runs import spec as spec_module
from udcd_bench.runs.inputs import RunInputs
from udcd_bench.runs.profiles import Protocol

INPUTS = RunInputs(
    method="kd",
    sources={"kd.py": "0f", "_common.py": "1e"},
    hparams={"temperature": 4.0, "kd_weight": 0.9},
    protocol={"epochs": 3, "batch_size": 16},
    backbone="resnet18",
    teacher_backbone="resnet50",
    weights="3f2a",
    teacher_weights="",
    teacher_key="0123456789abcdef",
    data="fedcba9876543210",
    data_identity="folder#0123456789ab",
    ordered=False,
    split="paper",
    fold=0,
    seed=0,
    fraction=1.0,
    rho=None,
    split_hash="00112233",
)
OTHER = {
    "method": "mtg",
    "sources": {"kd.py": "0f", "_common.py": "2e"},
    "hparams": {"temperature": 4.0, "kd_weight": 0.8},
    "protocol": {"epochs": 4, "batch_size": 16},
    "backbone": "resnet34",
    "teacher_backbone": "",
    "weights": "none",
    "teacher_weights": "3f2a",
    "teacher_key": "",
    "data": "fedcba9876543211",
    "data_identity": "ham10000",
    "ordered": True,
    "split": "grouped",
    "fold": 1,
    "seed": 1,
    "fraction": 0.5,
    "rho": 9.0,
    "split_hash": "00112234",
    "teacher_file": "3f2a",
    "teacher_keys": ("0123456789abcdef", "1123456789abcdef"),
    "teacher_files": (("3f2a", "resnet18"),),
}
KEY = "bdfa7d9de8e8e117"
"""Of ``INPUTS``: a change of it makes every stored run unknown."""


def test_the_key_is_the_same_in_every_process_and_for_ever():
    assert INPUTS.compute_key() == KEY
    backwards = {
        name: dict(reversed(value.items())) if isinstance(value, dict) else value
        for name, value in INPUTS.to_dict().items()
    }
    code = f"from udcd_bench.runs.inputs import RunInputs; print(RunInputs(**{backwards!r}).compute_key())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == KEY, "the order of names is no matter"


@pytest.mark.parametrize("name", [field.name for field in fields(RunInputs)])
def test_every_input_is_part_of_the_key(name):
    assert name in OTHER, "say here what else the new input may be"
    changed = replace(INPUTS, **{name: OTHER[name]})
    assert changed.compute_key() != INPUTS.compute_key()
    assert changed.list_differences(INPUTS) == [name]


def test_the_engines_revision_is_part_of_the_key(monkeypatch):
    monkeypatch.setattr(spec_module, "REVISION", spec_module.REVISION + 1)
    assert INPUTS.compute_key() != KEY


def test_a_record_holds_the_inputs_as_they_were():
    again = RunInputs(**json.loads(json.dumps(INPUTS.to_dict())))
    assert again == INPUTS and again.compute_key() == KEY


def test_a_run_that_is_not_compiled_has_the_key_that_it_had():
    numbers = asdict(Protocol())
    assert "compile" not in inputs.select_numbers(numbers)
    assert inputs.select_numbers(numbers | {"compile": True})["compile"] is True


def test_what_was_added_later_is_in_a_key_where_it_changes_something(monkeypatch):
    monkeypatch.setattr(inputs, "ADDED_LATER", {"warm_up": 0})
    assert inputs.select_numbers({"epochs": 3, "warm_up": 0}) == {"epochs": 3}
    assert inputs.select_numbers({"epochs": 3, "warm_up": 2}) == {"epochs": 3, "warm_up": 2}

    @dataclass(frozen=True)
    class Inputs(RunInputs):
        critic: str = ""

    assert Inputs(**INPUTS.to_dict()).compute_key() == KEY
    assert Inputs(**INPUTS.to_dict(), critic="small").compute_key() != KEY
