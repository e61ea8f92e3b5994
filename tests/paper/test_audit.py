"""The audit: what it finds in the paper's tables, typed out by hand, and in tables with and without planted errors."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from udcd_bench import cli
from udcd_bench.data import dataset, splits
from udcd_bench.data.layouts import ham10000
from udcd_bench.judging import paper_audit
from udcd_bench.paper import margins, rounded
from udcd_bench.paper.audit import audit_tables
from udcd_bench.paper.findings import AUDIT_RULES, SEVERITIES
from udcd_bench.paper.published import PublishedValue, load_table
from udcd_bench.stats import metrics

METRICS = ("acc", "ap", "rec", "f1")


def typed(monkeypatch, capsys, *words):
    """Types a command; returns (status, out, err)."""
    monkeypatch.setattr(sys, "argv", ["udcd-bench", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def found_in_paper():
    """Rule → findings, each as a tuple of (table, dataset, rho, method, metric, percent)."""
    found = {rule: [] for rule in AUDIT_RULES}
    for finding in audit_tables(rounded.load_published_tables(), rounded.find_own_rhos()):
        cells = [(c.table, c.dataset, c.rho, c.method, c.metric, c.percent) for c in finding.cells]
        found[finding.rule].append(tuple(cells))
    return found


@pytest.fixture(scope="module")
def paper():
    return found_in_paper()


# --- the paper's tables: every list typed from a reading of them, none computed -----------------------------


def test_the_figures_that_cannot_be(paper):
    assert [(cells[2], cells[0][5], cells[1][5]) for cells in paper["f1-above-harmonic-mean"]] == [
        (("table1", "ham10000", 9, "kd", "f1", 71.54), 66.57, 77.12),
        (("table1", "ham10000", 58, "scl-ikd", "f1", 75.30), 74.91, 71.68),
        (("table1", "ham10000", 9, "ssd-kd", "f1", 72.96), 68.71, 77.15),
        (("table2", "aptos", None, "mtg", "f1", 69.76), 70.07, 68.59),
        (("table2", "ham10000", None, "ssd-kd", "f1", 79.52), 73.20, 85.57),
    ]


def test_the_definition_of_f1_in_ten_rows_of_table1_and_in_none_of_table2(paper):
    (cells,) = paper["f1-is-harmonic-mean"]
    assert {cell[:4] for cell in cells} == {
        ("table1", "ham10000", rho, method)
        for method, rhos in {
            "kd": (144, 58, 17),
            "scl-ikd": (144, 17, 9),
            "crckd": (58,),
            "ssd-kd": (144, 58, 17),
        }.items()
        for rho in rhos
    }
    assert len(cells) == 30
    (mixed,) = paper["f1-definitions-mixed"]
    assert {cell[0] for cell in mixed} == {"table1", "table2"}


def test_the_same_experiment_twice(paper):
    assert [[(c[0], c[3], c[4], c[5]) for c in cells] for cells in paper["same-setting-other-figures"]] == [
        [
            ("table1", "scl-ikd", "acc", 85.69),
            ("table2", "scl-ikd", "acc", 85.58),
            ("table1", "scl-ikd", "ap", 74.91),
            ("table2", "scl-ikd", "ap", 74.89),
            ("table1", "scl-ikd", "rec", 71.68),
            ("table2", "scl-ikd", "rec", 77.68),
            ("table1", "scl-ikd", "f1", 75.30),
            ("table2", "scl-ikd", "f1", 75.48),
        ],
    ], "crckd and ssd-kd are witnesses to the column left behind, and told of there"
    (cells,) = paper["same-figures-other-method"]
    assert {(c[0], c[1], c[2], c[3]) for c in cells} == {
        ("table1", "ham10000", 58, "kd"),
        ("table2", "ham10000", None, "mtg"),
    }
    assert [c[5] for c in cells if c[4] == "rec"] == [74.62, 76.09]


def test_the_marks(paper):
    assert paper["best-mark"] == []  # the paper's bold marks did not survive in the text
    assert [(c[0][0], c[0][1], c[0][2], c[0][4], [x[3] for x in c]) for c in paper["second-mark"]] == [
        ("table1", "ham10000", 144, "rec", ["crckd", "udcd"]),
        ("table1", "ham10000", 58, "f1", ["ssd-kd"]),
        ("table1", "ham10000", 17, "f1", ["crckd", "ssd-kd"]),
        ("table1", "ham10000", 9, "acc", ["kd", "ssd-kd"]),
        ("table1", "ham10000", 9, "rec", ["udcd", "scl-ikd"]),
        ("table2", "aptos", None, "acc", ["crd", "ssd-kd"]),  # 84.09 is marked, and 84.53 is second to 85.01
        ("table2", "aptos", None, "rec", ["udcd", "sskd"]),
        ("table2", "ham10000", None, "f1", ["ssd-kd", "sskd"]),
    ]


def test_that_table1s_58_is_table2s_own_comes_from_the_suite():
    assert rounded.find_own_rhos() == {"ham10000": 58}
    tables = {name: load_table(name) for name in ("table1", "table2")}
    rules = {finding.rule for finding in audit_tables(tables, {})}
    assert not rules & {"same-setting-other-figures", "same-figures-other-method"}


def test_three_rows_tell_that_a_column_of_recall_was_left_behind(paper):
    (cells,) = paper["stale-column"]
    assert [c[5] for c in cells if c[4] == "f1"] == [74.41, 76.59, 79.52]
    assert [(c[0], c[3], c[5]) for c in cells if c[4] == "rec"] == [
        ("table1", "kd", 74.62), ("table2", "mtg", 76.09), ("table1", "crckd", 76.63), ("table2", "crckd", 78.17),
        ("table1", "ssd-kd", 87.04), ("table2", "ssd-kd", 85.57),
    ]  # fmt: skip


def test_one_such_row_is_a_slip_and_another_harmonic_mean_no_witness():
    one, other = (80.11, 70.02, 60.31, 64.80), (81.12, 71.13, 61.42, 65.92)
    moved = [(row[0], row[1], row[2] + 3, row[3]) for row in (one, other)]
    assert "stale-column" in rules_of(rows(one, other, rho=9.0), rows(*moved), own={"d": 9})
    assert "stale-column" not in rules_of(rows(one, rho=9.0), rows(moved[0]), own={"d": 9})
    below = [(*row[:3], row[3] - 1) for row in (one, other)]
    assert "stale-column" not in rules_of(
        rows(*below, rho=9.0), rows(*[(*row[:3], row[3] - 1) for row in moved]), own={"d": 9}
    )


def test_the_definition_of_f1_goes_with_the_method(paper):
    (cells,) = paper["f1-definitions-by-row"]
    assert {cell[0] for cell in cells} == {"table1"} and len(cells) == 20
    findings = audit_tables(rounded.load_published_tables(), {})
    (sentence,) = [f.sentence for f in findings if f.rule == "f1-definitions-by-row"]
    for counts in (
        "kd 3 equal, 1 above;",
        "scl-ikd 3 equal, 1 above;",
        "ssd-kd 3 equal, 1 above;",
        "udcd 4 below.",
    ):
        assert counts in sentence
    assert "crckd 1 equal, 3 below;" in sentence


# --- margins --------------------------------------------------------------------------------------------------


def test_half_a_point_of_733_images_is_no_evidence():
    result = paper_audit.audit_paper(rounded.find_own_rhos())
    by_setting = {(m.best.table, m.best.dataset, m.best.rho): m for m in result.margins}
    assert len(by_setting) == len(result.margins) == 6
    aptos = by_setting["table2", "aptos", None]
    assert (aptos.best.method, aptos.other.method, aptos.n_test) == ("udcd", "ssd-kd", 733)
    assert aptos.points == pytest.approx(0.48) and aptos.images == pytest.approx(3.5184) and aptos.p == 0.125
    assert (
        by_setting["table2", "ham10000", None].n_test == by_setting["table1", "ham10000", 58].n_test == 2003
    )
    assert by_setting["table2", "ham10000", None].testable
    (finding,) = [f for f in result.findings if f.rule == "margin-within-chance"]
    assert "3.5 of 733 test images; exact McNemar p is 0.125 at best" in finding.sentence
    assert finding.sentence.endswith("So no test on one fold could support best-accuracy and across-metrics.")


@pytest.mark.parametrize("rho", [144, 17, 9])
def test_a_resampled_set_has_the_folds_that_the_split_makes(rho):
    counts = ham10000.EXPECTED_COUNTS.counts.values()
    labels = np.repeat(np.arange(7), list(counts))
    made = dataset.Dataset(
        name="h", title="H", classes=tuple("abcdefg"), images=np.zeros((len(labels), 1, 1, 3), np.uint8), labels=labels,
        ids=tuple(map(str, range(len(labels)))), groups=np.arange(len(labels)), fingerprint="f",
    )  # fmt: skip
    (size,) = [
        n
        for (name, at), n in paper_audit.find_fold_sizes(
            rounded.load_published_tables(), {"ham10000": 58}
        ).items()
        if (name, at) == ("ham10000", rho)
    ]
    assert len(splits.split_dataset(made, splits.SplitOptions(rho=float(rho))).test) == size


@pytest.mark.parametrize("k", range(12))
def test_no_discordant_images_give_a_smaller_p_than_all_one_way(k):
    best = margins.compute_best_p(k)
    assert best == pytest.approx(
        min(stats.binomtest(k + more, k + 2 * more).pvalue for more in range(40) if k + more)
    )
    assert margins.compute_best_p(k - 0.5) == best or k == 0


def test_margins_of_another_table(monkeypatch, capsys, tmp_path):
    file = tmp_path / "theirs.csv"
    file.write_text(
        "dataset,method,metric,percent\nd,a,acc,80.00\nd,b,acc,81.50\nd,b,f1,70.00\nd,a,f1,60.00\n"
    )
    status, out, _ = typed(monkeypatch, capsys, "audit", file)
    assert status == 0 and "margin" not in out
    status, out, _ = typed(monkeypatch, capsys, "audit", file, "--their-n=200", "--format=json")
    (margin,) = json.loads(out)["margins"]
    assert (margin["images"], margin["best_p"], margin["testable"]) == (3.0, 0.125, False)
    assert "margin-within-chance" in {f["rule"] for f in json.loads(out)["findings"]}
    status, out, _ = typed(monkeypatch, capsys, "audit", file, "--their-n=2000")
    assert "30.0 of 2000 test images" in out and "margin-within-chance" not in out
    status, _, err = typed(monkeypatch, capsys, "audit", "--their-n=200")
    assert status == 2 and "--their-n is for FILES" in err


# --- tables made up -----------------------------------------------------------------------------------------


def rows(*values, dataset="d", rho=None, names=METRICS):
    return [
        PublishedValue(dataset, rho, f"m{i}", name, value)
        for i, row in enumerate(values)
        for name, value in zip(names, row)
    ]


def rules_of(*tables, own=None):
    return [f.rule for f in audit_tables({f"t{i}": table for i, table in enumerate(tables)}, own or {})]


@st.composite
def measured(draw):
    """A table of what confusion matrices give, averaged over epochs, rounded to 0 to 3 digits."""
    digits = draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    table = []
    for _ in range(draw(st.integers(1, 6))):
        classes, epochs, size = (draw(st.integers(*ends)) for ends in ((2, 6), (1, 3), (1, 200)))
        figures = []
        for _ in range(epochs):
            counts = rng.multinomial(size, rng.dirichlet(np.full(classes**2, 0.3))).reshape(classes, classes)
            counts[:, 0] += counts.sum(1) == 0  # every class has a test image
            precision, recall, f1 = metrics.compute_class_metrics(counts)
            figures.append((np.trace(counts) / counts.sum(), precision.mean(), recall.mean(), f1.mean()))
        table.append([round(100 * float(value), digits) for value in np.mean(figures, axis=0)])
    return table, digits


@settings(deadline=None, max_examples=150)
@given(measured())
def test_nothing_measured_is_called_impossible(drawn):
    table, _ = drawn
    assert "f1-above-harmonic-mean" not in rules_of(rows(*table))


@settings(deadline=None, max_examples=80)
@given(measured(), st.data())
def test_one_planted_impossible_figure_is_found_alone(drawn, data):
    table, digits = drawn
    at = data.draw(st.integers(0, len(table) - 1))
    _, p, r, _ = table[at]
    # the bound moves by twice the rounding at most
    table[at][3] = round(2 * p * r / (p + r) + 3 if p + r else 3.0, digits)
    if table[at][3] > 100:
        table[at][1:] = [50.0, 50.0, 53.0]
    found = [f for f in audit_tables({"t": rows(*table)}, {}) if f.rule == "f1-above-harmonic-mean"]
    assert [finding.cells[0].method for finding in found] == [f"m{at}"]


def test_what_rounding_explains_is_not_impossible():
    # 2·70·70/140 = 70; with AP and REC up to 70.005 and F1 from 70.005
    assert "f1-above-harmonic-mean" not in rules_of(rows((80.11, 70.00, 70.01, 70.01), (1, 0.01, 0.02, 0.02)))
    assert "f1-above-harmonic-mean" in rules_of(rows((80.11, 70.02, 70.01, 70.04)))
    # the same figures printed with one digit
    assert "f1-above-harmonic-mean" not in rules_of(rows((80.1, 70.0, 70.1, 70.1)))


def test_a_column_called_ap_may_be_something_else_where_no_row_tells():
    (finding,) = audit_tables({"t": rows((80.11, 70.01, 70.01, 72.03))}, {})
    assert finding.sentence.endswith(", if AP is macro-averaged precision.")
    (finding,) = audit_tables({"t": rows((70.01, 70.01, 72.03), names=("Precision", "Recall", "F1"))}, {})
    assert finding.sentence.endswith(", if Precision is macro-averaged.")


def test_a_row_or_two_that_agree_are_chance():
    agree = [(80, 70.12, 60.34, 64.86), (80, 71.15, 61.37, 65.90), (80, 72.31, 62.53, 67.07)]
    below = [(80, 72.15, 61.37, 64.90), (80, 73.15, 61.37, 64.91), (80, 74.15, 61.37, 64.92)]
    assert rules_of(rows(*agree[:2], *below)) == []
    assert rules_of(rows(*agree, *below[:2])) == ["f1-is-harmonic-mean"]
    assert rules_of(rows(*agree, *below)) == ["f1-is-harmonic-mean", "f1-definitions-mixed"]
    assert rules_of(rows(*agree), rows(*below, dataset="e")) == [
        "f1-is-harmonic-mean",
        "f1-definitions-mixed",
    ]


def test_the_same_setting_by_an_own_rho_and_by_fewer_digits():
    fine = rows((80.12, 70.12, 60.12, 60.12), rho=9.0)
    assert rules_of(fine, rows((80.1, 70.1, 60.1, 60.1)), own={"d": 9}) == []
    assert rules_of(fine, rows((80.2, 70.1, 60.1, 60.1)), own={"d": 9}) == ["same-setting-other-figures"]
    assert rules_of(fine, rows((80.2, 70.1, 60.1, 60.1)), own={"d": 8}) == []
    assert rules_of(fine, rows((80.12, 70.12, 60.12, 60.12), rho=9.0)) == []


def test_rows_of_two_methods_share_all_but_one():
    assert rules_of(rows((80.12, 70.12, 60.12, 60.12), (80.12, 70.12, 60.12, 60.3))) == [
        "same-figures-other-method"
    ]
    assert rules_of(rows((80.12, 70.12, 60.12, 60.12), (80.12, 70.12, 60.1, 60.3))) == []
    assert rules_of(rows((80.12, 70.12), (80.12, 70.12))) == []
    assert rules_of(rows((80, 70, 60, 60), (80, 70, 60, 60))) == []  # whole per cents


def column(marks, values, metric="acc"):
    return [PublishedValue("d", None, f"m{i}", metric, v, m) for i, (m, v) in enumerate(zip(marks, values))]


@pytest.mark.parametrize(
    ("marks", "values", "found"),
    [
        (["best", "second", ""], [3, 2, 1], []),
        (["", "", ""], [3, 2, 1], []),
        (["second", "best", ""], [3, 2, 1], ["best-mark", "second-mark"]),
        (["best", "", "second"], [3, 2, 1], ["second-mark"]),
        (["best", "second", "second"], [3, 2, 2], []),
        (["best", "second", ""], [3, 2, 2], ["second-mark"]),
        (["best", "best", ""], [3, 3, 2], []),
        (["best", "best", "second"], [3, 3, 2], []),
        (["best", "second", ""], [3, 3, 2], ["best-mark"]),
        (["second", "", ""], [3, 3, 2], []),
        (["best", "best", "second"], [3, 3, 3], ["best-mark"]),
        (["", "second", ""], [3, 2, 1], []),
    ],
)
def test_marks_and_ties(marks, values, found):
    assert rules_of(column(marks, values)) == found


def test_marks_where_lower_is_better():
    assert rules_of(column(["", "second", "best"], [3, 2, 1], "ece")) == []
    assert rules_of(column(["best", "second", ""], [3, 2, 1], "ece")) == ["best-mark"]


# --- as typed -----------------------------------------------------------------------------------------------


def test_the_command_tells_everything_and_ends_well(monkeypatch, capsys):
    status, out, err = typed(monkeypatch, capsys, "audit")
    assert status == 0 and not err
    assert "arXiv:1911.03347" in out
    assert "table1 ham10000 ρ=9 kd: F1 71.54 is above 71.46" in out
    assert (
        "rounding lifts to 71.463 at most, if AP is macro-averaged precision, as 10 of 20 rows of table1 show."
        in out
    )
    assert "if AP is macro-averaged precision, which table1 shows and table2 does not." in out
    status, out, _ = typed(monkeypatch, capsys, "audit", "--format", "json")
    report = json.loads(out)
    assert status == 0 and report["tables"] == {"table1": 80, "table2": 72}
    assert {"rule", "severity", "source", "where", "sentence"} == set(report["findings"][0])
    assert {finding["severity"] for finding in report["findings"]} == set(SEVERITIES)
    assert report["findings"][0]["where"][2] == {
        "table": "table1", "dataset": "ham10000", "rho": 9.0, "method": "kd", "metric": "f1", "percent": 71.54,
        "mark": "",
    }  # fmt: skip


def test_another_papers_table_without_rho_or_marks(monkeypatch, capsys, tmp_path):
    file = tmp_path / "theirs.csv"
    text = "dataset,method,metric,percent\nd,m,precision,70.11\n\nd,m,recall,60.22\nd,m,f1,68.03\n"
    file.write_text(text)
    status, out, _ = typed(monkeypatch, capsys, "audit", file)
    assert status == 0
    assert "1 finding in theirs (3 figures)." in out
    assert "theirs d m: f1" not in out and "theirs d m: F1 68.03 is above 64.79" in out
    other = tmp_path / "more" / "theirs.csv"
    other.parent.mkdir()
    other.write_text(
        text.replace("dataset,", "rho,dataset,").replace("\nd,", "\n7,d,").replace("68.03", "64.21")
    )
    status, out, _ = typed(monkeypatch, capsys, "audit", file, other, "--own-rho", "d=7")
    assert status == 0 and "1 of 3 figures differ: F1 68.03 and 64.21" in out
    status, out, _ = typed(monkeypatch, capsys, "audit", file, other)
    assert status == 0 and "figures differ" not in out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("", "line 1: column 'dataset' is missing"),
        ("dataset,method,metric\nd,m,f1\n", "line 1: column "),
        ("dataset,method,metric,percent\n", "holds no figure"),
        ("dataset,method,metric,percent\n\nd,m,f1,x\n", "line 3, column percent: 'x' is not a number"),
        ("dataset,method,metric,percent\nd,m,f1\n", "line 2: 3 values, and the header names 4 columns"),
        (
            "dataset,method,metric,percent\nd,m,f1,3\nd,m,f1,3\n",
            "line 3, column metric: m f1 appears twice",
        ),
    ],
)
def test_a_bad_file_is_told_in_one_sentence(monkeypatch, capsys, tmp_path, text, says):
    file = tmp_path / "bad.csv"
    if text is not None:
        file.write_text(text)
    status, out, err = typed(monkeypatch, capsys, "audit", file)
    assert status == 2 and not out
    assert says in err and str(file) in err and "Traceback" not in err


def test_other_bad_input(monkeypatch, capsys, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("dataset,method,metric,percent\nd,m,f1,3\n")
    status, _, err = typed(monkeypatch, capsys, "audit", file, file)
    assert status == 2 and "is given twice" in err
    for wrong in ("d", "d=x", "=7", "d=0.5", "d=inf"):
        status, _, err = typed(monkeypatch, capsys, "audit", "--own-rho", wrong)
        assert status == 2 and "such as ham10000=58" in err
