"""``tables/tolerances.toml``: how far apart two figures may lie, and what trainings are assumed to differ by."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from udcd_bench import plugins
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Tolerances:
    """The numbers of ``tables/tolerances.toml``; ``other`` is for metrics that a table does not name.

    points: metric → points of percent that count as no difference.
    training: metric → standard deviation between trainings, in points of percent, assumed before any seed is seen.
    level: of the intervals, 0.5 to 0.9999.
    widest: an interval that reaches further to either side than so many tolerances is underpowered.
    draws: bootstrap draws of an interval.
    their_folds: test folds, of the size of ours, that a published figure is assumed to come from, with one training
    each. their_n: test images behind a published figure, in place of the folds' size.
    """

    points: Mapping[str, float]
    training: Mapping[str, float]
    level: float
    widest: float
    draws: int
    their_folds: int = 1
    their_n: int | None = None

    def get_tolerance(self, metric: str) -> float:
        """Return the points of percent that count as no difference."""
        return self.points.get(metric, self.points["other"])

    def get_noise(self, metric: str) -> float:
        """Return the standard deviation between trainings that is assumed, in points of percent."""
        return self.training.get(metric, self.training["other"])


def load_tolerances(points: float | None = None) -> Tolerances:
    """Load the suite's tolerances.

    points: tolerance of every metric, in place of the file's. Raises UserError when the file cannot be read.
    """
    path = plugins.find_root() / "tables" / "tolerances.toml"
    try:
        tolerances = _parse_tolerances(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as tolerances: {error!r}") from error
    return tolerances if points is None else replace(tolerances, points={"other": points})


@lru_cache(maxsize=4)
def _parse_tolerances(text: str) -> Tolerances:
    content = tomllib.loads(text)
    interval, published = content["interval"], content["published"]
    tolerances = Tolerances(
        content["points"], content["training"], **interval, their_folds=published["folds"]
    )
    _check_tolerances(tolerances)
    return tolerances


def _check_tolerances(tolerances: Tolerances) -> None:
    """Check that the values are numbers in range.

    Raises ValueError where one is not, KeyError where ``other`` is missing.
    """
    for name, least, table in (("points", 1e-6, tolerances.points), ("training", 0.0, tolerances.training)):
        table["other"]
        for metric, value in table.items():
            if type(value) not in (int, float) or not least <= value <= 100:
                raise ValueError(f"{name}: {metric} = {value!r} is no number of points, {least:g} to 100")
    for name, value, low, high in (
        ("level", tolerances.level, 0.5, 0.9999),
        ("widest", tolerances.widest, 1e-6, 1e6),
    ):
        if type(value) not in (int, float) or not low <= value <= high:
            raise ValueError(f"{name} = {value!r} is no number from {low:g} to {high:g}")
    if type(tolerances.draws) is not int or not 10 <= tolerances.draws <= 10**6:
        raise ValueError(f"draws = {tolerances.draws!r} is no count from 10 to {10**6}")
    if type(tolerances.their_folds) is not int or not 1 <= tolerances.their_folds <= 1000:
        raise ValueError(f"published: folds = {tolerances.their_folds!r} is no count from 1 to 1000")
