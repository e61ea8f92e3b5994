"""What a teacher was trained on, and whether it may teach a run: not if it has learned from the run's test images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from udcd_bench.data.sources import is_synthetic
from udcd_bench.data.validation import measure_share
from udcd_bench.errors import UserError
from udcd_bench.runs import names, profiles
from udcd_bench.runs.spec import RunSpec, describe_split, parse_split

if TYPE_CHECKING:
    from collections.abc import Callable

    from udcd_bench.data.dataset import Dataset
    from udcd_bench.data.splits import Split
    from udcd_bench.runs.planner import CommandPlaces
    from udcd_bench.runs.profiles import Protocol
    from udcd_bench.runs.store import Store


class Origin(NamedTuple):
    """The run that a network was trained by, its classes in the order of the logits, and the hash of its split.

    The hash is empty where a file of an earlier version does not say it.
    """

    spec: RunSpec
    classes: tuple[str, ...]
    split_hash: str


def read_run_origin(store: Store, key: str) -> Origin:
    """Read the origin of a stored run's network. Raises UserError when it has none to give."""
    if not store.is_finished(key):
        raise UserError(
            f"--teacher {key}: {store.root} holds no finished run of that key; give as --out the folder that has it, "
            "or copy it here with `udcd-bench results merge`."
        )
    if not store.has_weights(key):
        raise UserError(
            f"--teacher {key}: {store.run_folder(key)} was packed without its weights; give a run that has them."
        )
    record = store.read_record(key)
    return Origin(RunSpec.from_dict(record["spec"]), tuple(record["classes"]), record["split_hash"])


def read_file_origin(file: Path) -> Origin | None:
    """Read the origin of a file's network where ``export`` has written it; None for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata() or {}
        spec, classes = RunSpec.from_dict(json.loads(metadata["spec"])), json.loads(metadata["classes"])
        return Origin(spec, tuple(classes), str(json.loads(metadata.get("split_hash", '""'))))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None


class Taught(NamedTuple):
    """A run that is to be taught, the images that it is made of, and where teachers are looked up."""

    spec: RunSpec
    dataset: Dataset
    split: Split
    store: Store
    places: CommandPlaces


def inspect_teachers(run: Taught) -> list[tuple[str, str]]:
    """Check that each stored run and each file can teach a run; return (digest of tensors, backbone) of files, sorted.

    Raises UserError when a network is another one, when its classes are others, or when it has learned from images
    that this run is tested on, as far as is known. A row's run is planned with this one, and on the same images.
    """
    files, keys = [], []
    for teacher in names.split_teachers(run.spec.teacher):
        if key := names.parse_run(teacher):
            _inspect_run(teacher, key, run)
            keys.append(key)
        elif names.parse_name(teacher).digest:
            files.append(_inspect_file(teacher, run))
    if keys and files:
        from udcd_bench.engines.teachers.networks import refuse_same

        refuse_same(run.store, keys, [digest for digest, _ in files])
    return sorted(files)


def _inspect_run(teacher: str, key: str, run: Taught) -> None:
    from udcd_bench.engines.teachers.networks import has_own_prediction

    origin = read_run_origin(run.store, key)
    _check_origin(names.format_teacher_title(teacher), origin, run)
    has_own_prediction(origin.spec.method)  # raises where its method is in no suite here


def _inspect_file(teacher: str, run: Taught) -> tuple[str, str]:
    from udcd_bench.engines.teachers.networks import check_file, has_own_prediction, hash_file

    path = run.places.locate_weights(teacher)
    if path == teacher and not Path(path).exists():
        raise UserError(f"--teacher {teacher} names a file by what it holds; give the file's path.")
    digest = hash_file(path)
    if not digest.startswith(names.parse_name(teacher).digest):
        raise UserError(f"--teacher {path} no longer holds the tensors {teacher}; start again.")
    backbone = run.spec.teacher_backbone or run.spec.backbone
    if (known := read_file_origin(Path(path).expanduser())) is not None:
        _check_origin(names.format_teacher_title(teacher), known, run)
        if has_own_prediction(known.spec.method):
            raise UserError(
                f"--teacher {path} is of {known.spec.method}, which is tested with more than its student, and a file "
                "does not hold how; give the run's key or label."
            )
        backbone = known.spec.backbone
    check_file(path, backbone, len(run.dataset.classes))
    return digest, backbone


def _check_origin(title: str, origin: Origin, run: Taught) -> None:
    if len(names.split_teachers(run.spec.teacher)) == 1:  # each of several has its own
        _check_backbone(title, origin, run.spec.teacher_backbone or run.spec.backbone)
    _check_classes(title, origin, run.dataset)
    _check_images(title, origin, run.spec, run.split)


def _check_backbone(title: str, origin: Origin, backbone: str) -> None:
    if origin.spec.backbone != backbone:
        raise UserError(
            f"The teacher {title} is of backbone {origin.spec.backbone}, not {backbone}; give --teacher-backbone "
            f"{origin.spec.backbone}."
        )


def _check_classes(title: str, origin: Origin, dataset: Dataset) -> None:
    if origin.classes != tuple(dataset.classes):
        raise UserError(
            f"The teacher {title} knows the classes {', '.join(origin.classes)}, and {dataset.title} has "
            f"{', '.join(dataset.classes)}; give a teacher of the same classes in the same order."
        )


def _check_images(title: str, origin: Origin, spec: RunSpec, split: Split) -> None:
    """Raise UserError when a network was trained on images of the same data that test or validate in this run."""
    if origin.spec.data_identity != spec.data_identity:
        return
    theirs, ours = _describe_part(origin.spec), _describe_part(spec)
    our_share, their_share = _describe_validation(spec), _describe_validation(origin.spec)
    has_same_options = (origin.spec.split, origin.spec.fraction) == (spec.split, spec.fraction)
    if our_share:  # else its own were taken from the images that train here, and it has learned from fewer
        theirs, ours = ", ".join([theirs, *their_share]), ", ".join([ours, *our_share])
    if (
        theirs == ours
        and has_same_options
        and our_share == their_share
        and origin.split_hash not in ("", split.hash)
    ):
        theirs, ours = f"{theirs}, split hash {origin.split_hash}", f"{ours}, split hash {split.hash}"
    if theirs != ours:
        raise UserError(
            f"The teacher {title} was trained on another part of {names.format_data_title(spec.dataset)} ({theirs}) "
            f"than this run is ({ours}), so it may have learned from images that test or validate; give one of the "
            "same, or the name of a row, whose run of each fold is made."
        )


def _describe_part(spec: RunSpec) -> str:
    """Describe what decides which images of a data set train: its split, fold and imbalance, the latter by its seed."""
    numbers = _build_numbers(spec)
    words = [f"split {describe_split(parse_split(spec.split)[0])}", f"fold {spec.fold}"]
    if spec.rho is not None:
        words += [f"rho {spec.rho:g}", f"seed {spec.seed}", f"imbalance {numbers.imbalance}"]
    return ", ".join([*words, *([f"{numbers.n_images} images"] if is_synthetic(spec.dataset) else [])])


def _describe_validation(spec: RunSpec) -> list[str]:
    """Describe the share of the training images that validates, which depends on how many are kept, if any does."""
    validation = _build_numbers(spec).validation
    return [f"validation {validation} of {spec.fraction:.0%}"] if measure_share(validation) else []


def _build_numbers(spec: RunSpec) -> Protocol:
    own, _ = profiles.split_overrides(spec.hparams)
    return profiles.build_protocol(spec.profile, spec.dataset, (*spec.protocol, *own))


def check_weights(spec: RunSpec, teacher: str, hash_weights: Callable[[str], str]) -> None:
    """Raise UserError when the weights that a student begins with cannot be its teacher's, of another backbone."""
    try:
        hash_weights(teacher)
    except UserError as error:
        raise UserError(
            f"The teacher of {spec.method} is of backbone {teacher}, and begins with the same weights as the student, "
            f"which it cannot: {str(error).partition(';')[0].removesuffix('.')}; give --teacher-backbone "
            f"{spec.backbone}, or --set weights=none for both."
        ) from error
