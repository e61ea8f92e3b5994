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
from udcd_bench.render import fonts, plots
from udcd_bench.stats import embeddings

SEED = 0
MIN_IMAGES = 4
"""With fewer there is no t-SNE."""
WITHOUT = "packed without its embeddings"
"""State of a run whose folder was made so small."""
MEASURES = ("fold", "seed", "silhouette", "purity", "chance", "images")
"""Columns of what is measured of each run."""


class Figure(figure.Figure):
    """One panel for each method with the same images; a colour and a marker for each class."""

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
    reported = False
    shown = ("dataset", "method", "fold", "seed", "silhouette", "purity", "chance", "images", "state")
    ending = "-separation.csv"

    def build_frames(self, data):
        numbers, points = [], []
        for group in data.column_groups:
            chosen, ids = choose_run(data, group), None
            for row in data.rows:
                cell, records = data.describe_cell(row, group), data.find_records(row, group)
                numbers += [] if records else [cell]
                for (fold, seed), record in records.items():
                    arrays = data.load_scores(record)
                    line = cell | {"fold": fold, "seed": seed, "split_hash": record["split_hash"]}
                    if not arrays["embeddings"].shape[1]:
                        numbers.append(line | {"state": WITHOUT})
                        continue
                    numbers.append(line | measure(arrays))
                    if (fold, seed) != chosen:
                        continue
                    ids = arrays["ids"] if ids is None else ids
                    if not np.array_equal(ids, arrays["ids"]):
                        raise UserError(
                            f"{row.title} was tested on other images than the rows above it; run it again."
                        )
                    points.append(pd.DataFrame(line | compute_points(arrays, record["classes"])))
        separation = pd.DataFrame(numbers)
        for column in MEASURES:
            separation[column] = separation.get(column, pd.Series(dtype=float))
        empty = pd.DataFrame(columns=[*separation.columns.drop(list(MEASURES[2:])), "id", "class", "x", "y"])
        return {
            ".csv": pd.concat(points, ignore_index=True) if points else empty,
            "-separation.csv": separation,
        }

    def describe(self, data, frames):
        points = frames[".csv"]
        counts = points.groupby(["dataset", "method"]).size()
        used = " / ".join(dict.fromkeys(f"{embeddings.choose_perplexity(n):.3g}" for n in counts))
        names = points.groupby("dataset")["class"].unique()
        chance = frames["-separation.csv"].groupby("dataset_title")["chance"].mean().dropna()
        sentences = [sentence for sentence in map(fonts.describe_numbers, names) if sentence][:1]
        sentences += [f"Perplexity {used}."] if used else []
        sentences += [f"A share of {value:.2f} is chance on {title}." for title, value in chance.items()]
        if len(data.request.folds) * len(data.request.seeds) > 1 and len(points):
            sentences.append(
                f"Drawn: fold {points['fold'].iloc[0]}, seed {points['seed'].iloc[0]}; numbers: mean ± standard "
                "deviation over all folds and seeds that are done."
            )
        return sentences

    def draw(self, data, frames, **texts):
        points, numbers = frames[".csv"], frames["-separation.csv"]
        several = len(data.column_groups) > 1
        legend = [
            plots.make_legend_entry(
                plots.pick_style(int(label)),
                f"{name} ({count})" + (f", {source}" if several else ""),
                line=False,
            )
            for source, label, name, count in count_classes(points)
        ]
        width, side = data.compute_panel_size(0)
        page = plots.FigurePage((width, data.count_panel_rows() * (side + 0.45)), legend=legend, **texts)
        for axes, column, row, group in data.add_panels(page):
            axes.set(xticks=[], yticks=[])
            measures = numbers[(numbers["dataset"] == group.source) & (numbers["method"] == row.name)]
            axes.set_title(format_panel_title(row.title, measures, 66 * side))
            images = points[(points["dataset"] == group.source) & (points["method"] == row.name)]
            if images.empty:
                state = measures["state"].iloc[0]
                is_told = state == WITHOUT or not data.find_records(row, group)
                plots.draw_placeholder(axes, state if is_told else "this fold is not run")
                continue
            draw_points(axes, images)
            if several and column == 0:
                axes.set_ylabel(group.title)
        return page


def draw_points(axes, images):
    """Draw one panel's images, a colour and a marker for each class."""
    for label, of_class in images.groupby("label"):
        style = plots.pick_style(int(label))
        axes.scatter(
            of_class["x"], of_class["y"], s=11, c=style.colour, marker=style.marker, linewidths=0.3,
            edgecolors="black", alpha=0.85,
        )  # fmt: skip
    axes.margins(0.04)
    if not np.isfinite(images["x"]).any():
        plots.draw_placeholder(axes, "too few images")


def choose_run(data, group):
    """Choose the (fold, seed) that most rows have, the first of several; None where no row has a run."""
    by_row = [data.find_records(row, group) for row in data.rows]
    requested = [(fold, seed) for fold in data.request.folds for seed in data.request.seeds]
    best = max(requested, key=lambda run: sum(run in records for records in by_row))
    return best if any(best in records for records in by_row) else None


def measure(arrays):
    """Measure how far the classes lie apart in a run's embedding, in numbers by the names in ``MEASURES``."""
    separation = embeddings.measure_separation(arrays["embeddings"], arrays["labels"])
    return separation._asdict() | {"images": len(arrays["labels"])}


def compute_points(arrays, class_names):
    """Compute the columns of a run's images; x and y are NaN for fewer than ``MIN_IMAGES``."""
    n = len(arrays["labels"])
    xy = embeddings.compute_tsne(arrays["embeddings"], SEED) if n >= MIN_IMAGES else np.full((n, 2), np.nan)
    of_class = [class_names[label] for label in arrays["labels"]]
    return {"id": arrays["ids"], "label": arrays["labels"], "class": of_class, "x": xy[:, 0], "y": xy[:, 1]}


def count_classes(points):
    """Count the images of each class: (data set, label, name or number, images)."""
    first = points.drop_duplicates(["dataset", "id"])
    counts = first.groupby(["dataset", "label", "class"], sort=True).size()
    numbered = {
        source
        for source, names in points.groupby("dataset")["class"]
        if fonts.list_undrawable("".join(names))
    }
    return [
        (source, label, f"class {label + 1}" if source in numbered else name, count)
        for (source, label, name), count in counts.items()
    ]


def format_panel_title(title, numbers, width):
    """Format a panel's title: the method and its two numbers, means over its runs."""
    known = numbers.dropna(subset=["purity"])
    lines = [plots.truncate_text(title, width)]
    for column, text in (("silhouette", "silhouette"), ("purity", "10-NN purity")):
        if len(known):
            spread = f" ± {known[column].std(ddof=1):.2f}" if len(known) > 1 else ""
            value = known[column].mean()
            lines.append(f"{text} {value:.2f}{spread}" if np.isfinite(value) else f"{text} undefined")
    return "\n".join(lines).replace("-0.", "−0.")
