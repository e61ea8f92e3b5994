"""The network of every row: backbone, neck and classifier, with named features.

backbone (timm) → global average pool = ``pooled`` → linear to 128 = ``embedding`` (R, O:CRCKD) → linear to C =
``logits``.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import timm
import torch
from torch import Tensor, nn

from udcd_bench.errors import UserError
from udcd_bench.runs.profiles import TINY_DENSENET

if TYPE_CHECKING:
    from collections.abc import Callable

EMBEDDING_WIDTH = 128
"""Width of the embedding (R, O:CRCKD)."""


class Features(NamedTuple):
    """The features that a forward pass returns; all but the map are float32.

    feature_map: (B, F, h, w), the last one before pooling, in the precision of the backbone. pooled: (B, F).
    embedding: (B, 128). logits: (B, C).
    """

    feature_map: Tensor
    pooled: Tensor
    embedding: Tensor
    logits: Tensor


# the families of the paper's backbones, at sizes that two CPU cores train in seconds (S)


def _build_densenet() -> nn.Module:
    return timm.models.densenet.DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), bn_size=2, num_classes=0)


def _build_resnet() -> nn.Module:
    resnet = timm.models.resnet
    # three narrow convolutions before the pooling: the plain stem would cost as much as all other layers
    return resnet.ResNet(
        resnet.Bottleneck,  # type: ignore[arg-type]  # a class, as timm's own calls give
        (1, 1, 1, 1),
        num_classes=0,
        channels=(8, 16, 24, 32),
        stem_type="deep",
        stem_width=8,
    )


def _build_inverted_residuals(blocks: str, activation: type[nn.Module]) -> nn.Module:
    """Build inverted residuals, one block a stage; from the second stage on the image is halved."""
    from timm.models._efficientnet_builder import decode_arch_def

    stages = decode_arch_def([[block] for block in blocks.split()])  # type: ignore[no-untyped-call]
    return timm.models.efficientnet.EfficientNet(
        stages, num_classes=0, num_features=64, stem_size=8, act_layer=activation
    )


def _build_efficientnet() -> nn.Module:
    blocks = "ds_r1_k3_s1_e1_c8_se0.25 ir_r1_k3_s2_e3_c12_se0.25 ir_r1_k5_s2_e3_c16_se0.25 ir_r1_k3_s2_e3_c24_se0.25"
    return _build_inverted_residuals(blocks, nn.SiLU)


def _build_mobilenet() -> nn.Module:
    blocks = "ds_r1_k3_s1_c8 ir_r1_k3_s2_e4_c12 ir_r1_k3_s2_e4_c16 ir_r1_k3_s2_e4_c24 ir_r1_k3_s1_e4_c32"
    return _build_inverted_residuals(blocks, nn.ReLU6)


TINY_BACKBONES: dict[str, Callable[[], nn.Module]] = {
    TINY_DENSENET: _build_densenet,
    "resnet-tiny": _build_resnet,
    "efficientnet-tiny": _build_efficientnet,
    "mobilenet-tiny": _build_mobilenet,
}
"""Small backbones of this suite, by name, which timm does not have."""


def build_backbone(name: str, weights: str = "none") -> nn.Module:
    """Build a backbone by its timm name, or one of ``TINY_BACKBONES``.

    weights: ``none``, ``imagenet`` (downloaded by timm on first use) or a file of timm's weights.
    Raises UserError when the name is unknown or the weights are unavailable.
    """
    if name in TINY_BACKBONES:
        if weights != "none":
            raise UserError(f"backbone {name} has no {weights} weights; add --set weights=none.")
        return TINY_BACKBONES[name]()
    if not timm.is_model(name):
        import difflib

        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Near: {', '.join(close)}." if close else ""
        raise UserError(f"timm knows no backbone {name!r}.{hint}")
    # it logs every attempt; the one error below says what the user can do
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=weights == "imagenet", num_classes=0)
    except Exception as error:
        if weights != "imagenet":
            raise
        raise UserError(
            f"The ImageNet weights of {name} could not be had ({type(error).__name__}). Connect once, or give "
            f"timm's file with --set weights=FILE, or train from scratch with --set weights=none."
        ) from error
    if weights not in ("none", "imagenet"):
        _load_weights(backbone, name, Path(weights))
    return backbone


def _load_weights(backbone: nn.Module, name: str, file: Path) -> None:
    from timm.models import load_state_dict

    if not file.is_file():
        raise UserError(
            f"weights={file}: there is no such file; weights is one of imagenet, none, or a file."
        )
    try:
        stored = load_state_dict(str(file), weights_only=True)
    except Exception as error:
        raise UserError(f"{file} cannot be read as weights ({type(error).__name__}: {error}).") from error
    own = backbone.state_dict()
    missing = [key for key in own if key not in stored or stored[key].shape != own[key].shape]
    if missing:
        raise UserError(f"{file} does not hold {name}: {missing[0]} is missing or of another shape.")
    backbone.load_state_dict({key: stored[key] for key in own})


class Network(nn.Module):
    """Backbone, neck and classifier.

    autocast: compute the backbone in bfloat16; all features but the map are float32 in either case.
    """

    def __init__(self, backbone: nn.Module, classes: int, *, autocast: bool = False) -> None:
        super().__init__()
        self.backbone = backbone
        width: int = backbone.num_features  # type: ignore[assignment]
        self.neck = nn.Linear(width, EMBEDDING_WIDTH)
        self.classifier = nn.Linear(EMBEDDING_WIDTH, classes)
        self.width = width
        self.autocast = autocast

    def forward(self, images: Tensor) -> Features:
        """Compute the named features of images (B, 3, H, W)."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            feature_map: Tensor = self.backbone.forward_features(images)  # type: ignore[operator]
            pooled = feature_map.mean((2, 3))
        # the two small layers in float32: they are cheap, and every loss reads them
        pooled = pooled.float()
        embedding = self.neck(pooled)
        return Features(feature_map, pooled, embedding, self.classifier(embedding))


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
