"""Bootstrap draws and training noise: the uncertainty of every table cell.

A cell's interval has the test images' share of chance (bootstrap over groups within each fold; seeds of a fold
share their draws, folds are independent) and training's. How far trainings differ is pooled over all rows, folds and
imbalances of a data set that have several seeds, and used for every row of it: few rows have enough seeds to show it
by themselves. Where no row has, it is what ``tables/tolerances.toml`` assumes. That the folds' training sets overlap
is not in it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from udcd_bench.errors import format_count
from udcd_bench.judging.tolerances import Tolerances, load_tolerances
from udcd_bench.runs.names import identify_data
from udcd_bench.runs.spec import RunSpec, derive_seed
from udcd_bench.stats import statistics
from udcd_bench.stats.embeddings import SEPARATION_METRICS, measure_images
from udcd_bench.stats.metrics import METRICS, Floats
from udcd_bench.stats.rules import select_reported_epochs

if TYPE_CHECKING:
    from udcd_bench.grid.cells import ColumnGroup, TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.runs.results import Results

CellKey = tuple[str, float | None, str, str]
"""Data set, or the name of a group of columns, imbalance as shown, method, metric."""
BootstrapDraws = dict[CellKey, Floats]
"""A cell's figure in each draw, percent."""


def select_available_repeats(
    request: TableRequest, results: Results, folds: Sequence[int] | None, seeds: Sequence[int] | None
) -> TableRequest:
    """Return the request with all folds and seeds that the folder has of its profile and split, unless given."""
    specs = [s for s in results.states if (s.profile, s.split) == (request.profile, request.split)]
    return replace(
        request,
        folds=tuple(folds if folds is not None else sorted({s.fold for s in specs}) or request.folds),
        seeds=tuple(seeds if seeds is not None else sorted({s.seed for s in specs}) or request.seeds),
    )


def bootstrap_table(grid: Grid, request: TableRequest, results: Results) -> BootstrapDraws:
    """Draw each cell's figure, of a grid whose column groups differ in data set and imbalance alone."""
    return {
        (group.name, group.shown_rho, row, metric): values
        for group in grid.list_column_groups(request)
        for (row, metric), values in bootstrap_group(grid, request, group, results).items()
    }


def bootstrap_group(
    grid: Grid, request: TableRequest, group: ColumnGroup, results: Results
) -> dict[tuple[str, str], Floats]:
    """Draw the figures of one column group: (row, metric) → figures (draws,), percent, of rows with finished runs.

    Methods tested on the same images share their draws, so they compare. A cell with a run whose scores are gone
    has no draws.
    """
    specs_by_row = select_group_runs(grid, request, group, results)
    rng_key: list[object] = [identify_data(group.source), group.shown_rho]
    rng_key += [group.fraction, group.backbone] if (group.fraction, group.backbone) != (1.0, "") else []
    rng_key += [group.teacher_backbone] if group.teacher_backbone else []
    rng_key += [request.split] if request.split != "paper" else []
    bootstrap = Bootstrap(results, request.rule, load_tolerances())
    return bootstrap.draw_rows(specs_by_row, grid.metrics, rng_key)


def select_group_runs(
    grid: Grid, request: TableRequest, group: ColumnGroup, results: Results
) -> dict[str, list[RunSpec]]:
    """Select the finished runs behind each row in one column group."""
    return {
        row.name: [spec for spec in grid.list_cell_runs(request, row, group) if spec in results.records]
        for row in grid.list_rows(request)
    }


@dataclass(frozen=True)
class Bootstrap:
    """Draws of the figures that a reporting rule (of ``stats.rules``) takes from finished runs."""

    results: Results
    rule: str
    tolerances: Tolerances

    def draw_rows(
        self, specs_by_row: Mapping[str, Sequence[RunSpec]], metrics: Sequence[str], rng_key: Sequence[object]
    ) -> dict[tuple[str, str], Floats]:
        """Draw rows of one column: (row, metric) → figures (draws,), percent, with the noise of training.

        specs_by_row: the finished runs behind each row.
        metrics: of a confusion matrix or of an embedding; others are left out.
        rng_key: names the column; it seeds the noise of training.
        """
        known = [m for m in metrics if m in statistics.CONFUSION_METRICS or m in SEPARATION_METRICS]
        by_run = self.draw_runs(list(itertools.chain(*specs_by_row.values())), known)
        draws = {}
        for (row, specs), metric in itertools.product(specs_by_row.items(), known):
            if not specs or not all(spec in by_run for spec in specs):
                continue
            if len(self.collect_percents(specs, metric)) < len(specs):
                continue
            noise = self.draw_training(specs[0], metric, len(specs), ("training", *rng_key, row, metric))
            draws[row, metric] = 100 * np.mean([by_run[spec][metric] for spec in specs], axis=0) + noise
        return draws

    def draw_training(self, spec: RunSpec, metric: str, n: int, rng_key: Sequence[object]) -> Floats:
        """Draw what training does to the mean of n runs of a row (draws,), points around 0.

        spec: one of the row's runs. What the deviation may truly be is drawn once for all figures of its data set.
        """
        cache_key = (_strip_row(spec), metric)
        if cache_key not in self._deviations:
            self._deviations[cache_key] = self._draw_deviation(spec, metric)
        error = np.random.default_rng(derive_seed(*rng_key)).normal(0, 1, self.tolerances.draws)
        return error * (self._deviations[cache_key] / math.sqrt(n))

    @cached_property
    def _deviations(self) -> dict[tuple[RunSpec, str], Floats]:
        """Setting and metric → what was drawn of training's deviation, which the rows of a column share."""
        return {}

    def _draw_deviation(self, spec: RunSpec, metric: str) -> Floats:
        """Draw what training's deviation may truly be under a run's settings (draws,), points."""
        names = (spec.data_identity, spec.profile, spec.split)
        generator = np.random.default_rng(derive_seed("training deviation", *names))
        return self.find_training_noise(spec, metric).draw_deviation(generator, self.tolerances.draws)

    def find_training_noise(self, spec: RunSpec, metric: str) -> statistics.TrainingNoise:
        """Find how far trainings differ under a run's settings, whatever its row, fold and imbalance."""
        rows = self._repeats_by_setting.get(_strip_row(spec), [])
        values = (list(self.collect_percents(specs, metric).values()) for specs in rows)
        return statistics.pool_training_noise(values, self.tolerances.get_noise(metric))

    @cached_property
    def _repeats_by_setting(self) -> dict[RunSpec, list[list[RunSpec]]]:
        """The finished runs that differ in their seed alone, of all rows and folds that have several, by setting."""
        by_row: dict[RunSpec, list[RunSpec]] = {}
        for spec in self.results.records:
            by_row.setdefault(replace(spec, seed=0), []).append(spec)
        settings: dict[RunSpec, list[list[RunSpec]]] = {}
        for row, specs in by_row.items():
            if len(specs) > 1:
                settings.setdefault(_strip_row(row), []).append(specs)
        return settings

    def collect_percents(self, specs: Sequence[RunSpec], metric: str) -> dict[tuple[int, int], float]:
        """Collect the figures of finished runs of one setting, in percent, by (fold, seed).

        metric: also of an embedding; a run without one, or with a single class in it, has none.
        """
        values: dict[tuple[int, int], float] = {}
        for spec in specs:
            if metric not in SEPARATION_METRICS:
                # an older run whose scores are gone may lack a metric of today
                figures = self.results.records[spec]["figures"][self.rule]
                values[spec.fold, spec.seed] = figures.get(metric, math.nan)
            elif self._has_embeddings(spec):
                values[spec.fold, spec.seed] = float(self._measure_images(spec)[metric].mean())
        return {run: 100 * value for run, value in values.items() if not math.isnan(value)}

    def draw_runs(self, specs: Sequence[RunSpec], metrics: Sequence[str]) -> dict[RunSpec, dict[str, Floats]]:
        """Draw the figures of each run that has its scores: metric → figures (draws,), fractions.

        Runs of one fold on the same images are drawn together.
        """
        by_test_set: dict[tuple[int, str], list[RunSpec]] = {}
        of_embeddings = bool(set(metrics) & SEPARATION_METRICS.keys())
        for spec in specs:
            if self._has_embeddings(spec) if of_embeddings else self.results.has_scores(spec):
                test_set = (spec.fold, self.results.records[spec]["split_hash"])
                by_test_set.setdefault(test_set, []).append(spec)
        draws = {}
        for test_set, members in by_test_set.items():
            # sorted, so that the draws do not depend on the caller
            ordered = sorted(members, key=lambda spec: str(self.results.records[spec]["key"]))
            joint = self._draw_jointly(test_set, ordered)
            for index, spec in enumerate(ordered):
                images = self._draw_images(test_set, spec) if of_embeddings else {}
                draws[spec] = {m: images[m] if m in images else joint[m][:, index] for m in metrics}
        return draws

    def _has_embeddings(self, spec: RunSpec) -> bool:
        """Whether a run's embeddings are stored; a packed one may be without them."""
        return self.results.has_scores(spec) and bool(self.results.read_scores(spec)["embeddings"].shape[1])

    def _measure_images(self, spec: RunSpec) -> dict[str, Floats]:
        """Measure how each test image lies in a run's embedding, or take it from the cache: metric → (n,)."""
        cache_key = ("embedding", spec)
        if cache_key not in self.results.draws:
            arrays = self.results.read_scores(spec)
            self.results.draws[cache_key] = measure_images(arrays["embeddings"], arrays["labels"])
        return self.results.draws[cache_key]

    def _draw_images(self, test_set: tuple[int, str], spec: RunSpec) -> dict[str, Floats]:
        """Draw the means over the test images of what an embedding shows of each: metric → draws (draws,), fractions.

        Groups are resampled, the same for all runs on one test set; an image's neighbours stay what they are.
        """
        values = self._measure_images(spec)
        groups = np.unique(self.results.read_scores(spec)["groups"], return_inverse=True)[1].reshape(-1)
        generator = np.random.default_rng(derive_seed("embedding", spec.dataset, *test_set))
        n = int(groups.max()) + 1
        times = generator.multinomial(n, np.full(n, 1 / n), size=self.tolerances.draws)
        images = times @ np.bincount(groups)
        return {metric: times @ np.bincount(groups, of_image) / images for metric, of_image in values.items()}

    def _draw_jointly(self, test_set: tuple[int, str], specs: Sequence[RunSpec]) -> dict[str, Floats]:
        """Draw runs on one test set, or take the draws from the cache: metric → figures (draws, runs)."""
        cache_key = (*test_set, self.rule, self.tolerances.draws, *specs)
        if cache_key not in self.results.draws:
            stored = [self.results.read_scores(spec) for spec in specs]
            labels, groups = stored[0]["labels"], stored[0]["groups"]
            generator = np.random.default_rng(derive_seed("check", specs[0].data_identity, *test_set))
            self.results.draws[cache_key] = statistics.bootstrap_jointly(
                [select_reported_epochs(arrays, self.rule) for arrays in stored],
                statistics.CONFUSION_METRICS,
                statistics.Resampling(labels, groups, self.tolerances.draws, generator),
            )
        return self.results.draws[cache_key]


def list_training_noise(
    grid: Grid, request: TableRequest, results: Results
) -> dict[str, dict[str, statistics.TrainingNoise]]:
    """List what a table's intervals take for training's noise: data set with finished runs → metric → noise."""
    bootstrap = Bootstrap(results, request.rule, load_tolerances())
    metrics = [metric for metric in grid.metrics if metric in statistics.CONFUSION_METRICS]
    noise = {}
    for group in grid.list_column_groups(request):
        done = [spec for specs in select_group_runs(grid, request, group, results).values() for spec in specs]
        if done:
            part = f", {group.fraction:.0%} of the training images" if group.fraction != 1 else ""
            backbone = f", {group.backbone}" if group.backbone else ""
            noise[f"{group.title}{part}{backbone}"] = {
                metric: bootstrap.find_training_noise(done[0], metric) for metric in metrics
            }
    return noise


def describe_training_noise(noise: Mapping[str, Mapping[str, statistics.TrainingNoise]]) -> list[str]:
    """Describe what was taken for training's noise, and from how many seeds, in a sentence for each kind."""
    sentences = []
    for title, by_metric in noise.items():
        first = next(iter(by_metric.values()), None)
        if first is not None and first.pairs:
            seen, assumed, taken = (
                _list_points(by_metric, name) for name in ("seen", "assumed", "deviation")
            )
            sentences.append(
                f"Training's noise on {title}: a standard deviation of {taken} points, with {first.freedom} degrees of "
                f"freedom; {format_count(first.pairs, 'pair')} of seeds, pooled over all rows, have {seen}, "
                f"and the assumed {assumed} counts as {format_count(statistics.ASSUMED_WEIGHT, 'more pair')}."
            )
    of_none = {
        title: by_metric for title, by_metric in noise.items() if not any(n.pairs for n in by_metric.values())
    }
    if of_none and (by_metric := next(iter(of_none.values()))):
        sentences.append(
            f"Training's noise on {' and '.join(of_none)} is assumed, since no row has a second seed: a standard "
            f"deviation of {_list_points(by_metric, 'assumed')} points."
        )
    return sentences


def _list_points(by_metric: Mapping[str, statistics.TrainingNoise], name: str) -> str:
    """List a number of the noise by metric; metrics of the same number stand together."""
    titles: dict[str, list[str]] = {}
    for metric, noise in by_metric.items():
        points = getattr(noise, name)
        text = f"{points:g}" if name == "assumed" else f"{points:.2f}"
        titles.setdefault(text, []).append(METRICS[metric].title)
    return ", ".join(f"{text} ({', '.join(of_text)})" for text, of_text in titles.items())


def _strip_row(spec: RunSpec) -> RunSpec:
    """Return a run's settings without what may differ between runs whose training noise is taken as the same."""
    return replace(spec, method="", hparams=(), fold=0, seed=0, rho=None)
