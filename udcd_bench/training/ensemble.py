"""Several trained networks as one teacher, whose logits are the mean of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from torch import Tensor, nn

from udcd_bench.errors import UnreadableError
from udcd_bench.training.network import Features, Network

if TYPE_CHECKING:
    from collections.abc import Sequence


class EnsembleFeatures:
    """What several networks have in common of their features: logits (B, C), float32.

    Reading anything else raises UnreadableError: channels of different networks have nothing to do with each other.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __getattr__(self, name: str) -> NoReturn:
        if name in Features._fields:
            _refuse(name)
        raise AttributeError(name)

    def __iter__(self) -> NoReturn:
        _refuse("features in their order")

    def __getitem__(self, place: object) -> NoReturn:
        _refuse("features in their order")


class Ensemble(Network):
    """A teacher made of several networks.

    Its logits are the arithmetic mean of theirs. Their softmax, at any temperature, is the normalised geometric mean of
    the networks' softmaxes at that temperature: one of the two means that Hinton, Vinyals & Dean, Distilling the
    knowledge in a neural network, 2015, section 1, name for an ensemble. The other, the arithmetic mean of softmaxes
    (You et al., Learning from multiple teacher networks, KDD 2017), is taken at a temperature that only the method
    knows, and gives no logits, which methods read.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        nn.Module.__init__(self)
        self.networks = nn.ModuleList(networks)
        # of features that nobody can read, for heads that nobody can use
        self.width, self.level_widths = networks[0].width, networks[0].level_widths

    def collect_levels(self) -> None:
        """Take the channels of the first network's levels, which cannot be read either."""
        first: Network = self.networks[0]  # type: ignore[assignment]
        first.collect_levels()
        self.level_widths = first.level_widths

    def forward(self, images: Tensor) -> Features:
        """Compute the mean logits of images (B, 3, H, W), as ``EnsembleFeatures``."""
        logits = torch.stack([network(images).logits for network in self.networks])
        return cast("Features", EnsembleFeatures(logits.mean(0)))

    def __getattr__(self, name: str) -> Any:
        if name in ("backbone", "neck", "classifier"):
            _refuse(name)
        return super().__getattr__(name)


def _refuse(name: str) -> NoReturn:
    raise UnreadableError(
        f"it reads the teacher's {name}, and several teachers have nothing in common but logits; leave the row out, or "
        "give it one teacher."
    )
