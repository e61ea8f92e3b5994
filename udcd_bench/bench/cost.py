"""Cost of a method's own terms, run on cached random features in place of its networks: to be timed or counted.

Counts are of the bytes that operations read and write, so they are the same on every machine.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from udcd_bench import plugins
from udcd_bench.data.batches.resident import Batch
from udcd_bench.method import Progress
from udcd_bench.training.assemble import MethodOptions, assemble_method, build_networks
from udcd_bench.training.network import EMBEDDING_WIDTH, Features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from udcd_bench.method import BaseMethod, Stage

STEADY_PROGRESS = Progress(epoch=60, epochs=80, start_epoch=20, ramp_epochs=30)
"""Late in the paper's protocol: every term is active, and the ramp is at 1."""


@dataclass
class ProblemSize:
    """The sizes that a method's own cost depends on; the defaults are DenseNet-121 at 64² on HAM10000.

    batch: B images a step. n_train: images of the training set. classes: C. negatives: K.
    width: F channels of the feature map. side: its height and width in pixels. levels: the same two numbers of each of
    ``Features.levels``.
    """

    batch: int = 64
    n_train: int = 8000
    classes: int = 7
    negatives: int = 4096
    width: int = 1024
    side: int = 2
    levels: tuple[tuple[int, int], ...] = ((64, 32), (256, 16), (512, 8), (1024, 4), (1024, 2))


class StubNetwork(nn.Module):
    """A stand-in for a ``Network``: random features, cached, that require a gradient whenever a network's would.

    It has the modules that methods read from a network: ``neck`` and ``classifier``.
    """

    def __init__(self, size: ProblemSize) -> None:
        super().__init__()
        self.width = size.width
        self.neck, self.classifier = (
            nn.Linear(size.width, EMBEDDING_WIDTH),
            nn.Linear(EMBEDDING_WIDTH, size.classes),
        )
        self.shapes = (size.width, size.side, size.side), (size.width,), (EMBEDDING_WIDTH,), (size.classes,)
        self.levels = size.levels
        self.level_widths: tuple[int, ...] = ()
        self.cached: dict[int, list[Tensor]] = {}

    def collect_levels(self) -> None:
        """Return the maps of all levels too from now on."""
        self.level_widths = tuple(width for width, _ in self.levels)

    def forward(self, images: Tensor) -> Features:
        """Return the features of so many images: (B, F, s, s), (B, F), (B, 128), (B, C), and those of the levels."""
        n = len(images)
        if n not in self.cached:
            levels = [(width, side, side) for width, side in self.levels] if self.level_widths else []
            shapes = [*self.shapes, *levels]
            self.cached[n] = [torch.randn(n, *shape, device=images.device) for shape in shapes]
        feature_map, pooled, embedding, logits, *maps = (
            x.detach().requires_grad_(torch.is_grad_enabled()) for x in self.cached[n]
        )
        return Features(feature_map, pooled, embedding, logits, tuple(maps))


def find_student_stage(method: BaseMethod) -> Stage:
    """Find the stage that trains the student."""
    return next(s for s in method.stages() if any(m is method.student for m in s.trained_modules))


@contextmanager
def use_stub_networks(method: BaseMethod, size: ProblemSize) -> Iterator[None]:
    """Replace a method's networks by ``StubNetwork`` within the context."""
    student, teacher = method.student, method.teacher_network
    method.student, method.teacher_network = build_networks(type(method), lambda: StubNetwork(size))  # type: ignore
    try:
        yield
    finally:
        method.student, method.teacher_network = student, teacher


def make_terms_call(name: str, size: ProblemSize) -> Callable[[], None]:
    """Make a call that runs a method's own terms at this size, forward and backward, on the CPU."""
    cls = plugins.load_class("methods", name)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size.n_train) % size.classes
    hparams = (("negatives", size.negatives),) if "negatives" in cls.hparams else ()
    options = MethodOptions(hparams, generator=generator)
    networks = build_networks(cls, lambda: StubNetwork(size))  # type: ignore[arg-type,return-value]
    method = assemble_method(cls, networks, labels, size.classes, options)
    stage = find_student_stage(method)
    index = torch.randperm(size.n_train, generator=generator)[: size.batch]
    # no network reads a pixel, so the images may be small
    views = tuple(torch.rand(len(index), 3, 8, 8, generator=generator) for _ in range(stage.views))
    return lambda: run_terms(method, stage, Batch(views, labels[index], index))


def run_terms(method: BaseMethod, stage: Stage, batch: Batch, progress: Progress = STEADY_PROGRESS) -> None:
    """Run a step's terms, their backward pass, and the method's ``after_step``."""
    torch.stack(list(stage.compute_losses(batch, progress).values())).sum().backward()  # type: ignore[no-untyped-call]
    method.zero_grad(set_to_none=True)
    with torch.no_grad():
        method.after_step()


# --- counting ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OperationCounts:
    """What operations cost.

    moved: bytes read and written. largest: bytes of the largest tensor that one of them makes.
    flops: floating-point operations.
    """

    moved: int
    largest: int
    flops: int


class _Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes that each operation reads and writes; a view does neither."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.moved = self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        aliases = [r.alias_info for r in func._schema.returns]
        if not any(a is not None and not a.is_write for a in aliases):
            read, written = (_list_tensor_bytes(x) for x in ((args, kwargs), out))
            self.moved += sum(read) + sum(written)
            if not any(aliases):
                self.largest = max([self.largest, *written])
        return out


def _list_tensor_bytes(values: Any) -> list[int]:
    """List the bytes of each tensor; an expanded one counts the bytes of its storage."""
    tensors = [x for x in torch.utils._pytree.tree_leaves(values) if isinstance(x, Tensor)]
    return [min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors]


def count_operations(call: Callable[[], object]) -> OperationCounts:
    """Count everything that ``call`` computes."""
    tally = _Tally()
    with FlopCounterMode(display=False) as flops, tally:
        call()
    return OperationCounts(tally.moved, tally.largest, flops.get_total_flops())
