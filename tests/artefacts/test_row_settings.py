"""``--set`` of rows: one row's value, all rows', several values as rows; nothing changes several in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from udcd_bench import plugins
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.cli import cli
from udcd_bench.cli.option_values import Settings
from udcd_bench.engines import local
from udcd_bench.errors import UserError
from udcd_bench.grid import stored_settings
from udcd_bench.runs import planner
from udcd_bench.runs.planner import CommandPlaces
from udcd_bench.runs.results import Results
from udcd_bench.runs.spec import RunSpec

METHODS = ("scratch", "kd", "crd")
KD = RunSpec("kd", "synthetic-lesions", "demo", "densenet-tiny")


@pytest.fixture
def table():
    return plugins.load_class("tables", "table2")()


def ask(*settings, **changes):
    request = {"methods": METHODS, "datasets": ("synthetic-lesions",)} | changes
    return TableRequest(hparams=tuple(tuple(text.split("=")) for text in settings), **request)


def own(table, request):
    """Row → what is set of its run alone."""
    (group,) = table.list_column_groups(request)
    cells = {row.name: table.list_cell_runs(request, row, group) for row in table.list_rows(request)}
    return {row: specs[0].hparams for row, specs in cells.items()}


def test_a_value_of_one_row_is_of_that_row(table):
    found = own(table, ask("kd.temperature=2"))
    assert found == {"scratch": (), "kd": (("temperature", 2.0),), "crd": ()}


def test_each_request_has_runs_of_its_own_by_the_methods_as_they_are(table, own_suites, tmp_path):
    code = "class Method:\n    title = 'Mine'\n    citation = 'I'\n    hparams = {{'weight': {}}}\n"
    (tmp_path / "mine.py").write_text(code.format("1.0"))
    plugins.add_suite(tmp_path)
    double, triple = (ask(f"mine.weight={n}", methods=("mine",)) for n in (2, 3))
    for request, weight in ((double, 2.0), (triple, 3.0), (double, 2.0)):
        assert own(table, request) == {"mine": (("weight", weight),)}
    (group,), (row,) = table.list_column_groups(double), table.list_rows(double)
    table.list_cell_runs(double, row, group).clear()  # a list of the caller's own
    assert len(table.list_cell_runs(double, row, group)) == 1
    (tmp_path / "mine.py").write_text(code.format("2.00"))  # which changes nothing any more
    assert own(table, replace(double)) == {"mine": ()}


def test_a_value_that_several_methods_have_is_to_be_said_of_all_or_one(table):
    with pytest.raises(UserError) as refused:
        table.list_runs(ask("temperature=2"))
    assert str(refused.value) == (
        "--set temperature=2 would change crd and kd at once; give *.temperature=2 for all of them, or one row's, such "
        "as crd.temperature=2."
    )
    found = own(table, ask("*.temperature=2"))
    assert found["kd"] == found["crd"] == (("temperature", 2.0),) and found["scratch"] == ()
    assert own(table, ask("temperature=2", methods=("scratch", "kd")))["kd"] == (("temperature", 2.0),)


def test_what_is_said_of_one_row_wins_in_any_order(table):
    for settings in (("*.temperature=2", "kd.temperature=3"), ("kd.temperature=3", "*.temperature=2")):
        found = own(table, ask(*settings))
        assert (found["kd"], found["crd"]) == ((("temperature", 3.0),), (("temperature", 2.0),))


def test_several_values_are_rows(table):
    rows = table.list_rows(ask("kd.temperature=1,2", "kd_weight=0.5,0.7"))
    combinations = [f"kd:temperature={t},kd_weight={w}" for t in (1, 2) for w in (0.5, 0.7)]
    assert [row.name for row in rows] == ["scratch", "crd", *combinations]
    found = own(table, ask("kd.temperature=1,2"))
    assert found["kd:temperature=1"] == (("temperature", 1.0),) and "kd" not in found
    titles = {row.name: row.title for row in table.list_rows(ask("kd.temperature=1,2"))}
    assert titles["kd:temperature=2"] == f"{titles_of(table)['kd']}, temperature = 2"
    with pytest.raises(UserError, match=r"give \*\.temperature=1,2 for all of them"):
        table.list_runs(ask("temperature=1,2"))
    both = own(table, ask("*.temperature=1,2"))
    assert {"kd:temperature=1", "kd:temperature=2", "crd:temperature=1", "crd:temperature=2"} <= both.keys()


def titles_of(table):
    return {row.name: row.title for row in table.list_rows(ask())}


def test_a_row_that_states_a_value_keeps_it():
    table = plugins.load_class("figures", "ablation")()
    request = TableRequest(hparams=(("udcd.lambda_cra", "1,2"),))
    names = {row.name for row in table.list_rows(request)}
    assert "udcd:lambda_cra=0" in names and "udcd:lambda_kl=0,lambda_cra=2" in names
    assert {"udcd:lambda_cra=1", "udcd:lambda_cra=2"} <= names and "udcd" not in names


def test_a_value_that_is_given_twice_is_one_row(table):
    rows = table.list_rows(ask("kd.temperature=2, 2.0,4,2", methods=("kd",)))
    assert [row.name for row in rows] == ["kd:temperature=2", "kd:temperature=4"]
    figure = plugins.load_class("figures", "ablation")()
    names = [row.name for row in figure.list_rows(TableRequest(hparams=(("udcd.lambda_cra", "0,2"),)))]
    assert "udcd:lambda_cra=0" in names and len(names) == len(set(names))


def test_a_number_of_the_protocol_said_of_a_row_leaves_its_teacher_alone(table):
    request = ask("kd.learning_rate=0.01", methods=("kd",))
    (spec,) = table.list_runs(request)
    assert spec.hparams == (("learning_rate", 0.01),) and spec.protocol == ()
    assert planner.resolve_protocol(spec).learning_rate == 0.01
    assert planner.resolve_hparams(spec) == planner.resolve_hparams(KD)
    assert spec.build_teacher_spec() == KD.build_teacher_spec()
    shared = planner.normalize_spec(replace(KD, protocol=(("learning_rate", "0.01"),)))
    assert shared.build_teacher_spec() != spec.build_teacher_spec()
    assert [row.name for row in table.list_rows(ask("kd.learning_rate=0.1,0.2", methods=("kd",)))] == [
        "kd:learning_rate=0.1",
        "kd:learning_rate=0.2",
    ]


def test_of_a_method_without_a_trained_teacher_both_are_one_run():
    spec = replace(KD, method="udcd", hparams=(("learning_rate", "0.01"), ("lambda_kl", "2")))
    said = planner.normalize_spec(spec)
    assert said.protocol == (("learning_rate", 0.01),) and said.hparams == (("lambda_kl", 2.0),)
    assert said == planner.normalize_spec(
        replace(KD, method="udcd", hparams=(("lambda_kl", 2.0),), protocol=(("learning_rate", 0.01),))
    )


def test_what_changes_nothing_is_dropped():
    usual = planner.resolve_protocol(KD).learning_rate
    assert planner.normalize_spec(replace(KD, hparams=(("learning_rate", usual),))) == KD
    both = replace(KD, protocol=(("learning_rate", 0.1),), hparams=(("learning_rate", 0.1),))
    assert planner.normalize_spec(both).hparams == ()
    back = planner.normalize_spec(
        replace(KD, protocol=(("learning_rate", 0.1),), hparams=(("learning_rate", usual),))
    )
    assert back.hparams == (("learning_rate", usual),) and back.protocol == (("learning_rate", 0.1),)


def test_the_command_of_a_run_makes_that_run():
    spec = planner.normalize_spec(replace(KD, hparams=(("learning_rate", 0.01), ("temperature", 2.0))))
    command = planner.format_command(spec, CommandPlaces(Path("data"), Path("results")))
    assert "--set temperature=2.0 --set kd.learning_rate=0.01" in command
    settings = (("temperature", "2.0"), ("kd.learning_rate", "0.01"), ("epochs", "3"))
    assert planner.split_settings("kd", settings) == (
        (("epochs", "3"),),
        (("temperature", "2.0"), ("learning_rate", "0.01")),
    )


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("dk.temperature=2", "--set dk.temperature is of no row here; did you mean 'kd'?"),
        ("kd.temprature=2", "No row (kd) has a hyper-parameter 'temprature'; did you mean 'temperature'?"),
        (
            "kd.x=2",
            "'x'. Hyper-parameters: temperature, ce_weight, kd_weight. Numbers of the protocol can be set too",
        ),
        ("scratch.temperature=2", "No row (scratch) has a hyper-parameter 'temperature'"),
        ("*.temprature=2", "did you mean 'temperature'?"),
        ("kd.temperature=hot,2", "invalid temperature=hot"),
    ],
)
def test_what_no_row_has_is_refused(table, setting, sentence):
    with pytest.raises(UserError) as refused:
        table.list_runs(ask(setting))
    assert sentence in str(refused.value)


def test_it_is_said_before_anything_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "run", lambda *_: pytest.fail("something trains"))
    words = ["run", "table2", "--set=temperature=2", f"--out={tmp_path}", f"--data={tmp_path}"]
    with pytest.raises(UserError, match=r"would change .* at once; give \*\.temperature=2"):
        cli.main(words, standalone_mode=False)
    assert not list(tmp_path.iterdir())


def test_the_variable_holds_settings_of_rows_too():
    text = "epochs=1 kd.temperature=2  *.temperature=1,2 scl-ikd.negatives=8 weights=my file.pth threads = 1"
    parts = Settings().split_envvar_value(text)
    assert parts == ["epochs=1", "kd.temperature=2", "*.temperature=1,2", "scl-ikd.negatives=8",
                     "weights=my file.pth", "threads = 1"]  # fmt: skip


def test_stored_runs_are_named_as_a_request_takes_them(table):
    request = ask()
    stored = [
        planner.normalize_spec(replace(KD, hparams=pairs))
        for pairs in ((("temperature", 2.0),), (("learning_rate", 0.1),), (("kd_weight", 0.5),))
    ]
    records = {spec: {"key": str(spec.hparams), "spec": spec.to_dict()} for spec in stored}
    results = Results(None, records, {})
    others = stored_settings.list_other_requests(table, request, results)
    assert {other.request.hparams for other in others} == {
        (("*.temperature", 2.0),),
        (("kd.learning_rate", 0.1),),
        (("kd_weight", 0.5),),
    }
