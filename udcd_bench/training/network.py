"""The network of every row: backbone, neck and classifier, with named features.

backbone (timm) → global average pool = ``pooled`` → linear to 128 = ``embedding`` (R, O:CRCKD) → linear to C =
``logits``; and, for a method that asks, the map at the end of each level of the backbone.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from udcd_bench.errors import UserError
from udcd_bench.training.weights import build_backbone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EMBEDDING_WIDTH = 128
"""Width of the embedding (R, O:CRCKD)."""
FEWEST_LEVELS = 4
"""What a method that reads levels may rely on; convolutional networks that halve the image fewer times are rare."""


class Features(NamedTuple):
    """The features that a forward pass returns; all but the map are float32.

    feature_map: (B, F, h, w), the last one before pooling, in the precision of the backbone. pooled: (B, F).
    embedding: (B, 128). logits: (B, C).
    levels: of a network of a method with ``levels = True``, else empty: the map (B, F_k, h_k, w_k) at the end of each
    level, which is all layers between two downsamplings, in the precision of the backbone. The deepest is last, of the
    size of ``feature_map``, and often that map itself.
    """

    feature_map: Tensor
    pooled: Tensor
    embedding: Tensor
    logits: Tensor
    levels: tuple[Tensor, ...] = ()


class Network(nn.Module):
    """Backbone, neck and classifier.

    autocast: compute the backbone in bfloat16; all features but the maps are float32 in either case.

    Attributes
    ----------
    level_widths: channels of each of ``Features.levels``; empty until ``collect_levels`` is called.
    compiled_batch_size: where it is not 0, whole batches of that size go through the compiled backbone. The last,
        smaller batch of an epoch and images that are tested do not: each kind of pass is compiled once, for one shape.
        Nor does a network whose levels are read, since they leave it by hooks.
    """

    def __init__(self, backbone: nn.Module, classes: int, *, autocast: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        width: int = backbone.num_features  # type: ignore[assignment]
        self.neck = nn.Linear(width, EMBEDDING_WIDTH)
        self.classifier = nn.Linear(EMBEDDING_WIDTH, classes)
        self.width = width
        self.autocast = autocast
        self.level_widths: tuple[int, ...] = ()
        self._levels: list[Tensor] = []
        self.compiled_batch_size = 0

    def collect_levels(self) -> None:
        """Let every pass from now on fill ``Features.levels``; what else it computes stays as it is.

        Raises UserError as ``find_levels`` does.
        """
        if self.level_widths:
            return
        levels = find_levels(self.backbone)
        for module, _ in levels:
            module.register_forward_hook(self._keep_level)
        self.level_widths = tuple(width for _, width in levels)

    def _keep_level(self, module: nn.Module, args: object, feature_map: Tensor) -> None:
        self._levels.append(feature_map)

    def forward(self, images: Tensor) -> Features:
        """Compute the named features of images (B, 3, H, W)."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            feature_map = self._compute_feature_map(images)
            pooled = feature_map.mean((2, 3))
        # the two small layers in float32: they are cheap, and every loss reads them
        pooled = pooled.float()
        embedding = self.neck(pooled)
        levels, self._levels = tuple(self._levels), []
        return Features(feature_map, pooled, embedding, self.classifier(embedding), levels)

    def _compute_feature_map(self, images: Tensor) -> Tensor:
        size = self.compiled_batch_size
        # a method may show each image several times, as in its four rotations
        whole = size and len(images) % size == 0
        if whole and not self.level_widths and not torch.is_inference_mode_enabled():
            return _get_compiled_call()(self.backbone, images)
        return _call_backbone(self.backbone, images)


def find_levels(backbone: nn.Module) -> list[tuple[nn.Module, int]]:
    """Find the last module of each level of a backbone, and the channels of its map, by timm's ``feature_info``.

    Raises UserError when the backbone has fewer than ``FEWEST_LEVELS``.
    """
    entries: Sequence[dict[str, Any]] = getattr(backbone, "feature_info", None) or ()
    # some list several maps of one size, of which the deepest ends the level
    last_of_size = {entry["reduction"]: entry for entry in entries}
    if (n := len(last_of_size)) < FEWEST_LEVELS:
        raise UserError(
            f"This method reads the maps of {FEWEST_LEVELS} levels or more, of which timm tells {n} in a "
            f"{type(backbone).__name__}; give another --backbone."
        )
    return [(backbone.get_submodule(e["module"]), e["num_chs"]) for e in last_of_size.values()]


def _call_backbone(backbone: nn.Module, images: Tensor) -> Tensor:
    feature_map: Tensor = backbone.forward_features(images)  # type: ignore[operator]
    return feature_map


@functools.cache
def _get_compiled_call() -> Callable[[nn.Module, Tensor], Tensor]:
    """Make the compiled form of ``_call_backbone``, one graph for each backbone and mode.

    The feature map is what it returns, since the loop takes the gradient of every term there; hooks stay outside.
    """
    return torch.compile(_call_backbone, fullgraph=True, dynamic=False)


def uses_autocast(precision: str, device: torch.device) -> bool:
    """Whether networks compute in bfloat16 on this device. precision: ``Protocol.precision``."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def build_network(
    name: str, classes: int, *, weights: str, image_size: int, autocast: bool = False
) -> Network:
    """Build a network and check that its backbone has a feature map (B, F, h, w) at this image size.

    Raises UserError when the backbone returns tokens, or cannot take so small an image.
    """
    network = Network(build_backbone(name, weights), classes, autocast=autocast)
    network.eval()
    with torch.inference_mode():
        try:
            shape = network.backbone.forward_features(torch.zeros(1, 3, image_size, image_size)).shape  # type: ignore[operator]
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(f"backbone {name} does not take images of {image_size}² ({error}).") from error
    if len(shape) != 4 or shape[1] != network.width:
        raise UserError(
            f"backbone {name} has no convolutional feature map (B, F, h, w); choose one that has."
        )
    return network.to(memory_format=torch.channels_last)
