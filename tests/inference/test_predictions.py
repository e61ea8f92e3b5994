"""``results predictions``: the stored scores as a row an image, of one run or of all, packed or not."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from support import own_runs

FIRST = ["key", "method", "dataset", "seed", "id", "group", "fold", "label", "predicted"]
CLASSES = list(own_runs.COUNTS)


def test_a_runs_test_images_are_its_rows(runs, typed):
    run = runs["scratch", 1]
    status, out, _ = typed("results", "predictions", run.key)
    frame = pd.read_csv(io.StringIO(out))
    arrays = run.store.read_scores(run.key)
    assert status == 0 and frame.columns.tolist() == [*FIRST, *(f"p_{name}" for name in CLASSES), "entropy"]
    assert frame["id"].tolist() == arrays["ids"].tolist() and (frame["fold"] == 1).all()
    assert frame["group"].tolist() == arrays["groups"].tolist()
    assert frame["label"].tolist() == [CLASSES[label] for label in arrays["labels"]]
    logits = arrays["scores"][-1].astype(float)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(frame[[f"p_{name}" for name in CLASSES]], expected, rtol=1e-9)
    np.testing.assert_allclose(frame["entropy"], -(expected * np.log(expected)).sum(1), rtol=1e-9)
    assert frame["predicted"].tolist() == [CLASSES[c] for c in logits.argmax(1)]
    accuracy = (frame["predicted"] == frame["label"]).mean()
    assert accuracy == pytest.approx(run.record["figures"]["last"]["acc"])


def test_all_runs_of_a_packed_folder_in_one_table(runs, typed, tmp_path):
    typed("results", "pack", "--to", tmp_path / "evidence")
    status, out, _ = typed(
        "results", "predictions", "--out", tmp_path / "evidence", "--to", tmp_path / "all.csv"
    )
    frame = pd.read_csv(tmp_path / "all.csv")
    assert status == 0 and f"all.csv: {len(frame)} images of {frame['key'].nunique()} runs." in out
    assert set(frame["key"]) >= {run.key for run in runs.values()} and not frame.isna().any().any()
    expected = runs["scl-ikd", 0].scores
    own = frame[frame["key"] == runs["scl-ikd", 0].key].reset_index(drop=True)
    np.testing.assert_allclose(own["p_wart"], expected["p_wart"])


def test_parquet_where_there_is_pyarrow(runs, typed, tmp_path):
    pytest.importorskip("pyarrow")
    key = runs["scratch", 0].key
    assert typed("results", "predictions", key, "--to", tmp_path / "one.parquet")[0] == 0
    assert len(pd.read_parquet(tmp_path / "one.parquet")) == len(runs["scratch", 0].scores)


def test_refused(runs, typed, tmp_path):
    status, _, err = typed("results", "predictions", runs["scratch", 0].key, "--to", "one.xlsx")
    assert status == 2 and "give a file that ends in .csv or .parquet" in err
    (tmp_path / "empty").mkdir()
    status, _, err = typed("results", "predictions", "--out", tmp_path / "empty")
    assert status == 2 and "is no results folder; give the one that holds store.json and runs" in err
