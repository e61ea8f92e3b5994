"""ROC and precision-recall curves of rows of Table 2, each class against the rest, with bands.

Differs from the paper: it shows none, and prints no area under a curve.
A curve is the mean, at each false-positive rate or recall, of the curves of the reported epochs, seeds and folds; an
area is the mean of theirs, as in the tables. Bands and intervals are of the test images alone: groups are resampled
within classes, the same for every method, seed and epoch of a fold. The runs are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from udcd_bench.artefacts import figure, figure_data
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.render import fonts, plots
from udcd_bench.runs.spec import derive_seed
from udcd_bench.stats import curves, metrics, resampling, statistics

N_DRAWS = 300
"""S: resampled test sets; ends of 95 % intervals move by about a tenth of their width."""
AREAS = ("auroc", "auprc", "sensitivity")
PANELS = {"roc": ("false-positive rate", "true-positive rate"), "pr": ("recall", "precision")}
LABELS = 0.6
"""Inches above and below a panel, for its title and the axis' label, so that they do not touch the next panel's."""
MARKED = 25
"""A marker at every so many points of a curve."""


class Figure(figure.Figure):
    """Two panels for each row, one above the other; a colour, a marker and a dash for each class."""

    name = "roc"
    title = "ROC and precision-recall curves"
    measured = (
        "Each class against the rest, by its probability. Above: ROC; below: precision and recall, whose level at "
        "chance is the class's share of the images. Lines: means over the reported epochs, seeds and folds. Bands: "
        "95 % of which test images were drawn, by a bootstrap over groups within classes; training's noise is not in "
        "them. A resampled set holds images twice, which raises its AUPRC a little, so those intervals lie high. Above "
        "each panel the macro average of the areas, in percent."
    )
    datasets = ("aptos", "ham10000")
    metrics = ("auroc", "auprc")
    rows: ClassVar = {"scratch": "Scratch", "crckd": "CRCKD", "ssd-kd": "SSD-KD", "udcd": "UDCD"}
    shown = (
        "dataset", "method", "class", "images", "auroc", "auroc_low", "auroc_high", "auprc", "auprc_low", "auprc_high",
        "sensitivity", "sensitivity_low", "sensitivity_high", "n", "state",
    )  # fmt: skip
    ending = "-areas.csv"
    main_columns = ("dataset", "method", "class", "curve", "x", "y", "low", "high", "synthetic")
    measures = (
        "auroc", "auroc_low", "auroc_high", "auprc", "auprc_low", "auprc_high", "sensitivity", "sensitivity_low",
        "sensitivity_high",
    )  # fmt: skip

    def build_cell(self, data, records):
        names = next(iter(records.values()))["classes"]
        loaded = {run: data.load_scores(record) for run, record in records.items()}
        by_class = average_runs(
            loaded, {run: draw_weights(records[run], arrays) for run, arrays in loaded.items()}
        )
        counts = np.sum([metrics.count_labels(a["labels"], len(names)) for a in first_seeds(loaded)], axis=0)
        level = load_tolerances().level
        lines, areas = [], []
        for name, mean, images in zip(names, by_class, counts):
            lines += [{"class": name} | line for line in list_points(mean, level)]
            areas.append({"class": name, "images": images} | summarize(mean, level))
        macro = [average_known([getattr(mean, area) for mean in by_class]) for area in AREAS]
        overall = curves.Curves(by_class[0].tpr, by_class[0].precision, *macro)
        areas.append({"class": "all, macro average", "images": counts.sum()} | summarize(overall, level))
        return lines, areas

    def describe(self, data, frames):
        names = frames[".csv"].groupby("dataset")["class"].unique()
        numbers = [sentence for sentence in map(fonts.describe_numbers, names) if sentence][:1]
        return [
            *numbers,
            f"Sensitivity, in the file that ends in {self.ending}: at a specificity of 90 % or more.",
        ]

    def draw(self, data, frames, **texts):
        points, areas = frames[".csv"], frames[self.ending]
        legend = list_classes(data, points)
        width, side = data.compute_panel_size(0.45)
        page = plots.FigurePage(
            (width, 2 * data.count_panel_rows() * (side + LABELS)),
            legend=[plots.make_legend_entry(plots.pick_style(index), text) for index, text in legend],
            **texts,
        )
        for axes, kind, row, group in add_panels(data, page):
            of_cell = points[(points["dataset"] == group.source) & (points["method"] == row.name)]
            # the panel below a row's ROC is of the same row
            title = plots.truncate_text(row.title, 66 * side) + "\n" if kind == "roc" else ""
            if of_cell.empty:
                axes.set_title(title)
                plots.draw_placeholder(axes, data.describe_state(row, group))
                continue
            cell = areas[(areas["dataset"] == group.source) & (areas["method"] == row.name)].iloc[-1]
            axes.set_title(f"{title}{format_area('auroc' if kind == 'roc' else 'auprc', cell)}")
            draw_curves(axes, of_cell[of_cell["curve"] == kind], kind)
        return page


# --- computing ----------------------------------------------------------------------------------------------------


def draw_weights(record, arrays):
    """Draw how often each test image of a run is in each test set, (1 + draws, n); the first is the test set itself.

    All runs of a fold get the same. Of a set that cannot be resampled only the first has numbers.
    """
    spec = record["spec"]
    seed = derive_seed("roc", record["split_hash"], spec.get("fold", 0))
    sampling = resampling.Resampling(arrays["labels"], arrays["groups"], N_DRAWS, np.random.default_rng(seed))
    whole, weights = np.ones((1, len(arrays["labels"]))), resampling.sample_weights(sampling)
    return np.concatenate([whole, np.zeros((N_DRAWS, whole.shape[1])) if weights is None else weights])


def average_runs(arrays_by_run, weights_by_run):
    """Average the curves of runs by (fold, seed): over epochs and a fold's seeds, then over folds; one for each class.

    A class that a fold has no test image of counts in the other folds.
    """
    n_classes = next(iter(arrays_by_run.values()))["scores"].shape[2]
    averages = []
    for c in range(n_classes):
        by_fold = {}
        for (fold, seed), arrays in arrays_by_run.items():
            for epoch in arrays["scores"]:
                p = metrics.softmax(np.asarray(epoch, dtype=np.float64))
                each = curves.compute_curves(p[:, c], arrays["labels"] == c, weights_by_run[fold, seed])
                by_fold.setdefault(fold, []).append(each)
        folds = [[np.mean(values, axis=0) for values in zip(*each)] for each in by_fold.values()]
        averages.append(curves.Curves(*(average_known(values) for values in zip(*folds))))
    return averages


def average_known(values):
    """Average those values that are numbers, over folds or classes; NaN where none is."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    return np.where(known, stacked, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)


def first_seeds(arrays_by_run):
    """List the arrays of one run of each fold: seeds share their test images."""
    return list({fold: arrays for (fold, _), arrays in arrays_by_run.items()}.values())


def list_points(mean, level):
    """List the points of a class's two curves, with the ends of their bands."""
    lines = []
    for kind, values in (("roc", mean.tpr), ("pr", mean.precision)):
        low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
        for x, y, bottom, top in zip(curves.GRID, values[0], low, high):
            lines.append({"curve": kind, "x": x, "y": y, "low": bottom, "high": top})
    return lines


def summarize(mean, level):
    """Summarize areas and sensitivity, in percent, with their intervals."""
    summary = {}
    for area in AREAS:
        values = 100 * getattr(mean, area)
        low, high = statistics.compute_interval(values[1:], level)
        summary |= {area: values[0], f"{area}_low": low, f"{area}_high": high}
    return summary


# --- drawing ------------------------------------------------------------------------------------------------------


def list_classes(data, points):
    """List (index, text) of the classes for the legend, with their data set where there are several."""
    several, entries = len(data.column_groups) > 1, []
    for group in data.column_groups:
        names = points.loc[points["dataset"] == group.source, "class"].unique()
        for index, name in enumerate(fonts.label_classes(names)):
            text = f"class {name}" if fonts.list_undrawable("".join(names)) else name
            entries.append((index, text + (f", {group.title}" if several else "")))
    return entries


def add_panels(data, page):
    """Add two panels for each row in each group, ROC above: (axes, kind, row, group)."""
    columns = min(figure_data.PANELS_PER_ROW, len(data.rows))
    panels = page.add_panels(2 * data.count_panel_rows(), columns)
    for axes in panels.flat:
        axes.set_axis_off()
    deep = data.count_panel_rows() // max(1, len(data.column_groups))
    for above, group in enumerate(data.column_groups):
        for index, row in enumerate(data.rows):
            line = 2 * (above * deep + index // columns)
            for offset, (kind, (x, y)) in enumerate(PANELS.items()):
                axes = panels[line + offset, index % columns]
                axes.set_axis_on()
                axes.set_box_aspect(1)
                axes.set_xlabel(x)
                if index % columns == 0:
                    axes.set_ylabel(f"{plots.truncate_text(group.title, 140)}\n{y}")
                else:
                    axes.tick_params(labelleft=False)
                yield axes, kind, row, group


def draw_curves(axes, points, kind):
    """Draw the curves of one panel, and where chance lies in an ROC."""
    plots.tidy_axes(axes, grid="both")
    if kind == "roc":
        axes.plot([0, 1], [0, 1], color=plots.GREY, linestyle=(0, (4, 2)), linewidth=0.8)
    for index, (_, curve) in enumerate(points.groupby("class", sort=False)):
        style = plots.pick_style(index)
        axes.fill_between(
            curve["x"], curve["low"], curve["high"], color=style.colour, alpha=0.15, linewidth=0
        )
        axes.plot(
            curve["x"], curve["y"], color=style.colour, linestyle=style.dash, marker=style.marker, markersize=3,
            markevery=(2 * index % MARKED, MARKED), markeredgecolor="black", markeredgewidth=0.3, linewidth=1,
        )  # fmt: skip
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])


def format_area(area, cell):
    """Format a cell's macro average of an area with its interval."""
    value, low, high = (cell[f"{area}{end}"] for end in ("", "_low", "_high"))
    interval = f" ({low:.1f}–{high:.1f})" if np.isfinite(low) else ""
    return f"{area.upper()} {value:.1f}{interval}" if np.isfinite(value) else f"{area.upper()} undefined"
