"""``search`` as typed, on a hundred small images: an equal budget, resumable, chosen on validation images."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from udcd_bench.artefacts.made_from import find_trial_keys, find_used_keys
from udcd_bench.cli import cli
from udcd_bench.engines import local, ray
from udcd_bench.engines.events import RunFailed
from udcd_bench.engines.job_queue import JobQueue, run_job
from udcd_bench.errors import UserError
from udcd_bench.report.page import render_page
from udcd_bench.report.views import Selection, list_stored_specs, list_views
from udcd_bench.runs import planner
from udcd_bench.runs.results import load_results
from udcd_bench.runs.store import Store
from udcd_bench.tuning import searches

pytestmark = pytest.mark.slow

SEARCH = ("search", "table2", "--datasets=synthetic-lesions", "--device=cpu",
          "--set=n_images=100", "--set=image_size=32", "--set=epochs=2", "--set=batch_size=16")  # fmt: skip
STEM = "table2-tuned-3-scratch-kd-synthetic-lesions-batch_size=16-epochs=2-image_size=32-n_images=100"


def make_runs(trained, fails=lambda job: False):
    """The local engine in this process; notes what it trains, and fails what is to fail."""

    def run(jobs, context, slots, notify):
        queue = JobQueue.from_jobs(jobs)
        while (job := queue.find_ready(set(queue.waiting))) is not None:
            del queue.waiting[job.key]
            trained.append(job.spec)
            event = (
                RunFailed(job.key, "the loss is nan")
                if fails(job)
                else run_job(job, context, lambda event: None)
            )
            queue.handle_event(event, job, context.store, notify)
            queue.fail_orphans(notify)
        return queue.failed

    return run


def search(out, data, *words, methods="scratch,kd", trials=3):
    line = [*SEARCH, f"--methods={methods}", f"--trials={trials}", f"--out={out}", f"--data={data}", *words]
    return cli.main(line, standalone_mode=False)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, prepared_lesions):
    """A results folder with a finished search, and the specs in the order in which they were trained."""
    out, trained = tmp_path_factory.mktemp("search") / "results", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "run", make_runs(trained))
        assert search(out, prepared_lesions) == 0
    return out, trained


@pytest.fixture(autouse=True)
def unseen_pictures(monkeypatch):
    """The search above has drawn its table; of those that tests make nobody looks at the picture."""
    monkeypatch.setattr("udcd_bench.render.picture.render_png", lambda sheet: b"")


@pytest.fixture
def trials(searched):
    return pd.read_csv(searched[0] / "demo" / f"{STEM}-trials.csv", comment="#")


def test_every_row_has_the_same_number_of_trials_on_the_same_images(searched, trials):
    store = Store(searched[0])
    assert trials.groupby("method")["trial"].apply(list).to_dict() == {"kd": [0, 1, 2], "scratch": [0, 1, 2]}
    records = [store.read_record(key) for key in trials["key"]]
    assert len({record["split_hash"] for record in records}) == 1
    assert {record["n_validation"] + record["n_train"] for record in records} == {80}
    assert {record["teacher_key"] for record in records if record["spec"]["method"] == "kd"} == {
        trials.loc[(trials["method"] == "scratch") & (trials["trial"] == 0), "key"].item()
    }, "the teacher is the untuned one, of the same images"


def test_the_best_on_validation_images_is_chosen_and_no_test_figure_is_there(searched, trials):
    for _, study in trials.groupby("method"):
        best = study["validation_f1"].idxmax()
        assert study.index[study["chosen"]].tolist() == [best]
    store = Store(searched[0])
    record = store.read_record(trials["key"][0])
    assert trials["validation_f1"][0] == pytest.approx(100 * record["validation"]["mean"]["f1"])
    assert not set(trials.columns) & set(record["figures"]["mean"])


def test_the_table_shows_rows_untuned_and_tuned(searched, trials):
    out, _ = searched
    frame = pd.read_csv(out / "demo" / f"{STEM}.csv", comment="#")
    assert list(dict.fromkeys(frame["method"])) == ["scratch", "scratch:tuned", "kd", "kd:tuned"]
    assert {"KD", "KD, tuned, 3 trials"} <= set(frame["method_title"])
    results = load_results(Store(out))
    whole = {s: r for s in results.list_made() if "n_validation" not in (r := results.records[s])}
    assert all(record["n_train"] == 80 for record in whole.values())
    for method in ("scratch", "kd"):
        settings = trials.loc[(trials["method"] == method) & trials["chosen"], "settings"].fillna("").item()
        wanted = dict(pair.split("=") for pair in settings.split())
        (tuned,) = [
            record["figures"]["mean"]
            for spec, record in whole.items()
            if spec.method == method
            and all(getattr(planner.resolve_protocol(spec), n) == float(v) for n, v in wanted.items())
            and (wanted or spec.hparams == ())
            and (wanted or "learning_rate" not in dict(spec.protocol))
        ]
        cells = frame[frame["method"] == f"{method}:tuned"].set_index("metric")["ours"]
        assert cells.to_dict() == pytest.approx({name: 100 * tuned[name] for name in cells.index}, abs=0.006)


def test_files_say_what_was_searched_and_how(searched):
    text = (searched[0] / "demo" / f"{STEM}.md").read_text()
    parts = ("untuned and tuned, side by side", "the best of 3 trials", "by F1 on 20% of the training fold")
    tried = "Scratch, KD: learning\\_rate 0.00125 to 0.02, by logarithm"
    for part in (*parts, "nothing is chosen on the test images", tried):
        assert part in text, part
    assert "--trials 3" in text.splitlines()[-1] and "udcd-bench search table2" in text.splitlines()[-1]
    assert "runs are done" not in text, "all are"
    endings = {path.name.removeprefix(STEM) for path in (searched[0] / "demo").iterdir()}
    assert endings == {".csv", ".tex", ".png", ".md", ".runs.json", "-trials.csv", "-trials.runs.json"}


def test_the_same_search_trains_nothing_again_and_a_longer_one_only_more(
    searched, prepared_lesions, monkeypatch
):
    out, first = searched
    trained = []
    monkeypatch.setattr(local, "run", make_runs(trained))
    before = (out / "demo" / f"{STEM}-trials.csv").read_bytes()
    assert search(out, prepared_lesions) == 0 and trained == []
    assert (out / "demo" / f"{STEM}-trials.csv").read_bytes() == before
    assert len(first) == len(set(first))
    assert search(out, prepared_lesions, trials=4) == 0
    assert sum("validation" in dict(spec.protocol) for spec in trained) == 2


def test_a_cluster_is_joined_once_for_all_rounds(tmp_path, prepared_lesions, monkeypatch, capsys):
    joined, left, trained = [], [], []

    @contextlib.contextmanager
    def join(*how):
        joined.append(how)
        with contextlib.redirect_stdout(sys.stderr):  # as Ray's needs it
            yield SimpleNamespace(slots=1, run=make_runs(trained))
        left.append(len(trained))

    monkeypatch.setattr(ray, "join_cluster", join)
    words = ("--engine=ray", "--address=auto", "--jobs=2")
    monkeypatch.setattr(searches, "BATCH", 1)
    assert search(tmp_path, prepared_lesions, *words, methods="scratch", trials=2) == 0
    assert joined == [("auto", "cpu", 2, 1)] and left == [len(trained)] and len(trained) > 2
    assert "tuned, 2 trials" in capsys.readouterr().out, "the table goes to standard output"
    assert search(tmp_path, prepared_lesions, *words, methods="scratch", trials=2) == 0
    assert len(joined) == 1, "nothing is left to make"


def test_trials_are_kept_and_left_out_of_reports(searched, trials):
    store = Store(searched[0])
    keys = set(trials["key"])
    assert keys <= find_trial_keys(searched[0]) <= find_used_keys(searched[0], {})
    specs = list_stored_specs(load_results(store), Selection())
    assert specs and not any("validation" in dict(spec.protocol) for spec in specs)


def test_a_report_shows_tuned_rows_below_the_rows_as_they_are(searched):
    results = load_results(Store(searched[0]))
    (view,) = list_views(results, Selection())
    assert not {"learning_rate", "weight_decay"} & dict(view.request.protocol).keys()
    names = [table.name for table, _ in view.tables]
    assert "table2" in names and not any(name.startswith("further") for name in names)
    table, request = next(pair for pair in view.tables if pair[0].name == "table2-tuned-3")
    titles = [row.title for row in table.list_rows(request)]
    assert titles == ["Scratch", "Scratch, tuned, 3 trials", "KD", "KD, tuned, 3 trials"]
    frame = table.build_frame(request, results).set_index(["method", "metric"])
    stored = pd.read_csv(searched[0] / "demo" / f"{STEM}.csv", comment="#").set_index(["method", "metric"])
    for cell in stored.index:
        assert frame.loc[cell, "ours"] == pytest.approx(stored.loc[cell, "ours"], abs=0.006), cell
    html = render_page(Store(searched[0]), Selection()).html.decode()
    assert "KD, tuned, 3 trials" in html and "udcd-bench search table2" in html


def test_a_search_on_other_validation_images_replaces_no_file(tmp_path, prepared_lesions, monkeypatch):
    monkeypatch.setattr(local, "run", make_runs([]))
    for share in ("0.20", "0.30"):
        assert search(tmp_path, prepared_lesions, f"--validation={share}", methods="scratch", trials=1) == 0
    names = sorted(path.name.partition("-scratch-")[0] for path in (tmp_path / "demo").glob("*-trials.csv"))
    assert names == ["table2-tuned-1", "table2-tuned-1-validation=0.3"]


def test_a_stored_run_teaches_in_a_search(searched, prepared_lesions, capsys):
    out, (first, *_) = searched
    key = load_results(Store(out)).records[first]["key"]
    words = (f"--teacher={key}", "--validation=0.2", "--dry-run")
    assert search(out, prepared_lesions, *words, methods="kd") == 0
    assert "0 teachers of theirs" in capsys.readouterr().out


def test_a_dry_run_says_runs_and_epochs(tmp_path, prepared_lesions, capsys):
    assert search(tmp_path, prepared_lesions, "--dry-run") == 0
    out, err = capsys.readouterr()
    assert out.startswith("6 trials, 3 of each row, data set and fold, and 0 teachers of theirs; then 4 runs")
    assert "10 runs to make" in err and "20 epochs" in err
    assert search(tmp_path, prepared_lesions, "--dry-run", methods="kd") == 0
    assert (
        "3 trials, 3 of each row, data set and fold, and 1 teacher of theirs; then 3 runs"
        in capsys.readouterr().out
    )
    assert not list(tmp_path.iterdir())


def test_a_trial_that_fails_counts_and_the_search_goes_on(tmp_path, prepared_lesions, monkeypatch, capsys):
    def is_tried(job):
        return "learning_rate" in dict((*job.spec.protocol, *job.spec.hparams))

    monkeypatch.setattr(local, "run", make_runs([], is_tried))
    assert search(tmp_path / "out", prepared_lesions, methods="scratch") == 0
    (path,) = (tmp_path / "out" / "demo").glob("*-trials.csv")
    frame = pd.read_csv(path, comment="#")
    assert frame["state"].tolist() == ["done", "the loss is nan", "the loss is nan"]
    assert frame["chosen"].tolist() == [True, False, False]


def test_a_search_of_which_no_trial_finishes_says_so(tmp_path, prepared_lesions, monkeypatch, capsys):
    monkeypatch.setattr(local, "run", make_runs([], lambda job: "validation" in dict(job.spec.protocol)))
    assert search(tmp_path / "out", prepared_lesions, methods="scratch", trials=1) == 1
    out, err = capsys.readouterr()
    assert "No trial of scratch on lesions (synthetic stand-in), fold 0, has finished." in err
    assert "not run" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--validation=none",),
            "A search chooses on validation images; give a share, such as --validation 0.2.",
        ),
        (("--dry-run", "--format=commands"), "it has no --format commands"),
        (("--methods=kdd",), "There is no method 'kdd'"),
        (("--set=kd.validation=0.3",), "All rows of a search are chosen on the same images"),
        (("--set=tau=2",), "has a hyper-parameter 'tau'"),
    ],
)
def test_what_cannot_be_searched_is_refused(tmp_path, prepared_lesions, words, sentence):
    with pytest.raises(UserError) as refused:
        search(tmp_path, prepared_lesions, *words)
    assert sentence in str(refused.value)
