"""The network that a run was tested with, rebuilt from the run's record and its stored weights.

A method decides what is tested (``BaseMethod.predict``) and what of it is stored (``get_inference_state_dict``); so the
method is put together as for training, its stored tensors are put in place, and what is not stored is left out: the
teacher, memories, heads.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from udcd_bench import plugins
from udcd_bench.errors import UserError
from udcd_bench.runs import planner
from udcd_bench.runs.profiles import Protocol, split_overrides
from udcd_bench.runs.spec import RunSpec
from udcd_bench.training.assemble import MethodOptions, assemble_method, build_networks
from udcd_bench.training.network import build_network, uses_autocast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from udcd_bench.method import BaseMethod
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.store import Store
    from udcd_bench.storage.packing import Arrays
    from udcd_bench.training.network import Features, Network


class StudentNetwork(nn.Module):
    """A run's network at test time: images (B, 3, size, size) float32, normalised → logits (B, C).

    student: backbone, neck and classifier. method: what predicts with it; its other modules are gone.
    """

    def __init__(self, method: BaseMethod) -> None:
        super().__init__()
        self.method = method

    @property
    def student(self) -> Network:
        """The student itself; a method may test it with another classifier than its own."""
        student: Network = self.method.student
        return student

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (B, C) of images (B, 3, size, size)."""
        return self.compute_features(images).logits

    def compute_features(self, images: Tensor) -> Features:
        """Compute the named features of images (B, 3, size, size): those that are tested and stored."""
        return self.method.predict(images)


def resolve_protocol(record: Record) -> Protocol:
    """Return the numbers that a run was trained by, from its record; early records leave them to the profile."""
    numbers = record.get("protocol")
    return Protocol(**numbers) if numbers else planner.resolve_protocol(RunSpec.from_dict(record["spec"]))


def load_student(store: Store, key: str, device: torch.device) -> StudentNetwork:
    """Load the network that a finished run was tested with, on a device and in evaluation mode.

    Raises UserError when its weights are not in the folder, or its method's file is gone or another one by now.
    """
    record = store.read_record(key)
    if not store.has_weights(key):
        raise UserError(
            f"{store.run_folder(key)} was packed without its weights, so nothing can be predicted with it; give as "
            "--out the folder that the run was made in."
        )
    weights = store.read_weights(key)
    with torch.random.fork_rng(devices=[]):  # what a user draws next is not to depend on what was loaded
        method = _build_method(record, device)
    _warn_of_changes(record)
    _fill_in(method.get_inference_state_dict(), weights, record)
    _leave_out_unstored(method)
    return StudentNetwork(method.to(device)).eval().requires_grad_(False)


def _build_method(record: Record, device: torch.device) -> BaseMethod:
    """Put the run's method together, of the shapes that it was trained with; nothing of it is trained yet."""
    spec, protocol, n_classes = (
        RunSpec.from_dict(record["spec"]),
        resolve_protocol(record),
        len(record["classes"]),
    )
    method_class: type[BaseMethod] = plugins.load_class("methods", spec.method)
    autocast = uses_autocast(protocol.precision, device)

    def build(backbone: str) -> Network:
        return build_network(
            backbone, n_classes, weights="none", image_size=protocol.image_size, autocast=autocast
        )

    networks = build_networks(
        method_class, lambda: build(spec.backbone), lambda: build(spec.teacher_backbone or spec.backbone)
    )
    # memories have a row an image; which labels they are of is nothing to a test
    labels = torch.arange(max(record["n_train"], n_classes)) % n_classes
    _, hparams = split_overrides(spec.hparams)
    return assemble_method(method_class, networks, labels, n_classes, MethodOptions(hparams))


def _fill_in(own: Mapping[str, Tensor], stored: Arrays, record: Record) -> None:
    """Copy stored tensors into those of a method. Raises UserError when names or shapes differ."""
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    if shapes != {name: tuple(array.shape) for name, array in stored.items()}:
        odd = min(
            shapes.items() ^ {(name, tuple(array.shape)) for name, array in stored.items()},
            key=lambda pair: pair[0],
        )
        raise UserError(
            f"The weights of run {record['key']} are not those of methods/{record['spec']['method']}.py as it is now "
            f"(they differ in {odd[0]}); give --suite the folder with the file that the run was trained with."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(torch.from_numpy(stored[name]))


def _warn_of_changes(record: Record) -> None:
    method = record["spec"]["method"]
    sources = record.get("made_of", {}).get("sources")
    if sources and sources != plugins.hash_sources("methods", method):
        logging.getLogger(__name__).warning(
            "methods/%s.py has changed since run %s was trained; its predict is taken as it is now.",
            method,
            record["key"],
        )


def _leave_out_unstored(method: BaseMethod) -> None:
    """Take out of a method every module and tensor of which nothing is stored, so that neither is exported."""
    stored = {tensor.data_ptr() for tensor in method.get_inference_state_dict().values()}
    for name, child in list(method.named_children()):
        tensors = [*child.parameters(), *child.buffers()]
        if tensors and not any(tensor.data_ptr() in stored for tensor in tensors):
            setattr(method, name, None)
    for name, tensor in [*method.named_parameters(recurse=False), *method.named_buffers(recurse=False)]:
        if tensor.data_ptr() not in stored:
            setattr(method, name, None)
