"""From the specs that artefacts ask for to the runs still to be made: each once, teachers first."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.runs import profiles
from udcd_bench.runs.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from udcd_bench.runs.store import Store

STATE_REASONS = {
    "absent": "not made yet",
    "interrupted": "goes on from its checkpoint",
    "failed": "failed last time",
    "running": "another process is at it",
    "damaged": "what is stored is damaged",
}


@dataclass(frozen=True)
class Job:
    """A run and what it needs. state: as the store has it. epochs: of all its stages."""

    spec: RunSpec
    key: str
    teacher_key: str | None
    state: str
    epochs: int

    @property
    def done(self) -> bool:
        """Nothing left to do."""
        return self.state == "done"


def resolve_protocol(spec: RunSpec) -> profiles.Protocol:
    """Every number the run goes by: its profile's, its source's, its method's own, its overrides, in this order."""
    own = plugins.read_attributes("methods", spec.method).get("protocol", {})
    return profiles.build_protocol(spec.profile, spec.dataset, spec.protocol, own)


def normalize_spec(spec: RunSpec) -> RunSpec:
    """The spec, its overrides as the types they stand for, once everything it names is known to exist.

    Raises UserError naming what does not.
    """
    declared = plugins.read_attributes("methods", spec.method)
    numbers = resolve_protocol(spec)
    title, defaults = declared.get("title", spec.method), declared.get("hparams", {})
    values = profiles.resolve_hparams(title, defaults, declared.get("choices", {}), spec.hparams)
    # an override that sets the default is no override: the same run must have the same key
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
    """The unique runs behind these specs, each after its teacher. made_of: what decides a run's figures."""
    jobs: dict[str, Job] = {}

    def add(spec: RunSpec) -> str:
        spec = normalize_spec(spec)
        declared = plugins.read_attributes("methods", spec.method)
        parts = dict(collect_inputs(spec))
        teacher_key = None
        if declared.get("teacher") == "trained":
            teacher_key = add(spec.build_teacher_spec())
            parts["teacher"] = teacher_key
        key = spec.compute_key(parts)
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
    """The shell line that makes this run, and its teacher's where that is not done: every coordinate is in it."""
    words = ["udcd-bench"]
    for suite in os.environ.get("UDCD_BENCH_SUITE", "").split(os.pathsep):
        words += ["--suite", suite] if suite else []
    words += ["train", spec.method, "--dataset", spec.dataset, "--profile", spec.profile]
    words += ["--backbone", spec.backbone, "--fold", str(spec.fold), "--seed", str(spec.seed)]
    if spec.teacher_backbone:
        words += ["--teacher-backbone", spec.teacher_backbone]
    if spec.split != "paper":
        words += ["--split", spec.split]
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
    """A shell line a run that is not done, teachers before their students; together they make the same runs."""
    return [
        format_command(job.spec, data=data, out=out, device=device, deterministic=deterministic)
        for job in jobs
        if not job.done
    ]


def estimate_seconds(
    jobs: Iterable[Job], store: Store, known_seconds: Callable[[Job], float | None] = lambda job: None
) -> tuple[float, int]:
    """Seconds the jobs still take one after another, judged by finished runs, and how many could not be judged.

    rated: what a job takes, where that is known otherwise. Else a job is judged by runs of its method, data set and
    backbone, else of its method and backbone, else of its backbone, else of its profile; by the share of the training
    images where they differ.
    """
    seen: dict[tuple[str, ...], list[float]] = {}
    for record in store.read_records():
        spec = RunSpec.from_dict(record["spec"])
        each = record["seconds"] / max(1, record["epochs"]) / max(spec.fraction, 0.001)
        for likeness in _list_similarity_keys(spec):
            seen.setdefault(likeness, []).append(each)
    seconds, unknown = 0.0, 0
    for job in jobs:
        known = next(
            (seen[likeness] for likeness in _list_similarity_keys(job.spec) if likeness in seen), None
        )
        if (said := known_seconds(job)) is not None:
            seconds += said
        elif known is None:
            unknown += 1
        else:
            seconds += job.epochs * job.spec.fraction * sum(known) / len(known)
    return seconds, unknown


def _list_similarity_keys(s: RunSpec) -> tuple[tuple[str, ...], ...]:
    """What a run may have in common with others that take as long, the closest first."""
    profile, method, data = (s.profile, s.backbone), ("method", s.method), ("data", s.dataset)
    return (*profile, *method, *data), (*profile, *method), profile, (s.profile,)
