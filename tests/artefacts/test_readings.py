"""The readings of the paper: each a run of its own, beside the rivals, with how far it moves the result."""

from __future__ import annotations

import pytest

from support import records as make
from support import tables
from udcd_bench import plugins
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.runs import profiles
from udcd_bench.runs.results import Results
from udcd_bench.runs.store import Store

FIGURES = {"acc": 0.8, "ap": 0.8, "rec": 0.8, "f1": 0.8}


@pytest.fixture
def table():
    return plugins.load_class("tables", "readings")()


def made(table, ask, figures):
    """A record for each run, whose figures are by row."""
    found = {}
    for group in table.list_column_groups(ask):
        for line in table.list_rows(ask):
            for spec in table.list_cell_runs(ask, line, group):
                found[spec] = make.record(spec, figures=dict.fromkeys(FIGURES, figures.get(line.name, 0.8)))
    return found


def test_every_switch_of_udcd_is_read_both_ways(table):
    choices = plugins.read_attributes("methods", "udcd")["choices"]
    defaults = plugins.read_attributes("methods", "udcd")["hparams"]
    open_choices = {
        f"udcd:{key}={value}"
        for key, values in choices.items()
        for value in values
        if value not in (defaults[key], "none")
    }
    assert open_choices <= set(table.rows)
    assert {key for key in defaults if key.startswith("lambda_")} == {
        row.partition(":")[2].partition("=")[0] for row in table.rows if row.count("lambda_") == 1
    }


def test_a_reading_is_a_run_of_its_own_and_the_rivals_are_table_2s(table):
    specs = table.list_runs(TableRequest())
    assert len(set(specs)) == len(specs) == 2 * len(table.rows)
    batch = [spec for spec in specs if spec.protocol]
    assert {spec.protocol for spec in batch} == {
        (("ce_normalise", "batch"),),
        (("freeze_bn_after_first_eval", True),),
    }
    two = plugins.load_class("tables", "table2")()
    shared = set(specs) & set(two.list_runs(TableRequest()))
    assert {spec.method for spec in shared} == {*two.rows, "udcd-released"}
    assert profiles.split_overrides((("epochs", 3), ("delta", 1))) == ((("epochs", 3),), (("delta", 1),))


def test_how_far_each_moves_and_its_place(table, tmp_path):
    figures = {"udcd": 0.7, "udcd:relation=kl": 0.9, "crd": 0.75, "ssd-kd": 0.69}
    ask = TableRequest("paper")
    got = table.render(ask, Results(Store(tmp_path), made(table, ask, figures), {}))
    frame = got.frame[(got.frame["dataset"] == "aptos") & (got.frame["metric"] == "f1")].set_index("method")
    assert frame.loc["udcd", "moved"] == 0 and frame.loc["udcd:relation=kl", "moved"] == 20
    # six rivals at 80 and crd at 75 are above it, ssd-kd is not
    assert frame.loc["udcd", "place"] == 8 and frame.loc["udcd:relation=kl", "place"] == 1
    assert frame.loc["crd", ["moved", "place"]].isna().all()
    read = tables.read_csv(tmp_path / "paper" / "readings.csv")
    assert {"moved", "place"} <= set(read.columns) and read["published"].isna().all()
    # readings at 80 tie with rivals at 80, which none surpasses
    text = " ".join(got.text.split())
    assert "ACC under 13 of 14 readings (moved by +0.00 to +20.00 points)" in text


def test_without_rivals_there_is_no_place_and_without_udcd_nothing_to_move_from(table, tmp_path):
    ask = TableRequest("paper", methods=("udcd-released",))
    got = table.render(ask, Results(Store(tmp_path), made(table, ask, {}), {}))
    assert got.frame["place"].isna().all() and got.frame["moved"].isna().all()
    assert "surpasses UDCD" not in got.text
