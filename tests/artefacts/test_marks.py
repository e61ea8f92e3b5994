"""Which figures of a table are bold, what its caption says of it, and what else a reader may want left out or noted."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from support import records as make
from udcd_bench import plugins
from udcd_bench.artefacts import marks
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.judging.comparisons import compare_rows
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.runs.results import load_results
from udcd_bench.runs.store import Store

RIGHT = {"scratch": 0.9, "kd": 0.88, "udcd": 0.6}
ASK = TableRequest("paper", methods=tuple(RIGHT), datasets=("aptos",), seeds=(0, 1))


@pytest.fixture(scope="module")
def table():
    return plugins.load_class("tables", "table2")()


@pytest.fixture(scope="module")
def results(table, tmp_path_factory):
    """Three rows on 120 images, two seeds: two of them near each other, one far below."""
    store = Store(tmp_path_factory.mktemp("marks"))
    for spec in table.list_runs(ASK):
        make.finish(store, spec, n=120, right=RIGHT[spec.method])
    return load_results(store)


def mark(table, request, results):
    frame = table.build_frame(request, results)
    return frame, marks.mark_figures(table, request, results, frame)


def test_bold_is_what_cannot_be_told_from_the_best(table, results):
    frame, marked = mark(table, ASK, results)
    for metric in table.metrics:
        ours = frame[frame["metric"] == metric].set_index("method")["ours"]
        compared = compare_rows(table, ASK, results, ours.idxmax(), load_tolerances())
        near = {row.method for row in compared if row.metric == metric and row.p_holm > 0.05}
        bold = {key[2] for key in marked.by_cell if key[3] == metric}
        assert bold == near | {ours.idxmax()}, metric
    assert {key[2] for key in marked.by_cell} == {"scratch", "kd"}, (
        "the largest alone, or all, would be wrong"
    )
    assert "cannot be told from the best" in marked.legend and "5 %" in marked.legend


def test_one_run_has_no_bold_and_the_caption_says_why(table, results):
    one = replace(ASK, seeds=(0,))
    frame, marked = mark(table, one, results)
    assert (frame["n"] == 1).all() and marked.by_cell == {}
    assert "one run" in table.build_sheet(one, results, frame).describe_marks()
    assert marks.mark_figures(table, replace(one, methods=("crd",)), results, frame[:0]).legend == ""


def test_a_row_of_one_run_takes_no_part(table, results):
    best = next(spec for spec in results.records if (spec.method, spec.seed) == ("scratch", 1))
    fewer = replace(
        results, records={spec: r for spec, r in results.records.items() if spec != best}, draws={}
    )
    frame, marked = mark(table, ASK, fewer)
    assert set(frame["n"]) == {1, 2}
    assert "scratch" not in {key[2] for key in marked.by_cell} and "Rows with one run" in marked.legend


def test_without_scores_nothing_is_bold(table, results):
    gone = replace(results, store=Store(results.store.root / "nowhere"), draws={})
    assert mark(table, ASK, gone)[1] == marks.Marks({}, marks.NO_PAIRS)


def test_the_papers_habit_marks_the_largest(table, results):
    frame, marked = mark(table, replace(ASK, marks="largest"), results)
    for metric in table.metrics:
        ranked = frame[frame["metric"] == metric].sort_values("ours", ascending=False)["method"].tolist()
        words = {key[2]: word for key, word in marked.by_cell.items() if key[3] == metric}
        assert words == {ranked[0]: "best", ranked[1]: "second"}
    assert marked.legend == marks.LARGEST


def test_equals_share_a_mark_and_a_lone_figure_has_none():
    key = ("a", None, "x", "acc")
    ranked = marks._rank_values([(key, 1.0), ("y", 1.0), ("z", 0.5), ("w", 0.1)], higher=True)
    assert ranked == {key: "best", "y": "best", "z": "second"}
    assert marks._rank_values([(key, 1.0), ("y", 2.0)], higher=False) == {key: "best", "y": "second"}


def test_plain_leaves_out_the_spread_that_the_csv_keeps(table, results):
    whole, plain = (table.render(replace(ASK, plain=plain), results) for plain in (False, True))
    assert "±" in whole.text and "±" not in plain.text
    csv, tex, _, md = (path.read_text(encoding="utf-8", errors="replace") for path in plain.files)
    assert "pm" not in re.findall(r"\$\\(\w+)\$", tex) and "±" not in md
    assert (
        not any(math.isnan(value) for value in plain.frame["spread"])
        and f"{plain.frame['spread'][0]:.2f}" in csv
    )


def test_the_table_of_another_split_has_a_label_of_its_own(table, results):
    frame = table.build_frame(ASK, results)
    names = [table.build_sheet(replace(ASK, split=s), results, frame).name for s in ("paper", "grouped")]
    assert names == ["table2", "table2-grouped"]


def test_a_row_that_sets_a_number_of_the_protocol_says_so(table, results):
    asked = replace(ASK, methods=("udcd", "udcd-released"))
    notes = table.build_frame(asked, results).groupby("method")["note"].unique()
    (released,) = notes["udcd-released"]
    assert "ce_normalise = batch in place of weights" in released and notes["udcd"].tolist() == [""]
    for setting in ("weights", "batch"):
        same = table.build_frame(replace(asked, protocol=(("ce_normalise", setting),)), results)
        assert not same["note"].str.contains("protocol").any(), "then all rows have the same"
