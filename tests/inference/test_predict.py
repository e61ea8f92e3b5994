"""``predict``: a run's own test images get the scores that the run stored; what cannot be read is named."""

from __future__ import annotations

import io
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from support import records
from udcd_bench import plugins
from udcd_bench.errors import UserError
from udcd_bench.inference import frames, selection
from udcd_bench.inference.predict import list_images, predict_files
from udcd_bench.inference.stored_run import StoredRun
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store
from udcd_bench.storage.checksums import dump_with_checksum


def list_test_files(home, run):
    """The files of a run's test images, in the order of its scores."""
    by_id = {path.relative_to(home / "skin").as_posix(): path for path in home.glob("skin/*/*.png")}
    return [by_id[str(name)] for name in run.store.read_scores(run.key)["ids"]]


# --- the same network on the same images ------------------------------------------------------------------------


@pytest.mark.parametrize("which", [("scratch", 0), ("scratch", 1), ("scl-ikd", 0)])
def test_a_runs_own_test_images_get_the_scores_it_stored(home, runs, which):
    """Bit for bit: the same files, decoder, resize, network and batches."""
    run = runs[which]
    files = list_test_files(home, run)
    pixels = np.stack([run.transform.read_pixels(path) for path in files])
    stored = run.store.read_scores(run.key)["scores"][-1]
    assert np.array_equal(run.compute_logits(pixels), stored)
    predicted = predict_files([run], list_images(files).files).frame
    assert predicted["file"].tolist() == [str(path) for path in files]
    columns = [name for name in predicted if name != "file"]
    assert predicted[columns].equals(run.scores[columns])
    assert run.predict(files).reset_index(drop=True).equals(run.scores[columns])


def test_the_record_and_the_weights_are_all_it_needs(home, runs, tmp_path):
    run = runs["scl-ikd", 0]
    shutil.copytree(run.store.run_folder(run.key), tmp_path / "runs" / run.key)
    copy = StoredRun(Store(tmp_path), run.key, "cpu")
    before = torch.get_rng_state()
    assert copy.predict(list_test_files(home, run)).equals(run.predict(list_test_files(home, run)))
    assert torch.equal(torch.get_rng_state(), before), "what a user draws next does not depend on it"
    assert copy.network.method.teacher_network is None and not copy.network.training
    kept = sum(tensor.numel() for tensor in copy.network.state_dict().values())
    assert kept == sum(array.size for array in run.store.read_weights(run.key).values())


def test_an_image_may_be_a_path_an_array_or_pillows(home, runs):
    run = runs["scratch", 0]
    path = list_test_files(home, run)[0]
    image = Image.open(path)
    one, *others = (run.predict(given) for given in (path, str(path), image, np.asarray(image), [path]))
    assert one.index.tolist() == [str(path)] and others[2].index.tolist() == [0]
    for other in others:
        assert np.array_equal(other.to_numpy(), one.to_numpy())
    batch = np.stack([np.asarray(image)] * 2)
    assert len(run.predict(batch)) == 2
    tensor = run.transform(path)
    assert tensor.shape == (3, 32, 32) and tensor.dtype == torch.float32
    assert torch.equal(
        run.transform.normalize(run.transform.read_pixels(path)[None], torch.device("cpu"))[0], tensor
    )
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)) / 255 - mean) / std
    np.testing.assert_allclose(tensor.permute(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4)), "no image; give .H, W, 3. of uint8"),
        (Image.new("I", (8, 8)), "more than 8 bits; give its file's path"),
        (7, "int is no image"),
        (Image.new("RGB", (0, 8)), "a Pillow image of 0×8 pixels is no image"),
        ("nowhere.png", r"nowhere\.png cannot be read as an image"),
    ],
)
def test_what_is_no_image_is_refused(runs, image, says):
    with pytest.raises(UserError, match=says):
        runs["scratch", 0].predict([image])


def test_greys_are_read_with_the_depth_that_the_set_was_prepared_with(home, runs, tmp_path):
    run = runs["scratch", 0]
    folder = tmp_path / "runs" / run.key
    shutil.copytree(run.store.run_folder(run.key), folder)
    twelve = {**run.record, "decoding": {"depth": 12}}
    twelve.pop("sha256")
    (folder / "record.json").write_bytes(dump_with_checksum(twelve))
    grey = tmp_path / "grey.png"
    Image.fromarray(np.full((32, 32), 4095, np.uint16)).save(grey)
    assert (StoredRun(Store(tmp_path), run.key).transform.read_pixels(grey) == 255).all()
    assert run.transform.read_pixels(grey).max() == 4095 * 255 // 65535


def test_entropy_and_probabilities():
    frame = frames.build_probability_columns(np.array([[0.5, 0.5, 0], [1, 0, 0]]), ["a", "b", "p_a"])
    assert frame["entropy"].tolist() == [np.log(2), 0] and frame["predicted"].tolist() == ["a", "a"]
    assert frame.columns.tolist() == ["predicted", "p_a", "p_b", "p_p_a", "entropy"]
    np.testing.assert_allclose(frames.compute_probabilities([[0.0, np.log(3)]]), [[0.25, 0.75]])


# --- the command --------------------------------------------------------------------------------------------------


def read(out):
    return pd.read_csv(io.StringIO(out))


def test_a_folder_is_predicted_and_what_is_no_image_is_said(home, runs, typed, tmp_path):
    run = runs["scratch", 0]
    shutil.copytree(home / "skin" / "mole", tmp_path / "new" / "deep")
    (tmp_path / "new" / "slice.nii").write_bytes(b"DICM")
    (tmp_path / "new" / "notes.txt").write_text("new ones")
    status, out, err = typed("predict", run.key, tmp_path / "new")
    frame = read(out)
    assert status == 0 and len(frame) == 16
    assert frame.columns.tolist() == ["file", "predicted", "p_mole", "p_scar, old", "p_wart", "entropy"]
    assert frame["file"].tolist() == [str(p) for p in sorted((tmp_path / "new" / "deep").iterdir())]
    expected = run.predict(frame["file"].tolist())
    np.testing.assert_allclose(frame["p_wart"], expected["p_wart"], atol=1e-6)
    assert f"{run.label} ({run.key}); images are resized to 32×32." in err
    assert (
        "1 image files of a format that is not read (convert them to PNG): slice.nii" in err
        and "notes.txt" in err
    )


def test_files_that_are_broken_are_named_and_left_out(home, runs, typed, tmp_path):
    whole = sorted((home / "skin" / "mole").iterdir())[0]
    broken = tmp_path / "broken.png"
    broken.write_bytes(whole.read_bytes()[:900])
    status, out, err = typed(
        "predict", runs["scratch", 0].key[:6], whole, broken, "--csv", tmp_path / "out.csv"
    )
    assert status == 1 and out == "" and f"left out: {broken} (" in err
    frame = pd.read_csv(tmp_path / "out.csv")
    assert frame["file"].tolist() == [str(whole)]
    status, out, err = typed("predict", runs["scratch", 0].key, broken)
    assert status == 1 and out == "file\n"


def test_what_an_image_has_and_its_pixels_have_not_is_said(home, runs, typed, tmp_path, caplog):
    folder = tmp_path / "odd"
    folder.mkdir()
    rgba = np.full((40, 40, 4), 90, np.uint8)
    rgba[:20, :, 3] = 0
    Image.fromarray(rgba, "RGBA").save(folder / "hidden.png")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(folder / "black.png")
    Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40)).save(folder / "deep.png")
    run = runs["scratch", 0]
    status, _, err = typed("predict", run.key, folder)
    assert status == 0
    assert f"· 1 images with transparent parts, whose hidden colours are used: {folder}/hidden.png" in err
    assert f"{folder}/black.png (at most 0)" in err
    assert "· 16-bit images use 11 bits at most, and come out darker than the run's" in err
    assert not caplog.text
    run.predict(folder / "hidden.png")
    assert "hidden.png is among images with transparent parts" in caplog.text


def test_a_zip_is_read_in_place_and_a_name_need_be_no_text(home, runs, typed, tmp_path):
    whole = sorted((home / "skin" / "mole").iterdir())[0]
    with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
        archive.write(whole, "a/one.png")
    odd = tmp_path / "m\udce9l.png"
    shutil.copy(whole, odd)
    (tmp_path / "bad.zip").write_bytes(b"PK no zip")
    status, _, err = typed("predict", runs["scratch", 0].key, odd, tmp_path / "bad.zip")
    assert status == 2 and "bad.zip is neither a folder nor a zip archive" in err
    status, out, err = typed("predict", runs["scratch", 0].key, tmp_path / "new.zip", odd)
    assert status == 0
    first, second = out.splitlines()[1:]
    assert (
        first.startswith(f"{tmp_path}/new.zip/a/one.png,") and first.split(",")[1:] == second.split(",")[1:]
    )


def test_the_folds_are_averaged(home, runs, typed):
    files = sorted((home / "skin" / "wart").iterdir())
    label = runs["scratch", 1].label
    status, out, err = typed("predict", label, home / "skin" / "wart", "--ensemble")
    assert status == 0 and "the mean of folds 0, 1" in err
    each = [runs["scratch", fold].predict(files)["p_mole"].to_numpy() for fold in (0, 1)]
    np.testing.assert_allclose(read(out)["p_mole"], np.mean(each, axis=0), atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-4
    status, _, err = typed("predict", runs["scl-ikd", 0].key, home / "skin", "--ensemble")
    assert status == 2 and "has fold 0 alone" in err and "--ensemble averages two or more" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("nothing", "skin"),
            "has no finished run 'nothing'; `udcd-bench status --out results` lists keys and labels",
        ),
        (("", "skin"), "has no finished run ''"),
        (
            ("{key}", "nowhere"),
            "There is no file or folder nowhere; give images, folders of images, or zips.",
        ),
        (("{key}", "data"), "There is no image in data: 1 folders of results or prepared images of this"),
        (("{key}", "skin", "--out=none"), "none: there is no such results folder"),
        (("{key}", "skin", "--device=tpu"), "--device tpu: it is one of auto, cpu, cuda"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(runs, typed, words, says):
    status, out, err = typed("predict", *(word.format(key=runs["scratch", 0].key) for word in words))
    assert status == 2 and out == "" and says in err


def test_a_packed_run_says_that_it_has_no_weights(home, runs, typed, tmp_path):
    typed("results", "pack", "--to", tmp_path / "evidence")
    status, _, err = typed("predict", runs["scratch", 0].key, "skin", "--out", tmp_path / "evidence")
    assert status == 2 and err.count("\n") == 1
    assert (
        "was packed without its weights, so nothing can be predicted with it; give as --out the folder" in err
    )


def test_a_key_that_several_runs_begin_with_is_no_name(tmp_path):
    store, spec = Store(tmp_path), RunSpec("kd", "digits", "demo", "densenet-tiny")
    for key in ("ab00", "ab11", "cd22"):
        records.store_run(store, records.record(spec, key=key))
    assert selection.find_run(store, "ab0") == "ab00" and selection.find_run(store, "c") == "cd22"
    with pytest.raises(
        UserError, match=r"'ab' may be any of ab00 \(kd digits .*\), ab11 \(.*; give more of the key"
    ):
        selection.find_run(store, "ab")
    for typed in (spec.format_label(), "kd digits"):
        with pytest.raises(UserError, match=r"may be any of ab00 .*, ab11 .*, cd22 "):
            selection.find_run(store, typed)
    records.store_run(store, records.record(replace(spec, method="mtg"), key="ef33"))
    assert selection.find_run(store, "mtg digits") == selection.find_run(store, "mtg") == "ef33"
    with pytest.raises(UserError, match="has no finished run 'mtg digi'"):
        selection.find_run(store, "mtg digi")


def test_another_methods_file_is_said(home, runs, tmp_path, monkeypatch, caplog):
    """Weights that fit are taken with a warning; those that do not are refused."""
    run = runs["scl-ikd", 0]
    source = plugins.find_file("methods", "scl-ikd").read_text()
    later, smaller = f"{source}# later\n", source.replace('"hidden": 256', '"hidden": 8')
    for n, (text, fails) in enumerate(((later, False), (smaller, True))):
        suite = tmp_path / f"suite{n}"
        (suite / "methods").mkdir(parents=True)
        (suite / "methods" / "scl-ikd.py").write_text(text)
        monkeypatch.setattr(
            plugins, "load_class", lambda kind, name, f=suite / "methods" / "scl-ikd.py": load(f)
        )
        monkeypatch.setattr(plugins, "hash_sources", lambda kind, name: {"scl-ikd.py": "0"})
        if fails:
            with pytest.raises(
                UserError, match=r"are not those of methods/scl-ikd\.py .* .they differ in head"
            ):
                StoredRun(run.store, run.key).network  # noqa: B018
        else:
            assert StoredRun(run.store, run.key).network is not None
        assert "methods/scl-ikd.py has changed since run" in caplog.text


def load(file):
    namespace = {}
    exec(compile(file.read_text(), str(file), "exec"), namespace)
    return namespace["Method"]
