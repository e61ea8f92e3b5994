"""``plot roc``: areas are the tables' own, curves are means over epochs, seeds and folds, bands hold them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from support import records as make
from support import tables
from udcd_bench import plugins
from udcd_bench.grid.cells import TableRequest
from udcd_bench.render import plots
from udcd_bench.runs.results import Results
from udcd_bench.runs.store import Store
from udcd_bench.stats.metrics import softmax

ASK = TableRequest(methods=("scratch", "udcd"), datasets=("digits",), folds=(0, 1), seeds=(0, 1))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The figure of two methods on two folds with two seeds: (results, points, areas)."""
    store, figure = Store(tmp_path_factory.mktemp("roc")), plugins.load_class("figures", "roc")()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "DPI", 40)
        found = {spec: make.finish(store, spec, n=40) for spec in figure.list_runs(ASK)}
        made = figure.render(ASK, Results(store, found, {}))
    points, areas = (tables.read_csv(path) for path in made.files if path.suffix == ".csv")
    assert re.search(r"macro average +80 ", made.text) and "ends in -areas.csv" in " ".join(made.text.split())
    assert any(path.name.endswith("-areas.csv") for path in made.files)
    return Results(store, found, {}), points, areas


@pytest.mark.slow
def test_the_macro_average_is_the_tables(drawn):
    results, _, areas = drawn
    for method in ASK.methods:
        cell = areas[(areas["method"] == method) & (areas["class"] == "all, macro average")].iloc[0]
        for area in ("auroc", "auprc"):
            stored = [
                r["figures"]["mean"][area] for spec, r in results.records.items() if spec.method == method
            ]
            assert cell[area] == pytest.approx(100 * np.mean(stored), rel=1e-5)
        assert cell["images"] == 80 and cell["n"] == 4


def test_a_classs_area_is_the_mean_over_epochs_seeds_and_folds(drawn):
    results, _, areas = drawn
    each = []
    for spec, record in results.records.items():
        if spec.method == "udcd":
            arrays = results.store.read_scores(record["key"])
            each += [
                roc_auc_score(arrays["labels"] == 1, softmax(s.astype(float))[:, 1]) for s in arrays["scores"]
            ]
    row = areas[(areas["method"] == "udcd") & (areas["class"] == "b")].iloc[0]
    assert row["auroc"] == pytest.approx(100 * np.mean(each), rel=1e-5)


def test_bands_hold_the_curves_and_have_a_width(drawn):
    _, points, areas = drawn
    assert (
        points.groupby(["method", "class", "curve"]).size().eq(101).all() and len(points) == 2 * 3 * 2 * 101
    )
    roc = points[points["curve"] == "roc"]
    assert ((roc["low"] <= roc["high"]) & roc["y"].between(0, 1)).all()
    inside = roc["y"].between(roc["low"] - 0.02, roc["high"] + 0.02)
    assert inside.mean() > 0.95 and (roc["high"] - roc["low"]).max() > 0.05
    for area in ("auroc", "sensitivity"):
        assert areas[area].between(areas[f"{area}_low"] - 3, areas[f"{area}_high"] + 3).all()
    ends = roc[roc["x"] == 1]
    assert (ends["y"] == 1).all() and roc.groupby(["method", "class"])["y"].apply(
        lambda y: y.is_monotonic_increasing
    ).all()


def test_a_set_that_cannot_be_resampled_has_no_band(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "DPI", 40)
    figure, ask = (
        plugins.load_class("figures", "roc")(),
        TableRequest(methods=("udcd",), datasets=("digits",)),
    )
    store = Store(tmp_path)
    (spec,) = figure.list_runs(TableRequest(methods=("udcd",), datasets=("digits",)))[-1:]
    labels = np.arange(6) % 3
    scores = np.random.default_rng(0).normal(size=(1, 6, 3)).astype(np.float32)
    record = make.record(spec, classes=list("abc"), n_test=6)
    stored = make.store_run(store, record, make.arrays(scores, labels, groups=labels))
    made = figure.render(ask, Results(store, {spec: stored}, {}))
    areas = tables.read_csv(made.files[-1])
    assert areas["auroc"].notna().all() and areas[["auroc_low", "auroc_high"]].isna().all(axis=None)
