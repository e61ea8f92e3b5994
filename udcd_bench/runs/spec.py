"""The spec of one training run: its coordinates, its teacher's spec, its seeds, and its label."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from udcd_bench.runs import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REVISION = 6
"""Version of the engine, raised by every change that can move a number, so that older runs are not taken for new ones.

6: a key covers what made the run and nothing else (``runs.inputs``); the seeds of own images come from their content.
"""

TEACHER_METHOD = "scratch"
"""The row whose run of the same fold and seed is the teacher of the offline methods (O)."""

SPLITS = ("paper", "grouped", "paper-val", "grouped-val", "official")
"""Names of splits: by image or by group, tested on the test images or, where the name says so, on ``val``; and all of a
data set against its challenge's own test set."""
SPLIT_SETS = {"both": ("paper", "grouped"), "all": ("paper", "grouped", "official")}
"""What ``--split`` may say of several at once."""
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
    """Name the split of a kind, ``paper`` or ``grouped``, tested on ``test`` or on ``val``.

    kind: empty where it is left to the data, see ``resolve_split``.
    """
    return kind + _ON_VAL if test_part == "val" else kind


def parse_split(name: str) -> tuple[str, str]:
    """Parse the name of a split into its kind and the part that tests."""
    return (name.removesuffix(_ON_VAL), "val" if name.endswith(_ON_VAL) else "test")


def describe_split(name: str) -> str:
    """Describe a split for labels and captions: its kind, and that it is tested on val."""
    kind, test_part = parse_split(name)
    return f"{kind}, tested on val" if test_part == "val" else kind


def format_own_split(name: str, whose: str) -> str:
    """Format the name of a split that a data set brings. whose: ``own``, or ``official`` of published data."""
    kind, test_part = parse_split(name)
    words = [f"{whose} split", *(["grouped"] if kind == "grouped" else [])]
    return ", ".join([*words, *(["tested on val"] if test_part == "val" else [])])


def resolve_split(name: str, default: str) -> str:
    """Resolve the name of a split whose kind was left open, as ``name_split`` makes it of ``""``."""
    kind, test_part = parse_split(name)
    return name if kind else name_split(default, test_part)


def format_split_options(name: str, datasets: Iterable[str] = ()) -> list[str]:
    """Format a split as words of a command; none for the default, which of own images depends on what they are."""
    kind, test_part = parse_split(name)
    is_said = kind != "paper" or any(dataset.startswith(names.FOLDER) for dataset in datasets)
    words = ["--split", kind] if is_said else []
    return words + (["--test", test_part] if test_part != "test" else [])


@dataclass(frozen=True, eq=False)
class RunSpec:
    """The coordinates of one training run. Specs are equal when they differ only in what data or weights are called.

    dataset: a source's name; own images are named by ``names.format_data_name``, and a file of weights among the
    protocol's overrides by ``names.format_file_name``.
    hparams: overrides of what is the run's own: its method's hyper-parameters, and numbers of the protocol that its
    teacher does not share. protocol: overrides of the profile's numbers, which its teacher shares.
    teacher_backbone: empty means the student's. teacher: a row, ``run:KEY`` or a file's name, or several of these, as
    of ``runs.names``; empty means what the method declares. fraction: of the training images, in (0, 1].
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
    teacher: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hparams", tuple(sorted(tuple(pair) for pair in self.hparams)))
        object.__setattr__(self, "protocol", tuple(sorted(tuple(pair) for pair in self.protocol)))
        for name in ("fraction", "rho"):  # 1 and 1.0 are one fraction, and would be two texts
            if type(getattr(self, name)) is int:
                object.__setattr__(self, name, float(getattr(self, name)))
        if self.teacher_backbone == self.backbone:
            object.__setattr__(self, "teacher_backbone", "")

    @cached_property
    def _identity(self) -> tuple[object, ...]:
        protocol = tuple((key, identify_value(key, value)) for key, value in self.protocol)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        identities = {
            "dataset": self.data_identity,
            "protocol": protocol,
            "teacher": names.identify_teacher(self.teacher),
        }
        return tuple((values | identities).values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunSpec) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def data_identity(self) -> str:
        """What the data set is, whatever it is called: from it come the seeds."""
        return names.identify_data(self.dataset)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, without the teacher where none is given: earlier specs have none."""
        return {name: value for name, value in asdict(self).items() if value or name != "teacher"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunSpec:
        """Make a spec from what ``to_dict`` returned. Raises ValueError when a field is unknown, missing or invalid."""
        check_spec_values(values)
        return cls(**values)

    def build_teacher_spec(self, row: str = TEACHER_METHOD) -> RunSpec:
        """Return the spec of the row's run whose network is the teacher of an offline method at these coordinates."""
        return replace(
            self,
            method=row,
            teacher="",
            backbone=self.teacher_backbone or self.backbone,
            teacher_backbone="",
            hparams=(),
        )

    def derive_seed_for(self, purpose: str) -> int:
        """Derive the seed of one kind of draw: the same for every method, so that methods are compared in pairs.

        The part that tests changes nothing in training, so it is not in it.
        """
        return derive_seed(purpose, self.data_identity, parse_split(self.split)[0], self.fold, self.seed)

    def format_label(self) -> str:
        """Format a short name for people: method, data set, and what differs from the defaults."""
        parts = [self.method, names.format_data_title(self.dataset), self.backbone]
        parts += format_teacher(self.teacher, self.teacher_backbone)
        if self.rho is not None:
            parts.append(f"rho={self.rho:g}")
        if self.fraction != 1:
            parts.append(f"{100 * self.fraction:g}%")
        if self.split != "paper":
            parts.append(describe_split(self.split).removeprefix("paper, "))
        parts.append(f"fold {self.fold}")
        if self.seed:
            parts.append(f"seed {self.seed}")
        return " ".join([*parts, *format_overrides((*self.hparams, *self.protocol))])


def format_overrides(overrides: Overrides) -> list[str]:
    """Format overrides as ``name=value``; a file of weights without its folder."""
    return [f"{key}={names.format_file_title(str(v)) if key == 'weights' else v}" for key, v in overrides]


def format_teacher(teacher: str, backbone: str) -> list[str]:
    """Format whose teacher it is and of which backbone, as at most one text; none for the usual teacher."""
    words = [names.format_teacher_title(teacher)] if teacher else []
    words += [backbone] if backbone else []
    noun = "teachers" if len(names.split_teachers(teacher)) > 1 else "teacher"
    return [f"{noun} {' '.join(words)}"] if words else []


def identify_value(key: str, value: Scalar) -> Scalar:
    """Return the value of an override without what a file of weights is called."""
    return names.identify_file(str(value)) if key == "weights" else value


def check_spec_values(values: Mapping[str, Any]) -> None:
    """Check values read from a file. Raises ValueError when they are not those of a run spec."""
    if unknown := values.keys() - RunSpec.__dataclass_fields__.keys():
        raise ValueError(f"a run spec has no {', '.join(sorted(map(str, unknown)))}")
    try:
        msgspec.convert(values, RunSpec)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a run spec: {error}") from error
