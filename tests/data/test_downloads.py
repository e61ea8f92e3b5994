"""What people download that is not what was published: sorted, written out, halved, shrunk, filtered, not fetched."""

from __future__ import annotations

import json

import pytest

from support import layouts
from support.layouts import prepare
from udcd_bench.data import sources
from udcd_bench.data.cache import prepared
from udcd_bench.data.layouts import aptos, folder, ham10000, lesion_names
from udcd_bench.errors import UserError

pytestmark = pytest.mark.usefixtures("small_published")

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def test_the_archive_is_the_same_set_as_the_original(tmp_path):
    """The same pixels, ids, labels and lesions: a run on either has the same key."""
    fingerprints = set()
    for name, make in (
        ("a", layouts.ham_dataverse),
        ("b", layouts.ham_archive),
        ("c", layouts.ham_written_out),
    ):
        prepare("ham10000", make(tmp_path / name), tmp_path / "data" / name)
        dataset = sources.load_dataset("ham10000", size=32, data=tmp_path / "data" / name)
        fingerprints.add(dataset.fingerprint)
    assert len(fingerprints) == 1


def test_the_archive_names_what_it_does_not_know(tmp_path):
    root = layouts.ham_archive(tmp_path / "a")
    table = root / "metadata.csv"
    table.write_text(table.read_text().replace("Dermatofibroma", "Scar"))
    with pytest.raises(UserError, match=r"1 labels out of range: ISIC_\d+ \(Scar / Benign soft tissue"):
        prepare("ham10000", root, tmp_path / "data")
    lines = [line.split(",") for line in table.read_text().splitlines()]
    table.write_text("".join(f"{cells[0]},{cells[-1]}\n" for cells in lines))
    with pytest.raises(UserError, match="has no column diagnosis_3, diagnosis_2 or diagnosis"):
        prepare("ham10000", root, tmp_path / "data")


def test_a_dated_table_of_the_archive(tmp_path):
    root = layouts.ham_archive(tmp_path / "a")
    wanted = ham10000.read_index(root).items
    (root / "metadata.csv").rename(root / "ham10000_metadata_2024-11-02.csv")
    assert ham10000.read_index(root).items == wanted


def test_class_folders_tell_no_lesions(tmp_path):
    root = layouts.ham_class_folders(tmp_path / "a")
    with pytest.raises(
        UserError, match=r"lesions 0 instead of 15(.|\n)*put HAM10000_metadata.csv beside them"
    ):
        prepare("ham10000", root, tmp_path / "data")
    index = ham10000.read_index(root)
    assert [index.classes[item.label] for item in index.items] == layouts.HAM_LABELS
    layouts.write(root / "HAM10000_metadata.csv", layouts.ham_metadata())
    done = prepare("ham10000", root, tmp_path / "data")
    assert not done.incomplete, "and with the table they do"


def test_own_class_folders_with_ids_of_the_archive_say_that_lesions_are_not_known(tmp_path):
    layouts.ham_class_folders(tmp_path / "a")
    layouts.class_folders(tmp_path / "b")
    notes = [folder.read_index(tmp_path / name).report.notes for name in "ab"]
    assert "a CSV with a column lesion_id keeps the images of a lesion together" in notes[0][-1]
    assert notes[1] == []


@pytest.mark.parametrize("name", ham10000.CLASSES)
def test_names_of_lesions(name):
    for text in (name, name.upper(), layouts.WRITTEN_OUT[name], layouts.WRITTEN_OUT[name].replace(" ", "_")):
        assert lesion_names.find_class(text) == name
    assert lesion_names.find_class(f"no {name}") is None and lesion_names.find_class("") is None


def test_filtered_aptos_is_refused_by_its_name_and_by_its_pixels(tmp_path):
    by_name = layouts.aptos_class_folders(tmp_path / "a")
    by_pixels = layouts.aptos_class_folders(tmp_path / "b", "images", filtered=True)
    for root in (by_name, by_pixels):
        with pytest.raises(UserError, match="Gaussian-filtered, so no figure from it would be one for APTOS"):
            prepare("aptos", root, tmp_path / "data", allow_incomplete=True)


@pytest.mark.parametrize("has_table", [True, False])
def test_a_complete_copy_by_grade_is_read(tmp_path, has_table):
    root = layouts.aptos_class_folders(tmp_path / "a", "colored_images")
    if not has_table:
        (root / "train.csv").unlink()
    index = aptos.read_index(root)
    expected = dict(zip(layouts.APTOS_IDS, layouts.APTOS_GRADES, strict=True))
    assert {item.id: str(item.label) for item in index.items} == expected
    assert prepare("aptos", root, tmp_path / "data").incomplete == ""


def test_an_incomplete_copy_by_grade_is_told(tmp_path):
    root = layouts.aptos_numbered(tmp_path / "a")
    next((root / "train" / "2").iterdir()).unlink()
    with pytest.raises(UserError, match="counts that differ from the published ones: 2 2 instead of 3"):
        prepare("aptos", root, tmp_path / "data")
    assert "2 2 instead of 3" in prepare("aptos", root, tmp_path / "data", allow_incomplete=True).incomplete


@pytest.mark.parametrize("in_folders", [True, False])
def test_binarised_aptos_is_refused_by_that_name(tmp_path, in_folders):
    root = layouts.aptos_numbered(tmp_path / "a") if in_folders else layouts.aptos_competition(tmp_path / "a")
    if in_folders:
        for file in [file for n in "234" for file in root.glob(f"*/{n}/*")]:
            file.rename(file.parent.parent / "1" / file.name) if (
                file.parent.parent / "1"
            ).exists() else file.unlink()
    else:
        table = root / "train.csv"
        lines = [line.split(",") for line in table.read_text().splitlines()]
        rows = [f"{id_},{int(grade != '0')}" for id_, grade in lines[1:]]
        table.write_text("\n".join(["id_code,diagnosis", *rows]))
    with pytest.raises(UserError, match="is binarised: its images have the grades 0 and 1 only"):
        prepare("aptos", root, tmp_path / "data", allow_incomplete=True)


def test_what_git_lfs_did_not_fetch(tmp_path):
    root = layouts.aptos_competition(tmp_path / "images")
    for file in root.glob("train_images/*"):
        file.write_bytes(POINTER)
    with pytest.raises(
        UserError, match=r"13 files that are .* Git LFS pointer, not the file itself: run `git lfs pull`"
    ):
        prepare("aptos", root, tmp_path / "data")
    (root / "train.csv").write_bytes(POINTER)
    with pytest.raises(UserError, match=r"train.csv is a Git LFS pointer"):
        prepare("aptos", root, tmp_path / "data")
    archive = layouts.write(tmp_path / "archive.zip", POINTER)
    with pytest.raises(UserError, match=r"archive.zip is a Git LFS pointer"):
        prepare("aptos", archive, tmp_path / "data")
    root = layouts.ham_dataverse(tmp_path / "ham", zips=True)
    (root / "HAM10000_images_part_1.zip").write_bytes(POINTER)
    with pytest.raises(UserError, match=r"part_1.zip \(a Git LFS pointer"):
        prepare("ham10000", root, tmp_path / "data")


def test_squashed_copies_are_noted_and_stay_the_same_data(tmp_path):
    root = layouts.aptos_class_folders(tmp_path / "a", "colored_images")
    done = prepare("aptos", root, tmp_path / "data")
    line = next(line for line in done.report if "of one size that the originals do not have" in line)
    assert line.startswith("· 13 images") and "(32×32)" in line
    dataset = sources.load_dataset("aptos", size=32, data=tmp_path / "data")
    assert dataset.copies == "32 px copies"
    originals = layouts.aptos_competition(tmp_path / "b")
    prepare("aptos", originals, tmp_path / "other")
    assert sources.load_dataset("aptos", size=32, data=tmp_path / "other").copies == ""


def test_a_set_prepared_before_copies_were_noted_is_read_and_noted_when_prepared_again(tmp_path):
    """With the same fingerprint, which is in the key of every run on it."""
    root = layouts.aptos_class_folders(tmp_path / "a", "colored_images")
    target = prepare("aptos", root, tmp_path / "data").path
    fingerprint = sources.load_dataset("aptos", size=32, data=tmp_path / "data").fingerprint
    content = json.loads((target / prepared.MANIFEST).read_text())
    del content["copies"]
    content["sha256"]["manifest"] = prepared.hash_manifest(content)
    (target / prepared.MANIFEST).write_text(json.dumps(content))
    old = sources.load_dataset("aptos", size=32, data=tmp_path / "data")
    assert (old.copies, old.fingerprint) == ("", fingerprint)
    assert prepare("aptos", root, tmp_path / "data").fresh
    new = sources.load_dataset("aptos", size=32, data=tmp_path / "data")
    assert (new.copies, new.fingerprint) == ("32 px copies", fingerprint)
    assert not prepare("aptos", root, tmp_path / "data").fresh


def test_the_originals_are_no_copies_and_own_squares_are_not_either(tmp_path):
    root = layouts.ham_dataverse(tmp_path / "a")
    for i, file in enumerate(sorted(root.rglob("*.jpg"))):
        file.write_bytes(layouts.encode(layouts.picture(i, 600, 450)))
    prepare("ham10000", root, tmp_path / "data")
    assert sources.load_dataset("ham10000", size=32, data=tmp_path / "data").copies == ""
    own = tmp_path / "own"
    for i in range(4):
        layouts.write(own / "ab"[i % 2] / f"{i}.png", layouts.encode(layouts.picture(i, 40, 40), "PNG"))
    assert sources.load_dataset(f"folder:{own}", size=32, data=tmp_path / "data").copies == ""
