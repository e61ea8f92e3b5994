"""The campaign behind docs/statistics.md: how often true tables fail, and how large a deficit is found."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd

from support.simulation import FOLDS, judge_true_table, list_settings
from udcd_bench.judging.tolerances import load_tolerances

CSV = Path(__file__).parents[2] / "docs" / "calibration.csv"
TABLES = ("table1", "table2")
RULES = {
    "exact": "published figure exact, each cell alone",
    "each": "both errors, each cell alone",
    "table": "both errors, the table as a whole",
}
NOISY = {
    "unseen": (0, "trainings that differ thrice as far, no second seed"),
    "pooled": (6, "trainings that differ thrice as far, 6 pairs of seeds"),
}
"""Where trainings differ by three times the assumption, as in real runs: pairs of seeds on each data set."""
DEFICITS = np.arange(0, 16.01, 0.5)
PLACES = {
    "cell acc": "one cell, ACC",
    "cell f1": "one cell, F1",
    "row": "one row",
    "all": "all rows",
}
POWER = 0.8


def run(table, *, batches, pool, tables, seed):
    """Simulate true tables: a frame of the share that fails, by rule and number of folds, and with each deficit.

    batches: each has folds of ours of its own, ``pool`` of a setting, from which ``tables`` tables take theirs. The
    standard error is that between batches.
    """
    settings, lines = list_settings(table), []
    n_draws = load_tolerances().draws
    for batch in range(batches):
        rng = np.random.default_rng([seed, TABLES.index(table), batch])
        pools = [[setting.draw_fold(rng, n_draws) for _ in range(pool)] for setting in settings]
        for n_folds in FOLDS:
            judged = [judge_true_table(settings, pools, n_folds, rng) for _ in range(tables)]
            assert all(one.fails_with(0, 0) == (one.verdict.verdict == "lower") for one in judged)
            for (rule, metrics), shares in measure_rules(judged).items():
                lines.append((table, n_folds, rule, metrics, 0.0, shares))
            for rule, (pairs, _) in NOISY.items():
                noisy = [
                    judge_true_table(settings, pools, n_folds, rng, training=3, pairs=pairs)
                    for _ in range(tables // 3)
                ]
                share = np.mean([one.verdict.verdict == "lower" for one in noisy])
                lines.append((table, n_folds, rule, "any", 0.0, share))
            for place, deficit in itertools.product(PLACES, DEFICITS):
                mask = select_cells(judged[0].cells, place)
                share = np.mean([one.fails_with(deficit, mask) for one in judged])
                lines.append((table, n_folds, "table", place, deficit, share))
    frame = pd.DataFrame(lines, columns=["table", "folds", "rule", "cells", "deficit", "share"])
    grouped = frame.groupby(["table", "folds", "rule", "cells", "deficit"], sort=False)["share"]
    return grouped.agg(share="mean", error=lambda s: s.std(ddof=1) / math.sqrt(len(s))).reset_index().round(4)


def measure_rules(judged):
    """The share of tables of which some cell is lower, by rule, over the accuracy's cells and over all."""
    shares = {}
    for metrics, chosen in (("accuracy", ("acc",)), ("any", ("acc", "ap", "rec", "f1"))):
        cells = [[cell for cell in one.cells if cell.metric in chosen] for one in judged]
        shares["exact", metrics] = np.mean([any(map(is_lower_beside_exact, some)) for some in cells])
        shares["each", metrics] = np.mean([any(cell.fails for cell in some) for some in cells])
    shares["table", "any"] = np.mean([one.verdict.verdict == "lower" for one in judged])
    return shares


def is_lower_beside_exact(cell):
    """The rule of before: ours is lower by more than the tolerance, and its own interval excludes the other figure."""
    return cell.theirs - cell.ours > cell.tolerance and cell.high < cell.theirs


def select_cells(cells, place):
    """Where the deficit lies: a mask (cells,). A cell and a row are UDCD's, the cell on HAM10000 as it is."""

    def inside(cell):
        own = cell.dataset == "ham10000" and cell.rho in (None, 58)
        if place == "all":
            return True
        return cell.method == "udcd" and (
            place == "row" or (own and cell.metric == place.removeprefix("cell "))
        )

    return np.array([inside(cell) for cell in cells])


def find_deficit(frame, table, n_folds, place):
    """The deficit in points that is found with probability ``POWER``, by interpolation."""
    curve = frame[(frame["table"] == table) & (frame["folds"] == n_folds) & (frame["cells"] == place)]
    return float(np.interp(POWER, np.maximum.accumulate(curve["share"]), curve["deficit"]))


def draw(frame, file):
    """Draw both curves: false alarms by rule, and power by deficit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.2), dpi=120, layout="constrained")
    for column, table in enumerate(TABLES):
        false, power = figure.add_subplot(2, 2, 1 + column), figure.add_subplot(2, 2, 3 + column)
        curves = RULES | {rule: title for rule, (_, title) in NOISY.items()}
        for (rule, title), style in zip(curves.items(), ("s:", "^--", "o-", "v:", "D-")):
            of_rule = frame[(frame["table"] == table) & (frame["rule"] == rule) & (frame["cells"] == "any")]
            false.errorbar(
                of_rule["folds"], of_rule["share"], 2 * of_rule["error"], fmt=style, capsize=3, label=title
            )
        false.axhline(0.05, color="black", linewidth=0.8)
        false.set(
            ylim=(0, 1),
            xticks=FOLDS,
            title=f"Table {table[-1]}: true tables that fail",
            xlabel="folds of ours",
        )
        for (place, title), colour in zip(PLACES.items(), ("C0", "C1", "C2", "C3")):
            for n_folds, line in ((1, ":"), (5, "-")):
                found = frame[
                    (frame["table"] == table) & (frame["folds"] == n_folds) & (frame["cells"] == place)
                ]
                label = title if n_folds == 5 else None
                power.plot(found["deficit"], found["share"], line, color=colour, label=label)
        power.axhline(POWER, color="black", linewidth=0.8)
        power.set(
            ylim=(0, 1),
            title=f"Table {table[-1]}: tables found lower",
            xlabel="points that ours are lower in truth",
        )
        if column == 0:
            false.set_ylabel("share of tables")
            power.set_ylabel("share of tables")
            figure.legend(*false.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8)
        else:
            power.legend(fontsize=8, title="five folds; dotted: one", title_fontsize=8)
    figure.savefig(file)
