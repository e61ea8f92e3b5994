"""The spec of one training run: its coordinates, its key, its teacher's spec, its seeds, and its label."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

REVISION = 5
"""Version of the engine, raised by every change that can move a number, so that older runs are not taken for new ones.

5: the method contract got new names, which changes the hash of every method's source; no number has moved.
"""

TEACHER_METHOD = "scratch"
"""The row whose run of the same fold and seed is the teacher of the offline methods (O)."""

SPLITS = ("paper", "grouped", "paper-val", "grouped-val")
"""Names of splits: by image or by group, tested on the test images or, where the name says so, on ``val``."""
_ON_VAL = "-val"

Scalar = bool | int | float | str
Overrides = tuple[tuple[str, Scalar], ...]
"""(name, value) pairs."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
FiniteNumber = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]


def derive_seed(*coordinates: object) -> int:
    """Derive a 63-bit seed from the names and values it depends on, the same on every machine."""
    text = json.dumps([str(c) for c in coordinates])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def name_split(kind: str, test_part: str) -> str:
    """Name the split of a kind, ``paper`` or ``grouped``, tested on ``test`` or on ``val``."""
    return kind + _ON_VAL if test_part == "val" else kind


def parse_split(name: str) -> tuple[str, str]:
    """Parse the name of a split into its kind and the part that tests."""
    return (name.removesuffix(_ON_VAL), "val" if name.endswith(_ON_VAL) else "test")


def describe_split(name: str) -> str:
    """Describe a split for labels and captions: its kind, and that it is tested on val."""
    kind, test_part = parse_split(name)
    return f"{kind}, tested on val" if test_part == "val" else kind


def format_split_options(name: str) -> list[str]:
    """Format a split as words of a command; none for the default."""
    kind, test_part = parse_split(name)
    words = ["--split", kind] if kind != "paper" else []
    return words + (["--test", test_part] if test_part != "test" else [])


@dataclass(frozen=True)
class RunSpec:
    """The coordinates of one training run.

    hparams: overrides of the method's own hyper-parameters. protocol: overrides of the profile's numbers.
    teacher_backbone: empty means the student's. fraction: of the training images, in (0, 1].
    rho: the largest class over the smallest; None leaves the data's own imbalance. split: one of ``SPLITS``.
    """

    method: str
    dataset: str
    profile: str
    backbone: str
    teacher_backbone: str = ""
    split: str = "paper"
    fold: Count = 0
    seed: Count = 0
    fraction: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    rho: FiniteNumber | None = None
    hparams: Overrides = ()
    protocol: Overrides = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "hparams", tuple(sorted(tuple(pair) for pair in self.hparams)))
        object.__setattr__(self, "protocol", tuple(sorted(tuple(pair) for pair in self.protocol)))
        if self.teacher_backbone == self.backbone:
            object.__setattr__(self, "teacher_backbone", "")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSpec:
        """Make a spec from what ``to_dict`` returned. Raises ValueError when a field is unknown, missing or invalid."""
        check_spec_values(values)
        return cls(**values)

    def compute_key(self, run_inputs: Mapping[str, Any]) -> str:
        """Hash this spec and the inputs of its run (sources, data, protocol): the name of the run's folder."""
        text = json.dumps([REVISION, self.to_dict(), run_inputs], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def build_teacher_spec(self) -> RunSpec:
        """Return the spec of the run whose network is the teacher of an offline method at these coordinates."""
        return replace(
            self,
            method=TEACHER_METHOD,
            backbone=self.teacher_backbone or self.backbone,
            teacher_backbone="",
            hparams=(),
        )

    def derive_seed_for(self, purpose: str) -> int:
        """Derive the seed of one kind of draw: the same for every method, so that methods are compared in pairs.

        The part that tests changes nothing in training, so it is not in it.
        """
        return derive_seed(purpose, self.dataset, parse_split(self.split)[0], self.fold, self.seed)

    def format_label(self) -> str:
        """Format a short name for people: method, data set, and what differs from the defaults."""
        parts = [self.method, self.dataset, self.backbone]
        parts += [f"teacher {self.teacher_backbone}"] if self.teacher_backbone else []
        if self.rho is not None:
            parts.append(f"rho={self.rho:g}")
        if self.fraction != 1:
            parts.append(f"{self.fraction:.0%}")
        if self.split != "paper":
            parts.append(describe_split(self.split).removeprefix("paper, "))
        parts.append(f"fold {self.fold}")
        if self.seed:
            parts.append(f"seed {self.seed}")
        parts += [f"{key}={value}" for key, value in (*self.hparams, *self.protocol)]
        return " ".join(parts)


def check_spec_values(values: Mapping[str, Any]) -> None:
    """Check values read from a file. Raises ValueError when they are not those of a run spec."""
    if unknown := values.keys() - RunSpec.__dataclass_fields__.keys():
        raise ValueError(f"a run spec has no {', '.join(sorted(map(str, unknown)))}")
    try:
        msgspec.convert(values, RunSpec)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a run spec: {error}") from error
