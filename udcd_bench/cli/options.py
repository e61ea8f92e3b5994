"""Command-line options that several commands share; each has its ``UDCD_BENCH_…`` environment variable."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from udcd_bench.runs.spec import Overrides

PATH_TYPE = click.Path(path_type=Path)


def make_option(*names: str, **attrs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a click option that its ``UDCD_BENCH_…`` variable sets too."""
    long = next(name for name in names if name.startswith("--"))
    attrs.setdefault("envvar", f"UDCD_BENCH_{long[2:].upper().replace('-', '_')}")
    return click.option(*names, **attrs)


def add_options(options: list[Callable[..., Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds these options to a command, in this order."""
    return lambda command: functools.reduce(lambda wrapped, add: add(wrapped), reversed(options), command)


# --- parsing of values --------------------------------------------------------------------------------------------


def parse_names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Parse ``a, b`` into its words; None stays None."""
    if value is None:
        return None
    names = tuple(word.strip() for word in value.split(",") if word.strip())
    if not names:
        raise click.BadParameter("give one name or more, with commas between them.")
    return names


def parse_folds(_: click.Context, __: click.Parameter, value: str) -> tuple[int, ...]:
    """Parse ``0,1,2`` or ``all`` into fold numbers, sorted, each once."""
    if value == "all":
        return tuple(range(5))
    try:
        folds = tuple(sorted({int(word) for word in value.split(",")}))
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: give fold numbers such as 0 or 0,1,2, or all.") from error
    if not set(folds) <= set(range(5)):
        raise click.BadParameter(f"{value!r}: folds are 0 to 4.")
    return folds


def check_rho(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Check that an imbalance is finite and at least 1."""
    if value is not None and not 1 <= value < math.inf:
        raise click.BadParameter(f"rho is {value:g}; it is largest / smallest class, so give 1 or more.")
    return value


def parse_overrides(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> Overrides:
    """Parse ``name=value`` pairs; of two for one name the last counts."""
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r}: give name=value.")
        pairs[key.strip()] = value.strip()
    return tuple(pairs.items())


def get_split(params: Mapping[str, Any]) -> str:
    """Name the split that ``--split`` and ``--test`` choose together."""
    from udcd_bench.runs.spec import name_split

    if params["split"] == "both" and params["test_part"] == "val":
        raise UserError("--split both compares test images: leave out --test val, or choose one split.")
    return name_split(params["split"], params["test_part"])


# --- options --------------------------------------------------------------------------------------------------

profile = make_option("--profile", default="demo", show_default=True, help="demo, quick or paper.")
methods = make_option("--methods", callback=parse_names, help="Only these rows, such as scratch,udcd.")
datasets = make_option(
    "--datasets", callback=parse_names, help="Instead of the profile's, such as digits,folder:PATH."
)
backbone = make_option("--backbone", help="A timm name.  [default: the profile's]")
teacher_backbone = make_option(
    "--teacher-backbone", default="", help="Of a trained teacher.  [default: the student's]"
)
settings = make_option(
    "--set",
    "settings",
    multiple=True,
    callback=parse_overrides,
    metavar="NAME=VALUE",
    help="Override a method's hyper-parameter or a number of the protocol.",
)
data = make_option(
    "--data", type=PATH_TYPE, default=Path("data"), show_default=True, help="Folder of prepared data."
)
out = make_option("--out", type=PATH_TYPE, default=Path("results"), show_default=True, help="Results folder.")

test_part = make_option(
    "--test", "test_part", default="test", show_default=True, type=click.Choice(["test", "val"]),
    help="The part of a data set's own split that tests; tables say so where it is val.",
)  # fmt: skip

# --- groups of options ----------------------------------------------------------------------------------------

RUN_OPTIONS = [
    profile, backbone, teacher_backbone, settings, data, out,
    make_option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    make_option("--deterministic", is_flag=True, help="The same figures again on a GPU too, more slowly."),
    make_option(
        "--jobs", type=click.IntRange(1),
        help="Runs at a time, on each GPU.  [default: one; without a GPU, by cores]",
    ),
    make_option(
        "--engine", default="local", show_default=True, type=click.Choice(["local", "ray"]),
        help="This machine, or a Ray cluster, where --jobs counts on each GPU.",
    ),
    make_option("--address", default="", help="Of a running Ray cluster, such as auto.  [default: a new one, here]"),
    make_option("--dry-run", is_flag=True, help="Say what would run, why, and how long it takes."),
    make_option("--rates", type=PATH_TYPE, help="What bench --json has measured, for that estimate."),
    make_option(
        "--format", "form", default="text", show_default=True, type=click.Choice(["text", "commands"]),
        help="Of --dry-run: for people, or a shell line for each missing run, teachers first.",
    ),
]  # fmt: skip
"""Of commands that train."""

GRID_OPTIONS = [
    make_option(
        "--split", default="paper", show_default=True, type=click.Choice(["paper", "grouped", "both"]),
        help="By image, or by lesion; both says what the leak is worth.",
    ),
    test_part,
    methods, datasets,
    make_option("--folds", default="0", show_default=True, callback=parse_folds, help="Such as 0,1,2, or all."),
    make_option("--seeds", default=1, show_default=True, type=click.IntRange(1, 1000), help="How many, from seed 0."),
]  # fmt: skip
"""Of commands that make tables or figures."""


@dataclass(frozen=True)
class RunOptions:
    """The values of ``RUN_OPTIONS``."""

    profile: str
    backbone: str | None
    teacher_backbone: str
    settings: Overrides
    data: Path
    out: Path
    device: str
    deterministic: bool
    jobs: int | None
    engine: str
    address: str
    dry_run: bool
    rates: Path | None
    form: str

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> RunOptions:
        """Take these options out of all parameters of a command."""
        return cls(**{field.name: params[field.name] for field in fields(cls)})
