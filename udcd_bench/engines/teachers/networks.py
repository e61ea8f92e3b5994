"""The network of a trained teacher: a stored run's as it was tested, or a file's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from udcd_bench import plugins
from udcd_bench.errors import UserError
from udcd_bench.inference.student import load_student
from udcd_bench.method import BaseMethod
from udcd_bench.runs import names
from udcd_bench.runs.spec import RunSpec
from udcd_bench.training.ensemble import Ensemble
from udcd_bench.training.network import Features, Network, build_network
from udcd_bench.training.weight_files import read_tensors
from udcd_bench.training.weights import COUNTER, hash_tensors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from udcd_bench.engines.steps import RunSetup
    from udcd_bench.runs.inputs import RunInputs
    from udcd_bench.runs.planner import CommandPlaces
    from udcd_bench.runs.store import Store

CHECK_SIZE = 64
"""Side of the images that a file's network is tried with before a run; each run tries its own."""


class PredictingNetwork(Network):
    """The network of a method that is tested otherwise than by its student alone, such as with another classifier."""

    def __init__(self, method: BaseMethod) -> None:
        nn.Module.__init__(self)
        student = method.student
        self.backbone, self.neck, self.classifier = student.backbone, student.neck, student.classifier
        self.width, self.autocast = student.width, student.autocast
        self.level_widths, self.compiled_batch_size = (), 0
        self.method = method

    def collect_levels(self) -> None:
        """Let every pass from now on fill ``Features.levels``, see ``Network.collect_levels``."""
        self.method.student.collect_levels()
        self.level_widths = self.method.student.level_widths

    def forward(self, images: Tensor) -> Features:
        """Compute the features of images (B, 3, H, W) as they were tested."""
        return self.method.predict(images)


def load_teacher(inputs: RunInputs, setup: RunSetup, store: Store, places: CommandPlaces) -> Network | None:
    """Load the trained network that teaches a run, or several as one; None where none does.

    Their order is that of keys and digests, since a mean of three depends on it in its last bits.
    """
    spec = setup.spec
    files = inputs.teacher_files
    if inputs.teacher_file:
        files = ((inputs.teacher_file, spec.teacher_backbone or spec.backbone),)
    refuse_same(store, inputs.list_teacher_keys(), [digest for digest, _ in files])
    paths = {names.parse_name(t).digest: places.locate_weights(t) for t in names.split_teachers(spec.teacher)}
    teachers = [load_run(store, key, setup) for key in inputs.list_teacher_keys()]
    teachers += [
        load_file(paths[digest[: names.DIGEST_DIGITS]], backbone, setup) for digest, backbone in files
    ]
    return Ensemble(teachers) if len(teachers) > 1 else next(iter(teachers), None)


def load_run(store: Store, key: str, setup: RunSetup) -> Network:
    """Load the network of a finished run as another run's teacher.

    Raises UserError for a run packed without its weights.
    """
    spec = RunSpec.from_dict(store.read_record(key)["spec"])
    weights = store.read_weights(key)
    if has_own_prediction(spec.method):
        return PredictingNetwork(load_student(store, key, setup.device).method)
    network = _build(setup, spec.backbone)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return network


def load_file(path: str, backbone: str, setup: RunSetup) -> Network:
    """Load a file's network as a run's teacher. Raises UserError when its tensors are another network's."""
    network = _build(setup, backbone)
    network.load_state_dict(_select_tensors(network.state_dict(), path))
    return network


def check_file(path: str, backbone: str, classes: int) -> None:
    """Raise UserError when a file does not hold the whole network of this backbone and so many classes."""
    with torch.random.fork_rng(devices=[]):
        network = build_network(backbone, classes, weights="none", image_size=CHECK_SIZE)
    _select_tensors(network.state_dict(), path)


def hash_file(path: str) -> str:
    """Hash the tensors of a file, by name, shape and value; once, until the file changes."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"--teacher {path}: there is no such file; give a row, a run or a file of weights.")
    state = file.stat()
    return _hash_file(file, state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)


def refuse_same(store: Store, keys: Iterable[str], digests: Collection[str]) -> None:
    """Raise UserError when a file, given by the digest of its tensors, holds a run's network: it would count twice."""
    for key in keys if digests else ():
        if (
            hash_tensors({name: torch.from_numpy(a) for name, a in store.read_weights(key).items()})
            in digests
        ):
            raise UserError(
                f"Two teachers are one network, run {key} and a file of it; name each teacher once."
            )


@cache
def _hash_file(file: Path, *_identity: int) -> str:
    return hash_tensors(read_tensors(file))


def _build(setup: RunSetup, backbone: str) -> Network:
    size, classes = setup.protocol.image_size, len(setup.dataset.classes)
    return build_network(backbone, classes, weights="none", image_size=size, autocast=setup.autocast)


def has_own_prediction(method: str) -> bool:
    """Tell whether a method is tested otherwise than by its student alone.

    Raises UserError for a method that is in no suite here, of which nobody knows.
    """
    method_class: type[BaseMethod] = plugins.load_class("methods", method)
    return method_class.predict is not BaseMethod.predict


def _select_tensors(own: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """Select a network's tensors from a file. own: the network's, by name."""
    stored = read_tensors(Path(path).expanduser())
    odd = [name for name, tensor in own.items() if not _fits(name, tensor, stored)] + sorted(
        stored.keys() - own
    )
    if odd:
        name = odd[0]
        state = "is missing" if name not in stored else f"is of {tuple(stored[name].shape)}"
        if name in own:
            state += f", not {tuple(own[name].shape)}" if name in stored else ""
        else:
            state = "is none of its tensors"
        raise UserError(
            f"--teacher {path} does not hold a network of this backbone, neck and classifier ({name} {state}); give "
            "its --teacher-backbone, or a file that `udcd-bench export` has written of a run on the same classes."
        )
    if bad := [name for name in own if name in stored and not torch.isfinite(stored[name].float()).all()]:
        raise UserError(f"--teacher {path} holds NaN or infinity in {bad[0]}; give weights that are finite.")
    return {name: stored.get(name, tensor) for name, tensor in own.items()}


def _fits(name: str, tensor: Tensor, stored: Mapping[str, Tensor]) -> bool:
    other = stored.get(name)
    return name.endswith(COUNTER) if other is None else other.shape == tensor.shape
