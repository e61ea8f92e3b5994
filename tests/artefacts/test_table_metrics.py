"""The table of every metric: Table 2's runs, rows and data sets, both F1 beside each other."""

from __future__ import annotations

from support import records as make
from udcd_bench import plugins
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.runs.results import Results
from udcd_bench.runs.store import Store
from udcd_bench.stats.metrics import METRICS


def tables():
    return plugins.load_class("tables", "metrics")(), plugins.load_class("tables", "table2")()


def test_it_shares_all_runs_with_table_2():
    every, two = tables()
    for ask in (TableRequest("demo"), TableRequest("paper", folds=(0, 1), seeds=(0, 1))):
        assert every.list_runs(ask) == two.list_runs(ask)
    assert every.rows == two.rows and every.datasets == two.datasets


def test_every_metric_stands_in_it_and_no_published_figure(tmp_path):
    every, _ = tables()
    assert every.metrics == tuple(METRICS)
    ask = TableRequest("paper")
    found = {spec: make.record(spec) for spec in every.list_runs(ask)}
    results = Results(Store(tmp_path), found, {})
    got = every.render(ask, results)
    assert [path.name for path in got.files] == [f"metrics.{end}" for end in ("csv", "tex", "png", "md")]
    assert got.frame["published"].isna().all() and set(got.frame["verdict"]) == {"no counterpart"}
    assert "width bins, lower is better." in " ".join(got.text.split())
    sheet = every.build_sheet(ask, results, every.build_frame(ask, results))
    assert [band.groups for band in sheet.bands] == [("APTOS 2019",), ("HAM10000",)]
    assert sheet.bands[0].metrics[3:5] == ("F1", "F1 of means")
