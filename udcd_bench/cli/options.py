"""Command-line options that several commands share; each has its ``UDCD_BENCH_…`` environment variable."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from udcd_bench.cli.option_values import (
    Names,
    Settings,
    check_file_name,
    note_validation,
    parse_datasets,
    parse_folds,
    parse_methods,
    parse_overrides,
)
from udcd_bench.errors import quote_command, quote_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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


profile = make_option("--profile", default="demo", show_default=True, help="demo, lite, quick or paper.")
methods = make_option(
    "--methods", multiple=True, type=Names(), callback=parse_methods, metavar="NAMES",
    help="Only these rows, such as scratch,udcd.",
)  # fmt: skip
datasets = make_option(
    "--datasets", multiple=True, type=Names(), callback=parse_datasets, metavar="NAMES",
    help="Instead of the profile's, such as digits,folder:PATH; a PATH with a comma in double quotes.",
)  # fmt: skip
backbone = make_option("--backbone", help="A timm name.  [default: the profile's]")
teacher_backbone = make_option(
    "--teacher-backbone", default="", help="Of a trained teacher.  [default: the student's]"
)
teacher = make_option(
    "--teacher", default="", metavar="ROW|RUN|FILE",
    help="Of methods with a trained teacher: a row, whose run is made first; a stored run; a file that export wrote; "
    "or several with commas between, whose logits are averaged.  "
    "[default: the method's, mostly the Scratch run]",
)  # fmt: skip
settings = make_option(
    "--set",
    "settings",
    multiple=True,
    type=Settings(),
    callback=parse_overrides,
    metavar="NAME=VALUE",
    help="Override a method's hyper-parameter or a number of the protocol.",
)
validation = make_option(
    "--validation", is_eager=True, callback=note_validation, metavar="SHARE|own",
    help="Of the training fold, by group; or the data's own val. The same as --set validation=SHARE.",
)  # fmt: skip
rule = make_option(
    "--rule", default="mean", show_default=True, type=click.Choice(["mean", "last", "best", "best-validation"]),
    help="Which epochs are reported: the mean of the last ones, the last, the best on the test images, which is "
    "optimistic, or with --validation the best on those images.",
)  # fmt: skip
data = make_option(
    "--data", type=PATH_TYPE, default=Path("data"), show_default=True, help="Folder of prepared data."
)
out = make_option("--out", type=PATH_TYPE, default=Path("results"), show_default=True, help="Results folder.")

test_part = make_option(
    "--test", "test_part", default="test", show_default=True, type=click.Choice(["test", "val"]),
    help="The part of a data set's own split that tests; tables say so where it is val.",
)  # fmt: skip


def join_statuses(statuses: Iterable[int]) -> int:
    """Join the exit statuses of several splits: 1 where one fails, 2 where none could be judged, else 0."""
    several = set(statuses)
    return 1 if 1 in several else min(several)


# --- advice ---------------------------------------------------------------------------------------------------


def format_advice(name: str, *arguments: str, changed: Mapping[str, Any] | None = None) -> str:
    """Format a command to type instead of the present one, with all options that were typed and that it has too.

    changed: parameter → another value than the typed one; None leaves the option out.
    """
    changed = changed or {}
    context = click.get_current_context()
    group = context.find_root().command
    target = group.get_command(context, name) if isinstance(group, click.Group) else None
    known = {param.name for param in target.params} if target else set()
    words = [name, *arguments]
    for param in context.command.params:
        param_name = str(param.name)
        is_typed = context.get_parameter_source(param_name) is ParameterSource.COMMANDLINE
        value = changed.get(param_name, context.params[param_name] if is_typed else None)
        if isinstance(param, click.Option) and param_name in known and value is not None:
            words += _format_option(param, value)
    return quote_command(*words)


def _format_option(option: click.Option, value: Any) -> list[str]:
    """Format an option as it may be typed to give this value, which its callback has parsed."""
    long = next(name for name in option.opts if name.startswith("--"))
    if option.is_flag:
        return [long] if value else []
    if option.name == "settings":
        return [word for key, setting in value for word in (long, f"{key}={setting}")]
    if isinstance(value, tuple):
        return [long, ",".join(quote_name(str(each)) for each in value)]
    return [long, str(value)]


# --- groups of options ----------------------------------------------------------------------------------------

OWN_IMAGES = [
    make_option(
        "--group-column", metavar="NAME",
        help="Of your own CSV: images with one value stay on one side.  [default: patient_id, group or the like]",
    ),
    make_option(
        "--exif", type=click.Choice(["apply", "ignore"]),
        help="Turn your own images as their EXIF says.  [default: apply; published sets are as stored]",
    ),
    make_option(
        "--resize", type=click.Choice(["squash", "pad", "crop"]),
        help="What becomes of your own images' proportions.  [default: squash, as in the paper]",
    ),
]  # fmt: skip
"""Of commands that read images of one's own; what is said is remembered beside the prepared images."""

RUN_OPTIONS = [
    profile, backbone, teacher_backbone, teacher, settings, data, out,
    validation,
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
    make_option(
        "--log", default="", type=click.Choice(["", "csv", "tensorboard"]), show_choices=False,
        metavar="csv|tensorboard", help="Log the epochs of each run under way in OUT/logs.  [default: no log]",
    ),
    make_option("--dry-run", is_flag=True, help="Say what would run, why, and how long it takes."),
    make_option("--rates", type=PATH_TYPE, help="What bench --json has measured, for that estimate."),
    make_option(
        "--format", "form", default="text", show_default=True, type=click.Choice(["text", "commands"]),
        help="Of --dry-run: for people, or a shell line for each missing run, teachers first.",
    ),
    *OWN_IMAGES,
]  # fmt: skip
"""Of commands that train."""

GRID_OPTIONS = [
    make_option(
        "--split", type=click.Choice(["paper", "grouped", "both", "official", "all"]),
        help="By image, by group (patient, lesion), or the challenge's own test set; both, or all three, say what the "
        "leak is worth.  [default: paper; grouped where your own images have groups]",
    ),
    test_part,
    methods, datasets,
    rule,
    make_option("--stored", is_flag=True, help="Draw from what --out holds: train nothing, need no data."),
    make_option("--folds", default="0", show_default=True, callback=parse_folds, help="Such as 0,1,2, or all."),
    make_option("--seeds", default=1, show_default=True, type=click.IntRange(1, 1000), help="How many, from seed 0."),
]  # fmt: skip
"""Of commands that make tables or figures."""

name = make_option(
    "--name", default="", metavar="NAME", callback=check_file_name,
    help="Of the files.  [default: the table's or figure's, with what is asked for in place of all]",
)  # fmt: skip
"""Of commands that write a table or a figure."""

TABLE_LOOKS = [
    make_option(
        "--marks", default="tested", show_default=True, type=click.Choice(["tested", "largest"]),
        help="Bold is what cannot be told from the best, or the largest figure, with the second underlined.",
    ),
    make_option("--plain", is_flag=True, help="Leave out the ±, which stays in the CSV."),
]  # fmt: skip
bare = make_option(
    "--bare", is_flag=True, help="Leave out title and caption, in NAME-bare.png and NAME-bare.pdf."
)


@dataclass(frozen=True)
class RunOptions:
    """The values of ``RUN_OPTIONS``."""

    profile: str
    backbone: str | None
    teacher_backbone: str
    teacher: str
    settings: Overrides
    data: Path
    out: Path
    device: str
    deterministic: bool
    jobs: int | None
    engine: str
    address: str
    log: str
    dry_run: bool
    rates: Path | None
    form: str
    group_column: str | None
    exif: str | None
    resize: str | None

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> RunOptions:
        """Take these options out of all parameters of a command."""
        return cls(**{field.name: params[field.name] for field in fields(cls)})
