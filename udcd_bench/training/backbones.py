"""Backbones by name: timm's, and four small ones of this suite, of the families that the paper's figures name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import timm
from torch import nn

from udcd_bench.errors import UserError
from udcd_bench.runs.profiles import TINY_DENSENET

if TYPE_CHECKING:
    from collections.abc import Callable


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
"""Backbones of sizes that two CPU cores train in seconds (S), by name, which timm does not have."""


def check_backbone(name: str) -> None:
    """Raise UserError when neither timm nor this suite knows a backbone of that name."""
    if name in TINY_BACKBONES or timm.is_model(name):
        return
    import difflib

    close = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f" Near: {', '.join(close)}." if close else ""
    raise UserError(f"timm knows no backbone {name!r}.{hint}")


def create_backbone(name: str, *, pretrained: bool = False) -> nn.Module:
    """Create a backbone by its name, of random weights or with those that timm downloads.

    Raises UserError when neither timm nor this suite knows the name.
    """
    check_backbone(name)
    if name in TINY_BACKBONES:
        return TINY_BACKBONES[name]()
    backbone: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    return backbone
