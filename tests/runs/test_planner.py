"""Plans: each run once, teachers first and shared, and a key that hears what it should and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support import factories, records
from udcd_bench import plugins
from udcd_bench.engines import execute
from udcd_bench.errors import UserError
from udcd_bench.runs import planner, rates
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import RECORD_SCHEMA, Store
from udcd_bench.storage.checksums import dump_with_checksum

KD = RunSpec("kd", "synthetic-lesions", "demo", "densenet-tiny")
DATA = factories.dataset(400)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


@pytest.fixture(autouse=True)
def data(monkeypatch):
    """The data every run is planned on, and weights that are what their backbone and their name say."""
    monkeypatch.setattr(execute, "prepare_data", lambda *_: DATA)
    monkeypatch.setattr(execute, "_hash_weights", lambda weights, backbone: f"{weights} of {backbone}")


def made_of(spec):
    return execute.collect_run_inputs(spec, execute.RunContext(Store(Path("nowhere")), Path("nowhere")))


def plan(store, *specs):
    return planner.plan(specs, store, made_of)


def key(store, spec):
    return plan(store, spec)[-1].key


def test_each_run_once_and_teachers_first_and_shared(store):
    own_teachers = [replace(KD, fold=fold) for fold in (0, 1)]
    specs = [*own_teachers, replace(KD, hparams=(("temperature", "2"),)), replace(KD, method="scratch"), KD]
    jobs = plan(store, *specs)
    assert len(jobs) == 5, "two teachers, three students"
    places = {job.key: n for n, job in enumerate(jobs)}
    for job in jobs:
        if job.spec.method == "kd":
            (teacher,) = job.teacher_keys
            assert places[teacher] < places[job.key]
            assert jobs[places[teacher]].spec == job.spec.build_teacher_spec()
        else:
            assert job.teacher_keys == ()
    assert jobs[0].spec.method == "scratch" and jobs[1].teacher_keys == (jobs[0].key,)
    assert all(job.state == "absent" and not job.done and job.epochs == 16 for job in jobs)


def test_the_scratch_row_is_the_teacher(store):
    jobs = plan(store, replace(KD, method="scratch"), KD, replace(KD, method="mtg"))
    assert [job.spec.method for job in jobs] == ["scratch", "kd", "mtg"]


def test_another_teacher_is_another_run(store):
    jobs = plan(store, KD, replace(KD, teacher_backbone="resnet18"))
    assert [job.spec.backbone for job in jobs] == [
        "densenet-tiny",
        "densenet-tiny",
        "resnet18",
        "densenet-tiny",
    ]
    assert len({job.key for job in jobs}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"fold": 1},
        {"seed": 1},
        {"rho": 9.0},
        {"fraction": 0.5},
        {"split": "grouped"},
        {"backbone": "resnet18"},
        {"hparams": (("temperature", "2"),)},
        {"protocol": (("learning_rate", "1e-4"),)},
        {"protocol": (("epochs", "3"),)},
    ],
    ids=str,
)
def test_the_key_hears_every_coordinate(store, change):
    assert key(store, replace(KD, **change)) != key(store, KD)


@pytest.mark.parametrize(
    "change",
    [
        {"hparams": (("temperature", "4"),)},
        {"hparams": (("temperature", 4.0), ("kd_weight", "9e-1"))},
        {"protocol": (("batch_size", "32"),)},
        {"protocol": (("epochs", "16"), ("start_epoch", "4"), ("precision", "auto"))},
        {"teacher_backbone": "densenet-tiny"},
    ],
    ids=str,
)
def test_an_override_that_sets_the_default_is_none(store, change):
    assert [job.key for job in plan(store, replace(KD, **change))] == [job.key for job in plan(store, KD)]


def test_an_override_that_undoes_another_is_one(store):
    """In 32 epochs the start is at epoch 8 unless it is set; 4, though the profile's own, is no default then."""
    one, other = (replace(KD, protocol=(("epochs", "32"), *more)) for more in ((), (("start_epoch", "4"),)))
    assert key(store, one) != key(store, other)


def test_text_and_numbers_are_the_same_override(store):
    one, other = (replace(KD, protocol=(("learning_rate", v),)) for v in ("0.0010", 1e-3))
    assert key(store, one) == key(store, other)


def test_the_key_hears_the_data(store, monkeypatch):
    before = key(store, KD)
    monkeypatch.setattr(execute, "prepare_data", lambda *_: replace(DATA, fingerprint="g"))
    assert key(store, KD) != before


def test_the_key_hears_the_methods_source_and_its_teachers(store, tmp_path, monkeypatch):
    keys = [job.key for job in plan(store, KD, replace(KD, method="udcd"))]

    def changed(name):
        real = plugins.hash_sources
        with monkeypatch.context() as patch:
            patch.setattr(plugins, "hash_sources", lambda k, n: {n: "new"} if n == name else real(k, n))
            found = [job.key for job in plan(store, KD, replace(KD, method="udcd"))]
        return [a != b for a, b in zip(found, keys)]

    assert changed("scratch") == [True, True, False], "a student's key hears its teacher"
    assert changed("kd") == [False, True, False]
    assert changed("udcd") == [False, False, True]
    assert changed("mtg") == [False, False, False]


def test_the_key_hears_a_protocol_that_changed_under_it(store, monkeypatch):
    before = key(store, KD)
    real = planner.profiles.build_protocol
    monkeypatch.setattr(
        planner.profiles, "build_protocol", lambda *a: replace(real(*a), weight_decay=0.5), raising=True
    )
    assert key(store, KD) != before


def test_states_are_the_stores(store):
    scratch, kd = plan(store, KD)
    store.create()
    store.record_failure(kd.key, kd.spec, "no", "")
    assert [job.state for job in plan(store, KD)] == ["absent", "failed"]
    assert set(planner.STATE_REASONS) == {"absent", "interrupted", "failed", "running", "damaged"}
    about = {"schema": RECORD_SCHEMA, "key": scratch.key, "files": {}}
    store.write_run(scratch.key, {"record.json": dump_with_checksum(records.record(scratch.spec) | about)})
    assert [job.done for job in plan(store, KD)] == [True, False]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "kdd"}, "did you mean 'kd'"),
        ({"profile": "dem"}, "did you mean 'demo'"),
        (
            {"hparams": (("temprature", "2"),)},
            "KD has no hyper-parameter 'temprature'; did you mean 'temperature'",
        ),
        ({"hparams": (("temperature", "hot"),)}, "of type float"),
        ({"method": "udcd", "hparams": (("confidence", "maybe"),)}, "one of equation, text, none"),
        ({"protocol": (("epochs", "many"),)}, "of type int"),
    ],
    ids=str,
)
def test_what_does_not_exist_is_said_before_anything_runs(store, change, says):
    with pytest.raises(UserError, match=says):
        plan(store, replace(KD, **change))


def test_the_estimate_goes_by_the_nearest_finished_runs(store, monkeypatch):
    def finished(method, dataset, seconds, epochs=10):
        spec = RunSpec(method, dataset, "demo", "densenet-tiny")
        return records.record(spec, seconds=float(seconds), epochs=epochs)

    jobs = plan(store, KD)
    assert rates.estimate_seconds(jobs, store) == (0, jobs)
    found = []
    monkeypatch.setattr(store, "read_records", lambda: iter(found))
    found.append(finished("mtg", "synthetic-fundus", 20))  # 2 s an epoch, of the same profile
    assert rates.estimate_seconds(jobs, store) == (2 * 16 * 2, [])
    found.append(finished("kd", "synthetic-fundus", 50))  # 5 s an epoch, of the same method; 3.5 on average
    assert rates.estimate_seconds(jobs, store) == (16 * 3.5 + 16 * 5, [])
    found += [finished("kd", "synthetic-lesions", 10), finished("kd", "synthetic-lesions", 30)]
    seconds, unknown = rates.estimate_seconds(jobs[1:], store)
    assert seconds == pytest.approx(16 * 2) and unknown == []
    assert len(rates.estimate_seconds(plan(store, replace(KD, profile="quick")), store)[1]) == 2


def test_a_method_s_own_numbers_of_the_protocol_stand_below_what_is_set(store):
    released = replace(KD, method="udcd-released")
    assert planner.resolve_protocol(released).ce_normalise == "batch"
    assert planner.resolve_protocol(KD).ce_normalise == "weights"
    other = replace(released, protocol=(("ce_normalise", "weights"),))
    assert planner.resolve_protocol(other).ce_normalise == "weights"
    assert key(store, other) != key(store, released)
    assert planner.normalize_spec(
        replace(released, protocol=(("ce_normalise", "batch"),))
    ) == planner.normalize_spec(released)
