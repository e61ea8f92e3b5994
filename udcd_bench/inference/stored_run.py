"""``StoredRun``: a finished run of a results folder, with its network, its preprocessing and its test scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from udcd_bench.engines.environment import pick_device, use_default_settings
from udcd_bench.inference import frames, student, transform
from udcd_bench.runs.spec import RunSpec

if TYPE_CHECKING:
    from udcd_bench.data.dataset import Images
    from udcd_bench.inference.student import StudentNetwork
    from udcd_bench.inference.transform import ImageLike, Transform
    from udcd_bench.runs.profiles import Protocol
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.store import Store
    from udcd_bench.stats.metrics import Floats


@dataclass(frozen=True, eq=False, repr=False)
class StoredRun:
    """A finished run.

    store, key: where it lies. device: ``auto``, ``cpu``, ``cuda`` or one GPU such as ``cuda:1``.
    """

    store: Store
    key: str
    device: str = "auto"

    def __repr__(self) -> str:
        return f"<run {self.key}: {self.label}>"

    @cached_property
    def record(self) -> Record:
        """The run's record, as ``record.json`` stores it; its metrics are fractions."""
        return self.store.read_record(self.key)

    @cached_property
    def spec(self) -> RunSpec:
        """The run's coordinates."""
        return RunSpec.from_dict(self.record["spec"])

    @property
    def label(self) -> str:
        """The run's label, as ``status`` prints it."""
        return self.spec.format_label()

    @property
    def classes(self) -> tuple[str, ...]:
        """The C names of the classes, in the order of the logits."""
        return tuple(self.record["classes"])

    @cached_property
    def protocol(self) -> Protocol:
        """The numbers that the run was trained by."""
        return student.resolve_protocol(self.record)

    @property
    def batch_size(self) -> int:
        """Images that are tested together, as in training."""
        return 2 * self.protocol.batch_size

    @cached_property
    def network(self) -> StudentNetwork:
        """The network that was tested, in evaluation mode and without gradients, on the device.

        It takes images (B, 3, size, size) float32 as ``transform`` makes them and returns logits (B, C).
        Raises UserError when the weights are not in the folder.
        """
        with use_default_settings():
            return student.load_student(self.store, self.key, pick_device(self.device))

    @cached_property
    def transform(self) -> Transform:
        """The preprocessing of test images: an image → (3, size, size) float32."""
        return transform.make_transform(self.record, self.protocol.image_size)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row for each test image: id, group, fold, label, predicted, ``p_CLASS`` for each class, entropy.

        Probabilities are fractions, of the network after the last epoch; entropy is in nats.
        """
        return frames.build_scores_frame(self.record, self.store.read_scores(self.key))

    def compute_logits(self, pixels: Images) -> Floats:
        """Compute logits (n, C) float32 of resized images (n, size, size, 3) uint8, in batches as training tests."""
        device = pick_device(self.device)
        network = self.network.eval()  # loaded here: its tensors may want gradients later
        parts = []
        with use_default_settings(), torch.inference_mode():
            for start in range(0, len(pixels), self.batch_size):
                images = self.transform.normalize(pixels[start : start + self.batch_size], device)
                parts.append(network(images).float().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes)), np.float32)

    def predict(self, images: ImageLike | Sequence[ImageLike]) -> pd.DataFrame:
        """Predict classes: a row for each image with predicted, ``p_CLASS`` for each class, and entropy in nats.

        images: one or several of these: a path, a Pillow image, an array (H, W, 3) uint8. Rows are named by the paths,
        or numbered where images have none. Raises UserError for what cannot be read as an image.
        """
        several = transform.list_images(images)
        size = self.transform.size
        pixels = np.empty((len(several), size, size, 3), np.uint8)
        for row, image in enumerate(several):
            pixels[row] = self.transform.read_pixels(image)
        index = [str(image) if transform.is_path(image) else row for row, image in enumerate(several)]
        probabilities = frames.compute_probabilities(self.compute_logits(pixels))
        columns = frames.build_probability_columns(probabilities, self.classes)
        return columns.set_axis(pd.Index(index, name="image", dtype=object), axis=0)
