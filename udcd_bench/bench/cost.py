"""What a method costs beside its networks: its own terms run on features that are simply there, timed or counted.

Counts are of the tensors that operations read and write, so they are the same on every machine.
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
from udcd_bench.method import DatasetInfo, Progress
from udcd_bench.training.network import EMBEDDING_WIDTH, Features, build_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from udcd_bench.method import BaseMethod, Stage

STEADY_PROGRESS = Progress(epoch=60, epochs=80, start_epoch=20, ramp_epochs=30)
"""Late in the paper's protocol: every term has begun, and the ramp is over."""


@dataclass
class ProblemSize:
    """B images a step, n_train images, C classes, K negatives, F channels on a map of side s.

    DenseNet-121 at 64² on HAM10000, as the paper's rows have it, unless said.
    """

    batch: int = 64
    n_train: int = 8000
    classes: int = 7
    negatives: int = 4096
    width: int = 1024
    side: int = 2


class StubNetwork(nn.Module):
    """Stands in for a network: random features, the same at every call, that ask for a gradient where a network's do.

    Its modules are those that methods ask a network for.
    """

    def __init__(self, size: ProblemSize) -> None:
        super().__init__()
        self.width = size.width
        self.neck, self.classifier = (
            nn.Linear(size.width, EMBEDDING_WIDTH),
            nn.Linear(EMBEDDING_WIDTH, size.classes),
        )
        self.shapes = (size.width, size.side, size.side), (size.width,), (EMBEDDING_WIDTH,), (size.classes,)
        self.cached: dict[int, Features] = {}

    def forward(self, images: Tensor) -> Features:
        """Features of as many images, (B, F, s, s), (B, F), (B, 128), (B, C)."""
        n = len(images)
        if n not in self.cached:
            self.cached[n] = Features(
                *(torch.randn(n, *shape, device=images.device) for shape in self.shapes)
            )
        return Features(*(x.detach().requires_grad_(torch.is_grad_enabled()) for x in self.cached[n]))


def find_student_stage(method: BaseMethod) -> Stage:
    """The stage that trains the student."""
    return next(s for s in method.stages() if any(m is method.student for m in s.trained_modules))


@contextmanager
def use_stub_networks(method: BaseMethod, size: ProblemSize) -> Iterator[None]:
    """Put features in the place of a method's networks for a while."""
    student, teacher = method.student, method.teacher_network
    method.student = StubNetwork(size)  # type: ignore[assignment]
    method.teacher_network = StubNetwork(size) if teacher is not None else None  # type: ignore[assignment]
    try:
        yield
    finally:
        method.student, method.teacher_network = student, teacher


def make_terms_call(name: str, size: ProblemSize) -> Callable[[], None]:
    """A method's own terms at this size, forward and backward, and what it does after a step; on the CPU."""
    cls = plugins.load_class("methods", name)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size.n_train) % size.classes
    student: Any = StubNetwork(size)
    teacher: Any = StubNetwork(size) if cls.teacher else None
    info = DatasetInfo.from_labels(labels, size.classes, student, teacher)
    given = {"negatives": size.negatives} if "negatives" in cls.hparams else {}
    method: BaseMethod = cls(info, student, teacher, tuple(given.items()), generator)
    stage = find_student_stage(method)
    index = torch.randperm(size.n_train, generator=generator)[: size.batch]
    # the networks look at no pixel, so the images may be small
    views = tuple(torch.rand(len(index), 3, 8, 8, generator=generator) for _ in range(stage.views))
    return lambda: run_terms(method, stage, Batch(views, labels[index], index))


def run_terms(method: BaseMethod, stage: Stage, batch: Batch, progress: Progress = STEADY_PROGRESS) -> None:
    """A step's terms, their backward pass, and what the method does after it."""
    torch.stack(list(stage.compute_losses(batch, progress).values())).sum().backward()  # type: ignore[no-untyped-call]
    method.zero_grad(set_to_none=True)
    with torch.no_grad():
        method.after_step()


# --- counting ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OperationCounts:
    """Bytes that operations read and write, bytes of the largest tensor one of them makes, floating operations."""

    moved: int
    largest: int
    flops: int


class _Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of what each operation reads and writes; a view does neither."""

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
    """Of each tensor; one that repeats itself counts what it holds."""
    tensors = [x for x in torch.utils._pytree.tree_leaves(values) if isinstance(x, Tensor)]
    return [min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors]


def count_operations(call: Callable[[], object]) -> OperationCounts:
    """Of everything that ``call`` computes."""
    tally = _Tally()
    with FlopCounterMode(display=False) as flops, tally:
        call()
    return OperationCounts(tally.moved, tally.largest, flops.get_total_flops())


def count_backbone_step(name: str, image_size: int, batch: int) -> OperationCounts:
    """Of a backbone's forward and backward pass, without computing them."""
    with torch.device("meta"):
        backbone: Any = build_backbone(name).train()
        images = torch.empty(batch, 3, image_size, image_size)
    return count_operations(lambda: backbone.forward_features(images).sum().backward())
