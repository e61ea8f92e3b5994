"""What a results folder holds that no table or figure needs and none in it was made from, with the reason for each."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench import plugins
from udcd_bench.artefacts.made_from import find_used_keys
from udcd_bench.errors import format_count
from udcd_bench.grid.cells import TableRequest
from udcd_bench.runs import names, planner, profiles
from udcd_bench.runs.names import format_data_title
from udcd_bench.runs.records import list_teacher_keys
from udcd_bench.runs.results import choose_newest
from udcd_bench.runs.spec import RunSpec, format_overrides

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from udcd_bench.runs.records import Record
    from udcd_bench.runs.store import Store


class Unneeded(NamedTuple):
    """A run, a report or a damaged folder: what it is, why nothing needs it, where it lies."""

    label: str
    reason: str
    path: Path


def list_unneeded(store: Store, profile_names: Sequence[str]) -> list[Unneeded]:
    """List what may be removed from a folder. Runs of a method that is in no suite here are not judged."""
    needed = _collect_needed(profile_names)
    known = set(plugins.list_names("methods"))
    listed = [
        *_list_finished(store, needed, known),
        *_list_unfinished(store, needed, known),
    ]
    for key in store.list_failed():
        report = store.read_failure(key)
        label = RunSpec.from_dict(report["spec"]).format_label() if report else key
        listed.append(Unneeded(label, "the report of a failure", store.failure_path(key)))
    listed += [Unneeded(path.name, "damaged, and moved aside", path) for path in store.list_damaged()]
    return listed


def describe_unknown(store: Store) -> str:
    """Describe the finished runs whose method is in no suite here; empty where there are none."""
    known = set(plugins.list_names("methods"))
    counts = Counter(record["spec"]["method"] for record in store.read_records())
    unknown = {method: n for method, n in sorted(counts.items()) if method not in known}
    if not unknown:
        return ""
    runs = format_count(sum(unknown.values()), "run")
    stays = "stays, since its" if sum(unknown.values()) == 1 else "stay, since their"
    return (
        f"{runs} of {', '.join(unknown)} {stays} method is in no suite here; udcd-bench --suite DIR adds one."
    )


def _list_finished(store: Store, needed: set[RunSpec], known: set[str]) -> Iterator[Unneeded]:
    records = {key: store.read_record(key) for key in store.list_keys()}
    specs = {key: RunSpec.from_dict(record["spec"]) for key, record in records.items()}
    # one spec may have several runs, as after a change of its method
    oldest_first = sorted(specs, key=lambda key: (store.finished_at(key), key))
    newest = {
        spec: record["key"] for spec, record in choose_newest(map(records.__getitem__, oldest_first)).items()
    }
    keep = {
        key
        for spec, key in newest.items()
        if needed.intersection(map(_take_first_repeat, planner.list_equal_specs(spec)))
    }
    keep |= {key for key, spec in specs.items() if spec.method not in known}
    keep |= find_used_keys(store.root, records)
    while teachers := _list_teachers(keep, records) - keep:  # who may have teachers of their own
        keep |= teachers
    for key, spec in specs.items():
        if key not in keep:
            is_newest = newest[spec] == key
            reason = _explain(spec, needed) if is_newest else "another run is in its place"
            yield Unneeded(spec.format_label(), reason, store.run_folder(key))


def _list_teachers(keys: set[str], records: Mapping[str, Record]) -> set[str]:
    """List the keys of the runs that taught these."""
    return {teacher for key in keys & records.keys() for teacher in list_teacher_keys(records[key])}


def _list_unfinished(store: Store, needed: set[RunSpec], known: set[str]) -> Iterator[Unneeded]:
    for path in store.list_work_folders():
        running = store.read_running_spec(path.name)
        if store.locks.is_locked(path.name):
            continue
        if running is None:
            yield Unneeded(path.name, "unfinished, in no table or figure", path)
        elif running.method in known and _take_first_repeat(running) not in needed:
            yield Unneeded(running.format_label(), f"unfinished, {_explain(running, needed)}", path)


def _explain(spec: RunSpec, needed: set[RunSpec]) -> str:
    """Explain why nothing needs a run; where a table with its settings would hold it, these are named."""

    def get_cell(each: RunSpec) -> tuple[object, ...]:
        return each.method, each.profile, each.fraction, each.rho

    profile = profiles.PROFILES.get(spec.profile)
    if profile is None or get_cell(spec) not in set(map(get_cell, needed)):
        return "in no table or figure"
    own = tuple((f"{spec.method}.{name}", value) for name, value in spec.hparams)
    words = [f"--set {setting}" for setting in format_overrides((*own, *spec.protocol))]
    words += [f"--backbone {spec.backbone}"] if spec.backbone != profile.backbone else []
    words += [f"--teacher-backbone {spec.teacher_backbone}"] if spec.teacher_backbone else []
    words += [f"--teacher {names.format_teacher_option(spec.teacher)}"] if spec.teacher else []
    if spec.dataset not in dict(profile.datasets).values():
        words.append(f"--datasets {format_data_title(spec.dataset)}")
    settings = " ".join(words)
    return (
        f"in no table or figure here; one with {settings} would hold it" if words else "in no table or figure"
    )


def _take_first_repeat(spec: RunSpec) -> RunSpec:
    """Return the run of the same cell whose fold, seed and split are the first: a table may ask for any."""
    return replace(spec, fold=0, seed=0, split="paper")


def _collect_needed(profile_names: Sequence[str]) -> set[RunSpec]:
    """Collect the specs of every table and figure, and of their teachers, as ``_take_first_repeat`` returns them."""
    return set(
        planner.list_runs(
            spec
            for kind in ("tables", "figures")
            for name in plugins.list_names(kind)
            for profile in profile_names
            for spec in plugins.load_class(kind, name)().list_runs(TableRequest(profile))
        )
    )
