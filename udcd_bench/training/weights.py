"""A backbone's weights at the start of training: none, timm's, or a file's, whatever its names begin with.

Nothing in a file of weights is executed: a pickle that needs more than tensors is refused.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from udcd_bench.errors import UserError
from udcd_bench.training.backbones import TINY_BACKBONES, create_backbone
from udcd_bench.training.weight_files import read_tensors

WORDS = ("none", "imagenet")
"""What ``weights`` may be beside a file."""
AVERAGED = ("ema", "teacher")
"""Words in the names of averaged weights: where a file has several sets that fit, its makers test with this one."""
COUNTER = "num_batches_tracked"
"""End of the name of a counter that decides nothing, and that older files lack."""


class FittingTensors(NamedTuple):
    """Tensors of a file by the backbone's own names, and what their names in the file begin with."""

    tensors: dict[str, Tensor]
    prefix: str
    other_prefixes: tuple[str, ...]


def build_backbone(name: str, weights: str = "none") -> nn.Module:
    """Build a backbone by its timm name, or one of ``TINY_BACKBONES``.

    weights: ``none``, ``imagenet`` (downloaded by timm on first use) or a file.
    Raises UserError when the name is unknown, or the weights are unavailable or another network's.
    """
    if weights == "imagenet":
        return _download_backbone(name)
    backbone = create_backbone(name)
    if weights != "none":
        file = _find_file(weights)
        own = backbone.state_dict()
        fitting = _select_tensors(own, name, file)
        backbone.load_state_dict({**own, **fitting.tensors})
    return backbone


def compute_digest(backbone: str, weights: str) -> str:
    """Compute the SHA-256 of a backbone's weights as training starts from them; ``none`` for ``none``.

    It covers names, shapes and values in float32, so that it does not matter how a file names or stores them.

    Raises UserError as ``build_backbone`` does.
    """
    return "none" if weights == "none" else _read_digest(backbone, weights).digest


def describe_prefix(backbone: str, weights: str) -> str:
    """Describe, for a file whose names begin with more than the backbone's, what was read of it; else empty."""
    return "" if weights == "none" else _read_digest(backbone, weights).prefix_note


class _Digest(NamedTuple):
    """The digest of weights, and what ``describe_prefix`` says of their file."""

    digest: str
    prefix_note: str


def _read_digest(backbone: str, weights: str) -> _Digest:
    file = None if weights == "imagenet" else _find_file(weights)
    state = file.stat() if file and file.exists() else None
    identity = (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino) if state else ()
    return _compute_digest(backbone, weights, *identity)


@cache
def _compute_digest(name: str, weights: str, *_identity: int) -> _Digest:
    note = ""
    if weights == "imagenet":
        tensors = _download_backbone(name).state_dict()
    else:
        own, file = create_backbone(name).state_dict(), _find_file(weights)
        fitting = _select_tensors(own, name, file)
        note = _describe_prefix(file, fitting)
        tensors = {**own, **fitting.tensors}
    return _Digest(hash_tensors(tensors), note)


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Hash tensors by name, shape and value in float32, but for counters, with SHA-256."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        if not key.endswith(COUNTER):
            tensor = tensors[key]
            values: Any = tensor.float() if tensor.is_floating_point() else tensor.long()
            digest.update(f"{key} {tuple(tensor.shape)}\0".encode())
            digest.update(values.contiguous().numpy())
    return digest.hexdigest()


def _describe_prefix(file: Path, fitting: FittingTensors) -> str:
    if not fitting.prefix and not fitting.other_prefixes:
        return ""
    where = f"below {fitting.prefix!r}" if fitting.prefix else "at its top"
    others = " and ".join(map(repr, fitting.other_prefixes))
    others = f"; what is below {others} fits as well and is not read" if others else ""
    return f"{file}: read {where}{others}."


# --- weights that timm downloads ----------------------------------------------------------------------------------


def _download_backbone(name: str) -> nn.Module:
    """Build a backbone with timm's ImageNet weights. Raises UserError when there are none or they cannot be had."""
    if name in TINY_BACKBONES:
        raise UserError(f"backbone {name} has no imagenet weights; add --set weights=none.")
    if timm.is_model(name) and not timm.models.is_model_pretrained(name):
        raise UserError(f"timm has no ImageNet weights of {name}; add --set weights=none or weights=FILE.")
    # it logs every attempt; the one error below says what the user can do
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        return create_backbone(name, pretrained=True)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"The ImageNet weights of {name} could not be had ({type(error).__name__}). Connect once, or fetch "
            f"{_find_address(name)} on another machine and give it with --set weights=FILE, or train from scratch "
            "with --set weights=none."
        ) from error


def _find_address(name: str) -> str:
    """Find where a browser gets timm's file."""
    config = timm.models.get_pretrained_cfg(name)
    if config is not None and config.hf_hub_id:
        return f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
    return str(config.url) if config is not None and config.url else "timm's file"


# --- weights in a file --------------------------------------------------------------------------------------------


def _find_file(weights: str) -> Path:
    try:
        return Path(weights).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"weights={weights}: nobody here has that home folder; give the whole path."
        ) from error


def _select_tensors(own: Mapping[str, Tensor], name: str, file: Path) -> FittingTensors:
    """Select a backbone's tensors from a file. own: the backbone's, by name.

    Raises UserError when the file does not hold them all, in their shapes and finite.
    """
    stored = _rename_torchvision(read_tensors(file))
    fitting = [prefix for prefix in _list_prefixes(own, stored) if not _list_misfits(own, stored, prefix)]
    if not fitting:
        raise UserError(_describe_misfit(own, stored, name, file))
    averaged = [prefix for prefix in fitting if any(word in prefix.lower() for word in AVERAGED)]
    prefix = (averaged or fitting)[0]
    tensors = {key: stored[prefix + key] for key in own if prefix + key in stored}
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor.float()).all():
            raise UserError(f"{file} holds NaN or infinity in {prefix}{key}; give weights that are finite.")
    return FittingTensors(tensors, prefix, tuple(other for other in fitting if other != prefix))


def _rename_torchvision(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's ``norm.1``, ``conv.2`` of a DenseNet as timm and newer torchvision do, ``norm1``."""
    renamed = {}
    for key, tensor in stored.items():
        for layer in ("norm", "conv"):
            for number in "12":
                key = key.replace(f".{layer}.{number}.", f".{layer}{number}.") if "denselayer" in key else key
        renamed[key] = tensor
    return renamed


def _list_prefixes(own: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> list[str]:
    """List what stands before the backbone's names in a file, such as ``model.``; the shortest first."""
    first = next(iter(own))
    ends = [key.removesuffix(first) for key in stored if key.endswith(first)]
    return sorted({end for end in ends if not end or end.endswith(".")}, key=len)


def _list_misfits(own: Mapping[str, Tensor], stored: Mapping[str, Tensor], prefix: str) -> list[str]:
    """List the backbone's tensors that a file lacks below a prefix, or has in another shape or kind of number."""

    def fits(key: str, tensor: Tensor) -> bool:
        other = stored.get(prefix + key)
        if other is None:
            return key.endswith(COUNTER)
        return other.shape == tensor.shape and other.is_floating_point() == tensor.is_floating_point()

    return [key for key, tensor in own.items() if not fits(key, tensor)]


def _describe_misfit(own: Mapping[str, Tensor], stored: Mapping[str, Tensor], name: str, file: Path) -> str:
    """Describe how a file's tensors differ from a backbone's, with the backbone whose they are where one is near."""
    prefixes = _list_prefixes(own, stored) or [""]
    misfits, prefix = min((_list_misfits(own, stored, each), each) for each in prefixes)
    key = misfits[0]
    if prefix + key in stored:
        other, wanted = stored[prefix + key], own[key]
        form = f"of {tuple(other.shape)} {other.dtype}, not {tuple(wanted.shape)}".replace("torch.", "")
        reason = f"{prefix}{key} is {form}"
    else:
        reason = f"{prefix}{key} is missing, and its first tensor is {next(iter(stored))}"
    nearest = next(_find_owners(stored, (name, file.stem)), None)
    fix = f"give --backbone {nearest}, whose weights they are" if nearest else "give another file"
    return f"{file} does not hold {name}: {len(misfits)} of {len(own)} tensors do not fit ({reason}); {fix}."


def _find_owners(stored: Mapping[str, Tensor], names: Sequence[str]) -> Iterator[str]:
    """Find the backbones whose tensors a file holds, among those of names like these and the paper's."""
    import difflib

    paper = ["densenet121", "resnet50", "efficientnet_b0", "mobilenetv2_100"]
    known = timm.list_models()
    near = [other for name in names for other in difflib.get_close_matches(name, known, n=6, cutoff=0.5)]
    for candidate in dict.fromkeys([*TINY_BACKBONES, *near, *paper]):
        try:
            with torch.device("meta"):
                own: dict[str, Any] = create_backbone(candidate).state_dict()
        except NotImplementedError:  # some networks read values while they are built, and here are none
            continue
        if any(not _list_misfits(own, stored, prefix) for prefix in _list_prefixes(own, stored)):
            yield candidate
