"""Planning: from the specs that artefacts need to jobs, each run once, teachers first; and their commands and times."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.runs import profiles
from udcd_bench.runs.spec import RunSpec, format_split_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from udcd_bench.runs.store import Store

STATE_REASONS = {
    "absent": "not made yet",
    "interrupted": "goes on from its checkpoint",
    "failed": "failed last time",
    "running": "another process is training it",
    "damaged": "what is stored is damaged",
}
"""State of a run → why it is to be made, as ``--dry-run`` prints it."""


@dataclass(frozen=True)
class Job:
    """A run to make. key: its folder's name. teacher_key: of the run whose student is its teacher.

    state: ``Store.get_state``. epochs: of all its stages together.
    """

    spec: RunSpec
    key: str
    teacher_key: str | None
    state: str
    epochs: int

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state == "done"


def resolve_protocol(spec: RunSpec) -> profiles.Protocol:
    """Resolve a run's protocol: its profile's, then its source's, its method's and its own overrides, in this order."""
    own = plugins.read_attributes("methods", spec.method).get("protocol", {})
    return profiles.build_protocol(spec.profile, spec.dataset, spec.protocol, own)


def normalize_spec(spec: RunSpec) -> RunSpec:
    """Return the spec with its overrides as values of the right type, and without those that change nothing.

    Raises UserError when something it names does not exist or a value is invalid.
    """
    declared = plugins.read_attributes("methods", spec.method)
    numbers = resolve_protocol(spec)
    title, defaults = declared.get("title", spec.method), declared.get("hparams", {})
    values = profiles.resolve_hparams(title, defaults, declared.get("choices", {}), spec.hparams)
    # an override that sets the default changes nothing, and the same run must have the same key
    hparams = tuple((k, values[k]) for k, _ in spec.hparams if values[k] != defaults[k])
    protocol = tuple((k, profiles.Protocol.parse_value(k, v)) for k, v in spec.protocol)
    for pair in protocol:
        others = tuple(other for other in protocol if other != pair)
        if resolve_protocol(replace(spec, protocol=others)) == numbers:
            protocol = others
    return replace(spec, hparams=hparams, protocol=protocol)


def plan(
    specs: Iterable[RunSpec], store: Store, collect_inputs: Callable[[RunSpec], Mapping[str, Any]]
) -> list[Job]:
    """List the unique runs behind these specs, each after its teacher.

    collect_inputs: returns everything but the spec that decides a run's figures, for its key.
    """
    jobs: dict[str, Job] = {}

    def add(spec: RunSpec) -> str:
        spec = normalize_spec(spec)
        declared = plugins.read_attributes("methods", spec.method)
        inputs = dict(collect_inputs(spec))
        teacher_key = None
        if declared.get("teacher") == "trained":
            teacher_key = add(spec.build_teacher_spec())
            inputs["teacher"] = teacher_key
        key = spec.compute_key(inputs)
        if key not in jobs:
            protocol = resolve_protocol(spec)
            shares = declared.get("stage_shares", profiles.ONE_STAGE).values()
            epochs = sum(protocol.compute_stage_epochs(share) for share in shares)
            jobs[key] = Job(spec, key, teacher_key, store.get_state(key), epochs)
        return key

    for spec in specs:
        add(spec)
    return list(jobs.values())


def format_command(
    spec: RunSpec, *, data: Path, out: Path, device: str = "auto", deterministic: bool = False
) -> str:
    """Format the shell command that makes a run, and its teacher's if that is missing, with every coordinate."""
    words = ["udcd-bench"]
    for suite in os.environ.get("UDCD_BENCH_SUITE", "").split(os.pathsep):
        words += ["--suite", suite] if suite else []
    words += ["train", spec.method, "--dataset", spec.dataset, "--profile", spec.profile]
    words += ["--backbone", spec.backbone, "--fold", str(spec.fold), "--seed", str(spec.seed)]
    if spec.teacher_backbone:
        words += ["--teacher-backbone", spec.teacher_backbone]
    words += format_split_options(spec.split)
    if spec.fraction != 1:
        words += ["--fraction", repr(spec.fraction)]
    if spec.rho is not None:
        words += ["--rho", repr(spec.rho)]
    for name, value in (*spec.hparams, *spec.protocol):
        words += ["--set", f"{name}={value}"]
    words += ["--data", str(data), "--out", str(out)]
    words += ["--device", device] if device != "auto" else []
    return shlex.join(words + (["--deterministic"] if deterministic else []))


def format_commands(
    jobs: Iterable[Job], *, data: Path, out: Path, device: str = "auto", deterministic: bool = False
) -> list[str]:
    """Format a shell command for each run that is not done, teachers before their students."""
    return [
        format_command(job.spec, data=data, out=out, device=device, deterministic=deterministic)
        for job in jobs
        if not job.done
    ]


def estimate_seconds(
    jobs: Iterable[Job], store: Store, known_seconds: Callable[[Job], float | None] = lambda job: None
) -> tuple[float, int]:
    """Estimate the seconds the jobs take one after another, and count the jobs without an estimate.

    known_seconds: returns a job's time where it is known, else None. Other jobs are estimated from finished runs of
    the same method, data set and backbone, else of the same method and backbone, else of the same backbone, else of
    the same profile, in proportion to the share of the training images.
    """
    epoch_seconds: dict[tuple[str, ...], list[float]] = {}
    for record in store.read_records():
        spec = RunSpec.from_dict(record["spec"])
        each = record["seconds"] / max(1, record["epochs"]) / max(spec.fraction, 0.001)
        for group in _list_similarity_keys(spec):
            epoch_seconds.setdefault(group, []).append(each)
    total, unknown = 0.0, 0
    for job in jobs:
        groups = [group for group in _list_similarity_keys(job.spec) if group in epoch_seconds]
        if (seconds := known_seconds(job)) is not None:
            total += seconds
        elif not groups:
            unknown += 1
        else:
            similar = epoch_seconds[groups[0]]
            total += job.epochs * job.spec.fraction * sum(similar) / len(similar)
    return total, unknown


def _list_similarity_keys(s: RunSpec) -> tuple[tuple[str, ...], ...]:
    """List what a run may have in common with others that take about as long, the most similar first."""
    profile, method, data = (s.profile, s.backbone), ("method", s.method), ("data", s.dataset)
    return (*profile, *method, *data), (*profile, *method), profile, (s.profile,)
