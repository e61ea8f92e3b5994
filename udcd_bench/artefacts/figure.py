"""Base of the figures: what they have to draw, and how that becomes a picture, the CSV behind it and a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from udcd_bench.artefacts import captions
from udcd_bench.artefacts.table import Artefact, Rendered
from udcd_bench.grid import cells
from udcd_bench.grid.cells import Ask, Group, Line, heading
from udcd_bench.grid.grid import Grid
from udcd_bench.judging import uncertainty, verdicts
from udcd_bench.render import plots
from udcd_bench.render.sheet import paragraph
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from udcd_bench.grid.cells import Records, States
    from udcd_bench.render.plots import Page
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

Frames = Mapping[str, "pd.DataFrame"]
"""Ending of a file's name → what stands in it; ``.csv`` comes first."""
PER_ROW = 4
"""Panels side by side."""


@dataclass(frozen=True)
class Look:
    """What there is to draw: the grid's rows and groups of columns, their finished runs and what those stored."""

    grid: Grid
    ask: Ask
    found: Records
    states: States
    store: Store

    @cached_property
    def lines(self) -> list[Line]:
        """Rows, in order."""
        return self.grid.lines(self.ask)

    @cached_property
    def groups(self) -> list[Group]:
        """Groups of columns, in order."""
        return self.grid.groups(self.ask)

    @cached_property
    def records(self) -> dict[RunSpec, Mapping[str, Any]]:
        """Of the finished runs."""
        return {spec: self.found[spec] for spec in self.grid.runs(self.ask) if spec in self.found}

    def runs(self, line: Line, group: Group) -> dict[tuple[int, int], Mapping[str, Any]]:
        """Records of the finished runs of a cell by (fold, seed)."""
        specs = self.grid.cell(self.ask, line, group)
        return {(spec.fold, spec.seed): self.found[spec] for spec in specs if spec in self.found}

    def scores(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A run's stored arrays; ``scores`` of the epochs that are reported."""
        arrays: dict[str, Any] = self.store.scores(record["key"])
        return arrays | {"scores": uncertainty.reported(arrays["scores"], self.ask.rule, arrays["labels"])}

    def history(self, record: Mapping[str, Any]) -> pd.DataFrame:
        """A row an epoch of a run; ``epochs`` counts those of all stages, from 1."""
        import pandas as pd

        rows = pd.DataFrame(self.store.curve(record["key"]))
        return rows.assign(epochs=range(1, len(rows) + 1))

    def state(self, line: Line, group: Group) -> str:
        """``done``, ``n of m runs``, ``not run``, ``failed`` or that the suite has no such method."""
        specs = self.grid.cell(self.ask, line, group)
        done = sum(spec in self.found for spec in specs)
        if done and done == len(specs):
            return "done"
        if done:
            return f"{done} of {len(specs)} runs"
        return cells.verdict(line, specs, 0, self.states, synthetic=False, figure=math.nan)

    def about(self, line: Line, group: Group) -> dict[str, Any]:
        """The first columns of every CSV: what a line is of."""
        runs = self.runs(line, group)
        specs = self.grid.cell(self.ask, line, group)
        hashes = dict.fromkeys(record["split_hash"] for record in runs.values())
        return {
            "dataset": group.source,
            "dataset_title": heading(group),
            "synthetic": group.synthetic,
            "rho": group.shown_rho,
            "fraction": group.fraction,
            "backbone": specs[0].backbone if specs else "",
            "method": line.row,
            "method_title": line.title,
            "profile": self.ask.profile,
            "split": self.ask.split,
            "split_hash": " ".join(hashes),
            "rule": self.ask.rule,
            "n": len(runs),
            "state": self.state(line, group),
        }

    def label(self, line: Line) -> str:
        """Of a row in a legend: its title, and why it is nowhere drawn."""
        states = dict.fromkeys(self.state(line, group) for group in self.groups)
        nowhere = not any(self.runs(line, group) for group in self.groups)
        return f"{line.title} ({', '.join(states)})" if nowhere else line.title

    def gaps(self) -> list[str]:
        """Sentences on the cells whose runs are not all done."""
        told: dict[str, list[str]] = {}
        for line, group in itertools.product(self.lines, self.groups):
            if (state := self.state(line, group)) != "done":
                specs = self.grid.cell(self.ask, line, group)
                here = {spec: self.found[spec] for spec in specs if spec in self.found}
                note = cells.note(line, specs, here, self.states)
                told.setdefault(f"{line.title}: {note.rstrip('.') or state}", []).append(heading(group))
        everywhere = len(self.groups)
        return [
            what + (f" ({'; '.join(where)})" if len(where) < everywhere else "") + "."
            for what, where in told.items()
        ]

    def caption(self, sentences: Sequence[str], *, spread: str = "") -> tuple[str, ...]:
        """The sentences, then what is missing, then what all runs are of."""
        n = [len(self.runs(line, group)) for line, group in itertools.product(self.lines, self.groups)]
        planned = len(self.grid.runs(self.ask))
        made = captions.provenance(self.ask, self.records, planned, n, spread=spread)
        return (*sentences, *self.gaps(), *made)

    def figures(self) -> pd.DataFrame:
        """A line for each group, row and metric: ``about``, then metric, figure, low, high, spread_folds, spread_seeds.

        In percent; low and high are the ends of the 95 % interval (``evidence``).
        """
        import pandas as pd

        rules = verdicts.rules()
        there = uncertainty.Evidence(self.found, self.states)
        rows = []
        for group in self.groups:
            drawn = uncertainty.of_group(self.grid, self.ask, group, there, self.store, rules)
            for line, metric in itertools.product(self.lines, self.grid.metrics):
                runs = self.runs(line, group)
                values = {at: 100 * r["figures"][self.ask.rule][metric] for at, r in runs.items()}
                low, high = math.nan, math.nan
                if (line.row, metric) in drawn:
                    low, high = statistics.ends(drawn[line.row, metric], rules.level)
                ours = cells.summarise(values)
                rows.append(
                    self.about(line, group)
                    | {"metric": metric, "figure": ours.mean, "low": low, "high": high}
                    | {"spread_folds": ours.folds, "spread_seeds": ours.seeds}
                )
        return pd.DataFrame(rows)

    def interval(self) -> str:
        """The sentence on the intervals of ``figures``."""
        rules = verdicts.rules()
        noise = ", ".join(f"{METRICS[m].title}: {rules.noise(m):g}" for m in self.grid.metrics)
        seeds = "assumed" if len(self.ask.seeds) == 1 else "seen between seeds, shrunk towards the assumed"
        return (
            f"{rules.level:.0%} intervals: test images, by a bootstrap over groups, and training's noise, {seeds} "
            f"standard deviation in points ({noise}); methods share their test images, so intervals that overlap "
            "may still differ."
        )

    def panels(self) -> Iterator[tuple[int, int, Line, Group]]:
        """(row, column, line, group) of a panel a line, ``PER_ROW`` side by side, each group in rows of its own."""
        deep = math.ceil(len(self.lines) / PER_ROW)
        for (above, group), (place, line) in itertools.product(enumerate(self.groups), enumerate(self.lines)):
            yield above * deep + place // PER_ROW, place % PER_ROW, line, group

    def shape(self) -> tuple[int, int]:
        """Rows and columns of ``panels``."""
        deep = math.ceil(len(self.lines) / PER_ROW)
        return deep * len(self.groups), min(PER_ROW, len(self.lines))

    def datasets(self, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
        """(title, its lines) of each data set."""
        titles = {
            group.source: heading(Group(group.source, group.title, group.synthetic)) for group in self.groups
        }
        return [(title, frame[frame["dataset"] == source]) for source, title in titles.items()]


class Figure(Grid, Artefact):
    """A figure: a picture, and in CSV what was plotted. It says what it needs as a table does.

    measured: sentences of its caption, before those on runs, images and hardware.
    shown: columns of the console's table.
    """

    measured: ClassVar[str]
    shown: ClassVar[tuple[str, ...]]
    ending: ClassVar[str] = ".csv"
    """Of the frame that the console shows."""

    def frames(self, look: Look) -> Frames:
        """Everything that is plotted."""
        raise NotImplementedError

    def paint(self, look: Look, frames: Frames, **page: Any) -> Page:
        """Draw the frames on a ``Page(width, height, **page)``."""
        raise NotImplementedError

    def says(self, look: Look, frames: Frames) -> Sequence[str]:
        """Sentences of the caption that depend on what was found, after ``measured``."""
        return ()

    def render(self, ask: Ask, found: Records, states: States, there: Store) -> Rendered:
        """PNG, PDF and CSV."""
        look = Look(self, ask, found, states, there)
        frames = self.frames(look)
        warning = captions.warning([group.source for group in look.groups if group.synthetic])
        caption = look.caption((self.measured, *self.says(look, frames)))
        about = {"title": self.title, "warning": warning, "caption": caption}
        with plots.styled():
            files = dict((self.paint(look, frames, **about) if look.records else _empty(about)).files())
        files |= {ending: csv(frame, warning).encode() for ending, frame in frames.items()}
        text = [f"{self.name}: {self.title}", *paragraph(f"!! {warning}" if warning else "", 100), ""]
        frame = frames[self.ending]
        # a figure a line, where lines of points stand in the main file
        text += _table(frame[[c for c in self.shown if c in frame]]) if len(frame) else []
        text += ["", *itertools.chain(*(paragraph(sentence, 100) for sentence in caption))]
        return Rendered(
            frames[".csv"], "\n".join(line.rstrip() for line in text) + "\n", self.write(ask, there, files)
        )


def _empty(about: Mapping[str, Any]) -> Page:
    page = plots.Page(plots.NARROW, 0.9, **about)
    plots.gap(page.panels(1, 1)[0, 0], "No run is done.")
    return page


def _table(frame: pd.DataFrame) -> list[str]:
    text: str = frame.to_string(index=False, na_rep="–", float_format="{:.2f}".format)
    return text.splitlines()


def csv(frame: pd.DataFrame, warning: str) -> str:
    """What was plotted, six digits; where images were drawn its last column says so in every line of theirs."""
    text = frame.copy()
    if "synthetic" in text:
        text["warning"] = [warning if drawn else "" for drawn in text["synthetic"]]
    result: str = text.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return result
