"""What ``--set`` says of rows: a value of one row or of all that have it, or several values, each a row of its own.

``temperature=2`` is of the one method that has it, ``kd.temperature=2`` of that row, ``*.temperature=2`` of every row
that has it. ``kd.learning_rate=1e-3`` changes a number of the protocol for the row alone: its teacher stays as it is.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench import plugins
from udcd_bench.errors import UserError, suggest_nearest
from udcd_bench.runs import profiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from udcd_bench.grid.cells import TableRow
    from udcd_bench.runs.spec import Overrides, Scalar

ALL = "*"


class RowSetting(NamedTuple):
    """One ``--set``: whose value, of what, and the values; row: empty where it is not said, or ``ALL``."""

    row: str
    name: str
    values: tuple[Scalar, ...]

    def concerns(self, row: TableRow) -> bool:
        """Tell whether this sets something of a row: its method has it, or it is a number of the protocol."""
        if not row.in_suite or self.row not in ("", ALL, row.name, row.method):
            return False
        is_number = bool(self.row) and self.name in profiles.Protocol.list_names()
        return is_number or self.name in _get_hparams(row)

    def format(self, row: str) -> str:
        """Format it as said of a row."""
        return f"{row}.{self.name}={','.join(map(str, self.values))}"


def parse_settings(settings: Overrides) -> list[RowSetting]:
    """Parse settings of rows, in the order in which they were given."""
    parsed = []
    for key, value in settings:
        row, _, name = key.rpartition(".")
        values = value.split(",") if isinstance(value, str) else (value,)
        parsed.append(RowSetting(row.strip(), name.strip(), tuple(values)))
    return parsed


def check_settings(settings: Overrides, rows: Sequence[TableRow]) -> None:
    """Check that each setting concerns a row, and one method alone unless it says so. Raises UserError."""
    for setting in parse_settings(settings):
        methods = list(dict.fromkeys(row.method for row in rows if setting.concerns(row)))
        if not methods:
            raise _make_unknown_error(setting, rows)
        if len(methods) > 1 and not setting.row:
            names = " and ".join([", ".join(methods[:-1]), methods[-1]])
            raise UserError(
                f"--set {setting.format('').removeprefix('.')} would change {names} at once; give "
                f"{setting.format(ALL)} for all of them, or one row's, such as {setting.format(methods[0])}."
            )


def select_settings(settings: Overrides, row: TableRow) -> Overrides:
    """Select what is set of a row; of several values each is a row of its own, whose name says it."""
    chosen = [each for each in parse_settings(settings) if each.concerns(row) and len(each.values) == 1]
    general_first = sorted(
        chosen, key=lambda each: each.row not in ("", ALL)
    )  # what is said of one row counts
    return tuple({each.name: each.values[0] for each in general_first}.items())


def expand_rows(settings: Overrides, rows: Iterable[TableRow]) -> list[TableRow]:
    """Replace rows of which several values are set by a row for each, ``kd:temperature=2``, in the order given.

    A value that is given twice, or that a row of the table has, makes no second row of one name.
    """
    expanded = []
    for row in rows:
        named = {name for name, _ in row.overrides}
        several = [
            [(each.name, value) for value in _drop_repeated(each.values)]
            for each in parse_settings(settings)
            if len(each.values) > 1 and each.concerns(row) and each.name not in named
        ]
        expanded += [_name_values(row, values) for values in itertools.product(*several)]
    return list({row.name: row for row in reversed(expanded)}.values())[::-1]


def _drop_repeated(values: Iterable[Scalar]) -> list[Scalar]:
    """Drop values that stand before; 2 and 2.0 are one."""
    first: dict[Scalar, Scalar] = {}
    for value in values:
        identity = value
        with contextlib.suppress(ValueError):
            identity = float(value)
        first.setdefault(identity, value)
    return list(first.values())


def name_setting(name: str, value: Scalar, method: str, rows: Iterable[TableRow]) -> tuple[str, Scalar]:
    """Name a run's own setting as a request of its table takes it: plainly, of all that have it, or of its row."""
    if name in profiles.Protocol.list_names():
        return f"{method}.{name}", value
    plain = RowSetting("", name, (value,))
    return (name if len({row.method for row in rows if plain.concerns(row)}) < 2 else f"{ALL}.{name}"), value


def _name_values(row: TableRow, values: Sequence[tuple[str, Scalar]]) -> TableRow:
    if not values:
        return row
    text = ",".join(f"{name}={str(value).strip()}" for name, value in values)
    title = ", ".join([row.title, *(f"{name} = {str(value).strip()}" for name, value in values)])
    return replace(row, name=f"{row.name}{',' if ':' in row.name else ':'}{text}", title=title)


def _get_hparams(row: TableRow) -> dict[str, Scalar]:
    hparams: dict[str, Scalar] = plugins.read_attributes("methods", row.method).get("hparams", {})
    return hparams


def _make_unknown_error(setting: RowSetting, rows: Sequence[TableRow]) -> UserError:
    """Make the error for a setting that concerns no row: there is no such row, or it has nothing of that name."""
    meant = [row for row in rows if setting.row in ("", ALL, row.name, row.method)]
    methods = list(dict.fromkeys(row.method for row in rows))
    if not meant:
        return UserError(
            f"--set {setting.row}.{setting.name} is of no row here{suggest_nearest(setting.row, methods)}"
        )
    known = [name for row in meant if row.in_suite for name in _get_hparams(row)]
    names = ", ".join(dict.fromkeys(row.method for row in meant))
    return UserError(
        f"No row ({names}) has a hyper-parameter {setting.name!r}{profiles.suggest_setting(setting.name, known)}"
    )
