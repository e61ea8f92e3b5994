"""Files of weights as people have them: read whatever the names begin with, and called what they are otherwise."""

from __future__ import annotations

import argparse
import io
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from udcd_bench.errors import UserError
from udcd_bench.training import network, weights

NAME = "resnet-tiny"


@pytest.fixture(scope="module")
def tensors():
    """The tensors of a small backbone, none of them as it is built."""
    torch.manual_seed(1)
    return {
        key: torch.rand_like(t.float()).to(t.dtype)
        for key, t in weights.build_backbone(NAME).state_dict().items()
    }


@pytest.fixture(autouse=True)
def forget_digests():
    weights._compute_digest.cache_clear()


def rename(tensors, before):
    return {before + key: tensor for key, tensor in tensors.items()}


def refuse(file, backbone=NAME):
    """What both readers of weights say of a file: one sentence."""
    sentences = set()
    for read in (weights.build_backbone, weights.compute_digest):
        with pytest.raises(UserError) as error:
            read(backbone, str(file))
        sentences.add(str(error.value))
    (sentence,) = sentences
    assert str(file) in sentence and "\n" not in sentence and sentence.endswith(".")
    return sentence


WRAPPED = {
    "plain": lambda t: t,
    "data parallel": lambda t: rename(t, "module."),
    "lightning": lambda t: {"epoch": 3, "state_dict": rename(t, "model."), "hyper_parameters": {"lr": 0.1}},
    "nested": lambda t: {"model": rename(t, "module.student.encoder."), "optimizer": {0: {"x": torch.ones(2)}}},
    "timm's script": lambda t: {"state_dict": t, "args": argparse.Namespace(lr=1.0), "metric": 0.5},
    "with a classifier": lambda t: {**t, "fc.weight": torch.ones(7, 32)},
    "parameters": lambda t: {key: torch.nn.Parameter(v, requires_grad=v.is_floating_point()) for key, v in t.items()},
    "sparse": lambda t: {key: tensor.to_sparse() if tensor.ndim else tensor for key, tensor in t.items()},
    "arrays of NumPy": lambda t: {key: tensor.numpy() for key, tensor in t.items()},
    "without counters": lambda t: {key: value for key, value in t.items() if "num_batches" not in key},
}  # fmt: skip


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_however_a_file_names_them_they_are_the_same_weights(tensors, wrap, tmp_path):
    torch.save(tensors, tmp_path / "reference.pth")
    wanted = weights.compute_digest(NAME, str(tmp_path / "reference.pth"))
    assert not weights.describe_prefix(NAME, str(tmp_path / "reference.pth")), "it needs no words"
    torch.save(wrap(tensors), tmp_path / "weights.pth")
    assert weights.compute_digest(NAME, str(tmp_path / "weights.pth")) == wanted
    built = weights.build_backbone(NAME, str(tmp_path / "weights.pth")).state_dict()
    assert all(torch.equal(built[key], tensors[key]) for key in tensors if "num_batches" not in key)
    names = list(wrap(tensors))
    said = weights.describe_prefix(NAME, str(tmp_path / "weights.pth"))
    assert bool(said) == (names[0] not in tensors), "said where they begin with more"


def test_the_prefix_is_said(tensors, tmp_path):
    torch.save({"state_dict": rename(tensors, "model.")}, tmp_path / "lightning.ckpt")
    file = tmp_path / "lightning.ckpt"
    assert weights.describe_prefix(NAME, str(file)) == f"{file}: read below 'state_dict.model.'."


def test_of_a_teacher_and_a_student_the_averaged_one_is_read_and_the_other_named(tensors, tmp_path):
    others = {key: tensor * 2 for key, tensor in tensors.items()}
    torch.save({"student": others, "teacher": tensors}, tmp_path / "both.pth")
    torch.save(tensors, tmp_path / "one.pth")
    digests = {weights.compute_digest(NAME, str(tmp_path / f"{name}.pth")) for name in ("both", "one")}
    said = weights.describe_prefix(NAME, str(tmp_path / "both.pth"))
    assert len(digests) == 1 and "'student.' fits as well" in said


def test_a_students_file_of_ours_is_accepted_in_any_precision_and_container(tensors, tmp_path):
    built = network.build_network(NAME, 3, weights="none", image_size=64)
    built.backbone.load_state_dict(tensors)
    stored = {key: tensor.contiguous() for key, tensor in built.state_dict().items()}
    save_file(stored, tmp_path / "student.safetensors")
    save_file(stored, tmp_path / "no-suffix")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    files = ("student.safetensors", "no-suffix", "old.pth")
    assert len({weights.compute_digest(NAME, str(tmp_path / name)) for name in files}) == 1
    halved = {key: t.half() if t.is_floating_point() else t for key, t in tensors.items()}
    widened = {key: t.float() if t.is_floating_point() else t for key, t in halved.items()}
    torch.save(halved, tmp_path / "half.pth")
    torch.save(widened, tmp_path / "wide.pth")
    half, wide = (weights.compute_digest(NAME, str(tmp_path / name)) for name in ("half.pth", "wide.pth"))
    assert half == wide != weights.compute_digest(NAME, str(tmp_path / "old.pth"))


def test_a_file_replaced_under_its_name_has_another_digest(tensors, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(tensors, file)
    before = weights.compute_digest(NAME, str(file))
    torch.save({**tensors, "conv1.0.weight": tensors["conv1.0.weight"] + 1}, file)
    assert weights.compute_digest(NAME, str(file)) != before
    assert weights.compute_digest(NAME, "none") == "none"


def test_torchvisions_older_names_of_a_densenet(tmp_path):
    own = weights.build_backbone("densenet121").state_dict()
    older = {}
    for key, tensor in own.items():
        for layer in ("norm1", "norm2", "conv1", "conv2"):
            key = key.replace(f".{layer}.", f".{layer[:-1]}.{layer[-1]}.")
        older[key] = tensor
    assert older.keys() != own.keys()
    torch.save(older, tmp_path / "densenet121-a639ec97.pth")
    torch.save(own, tmp_path / "own.pth")
    files = ("densenet121-a639ec97.pth", "own.pth")
    assert len({weights.compute_digest("densenet121", str(tmp_path / name)) for name in files}) == 1


# --- what holds none --------------------------------------------------------------------------------------------


def make_archive(writer, name):
    buffer = io.BytesIO()
    with writer(buffer) as archive:
        if isinstance(archive, zipfile.ZipFile):
            archive.writestr(name, b"123")
        else:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return buffer.getvalue()


FOREIGN = {
    b"": "empty",
    b"<html>404</html>": "a page of HTML",
    b"\n<!DOCTYPE html><p>Sign in": "a page of HTML",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n": "git lfs pull",
    b"\x89HDF\r\n\x1a\n" + bytes(64): "as Keras writes it",
    b"\x08\x07\x12\x07pytorch\x1a\x051.8.0": "an ONNX graph",
    b"\x1f\x8b\x08" + bytes(64): "compressed",
    b"\x93NUMPY\x01\x00": "an array of NumPy",
    pickle.dumps({"a": np.ones(2)}): "a pickle that torch.save has not written",
    b"Not found": "text, which begins 'Not found'",
    b"PK\x03\x04" + bytes(99): "cut short or damaged",
    bytes(range(128, 256)): "damaged, or of no kind that PyTorch writes",
    make_archive(lambda file: zipfile.ZipFile(file, "w"), "inner.pth"): "a zip archive of 1 files",
    make_archive(lambda file: zipfile.ZipFile(file, "w"), "a.npy"): "an archive of NumPy",
    make_archive(lambda file: zipfile.ZipFile(file, "w"), "model.weights.h5"): "a Keras model",
    make_archive(lambda file: tarfile.TarFile(fileobj=file, mode="w"), "inner.pth"): "a tar archive",
}


@pytest.mark.parametrize(("data", "kind"), FOREIGN.items(), ids=FOREIGN.values())
def test_what_holds_no_weights_is_called_what_it_is(data, kind, tmp_path):
    (tmp_path / "weights.pth").write_bytes(data)
    assert kind in refuse(tmp_path / "weights.pth")


def test_a_pickle_of_more_than_tensors_names_the_danger(tensors, tmp_path):
    model = torch.nn.Linear(2, 3)
    for value, kind in (
        (model, "a whole pickled model"),
        ({"model": model}, "a pickle of more than tensors"),
    ):
        torch.save(value, tmp_path / "weights.pth")
        sentence = refuse(tmp_path / "weights.pth")
        assert f"{kind} (torch.nn.modules.linear.Linear)" in sentence and "save its state_dict()" in sentence


def test_damage_and_what_is_no_number_is_named(tensors, tmp_path):
    file = tmp_path / "student.safetensors"
    save_file(tensors, file)
    file.write_bytes(file.read_bytes()[:-9])
    assert "cut short" in refuse(file)
    for value in (np.nan, np.inf):
        broken = {key: tensor.clone() for key, tensor in tensors.items()}
        broken["layer1.0.bn1.running_var"][1] = value
        torch.save({"state_dict": broken}, tmp_path / "broken.pth")
        assert "NaN or infinity in state_dict.layer1.0.bn1.running_var" in refuse(tmp_path / "broken.pth")
    torch.save({key: tensor.to("meta") for key, tensor in tensors.items()}, tmp_path / "meta.pth")
    assert "it has a shape and no values); save plain tensors" in refuse(tmp_path / "meta.pth")
    torch.save(torch.ones(3), tmp_path / "nameless.pth")
    assert "no tensors with names" in refuse(tmp_path / "nameless.pth")


@pytest.mark.slow
def test_another_networks_weights_name_the_network(tmp_path):
    torch.save(timm.create_model("resnet10t", num_classes=3).state_dict(), tmp_path / "resnet10t.pth")
    sentence = refuse(tmp_path / "resnet10t.pth", "resnet14t")
    assert (
        "does not hold resnet14t" in sentence
        and "give --backbone resnet10t, whose weights they are" in sentence
    )
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "head.pth")
    sentence = refuse(tmp_path / "head.pth")
    assert "conv1.0.weight is missing, and its first tensor is weight); give another file." in sentence


def test_a_folder_and_a_missing_file(tmp_path):
    (tmp_path / "weights.pth").touch()
    assert f"it is a folder; give a file of weights, such as {tmp_path / 'weights.pth'}" in refuse(tmp_path)
    assert "there is no such file" in refuse(tmp_path / "none.pth")
    assert "whole path" in refuse("~nobody-of-that-name/w.pth")


def test_without_a_network_the_address_of_the_file_is_told(monkeypatch):
    def create_model(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(
        UserError, match=r"fetch https://huggingface.co/timm/densenet121\.\S+ on another machine"
    ):
        weights.compute_digest("densenet121", "imagenet")
    with pytest.raises(UserError, match="timm has no ImageNet weights of resnetv2_50d"):
        weights.compute_digest("resnetv2_50d", "imagenet")
