"""Folders whose names mislead: parts called otherwise, variants, patients, masks, copies, tables beside them."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from support import layouts
from udcd_bench.data import sources
from udcd_bench.data.files.archives import Archives, FileRef
from udcd_bench.data.folders.part_names import find_parts, list_mentions
from udcd_bench.data.layouts import aptos, folder, ham10000
from udcd_bench.errors import UserError


def tree(root, *folders, n=3):
    """Write ``n`` images, each another picture, into each of these folders."""
    for k, below in enumerate(folders):
        for i in range(n):
            layouts.write(
                root / below / f"{i}.png", layouts.encode(layouts.picture(100 * k + i, 12, 9), "PNG")
            )
    return root


def read(root):
    """The classes, the parts of the split, and the lines of the report."""
    index = folder.read_index(root)
    return index.classes, {item.split for item in index.items}, index.report.format_lines()


def refuse(root, pattern):
    with pytest.raises(UserError, match=pattern) as error:
        folder.read_index(root)
    assert "\n" not in str(error.value)


def list_lost(root):
    """The classes that stop as lost."""
    index = folder.read_index(root)
    assert ("lost_class" in index.report.list_blocking()) == bool(index.report.counts["lost_class"])
    return [example.split(" (")[0] for example in index.report.examples["lost_class"]]


# --- parts of a split by names that hold more ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "folders, classes",
    [
        (("seg_train/seg_train/sea", "seg_train/seg_train/wood", "seg_test/seg_test/sea", "seg_test/seg_test/wood"),
         ("sea", "wood")),
        (("my_train/a", "my_train/b", "my_train/c", "my_test/a", "my_test/b"), ("a", "b", "c")),
        (("mytrain/a", "mytrain/b", "mytest/a", "mytest/b"), ("a", "b")),
        (("stage_1_train_images/a", "stage_1_train_images/b", "stage_1_test_images/a"), ("a", "b")),
    ],
)  # fmt: skip
def test_names_that_differ_in_the_part_alone_are_parts(folders, classes, tmp_path):
    assert read(tree(tmp_path, *folders))[:2] == (classes, {"train", "test"})


@pytest.mark.parametrize(
    "folders, said",
    [
        (("seg_train/a", "seg_train/b", "seg_test/a", "seg_pred"), "seg_pred if without labels"),
        (("x_train/x_train/a", "x_train/x_train/b", "x_test/x_test"), "move x_test out"),
        (("train_aug/a", "train_aug/b", "test_orig/a", "test_orig/b", "flat"), "holds test_orig and train_aug, which"),
        (("stage_1_train_images", "stage_1_test_images"), "without class folders"),
        (("train-jpg", "test-jpg-v2"), "called like parts of a split, but not alike"),
        (("trainA", "trainB", "testA", "testB"), "called like parts of a split, but not alike"),
        (("a", "b", "test"), "holds test, which is a part of a split, and"),
    ],
)  # fmt: skip
def test_other_names_of_parts_are_refused(folders, said, tmp_path):
    refuse(tree(tmp_path, *folders), said)


def test_words_that_hold_train_or_test_are_classes(tmp_path):
    assert not find_parts(["latest", "contest", "strain"]) and not list_mentions(["train station", "bus"])
    classes, _, lines = read(tree(tmp_path, "train station", "test tube", "bus"))
    assert classes == ("bus", "test tube", "train station")
    assert lines == [
        "· test tube and train station are taken for classes, though they are called like parts of a split"
    ]


def test_data_sets_side_by_side_are_to_be_given_one_by_one(tmp_path):
    tree(
        tmp_path,
        *(f"{name}/{part}/{c}" for name in ("OCT", "xray") for part in ("train", "test") for c in "ab"),
    )
    refuse(tmp_path, "give .*/OCT or give .*/xray, as data sets of their own")


@pytest.mark.parametrize("name", ["test", "Validation"])
def test_a_part_within_a_part_is_refused(name, tmp_path):
    tree(tmp_path, "train/cat", "train/dog", f"train/{name}", "test/cat", "test/dog")
    refuse(tmp_path, f"train, a part of a split, holds {name}, which is called like another part")


# --- folders that share folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folders, said",
    [
        ([f"{part}/{v}/{c}" for part in ("train", "test") for v in ("original", "augmented") for c in "ab"],
         "holds augmented and original, with the folders a and b"),
        (["train/a", "train/b", "train/augmented/a", "train/augmented/b", "test/a", "test/b"], "move augmented out"),
        (["40X/adenosis", "40X/fibro", "40X/phyllodes", "400X/adenosis", "400X/fibro"], "holds 400X and 40X"),
        (["original/a", "original/b", "resized/a", "resized/b", "samples"], "holds original and resized"),
        (["P001/benign", "P002/benign", "P002/malignant", "P003/malignant"], "holds P001, P002 and P003"),
        (["8863/0", "8864/0", "8864/1"], "group where a folder is a patient"),
        (["smith/benign", "jones/benign", "jones/malignant"], "holds jones and smith"),
        (["Benign", "Malignant", "augmented/benign", "augmented/malignant"], "move augmented out"),
        (["data/cat", "data/dog", "assets"], "beside it assets, .*give .*/data"),
        (["training/images", "training/1st_manual", "test/images", "test/1st_manual"], "images and their masks"),
    ],
)  # fmt: skip
def test_folders_that_are_no_classes_are_refused(folders, said, tmp_path):
    refuse(tree(tmp_path, *folders), said)


@pytest.mark.parametrize(
    "folders, classes",
    [
        (("benign/site1", "benign/site2", "malignant/site1", "malignant/site2"), ("benign", "malignant")),
        (("cat/left", "cat/right", "dog/left", "dog/right"), ("cat", "dog")),
        (("benign/SOB/adenosis/P1", "malignant/SOB/ductal/P2"), ("benign", "malignant")),
        (("0/P001", "0/P002", "1/P001", "1/P003"), ("0", "1")),
        (("a/1", "a/12", "b/1", "b/12"), ("a", "b")),
        (("normal", "tumour/glioma", "tumour/meningioma"), ("normal", "tumour")),
        (("bus/indoors", "bus/outdoors", "car/indoors", "car/outdoors", "cat"), ("bus", "car", "cat")),
        (("left", "right"), ("left", "right")),
        (("T1", "T2", "FLAIR"), ("FLAIR", "T1", "T2")),
        (("train/a/original", "train/b/original", "test/a/original", "test/b/original"), ("a", "b")),
    ],
)  # fmt: skip
def test_subfolders_of_classes_may_be_called_alike(folders, classes, tmp_path):
    assert read(tree(tmp_path, *folders))[0] == classes


@pytest.mark.parametrize(
    "folders, said",
    [
        (["colon/colon_aca", "colon/colon_n", "lung/lung_aca", "lung/lung_n", "lung/lung_scc"],
         r"holds colon and lung, and all their images lie in colon_aca, colon_n, .* so either may be its classes"),
        (["benign/SOB/adenosis", "benign/SOB/tumour", "malignant/SOB/ductal"], "lie in adenosis, ductal and tumour"),
        ([f"{part}/XR_{x}/patient{i:05}/study{k}_{label}" for part in ("train", "valid") for x in ("WRIST", "HAND")
          for i, k, label in ((1, 1, "positive"), (2, 1, "negative"), (3, 2, "negative"))],
         r"train holds XR_HAND and XR_WRIST, and all their images lie in study1_negative, study1_positive and"),
    ],
)  # fmt: skip
def test_two_levels_that_may_be_the_classes_are_refused(folders, said, tmp_path):
    refuse(tree(tmp_path, *folders, n=1), said)


@pytest.mark.parametrize(
    "folders",
    [
        ["a/Patient_JD", "a/Patient_ABC", "b/Patient_KL"],
        ["a/site A", "a/siteB", "b/Hospital 3", "b/hospital4"],
        ["a/TCGA-A1-XYZ1", "a/TCGA-B2-KLM3", "b/HAM_0001", "b/deadbeef-0a1b-feed2"],
        ["a/P1/axial", "a/P1/coronal", "a/P2/axial", "a/P2/coronal", "b/P3/axial", "b/P3/coronal"],  # series
        ["a/2019-01-02", "a/2020", "b/3", "b/4"],
        ["a/lesion1", "a/lesion2/left", "b/lesion3"],
        ["a/adenosis", "b/ductal"],
    ],
)
def test_sites_patients_series_and_dates_stay_below_their_class(folders, tmp_path):
    assert read(tree(tmp_path, *folders, n=1))[0] == ("a", "b")


@pytest.mark.parametrize(
    "folders",
    [["patient_00", "patient_01", "patient_11"], ["subject1", "subject2"], ["case 1", "case 2"], ["fold0", "fold1"],
     ["part_1", "part_2"], ["batch1", "batch2"], ["train/sub-01", "train/sub-02", "test/sub-03"]],
)  # fmt: skip
def test_folders_that_divide_images_are_no_classes(folders, tmp_path):
    refuse(
        tree(tmp_path, *folders),
        "which say no class by their names: give a CSV with the columns path and label,",
    )


@pytest.mark.parametrize(
    "folders",
    [["grade_0", "grade_1"], ["stage1", "stage2"], ["class_1", "class_2"], ["level 1", "level 2"], ["type1", "type2"],
     ["colon_case1", "lung_case2"], ["part_1", "whole"], ["BI-RADS 2", "BI-RADS 3"], ["n02085620", "n02085782"]],
)  # fmt: skip
def test_classes_may_be_numbered(folders, tmp_path):
    assert read(tree(tmp_path, *folders))[0::2] == (tuple(sorted(folders)), [])


@pytest.mark.parametrize(
    "name", ["New folder", "New_Folder (2)", "untitled folder", "images", "Pictures", "Neuer Ordner"]
)
def test_a_folder_without_a_name_of_its_own_stops(name, tmp_path):
    report = folder.read_index(tree(tmp_path, "benign", "malignant", name)).report
    assert report.list_blocking() == ["nameless"] and report.examples["nameless"] == [name]


@pytest.mark.parametrize(
    "name", ["benign_augmented", "benign-aug", "aug_benign", "benign_rot90", "benign flipped", "benign (copy)",
             "Benign_copy 2", "Copy of benign", "benign_resized", "benign_cropped", "benign_roi"]
)  # fmt: skip
def test_a_class_called_a_variant_of_another_stops(name, tmp_path):
    report = folder.read_index(tree(tmp_path, "benign", "malignant", name)).report
    assert report.list_blocking() == ["variant"] and report.examples["variant"] == [f"{name} beside benign"]


@pytest.mark.parametrize(
    "names", [("apple", "apple_rot"), ("T1", "T1_enhanced"), ("fox", "fox_grey"), ("left_flipped", "right_flipped"),
              ("meat", "processed meat"), ("crop", "weed"), ("abnormal", "normal")]
)  # fmt: skip
def test_words_that_may_be_what_is_shown_are_classes(names, tmp_path):
    assert read(tree(tmp_path, *names))[0::2] == (names, [])


def test_a_folder_in_an_archive_is_to_be_unpacked(tmp_path):
    parts = tree(tmp_path / "x", "train/a", "train/b", "test/a", "test/b")
    for name in ("train", "test"):
        shutil.copytree(parts / name, tmp_path / "sets" / "one" / name)
    layouts.zipped(tmp_path / "sets")
    layouts.zipped(parts, keep=True).rename(parts / "again.zip")
    refuse(parts, r"or give .*/x/again\.zip, which holds the same again")
    assert read(parts / "again.zip")[0] == ("a", "b")
    with zipfile.ZipFile(tmp_path / "sets.zip", "a") as archive:
        archive.write(parts / "train/a/0.png", "two/train/a/0.png")
        archive.write(parts / "train/a/0.png", "two/train/b/0.png")
    refuse(tmp_path / "sets.zip", r"unpack .*/sets\.zip and give its folder one or unpack")


# --- tables beside the folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folders, name, header, cell",
    [
        (("HAM10000_images_part_1", "HAM10000_images_part_2"), "HAM10000_metadata.csv", "image_id,dx", "{i},nv"),
        (("images_001/images", "images_002/images"), "Data_Entry_2017.csv", "Image Index,Finding Labels", "{i}.png,x"),
        (("fold1", "fold2", "fold3"), "labels.csv", "path,label", "{f}/{i}.png,{i}"),
        (("left", "right"), "labels.csv", "path,label", "{f}/{i}.png,{i}"),
    ],
)  # fmt: skip
def test_parts_of_a_download_beside_their_table(folders, name, header, cell, tmp_path):
    tree(tmp_path, *folders)
    rows = [cell.format(f=f, i=i) for f in folders for i in range(3)]
    layouts.write(tmp_path / name, "\n".join([header, *rows]) + "\n")
    refuse(tmp_path, f"as .*/{name} if it has them, or move the table out")


@pytest.mark.parametrize("labels", [{"grade1": "1", "grade2": "2"}, {"grade1": "grade1", "grade2": "grade2"}])
def test_a_table_that_says_the_same_is_told(labels, tmp_path):
    tree(tmp_path, *labels)
    rows = [f"{name}/{i}.png,{label},{50 + i}" for name, label in labels.items() for i in range(3)]
    layouts.write(tmp_path / "labels.csv", "\n".join(["path,label,age", *rows]) + "\n")
    assert read(tmp_path)[0] == ("grade1", "grade2")


@pytest.mark.parametrize("name", ["labels.xlsx", "labels.json", "sub/info.xlsx"])
def test_parts_beside_a_table_that_is_not_read(name, tmp_path):
    layouts.write(tree(tmp_path, "part_1", "part_2") / name, "x")
    source = ", from labels" if "sub" not in name else ", and"
    refuse(tmp_path, f"holds part_1 and part_2, which say no class by their names: .*label{source}")
    layouts.write(tree(tmp_path / "other", "P001", "P002") / "truth.json", "x")
    refuse(tmp_path / "other", "from truth.json if it has the labels")


def test_a_spreadsheet_of_labels_beside_classes_is_told(tmp_path):
    tree(tmp_path, "in/cat", "in/dog")
    for name in ("in/labels.xlsx", "prices.xlsx", "in/cat/label_0.json"):
        layouts.write(tmp_path / name, "x")
    lines = read(tmp_path)[2]
    said = "· in/labels.xlsx is not read: if it says the labels, save it as a CSV with the columns path and label"
    assert said in lines and not any("prices.xlsx is" in line or "label_0.json is" in line for line in lines)


@pytest.mark.parametrize("names", [("0", "1"), ("cat", "dog"), ("a", "b", "c")])
def test_a_table_that_says_the_other_way_round(names, tmp_path):
    tree(tmp_path, *names)
    for turn in (0, 1):
        rows = [
            f"{name}/{i}.png,{names[(k + turn) % len(names)]}"
            for k, name in enumerate(names)
            for i in range(3)
        ]
        layouts.write(tmp_path / "labels.csv", "\n".join(["path,label", *rows]) + "\n")
        if turn:
            refuse(tmp_path, "a table of the images that sorts them otherwise")
        else:
            assert read(tmp_path)[0] == names


def test_tables_of_other_things_are_told(tmp_path):
    tree(tmp_path, "cat", "dog")
    layouts.write(tmp_path / "metadata.csv", "file,age\n" + "".join(f"{i}.png,{i}\n" for i in range(3)))
    layouts.write(tmp_path / "broken.csv", 'a,b\n"1,2\n')
    assert read(tmp_path)[2] == ["· 2 other files: broken.csv, metadata.csv"]


# --- masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folders, lost",
    [
        (("raw", "segmentation", "annotation", "normal"), ["annotation", "segmentation"]),
        (("photos", "labels", "drawings"), ["labels"]),
        (("nevus", "melanoma", "melanoma_masks"), ["melanoma_masks"]),
        (("nevus", "nevus_masks", "melanoma", "melanoma_masks"), []),
    ],
)
def test_a_class_that_passes_for_masks_stops(folders, lost, tmp_path):
    assert list_lost(tree(tmp_path, *folders)) == lost


@pytest.mark.parametrize("n, kinds", [(6, ["lost_class"]), (10, ["part_masks"]), (4, ["lost_class"])])
def test_segmented_neutrophils_are_a_class(n, kinds, tmp_path):
    """A kind of white cell: numbered as the others are, its images pass for their masks."""
    tree(tmp_path, "neutrophil", "lymphocyte", n=6)
    report = folder.read_index(tree(tmp_path, "neutrophil_seg", n=n)).report
    assert report.list_blocking() == kinds and report.examples[kinds[0]][0].startswith("neutrophil_seg (")


def test_a_thumb_among_fingers_is_no_thumbnail(tmp_path):
    tree(tmp_path, "broken", "whole")
    for i in range(3):
        shutil.copy(tmp_path / "whole" / f"{i}.png", tmp_path / "whole" / f"{i}_thumb.png")
    assert folder.read_index(tmp_path).report.list_blocking() == []
    shutil.copy(tmp_path / "whole" / "0.png", tmp_path / "broken" / "0_index.png")
    assert folder.read_index(tmp_path).report.list_blocking() == ["masks"]


def test_too_few_classes_name_the_masks(tmp_path):
    refuse(tree(tmp_path, "original", "mask"), r"found: original .*mask \(3 images taken for masks of others")


def test_masks_by_other_names_are_left_out(tmp_path):
    tree(tmp_path, "nevus", "melanoma")
    for name in ("mask_0", "0.mask", "1Mask", "2mask", "mask_9"):
        shutil.copy(tmp_path / "nevus" / "1.png", tmp_path / "nevus" / f"{name}.png")
    lines = read(tmp_path)[2]
    assert lines == [
        "· 4 masks or thumbnails beside their images: nevus/0.mask.png, nevus/1Mask.png, nevus/2mask.png, …"
    ]


# --- lost classes, copies, archives -------------------------------------------------------------------------------


def test_classes_of_other_files_stop_and_documents_do_not(tmp_path):
    root = tree(tmp_path, "a", "b")
    for i in range(3):
        layouts.write(root / "text" / f"{i}.txt", "x")
        layouts.write(root / "arrays" / f"{i}.xyz", "x")
        layouts.write(root / "notebooks" / f"{i}.ipynb", "x")
        layouts.write(root / "annotations" / f"{i}.xml", "x")
    layouts.write(root / "docs" / "README.txt", "x")
    assert list_lost(root) == ["arrays", "text"]
    shutil.rmtree(root / "arrays")
    shutil.rmtree(root / "text")
    layouts.write(root / "videos" / "x.mp4", "x")
    (root / "pipes").mkdir()
    os.mkfifo(root / "pipes" / "x")
    assert list_lost(root) == ["pipes", "videos"]


def test_a_class_lost_in_one_part_stops(tmp_path):
    root = tree(tmp_path, "train/a", "train/b", "train/c", "test/a")
    for i in range(3):
        layouts.write(root / "test" / "b" / f"{i}.xyz", "x")
    (root / "test" / "c").mkdir()
    assert list_lost(root) == ["test/b"], "an empty folder says that the part has none"


def test_an_empty_archive_is_a_lost_class(tmp_path):
    tree(tmp_path, "a", "b")
    with zipfile.ZipFile(tmp_path / "c.zip", "w"):
        pass
    assert list_lost(tmp_path) == ["c"]


def test_entries_that_are_replaced_are_counted(tmp_path):
    tree(tmp_path, "a", "b")
    with (
        zipfile.ZipFile(tmp_path / "c.zip", "w") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        for i in range(3):
            archive.writestr("0.png", layouts.encode(layouts.picture(i), "PNG"))
    classes, _, lines = read(tmp_path)
    assert classes == ("a", "b", "c")
    assert lines == [
        "· 2 entries of an archive that a later one of the same name replaces: c.zip/0.png, c.zip/0.png"
    ]


def test_an_encrypted_archive_says_so(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.png", b"abc")
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    file = FileRef(str(path), ("0.png",), "x.zip/0.png", 3, 0)
    with pytest.raises(OSError, match=r"^encrypted; unpack it with its password$"):
        Archives().read(file)


def test_a_class_of_copies_stops(tmp_path):
    root = tree(tmp_path / "set", "benign", "malignant")
    shutil.copytree(root / "benign", root / "benign - Copy")
    shutil.copytree(root / "malignant", root / "malignant_backup")
    (root / "malignant_backup" / "0.png").unlink()
    with pytest.raises(UserError) as error:
        sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / "data")
    assert (
        "✗ 2 classes whose images are all copies of another class's: benign - Copy = benign, "
        "malignant_backup = malignant" in str(error.value)
    )
    layouts.write(root / "benign - Copy" / "0.png", layouts.encode(layouts.picture(999), "PNG"))
    layouts.write(root / "malignant_backup" / "9.png", layouts.encode(layouts.picture(998), "PNG"))
    with pytest.raises(UserError, match="✗ 2 classes called as a variant of another's images"):
        sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / "data")
    (root / "benign - Copy").rename(root / "cyst")
    (root / "malignant_backup").rename(root / "nevus")
    assert len(sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / "data").classes) == 4


# --- published sets -----------------------------------------------------------------------------------------------


def test_grades_of_aptos_by_other_spellings(tmp_path):
    names = ("No DR", "Mild", "moderate", "SEVERE", "Proliferative DR")
    for grade, name in enumerate(names):
        layouts.write(
            tmp_path / "train" / name / f"{grade}a.png", layouts.encode(layouts.picture(grade), "PNG")
        )
    assert [(item.id, item.label) for item in aptos.read_index(tmp_path).items] == [
        (f"{grade}a", grade) for grade in range(5)
    ]


def test_a_folder_called_latest_is_no_test_set(tmp_path):
    root = layouts.ham_dataverse(tmp_path / "latest")
    layouts.write(root / "latest" / "x.png", layouts.encode(layouts.picture(1), "PNG"))
    report = ham10000.read_index(Path(root)).report
    assert report.examples["unlisted"] == ["latest/x.png"] and not report.counts["ignored"]
