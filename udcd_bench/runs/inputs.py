"""``RunInputs``: the list of what goes into a run's key, which is everything that made the run and nothing else.

Outside are: how a path is written, where the data, the weights and the results lie, what own images and files are
called, the order of options, defaults given as options, the profile's name, and the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from udcd_bench.errors import RunError, UserError
from udcd_bench.runs import spec
from udcd_bench.runs.spec import Scalar


@dataclass(frozen=True)
class RunInputs:
    """Everything that decides a run's figures, beside ``REVISION``: the engine's own code.

    Attributes
    ----------
    method: the method's name.
    sources: its file and the files of its suite that it imports → SHA-256.
    hparams: its hyper-parameters, all of them.
    protocol: the numbers of training, as ``select_numbers`` returns them.
    backbone: the student's.
    teacher_backbone: of a method with a teacher of its own training or its own making; else empty, and with several
    teachers, each of which has its own.
    weights: digest of the tensors that the student's backbone begins with; ``none`` if they are drawn.
    teacher_weights: the same of a teacher of the method's own making; else empty.
    teacher_key: of the run whose student is the only teacher; else empty.
    teacher_file: digest of the tensors of the file that is the only teacher; else empty.
    data: fingerprint of the prepared images, their ids, labels, groups and classes.
    data_identity: the name or the content by which the data seed every draw.
    ordered: whether the classes are grades, which decides how kappa is weighted.
    split, fold, seed, fraction, rho: the coordinates that choose images and seed draws.
    split_hash: of the ids that train and those that test.
    teacher_keys: of several teachers, the keys of those that are runs' students, sorted.
    teacher_files: of several teachers, (digest, backbone) of those that are files, sorted.

    A field that is added once runs are stored has a default, with which it is left out, so that their keys stand.
    """

    method: str
    sources: Mapping[str, str]
    hparams: Mapping[str, Scalar]
    protocol: Mapping[str, Scalar]
    backbone: str
    teacher_backbone: str
    weights: str
    teacher_weights: str
    teacher_key: str
    data: str
    data_identity: str
    ordered: bool
    split: str
    fold: int
    seed: int
    fraction: float
    rho: float | None
    split_hash: str
    teacher_file: str = ""
    teacher_keys: tuple[str, ...] = ()
    teacher_files: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, without those that have their default."""
        defaults = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        return {name: v for name, v in asdict(self).items() if name not in defaults or v != defaults[name]}

    def list_teacher_keys(self) -> tuple[str, ...]:
        """List the keys of the runs whose students teach this one."""
        return (self.teacher_key,) if self.teacher_key else self.teacher_keys

    def add_teacher_keys(self, keys: Sequence[str], *, is_alone: bool) -> RunInputs:
        """Return the inputs with the keys of the runs that teach. is_alone: whether one teacher does, files counted.

        Raises UserError when two teachers are one run.
        """
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise UserError(f"Two teachers of {self.method} are one run, {twice[0]}; name each teacher once.")
        if is_alone:
            return replace(self, teacher_key="".join(keys))
        return replace(self, teacher_keys=tuple(sorted(keys)))

    def take_teacher_keys(self, planned: RunInputs) -> RunInputs:
        """Return the inputs with the keys of teachers that planning has found."""
        return replace(self, teacher_key=planned.teacher_key, teacher_keys=planned.teacher_keys)

    def compute_key(self) -> str:
        """Hash the inputs and the engine's revision: the name of the run's folder."""
        text = json.dumps([spec.REVISION, self.to_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def list_differences(self, other: RunInputs) -> list[str]:
        """List the names of the fields in which two runs differ."""
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]


COVERED_ELSEWHERE = ("weights", "n_images", "imbalance")
"""Numbers of the protocol whose effect a field above holds: the tensors, the images, the split."""
ADDED_LATER: Mapping[str, Scalar] = {"augment": "paper", "compile": False, "validation": "none"}
"""Number of the protocol that came once runs were stored → the value with which a run is as it was before."""


def select_numbers(protocol: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Select the numbers of a protocol, all of them by name, that a key holds."""
    return {
        name: value
        for name, value in protocol.items()
        if name not in COVERED_ELSEWHERE and not (name in ADDED_LATER and value == ADDED_LATER[name])
    }


def check_inputs(planned: RunInputs, current: RunInputs) -> None:
    """Raise RunError that names what has changed since the run was planned, if anything has."""
    current = current.take_teacher_keys(planned)
    if changed := current.list_differences(planned):
        parts = ", ".join(_INPUT_WORDS.get(name, name) for name in changed)
        raise RunError(f"{parts} changed while the run waited; start again.")


_INPUT_WORDS = {
    "sources": "the method's source",
    "weights": "the pretrained weights",
    "teacher_weights": "the teacher's pretrained weights",
    "teacher_file": "the teacher's file",
    "teacher_files": "a teacher's file",
    "data": "the images",
    "data_identity": "the identity of the images",
    "split_hash": "the split",
}
"""Field of ``RunInputs`` that can change while a run waits → what it is for people."""
