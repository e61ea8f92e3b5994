"""One study: the trials of one row on one data set and fold, suggested by Optuna, chosen on validation images.

Trials are asked for in batches of a fixed size and told in their order, whatever finished first, and the sampler's seed
comes from the run's names: a search repeated has the same trials, however many run at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError
from udcd_bench.plugins import Between
from udcd_bench.runs import planner
from udcd_bench.runs.spec import derive_seed, identify_value
from udcd_bench.stats.rules import CHOSEN_BY

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optuna

    from udcd_bench.runs.records import Record
    from udcd_bench.runs.spec import RunSpec, Scalar
    from udcd_bench.tuning.ranges import Range

BATCH = 5
"""Trials that are suggested at once, of what all before them have shown."""


@dataclass
class Trial:
    """A trial: the settings tried in place of the row's own, their run, and how it ended.

    values: none for the first trial, which is the row as it is. record: None until the run is finished.
    """

    number: int
    values: dict[str, Scalar]
    spec: RunSpec
    suggestion: optuna.Trial | None = field(repr=False, default=None)
    record: Record | None = None
    failure: str = ""

    @property
    def score(self) -> float | None:
        """Macro F1 on the validation images, the mean of the last epochs; None where the run did not finish."""
        return None if self.record is None else self.record["validation"]["mean"][CHOSEN_BY]


class Study:
    """The trials of one row. spec: of the row as it is, with validation images. ranges: of what is tried."""

    def __init__(self, spec: RunSpec, ranges: Mapping[str, Range]) -> None:
        optuna = import_optuna()
        self.spec, self.ranges = planner.normalize_spec(spec), dict(ranges)
        self.trials: list[Trial] = []
        sampler = optuna.samplers.TPESampler(seed=_derive_sampler_seed(self.spec))
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._distributions = {name: self._make_distribution(name) for name in self.ranges}

    def ask(self, n: int) -> list[Trial]:
        """Suggest n more trials; the first of a study is the row as it is."""
        first = len(self.trials)
        batch = [self._suggest(number) for number in range(first, first + n)]
        self.trials += batch
        return batch

    def tell(self) -> None:
        """Tell the sampler how the trials ended that it suggested last, in their order."""
        states = import_optuna().trial.TrialState
        for trial in self.trials:
            if trial.suggestion is not None:
                state = states.FAIL if trial.score is None else states.COMPLETE
                self._study.tell(trial.suggestion, trial.score, state=state)
                trial.suggestion = None

    def find_best(self) -> Trial | None:
        """Find the trial of the highest score, of equals the first; None where no trial has finished."""
        finished = [trial for trial in self.trials if trial.score is not None]
        return max(finished, key=lambda trial: trial.score or 0.0, default=None)

    def _suggest(self, number: int) -> Trial:
        if number == 0 or not self.ranges:
            return Trial(number, {}, self.spec)
        suggestion = self._study.ask(self._distributions)
        values = {name: _round(value) for name, value in suggestion.params.items()}
        hparams = tuple(dict([*self.spec.hparams, *values.items()]).items())
        spec = planner.normalize_spec(replace(self.spec, hparams=hparams))
        return Trial(number, values, spec, suggestion)

    def _make_distribution(self, name: str) -> Any:
        distributions, values = import_optuna().distributions, self.ranges[name]
        if not isinstance(values, Between):
            return distributions.CategoricalDistribution(list(values))
        if type(planner.resolve_hparams(self.spec).get(name)) is int:
            return distributions.IntDistribution(round(values.low), round(values.high), log=values.log)
        return distributions.FloatDistribution(values.low, values.high, log=values.log)


def _derive_sampler_seed(spec: RunSpec) -> int:
    """Derive the sampler's seed from what the run is, whatever its images and weights are called."""
    protocol = [(name, identify_value(name, value)) for name, value in spec.protocol]
    coordinates = spec.to_dict() | {"dataset": spec.data_identity, "protocol": protocol}
    return derive_seed("search", sorted(coordinates.items())) % 2**32


def _round(value: Scalar) -> Scalar:
    """Round to three digits, so that a setting can be read and typed."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def import_optuna() -> Any:
    """Import Optuna, which says nothing by itself. Raises UserError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise UserError("search needs Optuna: pip install 'udcd-bench[search]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
