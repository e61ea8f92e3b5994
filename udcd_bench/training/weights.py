"""Pretrained weights: the digest by which a run's key knows them."""

from __future__ import annotations

import hashlib

from udcd_bench.training.network import build_backbone


def compute_digest(backbone: str, weights: str) -> str:
    """Hash the tensors that a backbone begins with: name, shape and float32 values of each.

    weights: ``none``, whose digest is ``none``, ``imagenet`` or a file. Raises UserError when they cannot be had.
    """
    if weights == "none":
        return "none"
    digest = hashlib.sha256()
    for name, tensor in sorted(build_backbone(backbone, weights).state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.float().contiguous().numpy().tobytes())
    return digest.hexdigest()
