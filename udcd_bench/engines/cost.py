"""What runs cost: the epochs and images that each trains, of prepared data or, before there are any, as published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from udcd_bench.data import official, published_sizes, sources
from udcd_bench.engines.execute import choose_split, make_split, name_images
from udcd_bench.runs import planner

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from udcd_bench.engines.execute import DatasetLoader, RunContext
    from udcd_bench.runs.spec import RunSpec


@dataclass(frozen=True)
class RunCost:
    """What a run trains. epochs: of all its stages. n_train: its training images."""

    spec: RunSpec
    epochs: int
    n_train: int

    @property
    def n_images(self) -> int:
        """The images that it trains on, each as often as it is seen."""
        return self.epochs * self.n_train


def measure_cost(spec: RunSpec, context: RunContext, load: DatasetLoader) -> RunCost:
    """Measure what a run trains; of a data set that is not prepared, by its published size."""
    protocol, images = planner.resolve_protocol(spec), name_images(spec)
    if _find_unprepared(spec, context.data):
        n_train = published_sizes.count_training_images(spec.dataset, choose_split(spec, protocol))
    else:
        n_train = len(make_split(spec, protocol, load(images, protocol, context)).train)
    return RunCost(spec, planner.count_epochs(spec), n_train)


def list_unprepared(specs: Iterable[RunSpec], data: Path) -> dict[str, int]:
    """List the data sets of these runs that are not prepared and whose size is published: name → images.

    data: the folder of prepared data.
    """
    names = dict.fromkeys(name for spec in specs for name in _find_unprepared(spec, data))
    counts = {name: published_sizes.find_counts(name) for name in names}
    return {name: int(each.sum()) for name, each in counts.items() if each is not None}


def _find_unprepared(spec: RunSpec, data: Path) -> list[str]:
    """Find the sets of images of a run that are not prepared, of those whose size is published."""
    images = name_images(spec)
    size = str(planner.resolve_protocol(spec).image_size)
    return [
        name
        for name in official.split_name(images) or (images,)
        if published_sizes.find_counts(name) is not None
        and not any(path.name == size for path in sources.list_prepared(name, data))
    ]
