"""What ``bench`` times: a method in the loop, and its floor.

Floor: the student forward and backward, its optimiser's step, and one forward pass of a teacher where there is one,
on as many images as the method gives them (four turns are four times as many). Both use the same networks, memory
format, precision and optimiser.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from udcd_bench import plugins
from udcd_bench.bench import cost
from udcd_bench.data.batches.resident import DeviceDataset
from udcd_bench.engines.environment import pick_device
from udcd_bench.method import DatasetInfo
from udcd_bench.runs import profiles
from udcd_bench.sampling import ContrastSampler
from udcd_bench.training import network
from udcd_bench.training.trainer import Trainer, compute_ema_decay, make_optimiser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from udcd_bench.data.batches.resident import Batch

CLASS_COUNTS = (5364, 890, 879, 411, 262, 114, 92)
"""Training images of each class in a fold of HAM10000; the pixels are random."""
WARM_UP_ROUNDS = 2
"""Rounds that are not counted."""


@dataclass(frozen=True)
class BenchConfig:
    """What to measure. threads: 0 leaves the number to the framework. n_train: 0 is a fold of HAM10000."""

    methods: tuple[str, ...]
    backbone: str = "densenet121"
    image_size: int = 64
    batch: int = 64
    device: str = "auto"
    threads: int = 0
    rounds: int = 21
    n_train: int = 0


class Clock:
    """Milliseconds of calls, by a GPU's own events where there is one.

    A GPU is timed over several calls, as the loop keeps it: with work waiting.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.calls_per_timing = 8 if device.type == "cuda" else 1

    def __call__(self, call: Callable[[], object]) -> float:
        """Of one call, the mean of some on a GPU."""
        if self.device.type != "cuda":
            began = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - began)
        make: Any = torch.cuda.Event
        began_at, ended_at = make(enable_timing=True), make(enable_timing=True)
        torch.cuda.synchronize(self.device)
        began_at.record()
        for _ in range(self.calls_per_timing):
            call()
        ended_at.record()
        torch.cuda.synchronize(self.device)
        return float(began_at.elapsed_time(ended_at)) / self.calls_per_timing


def make_random_data(config: BenchConfig, device: torch.device) -> DeviceDataset:
    """Random images in HAM10000's proportions: 64 different ones, held as often as there are rows."""
    n = config.n_train or sum(CLASS_COUNTS)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(CLASS_COUNTS)), CLASS_COUNTS)
    labels = rng.permutation(labels)[:n] if n <= len(labels) else rng.choice(labels, n)
    few = rng.integers(0, 256, (64, config.image_size, config.image_size, 3), dtype=np.uint8)
    rows = np.arange(n) % len(few)
    held = DeviceDataset(few, labels[: len(few)], rows, device=device, order_seed=0, augment_seed=0)
    held.labels = torch.from_numpy(labels).to(device)
    return held


def cycle_batches(data: DeviceDataset, batch_size: int, views: int) -> Iterator[Batch]:
    """Whole batches, epoch after epoch."""
    while True:
        yield from (b for b in data.iterate_batches(batch_size, views) if len(b.index) == batch_size)


class TimedMethod:
    """A method in the loop, in the steady state after the start epoch, and its floor."""

    def __init__(self, config: BenchConfig, name: str, data: DeviceDataset | None = None) -> None:
        data = data or make_random_data(config, pick_device(config.device))
        paper = profiles.find_profile("paper").protocol
        protocol = replace(paper, image_size=config.image_size, batch_size=config.batch)
        self.name, self.device = name, data.device
        cls = plugins.load_class("methods", name)
        autocast = self.device.type == "cuda"

        def fresh() -> network.Network:
            return network.build_network(
                config.backbone,
                len(CLASS_COUNTS),
                weights="none",
                image_size=config.image_size,
                autocast=autocast,
            )

        student = fresh()
        teacher = copy.deepcopy(student) if cls.teacher == "ema" else fresh() if cls.teacher else None
        info = DatasetInfo.from_labels(data.labels, len(CLASS_COUNTS), student, teacher)
        self.method = cls(info, student, teacher, (), torch.Generator(device=self.device)).to(self.device)
        self.trainer = Trainer(self.method, protocol, data, data)
        self.stage = cost.find_student_stage(self.method)
        self.trainer.start_stage(self.stage)
        epochs = self.trainer.count_epochs(self.stage)
        self.progress = self.trainer.make_progress(3 * epochs // 4, epochs)
        self.batches = cycle_batches(data, config.batch, self.stage.views)
        self.batch = next(self.batches)
        self.network_inputs = self._capture_inputs()
        parameters = [p for p in student.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(parameters, protocol)
        self.target = torch.zeros(len(self.network_inputs[0]), dtype=torch.int64, device=self.device)

    def _capture_inputs(self) -> list[Tensor]:
        """The images that the student, and the teacher, are given at a step: those of their largest call."""
        seen: list[Tensor] = []

        def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0])

        kept = []
        for module in (self.method.student, self.method.teacher_network):
            if module is not None:
                handle = module.register_forward_pre_hook(watch)
                self.run_step()
                handle.remove()
                kept += [max(seen, key=len).detach().clone()] if seen else []
                seen.clear()
        return kept

    def run_step(self) -> object:
        """The loop's."""
        return self.trainer.run_training_step(self.stage, next(self.batches), self.progress)

    def run_floor(self) -> None:
        """Nothing but the networks and the optimiser."""
        logits = self.method.student(self.network_inputs[0]).logits
        F.cross_entropy(logits, self.target).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if len(self.network_inputs) > 1:
            self.method.run_teacher(self.network_inputs[1])

    def run_own_terms(self) -> None:
        """The method's own terms, forward and backward, on features that are simply there."""
        terms = self.stage.compute_losses(self.batch, self.progress)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.method.zero_grad(set_to_none=True)

    def time_parts(self, clock: Clock, rounds: int) -> dict[str, float]:
        """Milliseconds of what a step does beside its floor, each measured alone: medians."""
        method, trainer = self.method, self.trainer
        alpha = compute_ema_decay(trainer.step, trainer.protocol.ema)
        terms = [self.batch.views[0].new_zeros(()) for _ in range(4)]

        def log() -> None:
            torch.stack(terms)
            trainer.schedule.step()

        with torch.no_grad():
            side = method.student(self.network_inputs[0][:2]).feature_map.shape[-1]
        size = cost.ProblemSize(
            len(self.batch.index),
            len(trainer.train_data),
            len(CLASS_COUNTS),
            width=method.student.width,
            side=side,
        )
        with cost.use_stub_networks(method, size), torch.random.fork_rng():
            method.to(self.device)
            self.run_own_terms()
            samplers = [x for x in vars(method).values() if isinstance(x, ContrastSampler)]
            calls: dict[str, Callable[[], object]] = {
                "views": lambda: next(self.batches),
                "losses": self.run_own_terms,
                "sampling": lambda: [s.sample(self.batch.index) for s in samplers],
                "memory": torch.no_grad()(method.after_step),
                "EMA": lambda: trainer.ema.update(alpha),
                "logging": log,
            }
            found = {
                part: float(np.median([clock(call) for _ in range(WARM_UP_ROUNDS + rounds)][WARM_UP_ROUNDS:]))
                for part, call in calls.items()
            }
        found["losses"] -= found["sampling"]
        return found
