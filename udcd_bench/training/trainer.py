"""The loop: the only optimiser, the only train/eval switch, the only backward pass.

Nothing is read back from the device inside an epoch: loss terms pile up there and are looked at once, at its end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from udcd_bench.data.batches.resident import Batch, DeviceDataset
    from udcd_bench.method import BaseMethod, Progress, Stage
    from udcd_bench.runs.profiles import Protocol as TrainingProtocol


class NotFiniteError(Exception):
    """A loss became NaN or infinite; the message names the term, the epoch and the step."""


class Checkpoints(Protocol):
    """Where the state of a run under way is kept. Arrays are numpy's."""

    def save(self, arrays: dict[str, Any], meta: dict[str, Any]) -> None:
        """Replace what is kept."""

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """What is kept, or None."""


@dataclass
class TrainingResult:
    """What training leaves.

    history: one row an epoch. scores: (E, n_test, C) logits of the last E epochs of ``stage``, the last one; their
    numbers in it are ``epochs``.
    embeddings: (n_test, D) of the last epoch. seconds: of training and testing, earlier starts included.
    """

    history: list[dict[str, Any]]
    epochs: list[int]
    scores: np.ndarray[Any, np.dtype[np.float32]]
    embeddings: np.ndarray[Any, np.dtype[np.float32]]
    seconds: float
    stage: str


def compute_ema_decay(step: int, ceiling: float) -> float:
    """α = min(1 − 1/(step+1), ceiling), steps counted from 0 (R, O:CRCKD)."""
    return min(1 - 1 / (step + 1), ceiling)


class EMA:
    """The running averages of a stage: their parameters are looked up once, for there are hundreds.

    pairs: (source, its average). Buffers stay an average's own (R, O:CRCKD).
    """

    def __init__(self, pairs: Sequence[tuple[nn.Module, nn.Module]]) -> None:
        self.source: list[Tensor] = [p for module, _ in pairs for p in module.parameters()]
        self.averaged: list[Tensor] = [p for _, target in pairs for p in target.parameters()]

    @torch.no_grad()
    def update(self, alpha: float) -> None:
        """Take each average to α·average + (1−α)·source."""
        if self.averaged:
            torch._foreach_lerp_(self.averaged, self.source, 1 - alpha)


def make_optimiser(parameters: Sequence[Tensor], protocol: TrainingProtocol) -> torch.optim.Optimizer:
    """The optimiser of every stage; its rate is the schedule's."""
    return torch.optim.Adam(parameters, weight_decay=protocol.weight_decay, fused=True)


class Trainer:
    """Trains a method's stages one after the other, testing the last epochs of the last.

    report: called after every epoch with its history row. alive: after every batch.
    """

    def __init__(
        self,
        method: BaseMethod,
        protocol: TrainingProtocol,
        train_data: DeviceDataset,
        test_data: DeviceDataset,
        *,
        checkpoints: Checkpoints | None = None,
        on_epoch_end: Callable[[dict[str, Any]], None] = lambda row: None,
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.method = method
        self.protocol = protocol
        self.train_data = train_data
        self.test_data = test_data
        self.checkpoints = checkpoints
        self.on_epoch_end = on_epoch_end
        self.on_step = on_step
        self.history: list[dict[str, Any]] = []
        self.test_scores: dict[int, np.ndarray[Any, Any]] = {}
        self.embeddings: np.ndarray[Any, Any] | None = None
        self.seconds = 0.0
        self.trainable_ids = {id(p) for p in method.parameters() if p.requires_grad}
        self.initial_data_state: dict[str, Tensor] = {}

    def run(self) -> TrainingResult:
        """Train to the end, going on from a checkpoint if there is one.

        Raises NotFiniteError when a loss stops being a number; the last checkpoint is from before that epoch.
        """
        stages = list(self.method.stages())
        if (named := [stage.name for stage in stages]) != list(self.method.stage_shares):
            raise ValueError(
                f"{self.method.title}: stages() are {named}, stage_shares {self.method.stage_shares}."
            )
        if len(stages) > 1:
            self.initial_data_state = self.train_data.get_state()
        at_stage, at_epoch = self._resume_from_checkpoint(stages)
        for number in range(at_stage, len(stages)):
            self._run_stage(
                number, stages[number], at_epoch if number == at_stage else 0, number + 1 < len(stages)
            )
        assert self.embeddings is not None
        epochs = sorted(self.test_scores)
        scores = np.stack([self.test_scores[e] for e in epochs])
        return TrainingResult(self.history, epochs, scores, self.embeddings, self.seconds, stages[-1].name)

    def count_epochs(self, stage: Stage) -> int:
        """Epochs a stage takes."""
        return self.protocol.compute_stage_epochs(self.method.stage_shares[stage.name])

    # --- one stage ------------------------------------------------------------------------------------------

    def _set_modes(self, stage: Stage, *, frozen_bn: bool = False) -> None:
        """Put into training mode what the stage trains, into rest what it does not."""
        self.method.eval()
        self.method.requires_grad_(False)
        for module in stage.trained_modules:
            module.train(not (frozen_bn and module is self.method.student))
            for parameter in module.parameters():
                parameter.requires_grad_(id(parameter) in self.trainable_ids)
        for _, averaged in stage.ema_pairs:
            # the teacher's BatchNorm statistics are its own, so its passes are training passes (R, O:CRCKD)
            averaged.train()

    def start_stage(self, stage: Stage) -> None:
        """Make ready for the first step of a stage: modes, optimiser, schedule, averages."""
        self._set_modes(stage)
        if self.initial_data_state:
            # so that students of all methods see the same batches, whatever stages came before
            self.train_data.restore(self.initial_data_state)
        parameters = [p for module in stage.trained_modules for p in module.parameters() if p.requires_grad]
        total = self.count_epochs(stage) * self.train_data.count_steps(self.protocol.batch_size)
        self.optimiser = make_optimiser(parameters, self.protocol)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, self.protocol.learning_rate, total_steps=total
        )
        self.ema = EMA(stage.ema_pairs)
        self.step = 0

    def _run_stage(self, stage_index: int, stage: Stage, first_epoch: int, has_next: bool) -> None:
        epochs = self.count_epochs(stage)
        if first_epoch == 0:
            self.start_stage(stage)
        for epoch in range(first_epoch, epochs):
            began = time.perf_counter()
            frozen_bn = self.protocol.freeze_bn_after_first_eval and epoch > 0
            self._set_modes(stage, frozen_bn=frozen_bn)
            rate = self.optimiser.param_groups[0]["lr"]
            terms, images = self._run_epoch(stage, epoch, epochs)
            seconds = time.perf_counter() - began
            if not has_next and epoch >= epochs - self.protocol.report_epochs:
                self.test_scores[epoch] = self._evaluate()
            self.seconds += time.perf_counter() - began
            row = {"stage": stage.name, "epoch": epoch, "learning_rate": rate, "seconds": seconds}
            row |= {"images_per_s": images / seconds, "loss": sum(terms.values())}
            row |= {f"loss_{name}": value for name, value in terms.items()}
            self.history.append(row)
            if epoch + 1 < epochs or has_next:
                self._save_checkpoint(stage_index, epoch + 1)
            self.on_epoch_end(row)

    def make_progress(self, epoch: int, epochs: int) -> Progress:
        """Where an epoch of a stage of so many epochs stands."""
        from udcd_bench.method import Progress

        p = self.protocol
        # a stage with another number of epochs than the protocol has start and ramp at the same shares of its own
        start, ramp = (round(when * epochs / p.epochs) for when in (p.start_epoch, p.ramp_epochs))
        return Progress(epoch, epochs, start, ramp)

    def _run_epoch(self, stage: Stage, epoch: int, epochs: int) -> tuple[dict[str, float], int]:
        progress = self.make_progress(epoch, epochs)
        ledger: list[Tensor] = []
        names: list[str] = []
        images = 0
        for batch in self.train_data.iterate_batches(self.protocol.batch_size, stage.views):
            names, values = self.run_training_step(stage, batch, progress)
            ledger.append(values)
            images += len(batch.index)
            self.on_step()
        return self._average_terms(torch.stack(ledger), names, stage, epoch), images

    def run_training_step(self, stage: Stage, batch: Batch, progress: Progress) -> tuple[list[str], Tensor]:
        """One step of the stage that has begun; the names of its terms and, on the device, their values."""
        terms = stage.compute_losses(batch, progress)
        values = torch.stack(list(terms.values()))
        values.sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.method.after_step()
        self.ema.update(compute_ema_decay(self.step, self.protocol.ema))
        self.step += 1
        return list(terms), values.detach()

    @staticmethod
    def _average_terms(step_terms: Tensor, names: list[str], stage: Stage, epoch: int) -> dict[str, float]:
        """The epoch's mean of each term (steps, terms), once every one is seen to be finite."""
        ledger = step_terms.double().cpu().numpy()
        bad = ~np.isfinite(ledger)
        if bad.any():
            step = int(bad.any(axis=1).argmax())
            guilty = [name for name, is_bad in zip(names, bad[step]) if is_bad]
            raise NotFiniteError(
                f"loss term {' and '.join(guilty)} is {ledger[step][bad[step]][0]:g} at epoch {epoch}, step {step} of "
                f"stage {stage.name!r}; lower the learning rate (--set learning_rate=…) or that term's weight."
            )
        return dict(zip(names, ledger.mean(axis=0).tolist()))

    def _evaluate(self) -> np.ndarray[Any, Any]:
        """Logits (n, C) of the test images, as they are; their embeddings (n, D) are kept."""
        self.method.eval()
        logits, embeddings = [], []
        with torch.inference_mode():
            for images in self.test_data.iterate_images(2 * self.protocol.batch_size):
                features = self.method.predict(images)
                logits.append(features.logits)
                embeddings.append(features.embedding)
                self.on_step()
        self.embeddings = torch.cat(embeddings).float().cpu().numpy()
        return torch.cat(logits).float().cpu().numpy()

    # --- going on after an interruption ---------------------------------------------------------------------

    def _save_checkpoint(self, stage_index: int, epoch: int) -> None:
        if self.checkpoints is None:
            return
        arrays = {f"method.{k}": v for k, v in self.method.state_dict().items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser.{i}.{k}": v for k, v in state.items()}
        arrays |= {f"data.{k}": v for k, v in self.train_data.get_state().items()}
        arrays |= {"random.method": self.method.generator.get_state(), "random.cpu": torch.get_rng_state()}
        if self.train_data.device.type == "cuda":
            arrays["random.cuda"] = torch.cuda.get_rng_state(self.train_data.device)
        out = {k: v.detach().cpu().numpy() for k, v in arrays.items()}
        out |= {f"tested.{epoch}": scores for epoch, scores in self.test_scores.items()}
        schedule = {k: v for k, v in self.schedule.state_dict().items() if isinstance(v, int | float)}
        groups = [{k: group[k] for k in ("lr", "betas")} for group in self.optimiser.param_groups]
        meta = {"stage": stage_index, "epoch": epoch, "step": self.step, "seconds": self.seconds}
        self.checkpoints.save(out, meta | {"schedule": schedule, "groups": groups, "history": self.history})

    def _resume_from_checkpoint(self, stages: list[Stage]) -> tuple[int, int]:
        found = self.checkpoints.load() if self.checkpoints else None
        if found is None:
            return 0, 0
        arrays, meta = found
        part = _split_by_prefix(arrays)
        self.start_stage(stages[meta["stage"]])
        self.method.load_state_dict(part["method"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part.get("optimiser", {}).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = value
            if value.ndim:
                # the fused optimiser walks memory, so a moment must lie as its parameter does
                like = self.optimiser.param_groups[0]["params"][int(index)]
                state[int(index)][key] = torch.empty_like(like).copy_(value)
        groups = self.optimiser.state_dict()["param_groups"]
        for group, saved in zip(groups, meta["groups"]):
            group |= {"lr": saved["lr"], "betas": tuple(saved["betas"])}
        self.optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.schedule.load_state_dict(meta["schedule"])
        self.train_data.restore(part["data"])
        self.method.generator.set_state(part["random"]["method"])
        torch.set_rng_state(part["random"]["cpu"])
        if "cuda" in part["random"]:
            torch.cuda.set_rng_state(part["random"]["cuda"], self.train_data.device)
        self.test_scores = {int(k): v.numpy() for k, v in part.get("tested", {}).items()}
        self.history, self.seconds, self.step = meta["history"], meta["seconds"], meta["step"]
        stage, epoch = meta["stage"], meta["epoch"]
        if epoch == self.count_epochs(stages[stage]):
            return stage + 1, 0
        return stage, epoch


def _split_by_prefix(arrays: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Checkpoint arrays as tensors, by the word before their first dot."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in arrays.items():
        head, _, rest = name.partition(".")
        parts.setdefault(head, {})[rest] = torch.from_numpy(value)
    return parts
