"""What one training run is, as data: a frozen spec, its key, its teacher's spec, and its seeds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

REVISION = 2
"""Raised by every change of the engine that can move a number, so that older runs are not taken for new ones."""

TEACHER_METHOD = "scratch"
"""The row whose run of the same fold and seed is the teacher of the offline methods (O)."""

Scalar = bool | int | float | str
Overrides = tuple[tuple[str, Scalar], ...]


def derive_seed(*coordinates: object) -> int:
    """A 63-bit seed from the names and values it depends on, the same on every machine and in every process."""
    text = json.dumps([str(c) for c in coordinates])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class RunSpec:
    """One training run.

    hparams: overrides of the method's own hyper-parameters. protocol: overrides of the profile's numbers.
    teacher_backbone: empty means the student's. rho: None leaves the data's own imbalance.
    """

    method: str
    dataset: str
    profile: str
    backbone: str
    teacher_backbone: str = ""
    split: str = "paper"
    fold: int = 0
    seed: int = 0
    fraction: float = 1.0
    rho: float | None = None
    hparams: Overrides = ()
    protocol: Overrides = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "hparams", tuple(sorted(tuple(pair) for pair in self.hparams)))
        object.__setattr__(self, "protocol", tuple(sorted(tuple(pair) for pair in self.protocol)))
        if self.teacher_backbone == self.backbone:
            object.__setattr__(self, "teacher_backbone", "")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSpec:
        """Read what ``to_dict`` wrote."""
        known = {f.name for f in fields(cls)}
        if unknown := set(values) - known:
            raise ValueError(f"a run spec has no {', '.join(sorted(unknown))}")
        return cls(**values)

    def key(self, made_of: Mapping[str, Any]) -> str:
        """Hash of this spec and of what the run is made of (sources, data, protocol): its folder's name."""
        text = json.dumps([REVISION, self.to_dict(), made_of], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def teacher(self) -> RunSpec:
        """The run whose network is the teacher of an offline method: one for all that share these coordinates."""
        return replace(
            self,
            method=TEACHER_METHOD,
            backbone=self.teacher_backbone or self.backbone,
            teacher_backbone="",
            hparams=(),
        )

    def seed_for(self, what: str) -> int:
        """The seed of one kind of draw. It leaves the method out, so that methods are compared in pairs."""
        return derive_seed(what, self.dataset, self.split, self.fold, self.seed)

    def label(self) -> str:
        """A short name for people: method, dataset, and what differs from the ordinary."""
        parts = [self.method, self.dataset]
        if self.rho is not None:
            parts.append(f"rho={self.rho:g}")
        if self.fraction != 1:
            parts.append(f"{self.fraction:.0%}")
        if self.split != "paper":
            parts.append(self.split)
        parts.append(f"fold {self.fold}")
        if self.seed:
            parts.append(f"seed {self.seed}")
        parts += [f"{key}={value}" for key, value in (*self.hparams, *self.protocol)]
        return " ".join(parts)
