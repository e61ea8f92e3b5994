"""Planning: from the specs that artefacts need to jobs, each run once, teachers first; and their commands and times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.errors import UserError, quote_command
from udcd_bench.runs import names, profiles
from udcd_bench.runs.spec import TEACHER_METHOD, RunSpec, format_split_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from udcd_bench.runs.inputs import RunInputs
    from udcd_bench.runs.spec import Overrides, Scalar
    from udcd_bench.runs.store import Store

CHOOSE_IMAGES = ("n_images", "imbalance", "validation")
"""Numbers of the protocol that decide which images train, validate and test."""

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
    """A run to make. key: its folder's name.

    state: ``Store.get_state``. epochs: of all its stages together. inputs: what its key was made from.
    specs: all those planned whose run this is, by whichever profile or option they say the same.
    """

    spec: RunSpec
    key: str
    state: str
    epochs: int
    inputs: RunInputs
    specs: tuple[RunSpec, ...] = ()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state == "done"

    @property
    def teacher_keys(self) -> tuple[str, ...]:
        """Of the runs whose students are its teachers."""
        return self.inputs.list_teacher_keys()


@dataclass(frozen=True)
class CommandPlaces:
    """Where and on what a command makes runs. locations: identity of own images or of a file of weights → its path."""

    data: Path
    out: Path
    device: str = "auto"
    deterministic: bool = False
    locations: Mapping[str, str] = field(default_factory=dict, compare=False)

    def locate_data(self, name: str) -> str:
        """Return a data set's name with the path of own images in it, where that is known."""
        path = self.locations.get(names.identify_data(name))
        return name if path is None else f"{names.FOLDER}{path}"

    def locate_weights(self, value: str) -> str:
        """Return ``Protocol.weights`` as a path where it names a file whose path is known."""
        return self.locations.get(names.identify_file(value), value)


def resolve_protocol(spec: RunSpec) -> profiles.Protocol:
    """Resolve a run's protocol: its profile's, then its source's, its method's and its own overrides, in this order."""
    methods = plugins.read_attributes("methods", spec.method).get("protocol", {})
    own, _ = profiles.split_overrides(spec.hparams)
    return profiles.build_protocol(spec.profile, spec.dataset, (*spec.protocol, *own), methods)


def normalize_spec(spec: RunSpec) -> RunSpec:
    """Return the spec with its overrides as values of the right type, and without those that change nothing.

    Raises UserError when something it names does not exist or a value is invalid.
    """
    declared = plugins.read_attributes("methods", spec.method)
    own, _ = profiles.split_overrides(spec.hparams)
    values, defaults = resolve_hparams(spec), declared.get("hparams", {})
    # an override that sets the default changes nothing, and the same run must have the same key
    hparams = tuple((k, values[k]) for k, _ in spec.hparams if k in values and values[k] != defaults[k])
    rows, shared = find_teacher_rows(spec.method), spec.protocol
    if not rows:  # nobody shares it, so that its own numbers are the protocol's
        shared, own = tuple(dict([*shared, *own]).items()), ()
    has_network = rows or declared.get("teacher") == "own"
    teacher = names.join_teachers(names.split_teachers(spec.teacher)) if rows else ""
    spec = replace(
        spec,
        hparams=(),
        protocol=_parse_numbers(shared),
        teacher_backbone=spec.teacher_backbone if has_network else "",
        teacher="" if teacher == names.join_teachers(rows) else teacher,
    )
    spec = _drop_unchanging(spec, "protocol")
    if own:
        spec = _drop_unchanging(replace(spec, hparams=_parse_numbers(own)), "hparams")
    return replace(spec, hparams=(*hparams, *spec.hparams)) if hparams else spec


def split_settings(method: str, settings: Overrides) -> tuple[Overrides, Overrides]:
    """Split the settings of one run into those of the protocol and its own, as ``RunSpec`` has them.

    A number of the protocol that is said of its method, ``kd.epochs``, is its own.
    """
    own = tuple((name.removeprefix(f"{method}."), v) for name, v in settings if name.startswith(f"{method}."))
    protocol, hparams = profiles.split_overrides(
        tuple(pair for pair in settings if not pair[0].startswith(f"{method}."))
    )
    return protocol, (*hparams, *own)


def _parse_numbers(overrides: Overrides) -> Overrides:
    return tuple((name, profiles.Protocol.parse_value(name, value)) for name, value in overrides)


def _drop_unchanging(spec: RunSpec, field_name: str) -> RunSpec:
    """Drop those overrides of a field, numbers of the protocol, that change none."""
    declared = plugins.read_attributes("methods", spec.method).get("protocol", {})

    def resolve(parts: Mapping[str, Overrides]) -> profiles.Protocol:
        overrides = (*parts["protocol"], *parts["hparams"])
        return profiles.build_protocol(spec.profile, spec.dataset, overrides, declared)

    parts: dict[str, Any] = {"protocol": spec.protocol, "hparams": spec.hparams}
    numbers = resolve(parts)
    for pair in parts[field_name]:
        without = parts | {field_name: tuple(p for p in parts[field_name] if p != pair)}
        parts = without if resolve(without) == numbers else parts
    return replace(spec, **parts)


def list_equal_specs(spec: RunSpec) -> list[RunSpec]:
    """List a spec, and those of other profiles that mean the same run without an override of the protocol."""
    try:
        numbers = resolve_protocol(spec)
        others = [
            replace(spec, profile=name, protocol=()) for name in profiles.PROFILES if name != spec.profile
        ]
        return [spec, *(other for other in others if resolve_protocol(other) == numbers)]
    except UserError:  # its method is in no suite here
        return [spec]


def resolve_hparams(spec: RunSpec) -> dict[str, Scalar]:
    """Resolve all hyper-parameters of a run: its method's, and its overrides of them."""
    declared = plugins.read_attributes("methods", spec.method)
    title, defaults = declared.get("title", spec.method), declared.get("hparams", {})
    _, hparams = profiles.split_overrides(spec.hparams)
    return profiles.resolve_hparams(title, defaults, declared.get("choices", {}), hparams)


def list_runs(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """List the runs behind these specs without keys, and so without their data: each once, after its teachers."""
    runs: dict[RunSpec, None] = {}

    def add(asked_spec: RunSpec) -> None:
        if asked_spec not in runs:  # else it is as normalized, and its teachers are there too
            spec = normalize_spec(asked_spec)
            for teacher in build_teacher_specs(spec):
                add(teacher)
            runs.setdefault(spec)

    for spec in specs:
        add(spec)
    return list(runs)


def count_epochs(spec: RunSpec) -> int:
    """Count the epochs of all stages of a run. Raises UserError when its method is in no suite."""
    return sum(count_stage_epochs(spec).values())


def count_stage_epochs(spec: RunSpec) -> dict[str, int]:
    """Count the epochs of each stage of a run, in the order of the stages."""
    protocol = resolve_protocol(spec)
    shares = plugins.read_attributes("methods", spec.method).get("stage_shares", profiles.ONE_STAGE)
    return {stage: protocol.compute_stage_epochs(share) for stage, share in shares.items()}


def has_teacher_network(method: str) -> bool:
    """Tell whether a method's teacher is a network of its own; a running average is its student's likeness."""
    return plugins.read_attributes("methods", method).get("teacher") == "own" or bool(
        find_teacher_rows(method)
    )


def find_teacher_rows(*chain: str) -> list[str]:
    """Find the rows whose runs teach the students of the last method unless ``--teacher`` says otherwise.

    chain: the method, behind those that it would teach. Raises UserError for a ring of methods, each of which would
    need the other's run first.
    """
    declared = plugins.read_attributes("methods", chain[-1]).get("teacher")
    rows = [row or TEACHER_METHOD for row in plugins.parse_trained_rows(declared)]
    for row in rows:
        if row in chain:
            ring = " → ".join([*chain[chain.index(row) :], row])
            path = plugins.find_file("methods", chain[-1])
            raise UserError(
                f"{path}: teacher = 'trained:{row}' makes a ring, {ring}, in which no run could be made first; "
                "give one of them teacher = 'trained', the Scratch run."
            )
        find_teacher_rows(*chain, row)
    return rows


def list_teachers(spec: RunSpec) -> list[str]:
    """List the trained networks that teach a run, as a spec names them: ``--teacher``, or what its method declares."""
    rows = find_teacher_rows(spec.method)
    return (names.split_teachers(spec.teacher) or rows) if rows else []


def build_teacher_specs(spec: RunSpec) -> list[RunSpec]:
    """Build the specs of the runs that are made first, as teachers of this one.

    They train on the same images, also where those are chosen by what is this run's own: what validates or tests here
    is not to have taught its teacher.
    """
    numbers = resolve_protocol(spec)
    images = {name: getattr(numbers, name) for name in CHOOSE_IMAGES}
    teachers = map(spec.build_teacher_spec, names.select_rows(list_teachers(spec)))
    return [normalize_spec(replace(t, protocol=tuple((dict(t.protocol) | images).items()))) for t in teachers]


def check_teacher(methods: Iterable[str], teacher: str) -> None:
    """Raise UserError for ``--teacher`` where no method learns from a trained network."""
    methods = list(dict.fromkeys(methods))
    if teacher and not any(map(find_teacher_rows, methods)):
        raise UserError(
            f"--teacher is of methods that learn from a trained network, and {', '.join(methods)} "
            f"{'does' if len(methods) == 1 else 'do'} not; leave it out."
        )


def plan(specs: Iterable[RunSpec], store: Store, collect_inputs: Callable[[RunSpec], RunInputs]) -> list[Job]:
    """List the unique runs behind these specs, each after its teachers.

    collect_inputs: returns what goes into a run's key, but for its teachers' keys.
    """
    jobs: dict[str, Job] = {}
    specs_by_key: dict[str, dict[RunSpec, None]] = {}

    def add(asked_spec: RunSpec) -> str:
        spec = normalize_spec(asked_spec)
        inputs = collect_inputs(spec)
        teachers = list_teachers(spec)
        keys = [key for teacher in teachers if (key := names.parse_run(teacher))]
        keys += map(add, build_teacher_specs(spec))
        inputs = inputs.add_teacher_keys(keys, is_alone=len(teachers) == 1)
        key = inputs.compute_key()
        specs_by_key.setdefault(key, {}).update(dict.fromkeys((spec, asked_spec)))
        if key not in jobs:
            jobs[key] = Job(spec, key, store.get_state(key), count_epochs(spec), inputs)
        return key

    for spec in specs:
        add(spec)
    return [replace(job, specs=tuple(specs_by_key[key])) for key, job in jobs.items()]


def format_command(spec: RunSpec, places: CommandPlaces) -> str:
    """Format the shell command that makes a run, and its teachers' if they are missing, with every coordinate.

    It names the suites that these are in, and no others.
    """
    words = ["train", spec.method, "--dataset", places.locate_data(spec.dataset), "--profile", spec.profile]
    words += ["--backbone", spec.backbone, "--fold", str(spec.fold), "--seed", str(spec.seed)]
    if spec.teacher_backbone:
        words += ["--teacher-backbone", spec.teacher_backbone]
    teachers = names.split_teachers(spec.teacher)
    named = [places.locate_weights(names.parse_run(t) or t) for t in teachers]
    words += ["--teacher", ",".join(named)] if named else []
    words += format_split_options(spec.split, (spec.dataset,))
    if spec.fraction != 1:
        words += ["--fraction", repr(spec.fraction)]
    if spec.rho is not None:
        words += ["--rho", repr(spec.rho)]
    numbers, hparams = profiles.split_overrides(spec.hparams)
    own = tuple((f"{spec.method}.{name}", value) for name, value in numbers)
    for name, value in (*hparams, *own, *spec.protocol):
        words += ["--set", f"{name}={places.locate_weights(str(value)) if name == 'weights' else value}"]
    words += ["--data", str(places.data), "--out", str(places.out)]
    words += ["--device", places.device] if places.device != "auto" else []
    words += ["--deterministic"] if places.deterministic else []
    suites = plugins.list_needed_suites([spec.method, *names.select_rows(teachers)])
    if any(map(names.parse_run, teachers)):  # a key does not say which method the run is of
        suites = list(dict.fromkeys([*suites, *plugins.list_environment_suites()]))
    return quote_command(*words, suites=suites)


def format_commands(jobs: Iterable[Job], places: CommandPlaces) -> list[str]:
    """Format a shell command for each run that is not done, teachers before their students."""
    return [format_command(job.spec, places) for job in jobs if not job.done]
