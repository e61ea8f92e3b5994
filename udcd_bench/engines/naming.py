"""Naming of what a user types: own images and files of weights by what they hold, and where each of them lies.

What trains takes a path, prepares the images and computes the digest (``NameResolver``). What only reads results also
takes the name of a stored run's data, and finds a path's digest in the prepared images (``find_stored_names``).
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from udcd_bench.data import own_images, sources, workers
from udcd_bench.engines.teachers.naming import name_teachers
from udcd_bench.errors import UserError, make_printable
from udcd_bench.runs import names, planner, profiles, results
from udcd_bench.runs.names import FOLDER
from udcd_bench.runs.spec import parse_split, resolve_split
from udcd_bench.storage.file_names import decode_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from udcd_bench.data.cache.options import PrepareOptions
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import Overrides, RunSpec, Scalar
    from udcd_bench.runs.store import Store

NO_FILES = ("none", "imagenet")
"""Values of ``Protocol.weights`` that name no file."""


Target = TypeVar("Target", "TableRequest", "RunSpec")


class UnknownDataError(UserError):
    """A results folder has no run on the data that are named."""


class NameResolver:
    """Resolves what is typed, each once, and remembers in ``locations`` where it lies, by its identity.

    data: the folder of prepared data. reading: what is said of how own images are read. store: the results folder, in
    which a teacher's run is looked up.
    """

    def __init__(
        self, data: Path, reading: PrepareOptions = sources.PREPARE, store: Store | None = None
    ) -> None:
        self.data = data
        self._store = store
        self.locations: dict[str, str] = {}
        self._reading = reading
        self._group_columns: dict[str, str] = {}  # by identity
        self._names: dict[tuple[str, str], str] = {}
        self._teachers: set[str] = set()  # as it has named them

    def resolve_request(self, request: TableRequest) -> TableRequest:
        """Name what a request names by paths. Raises UserError when there is no such set or file."""
        profile = profiles.find_profile(request.profile)
        datasets = None if request.datasets is None else self._name_all(request.datasets, request)
        protocol = self._name_weights(request.protocol, request.backbone or profile.backbone)
        split = _resolve_split(request.split, datasets or (), self._group_columns)
        named = replace(request, datasets=datasets, protocol=protocol, split=split)
        return self._name_teacher(named)

    def _name_all(self, typed: Iterable[str], request: TableRequest) -> tuple[str, ...]:
        """Name data sets, once each: two folders of the same images are one."""
        by_identity: dict[str, str] = {}
        for name in typed:
            size = profiles.build_protocol(request.profile, name, request.protocol).image_size
            resolved = self._name_data(name, size)
            by_identity.setdefault(names.identify_data(resolved), resolved)
        return tuple(by_identity.values())

    def resolve_spec(self, spec: RunSpec) -> RunSpec:
        """Name what a spec names by paths. Raises UserError when there is no such set or file."""
        spec = self._name_teacher(spec)
        if not spec.dataset.startswith(FOLDER) and all(name != "weights" for name, _ in spec.protocol):
            return replace(spec, split=resolve_split(spec.split, "paper"))
        dataset = self._name_data(spec.dataset, planner.resolve_protocol(spec).image_size)
        protocol = self._name_weights(spec.protocol, spec.backbone)
        split = _resolve_split(spec.split, (dataset,), self._group_columns)
        return replace(spec, dataset=dataset, protocol=protocol, split=split)

    def _name_teacher(self, target: Target) -> Target:
        if target.teacher in self._teachers:
            return target
        named = name_teachers(target.teacher, target.teacher_backbone, self._store)
        self.locations |= named.paths
        self._teachers.add(named.name)
        return replace(target, teacher=named.name, teacher_backbone=named.backbone)

    def _name_data(self, typed: str, size: int) -> str:
        if not typed.startswith(FOLDER) or names.identify_data(typed) in self.locations:
            return typed
        if (typed, "") not in self._names:
            path = self._find_folder(typed)
            options = sources.LoadOptions(
                jobs=workers.count_cores(), check_pixels=True, reading=self._reading
            )
            dataset = sources.load_dataset(f"{FOLDER}{path}", size=size, data=self.data, options=options)
            name = names.format_data_name(_show_name(path), dataset.identity.partition("#")[2])
            wanted = names.parse_name(typed).digest
            if wanted and f"{FOLDER}{path}" != typed:
                if names.parse_name(name).digest != wanted:
                    raise UserError(
                        f"{typed} names images that {path} no longer holds; give the path to train on what it has."
                    )
                name = typed  # as @NAME called them when a file's command was stored
            self.locations[names.identify_data(name)] = path
            self._group_columns[names.identify_data(name)] = dataset.group_column
            self._names[typed, ""] = name
        return self._names[typed, ""]

    def _find_folder(self, typed: str) -> str:
        """Find the path of own images: what is typed, name and all, or what it names among the prepared sets."""
        path, place = typed.removeprefix(FOLDER), names.parse_place(typed).path
        if not path or sources.list_prepared(typed, self.data) or os.path.lexists(os.path.expanduser(place)):  # noqa: PTH111
            return path
        sets = [s for s in own_images.list_own_images(self.data) if names.matches(decode_name(typed), s.name)]
        if len({s.name for s in sets}) > 1:
            raise _make_ambiguous_error(typed, {s.name for s in sets}, str(self.data))
        return sets[0].path if sets else path

    def _name_weights(self, overrides: Overrides, backbone: str) -> Overrides:
        return tuple(
            (key, self._name_file(_parse_weights(value), backbone) if key == "weights" else value)
            for key, value in overrides
        )

    def _name_file(self, typed: str, backbone: str) -> str:
        if typed in NO_FILES or names.identify_file(typed) in self.locations:
            return typed
        if (typed, backbone) not in self._names:
            name = _hash_file(typed, backbone)
            self.locations[names.identify_file(name)] = typed
            self._names[typed, backbone] = name
        return self._names[typed, backbone]


def _parse_weights(value: Scalar) -> str:
    return str(profiles.Protocol.parse_value("weights", value))


def _hash_file(path: str, backbone: str) -> str:
    from udcd_bench.training.weights import compute_digest, describe_prefix

    if names.parse_name(path).digest and not Path(path).exists():
        raise UserError(f"weights={path} names a file by what it holds; give the file's path.")
    digest = compute_digest(backbone, path)
    if note := describe_prefix(backbone, path):
        logging.getLogger(__name__).warning("%s", note)
    return names.format_file_name(make_printable(decode_name(Path(path).name)), digest)


def _show_name(path: str) -> str:
    return make_printable(decode_name(names.parse_place(path).name))


def _resolve_split(name: str, datasets: Iterable[str], group_columns: Mapping[str, str]) -> str:
    """Resolve a split whose kind is open: by group where own images have groups, else by image.

    group_columns: by the identity of own images, empty where they have none. Raises UserError where data sets differ.
    """
    if parse_split(name)[0]:
        return name
    columns = {data: group_columns.get(names.identify_data(data), "") for data in datasets}
    grouped = [data for data, column in columns.items() if column]
    if grouped and len(grouped) < len(columns):
        other = next(data for data, column in columns.items() if not column)
        raise UserError(
            f"{names.format_data_title(grouped[0])} has groups ({columns[grouped[0]]}) and "
            f"{names.format_data_title(other)} is divided by image where nothing is said: give --split grouped, "
            "--split paper, or each a command of its own."
        )
    return resolve_split(name, "grouped" if grouped else "paper")


# --- names of stored runs -------------------------------------------------------------------------------------


def find_stored_names(request: TableRequest, stored: Sequence[RunSpec], data: Path) -> TableRequest:
    """Name what a request names, without preparing anything, as the stored runs do.

    stored: the specs of a results folder. data: the folder of prepared data, where a path's digest is looked for.
    Raises UserError when nothing or several things are meant.
    """
    datasets = sorted({spec.dataset for spec in stored if spec.dataset.startswith(FOLDER)})
    files = {str(v) for spec in stored for key, v in spec.protocol if key == "weights" and v not in NO_FILES}
    backbone = request.backbone or profiles.find_profile(request.profile).backbone

    def name_file(typed: str) -> str:
        if typed in NO_FILES or typed in files:
            return typed
        return _hash_file(typed, backbone) if Path(typed).is_file() else _choose(typed, files)

    def name_data(typed: str) -> str:
        size = profiles.build_protocol(request.profile, typed, request.protocol).image_size
        return _find_data_name(typed, datasets, data, size)

    return replace(
        request,
        datasets=request.datasets and tuple(map(name_data, request.datasets)),
        protocol=tuple(
            (k, name_file(_parse_weights(v)) if k == "weights" else v) for k, v in request.protocol
        ),
    )


def load_stored_results(request: TableRequest, store: Store, data: Path) -> tuple[TableRequest, Results]:
    """Load a results folder, and name what a request names as its runs do; see ``find_stored_names``."""
    loaded = results.load_results(store)
    named = find_stored_names(request, tuple(loaded.states), data)
    named = _find_stored_teacher(named, tuple(loaded.states), store)
    columns: dict[str, str] = {}
    for spec, record in loaded.records.items():
        if column := record.get("group_column", ""):  # records of earlier versions do not say it
            columns[spec.data_identity] = column
    return replace(named, split=_resolve_split(named.split, named.datasets or (), columns)), loaded


def _find_stored_teacher(request: TableRequest, stored: Sequence[RunSpec], store: Store) -> TableRequest:
    """Name teachers as the stored runs do: a file that they were taught by may be gone, and its name is enough."""
    files: dict[str, str] = {}
    for spec in stored:
        teachers = names.split_teachers(spec.teacher)
        known = spec.teacher_backbone if len(teachers) == 1 else ""
        files |= {name: known or files.get(name, "") for name in teachers if names.parse_name(name).digest}
    named = name_teachers(request.teacher, request.teacher_backbone, store, files)
    return replace(request, teacher=named.name, teacher_backbone=named.backbone)


def _find_data_name(typed: str, stored: Sequence[str], data: Path, size: int) -> str:
    """Find how the stored runs call own images: by a digest of what is prepared of a path, else by the name.

    size: at which prepared images are taken first. Whether the images have changed since is not asked: the runs say
    what they were trained on.
    """
    if not typed.startswith(FOLDER):
        return typed
    place = names.parse_place(typed)
    digests = own_images.find_prepared_digests(Path(place.path).expanduser(), data)
    prepared = {
        names.format_data_name(_show_name(typed), digests[side]): side == size
        for side in sorted(digests, key=lambda side: (side != size, side))
    }
    known = {names.identify_data(name) for name in stored}
    if trained_on := [name for name in prepared if names.identify_data(name) in known]:
        if len(trained_on) > 1 and not prepared[trained_on[0]]:
            raise _make_ambiguous_error(typed, trained_on, "the results folder")
        return trained_on[0]
    if prepared and typed not in stored:
        return next(iter(prepared))
    if typed in stored:
        return typed
    return _choose(decode_name(typed if place.path == typed.removeprefix(FOLDER) else place.name), stored)


def _choose(typed: str, stored: Iterable[str]) -> str:
    """Choose the one stored name that what is typed means. Raises UserError for none or several."""
    matching = {names.parse_name(name).digest or name: name for name in stored if names.matches(typed, name)}
    if len(matching) > 1:
        raise _make_ambiguous_error(typed, matching.values(), "the results folder")
    if not matching:
        known = f"; it has {', '.join(sorted(stored))}" if stored else ""
        place = "as --data the folder in which that path is prepared"
        fix = place if typed.startswith(FOLDER) else "the path of the file"
        raise UnknownDataError(
            f"No run in the results folder is of {typed}{known}; give a name that it has, or {fix}."
        )
    return next(iter(matching.values()))


def _make_ambiguous_error(typed: str, meant: Iterable[str], where: str) -> UserError:
    return UserError(f"{typed} may mean {' or '.join(sorted(meant))} in {where}; give one of these in full.")
