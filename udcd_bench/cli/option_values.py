"""What is typed behind an option, read: names, folds, shares, settings, the split, how own images are read."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from udcd_bench.errors import UserError, quote_name
from udcd_bench.storage.file_names import decode_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from udcd_bench.data.cache.options import PrepareOptions
    from udcd_bench.runs.spec import Overrides


class Names(click.types.StringParamType):
    """Text with names between commas; its environment variable holds one such text, spaces and all."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """Return the text as it is."""
        return [rv]


def decode_text(_: click.Context, __: click.Parameter, value: str) -> str:
    """Decode a method's name as it was typed: the names of files are UTF-8 whatever the locale."""
    return decode_name(value)


def parse_methods(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    """Parse names of rows; a method's is its file's, which is UTF-8 whatever the locale."""
    parsed = parse_names(context, parameter, values)
    return None if parsed is None else tuple(map(decode_name, parsed))


def parse_names(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...] | None:
    """Parse each ``a, "b, c"`` into its names; None when the option is not given."""
    if not values:
        return None
    names = [_split_names(value) for value in values]
    if not all(names):
        raise click.BadParameter("give one name or more, with commas between them.")
    return tuple(name for some in names for name in some)


def _split_names(text: str) -> list[str]:
    """Split at commas outside double quotes; within them two quotes are one that belongs to the name."""
    parts = re.findall(r'"(?:[^"]|"")*"|[^",]+|[",]', text)
    if '"' in parts:
        raise click.BadParameter(f'{text}: a quote is not closed; in a name with a quote, write "" for each.')
    names = [""]
    for part in parts:
        if part == ",":
            names.append("")
        else:
            names[-1] += part[1:-1].replace('""', '"') if part.startswith('"') else part
    return [name.strip() for name in names if name.strip()]


def parse_datasets(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Parse names of data sets; say how to quote a path that has a comma in it."""
    names = parse_names(context, parameter, values)
    for text in values:
        words = text.split(",")
        for first, last in itertools.combinations(range(len(words) + 1), 2):
            name = ",".join(words[first:last]).strip()
            if last > first + 1 and '"' not in text and is_existing_folder(name):
                quoted = shlex.quote(",".join([*words[:first], quote_name(name), *words[last:]]))
                raise click.BadParameter(
                    f"{name} has a comma in its path: give it in quotes, as in --datasets {quoted}."
                )
    return names


def is_existing_folder(name: str) -> bool:
    """Tell whether the name of a data set is ``folder:`` and a path that exists."""
    from udcd_bench.runs.names import parse_place

    with contextlib.suppress(OSError, RuntimeError, ValueError):
        return name.startswith("folder:") and Path(parse_place(name).path).expanduser().exists()
    return False


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


def check_fraction(_: click.Context, __: click.Parameter, value: float) -> float:
    """Check that a fraction is in (0, 1]; NaN passes click's own check of a range."""
    if not 0 < value <= 1:
        raise click.BadParameter(f"the fraction is {value:g}; give more than 0, and 1 at most.")
    return value


def check_file_name(_: click.Context, __: click.Parameter, value: str) -> str:
    """Check the name that files are to have: one that every system and LaTeX can hold."""
    if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.=-]*", value):
        raise click.BadParameter(f"{value!r}: give letters, digits, and - _ . = between them.")
    return value


class Settings(click.types.StringParamType):
    """``name=value``; its environment variable holds several, and a value may have spaces in it."""

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split at spaces that a name follows."""
        return re.split(r"\s+(?=[\w.*-]+\s*=)", rv.strip())


def parse_overrides(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Overrides:
    """Parse ``name=value`` pairs; of two for one name the last counts.

    Those of the environment variable count beside typed ones, which win name by name; ``--validation`` is one more.
    """
    source = context.get_parameter_source(parameter.name or "") if context else None
    typed = values if source is ParameterSource.COMMANDLINE else ()
    stored = values if not typed else parameter.value_from_envvar(context) or ()
    pairs = _split_pairs((*stored, *typed))
    if context and (validation := context.meta.get(VALIDATION)):
        is_typed = context.get_parameter_source("validation") is ParameterSource.COMMANDLINE
        winning = _split_pairs(typed) if is_typed else pairs
        pairs["validation"] = winning.get("validation", validation)
    return tuple(pairs.items())


def _split_pairs(texts: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise click.BadParameter(f"{text!r}: give name=value.")
        if not all(part.strip() for part in key.split(".")):
            raise click.BadParameter(
                f"{text!r}: a name is missing before the =; give name=value or row.name=value."
            )
        if not value:
            raise click.BadParameter(f"{text!r}: the value is missing; give {key}=VALUE, or leave it out.")
        pairs[key] = value
    return pairs


VALIDATION = f"{__name__}.validation"
"""Under which a command's context holds the value of ``--validation``."""


def note_validation(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Note the value of ``--validation`` for ``parse_overrides``, since ``--set validation=`` is the same.

    0.2 and .20 are one share, and one name of a file.
    """
    from udcd_bench.runs.profiles import Protocol

    context.meta[VALIDATION] = Protocol.parse_value("validation", value) if value else value
    return value


def get_split(params: Mapping[str, Any]) -> str:
    """Name the split that ``--split`` and ``--test`` choose; without ``--split`` its kind is left to the data."""
    from udcd_bench.runs.spec import SPLIT_SETS, name_split

    if params["split"] in (*SPLIT_SETS, "official") and params["test_part"] == "val":
        raise UserError(
            f"--split {params['split']} says which images test: leave out --test val, or choose another split."
        )
    return name_split(params["split"] or "", params["test_part"])


def make_reading(params: Mapping[str, Any], datasets: Iterable[str]) -> PrepareOptions:
    """Make what is said of how own images are read. Raises UserError where no data set is of own images."""
    from udcd_bench.data.cache.options import PrepareOptions

    names = ("group_column", "exif", "resize")
    given = [name for name in names if params[name] is not None]
    if given and not any(dataset.startswith("folder:") for dataset in datasets):
        option = given[0].replace("_", "-")
        raise UserError(
            f"--{option} is for images of your own, folder:PATH, and there are none; leave it out."
        )
    return PrepareOptions(**{name: params[name] for name in names})
