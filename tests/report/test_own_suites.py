"""Suites of one's own on the page: each run's line names the suite that it needs, and a broken file spoils nothing."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from support import records as make
from support import suites
from udcd_bench import plugins
from udcd_bench.artefacts.file_names import make_stem
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.errors import UserError
from udcd_bench.report import page, views
from udcd_bench.report import runs as report_runs
from udcd_bench.report.views import Selection
from udcd_bench.runs.results import Results, load_results
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store

pytestmark = pytest.mark.usefixtures("own_suites")

BASE = RunSpec("scratch", "synthetic-fundus", "demo", "densenet-tiny")


def write(folder, name, *, teacher=None, losses='{"ce": logits.sum()}'):
    return suites.write_method(folder, name, losses, teacher=teacher)


def list_commands(store):
    results = load_results(store)
    runs = report_runs.list_runs(views.list_views(results, Selection()), results)
    return {run.spec.method: run.command.partition(" train ")[0].removeprefix("udcd-bench") for run in runs}


def test_the_line_of_a_run_names_the_suites_of_its_method_and_of_its_teachers(tmp_path):
    one, two = write(tmp_path / "one", "mine"), write(tmp_path / "two", "taught", teacher="trained:mine")
    for folder in (one, two):
        plugins.add_suite(folder)
    store = Store(tmp_path / "out")
    for method in ("scratch", "kd", "mine", "taught", "focal", "elsewhere"):
        make.finish(store, replace(BASE, method=method), n=30, method_title=method)
    command = "udcd-bench --suite three train lost --dataset synthetic-fundus"
    store.record_failure("0" * 16, replace(BASE, method="lost"), "no", "", command)
    assert list_commands(store) == {
        "scratch": "",
        "kd": "",
        "mine": f" --suite {one}",
        "taught": f" --suite {one} --suite {two}",
        "focal": " --suite modern",
        "elsewhere": " --suite FOLDER",
        "lost": " --suite three",
    }


@pytest.fixture
def broken(tmp_path):
    """A suite of a method, one with a mistake, and one that the latter teaches."""
    folder = write(tmp_path / "suite", "good")
    write(folder, "bad", losses='{"ce": self.student(batch.views[0]).levels.sum()}')
    plugins.add_suite(write(folder, "taught", teacher="trained:bad"))
    return folder


@pytest.fixture
def table():
    return plugins.load_class("tables", "table2")()


def test_a_table_of_other_rows_does_not_read_a_broken_file(broken, table, tmp_path, caplog):
    request = TableRequest(methods=("scratch", "good"), datasets=("synthetic-fundus",))
    assert [spec.method for spec in table.list_runs(request)] == ["scratch", "good"]
    assert make_stem(table, request).startswith("table2-scratch-good")
    results = Results(Store(tmp_path), {}, {})
    sheet = table.build_sheet(request, results, table.build_frame(request, results))
    assert "--methods scratch,good" in sheet.command
    assert not caplog.records


def test_a_table_of_all_rows_leaves_a_broken_file_out_and_says_so_once(broken, table, caplog):
    with caplog.at_level(logging.WARNING):
        rows = {spec.method for _ in range(2) for spec in table.list_runs(TableRequest())}
    assert "good" in rows and not {"bad", "taught"} & rows
    assert [r.getMessage().partition(": ")[0] for r in caplog.records] == ["left out"]
    assert f"{broken / 'bad.py'}, line " in caplog.text and "levels is read" in caplog.text


@pytest.mark.parametrize("row", ["bad", "taught"])
def test_a_broken_file_that_is_asked_for_is_refused_when_runs_are_listed(broken, table, row):
    with pytest.raises(UserError, match=r"bad\.py, line \d+: .*levels is read"):
        table.list_runs(TableRequest(methods=("scratch", row)))


def test_a_report_shows_the_runs_of_a_file_that_is_broken_by_now(broken, tmp_path):
    store = Store(tmp_path / "out")
    for method in ("scratch", "good", "bad"):
        make.finish(store, replace(BASE, method=method), n=30, method_title=method)
    store.record_failure("0" * 16, replace(BASE, method="bad", seed=1), "no", "")
    assert list_commands(store) == {"scratch": "", **dict.fromkeys(("good", "bad"), f" --suite {broken}")}
    assert "the line that tries it again" in page.render_page(store, Selection()).html.decode()
