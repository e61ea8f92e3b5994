"""``export``: other programs compute what the run's network computes, and read how to use it from the file itself."""

from __future__ import annotations

import functools
import json
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors import safe_open

from support import own_runs
from udcd_bench.errors import UserError
from udcd_bench.inference.export import check_target, export_run
from udcd_bench.runs.profiles import TINY_DENSENET

# the runs of these are trained after another method's network was traced, which reads that method's source
BACKBONES = ("resnet-tiny", "efficientnet-tiny", "mobilenet-tiny")


@pytest.fixture(scope="module", autouse=True)
def operators():
    """The two thousand operators that torch translates anew at each export to ONNX, translated once."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = functools.cache(ONNXRegistry.from_torchlib)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(read))
        yield


@pytest.fixture(scope="module")
def images(home, runs):
    """Images of the data set as a network takes them, (5, 3, 32, 32)."""
    transform = runs["scratch", 0].transform
    return torch.stack([transform(path) for path in sorted(home.glob("skin/*/*.png"))[::8]])


def compute(run, images):
    with torch.inference_mode():
        return run.network(images).numpy()


def find_run(home, backbone):
    """A run of a backbone; of the first family that whose head is not the network's own."""
    if backbone == TINY_DENSENET:
        return own_runs.train(home, "scl-ikd")
    return own_runs.train(home, backbone=backbone)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [TINY_DENSENET, *BACKBONES])
def test_onnx_agrees_on_images_of_every_backbone_family(home, images, tmp_path, backbone):
    runtime = pytest.importorskip("onnxruntime")
    run = find_run(home, backbone)
    file = tmp_path / "net.onnx"
    export_run(run, file)
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"], "all in one file"
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("images", ["batch", 3, 32, 32])
    assert (returned.name, returned.shape[0]) == ("logits", "batch")
    for n in (1, len(images)):  # another number than it was traced with
        (logits,) = session.run(None, {"images": images[:n].numpy()})
        np.testing.assert_allclose(logits, compute(run, images[:n]), atol=1e-4)
    told = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert told["classes"] == list(own_runs.COUNTS) and told["run"] == run.key and told["synthetic"] is False
    assert b".py" not in file.read_bytes(), "no path of this machine"
    assert told["preprocessing"]["size"] == 32 and told["preprocessing"]["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.slow
def test_an_exported_program_agrees_and_holds_no_teacher(home, runs, images, tmp_path):
    run = runs["scl-ikd", 0]
    export_run(run, tmp_path / "net.pt2")
    extra = {"classes": "", "preprocessing": ""}
    with warnings.catch_warnings(action="ignore"):  # of some releases, about their own buffers
        program = torch.export.load(tmp_path / "net.pt2", extra_files=extra)
    for n in (1, len(images)):
        assert np.array_equal(program.module()(images[:n]).detach().numpy(), compute(run, images[:n]))
    assert json.loads(extra["classes"]) == list(own_runs.COUNTS)
    assert not any("teacher" in name for name in program.state_dict)
    assert len(program.state_dict) == len(run.store.read_weights(run.key))
    assert not any("stack_trace" in node.meta for node in program.graph.nodes)


def test_tensors_are_those_stored_with_all_that_rebuilds_them(runs, typed, tmp_path):
    run = runs["scratch", 0]
    status, out, _ = typed("export", run.label, "--to", tmp_path / "net.safetensors")
    assert status == 0 and out.startswith(
        f"{tmp_path / 'net.safetensors'}: {run.label}, 3 classes, images of 32²"
    )
    with safe_open(tmp_path / "net.safetensors", "numpy") as file:
        stored = run.store.read_weights(run.key)
        assert set(file.keys()) == set(stored)
        assert all(np.array_equal(file.get_tensor(name), stored[name]) for name in stored)
        assert json.loads(file.metadata()["spec"])["backbone"] == TINY_DENSENET


def test_endings_and_missing_extras_are_refused(runs, typed, tmp_path, monkeypatch):
    status, _, err = typed("export", runs["scratch", 0].key, "--to", tmp_path / "net.tflite")
    assert status == 2 and "give a file that ends in .onnx, .pt2, .safetensors" in err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    status, _, err = typed("export", runs["scratch", 0].key, "--to", tmp_path / "net.onnx")
    assert status == 2 and "ONNX needs onnxscript: `pip install 'udcd-bench[export]'`, or give" in err
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"net\.pt2"):
        check_target(tmp_path / "net.onnx")


def test_a_run_without_weights_is_not_exported(home, runs, typed, tmp_path):
    typed("results", "pack", "--to", tmp_path / "evidence")
    words = ("export", runs["scratch", 0].key, "--to", tmp_path / "net.pt2", "--out", tmp_path / "evidence")
    status, _, err = typed(*words)
    assert status == 2 and "was packed without its weights" in err
