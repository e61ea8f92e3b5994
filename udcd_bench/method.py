"""The contract of a method: what it is told, what it is given at each step, and what it returns.

A method file is its equations. It owns no optimiser, no device, no file and no mode switch; the loop does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from udcd_bench import losses
from udcd_bench.runs.profiles import ONE_STAGE, resolve_hparams

if TYPE_CHECKING:
    from udcd_bench.data.batches.resident import Batch
    from udcd_bench.runs.spec import Overrides, Scalar
    from udcd_bench.training.network import Features, Network

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class DatasetInfo:
    """All a method may know of the data.

    labels: (n_train,) int64 on the device, of the training images in the order ``Batch.index`` counts them.
    class_weights: (C,) float32 on the device, N / n_c. student_width, teacher_width: F of ``pooled``.
    """

    n_train: int
    classes: int
    labels: Tensor
    class_weights: Tensor
    student_width: int
    teacher_width: int
    embedding_width: int
    ce_normalise: str = "weights"

    @classmethod
    def from_labels(
        cls, labels: Tensor, classes: int, student: Network, teacher: Network | None, **other: Any
    ) -> DatasetInfo:
        """What follows from the training labels (n_train,) and the networks; other: further fields by name."""
        return cls(
            n_train=len(labels),
            classes=classes,
            labels=labels,
            class_weights=len(labels) / torch.bincount(labels, minlength=classes).float(),
            student_width=student.width,
            teacher_width=(teacher or student).width,
            embedding_width=student.neck.out_features,
            **other,
        )


@dataclass(frozen=True)
class Progress:
    """Where training stands: epoch of the stage (from 0), its number of epochs, and the schedule of teacher terms."""

    epoch: int
    epochs: int
    start_epoch: int
    ramp_epochs: int

    @property
    def teacher_active(self) -> bool:
        """Whether the teacher's terms have begun."""
        return self.epoch >= self.start_epoch

    @property
    def ramp(self) -> float:
        """exp(−5 (1 − min(e, E)/E)²), the weight of a consistency term (R, O:CRCKD)."""
        if self.ramp_epochs == 0:
            return 1.0
        return math.exp(-5 * (1 - min(self.epoch, self.ramp_epochs) / self.ramp_epochs) ** 2)


@dataclass(frozen=True)
class Stage:
    """A part of training with losses, trained modules and epochs of its own.

    name: a key of ``Method.stage_shares``, where its share of the protocol's epochs stands.
    losses: like ``Method.losses``. trains: the modules whose parameters are optimised and that are in training
    mode; all others rest. views: draws per image in ``Batch.views``. averages: like ``Method.averages``.
    The last stage is the one whose last epochs are tested. Each has an optimiser and a schedule of its own, counts
    its epochs from 0, and is given the batches that a method of one stage would be given.
    """

    name: str
    compute_losses: Callable[[Batch, Progress], Terms]
    trained_modules: Sequence[nn.Module]
    views: int = 1
    ema_pairs: Sequence[tuple[nn.Module, nn.Module]] = field(default_factory=tuple)


def make_mlp_head(width: int) -> nn.Sequential:
    """Make a head F → F → F with a ReLU between, F = ``width``."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class BaseMethod(nn.Module):
    """Base of every row.

    Class attributes
    ----------------
    title: as the paper's tables print it. citation: one line.
    teacher: ``None``; ``"ema"``, the running average of the student; ``"trained"``, the Scratch run of the same
        fold and seed, made first and shared; or ``"own"``, a fresh network that a stage of the method trains.
    views: independent draws of each image a step, 1 or 2.
    stage_shares: stage → its share of the protocol's epochs, a literal, in the order of ``stages``.
    hparams: name → default, a literal. Override with ``--set``; ``self.hp.name`` reads it.
    protocol: numbers of the training protocol that are this method's own, a literal; ``--set`` overrides them.
    choices: name → allowed values, for hyper-parameters that are words.

    Heads and memories made in ``setup`` are attributes; every parameter of theirs that requires a gradient is trained.
    """

    title: ClassVar[str]
    citation: ClassVar[str]
    teacher: ClassVar[Literal["ema", "trained", "own"] | None] = None
    views: ClassVar[int] = 1
    stage_shares: ClassVar[Mapping[str, float]] = ONE_STAGE
    hparams: ClassVar[Mapping[str, Scalar]] = {}
    protocol: ClassVar[Mapping[str, Scalar]] = {}
    choices: ClassVar[Mapping[str, Sequence[Scalar]]] = {}

    def __init__(
        self,
        info: DatasetInfo,
        student: Network,
        teacher: Network | None = None,
        hparams: Overrides = (),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.info = info
        self.student = student
        self.teacher_network = teacher
        self.hp: Any = SimpleNamespace(**resolve_hparams(self.title, self.hparams, self.choices, hparams))
        self.generator = generator or torch.Generator(device=info.labels.device)
        if teacher is not None and self.teacher != "own":
            teacher.requires_grad_(False)
        self.setup()

    def setup(self) -> None:
        """Make heads and memories."""

    def compute_losses(self, batch: Batch, progress: Progress) -> Terms:
        """Named, weighted scalars whose sum is minimised."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called after the optimiser's step, without gradient: the place to update a memory."""

    def list_ema_pairs(self) -> Sequence[tuple[nn.Module, nn.Module]]:
        """(source, running average) of every module the loop averages after a step."""
        if self.teacher == "ema" and self.teacher_network is not None:
            return [(self.student, self.teacher_network)]
        return []

    def stages(self) -> Sequence[Stage]:
        """One stage that trains everything but the teacher, unless a method says otherwise."""
        averaged = [average for _, average in self.list_ema_pairs()]
        trains = [m for m in self.children() if m is not self.teacher_network and m not in averaged]
        return [
            Stage("train", self.compute_losses, trains, views=self.views, ema_pairs=self.list_ema_pairs())
        ]

    def predict(self, images: Tensor) -> Features:
        """What is tested and stored: the student's features, for images (B, 3, H, W)."""
        features: Features = self.student(images)
        return features

    def get_inference_state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers that ``predict`` uses, stored with the run: the student's, under their own names."""
        state: dict[str, Tensor] = self.student.state_dict()
        return state

    def run_teacher(self, images: Tensor) -> Features:
        """The teacher's features of images (B, 3, H, W), without gradient."""
        assert self.teacher_network is not None
        with torch.no_grad():
            features: Features = self.teacher_network(images)
        return features

    def cross_entropy(self, logits: Tensor, labels: Tensor, factor: Tensor | None = None) -> Tensor:
        """The class-weighted cross-entropy every row is supervised by: logits (B, C), labels (B,).

        factor: (B,) multiplies each image's term; the weights alone normalise.
        """
        weights, normalise = self.info.class_weights, self.info.ce_normalise
        if factor is None:
            return losses.weighted_cross_entropy(logits, labels, weights, normalise=normalise)
        rows = factor * losses.weighted_cross_entropy(logits, labels, weights, reduction="none")
        return rows.sum() / weights[labels].sum() if normalise == "weights" else rows.mean()
