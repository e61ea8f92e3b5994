"""The paper's Figure 2: t-SNE of the test images' embeddings under CRCKD, SSD-KD and UDCD on APTOS 2019.

t-SNE: van der Maaten & Hinton, JMLR 9, 2008.

Differs from the paper:
1. It names neither perplexity nor seed nor split; here perplexity 30, seed 0, a test fold (S).
2. Beside each panel stand two numbers of the embedding itself, the silhouette and the purity of 10 neighbours.
Separated in two dimensions does not mean separated in the embedding: sizes of clusters and distances between them
mean nothing in a t-SNE, and it can part what is not parted. The numbers are the evidence, the picture is not.
With several folds or seeds one is drawn, the first that most methods have, and the numbers are means over all.
The runs are Table 2's.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd

from udcd_bench.artefacts import figure
from udcd_bench.errors import UserError
from udcd_bench.render import plots
from udcd_bench.stats import embeddings

SEED = 0
MIN_IMAGES = 4


class Figure(figure.Figure):
    """A panel a method, the same images in each, a colour and a marker a class."""

    name = "tsne"
    title = "Test images in the embedding, laid out as the paper's Fig. 2"
    measured = (
        "The 128-dimensional embeddings of the same test images after the last epoch, brought to unit length, by t-SNE "
        "(initialised by PCA, seed 0). Above each panel, of the embedding and not of the plane: the silhouette "
        "(cosine; −1 to 1) and the share of the 10 nearest neighbours that are of the image's class."
    )
    datasets = ("aptos",)
    metrics = ()
    rows: ClassVar = {"crckd": "CRCKD", "ssd-kd": "SSD-KD", "udcd": "UDCD"}
    shown = ("dataset", "method", "fold", "seed", "silhouette", "purity", "chance", "images", "state")
    ending = "-separation.csv"

    def build_frames(self, data):
        numbers, points = [], []
        for group in data.groups:
            chosen = choose_run(data, group)
            ids = None
            for line in data.rows:
                about, runs = data.describe_cell(line, group), data.find_records(line, group)
                if not runs:
                    numbers.append(about)
                for (fold, seed), record in runs.items():
                    kept = data.load_scores(record)
                    made = embeddings.measure_separation(kept["embeddings"], kept["labels"])
                    here = about | {"fold": fold, "seed": seed, "split_hash": record["split_hash"]}
                    numbers.append(here | made._asdict() | {"images": len(kept["labels"])})
                    if (fold, seed) != chosen:
                        continue
                    ids = kept["ids"] if ids is None else ids
                    if not np.array_equal(ids, kept["ids"]):
                        raise UserError(
                            f"{line.title} was tested on other images than the rows above it; run it again."
                        )
                    points.append(pd.DataFrame(here | compute_points(kept, record["classes"])))
        columns = ["fold", "seed", "silhouette", "purity", "chance", "images"]
        separation = pd.DataFrame(numbers)
        for column in columns:
            separation[column] = separation.get(column, pd.Series(dtype=float))
        empty = pd.DataFrame(columns=[*separation.columns.drop(columns[2:]), "id", "class", "x", "y"])
        return {
            ".csv": pd.concat(points, ignore_index=True) if points else empty,
            "-separation.csv": separation,
        }

    def describe(self, data, frames):
        points = frames[".csv"]
        counts = points.groupby(["dataset", "method"]).size()
        used = " / ".join(dict.fromkeys(f"{embeddings.choose_perplexity(n):.3g}" for n in counts))
        chance = frames["-separation.csv"].groupby("dataset_title")["chance"].mean().dropna()
        told = [f"Perplexity {used}."] if used else []
        told += [f"A share of {value:.2f} is chance on {title}." for title, value in chance.items()]
        if len(data.request.folds) * len(data.request.seeds) > 1 and len(points):
            told.append(
                f"Drawn: fold {points['fold'].iloc[0]}, seed {points['seed'].iloc[0]}; numbers: mean ± standard "
                "deviation over all folds and seeds that are done."
            )
        return told

    def draw(self, data, frames, **texts):
        points, numbers = frames[".csv"], frames["-separation.csv"]
        names = count_classes(points)
        several = len(data.groups) > 1
        legend = [
            plots.make_legend_entry(
                label, f"{name} ({count})" + (f", {source}" if several else ""), line=False
            )
            for source, label, name, count in names
        ]
        rows, columns = data.compute_panel_shape()
        width = plots.WIDE if columns > 1 else plots.NARROW
        side = min(width / columns - 0.1, 3.0)
        page = plots.FigurePage(width, rows * (side + 0.45), legend=legend, **texts)
        panels = page.add_panels(rows, columns)
        for axes in panels.flat:
            axes.set_axis_off()
        for row, column, line, group in data.iterate_panels():
            axes = panels[row, column]
            axes.set_axis_on()
            axes.set_box_aspect(1)
            axes.set(xticks=[], yticks=[])
            of_cell = (numbers["dataset"] == group.source) & (numbers["method"] == line.name)
            axes.set_title(format_panel_title(line.title, numbers[of_cell], 66 * side))
            here = points[(points["dataset"] == group.source) & (points["method"] == line.name)]
            if here.empty:
                state = numbers[of_cell]["state"].iloc[0]
                plots.draw_placeholder(
                    axes, state if not data.find_records(line, group) else "this fold is not run"
                )
                continue
            for label, of_class in here.groupby("label"):
                style = plots.pick_style(int(label))
                axes.scatter(
                    of_class["x"], of_class["y"], s=11, c=style.colour, marker=style.marker, linewidths=0.3,
                    edgecolors="black", alpha=0.85,
                )  # fmt: skip
            axes.margins(0.04)
            if not np.isfinite(here["x"]).any():
                plots.draw_placeholder(axes, "too few images")
            if several and column == 0:
                axes.set_ylabel(group.title)
        return page


def choose_run(data, group):
    """The (fold, seed) that most rows have, the first of several; None where there is none."""
    runs = [data.find_records(line, group) for line in data.rows]
    asked = [(fold, seed) for fold in data.request.folds for seed in data.request.seeds]
    best = max(asked, key=lambda at: sum(at in of_row for of_row in runs))
    return best if any(best in of_row for of_row in runs) else None


def compute_points(arrays, class_names):
    """Columns of a run's images; no place for fewer than ``FEWEST``."""
    n = len(arrays["labels"])
    xy = embeddings.compute_tsne(arrays["embeddings"], SEED) if n >= MIN_IMAGES else np.full((n, 2), np.nan)
    of_class = [class_names[label] for label in arrays["labels"]]
    return {"id": arrays["ids"], "label": arrays["labels"], "class": of_class, "x": xy[:, 0], "y": xy[:, 1]}


def count_classes(points):
    """(data set, label, name, images) of each class of a data set that is there."""
    first = points.drop_duplicates(["dataset", "id"])
    counts = first.groupby(["dataset", "label", "class"], sort=True).size()
    return [(*key, count) for key, count in counts.items()]


def format_panel_title(title, numbers, width):
    """A panel's title: the method, its two numbers."""
    found = numbers.dropna(subset=["purity"])
    lines = [plots.truncate_text(title, width)]
    for column, text in (("silhouette", "silhouette"), ("purity", "10-NN purity")):
        if len(found):
            spread = f" ± {found[column].std(ddof=1):.2f}" if len(found) > 1 else ""
            value = found[column].mean()
            lines.append(f"{text} {value:.2f}{spread}" if np.isfinite(value) else f"{text} undefined")
    return "\n".join(lines).replace("-0.", "−0.")
