"""Mixup: each image blended with another one of its batch, and a loss taken at the labels of both.

Zhang, Cisse, Dauphin & Lopez-Paz, mixup: beyond empirical risk minimization, ICLR 2018: x̃ = λ x_i + (1 − λ) x_j and
ỹ = λ y_i + (1 − λ) y_j, λ ~ Beta(α, α) (eq. 1). As in the authors' code, a batch is mixed with itself in another order
and one λ, and the loss is λ L(f(x̃), y_i) + (1 − λ) L(f(x̃), y_j), which for the mean cross-entropy is that of ỹ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from udcd_bench.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable

ALPHA = 0.2
"""α; on ImageNet they find 0.1 to 0.4 good (section 3.1)."""


class UnreadableTensor(Tensor):
    """A tensor of which shape and device can be asked, and nothing be computed: that raises UnreadableError."""

    reason: ClassVar[str]

    @staticmethod
    def __new__(cls, like: Tensor, *_: object) -> UnreadableTensor:
        """Make one of the shape, type and device of another tensor."""
        tensor: UnreadableTensor = Tensor._make_wrapper_subclass(
            cls, like.shape, dtype=like.dtype, device=like.device
        )
        return tensor

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{type(self).__name__}({tuple(self.shape)})"

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise UnreadableError(self.reason)

    # what leaves PyTorch without an operation of its own
    tolist = numpy = item = __array__ = __iter__ = _refuse

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Refuse every operation, in whichever place it takes this tensor."""
        raise UnreadableError(next(kind.reason for kind in types if issubclass(kind, UnreadableTensor)))


class MixedIndex(UnreadableTensor):
    """Where the images of a mixed batch stand in the training set: each in two places."""

    reason = (
        "it reads Batch.index, as memories do, and with augment=mixup an image stands in two places of the training "
        "set; leave the row out, or give it another augment."
    )


class MixedLabels(UnreadableTensor):
    """The labels of a mixed batch, two for each image, which ``average`` alone can read.

    first, second: (B,) int64. share: λ, that of the first.
    """

    reason = (
        "it reads Batch.labels otherwise than by self.cross_entropy and self.average_rows, and with augment=mixup an "
        "image has two; leave the row out, or give it another augment."
    )

    def __init__(self, first: Tensor, second: Tensor, share: float) -> None:
        super().__init__()
        self.first, self.second, self.share = first, second, share

    def average(self, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Average what is computed of labels (B,): λ of the first ones', 1 − λ of the second ones'."""
        return self.share * compute(self.first) + (1 - self.share) * compute(self.second)


class Mixup:
    """Mixes batches. generator: of its draws, on the CPU."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def mix(self, views: tuple[Tensor, ...], labels: Tensor) -> tuple[tuple[Tensor, ...], MixedLabels]:
        """Mix all views of an image (B, 3, H, W) with those of one other image, with one λ; and their labels (B,)."""
        # PyTorch draws no beta from a generator of one's own
        seed = int(torch.randint(2**63 - 1, (), generator=self.generator))
        share = float(np.random.default_rng(seed).beta(ALPHA, ALPHA))
        partner = torch.randperm(len(labels), generator=self.generator).to(labels.device)
        mixed = tuple(share * view + (1 - share) * view[partner] for view in views)
        return mixed, MixedLabels(labels, labels[partner], share)
