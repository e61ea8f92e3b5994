"""Published figures with their rounding intervals, grouped into table rows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from udcd_bench import plugins
from udcd_bench.paper import published
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from udcd_bench.paper.published import PublishedValue


ROUNDING_RULES: dict[str, Callable[[float], float]] = {
    "as it is": float,
    "rounded to the nearest": lambda value: float(np.floor(value + 0.5)),
    "cut": lambda value: float(np.floor(value)),
    "rounded up": lambda value: float(np.ceil(value)),
}
"""How a value becomes a whole number, by the rule's name; an infinite one stays so."""


@dataclass(frozen=True)
class RoundedValue:
    """One printed figure, percent, and its cell. half: half a unit of the last digit its column prints."""

    table: str
    dataset: str
    rho: float | None
    method: str
    metric: str
    percent: float
    mark: str = ""
    half: Fraction = field(default=Fraction(1, 200), repr=False)

    @cached_property
    def low(self) -> Fraction:
        """The least value that is printed so."""
        return max(Fraction(0), self.exact - self.half)

    @cached_property
    def exact(self) -> Fraction:
        """The figure as printed, in decimal."""
        return Fraction(str(self.percent))

    @cached_property
    def high(self) -> Fraction:
        """The greatest value that is printed so."""
        return min(Fraction(100), self.exact + self.half)

    def format_text(self) -> str:
        """Format the figure with the digits of its column."""
        return f"{self.percent:.{len(str(int(1 / (2 * self.half)))) - 1}f}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {key: value for key, value in asdict(self).items() if key != "half"}


RoundedRow = dict[str, RoundedValue]
"""A method's figures in one setting, by metric."""
RoundedTables = dict[str, list[RoundedRow]]


def group_into_rows(tables: Mapping[str, Sequence[PublishedValue]]) -> RoundedTables:
    """Group the figures of tables by name into rows, in the printed order.

    A column's digits are the most that a figure in it has; a column of nothing but trailing zeros seems printed
    with fewer, which makes its intervals wider and so hides errors rather than invents them.
    """
    rows: RoundedTables = {}
    for name, figures in tables.items():
        digits: dict[str, int] = defaultdict(int)
        for figure in figures:
            exponent = Decimal(str(figure.percent)).normalize().as_tuple().exponent
            digits[figure.metric] = max(digits[figure.metric], -int(exponent))
        table: dict[tuple[str, float | None, str], RoundedRow] = {}
        for f in figures:
            half = Fraction(1, 2 * 10 ** digits[f.metric])
            cell = RoundedValue(
                table=name,
                dataset=f.dataset,
                rho=f.rho,
                method=f.method,
                metric=f.metric,
                percent=f.percent,
                mark=f.marks,
                half=half,
            )
            table.setdefault((f.dataset, f.rho, f.method), {})[f.metric] = cell
        rows[name] = list(table.values())
    return rows


def load_published_tables() -> dict[str, tuple[PublishedValue, ...]]:
    """Load the figures of every table of the suite that has published ones."""
    files = {name: published.find_csv(name) for name in plugins.list_names("tables")}
    return {name: published.read_csv(file) for name, file in files.items() if file}


def find_own_rhos() -> dict[str, float]:
    """Find data set → the imbalance of all its images, where a table of the suite states the printed one."""
    rhos: dict[str, float] = {}
    for name in plugins.list_names("tables"):
        declared = plugins.read_attributes("tables", name)
        if declared.get("own_rho") is not None:
            rhos |= dict.fromkeys(declared["datasets"], float(declared["own_rho"]))
    return rhos


def get_metric_title(metric: str) -> str:
    """Return what tables print above a metric's column."""
    return METRICS[metric].title if metric in METRICS else metric


def format_location(cell: RoundedValue) -> str:
    """Format table, data set, imbalance and method of a figure, for people."""
    rho = "" if cell.rho is None else f" ρ={cell.rho:g}"
    return f"{cell.table} {cell.dataset}{rho} {cell.method}"
