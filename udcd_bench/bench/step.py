"""One method's training step and its floor, the lower bound that ``bench`` compares it with.

The floor is the student's forward and backward pass, its optimiser's step, and one forward pass of a teacher if the
method has one, on as many images as the method passes to them (SSKD's rotations are four times as many). Both use the
same networks, memory format, precision and optimiser.
"""

from __future__ import annotations

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
from udcd_bench.memory import ContrastMemory
from udcd_bench.runs import profiles
from udcd_bench.sampling import ContrastSampler
from udcd_bench.training import network
from udcd_bench.training.assemble import MethodOptions, assemble_method, build_networks
from udcd_bench.training.step.ema import compute_ema_decay
from udcd_bench.training.step.optimiser import make_optimiser
from udcd_bench.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from udcd_bench.data.batches.resident import Batch
    from udcd_bench.method import BaseMethod

CLASS_COUNTS = (5364, 890, 879, 411, 262, 114, 92)
"""Training images of each class in a fold of HAM10000; the pixels are random."""
WARM_UP_ROUNDS = 2
"""Rounds that are not counted."""


@dataclass(frozen=True)
class BenchConfig:
    """What to measure.

    methods: names of methods. backbone: timm's or this suite's name. image_size: pixels a side. batch: B.
    threads: of the CPU; 0 leaves the number to PyTorch. rounds: timed pairs of step and floor.
    n_train: training images; 0 is a fold of HAM10000.
    """

    methods: tuple[str, ...]
    backbone: str = "densenet121"
    image_size: int = 64
    batch: int = 64
    device: str = "auto"
    threads: int = 0
    rounds: int = 21
    n_train: int = 0


class Clock:
    """Measures calls in milliseconds, on a GPU by its own events.

    A GPU is timed over several calls, so that it has work waiting as it has in the loop.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.calls_per_timing = 8 if device.type == "cuda" else 1

    def __call__(self, call: Callable[[], object]) -> float:
        """Return the milliseconds of one call; on a GPU, the mean of several."""
        if self.device.type != "cuda":
            began = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - began)
        make_event: Any = torch.cuda.Event
        start, end = make_event(enable_timing=True), make_event(enable_timing=True)
        torch.cuda.synchronize(self.device)
        start.record()
        for _ in range(self.calls_per_timing):
            call()
        end.record()
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end)) / self.calls_per_timing


def make_random_data(config: BenchConfig, device: torch.device) -> DeviceDataset:
    """Make random images in HAM10000's proportions: 64 different ones, repeated to fill the rows."""
    n = config.n_train or sum(CLASS_COUNTS)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(CLASS_COUNTS)), CLASS_COUNTS)
    labels = rng.permutation(labels)[:n] if n <= len(labels) else rng.choice(labels, n)
    few = rng.integers(0, 256, (64, config.image_size, config.image_size, 3), dtype=np.uint8)
    rows = np.arange(n) % len(few)
    data = DeviceDataset(few, labels[: len(few)], rows, device=device, order_seed=0, augment_seed=0)
    data.labels = torch.from_numpy(labels).to(device)
    return data


def cycle_batches(data: DeviceDataset, batch_size: int, views: int) -> Iterator[Batch]:
    """Yield whole batches, epoch after epoch, without end."""
    while True:
        yield from (b for b in data.iterate_batches(batch_size, views) if len(b.index) == batch_size)


class TimedMethod:
    """A method in the training loop, in the steady state after its start epoch, and its floor.

    data: of several methods, shared; made from the configuration if left out.
    """

    def __init__(self, config: BenchConfig, name: str, data: DeviceDataset | None = None) -> None:
        data = data or make_random_data(config, pick_device(config.device))
        paper = profiles.find_profile("paper").protocol
        protocol = replace(paper, image_size=config.image_size, batch_size=config.batch)
        self.name, self.device = name, data.device
        self.method = _assemble_on_random_data(config, name, data)
        self.trainer = Trainer(self.method, protocol, data, data)
        self.stage = cost.find_student_stage(self.method)
        self.trainer.start_stage(self.stage)
        self.progress = self.trainer.make_progress(self.stage, 3 * self.trainer.count_epochs(self.stage) // 4)
        self.batches = cycle_batches(data, config.batch, self.stage.views)
        self.batch = next(self.batches)
        self.network_inputs = self._capture_inputs()
        parameters = [p for p in self.method.student.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(parameters, protocol)
        self.target = torch.zeros(len(self.network_inputs[0]), dtype=torch.int64, device=self.device)

    def _capture_inputs(self) -> list[Tensor]:
        """Record the images that a step passes to the student, and to the teacher: those of its largest call."""
        calls: list[Tensor] = []

        def record_call(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls.append(inputs[0])

        largest = []
        for module in (self.method.student, self.method.teacher_network):
            if module is not None:
                handle = module.register_forward_pre_hook(record_call)
                self.run_step()
                handle.remove()
                largest += [max(calls, key=len).detach().clone()] if calls else []
                calls.clear()
        return largest

    def run_step(self) -> object:
        """Take a step of the loop."""
        return self.trainer.run_training_step(self.stage, next(self.batches), self.progress)

    def run_floor(self) -> None:
        """Run the networks and the optimiser, nothing else."""
        logits = self.method.student(self.network_inputs[0]).logits
        F.cross_entropy(logits, self.target).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if len(self.network_inputs) > 1:
            self.method.run_teacher(self.network_inputs[1])

    def run_own_terms(self) -> None:
        """Run the method's own terms, forward and backward, on cached features."""
        terms = self.stage.compute_losses(self.batch, self.progress)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.method.zero_grad(set_to_none=True)

    def time_parts(self, clock: Clock, rounds: int) -> dict[str, float]:
        """Time what a step does beside its floor, each part alone: median milliseconds by the part's name."""
        with torch.no_grad():
            features = self.method.student(self.network_inputs[0][:2])
        size = cost.ProblemSize(
            len(self.batch.index),
            len(self.trainer.train_data),
            len(CLASS_COUNTS),
            width=self.method.student.width,
            side=features.feature_map.shape[-1],
            levels=tuple((level.shape[1], level.shape[-1]) for level in features.levels),
        )
        with cost.use_stub_networks(self.method, size), torch.random.fork_rng():
            self.method.to(self.device)
            self.run_own_terms()
            parts = {
                name: float(np.median([clock(call) for _ in range(WARM_UP_ROUNDS + rounds)][WARM_UP_ROUNDS:]))
                for name, call in self._make_part_calls().items()
            }
        parts["losses"] -= parts["sampling"] + parts["memory"]
        return parts

    def _make_part_calls(self) -> dict[str, Callable[[], object]]:
        """Make one call for each part; ``losses`` includes sampling and the memory's update."""
        trainer, index = self.trainer, self.batch.index
        samplers = [x for x in vars(self.method).values() if isinstance(x, ContrastSampler)]
        memories = [x for x in self.method.children() if isinstance(x, ContrastMemory)]
        rows = [torch.randn(len(index), memory.dim, device=self.device) for memory in memories]
        decay = compute_ema_decay(trainer.step, trainer.protocol.ema)
        terms = [self.batch.views[0].new_zeros(()) for _ in range(4)]

        def log() -> None:
            torch.stack(terms)
            trainer.schedule.step()

        return {
            "views": lambda: next(self.batches),
            "losses": self.run_own_terms,
            "sampling": lambda: [sampler.sample(index) for sampler in samplers],
            "memory": lambda: [memory.update(z, z, index) for memory, z in zip(memories, rows)],
            "EMA": lambda: trainer.ema.update(decay),
            "logging": log,
        }


def _assemble_on_random_data(config: BenchConfig, name: str, data: DeviceDataset) -> BaseMethod:
    """Put a method together as a run does, with untrained networks."""

    def build() -> network.Network:
        return network.build_network(
            config.backbone,
            len(CLASS_COUNTS),
            weights="none",
            image_size=config.image_size,
            autocast=data.device.type == "cuda",
        )

    cls = plugins.load_class("methods", name)
    options = MethodOptions(generator=torch.Generator(device=data.device))
    return assemble_method(cls, build_networks(cls, build), data.labels, len(CLASS_COUNTS), options)
