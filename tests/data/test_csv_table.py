"""CSVs as people write them: labels are compared as what they are, names find their file, nothing is lost unsaid."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import zipfile

import pytest
from PIL import Image

from support import layouts
from udcd_bench.data import sources
from udcd_bench.data.cache import decode
from udcd_bench.data.cache.options import PrepareOptions
from udcd_bench.data.files import labels, tables
from udcd_bench.data.layouts import aptos, folder
from udcd_bench.errors import UserError

NAMES = [f"im/{c}/{i:03d}.png" for c in "ab" for i in range(4)]
IDS = [name.removeprefix("im/") for name in NAMES]
"""From the folder of all images, wherever the table lies."""
LABELS = list("aaaabbbb")


@pytest.fixture
def root(tmp_path):
    for i, name in enumerate(NAMES):
        layouts.write(tmp_path / name, layouts.encode(layouts.picture(i, 12, 9), "PNG"))
    return tmp_path


def write(root, rows, name="t.csv", head="path,label", **how):
    text = "\n".join([head, *rows]) + "\n"
    data = text.replace(",", how.get("separator", ",")).encode(how.get("encoding", "utf-8"))
    return layouts.write(root / name, data)


def read(table):
    """Label by id, and the lines of the report."""
    index = folder.read_index(table)
    return {item.id: index.classes[item.label] for item in index.items}, index.report.format_lines()


def rows_of(names=NAMES, labels=LABELS):
    return [f"{name},{label}" for name, label in zip(names, labels, strict=True)]


# --- labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spellings, classes",
    [
        (("0", "0.0", "00", " 0", "+0", "-0", "0e0", "0."), ("0",)),
        (("1", "1.0", "01", "1e0"), ("1",)),
        (("10", "9", "1e1", "9.0"), ("9", "10")),
        (("-1", "-1.0"), ("-1",)),
        (("0", "0.0", "0.5", "0.50", "1", "1.0", ".5"), ("0", "0.5", "1")),  # as of a dementia rating
        (("10.5", "9.50", "9.5"), ("9.5", "10.5")),
        (("0", "0.0", "x"), ("0", "0.0", "x")),  # not all numbers, so text
        (("001", "1", "a1"), ("001", "1", "a1")),
        (("é", "e\u0301"), ("é",)),
        (("True", "1"), ("1", "True")),
    ],
)
def test_labels_are_compared_as_what_they_are(spellings, classes, root):
    spread = [*itertools.islice(itertools.cycle(spellings), 7), "7" if len(classes) == 1 else spellings[0]]
    index = folder.read_index(write(root, rows_of(labels=spread)))
    last = () if len(classes) > 1 else ("7",)
    assert index.classes == classes if not last else set(index.classes) == {*classes, *last}
    told = [f"· 1 class names that hardly differ: {' and '.join(classes[:2])}"]
    assert len(index.items) == 8
    assert index.report.format_lines() == (told if classes[-1] in ("x", "a1") else [])


def test_decimal_commas_of_a_semicolon_table(root):
    rows = [row.replace(",", ";") + ",0" for row in rows_of(labels=list("00001111"))]
    table = layouts.write(root / "t.csv", "path;label\n" + "\n".join(rows))
    assert set(read(table)[0].values()) == {"0", "1"}


@pytest.mark.parametrize("missing", sorted(tables.MISSING))
def test_a_missing_label_is_no_class(missing, root):
    rows = rows_of(labels=["0.0", missing, "0", "1", "1", "1.0", "1", "0"])
    labels, lines = read(write(root, rows))
    assert set(labels.values()) == {"0", "1"} and len(labels) == 7
    assert lines == ["✗ 1 rows without a label: im/a/001.png"]


def test_missing_as_pandas_knows_it():
    from io import StringIO

    import pandas as pd

    for text in tables.MISSING - {""}:
        assert pd.read_csv(StringIO(f"x,y\n{text},1\n"))["x"].isna().all(), text


def test_labels_that_hardly_differ_are_told_and_stay_apart(root):
    labels, lines = read(write(root, rows_of(labels=["Benign", "benign", "be nign", *"xxxxx"])))
    assert len(set(labels.values())) == 4
    assert lines == ["· 1 class names that hardly differ: Benign and be nign and benign"]


def test_several_labels_in_one_cell_stop(root):
    """ChestX-ray14 has Cardiomegaly|Effusion beside both: no class of its own."""
    labels = ["Cardiomegaly", "Cardiomegaly|Effusion", "Effusion", "Effusion", "no|one", "no|one", "x+", "x"]
    assert read(write(root, rows_of(labels=labels)))[1] == [
        "✗ 1 labels that join several labels of this set: Cardiomegaly|Effusion"
    ]


@pytest.mark.parametrize(
    "labels, joined",
    [
        (["0", "1", "2", "1,0", "2,0"], ["1,0", "2,0"]),
        (["[0]", "[1]", "[0, 1]"], ["[0, 1]"]),
        (["A", "B", "A and B"], ["A and B"]),
        (["A", "A|B", "C"], ["A|B"]),
        (["A;B", "A", "C"], ["A;B"]),
        (["scab", "complex", "rust", "scab rust", "scab complex"], ["scab complex", "scab rust"]),
        (["scab", "complex", "rust", "scab rust complex"], ["scab rust complex"]),
        (["['a']", "['b']", "['a', 'b']"], ["['a', 'b']"]),
        (["0", "1", "0 1"], ["0 1"]),
        (["a", "b", "A/B"], ["A/B"]),
    ],
)
def test_several_labels_in_a_cell_stop_however_joined(labels, joined, root):
    rows = [f'{name},"{label}"' for name, label in zip(NAMES, itertools.cycle(labels))]
    index = folder.read_index(write(root, rows))
    assert index.report.examples["several"] == joined[:3]
    assert index.report.list_blocking() == ["several"] and index.report.counts["several"] == len(joined)


@pytest.mark.parametrize(
    "labels, told",
    [
        (["sea", "lion", "sea lion"], ["sea lion"]),
        (
            ["mild", "moderate", "severe", "mild-moderate", "moderate-severe"],
            ["mild-moderate", "moderate-severe"],
        ),
        (["scab", "complex", "scab frog_eye complex"], ["scab frog_eye complex"]),
        (["keratosis", "keratosis, seborrheic"], ["keratosis, seborrheic"]),
        (["nevus", "atypical nevus", "non-nevus"], []),
        (["1", "10", "1,000"], []),
        (["head and neck", "breast", "salt & pepper"], []),
        (["HER2+", "HER2-", "HER2"], []),
        (["not sure", "sure", "vessel/line"], []),
    ],
)
def test_names_of_several_words_are_classes(labels, told, root):
    rows = [f'{name},"{label}"' for name, label in zip(NAMES, itertools.cycle(labels))]
    index = folder.read_index(write(root, rows))
    assert index.report.examples["joined"] == told and index.report.list_blocking() == []
    assert set(index.classes) == set(labels) and index.report.counts["alike"] == 0


@pytest.mark.parametrize(
    "labels, classes",
    [
        (["0,0", "1,0"], {"0", "1"}),
        (["0", "0,5", "1", "1,5"], {"0", "0.5", "1", "1.5"}),
        (["0", "1", "1,0"], {"0", "1", "1,0"}),  # two labels, or one?
        (["1", "1,000", "2"], {"1", "1,000", "2"}),
        (["0,5", "x"], {"0,5", "x"}),
    ],
)
def test_commas_are_decimal_only_where_they_can_be_nothing_else(labels, classes, root):
    rows = [f"{name};{label}" for name, label in zip(NAMES, itertools.cycle(labels))]
    index = folder.read_index(layouts.write(root / "t.csv", "path;label\n" + "\n".join(rows)))
    assert set(index.classes) == classes
    rows = [f'{name},"{label}"' for name, label in zip(NAMES, itertools.cycle(labels))]
    assert set(folder.read_index(write(root, rows)).classes) == set(labels)


@pytest.mark.parametrize(
    "labels, same",
    [
        (["0", "0.0", "unknown"], "0 and 0.0"),
        (["benign", "benign\u200b"], "benign and benign\u200b"),
        (["grade-1", "grade–1"], "grade-1 and grade–1"),
        (["a", "'a'"], "'a' and a"),
        (["01", "1", "x"], "01 and 1"),
        (["ﬁne", "fine"], "fine and ﬁne"),
    ],
)
def test_labels_that_look_alike_are_told(labels, same, root):
    report = folder.read_index(write(root, rows_of(labels=(labels * 4)[:8]))).report
    assert report.examples["alike"] == [same] and report.list_blocking() == []


def test_spellings_that_share_no_part_of_a_split_stop(root):
    rows = [f"{name},{label},{part}" for name, label, part in zip(
        NAMES, ["B", "B", "m", "m", "b", "b", "m", "m"], ["train"] * 4 + ["test"] * 4)]  # fmt: skip
    report = folder.read_index(write(root, rows, head="path,label,split")).report
    assert report.list_blocking() == ["alike"] and report.examples["alike"] == ["B and b"]


@pytest.mark.parametrize("word", ["NAN", "none", "Null", "-", "?", "N.A.", "missing"])
def test_words_for_a_missing_label_are_told_and_stay_classes(word, root):
    report = folder.read_index(write(root, rows_of(labels=["NA", word, *"aaabbb"]))).report
    assert report.examples["no_label"] == [word] and report.counts["unlabelled"] == 1


def test_numbers_that_would_be_written_without_end(root):
    spellings = ["1e-999999999", "0e-999999999", "1_0", "10", *"2222"]
    assert set(folder.read_index(write(root, rows_of(labels=spellings))).classes) == {*spellings[:4], "2"}
    assert tables.parse_number("0e-999999999") == 0 and tables.parse_number("1_0") is None


@pytest.mark.parametrize("error", ["#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#WERT!", "Err:502"])
def test_cells_that_a_spreadsheet_could_not_compute_are_missing(error, root):
    labels, lines = read(write(root, rows_of(labels=["0.0", error, "0", *"11111"])))
    assert set(labels.values()) == {"0", "1"} and lines == [
        "✗ 1 rows without a label: im/a/001.png",
        f"· 1 cells hold a spreadsheet's error, such as {error}, and are read as missing",
    ]


def test_a_label_that_is_a_formula_is_told(root):
    report = folder.read_index(write(root, rows_of(labels=["=B2", *"aaabbbb"]))).report
    assert report.examples["formula"] == ["=B2"] and report.list_blocking() == []


@pytest.mark.parametrize(
    "groups, alike",
    [
        (["P1", "p1", "P 1", "P2"], ["P 1 and P1 and p1"]),
        (["1", "1.0", "01", "P7"], ["01 and 1 and 1.0"]),
        (["P01", "P1", "P10"], ["P01 and P1"]),
        (["Ann Lee", "ann lee", "Ann"], ["Ann Lee and ann lee"]),
        (["1", "1.0", "2"], []),  # numbers all, and one group
        (["1-11", "11-1", "1 11", "11 1", "1.10x", "1.1x", "A-1", "A1"], []),
    ],
)
def test_groups_that_hardly_differ_are_told(groups, alike, root):
    rows = [f"{row},{group}" for row, group in zip(rows_of(), itertools.cycle(groups))]
    report = folder.read_index(write(root, rows, head="path,label,group")).report
    assert report.examples["groups"] == alike and report.list_blocking() == []


def test_a_missing_group_is_no_group_and_a_missing_split_is_none(root):
    rows = [
        f"{name},{label},{group}"
        for name, label, group in zip(
            NAMES, LABELS, ["nan", "", "NA", "1", "1.0", "2", "2", "3"], strict=True
        )
    ]
    index = folder.read_index(write(root, rows, head="path,label,group"))
    assert [item.group for item in index.items] == ["", "", "", "1", "1", "2", "2", "3"]
    rows = [f"{row},nan" for row in rows_of()]
    assert not any(item.split for item in folder.read_index(write(root, rows, head="path,label,split")).items)


def test_aptos_grades_by_the_same_rule(tmp_path, monkeypatch):
    monkeypatch.setattr(aptos, "EXPECTED_COUNTS", layouts.APTOS_PUBLISHED)
    root = layouts.aptos_competition(tmp_path / "a")
    wanted = {item.id: item.label for item in aptos.read_index(root).items}
    text = (root / "train.csv").read_text()
    for old, new in ((",0\n", ",00\n"), (",2\n", ",2.0\n"), (",4\n", ",+4\n")):
        text = text.replace(old, new)
    (root / "train.csv").write_text(text)
    assert {item.id: item.label for item in aptos.read_index(root).items} == wanted
    (root / "train.csv").write_text(text.replace(",3\n", ",nan\n"))
    assert aptos.read_index(root).report.counts["range"] == 1


# --- encodings and separators -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding, read_as",
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16-LE"),
        ("utf-16-be", "UTF-16-BE"),
        ("latin-1", "Windows-1252"),
        ("cp1252", "Windows-1252"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators(encoding, read_as, separator, root):
    labels = ["bénin", "bénin", *"mmmmmm"]
    got, lines = read(write(root, rows_of(labels=labels), encoding=encoding, separator=separator))
    assert got == dict(zip(IDS, labels, strict=True))
    said = f"· t.csv is read as {read_as}, as it is not UTF-8; if names look wrong, save it as UTF-8"
    assert lines == ([said] if read_as else [])


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\npath;label\n{0};a\n{1};b\n",
        '"path";"label"\n"{0}";"a"\n"{1}";"b"\n',
        '"a, b";path;label\nx;{0};a\ny, z;{1};b\n',
        "Path, Label\n{0},a\n{1},b\n",
        " PATH ;label \r\n\r\n{0}; a\r\n{1};b \r\n",
        ",path,label\n0,{0},a\n1,{1},b\n",
        "path,label,\n{0},a,\n{1},b,\n",
        "path,label\r{0},a\r{1},b\r",
        "path,label\n{0},a,\n{1},b,,\n",
        "# made by hand\n# twice\npath,label\n{0},a\n{1},b\n",
        "# path,label\n{0},a\n{1},b\n",
        'path, "label"\n{0}, "a"\n{1}, "b"\n',
    ],
)
def test_headers_and_quotes(text, root):
    table = layouts.write(root / "t.csv", text.format(*NAMES[:2]))
    assert read(table)[0] == {"000.png": "a", "001.png": "b"}


def test_columns_that_are_not_read_are_named(root):
    rows = [f"{row},{i // 2},{20 + i},male" for i, row in enumerate(rows_of())]
    _, lines = read(write(root, rows, head="path,label,Patient ID,age,sex"))
    assert lines == [
        "· groups are those of the column Patient ID; --group-column takes another",
        "· columns that are not read: age, sex",
    ]
    rows = [f"{row},{i // 2},g" for i, row in enumerate(rows_of())]
    assert read(write(root, rows, head="path,label,patient_id,group"))[1] == [
        "· groups are those of the column group; --group-column takes another",
        "· columns that are not read: patient_id",
    ]


def test_columns_that_mean_a_group_or_a_split_by_another_name(root):
    parts = ["training", "training", "training", "test"] * 2
    rows = [
        f"{row},{part},{i // 2},{i % 5}" for i, (row, part) in enumerate(zip(rows_of(), parts, strict=True))
    ]
    notes = folder.read_index(write(root, rows, head="path,label,partition,PID,fold")).report.notes
    assert notes == [
        "groups are those of the column PID; --group-column takes another",
        "columns that are not read: partition, fold",
        "the column partition divides the images: rename it to split to use it",
    ]


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", bytes(range(256)) * 4, b"\0" * 300, b"PK\x03\x04\0\0"])
def test_what_is_no_table_is_one_sentence(data, root):
    with pytest.raises(UserError) as error:
        folder.read_index(layouts.write(root / "t.csv", data))
    assert "t.csv" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("n", [1, 300])
def test_a_table_whose_end_is_zeros_is_not_read(n, root):
    table = write(root, rows_of())
    table.write_bytes(table.read_bytes() + bytes(n))
    with pytest.raises(
        UserError, match=f"t.csv ends in {n} zero bytes, as a copy does that was not finished"
    ):
        folder.read_index(table)


@pytest.mark.parametrize(
    "name, start, said",
    [
        ("x.nii", bytes(352), "of a format that is not read"),
        ("IM0001", bytes(128) + b"DICM", "a DICOM file"),
        ("x.npz", b"PK\3\4", "of a format that is not read"),
        ("t.csv", b"PK\3\4" + bytes(300), "a damaged zip or spreadsheet"),
        ("t.csv", b"\xd0\xcf\x11\xe0" + bytes(300), "a spreadsheet, to be saved as a CSV in UTF-8"),
        ("t.csv", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer, not the table"),
        ("t.csv", b"<!DOCTYPE html><html>", "a web page"),
        ("x.pdf", b"%PDF-1.4\n", "a PDF file"),
        ("t.csv", bytes(300), "nothing but zero bytes"),
    ],
)
def test_a_file_that_is_no_table_is_called_what_it_is(name, start, said, root):
    with pytest.raises(UserError, match=f"{name} is {said}"):
        folder.read_index(layouts.write(root / name, start))
    assert read(write(root, [f"20,{row}" for row in rows_of()], head="BMI,path,label"))[0]


def test_a_spreadsheet_that_is_called_a_table(root):
    with zipfile.ZipFile(root / "t.csv", "w") as archive:
        archive.writestr("[Content_Types].xml", "x")
    with pytest.raises(UserError, match="is a spreadsheet: save it as a CSV"):
        folder.read_index(root / "t.csv")


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "respell",
    [
        lambda name: name.replace("/", "\\"),
        lambda name: f".\\{name}".replace("/", "\\"),
        lambda name: name[:-4],
        lambda name: name[:-3] + "PNG",
        lambda name: name[:-3] + "jpg",
        lambda name: name.upper(),
        lambda name: name.replace("im/", "IM/"),
    ],
)
def test_names_in_another_spelling_find_their_one_file(respell, root):
    labels, lines = read(write(root, rows_of([respell(name) for name in NAMES])))
    assert labels == dict(zip(IDS, LABELS, strict=True)), "and the ids are those of the files"
    assert len(lines) == 1 and lines[0].startswith("· 8 names of the table that a file of another case")


@pytest.mark.parametrize("start", ["./", "im/../", ".//", ""])
def test_the_same_place_written_otherwise_is_the_same(start, root):
    assert read(write(root, rows_of([start + name for name in NAMES]))) == (
        dict(zip(IDS, LABELS, strict=True)),
        [],
    )


def test_absolute_paths_and_links_give_the_same_ids(root):
    wanted = read(write(root, rows_of()))
    assert read(write(root, rows_of([str(root / name) for name in NAMES]))) == wanted
    assert read(write(root, rows_of([f"{root}/im/../{name}" for name in NAMES]))) == wanted


def test_the_ids_do_not_depend_on_where_the_table_lies(root):
    """Tables with absolute paths, in another folder and beside the classes, and no table at all."""
    tables = [
        write(root, rows_of([str(root / name) for name in NAMES]), "elsewhere/t.csv"),
        write(root, rows_of([f"../{name}" for name in NAMES]), "labels/t.csv"),
        write(root, rows_of([name.removeprefix("im/") for name in NAMES]), "im/t.csv"),
    ]
    for table in tables:
        assert read(table)[0] == dict(zip(IDS, LABELS, strict=True))
    assert read(root / "im")[0] == dict(zip(IDS, LABELS, strict=True))


@pytest.mark.parametrize("suffix", [".dcm", ".DCM", ".nii.gz", ".npy"])
def test_images_that_were_converted_are_found_by_their_old_name(suffix, root):
    labels, lines = read(write(root, rows_of([name[:-4] + suffix for name in NAMES])))
    assert labels == dict(zip(IDS, LABELS, strict=True)) and lines[0].startswith("· 8 names of the table")
    layouts.write(root / f"{NAMES[0][:-4]}{suffix}.png", layouts.encode(layouts.picture(50), "PNG"))
    assert read(write(root, rows_of([name[:-4] + suffix for name in NAMES])))[1][0].startswith(
        "✗ 1 ids without"
    )


@pytest.mark.parametrize("start", ["file://", "file://localhost", "FILE://"])
def test_paths_as_urls_of_this_machine(start, root):
    moved = root / "my set"
    (root / "im").rename(moved)
    names = [f"{start}{moved}/{name}".replace(" ", "%20") for name in IDS]
    assert read(write(root, rows_of(names)))[0] == dict(zip(IDS, LABELS, strict=True))
    with pytest.raises(UserError, match="it is a path of another machine"):
        read(write(root, rows_of([f"file:///C:/set/{i}.png" for i in range(8)])))


def test_where_several_files_answer_none_does(root):
    layouts.write(root / "im" / "a" / "000.jpg", layouts.encode(layouts.picture(50)))
    _, lines = read(write(root, rows_of([NAMES[0][:-4], *NAMES[1:]])))
    assert lines[0] == f"✗ 1 ids without a file: im/a/000 ({root}/im/a has 000.jpg, 000.png)"
    (root / "im" / "b" / "000.PNG").write_bytes(b"x")
    _, lines = read(write(root, rows_of([*NAMES[:4], "im/b/000.Png", *NAMES[5:]])))
    assert f"im/b/000.Png ({root}/im/b has 000.PNG, 000.png)" in lines[0]
    assert not any("000.Png" in line for line in lines[1:])


def test_one_image_listed_twice_however_spelt(root):
    (root / "again").symlink_to("im")
    twice = ["./im/a/000.png", "im\\a\\000.png", str(root / NAMES[0]), "again/a/000.png", "IM/a/000"]
    labels, lines = read(write(root, [*rows_of(), *(f"{name},a" for name in twice)]))
    assert labels == dict(zip(IDS, LABELS, strict=True))
    assert lines[0] == "· 5 ids listed twice with the same label: im/a/000.png, im/a/000.png, im/a/000.png, …"
    labels, lines = read(write(root, [*rows_of(), "again/a/000.png,b"]))
    assert IDS[0] not in labels
    assert lines[0] == "✗ 1 ids listed twice with different labels, groups or splits: im/a/000.png (a and b)"


@pytest.mark.parametrize(
    "rows, said",
    [
        (("a,g1,train", "a,g1,test"), "split train and test"),
        (("a,g1,train", "a,g2,train"), "group g1 and g2"),
        (("a,g1,train", "a,,train"), "group g1 and none"),
        (("a,g1,train", "b,g1,train"), "a and b"),
    ],
)
def test_one_image_listed_in_two_ways_stops(rows, said, root):
    others = [f"{name},{label},,test" for name, label in zip(NAMES[1:], LABELS[1:], strict=True)]
    table = write(root, [*(f"{NAMES[0]},{row}" for row in rows), *others], head="path,label,group,split")
    index = folder.read_index(table)
    assert index.report.examples["conflict"] == [f"{NAMES[0]} ({said})"]
    assert "conflict" in index.report.list_blocking() and IDS[0] not in {item.id for item in index.items}


def test_images_beside_listed_ones_are_told(root):
    _, lines = read(write(root, rows_of()[:3] + rows_of()[4:]))
    assert lines == ["· 1 image files without an id: im/a/003.png"]


@pytest.mark.parametrize(
    "place, name, said",
    [
        ("labels/t.csv", "{0}", "in the folder above, and paths are relative to the CSV: move the CSV there"),
        ("t.csv", "pictures/{0}", "there is no folder .*pictures/im/a, and paths are relative"),
        ("t.csv", "/home/someone/{0}", "there is no folder /home/someone/im/a"),
        ("t.csv", "C:\\data\\x.png", "C:.*it is a path of another machine"),
        ("t.csv", "//server/x.png", "there is no folder"),
        ("t.csv", "https://example.org/{0}", "it is a URL: download the images"),
        ("t.csv", "im/x{0}", "not one of its images"),
        ("t.csv", "im/a", "im/a .it is a folder: list the images in it"),
    ],
)
def test_names_without_a_file_say_where_it_looked(place, name, said, root):
    with pytest.raises(UserError, match=said) as error:
        folder.read_index(write(root, rows_of([name.format(one) for one in NAMES]), place))
    assert "\n" not in str(error.value)


def test_a_folder_that_may_not_be_read_is_an_error(root, monkeypatch):
    iterdir = type(root).iterdir

    def forbid(path):
        if path.name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(type(root), "iterdir", forbid)
    with pytest.raises(UserError, match=r"im/b cannot be read \(Permission denied\)"):
        folder.read_index(write(root, rows_of()))


def test_other_spellings_give_the_same_data_set(root):
    wanted = sources.load_dataset(f"folder:{write(root, rows_of())}", size=32, data=root / "data")
    rows = [row.replace("/", "\\").replace(",a", ", a ") for row in rows_of()]
    other = write(root, rows, "u.csv", separator=";", encoding="utf-16")
    dataset = sources.load_dataset(f"folder:{other}", size=32, data=root / "data")
    assert dataset.fingerprint == wanted.fingerprint


def test_a_report_is_kept_up_to_date_without_decoding(root, monkeypatch):
    layouts.write(root / "im" / "a" / "more.png", layouts.encode(layouts.picture(70), "PNG"))
    grey = layouts.encode(Image.new("L", (9, 9), 90), "PNG")
    layouts.write(root / NAMES[0], grey)
    table, data = write(root, rows_of()), root / "data"
    blank = "· 1 images of a single colour: im/a/000.png"
    first = sources.prepare_dataset(f"folder:{table}", size=32, data=data)
    assert first.report == [blank, "· 1 image files without an id: im/a/more.png"]
    monkeypatch.setattr(decode, "decode_rows", None)  # nothing is decoded from here on
    (root / "im" / "a" / "more.png").unlink()
    write(root, [f"{row},{i // 2}" for i, row in enumerate(rows_of())], head="path,label,age")
    again = sources.prepare_dataset(f"folder:{table}", size=32, data=data)
    assert not again.fresh and again.report[:2] == [blank, "· columns that are not read: age"]
    loaded = sources.load_dataset(
        f"folder:{table}", size=32, data=data, options=sources.LoadOptions(check_pixels=True)
    )
    assert list(loaded.report) == list(again.report)


@pytest.mark.parametrize("how", ["unreadable", "missing"])
def test_a_class_without_an_image_is_dropped_and_said(how, root):
    layouts.write(root / "im" / "c" / "0.png", b"no image")
    rows = [*rows_of(), "im/c/0.png,aa"]  # between the others, so that these are numbered anew
    if how == "missing":
        (root / "im" / "c" / "0.png").unlink()
    name, data = f"folder:{write(root, rows)}", root / "data"
    with pytest.raises(UserError, match=r"✗ 1 classes without an image that is read: aa \("):
        sources.prepare_dataset(name, size=32, data=data)
    sources.prepare_dataset(name, size=32, data=data, options=PrepareOptions(allow_incomplete=True))
    dataset = sources.load_dataset(name, size=32, data=data)
    assert dataset.classes == ("a", "b") and dataset.labels.tolist() == [0] * 4 + [1] * 4
    assert "1 classes without an image that is read (aa (" in dataset.incomplete


def test_one_readable_class_is_none(root):
    for path in (root / "im" / "b").iterdir():
        path.write_bytes(b"no image")
    options = PrepareOptions(allow_incomplete=True)
    with pytest.raises(UserError, match="images of one class only could be read"):
        sources.prepare_dataset(
            f"folder:{write(root, rows_of())}", size=32, data=root / "data", options=options
        )


def test_names_are_utf8_whatever_the_locale(root):
    """Ids and classes of a folder and of a table, in a process that takes the names of files for ASCII."""
    for i, name in enumerate(("täst/é.png", "täst/ü.png", "ß/ñ.png")):
        layouts.write(root / "own" / name, layouts.encode(layouts.picture(i, 12, 9), "PNG"))
    write(root / "own", ["täst/é.png,täst", "täst/Ü,täst", "ß/ñ.png,ß"])
    code = (
        "import sys\nassert sys.getfilesystemencoding() != 'utf-8'\n"
        "from pathlib import Path\nfrom udcd_bench.data.layouts import folder\n"
        "for name in ('own', 'own/t.csv'):\n"
        "    index = folder.read_index(Path(name))\n"
        "    print(ascii((index.classes, [item.id for item in index.items])))"
    )
    settings = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, env=settings
    )
    wanted = ascii((("täst", "ß"), ["täst/é.png", "täst/ü.png", "ß/ñ.png"]))
    assert done.stdout.splitlines() == [wanted, wanted], done.stderr


def test_images_without_a_group_are_told_with_the_words_that_are_read_as_none(root):
    groups = ["P1", "NA", "", "P2"] * 2
    rows = [f"{row},{group}" for row, group in zip(rows_of(), groups, strict=True)]
    _, lines = read(write(root, rows, head="path,label,patient"))
    assert (
        "· 4 images have no group in the column patient, and each is one of its own; NA are read as none"
        in lines
    )


def test_names_of_plates_are_no_numbers_and_a_minus_is_a_dash():
    assert tables.normalize_cells(["1E2", "10E1", "2E0"]) == ["1E2", "10E1", "2E0"]
    assert tables.normalize_cells(["2e0", "2", "02.0"]) == ["2", "2", "2"]
    assert labels.find_alike(["-1", "\N{MINUS SIGN}1", "1"]) == [["-1", "\N{MINUS SIGN}1"]]
