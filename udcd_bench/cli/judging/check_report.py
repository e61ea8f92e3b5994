"""A check of a table, cell by cell and as a whole, and what is said of a cell in any form."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from udcd_bench.judging.verdicts import VERDICTS, JudgedCell, count_verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from udcd_bench.judging.difference import TableVerdict
    from udcd_bench.judging.paper_check import ProtocolDifference, RankedColumn
    from udcd_bench.stats.statistics import TrainingNoise


@dataclass(frozen=True)
class CheckReport:
    """A check, cell by cell and as a whole.

    metadata: table, against, profile, split, rule and, where the data bring their split, own_split, and, where its runs
        are not all alike or of an earlier revision, origins.
    compared: number of cells that were compared.
    reason: why nothing could be judged; empty where something was.
    whole: the verdict on all cells together; None where each is judged alone.
    other_protocol: in what the runs differ from the paper's protocol, as options.
    differences: the same number by number.
    noise: what was taken for training's noise, by data set and metric.
    """

    metadata: dict[str, str]
    cells: list[JudgedCell]
    columns: list[RankedColumn]
    compared: int
    reason: str
    whole: TableVerdict | None = None
    other_protocol: tuple[str, ...] = ()
    differences: tuple[ProtocolDifference, ...] = ()
    noise: Mapping[str, Mapping[str, TrainingNoise]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether something was judged and nothing fails."""
        return not self.status

    @property
    def status(self) -> int:
        """The exit status: 0 judged and nothing fails, 1 judged and something does, 2 nothing could be judged."""
        return 2 if self.reason else int(any(map(self.fails, self.cells)))

    @property
    def outcome(self) -> str:
        """The exit status in words."""
        return ("passed", "failed", "not judged")[self.status]

    @property
    def kind(self) -> str:
        """Of the paper a reproduction, or a comparison where the protocol is another; of a file a regression."""
        if self.metadata["against"] != "paper":
            return "regression"
        return "comparison" if self.other_protocol else "reproduction"

    @property
    def caveat(self) -> str:
        """A sentence that the protocol is not the paper's, and in what; empty where it is."""
        if self.kind != "comparison":
            return ""
        numbers = ", ".join(difference.describe() for difference in self.differences)
        return f"A comparison, not a reproduction: {numbers or ', '.join(self.other_protocol)}."

    @property
    def title(self) -> str:
        """The check in a line."""
        other = f"; another protocol: {', '.join(self.other_protocol)}" if self.other_protocol else ""
        split = self.metadata.get("own_split", f"split {self.metadata['split']}")
        rule = f", rule {self.metadata['rule']}" if self.metadata["rule"] != "mean" else ""
        return (
            f"check {self.metadata['table']} against {self.metadata['against']} "
            f"(profile {self.metadata['profile']}, {split}{rule}{other})"
        )

    def fails(self, cell: JudgedCell) -> bool:
        """Tell whether a cell fails the check: where there is a verdict on the whole, by that.

        A cell that an earlier result has and that is not run any more fails: a gate is not passed by leaving out.
        """
        if self.metadata["against"] != "paper" and cell.verdict == "not run":
            return True
        return cell.fails and (self.whole is None or cell.fails_table or cell.verdict == "failed")


def describe_cell(cell: JudgedCell) -> str:
    """Describe a cell's verdict with what it rests on."""
    text = f"{cell.name}: {cell.verdict}"
    if VERDICTS[cell.verdict].compared:
        text += f"; {cell.theirs:.2f} there, {cell.ours:.2f} here{format_interval(cell)}, n={cell.n}"
        text += f", tolerance {cell.tolerance:g}{format_difference(cell)}"
    return f"{text}. {' '.join(cell.note.split())}".strip()


def format_difference(cell: JudgedCell) -> str:
    """Format what the verdict rests on, where it is more than the tolerance."""
    if not cell.difference_high > cell.difference_low:
        return ""
    text = f"; difference {cell.ours - cell.theirs:+.2f} [{cell.difference_low:+.2f}, {cell.difference_high:+.2f}]"
    return text if math.isnan(cell.p_table) else f"{text}, p in the whole table {cell.p_table:.3f}"


def format_interval(cell: JudgedCell) -> str:
    """Format the interval of our figure, where there is one."""
    wide = math.isfinite(cell.low) and cell.high > cell.low
    return f" [{cell.low:.2f}, {cell.high:.2f}]" if wide else ""


def format_outcome(report: CheckReport) -> str:
    """Format how many cells have each verdict, and the outcome."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in count_verdicts(report.cells).items())
    as_what = (
        " as a comparison, not a reproduction" if report.kind == "comparison" and report.compared else ""
    )
    return f"{counts or 'no cell'}; {report.outcome}{as_what}."
