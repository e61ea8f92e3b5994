"""Scores of a run's images after its epochs: of test images at the last ones, of validation images at every one.

The epoch that is best on the validation images is tested too, when it happens, so that its test scores are there
without a second training. Nothing here reads a test label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from udcd_bench.stats import metrics
from udcd_bench.stats.rules import CHOSEN_BY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from udcd_bench.data.batches.resident import DeviceDataset
    from udcd_bench.data.dataset import Ints
    from udcd_bench.method import BaseMethod

    Float32s = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, eq=False)
class Validation:
    """The images that validate, on the device, and their labels (n_val,). ordered: whether classes are grades."""

    data: DeviceDataset
    labels: Ints
    ordered: bool = False


@dataclass(frozen=True, eq=False)
class ValidationScores:
    """Logits of a validated run: of the validation images, and of all images at the epoch that is best on these.

    scores: (E, n_val, C) of the reported epochs. epoch: the best of the last stage, the first of equals, from 0.
    chosen: (n_val, C) after it. tested: (n_test, C) after it.
    """

    scores: Float32s
    epoch: int
    chosen: Float32s
    tested: Float32s


class Scorer:
    """Scores the images of a run after the epochs of its last stage, and keeps what is stored of them.

    validation: None where no image validates. on_step: called after every batch.
    """

    def __init__(
        self,
        method: BaseMethod,
        test_data: DeviceDataset,
        validation: Validation | None,
        batch_size: int,
        on_step: Callable[[], None],
    ) -> None:
        self.method, self.test_data, self.validation = method, test_data, validation
        self.batch_size, self.on_step = batch_size, on_step
        self.tested: dict[int, Float32s] = {}
        self.validated: dict[int, Float32s] = {}
        self.reported: list[int] = []
        self.embeddings: Float32s | None = None
        self.best: tuple[float, int] | None = None

    def score_epoch(self, epoch: int, *, is_reported: bool) -> dict[str, float]:
        """Score the images that are due after an epoch; return the metrics of those that validate, by column."""
        if is_reported:
            self.reported.append(epoch)
            self.tested[epoch], self.embeddings = self.evaluate(self.test_data)
        if self.validation is None:
            return {}
        scores, _ = self.evaluate(self.validation.data)
        values = metrics.compute_metrics(scores, self.validation.labels, ordered=self.validation.ordered)
        if self.best is None or values[CHOSEN_BY] > self.best[0]:
            self.best = values[CHOSEN_BY], epoch
            if epoch not in self.tested:
                self.tested[epoch], _ = self.evaluate(self.test_data)
        self.validated[epoch] = scores
        needed = {*self.reported, self.best[1]}
        self.tested = {each: self.tested[each] for each in self.tested if each in needed}
        self.validated = {each: self.validated[each] for each in self.validated if each in needed}
        return {f"validation_{name}": value for name, value in values.items()}

    def evaluate(self, data: DeviceDataset) -> tuple[Float32s, Float32s]:
        """Compute logits (n, C) and embeddings (n, D) of images, which are not augmented."""
        self.method.eval()
        logits, embeddings = [], []
        with torch.inference_mode():
            for images in data.iterate_images(self.batch_size):
                features = self.method.predict(images)
                logits.append(features.logits)
                embeddings.append(features.embedding)
                self.on_step()
        return torch.cat(logits).float().cpu().numpy(), torch.cat(embeddings).float().cpu().numpy()

    def collect_validation(self) -> ValidationScores | None:
        """Collect what is stored of the validation images; None where none validates."""
        if self.best is None:
            return None
        epoch = self.best[1]
        scores = np.stack([self.validated[each] for each in self.reported])
        return ValidationScores(scores, epoch, self.validated[epoch], self.tested[epoch])

    # --- interruption and resumption ------------------------------------------------------------------------

    def dump(self) -> tuple[dict[str, Float32s], dict[str, Any]]:
        """Return what a checkpoint holds of the scores: arrays by name, and JSON values."""
        arrays = {f"tested.{epoch}": scores for epoch, scores in self.tested.items()}
        arrays |= {f"validated.{epoch}": scores for epoch, scores in self.validated.items()}
        return arrays, {"reported": self.reported, "best": self.best}

    def restore(self, groups: Mapping[str, Mapping[str, Tensor]], meta: Mapping[str, Any]) -> None:
        """Put what ``dump`` returned back. groups: arrays by the word before the dot. Older ones lack some of it."""
        self.tested = {int(k): v.numpy() for k, v in groups.get("tested", {}).items()}
        self.validated = {int(k): v.numpy() for k, v in groups.get("validated", {}).items()}
        self.reported = list(meta.get("reported", sorted(self.tested)))
        self.best = tuple(best) if (best := meta.get("best")) else None
