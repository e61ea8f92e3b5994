"""What one training run is, as data: a frozen spec, its key, its teacher's spec, and its seeds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

REVISION = 5
"""Version of the engine, raised by every change that can move a number, so that older runs are not taken for new ones.

5: the method contract got new names, which changes the hash of every method's source; no number has moved.
"""

TEACHER_METHOD = "scratch"
"""The row whose run of the same fold and seed is the teacher of the offline methods (O)."""

Scalar = bool | int | float | str
Overrides = tuple[tuple[str, Scalar], ...]


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast(float, value))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_text(value: object) -> bool:
    return type(value) is str


def _is_overrides(value: object) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(pair, Sequence) and len(pair) == 2 and _is_text(pair[0]) and isinstance(pair[1], Scalar)
        for pair in value
    )


_FIELD_CHECKS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("method", "dataset", "profile", "backbone", "teacher_backbone", "split"), _is_text),
    **dict.fromkeys(("fold", "seed"), _is_count),
    "fraction": lambda value: _is_number(value) and 0 < cast(float, value) <= 1,
    "rho": lambda value: value is None or _is_number(value),
    **dict.fromkeys(("hparams", "protocol"), _is_overrides),
}
"""What each field of a spec that is read from a file must be."""


def check_spec_values(values: Mapping[str, Any]) -> None:
    """Raises ValueError where these are not a spec's values."""
    if unknown := values.keys() - _FIELD_CHECKS.keys():
        raise ValueError(f"a run spec has no {', '.join(sorted(map(str, unknown)))}")
    for name, value in values.items():
        if not _FIELD_CHECKS[name](value):
            raise ValueError(f"{name} of a run spec is not {value!r:.100}")
    if missing := [name for name in ("method", "dataset", "profile", "backbone") if name not in values]:
        raise ValueError(f"a run spec has a {missing[0]}")


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
        """Read what ``to_dict`` wrote. Raises ValueError or TypeError for what it did not."""
        check_spec_values(values)
        return cls(**values)

    def compute_key(self, run_inputs: Mapping[str, Any]) -> str:
        """Hash of this spec and of what the run is made of (sources, data, protocol): its folder's name."""
        text = json.dumps([REVISION, self.to_dict(), run_inputs], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def build_teacher_spec(self) -> RunSpec:
        """The run whose network is the teacher of an offline method: one for all that share these coordinates."""
        return replace(
            self,
            method=TEACHER_METHOD,
            backbone=self.teacher_backbone or self.backbone,
            teacher_backbone="",
            hparams=(),
        )

    def derive_seed_for(self, purpose: str) -> int:
        """The seed of one kind of draw. It leaves the method out, so that methods are compared in pairs."""
        return derive_seed(purpose, self.dataset, self.split, self.fold, self.seed)

    def format_label(self) -> str:
        """A short name for people: method, dataset, and what differs from the ordinary."""
        parts = [self.method, self.dataset, self.backbone]
        parts += [f"teacher {self.teacher_backbone}"] if self.teacher_backbone else []
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
