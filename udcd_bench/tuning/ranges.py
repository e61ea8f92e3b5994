"""What a search tries of a row: learning rate, weight decay, and what its method file declares as ``search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.errors import UserError
from udcd_bench.plugins import Between
from udcd_bench.runs import planner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from udcd_bench.runs.spec import RunSpec, Scalar

    Range = Between | Sequence[Scalar]

RATE_FACTOR = 4.0
"""S: the learning rate is tried from a quarter of the protocol's to four times it."""
WEIGHT_DECAY = Between(1e-6, 1e-3, log=True)
"""S: around both values that the released codes have, 1e-5 (R) and 5e-4 (O:CRCKD)."""
OWN_NUMBERS = ("learning_rate", "weight_decay", "ema")
"""Numbers of the protocol that a method may declare ranges of; all others are the same for every row of a search."""


def list_ranges(spec: RunSpec, fixed: Sequence[str] = ()) -> dict[str, Range]:
    """List what is tried of a run: name → range, the rate and the decay first.

    spec: of the row as it is. fixed: what the row's name or the user sets, which is not tried.
    Raises UserError for a declaration that names nothing or does not fit.
    """
    rate = planner.resolve_protocol(spec).learning_rate
    ranges: dict[str, Range] = {
        "learning_rate": Between(rate / RATE_FACTOR, RATE_FACTOR * rate, log=True),
        "weight_decay": WEIGHT_DECAY,
    }
    declared = plugins.read_attributes("methods", spec.method)
    for name, values in declared.get("search", {}).items():
        _check_declaration(spec.method, name, values, declared)
        ranges[name] = values
    return {name: values for name, values in ranges.items() if name not in fixed}


def _check_declaration(method: str, name: str, values: Range, declared: Mapping[str, Any]) -> None:
    where = f"{plugins.find_file('methods', method)}: search"
    hparams = declared.get("hparams", {})
    if name not in hparams and name not in OWN_NUMBERS:
        raise UserError(
            f"{where} names {name!r}, which is no hyper-parameter of the method; it has "
            f"{', '.join(hparams) or 'none'}, and of the protocol {', '.join(OWN_NUMBERS)} may be tried."
        )
    if isinstance(values, Between):
        if type(hparams.get(name, 0.0)) not in (int, float):
            raise UserError(
                f"{where} has a range of {name!r}, which is no number; give a list of its values."
            )
    elif not isinstance(values, list | tuple) or len(values) < 2:
        raise UserError(
            f"{where} has {values!r} for {name!r}; give between(low, high) or a list of two values or more."
        )


def format_range(values: Range) -> str:
    """Format a range for a caption."""
    if isinstance(values, Between):
        return f"{values.low:g} to {values.high:g}{', by logarithm' if values.log else ''}"
    return " | ".join(map(str, values))
