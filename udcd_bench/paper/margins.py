"""What a margin in accuracy is worth: how many test images it is, and what an exact test could make of it at best.

From the printed figures and the number of test images alone. Of two classifiers on the same images McNemar's exact test
looks at the discordant ones, which only one of them classifies rightly. With a difference of k images its p is smallest
when k images are discordant, all for the better one: 2 · 0.5^k. With more discordant images p is larger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from udcd_bench.paper.findings import Finding
from udcd_bench.paper.rounded import format_location, get_metric_title, group_into_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from udcd_bench.paper.published import PublishedValue
    from udcd_bench.paper.rounded import RoundedValue

ACCURACY = ("acc", "accuracy")
"""Names of the column whose points are images; a macro average's are not."""
LEVEL = 0.05

SettingKey = tuple[str, float | None]
"""Data set, imbalance as printed."""


@dataclass(frozen=True)
class Margin:
    """How far a printed accuracy lies above another, in points and in test images, and what a test could make of it.

    claims: the names of the claims that rest on it.
    """

    best: RoundedValue
    other: RoundedValue
    n_test: int
    claims: tuple[str, ...] = ()

    @property
    def points(self) -> float:
        """The margin in points."""
        return float(self.best.exact - self.other.exact)

    @property
    def images(self) -> float:
        """The margin in test images; no whole number where figures are means or n_test is not the paper's."""
        return self.points * self.n_test / 100

    @property
    def p(self) -> float:
        """The smallest p that an exact McNemar test of this margin could give, whatever rounding hides."""
        most = float(self.best.high - self.other.low) * self.n_test / 100
        return compute_best_p(most)

    @property
    def testable(self) -> bool:
        """Whether a test on one fold could tell it from chance."""
        return self.points > 0 and self.p < LEVEL

    def describe(self) -> str:
        """Describe the margin in a sentence."""
        above = f"{abs(self.points):.2f} points {'above' if self.points >= 0 else 'below'}"
        p = f"; exact McNemar p is {self.p:.3g} at best" if self.points > 0 else ""
        claims = f" (claimed by {' and '.join(self.claims)})" if self.claims else ""
        return (
            f"{format_location(self.best)}: {get_metric_title(self.best.metric)} {self.best.format_text()} is {above} "
            f"{self.other.method}'s {self.other.format_text()}, {abs(self.images):.1f} of {self.n_test} test images"
            f"{p}{claims}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "claims": list(self.claims),
            "best": self.best.to_dict(),
            "other": self.other.to_dict(),
            "points": round(self.points, 4),
            "n_test": self.n_test,
            "images": round(self.images, 2),
            "best_p": self.p if self.points > 0 else None,
            "testable": self.testable,
        }


def compute_best_p(images: float) -> float:
    """Compute the smallest p that an exact McNemar test could give for a difference of so many images."""
    return min(1.0, 2.0 ** (1 - max(0, math.ceil(images - 1e-9))))


def list_best_margins(
    tables: Mapping[str, Sequence[PublishedValue]], sizes: Mapping[SettingKey, int]
) -> Iterator[Margin]:
    """List the margin of every column's highest accuracy over the next. sizes: test images of each setting."""
    for rows in group_into_rows(tables).values():
        columns: dict[SettingKey, list[RoundedValue]] = {}
        for cell in (cell for row in rows for cell in row.values() if cell.metric.lower() in ACCURACY):
            columns.setdefault((cell.dataset, cell.rho), []).append(cell)
        for setting, column in columns.items():
            if len(column) > 1 and setting in sizes:
                best, second = sorted(column, key=lambda cell: cell.exact, reverse=True)[:2]
                yield Margin(best, second, sizes[setting])


def find_untestable_margins(margins: Iterable[Margin]) -> Iterator[Finding]:
    """Find the margins that no test on one fold could tell from chance, and the claims that rest on them."""
    for margin in margins:
        if margin.points > 0 and not margin.testable:
            plain = replace(margin, claims=()).describe()
            names = " and ".join(margin.claims)
            rest = f" So no test on one fold could support {names}." if names else ""
            yield Finding("margin-within-chance", (margin.best, margin.other), plain + rest)
