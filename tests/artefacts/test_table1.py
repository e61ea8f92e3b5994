"""Table 1: its runs, what it shares with Table 2, and its published figures' places."""

from __future__ import annotations

from support import records as make
from udcd_bench import plugins
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.paper import published
from udcd_bench.runs.results import Results
from udcd_bench.runs.store import Store


def tables():
    return plugins.load_class("tables", "table1")(), plugins.load_class("tables", "table2")()


def test_the_datas_own_imbalance_is_table_2s_run():
    one, two = tables()
    ask = TableRequest("paper", folds=(0, 1))
    shared = set(one.list_runs(ask)) & set(two.list_runs(ask))
    assert shared == {spec for spec in two.list_runs(ask) if spec.dataset == "ham10000"}
    assert {spec.rho for spec in one.list_runs(ask)} == {144, None, 17, 9}


def test_the_table_of_losses_for_imbalance_shares_its_runs(shipped_suites, tmp_path):
    one, losses = tables()[0], plugins.load_class("tables", "imbalance")()
    ask = TableRequest("paper")
    runs = losses.list_runs(ask)
    assert set(runs) <= set(one.list_runs(ask)) and {spec.rho for spec in runs} == {144, None, 17, 9}
    assert {spec.method for spec in runs} == set(losses.rows)
    further = {row.name: row.listed for row in tables()[1].list_rows(ask)}
    assert further["udcd"] and not further["dkd"], "Table 2 has the suite's rows below its rule"
    assert "dkd" not in {row.name for row in losses.list_rows(ask)}
    got = losses.render(ask, Results(Store(tmp_path), {spec: make.record(spec) for spec in runs}, {}))
    assert "weigh the classes" in " ".join(got.text.split()) and got.frame["published"].isna().all()


def test_every_published_figure_has_a_place(tmp_path):
    one, _ = tables()
    ask = TableRequest("paper")
    found = {spec: make.record(spec) for spec in one.list_runs(ask)}
    got = one.render(ask, Results(Store(tmp_path), found, {}))
    assert int(got.frame["published"].count()) == len(published.load_table("table1")) == 80
    kd = got.frame[(got.frame["method"] == "kd") & (got.frame["metric"] == "acc")]
    assert dict(zip(kd["rho"], kd["published"])) == {144: 86.56, 58: 85.05, 17: 76.07, 9: 75.21}


def test_a_stand_in_has_no_published_figure(tmp_path):
    one, _ = tables()
    ask = TableRequest("demo")
    got = one.render(
        ask, Results(Store(tmp_path), {spec: make.record(spec) for spec in one.list_runs(ask)}, {})
    )
    assert got.frame["published"].isna().all() and set(got.frame["dataset"]) == {"synthetic-lesions"}
    assert (
        "images of synthetic-lesions are drawn" in " ".join(got.text.split()) and "HAM10000" not in got.text
    )
