"""The verdict on a table, calibrated by simulation: true tables seldom fail, and deficits are found.

``UDCD_BENCH_CALIBRATION=write`` makes the campaign behind docs/statistics.md again, in minutes, and writes its curves.
"""

from __future__ import annotations

import os
import re

import numpy as np
import pandas as pd
import pytest

from support import calibration
from support.calibration import CSV, NOISY, PLACES, RULES, TABLES
from support.simulation import CORRELATION, FOLDS, list_settings
from udcd_bench.judging import difference, paper_audit
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.paper import published

PAGE = CSV.parent / "statistics.md"
WRITE = os.environ.get("UDCD_BENCH_CALIBRATION") == "write"


@pytest.fixture(scope="module")
def stored():
    if WRITE:
        made = [calibration.run(table, batches=16, pool=8, tables=60, seed=0) for table in TABLES]
        frame = pd.concat(made, ignore_index=True)
        frame.to_csv(CSV, index=False, lineterminator="\n")
        calibration.draw(frame, CSV.with_suffix(".png"))
    return pd.read_csv(CSV)


def select(frame, table, folds, rule, cells):
    of = (frame["table"] == table) & (frame["folds"] == folds)
    (line,) = frame[of & (frame["rule"] == rule) & (frame["cells"] == cells)].itertuples()
    return line


# --- the simulation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_simulated_methods_have_the_published_figures_and_correlated_errors(table):
    rng = np.random.default_rng(0)
    printed = {value.key: value.percent for value in published.load_table(table)}
    for setting in list_settings(table):
        figures = np.mean([setting.draw_fold(rng).figures for _ in range(40)], axis=0)
        for row, values in zip(setting.rows, figures):
            assert values[0] == pytest.approx(printed[setting.dataset, setting.rho, row, "acc"], abs=0.8)
            assert values[2] == pytest.approx(printed[setting.dataset, setting.rho, row, "rec"], abs=1.6)


def test_errors_of_two_rows_are_correlated_as_stated():
    """Of two rows that are equally accurate: the variance of their difference is 2 (1 − ρ) of one's."""
    (setting, *_) = list_settings("table2")
    setting = type(setting)("table2", "aptos", None)
    setting.rows, setting.recalls = ["a", "b"], np.repeat(setting.recalls[:1], 2, axis=0)
    rng = np.random.default_rng(1)
    acc = np.array([setting.draw_fold(rng).figures[:, 0] for _ in range(1500)])
    shared = 1 - np.var(acc[:, 0] - acc[:, 1]) / (2 * acc.var(0).mean())
    # errors that depend on the class are a little less correlated within it
    assert shared == pytest.approx(CORRELATION, abs=0.05)


# --- calibration and power ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("table", TABLES)
def test_true_tables_seldom_fail_and_a_large_deficit_is_found(table, stored):
    fresh = calibration.run(table, batches=2, pool=5, tables=20, seed=1)
    for folds in FOLDS:
        share = select(fresh, table, folds, "table", "any").share
        assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
        assert select(fresh, table, folds, "exact", "any").share > 0.4
        for place in PLACES:
            of = (fresh["folds"] == folds) & (fresh["cells"] == place)
            assert fresh[of]["share"].iloc[-1] > 0.9, "16 points are found"
            wanted = calibration.find_deficit(stored, table, folds, place)
            assert calibration.find_deficit(fresh, table, folds, place) == pytest.approx(wanted, abs=1.5)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("folds", FOLDS)
def test_in_the_campaign_one_true_table_in_twenty_fails_at_most(stored, table, folds):
    whole = select(stored, table, folds, "table", "any")
    assert whole.share <= 0.05 + 2 * whole.error and whole.error < 0.03
    assert select(stored, table, folds, "each", "any").share > whole.share, "cells alone fail more often"
    assert select(stored, table, folds, "exact", "any").share > 0.5
    pooled, unseen = (select(stored, table, folds, rule, "any") for rule in ("pooled", "unseen"))
    assert pooled.share <= 0.05 + 2 * pooled.error and pooled.error < 0.03
    assert unseen.share > 0.1, "noise that nobody measured is not allowed for"


def test_the_page_tells_what_the_campaign_gave(stored):
    text = PAGE.read_text()
    rows = {name.strip(): values for name, values in re.findall(r"^\| ([^|]+?) \|(.*)\|$", text, re.M)}
    for table in TABLES:
        for place, title in PLACES.items():
            wanted = [f"{calibration.find_deficit(stored, table, folds, place):.1f}" for folds in FOLDS]
            assert [v.strip() for v in rows[f"Table {table[-1]}, {title}"].split("|")] == wanted
        curves = RULES | {
            rule: f"both errors, the table as a whole; {title}" for rule, (_, title) in NOISY.items()
        }
        for rule, title in curves.items():
            wanted = [f"{select(stored, table, folds, rule, 'any').share:.2f}" for folds in FOLDS]
            assert [v.strip() for v in rows[f"Table {table[-1]}, {title}"].split("|")] == wanted
    accuracy = [f"{select(stored, 'table2', folds, 'exact', 'accuracy').share:.2f}" for folds in FOLDS]
    assert [
        v.strip() for v in rows["Table 2, published figure exact, its 18 accuracy cells"].split("|")
    ] == accuracy


@pytest.mark.parametrize(("dataset", "percent"), [("aptos", 83), ("ham10000", 87)])
def test_what_a_published_fold_leaves_by_itself_is_as_the_page_says(dataset, percent):
    n = paper_audit.find_fold_sizes({"t": published.load_table("table2")}, {})[dataset, None]
    noise = load_tolerances().get_noise("acc")
    half = 1.96 * np.hypot(100 * np.sqrt(percent / 100 * (1 - percent / 100) / n), noise)
    text = " ".join(PAGE.read_text().split())
    assert f"{n} images of {'HAM10000' if dataset == 'ham10000' else 'APTOS'}" in text.replace(
        "733 of", "733 images of"
    )
    assert re.search(
        rf"{n} (images )?behind (the published figure|one) of {percent} % leave ±{half:.1f}", text
    )


# --- the joint p ----------------------------------------------------------------------------------------------


def test_the_joint_p_of_one_cell_is_its_own_and_of_many_independent_ones_is_sidaks():
    rng = np.random.default_rng(0)
    errors = rng.normal(0, 2.0, (20000, 1))
    (p,) = difference.compute_joint_p(np.array([2 * 1.6449]), errors)
    assert p == pytest.approx(0.05, abs=0.006)
    errors = rng.normal(0, 1, (20000, 10)) * np.arange(1, 11)
    p = difference.compute_joint_p(2.5 * np.arange(1, 11), errors)
    assert p == pytest.approx(1 - (1 - 0.00621) ** 10, abs=0.008)


def test_cells_that_move_together_count_as_one():
    rng = np.random.default_rng(0)
    errors = np.repeat(rng.normal(0, 1, (20000, 1)), 18, axis=1)
    p = difference.compute_joint_p(np.full(18, 1.6449), errors)
    assert p == pytest.approx(0.05, abs=0.006)
