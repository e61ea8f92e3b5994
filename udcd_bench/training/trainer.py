"""The training loop: stages, epochs, steps, and the test passes of the last epochs.

It holds the only optimiser, the only train/eval switch and the only backward pass. Nothing is read back from the device
inside an epoch: loss terms are stacked there and read once, at its end. Read from ``Trainer.run`` downwards.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from udcd_bench.method import Progress
from udcd_bench.training import checkpoint
from udcd_bench.training.scoring import Scorer
from udcd_bench.training.step import global_generators, gradients
from udcd_bench.training.step.ema import EMA, compute_ema_decay
from udcd_bench.training.step.optimiser import make_optimiser_of_stage
from udcd_bench.training.step.terms import check_names, check_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from udcd_bench.data.batches.resident import Batch, DeviceDataset
    from udcd_bench.method import BaseMethod, Stage
    from udcd_bench.runs.profiles import Protocol
    from udcd_bench.training.scoring import Validation, ValidationScores

    Float32s = np.ndarray[Any, np.dtype[np.float32]]


CHECKPOINT_SHARE = 0.01
"""Most of a run's time that checkpoints take, however slow the disk: after a save of 1 s the next is due in 100 s."""


class NotFiniteError(Exception):
    """A loss became NaN or infinite; the message names the term, the epoch and the step."""


@dataclass
class TrainingResult:
    """What training returns.

    history: one row an epoch, of all stages.
    epochs: the E tested epochs, counted within the last stage, whose name is ``stage``.
    scores: (E, n_test, C) logits after each of them. embeddings: (n_test, D) after the last one.
    seconds: duration of training and testing, interrupted starts of the same run included.
    validation: what was scored of the validation images, where there are any.
    """

    history: list[dict[str, Any]]
    epochs: list[int]
    scores: Float32s
    embeddings: Float32s
    seconds: float
    stage: str
    validation: ValidationScores | None = None


class Trainer:
    """Trains a method's stages one after the other and tests the last epochs of the last stage.

    on_epoch_end: called after every epoch with its history row.
    on_step: called after every batch, those of test images included.
    validation: images that every epoch of the last stage is scored on; training does not depend on them.
    checkpoints: where the state is saved after an epoch, as often as ``CHECKPOINT_SHARE`` allows, and where ``run``
    looks for it first.
    To take single steps, as the benchmark does: ``start_stage``, then ``run_training_step``.
    """

    def __init__(
        self,
        method: BaseMethod,
        protocol: Protocol,
        train_data: DeviceDataset,
        test_data: DeviceDataset,
        *,
        validation: Validation | None = None,
        checkpoints: checkpoint.Checkpoints | None = None,
        on_epoch_end: Callable[[dict[str, Any]], None] = lambda row: None,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.method = method
        self.protocol = protocol
        self.train_data = train_data
        self.checkpoints = checkpoints
        self.on_epoch_end = on_epoch_end
        self.on_step = on_step
        self.history: list[dict[str, Any]] = []
        self.scorer = Scorer(method, test_data, validation, 2 * protocol.batch_size, on_step)
        self.seconds = 0.0
        self.next_save = 0.0
        self.gradient_norms: dict[str, Tensor] = {}
        self.trainable_ids = {id(p) for p in method.parameters() if p.requires_grad}
        self.initial_data_state: dict[str, Tensor] = {}

    def run(self) -> TrainingResult:
        """Train to the end, from a checkpoint if there is one.

        Raises NotFiniteError when a loss is NaN or infinite; the last checkpoint is from before that epoch.
        """
        stages = list(self.method.stages())
        if (names := [stage.name for stage in stages]) != list(self.method.stage_shares):
            raise ValueError(
                f"{self.method.title}: stages() are {names}, stage_shares {self.method.stage_shares}."
            )
        if len(stages) > 1:
            self.initial_data_state = self.train_data.get_state()
        first_stage, first_epoch = self._resume(stages)
        for index, stage in enumerate(stages[first_stage:], first_stage):
            self._run_stage(index, stage, first_epoch, is_last=stage is stages[-1])
            first_epoch = 0
        scorer, name = self.scorer, stages[-1].name
        assert scorer.embeddings is not None
        scores = np.stack([scorer.tested[epoch] for epoch in scorer.reported])
        result = TrainingResult(self.history, scorer.reported, scores, scorer.embeddings, self.seconds, name)
        result.validation = scorer.collect_validation()
        return result

    def _run_stage(self, index: int, stage: Stage, first_epoch: int, *, is_last: bool) -> None:
        """Train a stage from ``first_epoch`` on. is_last: test its last epochs, and end without a checkpoint."""
        epochs = self.count_epochs(stage)
        if first_epoch == 0:
            self.start_stage(stage)
        for epoch in range(first_epoch, epochs):
            began = time.perf_counter()
            frozen_bn = self.protocol.freeze_bn_after_first_eval and epoch > 0
            self.set_modes(stage, frozen_bn=frozen_bn)
            rate = self.optimiser.param_groups[0]["lr"]
            terms, n_images = self.run_epoch(stage, epoch)
            seconds = time.perf_counter() - began
            is_reported = epoch >= epochs - self.protocol.report_epochs
            validated = self.scorer.score_epoch(epoch, is_reported=is_reported) if is_last else {}
            self.seconds += time.perf_counter() - began
            row = {"stage": stage.name, "epoch": epoch, "learning_rate": rate, "seconds": seconds}
            row |= {"images_per_s": n_images / seconds, "loss": sum(terms.values())}
            row |= {f"loss_{name}": value for name, value in terms.items()}
            row |= {f"gradient_{name}": float(norm) for name, norm in self.gradient_norms.items()} | validated
            self.history.append(row)
            if time.perf_counter() >= self.next_save and not (is_last and epoch + 1 == epochs):
                began = time.perf_counter()
                self._save_checkpoint(index, epoch + 1)
                ended = time.perf_counter()
                self.next_save = ended + (ended - began) / CHECKPOINT_SHARE
            self.on_epoch_end(row)

    def count_epochs(self, stage: Stage) -> int:
        """Count the epochs a stage takes."""
        return self.protocol.compute_stage_epochs(self.method.stage_shares[stage.name])

    def start_stage(self, stage: Stage) -> None:
        """Prepare the first step of a stage: modes, data order, optimiser, schedule, running averages."""
        self.set_modes(stage)
        if self.initial_data_state:
            # so that students of all methods see the same batches, whatever stages came before
            self.train_data.restore(self.initial_data_state)
        total = self.count_epochs(stage) * self.train_data.count_steps(self.protocol.batch_size)
        self.optimiser, self.schedule = make_optimiser_of_stage(stage, self.protocol, total)
        self.ema = EMA(stage.ema_pairs)
        self.step = 0

    def set_modes(self, stage: Stage, *, frozen_bn: bool = False) -> None:
        """Put what a stage trains into training mode and all else into evaluation mode without gradients.

        frozen_bn: leave the student in evaluation mode, whose parameters are trained all the same.
        """
        self.method.eval()
        self.method.requires_grad_(False)
        for module in stage.trained_modules:
            module.train(not (frozen_bn and module is self.method.student))
            for parameter in module.parameters():
                parameter.requires_grad_(id(parameter) in self.trainable_ids)
        for _, average in stage.ema_pairs:
            # the teacher's BatchNorm statistics are its own, so its passes are training passes (R, O:CRCKD)
            average.train()

    def make_progress(self, stage: Stage, epoch: int) -> Progress:
        """Describe an epoch of a stage for the method.

        A stage with another number of epochs than the protocol has start and ramp at the same shares of its own.
        """
        p, epochs = self.protocol, self.count_epochs(stage)
        start, ramp = (round(e * epochs / p.epochs) for e in (p.start_epoch, p.ramp_epochs))
        return Progress(epoch, epochs, start, ramp)

    def run_epoch(self, stage: Stage, epoch: int) -> tuple[dict[str, float], int]:
        """Train one epoch of the stage that has been started; return the mean of each term, and the images seen."""
        global_generators.seed_global_generators(self.train_data.order_rng.initial_seed(), self.step)
        progress = self.make_progress(stage, epoch)
        values: list[Tensor] = []
        names: list[str] = []
        n_images = 0
        for batch in self.train_data.iterate_batches(self.protocol.batch_size, stage.views):
            run_step = self.run_training_step if values else self._run_watched_step
            step_names, step_values = run_step(stage, batch, progress)
            names = check_names(names or step_names, step_names, stage)
            values.append(step_values)
            n_images += len(batch.index)
            self.on_step()
        return average_terms(torch.stack(values), names, epoch, stage.name), n_images

    def run_training_step(self, stage: Stage, batch: Batch, progress: Progress) -> tuple[list[str], Tensor]:
        """Take one step of the stage that has been started; return its terms' names and, on the device, values."""
        terms = stage.compute_losses(batch, progress)
        return list(terms), self._take_step(terms)

    def _run_watched_step(self, stage: Stage, batch: Batch, progress: Progress) -> tuple[list[str], Tensor]:
        """Take one step as ``run_training_step`` does, and note the size of each term's gradient."""
        with gradients.watch_feature_maps(self.method.student) as feature_maps:
            terms = stage.compute_losses(batch, progress)
        check_terms(terms, stage)
        self.gradient_norms = gradients.compute_gradient_norms(terms, feature_maps)
        return list(terms), self._take_step(terms)

    def _take_step(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Go down the terms' sum; return their values."""
        values = torch.stack(list(terms.values()))
        values.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.method.after_step()
        self.ema.update(compute_ema_decay(self.step, self.protocol.ema))
        self.step += 1
        return values.detach()

    # --- interruption and resumption ------------------------------------------------------------------------

    def _save_checkpoint(self, stage_index: int, next_epoch: int) -> None:
        if self.checkpoints is None:
            return
        moments, optimiser_meta = checkpoint.dump_optimiser(self.optimiser, self.schedule)
        groups = {
            "method": self.method.state_dict(),
            "optimiser": moments,
            "data": self.train_data.get_state(),
            "random": checkpoint.dump_random_states(self.method.generator, self.train_data.device),
        }
        arrays = {
            f"{prefix}.{name}": value.detach().cpu().numpy()
            for prefix, group in groups.items()
            for name, value in group.items()
        }
        scores, scored = self.scorer.dump()
        meta = scored | {
            "stage": stage_index,
            "epoch": next_epoch,
            "step": self.step,
            "seconds": self.seconds,
        }
        self.checkpoints.save(arrays | scores, meta | optimiser_meta | {"history": self.history})

    def _resume(self, stages: list[Stage]) -> tuple[int, int]:
        """Restore the last checkpoint; return the stage and the epoch to go on with, (0, 0) without one."""
        saved = self.checkpoints.load() if self.checkpoints else None
        if saved is None:
            return 0, 0
        arrays, meta = saved
        groups = checkpoint.split_by_prefix(arrays)
        stage_index, next_epoch = meta["stage"], meta["epoch"]
        self.start_stage(stages[stage_index])
        self.method.load_state_dict(groups["method"])
        checkpoint.restore_optimiser(self.optimiser, self.schedule, groups.get("optimiser", {}), meta)
        self.train_data.restore(groups["data"])
        checkpoint.restore_random_states(groups["random"], self.method.generator, self.train_data.device)
        self.scorer.restore(groups, meta)
        self.history, self.seconds, self.step = meta["history"], meta["seconds"], meta["step"]
        if next_epoch == self.count_epochs(stages[stage_index]):
            return stage_index + 1, 0
        return stage_index, next_epoch


def average_terms(step_values: Tensor, names: list[str], epoch: int, stage: str) -> dict[str, float]:
    """Average each term over an epoch's steps. step_values: (steps, terms), read from the device here.

    Raises NotFiniteError when one is NaN or infinite; the message names the epoch and the stage.
    """
    values = step_values.double().cpu().numpy()
    bad = ~np.isfinite(values)
    if bad.any():
        step = int(bad.any(axis=1).argmax())
        bad_names = [name for name, is_bad in zip(names, bad[step]) if is_bad]
        advice = "lower the learning rate (--set learning_rate=…) or that term's weight"
        if epoch == step == 0:
            advice = (
                "the stage had changed nothing: look at how the method computes it, and at any stage before"
            )
        raise NotFiniteError(
            f"loss term {' and '.join(bad_names)} is {values[step][bad[step]][0]:g} at epoch {epoch}, step {step} of "
            f"stage {stage!r}; {advice}."
        )
    return dict(zip(names, values.mean(axis=0).tolist()))
