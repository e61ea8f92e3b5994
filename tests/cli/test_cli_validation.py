"""``--validation`` and ``--rule`` as typed: what is stored and said, and what is refused before anything trains."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from test_cli import in_this_process

from udcd_bench.cli import cli
from udcd_bench.engines import local
from udcd_bench.errors import UserError
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import Bootstrap
from udcd_bench.runs import records
from udcd_bench.runs.results import fill_missing_metrics, load_results
from udcd_bench.runs.store import Store
from udcd_bench.stats import metrics

SMALL = ("--set=n_images=100", "--set=image_size=32", "--set=epochs=8", "--set=batch_size=32", "--device=cpu")
TABLE = ("--datasets=synthetic-lesions", "--methods=scratch", *SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prepared_lesions):
    """A results folder with Table 2's Scratch run, one validated and one without, as the command made them."""
    out = tmp_path_factory.mktemp("validated") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "run", in_this_process)
        for words in ((), ("--validation=0.25", "--rule=best-validation", "--name=chosen")):
            line = ["run", "table2", *TABLE, *words, f"--data={prepared_lesions}", f"--out={out}"]
            assert not cli.main(line, standalone_mode=False)
    return out


@pytest.fixture
def validated(folder):
    results = load_results(Store(folder))
    (spec,) = [spec for spec, record in results.records.items() if "n_validation" in record]
    return results, spec


@pytest.mark.slow
def test_a_record_holds_the_validation_images_and_the_epoch_that_is_best_on_them(validated):
    results, spec = validated
    record, arrays = results.records[spec], results.read_scores(spec)
    assert dict(spec.protocol)["validation"] == record["made_of"]["protocol"]["validation"] == "0.25"
    assert record["n_train"] + record["n_validation"] == 80 and record["n_validation"] == len(
        arrays["validation_labels"]
    )
    history = results.store.read_history(record["key"])
    f1 = [row["validation_f1"] for row in history]
    assert record["best_epoch"] == int(np.argmax(f1))
    assert record["validation"]["best-validation"]["f1"] == pytest.approx(max(f1))
    last = metrics.compute_metrics(arrays["validation_scores"][-1], arrays["validation_labels"])
    assert record["validation"]["last"] == last and "best" not in record["validation"]
    chosen = metrics.compute_metrics(arrays["chosen_scores"][0], arrays["labels"])
    assert record["figures"]["best-validation"] == chosen
    assert not set(arrays["validation_ids"]) & set(arrays["ids"])


def test_a_run_without_validation_is_as_it_was(validated):
    results, spec = validated
    (plain,) = results.records.keys() - {spec}
    record = results.records[plain]
    assert "validation" not in record["made_of"]["protocol"] and record["n_train"] == 80
    assert set(record["figures"]) == {"mean", "last", "best"}
    assert_array_equal(results.read_scores(plain)["labels"], results.read_scores(spec)["labels"])
    assert record["split_hash"] != results.records[spec]["split_hash"], "of what trains"


def test_a_table_reports_the_chosen_epoch_and_says_so(folder, validated):
    results, spec = validated
    csv = folder / "demo" / "chosen.csv"
    frame = pd.read_csv(csv, comment="#")
    assert set(frame["rule"]) == {"best-validation"}
    figures = results.records[spec]["figures"]["best-validation"]
    assert frame["ours"].tolist() == pytest.approx(
        [100 * figures[name] for name in frame["metric"]], abs=0.006
    )
    text = csv.with_suffix(".md").read_text()
    assert "epoch of the best F1 on the validation images" in text
    record = results.records[spec]
    assert f"{record['n_train']} training, {record['n_validation']} validation and 20 test images" in text
    assert "--rule best-validation" in csv.read_text().splitlines()[0]


def test_the_chosen_epoch_is_resampled(validated):
    results, spec = validated
    draws = Bootstrap(results, "best-validation", load_tolerances()).draw_runs([spec], ["acc"])[spec]["acc"]
    figure = results.records[spec]["figures"]["best-validation"]["acc"]
    assert draws.mean() == pytest.approx(figure, abs=0.03)


def test_an_export_has_the_rule_and_the_validation_figures(folder):
    exported = folder.parent / "runs.csv"
    assert not cli.main(["results", "export", str(exported), f"--out={folder}"], standalone_mode=False)
    frame = pd.read_csv(exported)
    assert frame["rule"].value_counts().to_dict() == {"mean": 2, "last": 2, "best": 2, "best-validation": 1}
    assert frame.loc[frame["rule"] == "best-validation", "validation_f1"].notna().all()


def test_metrics_of_later_are_computed_for_the_chosen_epoch_too(validated):
    results, spec = validated
    record = json.loads(json.dumps(results.records[spec]))
    for figures in record["figures"].values():
        del figures["ece"]
    assert fill_missing_metrics(record, results.store)["figures"] == results.records[spec]["figures"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"validation_labels": None}, "it has no validation_labels"),
        ({"validation_ids": np.array(["a"])}, "of different lengths"),
        ({"chosen_scores": np.zeros((1, 3, 7), np.float32)}, "of different lengths"),
        ({"validation_scores": np.zeros((1, 20, 7), np.int64)}, "not floating-point"),
        ({"validation_labels": np.full(20, 9)}, "labels are not integers"),
    ],
)
def test_damaged_arrays_of_validation_images_are_found(change, reason):
    labels = np.arange(20) % 7
    scores = np.zeros((1, 20, 7), np.float32)
    arrays = {
        "scores": scores, "epochs": np.zeros(1), "labels": labels, "ids": labels, "groups": labels,
        "embeddings": np.zeros((20, 4), np.float32), "chosen_scores": scores, "validation_scores": scores,
        "validation_chosen_scores": scores, "validation_labels": labels, "validation_ids": labels,
        "validation_groups": labels,
    }  # fmt: skip
    records.check_arrays(arrays, 7)
    with pytest.raises(ValueError, match=reason):
        records.check_arrays({k: v for k, v in (arrays | change).items() if v is not None}, 7)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--rule=best-validation",),
            "scratch has no validation images to choose an epoch on; add --validation 0.2",
        ),
        (("--validation=0.7",), "invalid validation='0.7': it is a share of the training fold, 0.5 at most"),
        (("--validation=own",), "synthetic-lesions brings no val; give a share"),
        (("--set=validation=some",), "or one of none, own"),
    ],
)
def test_what_cannot_validate_is_refused(words, sentence, tmp_path, prepared_lesions):
    with pytest.raises(UserError) as refused:
        cli.main(
            ["run", "table2", *TABLE, *words, f"--data={prepared_lesions}", f"--out={tmp_path}"],
            standalone_mode=False,
        )
    assert sentence in str(refused.value)


def test_the_option_and_the_number_are_one(folder, prepared_lesions, capsys):
    """Nothing is left to train, however the share is written."""
    for words in (("--set=validation=0.250",), ("--validation=.25",)):
        line = ["run", "table2", *TABLE, *words, f"--data={prepared_lesions}", f"--out={folder}", "--dry-run"]
        assert not cli.main(line, standalone_mode=False)
        assert "The run is done" in capsys.readouterr().err
