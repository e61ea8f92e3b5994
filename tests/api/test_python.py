"""``import udcd_bench as ub``: docs/python.md runs as it stands, values are the files', errors are sentences."""

from __future__ import annotations

import functools
import io
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import udcd_bench as ub
from udcd_bench import plugins
from udcd_bench.errors import RunError, UserError
from udcd_bench.render import plots
from udcd_bench.runs.store import Store

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
ASKED = {"methods": ("scratch", "udcd"), "datasets": "digits", "settings": {"epochs": 2}}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The names that the page's code leaves, and the folder that it ran in."""
    folder, names = tmp_path_factory.mktemp("page"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(plots, "DPI", 40)
        threads = torch.get_num_threads()
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
            exec(compile(block, "docs/python.md", "exec"), names)
        assert torch.get_num_threads() == threads
    return names, folder


def test_the_page_has_every_function():
    for name in ub.__all__:
        assert f"| `ub.{name}` |" in PAGE and f"ub.{name}(" in PAGE
        doc = getattr(ub, name).__doc__
        assert len(doc) > 100
        assert "Raises UserError" in doc or "what is raised, are those of ``table``" in doc
    assert set(ub.__all__) <= set(dir(ub))
    with pytest.raises(AttributeError, match="has no attribute 'tabel'"):
        ub.tabel  # noqa: B018


@pytest.mark.slow
def test_a_run_is_as_its_files_say(page):
    names, folder = page
    run = names["run"]
    store = Store(folder / "results")
    arrays = store.read_scores(run.key)
    logits = torch.from_numpy(arrays["scores"][-1]).double()
    np.testing.assert_allclose(run.scores.filter(like="p_"), logits.softmax(1))
    assert run.scores["id"].tolist() == arrays["ids"].tolist() and run.classes == tuple(run.record["classes"])
    assert names["logits"].shape == (2, 10) and not names["logits"].requires_grad
    expected = names["probabilities"].numpy()
    np.testing.assert_allclose(run.predict(names["image"]).filter(like="p_"), expected[:1], atol=1e-5)
    assert repr(run) == f"<run {run.key}: {run.label}>"


def test_results_is_every_figure_of_every_run(page):
    names, folder = page
    frame, record = names["frame"], names["run"].record
    assert set(frame["key"]) == {names["run"].key} and set(frame["rule"]) == {"mean", "last", "best"}
    for row in frame.itertuples():
        assert row.value == record["figures"][row.rule][row.metric]
    Store(folder / "none").create()
    assert ub.results(folder / "none").empty


def test_a_table_is_html_in_a_notebook(page):
    table = page[0]["table"]
    acc = table.frame[(table.frame["method"] == "scratch") & (table.frame["metric"] == "acc")]["ours"].item()
    assert acc == pytest.approx(100 * page[0]["run"].record["figures"]["mean"]["acc"])
    html = table._repr_html_()
    (shown,) = pd.read_html(io.StringIO(html)) if has_lxml() else (None,)
    assert f"{acc:.2f}" in html and "<table>" in html and "not run" in html and "Scratch" in html
    assert shown is None or "Scratch" in shown.iloc[:, 0].tolist()
    assert f"{acc:.2f}" in repr(table) and html.count("<td") == html.count("</td>")


def has_lxml():
    try:
        import lxml  # noqa: F401
    except ImportError:
        return False
    return True


def test_text_from_records_is_escaped(page, monkeypatch):
    from dataclasses import replace

    sheet = page[0]["table"].sheet
    html = type(page[0]["table"])(
        page[0]["table"].frame, replace(sheet, title="<script>&\x1b[31m")
    )._repr_html_()
    assert "&lt;script&gt;&amp;[U+001B][31m." in html and "<script" not in html


def test_a_figure_is_a_picture_in_a_notebook(page):
    figure = page[0]["figure"]
    with Image.open(io.BytesIO(figure._repr_png_())) as png:
        assert png.format == "PNG"
    assert figure.frames[".csv"]["count"].sum() == pytest.approx(page[0]["run"].record["n_test"])
    assert not list((page[1] / "results").glob("*/*.png")), "nothing is written"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ub.train("scratc", "digits"), "did you mean 'scratch'"),
        (
            lambda: ub.train("scratch", "digits", epochs=2),
            "train takes no 'epochs'; its options are backbone, data",
        ),
        (lambda: ub.train("scratch", "digits", settings={"epoch": 2}), "epoch"),
        (lambda: ub.load_run("nowhere"), "nowhere is no finished run; give its folder"),
        (lambda: ub.results("nowhere"), "nowhere: there is no such results folder"),
        (lambda: ub.table("table9", "results"), "table9"),
        (
            lambda: ub.table("table2", "results", method="udcd"),
            "there is no option 'method'; there are backbone",
        ),
        (lambda: ub.table("table2", "results", methods="udcb"), "did you mean 'udcd'"),
        (lambda: ub.figure("tsen", "results"), "did you mean 'tsne'"),
        *(
            (functools.partial(ub.table, "table2", "results", **{name: value}), says)
            for name, value, says in [
                ("rule", "median", "rule='median': it is one of mean, last, best, best-validation."),
                ("split", "all", "split='all': it is one of paper, grouped"),
                ("marks", "bold", "marks='bold': it is one of tested"),
                ("methods", [], "methods is empty"),
                ("datasets", Path("digits"), "is no name"),
                ("folds", 9, "folds are 0 to 4"),
                ("backbone", "densenet11", "timm knows no backbone 'densenet11'. Near: "),
            ]
        ),
    ],
)
def test_errors_are_sentences(page, monkeypatch, call, says):
    monkeypatch.chdir(page[1])
    with pytest.raises(UserError) as raised:
        call()
    assert says in str(raised.value)


@pytest.mark.slow
def test_settings_of_a_notebook_have_no_part_in_a_run(page, tmp_path):
    own, pixels = page[0]["run"], np.random.default_rng(0).integers(0, 256, (2, 40, 30, 3), np.uint8)
    spec = own.record["spec"]
    expected = own.predict(pixels)
    settings = {name: np.int64(value) if type(value) is int else value for name, value in spec["protocol"]}
    with torch.no_grad(), torch.autocast("cpu"), torch.device("meta"):
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        try:
            run = ub.train(
                spec["method"],
                spec["dataset"],
                tmp_path,
                settings,
                fold=np.int64(0),
                fraction=1,
                data=page[1] / "data",
            )
            predicted = run.predict(pixels)
            assert torch.get_default_dtype() == torch.float64 and not torch.is_grad_enabled()
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_float32_matmul_precision("highest")
    assert run.key == own.key
    pd.testing.assert_frame_equal(run.scores, own.scores, check_exact=True)
    pd.testing.assert_frame_equal(predicted, expected, check_exact=True)


def test_a_method_that_draws_from_global_generators_draws_the_same_again(
    prepared_lesions, tmp_path, own_suites
):
    (tmp_path / "noisy.py").write_text(NOISY)
    plugins.add_suite(tmp_path)
    asked = {
        "backbone": "densenet-tiny",
        "settings": {"epochs": 2, "report_epochs": 1, "n_images": 100, "image_size": 32},
        "data": prepared_lesions,
    }
    random.seed(1)
    np.random.seed(1)
    drawn = []
    for out in ("first", "second"):
        drawn.append((random.random(), np.random.rand()))
        run = ub.train("noisy", "synthetic-lesions", tmp_path / out, **asked)
        drawn.append(run.scores)
    pd.testing.assert_frame_equal(drawn[1], drawn[3], check_exact=True)
    random.seed(1)
    np.random.seed(1)
    assert [drawn[0], drawn[2]] == [(random.random(), np.random.rand()) for _ in range(2)], "the user's go on"


NOISY = """
import random
import numpy as np
import torch.nn.functional as F
from udcd_bench.method import BaseMethod


class Method(BaseMethod):
    title = "Noisy"
    citation = "None, 2024"

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        return {"ce": (random.random() + np.random.rand()) * F.cross_entropy(logits, batch.labels)}
"""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 1.0}, "1.0 is no whole number"),
        ({"seed": "1"}, "'1' is no whole number"),
        ({"fold": True}, "True is no number"),
        ({"seed": -1}, "Expected `int` >= 0"),
        ({"fraction": 1.5}, "<= 1"),
        ({"rho": "big"}, "'big' is no number"),
        ({"dataset": Path("pets")}, "own images are named as in 'folder:pets'"),
    ],
)
def test_an_option_of_another_kind_is_refused_before_anything_is_made(tmp_path, options, says):
    with pytest.raises(UserError, match=re.escape(says)):
        ub.train("scratch", **{"dataset": "digits", "out": tmp_path / "results"} | options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folds", ["all", [True], 0.5, (0, -1)])
def test_folds_that_are_no_numbers_are_refused(page, folds):
    with pytest.raises(UserError, match=r"^folds="):
        ub.table("table2", page[1] / "results", folds=folds)


def test_a_fold_or_a_name_given_twice_counts_once(page):
    once, twice = (
        ub.table(
            "table2", page[1] / "results", **ASKED | {"folds": folds, "seeds": folds, "methods": methods}
        )
        for folds, methods in ((np.int64(0), "scratch"), ((0, np.int64(0)), ["scratch", "scratch"]))
    )
    assert once.sheet == twice.sheet


def test_a_run_that_fails_or_is_under_way_elsewhere_is_said(page, tmp_path, monkeypatch):
    monkeypatch.chdir(page[1])
    asked = {"dataset": "digits", "out": tmp_path, "settings": {"epochs": 2, "learning_rate": 1e30}}
    with pytest.raises(RunError, match=r"scratch digits .*lower the learning rate"):
        ub.train("scratch", **asked)
    (key,) = Store(tmp_path).list_failed()
    monkeypatch.setattr(Store, "acquire", lambda self, key: False)
    with pytest.raises(RunError, match="is being trained by another process"):
        ub.train("scratch", **asked)
    assert Store(tmp_path).list_failed() == [key]


def test_importing_waits_for_nothing():
    code = (
        "import sys, time; began = time.perf_counter(); import udcd_bench; took = time.perf_counter() - began\n"
        "assert not {'torch', 'numpy', 'pandas', 'click'} & sys.modules.keys(); print(took)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.1
