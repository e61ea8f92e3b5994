"""Folders as people sort them: the classes are what the user means, and what is left out is said."""

from __future__ import annotations

import os
import shutil
import zipfile

import pytest

from support import layouts
from udcd_bench.data import sources
from udcd_bench.data.cache.options import PrepareOptions
from udcd_bench.data.files import scan
from udcd_bench.data.folders.part_names import find_split
from udcd_bench.data.layouts import folder
from udcd_bench.errors import UserError
from udcd_bench.runs.store import Store

SEEDS = iter(range(10**6))


def write(root, *names):
    """Write images, each another picture, under these names."""
    for name in names:
        kind = "JPEG" if name.lower().endswith((".jpg", ".jfif", ".jpe")) else "PNG"
        layouts.write(root / name, layouts.encode(layouts.picture(next(SEEDS), 12, 9), kind))


def tree(root, *folders, n=3):
    """Write ``n`` images into each of these folders."""
    for below in folders:
        write(root, *(f"{below}/{i}.png" for i in range(n)))
    return root


def read(root):
    """Classes, ids by class, splits by id, and the lines of the report."""
    index = folder.read_index(root)
    classes = [index.classes[item.label] for item in index.items]
    ids = {
        name: [i.id for i, c in zip(index.items, classes, strict=True) if c == name] for name in index.classes
    }
    return ids, {item.id: item.split for item in index.items}, index.report.format_lines()


def refuse(root, pattern):
    with pytest.raises(UserError, match=pattern) as error:
        folder.read_index(root)
    assert "\n" not in str(error.value)


# --- parts of a split ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("training", "validation", "testing"),
        ("Train", "valid", "TEST"),
        ("train", "dev", "test"),
        ("train_dir", "val_dir", "test_dir"),
        ("trainset", "valset", "testset"),
        ("Training Set", "Validation Set", "Test Set"),
        ("TrainImages", "ValImages", "TestImages"),
        ("train_2019", "valid_2019", "test_2019"),
        ("01_train", "02_val", "03_test"),
    ],
)
def test_parts_of_a_split_by_any_name(names, tmp_path):
    tree(tmp_path, *(f"{part}/{c}" for part in names for c in "ab"), n=1)
    ids, splits, lines = read(tmp_path)
    assert sorted(ids) == ["a", "b"] and lines == []
    wanted = dict(zip(names, ("train", "val", "test"), strict=True))
    assert splits == {f"{part}/{c}/0.png": wanted[part] for part in names for c in "ab"}


@pytest.mark.parametrize(
    "name", ["test-tube", "train station", "a", "validated", "untested", "model_dir", "images", "5"]
)
def test_what_is_no_part_of_a_split(name):
    assert find_split(name) == ""


@pytest.mark.parametrize(
    "folders, said",
    [
        (("train/a", "train/b", "test/a", "chest/x"), "holds test and train, .* moreover chest, so"),
        (
            ("train/a", "train/b", "test/a", "set/train/a", "set/train/b"),
            "give .*/set, which holds the same again",
        ),
        (("cats", "dogs", "test"), "holds test, .* moreover cats and dogs, so"),
        (("val/a", "val/b", "test/a", "test/b"), "holds test and val and no folder train"),
        (("train/a", "train/b", "val/a", "valid/b"), "val and valid, which both mean val"),
        (("train", "test"), "without class folders"),
        (("train/a", "train/b", "test"), "holds test with images and without class folders.* move test out"),
        (("a/train", "a/test", "b/train", "b/test"), "below a class, a/test"),
        (("a", "b", "set/a", "set/b"), "set, which holds a and b again: move set out"),
        (
            ("fold1/a", "fold1/b", "fold2/a", "fold2/b"),
            "with the folders a and b in several of them, so",
        ),
        (
            ("site 1/a", "site 1/b", "site 2/a", "site 2/b", "site 2/c"),
            "with the folders a and b in several of them, so",
        ),
        (
            ("40X/benign", "40X/malignant", "400X/benign", "400X/malignant"),
            "give .*/400X alone, put",
        ),
        (("orig/a", "orig/b", "resized/a", "resized/b"), "with the folders a and b in several of them, so"),
        (("2018/a", "2018/b", "2019/a", "2019/b"), "with the folders a and b in several"),
        (("only",), "at least two classes, found: only"),
    ],
)
def test_folders_that_are_not_recognised_as_a_whole_are_refused(folders, said, tmp_path):
    refuse(tree(tmp_path, *folders), said)


def test_an_empty_stranger_is_one_too(tmp_path):
    (tree(tmp_path, "train/a", "train/b", "test/a", "test/b") / "extra").mkdir()
    refuse(tmp_path, "moreover extra, so")


def test_other_files_beside_the_parts_are_no_stranger(tmp_path):
    tree(tmp_path, "train/a", "train/b", "test/a", "test/b")
    layouts.write(tmp_path / "docs" / "paper.pdf", "x")
    _, splits, lines = read(tmp_path)
    assert len(splits) == 12 and lines == [
        "· 1 folders with other files only: docs",
        "· 1 other files: docs/paper.pdf",
    ]


def test_classes_of_one_part_only_are_told(tmp_path):
    tree(tmp_path, "train/a", "train/b", "train/c", "test/a", "test/b", "test/d")
    ids, _, lines = read(tmp_path)
    assert sorted(ids) == ["a", "b", "c", "d"]
    assert lines == ["· 2 classes with images in some parts of the split only: c (train only), d (test only)"]


def test_one_class_in_two_spellings_stops(tmp_path):
    """Benign is in train alone and benign in test alone: nobody means two classes."""
    tree(tmp_path, "train/Benign", "train/bad", "test/benign", "test/bad")
    lines = read(tmp_path)[2]
    assert "✗ 1 class names that hardly differ: Benign and benign" in lines
    other = tree(tmp_path / "letters", "A", "a")
    assert read(other)[2] == ["· 1 class names that hardly differ: A and a"]


def test_a_folder_twice_around_a_part_is_gone_through(tmp_path):
    tree(tmp_path, "train/train/a", "train/train/b", "test/images/a", "test/images/b")
    ids, splits, _ = read(tmp_path)
    assert sorted(ids) == ["a", "b"] and splits["train/train/a/0.png"] == "train"
    assert splits["test/images/b/2.png"] == "test"


def test_images_beside_a_csv_point_to_it(tmp_path):
    layouts.write(tree(tmp_path, "images") / "labels.csv", "path,label\n")
    refuse(tmp_path, f"found: images; .* such as {tmp_path}/labels.csv")


def test_folders_deeper_than_anybody_sorts_are_refused(tmp_path):
    """A name in an archive may be 65 535 letters long."""
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a/" * 20_000 + "1.png", b"x")
    refuse(tmp_path / "set.zip", "more than 100 folders deep")


def test_one_picture_in_two_formats_is_told(tmp_path):
    write(tree(tmp_path, "a", "b"), "a/0.jpg", "b/x.tif.png")
    assert read(tmp_path)[2] == [
        "· 1 images that differ from another in the suffix of their name only: a/0.png"
    ]


# --- wrappers and zips --------------------------------------------------------------------------------------------


def test_a_lone_folder_is_gone_through_and_said(tmp_path):
    tree(tmp_path, "set/inner/a", "set/inner/b")
    ids, _, lines = read(tmp_path)
    assert ids["a"] == ["a/0.png", "a/1.png", "a/2.png"]
    assert lines == ["· all images lie in set/inner, so its subfolders are read"]


def zip_tree(path, root, folders=("",), members=None):
    """Zip everything below ``root`` under the first of ``folders``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                archive.write(file, folders[0] + file.relative_to(root).as_posix())
    return path


def test_zips_as_data_sets_are_handed_out(tmp_path):
    """All of them are the same set: by ids, labels and pixels."""
    plain = tree(tmp_path / "set", "a", "b")
    where = tmp_path / "zips"
    zip_tree(where / "set.zip", plain)
    with zipfile.ZipFile(zip_tree(where / "wrapped.zip", plain, ["some set/"]), "a") as archive:
        for name in ("some set/a/._0.png", "some set/a/._1.png"):
            archive.writestr(f"__MACOSX/{name}", b"x")  # as a Mac zips
    assert read(where / "wrapped.zip")[2][0] == "· 1 hidden files and caches: __MACOSX"
    (where / "in a folder").mkdir()
    shutil.copy(where / "set.zip", where / "in a folder" / "set.zip")
    with zipfile.ZipFile(where / "zip in zip.zip", "w") as archive:
        archive.write(where / "set.zip", "set.zip")
    for name in ("a", "b"):
        zip_tree(where / "a class each" / f"{name}.zip", plain / name)
        zip_tree(where / "folder and class" / f"{name}.zip", plain / name, [f"{name}/"])
    wanted = sources.load_dataset(f"folder:{plain}", size=32, data=tmp_path / "data")
    names = sorted(path for path in where.iterdir())
    assert len(names) == 6
    for path in names:
        dataset = sources.load_dataset(f"folder:{path}", size=32, data=tmp_path / "data")
        assert dataset.fingerprint == wanted.fingerprint, path


def drop_utf8_flags(path):
    """Take the flag of UTF-8 from every name of a zip, as macOS writes them."""
    data = bytearray(path.read_bytes())
    for start, at in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        where = -1
        while (where := data.find(start, where + 1)) >= 0:
            data[where + at] &= ~8
    path.write_bytes(data)


def test_names_in_a_zip_are_utf8_also_without_its_flag(tmp_path):
    plain = tree(tmp_path / "set", "größe", "naïve")
    zip_tree(tmp_path / "inner" / "mac.zip", plain)
    drop_utf8_flags(tmp_path / "inner" / "mac.zip")
    zip_tree(tmp_path / "outer.zip", tmp_path / "inner")
    wanted = sources.load_dataset(f"folder:{plain}", size=32, data=tmp_path / "data")
    for path in (tmp_path / "inner" / "mac.zip", tmp_path / "outer.zip"):
        dataset = sources.load_dataset(f"folder:{path}", size=32, data=tmp_path / "data")
        assert (dataset.fingerprint, dataset.identity) == (wanted.fingerprint, wanted.identity)
        assert not any("cp437" in line for line in read(path)[2])


def test_names_of_dos_in_a_zip_are_told(tmp_path):
    path = zip_tree(tmp_path / "dos.zip", tree(tmp_path / "set", "gr??e", "b"))
    path.write_bytes(path.read_bytes().replace(b"gr??e", "größe".encode("cp437")))
    ids, _, lines = read(path)
    assert sorted(ids) == ["b", "größe"]
    assert lines == [
        "· names in dos.zip are read as of DOS (cp437), as they are not UTF-8; if wrong, zip again"
    ]


@pytest.mark.parametrize("name", ["set.zip.1", "set", "set.zip (1)"])
def test_a_zip_by_another_name(name, tmp_path):
    plain = tree(tmp_path / "plain", "a", "b")
    path = zip_tree(tmp_path / name, plain)
    assert read(path)[:2] == read(plain)[:2]
    path.rename(plain / name)
    assert read(plain)[2] == [f"✗ 1 archives that are not read (unpack them): {name}"]


def test_train_zip_and_test_zip_are_parts(tmp_path):
    plain = tree(tmp_path / "set", "train/a", "train/b", "test/a", "test/b")
    for wrapper in ("", "train/"):
        root = tmp_path / f"zips{len(wrapper)}"
        zip_tree(root / "train.zip", plain / "train", [wrapper])
        zip_tree(root / "test.zip", plain / "test")
        assert read(root)[:2] == read(plain)[:2]


def test_the_archive_beside_what_was_unpacked_from_it(tmp_path):
    root = tree(tmp_path / "set", "a", "b", "c")
    for name in "ab":
        zip_tree(root / f"{name}.zip", root / name)
    ids, _, lines = read(root)
    assert ids["a"] == ["a/0.png", "a/1.png", "a/2.png"]
    assert lines == [
        "· 6 further copies of an image, in another folder or archive: a.zip/0.png = a/0.png, "
        "a.zip/1.png = a/1.png, a.zip/2.png = a/2.png, …"
    ]
    write(tmp_path / "new", "0.png")
    zip_tree(root / "c.zip", tmp_path / "new")  # another picture by the same name
    assert any(
        line.startswith("✗ 1 ids with several different files (leave one of each): c/0.png")
        for line in read(root)[2]
    )
    zip_tree(root / "set.zip", tree(tmp_path / "again", "a", "b"))
    refuse(root, "set, which holds a and b again")


@pytest.mark.parametrize("name, said", [("set.tar.gz", "unpack it"), ("set.rar", "unpack it"), ("a.png", "is an image"),
                                        ("t.xlsx", "save it as a CSV")])  # fmt: skip
def test_files_that_are_neither_zip_nor_csv(name, said, tmp_path):
    refuse(layouts.write(tmp_path / name, b"\x1f\x8b"), said)


# --- what is left out ---------------------------------------------------------------------------------------------


def test_every_lost_class_stops(tmp_path):
    root = tree(tmp_path / "set", "a", "b", "c", n=8)
    (root / "empty").mkdir()
    layouts.write(root / "hidden only" / ".DS_Store", "x")
    for i in range(8):
        layouts.write(root / "scans" / f"{i}.svs", "x")
        layouts.write(root / "bare dicom" / f"IM{i}", bytes(128) + b"DICM")
        (root / "annex").mkdir(exist_ok=True)
        (root / "annex" / f"{i}.png").symlink_to(f"../../.git/annex/{i}")
    (root / "c" / "90.png").symlink_to("nowhere")
    layouts.write(root / "cloud" / ".x.jpg.icloud", "x")
    layouts.write(root / "packed" / "all.tar", "x")
    write(root, "jfif/1.jfif", "jfif/2.JPE", "jfif/3.PNG")
    lines = read(root)[2]
    lost = next(line for line in lines if "classes without" in line)
    assert lost.startswith("✗ 7 ") and "annex (8 links that lead nowhere)" in lost
    index = folder.read_index(root)
    assert index.classes == ("a", "b", "c", "jfif") and len(index.items) == 27
    counts = {kind: n for kind, n in index.report.counts.items() if n}
    assert counts == {"dangling": 10, "lost_class": 7, "format": 16, "archive": 1, "hidden": 1}
    assert set(index.report.list_blocking()) == counts.keys() - {"hidden"}
    name, data = f"folder:{root}", tmp_path / "data"
    with pytest.raises(UserError, match=r"--size 32 --data .* --allow-incomplete"):
        sources.load_dataset(name, size=32, data=data)
    sources.prepare_dataset(name, size=32, data=data, options=PrepareOptions(allow_incomplete=True))
    dataset = sources.load_dataset(name, size=32, data=data)
    assert len(dataset.ids) == 27 and "7 classes without an image" in dataset.incomplete


def test_a_link_to_a_folder_is_gone_through_once(tmp_path):
    root = tree(tmp_path / "set", "b", "c")
    (root / "a again").symlink_to("b")
    (root / "loop").symlink_to(".")
    (root / "up").symlink_to("..")
    (root / "far").symlink_to(tree(tmp_path / "elsewhere", "x") / "x")
    (root / "self").symlink_to("self")
    ids, _, lines = read(root)
    assert sorted(ids) == ["b", "c", "far"]
    assert lines == [
        "✗ 1 links that lead nowhere, or files not downloaded yet: self",
        "· 3 links to folders that are read already: a again, loop, up",
    ]


def test_a_few_of_another_format_are_told_and_many_stop(tmp_path):
    root = tree(tmp_path, "a", "b", n=20)
    layouts.write(root / "a" / "x.heic", "x")
    assert read(root)[2][0].startswith("· 1 image files of a format that is not read")
    for i in range(3):
        layouts.write(root / "b" / f"{i}.nii.gz", "x")
    assert read(root)[2][0].startswith("✗ 4 image files of a format that is not read")


def test_images_by_another_name_are_seen(tmp_path):
    root = tree(tmp_path, "a", "b", n=60)
    picture = layouts.encode(layouts.picture(1))
    for name in ("bare", "x.jpg?width=200", "y.jpg_large"):
        layouts.write(root / "a" / name, picture)
    layouts.write(root / "b" / "z.crdownload", picture[:50])
    layouts.write(root / "b" / "notes.txt", picture)
    assert read(root)[2] == [
        "· 4 image files of a format that is not read (convert them to PNG): a/bare (a JPEG file by another name), "
        "a/x.jpg?width=200 (a JPEG file by another name), a/y.jpg_large (a JPEG file by another name), …",
        "· 1 other files: b/notes.txt",
        "· files of formats that are not read are skipped: 3 by another name, 1 .crdownload",
    ]


def test_images_outside_the_classes_are_told_and_many_stop(tmp_path):
    root = tree(tmp_path, "a", "b", n=20)
    write(root, "sheet.png")
    assert read(root)[2] == ["· 1 image files outside the class folders: sheet.png"]
    write(root, *(f"unsorted{i}.png" for i in range(5)))
    assert read(root)[2][0].startswith("✗ 6 image files outside the class folders")


def test_hidden_files_and_caches_are_no_images(tmp_path):
    root = tree(tmp_path, "a", "b", ".ipynb_checkpoints", "@eaDir/a", "$RECYCLE.BIN", "a/.ipynb_checkpoints",
                "__MACOSX/a", "lost+found")  # fmt: skip
    write(root, "a/._0.png", ".hidden.png")
    layouts.write(root / "b" / "Thumbs.db", "x")
    ids, _, lines = read(root)
    assert {name: len(of) for name, of in ids.items()} == {"a": 3, "b": 3}
    assert len(lines) == 1 and lines[0].startswith("· 9 hidden files and caches: $RECYCLE.BIN, .hidden.png")


def test_our_own_folders_are_never_classes(tmp_path):
    """By any name, anywhere; also a data folder whose only set was refused."""
    root = tree(tmp_path / "mine", "a", "b", n=12)
    Store(root / "my runs").create()
    tree(root, "my runs/demo/figures", "a/runs too/x")
    Store(root / "a" / "runs too").create()
    name = f"folder:{root}"
    (root / "c").mkdir()
    with pytest.raises(UserError, match=r"1 classes without an image that is read: c \(empty\)"):
        sources.load_dataset(name, size=32, data=root / "my data")
    (root / "c").rmdir()
    first = sources.load_dataset(name, size=32, data=root / "my data")
    assert first.classes == ("a", "b") and len(first.ids) == 24
    layouts.write(root / "my data" / "dermamnist.npz", "x")  # where MedMNIST's files belong
    (root / "a" / "0.png").unlink()
    again = sources.load_dataset(name, size=32, data=root / "my data")
    assert again.classes == ("a", "b") and len(again.ids) == 23 and not again.incomplete
    lines = read(root)[2]
    assert lines == [
        "· 1 image files of a format that is not read (convert them to PNG): my data/dermamnist.npz",
        f"· 3 folders of results or prepared images of this program: a/runs too, my data/{sources.make_slug(name)}, "
        "my runs",
    ]
    refuse(root / "my runs", "holds results or prepared images of this program")


def test_what_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    root = tree(tmp_path, "a", "b", "c")
    scandir = os.scandir

    def forbid(path):
        if str(path).endswith("/c"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(scan.os, "scandir", forbid)
        refuse(root, r"/c cannot be read \(Permission denied\): fix its permissions")
    opened = type(root).read_bytes

    def forbid_file(path):
        if path.name == "1.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    monkeypatch.setattr(type(root), "read_bytes", forbid_file)
    for jobs in (1, 2):
        options = PrepareOptions(allow_incomplete=True, jobs=jobs)
        with pytest.raises(UserError, match=r"a/1.png cannot be read"):
            sources.prepare_dataset(f"folder:{root}", size=32, data=tmp_path / "data", options=options)


# --- masks and thumbnails -----------------------------------------------------------------------------------------


def test_masks_and_thumbnails_beside_their_images_are_left_out(tmp_path):
    root = tmp_path
    write(root, "benign/b (1).png", "benign/b (1)_mask.png", "benign/b (1)_mask_1.png")  # BUSI
    write(root, "covid/images/1.png", "covid/masks/1.png", "covid/lung masks/1.png")  # COVID-QU-Ex
    write(root, "nevus/1.jpg", "nevus/1_segmentation.png", "nevus/masks/1.png", "nevus/1_superpixels.png")
    write(root, "nevus/thumbs/1_thumb.jpg")
    ids, _, lines = read(root)
    assert ids == {"benign": ["benign/b (1).png"], "covid": ["covid/images/1.png"], "nevus": ["nevus/1.jpg"]}
    assert lines[0].startswith("· 8 masks or thumbnails beside their images: benign/b (1)_mask.png")


def test_images_and_masks_side_by_side(tmp_path):
    tree(tmp_path, "images/a", "images/b", "masks/a", "masks/b")
    ids, _, lines = read(tmp_path)
    assert ids["a"] == ["a/0.png", "a/1.png", "a/2.png"] and sorted(ids) == ["a", "b"]
    assert lines[0].startswith("· 6 masks")


@pytest.mark.parametrize(
    "names", [("mask", "no_mask"), ("with_mask", "without_mask"), ("labels", "raw text"), ("seg", "other")]
)
def test_classes_that_are_called_masks_are_classes(names, tmp_path):
    """Faces with and without masks, numbered alike: the names alone would throw half of them away."""
    tree(tmp_path, *names)
    write(tmp_path, f"{names[0]}/7_mask.png", f"{names[1]}/7.png")
    ids, _, lines = read(tmp_path)
    assert {name: len(of) for name, of in ids.items()} == dict.fromkeys(names, 4) and lines == []


def test_subfolders_of_a_class_are_said(tmp_path):
    tree(tmp_path, "benign/P1", "benign/P2", "malignant/P3", "malignant/P4")
    ids, _, lines = read(tmp_path)
    assert sorted(ids) == ["benign", "malignant"]
    assert lines == [
        "· benign is a class with all its subfolders, which hold 6 images and are no groups",
        "· malignant is a class with all its subfolders, which hold 6 images and are no groups",
    ]


# --- what is called an image -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content, said",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "run `git lfs pull`"),
        (b"/annex/objects/SHA256E-s1", "run `git annex get`"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"", "an empty file"),
        (bytes(500), "nothing but zero bytes"),
        (bytes(128) + b"DICM", "pydicom cannot read it"),
        (b"\0\0\0\x20ftypheic", "a HEIC file, which is not read"),
    ],
)
def test_what_is_called_an_image_and_is_none_says_what_it_is(content, said, tmp_path):
    root = tree(tmp_path / "set", "a", "b")
    layouts.write(root / "a" / "x.jpg", content)
    with pytest.raises(UserError) as error:
        sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / "data")
    assert f"a/x.jpg ({said}" in str(error.value) or said in str(error.value)
