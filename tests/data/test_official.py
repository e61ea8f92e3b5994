"""The challenge's own test images: read in each form they are handed out in, joined with HAM10000, trained and told."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from support import faults, layouts
from udcd_bench import plugins
from udcd_bench.cli import cli
from udcd_bench.data import official, sources, splits
from udcd_bench.data.cache.options import PrepareOptions
from udcd_bench.data.layouts import ham10000
from udcd_bench.errors import UserError
from udcd_bench.grid.cells import TableRequest
from udcd_bench.runs.results import load_results
from udcd_bench.runs.store import Store

FORMS = {
    "folder": lambda root: layouts.isic_part(root, "Test", 2),
    "nested": lambda root: layouts.isic_part(root, "Test", 2, folders=("ISIC2018_Task3_Test_Input",)),
    "zip": lambda root: (
        layouts.zipped(layouts.isic_part(root, "Test", 2) / "ISIC2018_Task3_Test_Input", keep=False).parent
    ),
    "one zip": lambda root: layouts.zipped(layouts.isic_part(root, "Test", 2)),
    "beside the training images": lambda root: layouts.isic_part(layouts.ham_isic(root), "Test", 2),
}


def prepare(name, source, data, **options):
    return sources.prepare_dataset(
        name, size=32, data=data, options=PrepareOptions(source, allow_incomplete=True, **options)
    )


@pytest.fixture
def data(tmp_path):
    """Both sets prepared at 32 pixels: 17 training images, 14 test images."""
    prepare("ham10000", layouts.ham_dataverse(tmp_path / "ham"), tmp_path / "data")
    prepare("isic2018-test", layouts.isic_part(tmp_path / "test", "Test", 2), tmp_path / "data")
    return tmp_path / "data"


def load(data):
    return sources.load_dataset("ham10000-official", size=32, data=data)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(tmp_path, form):
    index = ham10000.TEST_SOURCE.read_index(FORMS[form](tmp_path / "set"))
    assert [item.id for item in index.items] == [f"ISIC_{34524 + n:07d}" for n in range(14)]
    names = [index.classes[item.label] for item in index.items]
    assert names[:7] == ["mel", "nv", "bcc", "akiec", "bkl", "df", "vasc"] and names[7:] == names[:7]
    assert index.report.counts["unlisted"] == 0


def test_validation_images_are_a_set_of_their_own(tmp_path):
    root = layouts.isic_part(layouts.isic_part(tmp_path / "set", "Test", 2), "Validation", 1)
    index = ham10000.VALIDATION_SOURCE.read_index(root)
    assert (index.name, index.title, len(index.items)) == (
        "isic2018-validation", "ISIC 2018 Task 3 validation", 7,
    )  # fmt: skip
    with pytest.raises(UserError, match=r"does not hold ISIC2018_Task3_Test_GroundTruth.csv.*challenge"):
        ham10000.TEST_SOURCE.read_index(layouts.isic_part(tmp_path / "other", "Validation", 1))


def test_the_joined_set_is_both_and_its_split_the_challenges(data):
    joined = load(data)
    train, test = (sources.load_dataset(name, size=32, data=data) for name in ("ham10000", "isic2018-test"))
    assert np.array_equal(joined.images, np.concatenate([train.images, test.images]))
    assert joined.ids == (*train.ids, *test.ids) and joined.classes == train.classes
    assert np.array_equal(joined.labels, np.concatenate([train.labels, test.labels]))
    assert (joined.name, joined.identity, joined.title) == ("ham10000", "ham10000", "HAM10000")
    # lesions stay together, and no test image belongs to one of them
    same = train.groups[:, None] == train.groups
    assert np.array_equal(joined.groups[:17, None] == joined.groups[:17], same)
    assert not np.isin(joined.groups[17:], joined.groups[:17]).any()
    split = splits.split_dataset(joined, splits.SplitOptions("official"))
    assert split.train.tolist() == list(range(17)) and split.test.tolist() == list(range(17, 31))


def test_an_image_on_both_sides_shares_its_group(tmp_path, data):
    source = tmp_path / "test"
    picture = next((tmp_path / "ham").rglob("*.jpg")).read_bytes()
    (source / "ISIC2018_Task3_Test_Input" / "ISIC_0034524.jpg").write_bytes(picture)
    prepare("isic2018-test", source, data)
    joined = load(data)
    assert np.isin(joined.groups[17:], joined.groups[:17]).tolist() == [True] + [False] * 13


def test_it_is_joined_again_when_a_part_changes_and_only_then(tmp_path, data):
    before = load(data).fingerprint
    manifest = data / "ham10000-official" / "32" / "manifest.json"
    written = manifest.stat().st_mtime_ns
    assert load(data).fingerprint == before and manifest.stat().st_mtime_ns == written
    prepare("isic2018-test", layouts.isic_part(tmp_path / "more", "Test", 3), data)
    assert load(data).fingerprint != before and len(load(data).ids) == 17 + 21


def test_imbalance_and_scarcity_are_of_the_training_images(data):
    joined = load(data)
    few = splits.split_dataset(joined, splits.SplitOptions("official", rho=2.0))
    counts = np.bincount(joined.labels[few.train], minlength=7)
    assert counts.max() / counts.min() == 2 and few.test.tolist() == list(range(17, 31))
    half = splits.split_dataset(joined, splits.SplitOptions("official", fraction=0.5))
    assert len(half.train) < 17 and half.test.tolist() == list(range(17, 31))


def invoke(*words):
    done = CliRunner().invoke(cli, list(map(str, words)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_it_is_trained_on_all_and_the_caption_says_whose_the_test_images_are(tmp_path, data, monkeypatch):
    faults.in_threads(monkeypatch)
    words = ("--split=official", f"--data={data}", f"--out={tmp_path / 'out'}", "--set=epochs=1")
    words += ("--set=image_size=32", "--set=batch_size=8", "--set=weights=none", "--profile=lite")
    words += ("--backbone=resnet-tiny",)
    done = invoke("run", "table2", "--methods=scratch", "--device=cpu", *words)
    assert done.exit_code == 0
    assert "Split official, the challenge's: fold 0, 17 training and 14 test images." in done.output
    store = Store(tmp_path / "out")
    (key,) = store.list_keys()
    assert (store.read_record(key)["n_train"], store.read_record(key)["n_test"]) == (17, 14)
    assert set(store.read_scores(key)["ids"]) == {f"ISIC_{34524 + n:07d}" for n in range(14)}
    said = " ".join(done.output.split())
    assert "17 training and 14 test images (those of ISIC 2018 Task 3 test), split hash" in said
    assert list((tmp_path / "out" / "lite").glob("table2-scratch-*-official.csv"))
    # the rows of the table are HAM10000's alone
    assert {spec.dataset for spec in load_results(store).records} == {"ham10000"}
    assert "nothing to remove" in invoke("results", "prune", f"--out={tmp_path / 'out'}").output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "table2", "--profile=lite", "--datasets=aptos"), "aptos has no official test set; --split official"),
        (("run", "table2"), "synthetic-lesions in place of ham10000, whose official test set it is; add"),
        (("run", "table2", "--datasets=ham10000"), "add --profile quick or lite or paper"),
        (("train", "scratch", "--dataset=digits"), "digits has no official test set"),
        (("run", "table2", "--profile=lite", "--test=val"), "--split official says which images test"),
    ],
)  # fmt: skip
def test_what_has_no_official_split_is_refused(words, says):
    with pytest.raises(UserError, match=says):
        invoke(*words, "--split=official", "--dry-run")


def test_there_is_one_fold(data):
    with pytest.raises(UserError, match="tested on the challenge's own images, so there is only fold 0"):
        splits.split_dataset(load(data), splits.SplitOptions("official", fold=1))


def test_a_table_of_both_data_sets_takes_the_one_that_has_a_test():
    table = plugins.load_class("tables", "table2")()
    request = TableRequest("lite", split=official.SPLIT)
    assert [group.source for group in table.list_column_groups(request)] == ["ham10000"]
