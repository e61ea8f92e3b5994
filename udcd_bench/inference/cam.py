"""Grad-CAM of a run's network: where in an image its last feature map speaks for a class, by the library ``grad-cam``.

Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based localization, ICCV 2017. A map
is brought to [0, 1] in each image, so that maps of two classes do not compare.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from udcd_bench.engines.environment import pick_device
from udcd_bench.engines.execute import RunContext, load_data, name_images
from udcd_bench.engines.naming import NameResolver
from udcd_bench.errors import UserError
from udcd_bench.inference import frames

if TYPE_CHECKING:
    from udcd_bench.data.dataset import Dataset, Images
    from udcd_bench.inference.stored_run import StoredRun
    from udcd_bench.stats.metrics import Floats, Ints

INSTALL = "pip install 'udcd-bench[cam]'"


class ChosenImages(NamedTuple):
    """Images to explain: names, resized pixels (n, size, size, 3), and labels (n,), -1 where there is none."""

    names: list[str]
    pixels: Images
    labels: Ints


class Explained(NamedTuple):
    """Probabilities (n, C), and for each image two classes (n, 2) with their maps (n, 2, size, size) in [0, 1].

    The first class is the predicted one; the second is the true one where that is another, else the runner-up.
    """

    probabilities: Floats
    classes: Ints
    maps: Floats


def check_installed() -> None:
    """Raise UserError when the library is not installed."""
    try:
        is_there = importlib.util.find_spec("pytorch_grad_cam") is not None
    except ValueError:  # of a module that is marked as absent
        is_there = False
    if not is_there:
        raise UserError(f"plot cam needs the library grad-cam: `{INSTALL}`.")


def read_images(run: StoredRun, paths: Sequence[Path]) -> ChosenImages:
    """Read images that a user has. Raises UserError for what cannot be read."""
    pixels = np.stack([run.transform.read_pixels(path) for path in paths])
    return ChosenImages([path.name for path in paths], pixels, np.full(len(paths), -1))


def choose_worst(run: StoredRun, data: Path, n: int) -> ChosenImages:
    """Choose the test images of which the run was most certain that they are of a wrong class, the worst first.

    data: the folder of prepared data. Raises UserError when the images are not there, or no prediction is wrong.
    """
    arrays = run.store.read_scores(run.key)
    p = frames.compute_probabilities(arrays["scores"][-1])
    wrong = np.flatnonzero(p.argmax(1) != arrays["labels"])
    if not len(wrong):
        raise UserError(f"{run.label} predicts every test image as its label says; give images of your own.")
    worst = wrong[np.argsort(-p[wrong].max(1), kind="stable")][:n]
    dataset = _load_dataset(run, data)
    row_of = {name: row for row, name in enumerate(dataset.ids)}
    names = [str(arrays["ids"][i]) for i in worst]
    pixels = np.stack([dataset.images[row_of[name]] for name in names])
    return ChosenImages(names, pixels, arrays["labels"][worst])


def _load_dataset(run: StoredRun, data: Path) -> Dataset:
    """Load the images that a run was made with. Raises UserError when those that are there are others."""
    resolver = NameResolver(data)
    spec = resolver.resolve_spec(run.spec)
    context = RunContext(run.store, data, locations=resolver.locations)
    dataset = load_data(name_images(spec), run.protocol, context)
    known = run.record.get("made_of", {}).get("data", dataset.fingerprint)
    if dataset.fingerprint != known:
        raise UserError(
            f"The images of {dataset.title} in {data} are not those of run {run.key}; give its --data, or images as "
            "files."
        )
    return dataset


def explain(run: StoredRun, images: ChosenImages) -> Explained:
    """Predict images and map where their two classes are seen."""
    p = frames.compute_probabilities(run.compute_logits(images.pixels))
    first, second = np.argsort(-p, axis=1, kind="stable")[:, :2].T
    is_wrong = (images.labels >= 0) & (images.labels != first)
    classes = np.stack([first, np.where(is_wrong, images.labels, second)], axis=1)
    maps = np.stack([compute_maps(run, images.pixels, column) for column in classes.T], axis=1)
    return Explained(p, classes, maps)


def compute_maps(run: StoredRun, pixels: Images, classes: Ints) -> Floats:
    """Compute Grad-CAMs (n, size, size) in [0, 1] of resized images (n, size, size, 3), each for its class (n,)."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    device, parts = pick_device(run.device), []
    with _watch_feature_map(run) as layer, GradCAM(run.network, [layer]) as cam:
        for start in range(0, len(pixels), run.batch_size):
            part = slice(start, start + run.batch_size)
            # the network is frozen: without this nothing has a gradient
            images = run.transform.normalize(pixels[part], device).requires_grad_()
            parts.append(cam(images, [ClassifierOutputTarget(int(c)) for c in classes[part]]))
    return np.concatenate(parts).astype(np.float64)


class FeatureMapLayer(NamedTuple):
    """A module of a backbone whose output is a feature map, and that map's height and width."""

    module: nn.Module
    height: int
    width: int


def find_layer(run: StoredRun) -> FeatureMapLayer:
    """Find the last module of a run's backbone whose output has more than one place.

    At 224² that is the last feature map; a small image may be a single place there, which has no map. Raises
    UserError when all are.
    """
    layers: list[FeatureMapLayer] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            layers.append(FeatureMapLayer(module, *output.shape[2:]))

    backbone, size = run.network.student.backbone, run.transform.size
    handles = [module.register_forward_hook(note) for module in backbone.modules() if module is not backbone]
    try:
        with torch.inference_mode():
            run.network(torch.zeros(1, 3, size, size, device=pick_device(run.device)))
    finally:
        for handle in handles:
            handle.remove()
    if not layers:
        raise UserError(
            f"{run.label} has no feature map of more than one place; it sees no places in an image."
        )
    return layers[-1]


class _Copy(nn.Module):
    """Passes on a feature map as a tensor of its own, in float32; what comes next may change its input in place."""

    def forward(self, feature_map: Tensor) -> Tensor:
        return feature_map.float().clone()


@contextmanager
def _watch_feature_map(run: StoredRun) -> Iterator[nn.Module]:
    """Yield a module through which the feature map of ``find_layer`` passes."""
    copy = _Copy()

    def pass_through(_: nn.Module, __: object, output: Tensor) -> Tensor:
        watched: Tensor = copy(output)
        return watched.to(output.dtype).clone()

    handle = find_layer(run).module.register_forward_hook(pass_through)
    try:
        yield copy
    finally:
        handle.remove()
