"""``plot cam``: maps are Grad-CAM's, of the classes that are named, and no patient's image lands among results."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from support import own_runs
from udcd_bench.errors import UserError
from udcd_bench.inference import cam
from udcd_bench.render import plots

cv2 = pytest.importorskip("cv2", reason="comes with grad-cam: pip install 'udcd-bench[cam]'")


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(plots, "DPI", 40)


def compute_reference(run, pixels, label):
    """Grad-CAM as its paper has it: the channels' mean gradients weigh the map; negative sums are nothing."""
    maps = []
    layer = cam.find_layer(run).module

    def watch(module, given, output):
        kept = output.detach().clone().requires_grad_()
        maps.append(kept)
        return kept.clone()

    handle = layer.register_forward_hook(watch)
    logits = run.network(run.transform.normalize(pixels, torch.device("cpu")))
    handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, label].sum(), maps[0])
    return (gradient.mean((2, 3), keepdim=True) * maps[0]).sum(1).relu().detach().numpy()


@pytest.mark.parametrize("which", [("scratch", 0), ("scl-ikd", 0)])
def test_maps_are_those_of_the_paper(home, runs, which):
    run = runs[which]
    pixels = np.stack([run.transform.read_pixels(path) for path in sorted(home.glob("skin/*/*.png"))[::9]])
    before = run.compute_logits(pixels)
    layer = cam.find_layer(run)
    assert layer.height * layer.width > 1
    for label in range(3):
        maps = cam.compute_maps(run, pixels, np.full(len(pixels), label))
        reference = compute_reference(run, pixels, label)
        assert maps.shape == (len(pixels), 32, 32) and maps.min() >= 0 and maps.max() <= 1
        for ours, theirs in zip(maps, reference):
            scaled = (theirs - theirs.min()) / (np.ptp(theirs) or 1)
            np.testing.assert_allclose(ours, cv2.resize(scaled, (32, 32)), atol=1e-4)
    assert np.array_equal(run.compute_logits(pixels), before), "the network is as it was"


def test_the_worst_confused_are_the_most_certain_mistakes(home, runs):
    run = runs["scratch", 0]
    scores = run.scores
    wrong = scores[scores["predicted"] != scores["label"]]
    certainty = wrong.filter(like="p_").max(axis=1).sort_values(ascending=False, kind="stable")
    images = cam.choose_worst(run, home / "data", 3)
    assert images.names == scores.loc[certainty.index[:3], "id"].tolist()
    for name, pixels in zip(images.names, images.pixels):
        assert np.array_equal(pixels, run.transform.read_pixels(home / "skin" / name))
    explained = cam.explain(run, images)
    assert [run.classes[c] for c in explained.classes[:, 0]] == scores.loc[
        certainty.index[:3], "predicted"
    ].tolist()
    assert (explained.classes[:, 1] == images.labels).all()
    np.testing.assert_allclose(explained.probabilities.max(1), certainty[:3])


def test_images_of_ones_own_have_a_runner_up(home, runs):
    run = runs["scratch", 0]
    images = cam.read_images(run, sorted(home.glob("skin/mole/*.png"))[:2])
    explained = cam.explain(run, images)
    order = np.argsort(-explained.probabilities, axis=1)
    assert (explained.classes == order[:, :2]).all() and (images.labels == -1).all()


def test_other_images_than_the_runs_are_refused(home, runs, tmp_path):
    own_runs.draw(tmp_path / "skin")
    run = runs["scratch", 0]
    (tmp_path / "skin" / "wart" / "wart-0.png").unlink()
    with pytest.raises(UserError, match="skin"):
        cam.choose_worst(run, tmp_path / "data", 3)


def test_the_command_draws_where_it_is_told_to(home, runs, typed, tmp_path, monkeypatch):
    key = runs["scratch", 0].key
    status, out, _ = typed("plot", "cam", key, "--worst", "3", "--to", tmp_path / "worst.png")
    assert status == 0 and out == f"{tmp_path / 'worst.png'}\n"
    with Image.open(tmp_path / "worst.png") as png:
        told = png.info["Description"]
    assert "most confident wrong predictions" in told and f"Run {key}" in told
    image = sorted(home.glob("skin/mole/*.png"))[0]
    status, _, err = typed("plot", "cam", key, image, "--to", tmp_path / "one.pdf")
    assert status == 0 and (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF") and "replaced" not in err
    status, _, err = typed("plot", "cam", key, image, "--to", tmp_path / "worst.png")
    assert status == 0 and f"{tmp_path / 'worst.png'} is replaced" in err
    for to, says in (
        (tmp_path / "a.jpg", "ends in .png or .pdf"),
        ("results/demo/a.png", "images of patients may not"),
    ):
        status, _, err = typed("plot", "cam", key, image, "--to", to)
        assert status == 2 and says in err
    typed("results", "pack", "--to", tmp_path / "evidence")
    status, _, err = typed(
        "plot", "cam", key, image, "--out", tmp_path / "evidence", "--to", tmp_path / "b.png"
    )
    assert status == 2 and "was packed without its weights" in err
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    status, _, err = typed("plot", "cam", key, image)
    assert status == 2 and "plot cam needs the library grad-cam: `pip install 'udcd-bench[cam]'`" in err
    assert (
        "RUN [PATHS]..." in typed("plot", "cam", "--help")[1]
        and "plot cam --help" in typed("plot", "--help")[1]
    )
