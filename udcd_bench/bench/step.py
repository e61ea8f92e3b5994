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
from udcd_bench.data.batches.resident import Resident
from udcd_bench.engines.environment import pick_device
from udcd_bench.method import Info
from udcd_bench.runs import profiles
from udcd_bench.sampling import ContrastSampler
from udcd_bench.training import network
from udcd_bench.training.trainer import Trainer, ema_decay, make_optimiser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from udcd_bench.data.batches.resident import Batch

COUNTS = (5364, 890, 879, 411, 262, 114, 92)
"""Training images of each class in a fold of HAM10000; the pixels are random."""
WARM_UP = 2
"""Rounds that are not counted."""


@dataclass(frozen=True)
class Ask:
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
        self.calls = 8 if device.type == "cuda" else 1

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
        for _ in range(self.calls):
            call()
        ended_at.record()
        torch.cuda.synchronize(self.device)
        return float(began_at.elapsed_time(ended_at)) / self.calls


def data_for(ask: Ask, device: torch.device) -> Resident:
    """Random images in HAM10000's proportions: 64 different ones, held as often as there are rows."""
    n = ask.n_train or sum(COUNTS)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    labels = rng.permutation(labels)[:n] if n <= len(labels) else rng.choice(labels, n)
    few = rng.integers(0, 256, (64, ask.image_size, ask.image_size, 3), dtype=np.uint8)
    rows = np.arange(n) % len(few)
    held = Resident(few, labels[: len(few)], rows, device=device, order_seed=0, augment_seed=0)
    held.labels = torch.from_numpy(labels).to(device)
    return held


def endless(data: Resident, batch_size: int, views: int) -> Iterator[Batch]:
    """Whole batches, epoch after epoch."""
    while True:
        yield from (b for b in data.epoch(batch_size, views) if len(b.index) == batch_size)


class Subject:
    """A method in the loop, in the steady state after the start epoch, and its floor."""

    def __init__(self, ask: Ask, name: str, data: Resident | None = None) -> None:
        data = data or data_for(ask, pick_device(ask.device))
        paper = profiles.profile("paper").protocol
        protocol = replace(paper, image_size=ask.image_size, batch_size=ask.batch)
        self.name, self.device = name, data.device
        cls = plugins.load_class("methods", name)
        autocast = self.device.type == "cuda"

        def fresh() -> network.Network:
            return network.build(
                ask.backbone, len(COUNTS), weights="none", image_size=ask.image_size, autocast=autocast
            )

        student = fresh()
        teacher = copy.deepcopy(student) if cls.teacher == "ema" else fresh() if cls.teacher else None
        info = Info.of(data.labels, len(COUNTS), student, teacher)
        self.method = cls(info, student, teacher, (), torch.Generator(device=self.device)).to(self.device)
        self.trainer = Trainer(self.method, protocol, data, data)
        self.stage = cost.main_stage(self.method)
        self.trainer.begin(self.stage)
        epochs = self.trainer.epochs_of(self.stage)
        self.progress = self.trainer.progress(3 * epochs // 4, epochs)
        self.batches = endless(data, ask.batch, self.stage.views)
        self.batch = next(self.batches)
        self.images = self._watch()
        parameters = [p for p in student.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(parameters, protocol)
        self.target = torch.zeros(len(self.images[0]), dtype=torch.int64, device=self.device)

    def _watch(self) -> list[Tensor]:
        """The images that the student, and the teacher, are given at a step: those of their largest call."""
        seen: list[Tensor] = []

        def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.append(inputs[0])

        kept = []
        for module in (self.method.student, self.method.teacher_network):
            if module is not None:
                handle = module.register_forward_pre_hook(watch)
                self.step()
                handle.remove()
                kept += [max(seen, key=len).detach().clone()] if seen else []
                seen.clear()
        return kept

    def step(self) -> object:
        """The loop's."""
        return self.trainer.take_step(self.stage, next(self.batches), self.progress)

    def floor(self) -> None:
        """Nothing but the networks and the optimiser."""
        logits = self.method.student(self.images[0]).logits
        F.cross_entropy(logits, self.target).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if len(self.images) > 1:
            self.method.teach(self.images[1])

    def own(self) -> None:
        """The method's own terms, forward and backward, on features that are simply there."""
        terms = self.stage.losses(self.batch, self.progress)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.method.zero_grad(set_to_none=True)

    def parts(self, clock: Clock, rounds: int) -> dict[str, float]:
        """Milliseconds of what a step does beside its floor, each measured alone: medians."""
        method, trainer = self.method, self.trainer
        alpha = ema_decay(trainer.step, trainer.protocol.ema)
        terms = [self.batch.views[0].new_zeros(()) for _ in range(4)]

        def log() -> None:
            torch.stack(terms)
            trainer.schedule.step()

        with torch.no_grad():
            side = method.student(self.images[0][:2]).feature_map.shape[-1]
        size = cost.Size(
            len(self.batch.index), len(trainer.data), len(COUNTS), width=method.student.width, side=side
        )
        with cost.recalled(method, size), torch.random.fork_rng():
            method.to(self.device)
            self.own()
            samplers = [x for x in vars(method).values() if isinstance(x, ContrastSampler)]
            calls: dict[str, Callable[[], object]] = {
                "views": lambda: next(self.batches),
                "losses": self.own,
                "sampling": lambda: [s.draw(self.batch.index) for s in samplers],
                "memory": torch.no_grad()(method.after_step),
                "EMA": lambda: trainer.average.move(alpha),
                "logging": log,
            }
            found = {
                part: float(np.median([clock(call) for _ in range(WARM_UP + rounds)][WARM_UP:]))
                for part, call in calls.items()
            }
        found["losses"] -= found["sampling"]
        return found
