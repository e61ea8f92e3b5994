"""The paper's figures as data: what the files hold, and what they refuse."""

from __future__ import annotations

from collections import Counter

import pytest

from udcd_bench.errors import UserError
from udcd_bench.paper import published

HEADER = "dataset,rho,method,metric,percent,marks\n"


def test_table2_is_whole():
    figures = published.load_table("table2")
    assert len(figures) == 9 * 2 * 4
    assert {f.dataset for f in figures} == {"aptos", "ham10000"}
    assert {f.rho for f in figures} == {None}
    assert set(Counter(f.method for f in figures).values()) == {8}
    at = published.index_by_key(figures)
    assert at["ham10000", None, "udcd", "acc"].percent == 90.28
    assert at["aptos", None, "scratch", "f1"].percent == 69.10
    assert [(f.method, f.metric) for f in figures if f.marks and f.dataset == "aptos"] == [
        ("crckd", "ap"),
        ("crd", "acc"),
        ("udcd", "rec"),
        ("udcd", "f1"),
    ]


def test_table1_is_whole():
    figures = published.load_table("table1")
    assert len(figures) == 5 * 4 * 4
    assert {f.rho for f in figures} == {144, 58, 17, 9}
    assert published.index_by_key(figures)["ham10000", 9, "ssd-kd", "ap"].marks == "second"


def test_an_unknown_table_is_told_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'table2'"):
        published.load_table("tabel2")


def test_a_file_of_ones_own_is_read(tmp_path):
    file = tmp_path / "mine.csv"
    text = "marks, percent,metric,method,rho,dataset,page\nbest,71.5,acc,mine,,mydata,3\n\n"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert published.read_csv(file) == (
        published.PublishedValue("mydata", None, "mine", "acc", 71.5, "best"),
    )


def test_a_file_that_is_edited_meanwhile_is_read_anew(tmp_path):
    file, other = tmp_path / "mine.csv", tmp_path / "other.csv"
    for text in ("80", "90", "80.5", "eighty", "80"):
        for each in (file, other):
            each.write_text(f"{HEADER}a,,m,acc,{text},\n")
        if text == "eighty":
            with pytest.raises(UserError, match=r"other\.csv, line 2"):
                published.read_csv(other)
        else:
            assert [figure.percent for figure in published.read_csv(file)] == [float(text)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: column 'dataset' is missing"),
        ("dataset,rho,method,metric,marks\n", "line 1: column 'percent' is missing"),
        (HEADER, "holds no figure"),
        (HEADER + "a,,m,acc,80,\na,,m,f1,8o,\n", "line 3, column percent: '8o' is not a number"),
        (HEADER + "a,,m,acc,nan,\n", "line 2, column percent: 'nan' is not a number"),
        (HEADER + "a,,m,acc,100.5,\n", "line 2, column percent: 100.5 is not between 0 and 100"),
        (HEADER + "a,x,m,acc,80,\n", "line 2, column rho: 'x' is not a number"),
        (HEADER + "a,0.5,m,acc,80,\n", "line 2, column rho: 0.5 is below 1"),
        (HEADER + "a,,m,acc,80,bold\n", "line 2, column marks: 'bold' is not one of"),
        (HEADER + "a,,,acc,80,\n", "line 2, column method: it is empty"),
        (HEADER + "a,,m,acc,80\n", "line 2: 5 values"),
        (HEADER + "a,,m,acc,80,\na,,m,acc,81,\n", "line 3, column metric: m acc appears twice"),
    ],
)
def test_what_does_not_fit_is_refused_by_file_line_and_column(tmp_path, text, says):
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        published.read_csv(file)
    assert says in str(error.value)
    assert str(file) in str(error.value)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    file = tmp_path / "bad.csv"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"bad\.csv cannot be read"):
        published.read_csv(file)
    with pytest.raises(UserError, match="cannot be read"):
        published.read_csv(tmp_path / "absent.csv")
