"""What is said of runs that one figure joins and that are not alike."""

from __future__ import annotations

import pytest

from support import records as make
from udcd_bench.runs.records import describe_origins
from udcd_bench.runs.spec import REVISION, RunSpec


def make_record(method="kd", fold=0, revision=REVISION, **inputs):
    spec = RunSpec(method, "aptos", "paper", "densenet121", fold=fold)
    made_of = make.make_inputs(spec, **inputs).to_dict()
    return make.record(spec, made_of=made_of, revision=revision)


def test_runs_that_are_alike_are_not_spoken_of():
    teacher = {"teacher_key": "a" * 16, "split_hash": "b" * 16}
    alike = [make_record(), make_record(fold=1, **teacher), make_record("udcd"), make.record(make_spec())]
    assert describe_origins(alike) == "" and describe_origins([]) == ""


def test_of_a_method_that_is_in_no_suite_here_nothing_is_known():
    spec = RunSpec("theirs", "aptos", "paper", "densenet121")
    record = make.record(spec, made_of={"sources": {"theirs.py": "1" * 64}}, revision=REVISION)
    assert describe_origins([record]) == ""


def make_spec():
    return RunSpec("kd", "aptos", "paper", "densenet121", fold=2)


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        (
            [make_record(), make_record(fold=1, revision=REVISION - 1)],
            f"1 of 2 runs are of a revision before {REVISION}.",
        ),
        (
            [make_record(), make_record(fold=1, sources={"kd.py": "1" * 64})],
            "The file of kd is not the one that its runs were trained with. "
            "The runs of kd on aptos differ in the text of their method.",
        ),
        (
            [make_record("udcd"), make_record(sources={"kd.py": "1" * 64})],
            "The file of kd is not the one that its runs were trained with.",
        ),
        (
            [make_record(), make_record(fold=1, weights="1" * 64, hparams={"alpha": 2})],
            "The runs of kd on aptos differ in hyper-parameters, the weights that they begin with.",
        ),
        (
            [make_record(), make_record("udcd", data="1" * 16)],
            "The runs on APTOS 2019 are of 2 sets of images.",
        ),
    ],
)
def test_runs_that_are_not_alike_are_told(records, sentence):
    assert describe_origins(records) == sentence
