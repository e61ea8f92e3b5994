"""Every layout of every source gives the right images, labels, groups, splits; bad ones one sentence."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import layouts
from support.layouts import prepare
from udcd_bench.data import sources
from udcd_bench.data.cache.decode import resize
from udcd_bench.data.cache.options import PrepareOptions
from udcd_bench.data.files import report, scan
from udcd_bench.data.layouts import digits, folder, ham10000, image_index
from udcd_bench.data.layouts.source import Source
from udcd_bench.errors import UserError

pytestmark = pytest.mark.usefixtures("small_published")


def _zip_folders(root):
    for folder_ in [path for path in root.iterdir() if path.is_dir()]:
        layouts.zipped(folder_)
    return root


HAM = {
    "dataverse folders": layouts.ham_dataverse,
    "dataverse zips, .tab": lambda root: layouts.ham_dataverse(root, zips=True, table=".tab"),
    "dataverse, no suffix": lambda root: layouts.ham_dataverse(root, table=""),
    "one zip of zips": lambda root: layouts.ham_dataverse(root, zips=True, bundle=True),
    "kaggle": layouts.ham_kaggle,
    "kaggle archive.zip": lambda root: layouts.zipped(layouts.ham_kaggle(root)),
    "kaggle nested and doubled": lambda root: layouts.ham_kaggle(root, nested=True, doubled=True),
    "isic": layouts.ham_isic,
    "isic, zips": lambda root: _zip_folders(layouts.ham_isic(root)),
    "isic, truth not in a folder": lambda root: layouts.ham_isic(root, folder=False),
    "archive": layouts.ham_archive,
    "archive of 2024": lambda root: layouts.ham_archive(root, one_column=True),
    "archive's one zip": lambda root: layouts.zipped(layouts.ham_archive(root)),
    "written out": layouts.ham_written_out,
    "written out, UTF-16": lambda root: layouts.ham_written_out(root, separator="\t", encoding="utf-16"),
    "written out, semicolons": lambda root: layouts.ham_written_out(root, separator=";"),
}
APTOS = {
    "competition": layouts.aptos_competition,
    "resized": layouts.aptos_resized,
    "three-way": layouts.aptos_three_way,
    "competition zip": lambda root: layouts.zipped(layouts.aptos_competition(root)),
    "folders by grade": layouts.aptos_numbered,
}


RESIZED = "17 images of one size that the originals do not have"
HELD_OUT = "image files of other parts of the set"
LEFT_OUT = {
    "kaggle": ["1 other files: hmnist_8_8_L.csv"],
    "kaggle archive.zip": ["1 other files: hmnist_8_8_L.csv"],
    "kaggle nested and doubled": ["17 further copies of an image", "1 other files: hmnist_8_8_L.csv"],
    "isic": [f"1 {HELD_OUT}", "1 other files: ISIC2018_Task3_Training_Input/LICENSE.txt"],
    "isic, zips": [f"1 {HELD_OUT}", "1 other files: ISIC2018_Task3_Training_Input.zip/LICENSE.txt"],
    "isic, truth not in a folder": [f"1 {HELD_OUT}", "1 other files"],
    "archive": [f"1 {HELD_OUT}: ISIC-images/ISIC_0034524.jpg", "1 other files: licenses/CC-BY-NC.txt"],
    "archive of 2024": [f"1 {HELD_OUT}", "1 other files"],
    "archive's one zip": [f"1 {HELD_OUT}", "1 other files"],
    "written out, UTF-16": [RESIZED, "HAM10000_metadata.csv is read as UTF-16"],
    "competition": [f"1 {HELD_OUT}: test_images/0005cfc8afb6.png", "1 other files: test.csv"],
    "competition zip": [f"1 {HELD_OUT}", "1 other files: test.csv"],
    "folders by grade": [f"1 {HELD_OUT}: test_images/0005cfc8afb6.png"],
    "resized": [f"2 {HELD_OUT}", "2 other files: labels/testImages19.csv, labels/trainLabels15.csv"],
}
"""Layout → what its report says besides; nothing of the others."""


def check_report(done, lines):
    """That the report has these lines, in this order, and that none of them blocks."""
    assert len(done.report) == len(lines), done.report
    for line, start in zip(done.report, lines, strict=True):
        assert line.startswith(f"· {start}")


def make(name, root, data, **options):
    done = prepare(name, root, data, **options)
    return done, sources.load_dataset(name, size=32, data=data)


@pytest.mark.parametrize("layout", HAM)
def test_ham10000_is_the_same_from_every_layout(layout, tmp_path):
    root = HAM[layout](tmp_path / "it's HAM – 10 000")
    done, dataset = make("ham10000", root, tmp_path / "data")
    said = LEFT_OUT.get(layout, [])
    check_report(done, said if RESIZED in said else [*said, RESIZED])
    assert dataset.incomplete == "" and dataset.copies == "45 px copies"
    assert dataset.classes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert dataset.ids == tuple(sorted(layouts.HAM_IDS))
    assert [dataset.classes[label] for label in dataset.labels] == layouts.HAM_LABELS
    lesions = [layouts.HAM_LESIONS.index(lesion) for lesion in layouts.HAM_LESIONS]
    assert (dataset.groups[:, None] == dataset.groups).tolist() == np.equal.outer(lesions, lesions).tolist()
    with Image.open(_jpeg(4)) as image:
        assert np.array_equal(dataset.images[4], resize(image.convert("RGB"), 32))


def _jpeg(i):
    import io

    return io.BytesIO(layouts.encode(layouts.picture(i)))


def test_one_hot_labels_are_read_by_column_name(tmp_path):
    root = layouts.ham_isic(tmp_path / "a")
    truth = next(root.rglob("*GroundTruth.csv"))
    lines = [line.split(",") for line in truth.read_text().splitlines()]
    truth.write_text("\n".join(",".join([line[0], *line[:0:-1]]) for line in lines))
    _, dataset = make("ham10000", root, tmp_path / "data")
    assert [dataset.classes[label] for label in dataset.labels] == layouts.HAM_LABELS


def test_a_second_download_of_the_table_stands_in_for_it(tmp_path):
    root = layouts.ham_kaggle(tmp_path / "a")
    table = root / "HAM10000_metadata.csv"
    wanted = ham10000.read_index(root).items
    table.rename(root / "HAM10000_metadata (1).csv")
    assert ham10000.read_index(root).items == wanted
    shutil.copy(root / "HAM10000_metadata (1).csv", table)
    (root / "HAM10000_metadata (1).csv").write_text("lesion_id,image_id,dx\n")
    assert ham10000.read_index(root).items == wanted, "and no longer does where it is there"


def test_ground_truth_of_a_copy_without_lesions(tmp_path):
    root = layouts.ham_isic(tmp_path / "a")
    next(root.rglob("*_GroundTruth.csv")).rename(root / "GroundTruth.csv")
    next(root.rglob("*LesionGroupings.csv")).unlink()
    layouts.write(root / "masks" / "ISIC_0024306_segmentation.png", "x")
    with pytest.raises(UserError, match=r"lesions 0 instead of 15(.|\n)*2 image files of other parts"):
        make("ham10000", root, tmp_path / "data")


def test_lesions_are_needed(tmp_path):
    root = layouts.ham_isic(tmp_path / "a")
    next(root.glob("*LesionGroupings.csv")).unlink()
    with pytest.raises(UserError, match=r"lesions 0 instead of 15"):
        make("ham10000", root, tmp_path / "data")


def test_a_layout_is_one_reader_and_one_line(tmp_path, monkeypatch):
    """What the docstring of the layouts says of adding one."""

    def read_index(root):
        scanned, said = scan.scan_files(root), report.ValidationReport()
        rows = [image_index.LabelRow(stem, int(stem), stem, "") for stem in sorted(scanned.images)]
        items = image_index.match_files(rows, scanned, said, ignore="")
        return image_index.ImageIndex("mine", "Mine", ("a", "b"), items, said, source=str(root))

    mine = Source("mine", "Mine", "two images", "the next desk", read_index, ordered=True)
    monkeypatch.setitem(sources.SOURCES, mine.name, mine)
    for i in range(2):
        layouts.write(tmp_path / "a" / f"{i}.png", layouts.encode(layouts.picture(i), "PNG"))
    with pytest.raises(UserError, match=r"Mine is not prepared .* get it from the next desk"):
        sources.load_dataset("mine", size=32, data=tmp_path / "data")
    done, dataset = make("mine", tmp_path / "a", tmp_path / "data")
    assert done.fresh and sources.list_prepared("mine", tmp_path / "data") == [done.path]
    assert dataset.labels.tolist() == [0, 1] and sources.is_ordered("mine")
    assert sources.find_title("mine") == dataset.title == "Mine"


def test_a_zip_member_cannot_leave_the_zip(tmp_path):
    import zipfile

    root = layouts.ham_kaggle(tmp_path / "a")
    ids = layouts.HAM_IDS
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        for i, name in ((0, f"../../{ids[0]}.jpg"), (1, f"/etc/{ids[1]}.jpg"), (2, f"..\\{ids[2]}.jpg")):
            archive.writestr(name, layouts.encode(layouts.picture(i)))
            next(root.glob(f"*/{ids[i]}.jpg")).unlink()
    before = sorted(tmp_path.rglob("*"))
    done, dataset = make("ham10000", root, tmp_path / "data")
    check_report(done, [*LEFT_OUT["kaggle"], RESIZED])
    assert len(dataset.ids) == len(ids)
    assert [p for p in sorted(tmp_path.rglob("*")) if not p.is_relative_to(tmp_path / "data")] == before


@pytest.mark.parametrize("layout", APTOS)
def test_aptos_layouts(layout, tmp_path):
    done, dataset = make("aptos", APTOS[layout](tmp_path / "some aptos"), tmp_path / "data")
    check_report(done, LEFT_OUT.get(layout, []))
    assert dataset.ordered and dataset.classes == ("0", "1", "2", "3", "4")
    expected = dict(zip(layouts.APTOS_IDS, layouts.APTOS_GRADES, strict=True))
    assert {id_: str(label) for id_, label in zip(dataset.ids, dataset.labels, strict=True)} == expected
    assert list(dataset.ids) == sorted(dataset.ids)


def test_class_folders_beside_the_originals_do_no_harm(tmp_path):
    root = layouts.aptos_competition(tmp_path / "a")
    layouts.aptos_class_folders(root)
    done, _ = make("aptos", root, tmp_path / "data")
    check_report(done, [f"14 {HELD_OUT}", "1 other files: test.csv"])


def test_folder_of_class_folders(tmp_path):
    root = layouts.class_folders(tmp_path / "my images", each=4)
    name = f"folder:{root}"
    dataset = sources.load_dataset(name, size=32, data=tmp_path / "data")
    assert dataset.name == name
    digest = dataset.identity.removeprefix("folder#")
    assert len(digest) == 12 and dataset.title == f"my images ({digest[:4]})"
    assert dataset.classes == ("bénin", "mal'in", 'x "y" z')
    assert dataset.count_labels().tolist() == [4, 4, 4] and dataset.own_split is None
    again = sources.load_dataset(name, size=32, data=tmp_path / "data")
    assert again.fingerprint == dataset.fingerprint
    (root / "bénin" / "image 0 é'.png").unlink()
    fewer = sources.load_dataset(name, size=32, data=tmp_path / "data")
    assert fewer.count_labels().tolist() == [3, 4, 4] and fewer.fingerprint != dataset.fingerprint
    shutil.rmtree(root)  # the disk with the originals may be gone
    assert sources.load_dataset(name, size=32, data=tmp_path / "data").fingerprint == fewer.fingerprint


def test_folder_with_a_split_of_its_own(tmp_path):
    for split, each in (("train", 3), ("Val", 1), ("test", 2)):
        layouts.class_folders(tmp_path / "a" / split, ("10", "9"), each)
        for i, file in enumerate(sorted((tmp_path / "a" / split).rglob("*.png"))):
            file.write_bytes(layouts.encode(layouts.picture(hash((split, i)) % 10_000), "PNG"))
    dataset = sources.load_dataset(f"folder:{tmp_path / 'a'}", size=32, data=tmp_path / "data")
    assert dataset.classes == ("9", "10")
    assert dataset.own_split is not None
    assert dict(zip(*np.unique(dataset.own_split, return_counts=True), strict=True)) == {
        "train": 6,
        "val": 2,
        "test": 4,
    }


def test_folder_from_a_csv(tmp_path):
    root = layouts.class_folders(tmp_path / "a", ("u", "v"))
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = [
        f'"{file}",{label},p{i // 2}' for i, (file, label) in enumerate(zip(files, "yyxxyy", strict=True))
    ]
    table = layouts.write(root / "my labels.csv", "\n".join(["\ufeffpath, label,group", *rows]))
    dataset = sources.load_dataset(f"folder:{table}", size=32, data=tmp_path / "data")
    assert dataset.classes == ("x", "y") and dataset.labels.tolist() == [1, 1, 0, 0, 1, 1]
    assert dataset.groups.tolist() == [0, 0, 1, 1, 2, 2]


def test_folder_cache_names_never_collide(tmp_path):
    one, other = tmp_path / "x y" / "images", tmp_path / "x-y" / "images"
    assert folder.make_path_slug(one) != folder.make_path_slug(other)
    assert folder.make_path_slug(tmp_path / ".." / "x") != folder.make_path_slug(tmp_path / "x")


@pytest.mark.parametrize("text, said", [("file,label\n", "no column 'path'"), ("", "not a table")])
def test_bad_csv(text, said, tmp_path):
    table = layouts.write(tmp_path / "t.csv", text)
    with pytest.raises(UserError, match=said):
        sources.load_dataset(f"folder:{table}", size=32, data=tmp_path / "data")


def test_folders_without_enough(tmp_path):
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "empty", layouts.class_folders(tmp_path / "one", ("a",)), tmp_path / "none"):
        with pytest.raises(UserError, match=r"at least two classes|There is no"):
            sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / "data")


@pytest.mark.parametrize("grey", [True, False])
def test_medmnist(grey, tmp_path):
    file = layouts.medmnist_file(tmp_path / "retinamnist.npz", grey=grey)
    dataset = sources.load_dataset("medmnist:retinamnist", size=32, data=tmp_path)
    assert dataset.own_split is not None and dataset.ordered
    assert dataset.own_split.tolist() == ["train"] * 12 + ["val"] * 4 + ["test"] * 6
    assert dataset.labels[:12].tolist() == [0, 1, 2] * 4 and dataset.images.shape == (22, 32, 32, 3)
    with np.load(file) as held:
        first = Image.fromarray(held["test_images"][0]).convert("RGB")
    assert np.array_equal(dataset.images[16], resize(first, 32))
    file.unlink()
    assert (
        sources.load_dataset("medmnist:retinamnist", size=32, data=tmp_path).fingerprint
        == dataset.fingerprint
    )


PARTS = ("train", "val", "test")
ONE_LABEL = {f"{part}_labels": np.zeros((n, 1), np.uint8) for part, n in zip(PARTS, (12, 4, 6))}
A_GAP = ONE_LABEL | {"test_labels": np.array([0, 0, 0, 2, 2, 2], np.uint8)[:, None]}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"labels": 14}, "multi-label"),
        ({"val_labels": None}, "has no val_labels; it has: train_images"),
        ({"test_images": np.zeros((6, 28, 28, 28), np.uint8)}, "not volumes"),
        ({"test_labels": np.zeros((5, 1), np.uint8)}, "6 test_images but test_labels"),
        ({"test_labels": np.array([[None]] * 6)}, "damaged or no npz"),
        (ONE_LABEL, r"two classes or more, numbered from 0 without a gap: 0 \(22\)"),
        (A_GAP, r"without a gap: 0 \(19\), 1 \(0\), 2 \(3\)"),
    ],
)
def test_medmnist_that_cannot_be_used(changes, said, tmp_path):
    layouts.medmnist_file(tmp_path / "x.npz", **changes)
    with pytest.raises(UserError, match=said):
        sources.load_dataset("medmnist:x", size=32, data=tmp_path)


def test_medmnist_with_a_channel_of_grey_is_the_same_set(tmp_path):
    file = layouts.medmnist_file(tmp_path / "a" / "x.npz")
    with np.load(file) as held:
        deeper = {key: held[key][..., None] for key in held.files if key.endswith("images")}
    layouts.medmnist_file(tmp_path / "b" / "x.npz", **deeper)
    flat, deep = (sources.load_dataset("medmnist:x", size=32, data=tmp_path / side) for side in "ab")
    assert flat.fingerprint == deep.fingerprint


def test_medmnist_in_the_file_of_the_wanted_size(tmp_path):
    """At 64 pixels NAME_64.npz is read, once it is there; at other sizes, and without it, NAME.npz."""
    layouts.medmnist_file(tmp_path / "dermamnist.npz", grey=False)
    small = sources.load_dataset("medmnist:dermamnist", size=64, data=tmp_path)
    images = {
        f"{part}_images": np.random.default_rng(n).integers(0, 256, (n, 64, 64, 3), np.uint8)
        for part, n in (("train", 12), ("val", 4), ("test", 6))
    }
    layouts.medmnist_file(tmp_path / "dermamnist_64.npz", grey=False, **images)
    large = sources.load_dataset("medmnist:dermamnist", size=64, data=tmp_path)
    assert np.array_equal(large.images, np.concatenate(list(images.values()))), "as they are"
    assert large.fingerprint != small.fingerprint and large.own_split.tolist() == small.own_split.tolist()
    layouts.medmnist_file(tmp_path / "b" / "dermamnist.npz", grey=False)
    for name in "dermamnist.npz", "dermamnist_64.npz":
        assert (tmp_path / name).exists()
    at_32 = [sources.load_dataset("medmnist:dermamnist", size=32, data=tmp_path / x) for x in ("", "b")]
    assert at_32[0].fingerprint == at_32[1].fingerprint


def test_medmnist_names_and_files(tmp_path):
    other = layouts.medmnist_file(tmp_path / "pathmnist.npz")
    with pytest.raises(UserError, match=r"pathmnist.npz is called as another set, and not dermamnist"):
        sources.prepare_dataset(
            "medmnist:dermamnist", size=32, data=tmp_path, options=PrepareOptions(source_path=other)
        )
    with pytest.raises(UserError, match=r"get dermamnist_64\.npz or dermamnist\.npz from"):
        sources.load_dataset("medmnist:dermamnist", size=64, data=tmp_path)
    with pytest.raises(UserError, match=r"get dermamnist\.npz from"):
        sources.load_dataset("medmnist:dermamnist", size=32, data=tmp_path)
    with pytest.raises(UserError, match="is no MedMNIST set"):
        sources.load_dataset("medmnist:../x", size=32, data=tmp_path)
    with pytest.raises(UserError, match=rf"zenodo.*--from DIR --size 32 --data {tmp_path}`"):
        sources.load_dataset("medmnist:dermamnist", size=32, data=tmp_path)
    layouts.write(tmp_path / "dermamnist.npz", "no npz")
    with pytest.raises(UserError, match="damaged or no npz"):
        sources.load_dataset("medmnist:dermamnist", size=32, data=tmp_path)
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.npy").rename(tmp_path / "dermamnist.npz")
    with pytest.raises(UserError, match="single array"):
        sources.load_dataset("medmnist:dermamnist", size=32, data=tmp_path)


def test_digits(tmp_path):
    dataset = sources.load_dataset("digits", size=32, data=tmp_path)
    assert dataset.count_labels().tolist() == [178, 153, 131, 112, 96, 82, 71, 61, 52, 44]
    assert not dataset.synthetic and isinstance(dataset.images, np.memmap)
    assert not dataset.images.flags.writeable
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    original = [int(id_.removeprefix("digit-")) for id_ in dataset.ids]
    assert labels[original].tolist() == dataset.labels.tolist()
    grey = (pixels[original[5]].reshape(8, 8) * (255 / 16) + 0.5).astype(np.uint8)
    assert np.array_equal(dataset.images[5], resize(Image.fromarray(grey).convert("RGB"), 32))


def test_digit_counts_are_those_of_the_rule():
    assert digits.compute_counts([100] * 3, rho=4) == [100, 50, 25]
    assert digits.compute_counts([100, 20, 100], rho=4) == [40, 20, 10]


@pytest.mark.parametrize("name, n_classes", [("synthetic-lesions", 7), ("synthetic-fundus", 5)])
def test_synthetic_sets_are_drawn_once(name, n_classes, tmp_path):
    dataset = sources.load_dataset(name, size=32, data=tmp_path, n_images=12)
    assert dataset.synthetic and "synthetic stand-in" in dataset.title and sources.is_synthetic(name)
    assert len(dataset.classes) == n_classes and dataset.images.shape == (12, 32, 32, 3)
    assert dataset.ordered == sources.is_ordered(name) == (name == "synthetic-fundus")
    stamp = (tmp_path / sources.make_slug(name, 12) / "32" / "images.npy").stat().st_mtime_ns
    again = sources.load_dataset(
        name, size=32, data=tmp_path, n_images=12, options=sources.LoadOptions(prepare_missing=False)
    )
    assert again.fingerprint == dataset.fingerprint
    assert (tmp_path / sources.make_slug(name, 12) / "32" / "images.npy").stat().st_mtime_ns == stamp


def test_two_processes_may_ask_for_the_same_set_at_once(tmp_path):
    code = (
        "from pathlib import Path; from udcd_bench.data import sources\n"
        f"d = sources.load_dataset('synthetic-lesions', size=32, data=Path({str(tmp_path)!r}), n_images=24)\n"
        "print(d.fingerprint, int(d.images.sum()))"
    )
    workers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert said[0] == said[1] != ""
    assert not list(tmp_path.rglob(".incoming*"))


@pytest.mark.parametrize("name", ["ham10000", "aptos"])
def test_missing_data_says_where_to_get_it_and_how(name, tmp_path):
    with pytest.raises(UserError) as error:
        sources.load_dataset(name, size=224, data=tmp_path)
    words = str(error.value)
    assert f"udcd-bench data prepare {name} --from DIR --size 224 --data {tmp_path}" in words
    assert ("10.7910/DVN/DBW86T" if name == "ham10000" else "aptos2019-blindness-detection") in words
    assert "demo profile needs none" in words


def test_unknown_names_and_sizes(tmp_path):
    with pytest.raises(UserError, match="did you mean 'ham10000'"):
        sources.load_dataset("ham1000", size=32, data=tmp_path)
    with pytest.raises(UserError, match="32 to 512"):
        sources.load_dataset("digits", size=8, data=tmp_path)
    with pytest.raises(UserError, match="needs a path"):
        sources.load_dataset("folder:", size=32, data=tmp_path)
    with pytest.raises(UserError, match="is not prepared"):
        sources.load_dataset(
            "digits", size=32, data=tmp_path, options=sources.LoadOptions(prepare_missing=False)
        )
    with pytest.raises(UserError, match="no folder"):
        prepare("ham10000", tmp_path / "nowhere", tmp_path)
    with pytest.raises(UserError, match="holds neither"):
        prepare("ham10000", tmp_path, tmp_path)
    with pytest.raises(UserError, match="holds neither"):
        prepare("aptos", tmp_path, tmp_path)
    with pytest.raises(UserError, match="neither a folder nor a zip"):
        prepare("aptos", layouts.write(tmp_path / "f", "x"), tmp_path)


def test_a_wrong_column_is_named(tmp_path):
    layouts.write(tmp_path / "train.csv", "id,diagnosis\na,1\n")
    with pytest.raises(UserError, match=r"train.csv has no column 'id_code'; it has: id, diagnosis"):
        prepare("aptos", tmp_path, tmp_path)


def test_names_import_nothing_heavy():
    code = (
        "import sys; from udcd_bench.data import sources\n"
        "print([m for m in ('torch', 'sklearn', 'pandas', 'PIL', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert sources.list_names() == (
        "ham10000", "aptos", "isic2018-test", "isic2018-validation",
        "synthetic-lesions", "synthetic-fundus", "digits",
    )  # fmt: skip
    assert sources.find_title(f"folder:{Path('/a/b c')}") == "b c"


def test_ham10000_with_marks_in_words_and_files_in_lower_case(tmp_path, monkeypatch):
    monkeypatch.setattr(ham10000, "EXPECTED_COUNTS", layouts.HAM_PUBLISHED)
    root = layouts.ham_isic(tmp_path / "ham")
    wanted = [(item.id, item.label, item.group) for item in ham10000.read_index(root).items]
    (truth,) = root.rglob("*Training_GroundTruth.csv")
    truth.write_text(truth.read_text().replace("1.0", "True").replace("0.0", "False"))
    for path in sorted(root.rglob("ISIC_*.jpg")):
        path.rename(path.with_name(path.name.lower()))
    index = ham10000.read_index(root)
    assert [
        (item.id, item.label, item.group) for item in index.items
    ] == wanted and "True" in truth.read_text()
    assert index.report.counts["respelt"] == len(wanted) and not index.report.list_blocking()
    twin = next(root.rglob("isic_*.jpg"))
    twin.with_name(twin.name.upper().replace(".JPG", ".jpg")).write_bytes(twin.read_bytes())
    assert ham10000.read_index(root).report.counts["respelt"] == len(wanted) - 1
