"""The table of larger teachers and smaller students: its runs, the teacher's own figures, pairs told apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support import records as make
from udcd_bench import plugins
from udcd_bench.artefacts.file_names import make_stem
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.runs import planner
from udcd_bench.runs.results import Results, load_results
from udcd_bench.runs.store import Store

TEACHER = "scratch:backbone=teacher"
PAIRS = [("resnet-tiny", "mobilenet-tiny"), ("densenet-tiny", "efficientnet-tiny")]
OWN = ("scratch", "kd", "rkd")
DEMO = TableRequest("demo", methods=OWN)


@pytest.fixture
def table():
    return plugins.load_class("tables", "teachers")()


def list_groups(table, request):
    return [(group.teacher_backbone, group.backbone) for group in table.list_column_groups(request)]


def test_the_first_row_holds_the_runs_that_teach(table):
    specs = table.list_runs(DEMO)
    assert len(specs) == len(set(specs)) == 2 * 4
    assert set(planner.list_runs(specs)) == set(specs), "no run is made that the table does not show"
    shown = {(s.method, s.backbone, s.teacher_backbone) for s in specs}
    for teacher, student in PAIRS:
        assert {("scratch", teacher, ""), ("scratch", student, ""), ("kd", student, teacher)} <= shown
    assert list_groups(table, DEMO) == PAIRS


def test_a_teacher_of_another_row_stands_in_the_first_row(table):
    asked = replace(DEMO, teacher="rkd")
    group, row = table.list_column_groups(asked)[0], table.list_rows(asked)[0]
    (spec,) = table.list_cell_runs(asked, row, group)
    assert row.name == TEACHER and (spec.method, spec.backbone, spec.teacher) == ("rkd", "resnet-tiny", "")
    assert make_stem(table, asked) == "teachers-scratch-kd-rkd-teacher-rkd"
    one_run = replace(DEMO, teacher="run:0123456789abcdef", teacher_backbone="resnet18")
    assert [row.name for row in table.list_rows(one_run)] == list(OWN), "of one run there is no row"
    assert list_groups(table, one_run) == [("resnet18", "mobilenet-tiny"), ("resnet18", "efficientnet-tiny")]


def test_a_backbone_that_is_given_takes_that_side(table):
    student = replace(DEMO, backbone="resnet18")
    assert list_groups(table, student) == [("resnet-tiny", "resnet18"), ("densenet-tiny", "resnet18")]
    both = replace(student, teacher_backbone="resnet50")
    assert list_groups(table, both) == [("resnet50", "resnet18")]
    assert list_groups(table, TableRequest("paper")) == list(table.pairs)


@pytest.mark.slow
def test_each_pair_has_its_own_figures_intervals_and_marks(table, tmp_path):
    store, request = Store(tmp_path), replace(DEMO, seeds=(0, 1, 2), folds=(0, 1))
    rights = {TEACHER: 0.95, "scratch": 0.55, "kd": 0.7, "rkd": 0.6}
    for number, group in enumerate(table.list_column_groups(request)):
        for row in table.list_rows(request):
            for spec in table.list_cell_runs(request, row, group):
                make.finish(store, spec, right=rights[row.name] - 0.1 * number, synthetic=True)
    rendered = table.render(request, load_results(store))
    frame = rendered.frame[rendered.frame["metric"] == "acc"].set_index(["dataset", "method"])
    names = [f"synthetic-fundus, {teacher} → {student}" for teacher, student in PAIRS]
    assert list(dict.fromkeys(frame.index.get_level_values(0))) == names
    for row, right in rights.items():
        assert frame.loc[(names[0], row), "ours"] == pytest.approx(100 * right, abs=6)
        assert frame.loc[(names[0], row), "ours"] > frame.loc[(names[1], row), "ours"]
        assert frame.loc[(names[1], row), "low"] < frame.loc[(names[1], row), "ours"] < 100
    assert "resnet-tiny → mobilenet-tiny" in rendered.text and "The teacher itself" in rendered.text
    marked = [line for line in rendered.text.splitlines() if "*" in line]
    assert any(line.startswith("KD ") for line in marked)
    assert not any(line.startswith("The teacher") for line in marked), "the best of the students is marked"


def test_what_is_not_run_is_visible(table, tmp_path):
    frame = table.render(DEMO, Results(Store(tmp_path), {}, {})).frame
    assert set(frame["verdict"]) == {"not run"} and len(frame) == 2 * 4 * 4
