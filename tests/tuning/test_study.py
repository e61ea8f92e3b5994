"""What a search tries: ranges that a file declares, the same trials whatever runs first, the row itself among them."""

from __future__ import annotations

import sys

import pytest

from udcd_bench import plugins
from udcd_bench.errors import UserError
from udcd_bench.plugins import between
from udcd_bench.runs import planner
from udcd_bench.runs.spec import RunSpec
from udcd_bench.tuning.ranges import WEIGHT_DECAY, format_range, list_ranges
from udcd_bench.tuning.study import BATCH, Study

pytestmark = pytest.mark.usefixtures("own_suites")

KD = RunSpec("kd", "synthetic-lesions", "demo", "densenet-tiny", protocol=(("validation", "0.2"),))
METHOD = """
from udcd_bench.method import BaseMethod, between

raise RuntimeError("executed")

class Method(BaseMethod):
    title = "Mine"
    citation = "Nobody, Nothing, 2026"
    teacher = "trained"
    hparams = {"temperature": 4.0, "steps": 3, "target": "soft"}
    search = %s
"""
DECLARED = '{"temperature": between(1, 10, log=True), "steps": between(1, 9), "target": ["soft", "hard"]}'


@pytest.fixture
def declare(tmp_path):
    """Adds a suite with a method that declares this; returns the spec of its run."""

    def add(search):
        (tmp_path / "methods").mkdir()
        (tmp_path / "methods" / "mine.py").write_text(METHOD % search)
        plugins.add_suite(tmp_path)
        return RunSpec("mine", *("synthetic-lesions", "demo", "densenet-tiny"), protocol=KD.protocol)

    return add


def end(study, scores):
    """Tell a study that its last trials ended with these scores; None for one that failed."""
    for trial, score in zip(study.trials[-len(scores) :], scores):
        trial.record = None if score is None else {"validation": {"mean": {"f1": score}}}
    study.tell()


def values(study):
    return [trial.values for trial in study.trials]


def test_a_row_that_declares_nothing_is_tuned_by_rate_and_decay():
    rate = planner.resolve_protocol(KD).learning_rate
    assert list_ranges(KD) == {
        "learning_rate": between(rate / 4, 4 * rate, log=True),
        "weight_decay": WEIGHT_DECAY,
    }
    assert list(list_ranges(KD, ["learning_rate"])) == ["weight_decay"]


def test_declared_ranges_are_read_without_executing_the_file(declare):
    ranges = list_ranges(declare(DECLARED))
    assert list(ranges) == ["learning_rate", "weight_decay", "temperature", "steps", "target"]
    assert ranges["temperature"] == between(1, 10, log=True) and ranges["target"] == ["soft", "hard"]
    assert [format_range(r) for r in ranges.values()][2:] == [
        "1 to 10, by logarithm",
        "1 to 9",
        "soft | hard",
    ]


def test_a_declared_rate_replaces_the_usual_one(declare):
    assert list_ranges(declare('{"learning_rate": between(0.1, 1)}'))["learning_rate"] == between(0.1, 1)


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        (
            '{"tau": between(1, 2)}',
            "names 'tau', which is no hyper-parameter of the method; it has temperature",
        ),
        ('{"epochs": between(1, 2)}', "of the protocol learning_rate, weight_decay, ema may be tried"),
        ('{"target": between(1, 2)}', "has a range of 'target', which is no number"),
        ('{"target": ["soft"]}', "give between(low, high) or a list of two values or more"),
        ('{"temperature": between(2, 1)}', "between(2, 1): the first is the lower end"),
        ('{"temperature": between(0, 1, log=True)}', "both ends are above 0"),
        ('{"temperature": between(1, 2, 3, 4)}', "takes 2 positional arguments but 4 were given"),
        ('{"temperature": range(3)}', "search must be a literal"),
        ('{**{}, "temperature": between(1, 2)}', "search must be a literal"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(declare, search, sentence):
    spec = declare(search)
    with pytest.raises(UserError) as refused:
        list_ranges(spec)
    assert sentence in str(refused.value) and "mine.py" in str(refused.value)


def test_the_first_trial_is_the_row_and_the_others_lie_in_the_ranges(declare):
    spec = declare(DECLARED)
    study = Study(spec, list_ranges(spec))
    trials = study.ask(12)
    assert trials[0].values == {} and trials[0].spec == planner.normalize_spec(spec)
    rate = planner.resolve_protocol(spec).learning_rate
    for trial in trials[1:]:
        tried = trial.values
        assert 0.99 * rate / 4 <= tried["learning_rate"] <= 4.01 * rate
        assert 0.99 <= tried["temperature"] <= 10.1 and tried["target"] in ("soft", "hard")
        assert type(tried["steps"]) is int and 1 <= tried["steps"] <= 9
        assert all(float(f"{v:.3g}") == v for v in tried.values() if isinstance(v, float))
        assert planner.resolve_protocol(trial.spec).learning_rate == tried["learning_rate"]
        assert planner.resolve_hparams(trial.spec)["steps"] == tried["steps"]
        assert trial.spec.build_teacher_spec() == spec.build_teacher_spec()
    assert len({str(trial.values) for trial in trials}) == 12


def run_study(spec, score):
    study = Study(spec, list_ranges(spec))
    for _ in range(5):
        batch = study.ask(BATCH)
        end(study, [score(trial) for trial in batch])
    return study


def rate_of(trial):
    return -abs(trial.values.get("learning_rate", 1.0) - 0.004)


def test_a_study_repeated_has_the_same_trials_and_learns():
    first, again = run_study(KD, rate_of), run_study(KD, rate_of)
    assert values(first) == values(again)
    other = run_study(KD, lambda trial: -rate_of(trial))
    assert values(other)[:BATCH] == values(first)[:BATCH] and values(other) != values(first)
    late = [abs(t.values["learning_rate"] - 0.004) for t in first.trials[15:]]
    early = [abs(t.values["learning_rate"] - 0.004) for t in first.trials[1:10]]
    assert sum(late) / len(late) < sum(early) / len(early)
    named = Study(RunSpec("crd", *("synthetic-lesions", "demo", "densenet-tiny")), list_ranges(KD))
    named.ask(3)
    assert values(named)[1:] != values(first)[1:3], "each row has draws of its own"


def test_the_best_is_the_first_of_the_highest_and_failures_are_none():
    study = Study(KD, list_ranges(KD))
    study.ask(4)
    end(study, [0.5, None, 0.7, 0.7])
    assert study.find_best() is study.trials[2] and study.trials[1].score is None
    study = Study(KD, list_ranges(KD))
    study.ask(2)
    end(study, [None, None])
    assert study.find_best() is None
    assert len(study.ask(2)) == 2, "the search goes on"


def test_without_optuna_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"search needs Optuna: pip install 'udcd-bench\[search\]'"):
        Study(KD, list_ranges(KD))
