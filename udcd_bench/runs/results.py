"""``Results``: what a results folder holds, read once and shared by everything that reports on it."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from udcd_bench.errors import UserError
from udcd_bench.runs import planner
from udcd_bench.runs.names import RUN, join_teachers
from udcd_bench.runs.records import is_by_method_here, list_teacher_keys
from udcd_bench.runs.spec import RunSpec
from udcd_bench.stats import metrics, rules

if TYPE_CHECKING:
    from udcd_bench.runs.planner import Job
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.spec import Overrides
    from udcd_bench.runs.store import Store
    from udcd_bench.stats.metrics import Floats
    from udcd_bench.storage.packing import Arrays

MAX_KEPT = 128
"""Most runs whose per-image scores are kept in memory: about 200 MB of HAM10000's test images."""
MAX_KEPT_BYTES = 1 << 28
"""Most bytes of theirs, but for those of a single run: own images may be many more than HAM10000's."""


@dataclass
class Results:
    """The runs of a results folder.

    records: of the finished runs, the newest of each spec by its method as it is here, or else the newest, under every
    spec that means the same run: of another profile, or with its teacher named otherwise.
    states: of every run that is known of, as ``Store.get_state`` names them; ``failed`` may go on with a colon and
    the error's message.
    draws: cache of bootstrap draws, filled by ``judging.uncertainty``, so that several tables share them.
    test_counts: cache of ``count_tested``.
    scores: cache of ``read_scores`` by key, of ``MAX_KEPT`` runs and ``MAX_KEPT_BYTES`` at most.
    """

    store: Store
    records: Mapping[RunSpec, Record]
    states: Mapping[RunSpec, str]
    draws: dict[Hashable, dict[str, Floats]] = field(default_factory=dict)
    test_counts: dict[RunSpec, list[int]] = field(default_factory=dict)
    scores: dict[str, Arrays] = field(default_factory=dict, repr=False, compare=False)

    def select_records(self, specs: Iterable[RunSpec]) -> dict[RunSpec, Record]:
        """Select the records of those of the specs that are finished, in the order of the specs."""
        return {spec: self.records[spec] for spec in specs if spec in self.records}

    def list_made(self) -> list[RunSpec]:
        """List the finished runs, each once, as the specs that they were made as."""
        return [spec for spec, record in self.records.items() if RunSpec.from_dict(record["spec"]) == spec]

    def find_failure(self, spec: RunSpec) -> str | None:
        """Return a failed run's message; None for a run that did not fail."""
        state, _, message = self.states.get(spec, "").partition(": ")
        return message if state == "failed" else None

    def has_scores(self, spec: RunSpec) -> bool:
        """Tell whether a finished run's per-image scores are still in the folder."""
        return self.store.has_scores(self.records[spec]["key"])

    def find_common_protocol(self, profile: str, split: str) -> Overrides:
        """Find the overrides of the protocol that all runs of a profile and split have, such as one file of weights."""
        of_runs = [set(s.protocol) for s in self.states if (s.profile, s.split) == (profile, split)]
        return tuple(sorted(set.intersection(*of_runs))) if of_runs else ()

    def count_tested(self, spec: RunSpec) -> list[int]:
        """Count a finished run's test images by class, from its scores where its record is too old to say so.

        Empty where neither is there.
        """
        record = self.records[spec]
        if (counts := record.get("n_test_by_class")) is not None:
            return counts
        if spec not in self.test_counts:
            labels = self.read_scores(spec)["labels"] if self.has_scores(spec) else []
            self.test_counts[spec] = metrics.count_labels(labels, len(record["classes"]))
        return self.test_counts[spec]

    def read_scores(self, spec: RunSpec) -> Arrays:
        """Read a finished run's stored arrays, see ``Store.read_scores``; nobody may write into them."""
        return self.read_scores_of(self.records[spec]["key"])

    def read_scores_of(self, key: str) -> Arrays:
        """Read the arrays of the run of this key, as ``read_scores`` does."""
        if key not in self.scores:
            arrays = self.store.read_scores(key)
            for array in arrays.values():
                array.flags.writeable = False
            size = sum(map(_count_bytes, (arrays, *self.scores.values())))
            if len(self.scores) == MAX_KEPT or size > MAX_KEPT_BYTES:
                self.scores.clear()
            self.scores[key] = arrays
        return dict(self.scores[key])


def _count_bytes(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


def load_results(store: Store) -> Results:
    """Load everything a results folder holds, whatever made it; needs no data and trains nothing."""
    ages = {key: store.finished_at(key) for key in store.list_keys()}
    oldest_first = sorted(ages, key=lambda key: (ages[key], key))
    finished = [fill_missing_metrics(store.read_record(key), store) for key in oldest_first]
    records = choose_newest(finished)
    for spec, record in list(records.items()):
        for equal in planner.list_equal_specs(spec):
            records.setdefault(equal, record)
    rows = {record["key"]: str(record["spec"]["method"]) for record in finished}
    for spec, record in list(records.items()):
        for equal in _list_equally_taught(spec, record, records, rows):
            records.setdefault(equal, record)
    states = dict.fromkeys(records, "done")
    for key in store.list_failed():
        if (report := store.read_failure(key)) is not None:
            states.setdefault(RunSpec.from_dict(report["spec"]), f"failed: {report['message']}")
    return Results(store, records, states)


def choose_newest(oldest_first: Iterable[Record]) -> dict[RunSpec, Record]:
    """Choose one run of each spec: the newest of those by its method as it is here, or else the newest."""
    records: dict[RunSpec, Record] = {}
    for record in oldest_first:
        spec = RunSpec.from_dict(record["spec"])
        if spec not in records or is_by_method_here(record) or not is_by_method_here(records[spec]):
            records[spec] = record
    return records


def _list_equally_taught(
    spec: RunSpec, record: Record, records: Mapping[RunSpec, Record], rows: Mapping[str, str]
) -> Iterator[RunSpec]:
    """List a finished run's spec with its teachers named otherwise: by their keys, or by the rows whose runs they are.

    Several of which one is a file stay as they are. records: by spec. rows: key → method of the finished runs.
    """
    keys = list_teacher_keys(record)
    if not keys or record.get("made_of", {}).get("teacher_files"):
        return
    yield replace(spec, teacher=join_teachers(f"{RUN}{key}" for key in keys))
    # a method may be in no suite here, or a teacher not in the folder
    with contextlib.suppress(UserError, KeyError):
        by_rows = planner.normalize_spec(replace(spec, teacher=join_teachers(rows[key] for key in keys)))
        made_first = planner.build_teacher_specs(by_rows)
        if sorted(records[teacher]["key"] for teacher in made_first) == keys:
            yield by_rows


def read_results(store: Store, jobs: Mapping[RunSpec, Job], failed: Mapping[str, str]) -> Results:
    """Read what a results folder holds of these jobs, by the specs that they were asked for as.

    failed: key → message of those that have just failed.
    """
    keys = {job.key for job in jobs.values()}
    by_key = {
        key: fill_missing_metrics(store.read_record(key), store) for key in keys if store.is_finished(key)
    }
    states = {key: f"failed: {failed[key]}" if key in failed else store.get_state(key) for key in keys}
    return Results(
        store,
        {spec: by_key[job.key] for spec, job in jobs.items() if job.key in by_key},
        {spec: states[job.key] for spec, job in jobs.items()},
    )


def fill_missing_metrics(record: Record, store: Store) -> Record:
    """Add the metrics that are defined today and that the record lacks, so that a new metric needs no training.

    They are computed from the run's stored scores, and stay missing where the scores are gone. Stored values win.
    """
    stored = record["figures"]
    needed = {"mean", "last", "best", *stored}
    if all(stored.get(rule, {}).keys() >= metrics.METRICS.keys() for rule in needed):
        return record
    if not store.has_scores(record["key"]):
        return record
    arrays = store.read_scores(record["key"])
    computed = rules.summarize_test(arrays, ordered=record["ordered"])
    return {**record, "figures": {rule: computed[rule] | stored.get(rule, {}) for rule in computed}}
