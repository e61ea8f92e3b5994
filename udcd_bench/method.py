"""The contract of a method: the base class, the data it may read, its stages, and its progress through training.

A method file holds equations. The optimiser, the device, the files and the train/eval switch belong to the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from udcd_bench import losses
from udcd_bench.data.batches.mixup import MixedLabels
from udcd_bench.errors import UserError
from udcd_bench.plugins.contract import FAMILIES
from udcd_bench.plugins.ranges import Between, between
from udcd_bench.runs.profiles import ONE_STAGE, resolve_hparams

if TYPE_CHECKING:
    from udcd_bench.data.batches.resident import Batch
    from udcd_bench.runs.spec import Overrides, Scalar
    from udcd_bench.training.network import Features, Network

__all__ = ["FAMILIES", "BaseMethod", "DatasetInfo", "Progress", "Stage", "Terms", "between", "make_mlp_head"]

Terms = dict[str, Tensor]
"""Name → weighted scalar; the loop minimises the sum."""


@dataclass(frozen=True)
class DatasetInfo:
    """The properties of data and networks that a method may use.

    n_train: number of training images. classes: C.
    labels: (n_train,) int64 on the device, in the order that ``Batch.index`` counts.
    class_weights: (C,) float32 on the device, n_train / n_c for a class of n_c images.
    student_width, teacher_width: F of ``Features.pooled``; a method without a teacher has the student's in both, and of
    several teachers it is one's.
    embedding_width: of ``Features.embedding``. ce_normalise: ``Protocol.ce_normalise``, for the cross-entropy.
    student_levels, teacher_levels: channels of each of ``Features.levels``, the deepest last; empty unless the method
    has ``levels = True``, and a method without a teacher has the student's in both.
    """

    n_train: int
    classes: int
    labels: Tensor
    class_weights: Tensor
    student_width: int
    teacher_width: int
    embedding_width: int
    ce_normalise: str = "weights"
    student_levels: tuple[int, ...] = ()
    teacher_levels: tuple[int, ...] = ()

    def count_images(self) -> Tensor:
        """Count the training images of each class, (C,) int64; once, in ``setup``, as a GPU waits for it."""
        return torch.bincount(self.labels, minlength=self.classes)

    @classmethod
    def from_labels(
        cls, labels: Tensor, classes: int, student: Network, teacher: Network | None, **other: Any
    ) -> DatasetInfo:
        """Derive the fields from the training labels (n_train,) and the networks. other: further fields by name."""
        return cls(
            n_train=len(labels),
            classes=classes,
            labels=labels,
            class_weights=len(labels) / torch.bincount(labels, minlength=classes).float(),
            student_width=student.width,
            teacher_width=(teacher or student).width,
            embedding_width=student.neck.out_features,
            student_levels=student.level_widths,
            teacher_levels=(teacher or student).level_widths,
            **other,
        )


@dataclass(frozen=True)
class Progress:
    """How far a stage is, and the schedule of the teacher's terms in it.

    epoch: counted from 0. epochs: of the stage. start_epoch: the first epoch with the teacher's terms.
    ramp_epochs: E of ``ramp``.
    """

    epoch: int
    epochs: int
    start_epoch: int
    ramp_epochs: int

    @property
    def teacher_active(self) -> bool:
        """True from the start epoch on: the teacher's terms count."""
        return self.epoch >= self.start_epoch

    @property
    def ramp(self) -> float:
        """exp(−5 (1 − min(e, E)/E)²), in (0, 1], the weight of a consistency term (R, O:CRCKD)."""
        if self.ramp_epochs == 0:
            return 1.0
        return math.exp(-5 * (1 - min(self.epoch, self.ramp_epochs) / self.ramp_epochs) ** 2)


@dataclass(frozen=True)
class ParameterGroup:
    """Modules that a stage trains at a rate or with a weight decay of their own.

    rate_factor: their learning rate over the protocol's, throughout the schedule. decay_factor: the same of the weight
    decay; 0 for none.
    """

    modules: Sequence[nn.Module]
    rate_factor: float = 1.0
    decay_factor: float = 1.0


@dataclass(frozen=True)
class Stage:
    """A part of training with losses, trained modules and epochs of its own.

    name: a key of ``BaseMethod.stage_shares``, which holds its share of the protocol's epochs.
    compute_losses: as ``BaseMethod.compute_losses``.
    trained_modules: optimised and in training mode; all others are in evaluation mode, without gradients.
    views: augmented views of each image in ``Batch.views``. ema_pairs: as ``BaseMethod.list_ema_pairs`` returns.
    parameter_groups: of what it trains, that with rates of its own; all else has the protocol's.

    Each stage has its own optimiser and schedule, counts its epochs from 0, and gets the same batches as the only
    stage of another method. The last epochs of the last stage are tested.
    """

    name: str
    compute_losses: Callable[[Batch, Progress], Terms]
    trained_modules: Sequence[nn.Module]
    views: int = 1
    ema_pairs: Sequence[tuple[nn.Module, nn.Module]] = field(default_factory=tuple)
    parameter_groups: Sequence[ParameterGroup] = field(default_factory=tuple)


def make_mlp_head(width: int) -> nn.Sequential:
    """Make a head of two linear layers, F → F → F with a ReLU between, F = ``width``."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class BaseMethod(nn.Module):
    """Base class of the one class ``Method`` in every method file.

    Class attributes, all literals:

    title: as the paper's tables print it. citation: one line. family: what kind of method, of ``FAMILIES`` or empty.
    teacher: None; "ema", the running average of the student; "trained", the student of the Scratch run of the same
    fold and seed, which is trained first and shared, or "trained:ROW" of another row's run; a list of several of these,
    whose mean logits, and nothing else, can be read; ``--teacher`` overrides all three; or "own", a new network that a
    stage of the method trains.
    views: independently augmented views of each image a step, 1 or 2.
    levels: True for the maps of every depth in ``Features.levels``, of student and teacher. Their backbones may differ
    in the number of levels, at least four, and in channels, and a level in its size; both end with the deepest, so
    pairs are counted from the end (``levels[-2]``), each level is smaller than the one before it, and
    ``losses.average_to_smaller`` brings a pair to one size.
    stage_shares: stage → its share of the protocol's epochs, in the order of ``stages``.
    hparams: name → default. ``--set name=value`` overrides it, ``self.hp.name`` reads it.
    protocol: the method's own values of the training protocol; ``--set`` overrides them.
    choices: name → allowed values; a hyper-parameter that is a word has them.
    search: name → what ``udcd-bench search`` tries, ``between(1, 10, log=True)`` or a list of values.

    Heads and memories are attributes that ``setup`` makes. Every parameter that requires a gradient is trained.
    ``compute_losses`` draws random numbers from ``self.generator`` only.
    """

    title: ClassVar[str]
    citation: ClassVar[str]
    family: ClassVar[str] = ""
    teacher: ClassVar[str | Sequence[str] | None] = None
    views: ClassVar[int] = 1
    levels: ClassVar[bool] = False
    stage_shares: ClassVar[Mapping[str, float]] = ONE_STAGE
    hparams: ClassVar[Mapping[str, Scalar]] = {}
    protocol: ClassVar[Mapping[str, Scalar]] = {}
    choices: ClassVar[Mapping[str, Sequence[Scalar]]] = {}
    search: ClassVar[Mapping[str, Between | Sequence[Scalar]]] = {}

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
        """Make heads and memories; called once, when the networks are in place."""

    def compute_losses(self, batch: Batch, progress: Progress) -> Terms:
        """Compute the named, weighted scalars whose sum is minimised.

        A contrast memory is updated here too, by ``memory.update``.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Do what must follow the optimiser's step, without gradient; nothing unless a method overrides it."""

    def list_ema_pairs(self) -> Sequence[tuple[nn.Module, nn.Module]]:
        """List (source, its running average) of every module that the loop averages after a step."""
        if self.teacher == "ema" and self.teacher_network is not None:
            return [(self.student, self.teacher_network)]
        return []

    def list_parameter_groups(self) -> Sequence[ParameterGroup]:
        """List the modules with a learning rate or a weight decay of their own; none unless a method overrides it."""
        return ()

    def stages(self) -> Sequence[Stage]:
        """List the stages in order: here one, which trains everything but the teacher and the averages."""
        pairs = self.list_ema_pairs()
        resting = [self.teacher_network, *(average for _, average in pairs)]
        trained = [m for m in self.children() if not any(m is other for other in resting)]
        groups = self.list_parameter_groups()
        return [Stage("train", self.compute_losses, trained, self.views, pairs, groups)]

    def predict(self, images: Tensor) -> Features:
        """Compute the features that are tested and stored, of images (B, 3, H, W): the student's."""
        features: Features = self.student(images)
        return features

    def get_inference_state_dict(self) -> dict[str, Tensor]:
        """Return the parameters and buffers that ``predict`` uses, which are stored: the student's, by their names."""
        state: dict[str, Tensor] = self.student.state_dict()
        return state

    def run_teacher(self, images: Tensor) -> Features:
        """Compute the teacher's features of images (B, 3, H, W), without gradient."""
        if self.teacher_network is None:
            raise UserError(
                f"{self.title}: run_teacher has no teacher to run; declare one, as teacher = 'trained'."
            )
        with torch.no_grad():
            features: Features = self.teacher_network(images)
        return features

    def cross_entropy(self, logits: Tensor, labels: Tensor, factor: Tensor | None = None) -> Tensor:
        """Compute the class-weighted cross-entropy that supervises every row, a scalar; logits (B, C), labels (B,).

        factor: (B,), multiplies each image's term; the normalisation ignores it.
        Of mixed images, whose labels are two, it is the mean of both labels' by their shares.
        """
        if isinstance(labels, MixedLabels):
            return labels.average(lambda single: self.cross_entropy(logits, single, factor))
        weights, normalise = self.info.class_weights, self.info.ce_normalise
        if factor is None:
            return losses.weighted_cross_entropy(logits, labels, weights, normalise=normalise)
        rows = factor * losses.weighted_cross_entropy(logits, labels, weights, reduction="none")
        return rows.sum() / weights[labels].sum() if normalise == "weights" else rows.mean()

    def average_rows(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Average a value of each image, (B,), weighted and normalised as ``cross_entropy`` is; labels: (B,)."""
        if isinstance(labels, MixedLabels):
            return labels.average(lambda single: self.average_rows(rows, single))
        weights = self.info.class_weights[labels]
        total = (weights * rows).sum()
        return total / (weights.sum() if self.info.ce_normalise == "weights" else len(rows))
