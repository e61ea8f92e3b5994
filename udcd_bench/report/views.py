"""What a results folder holds, as requests of tables; no run is left out because no profile lists its data or its row.

A view is all runs of one profile, split, backbone and set of overrides of the protocol; the tuned runs of a search
belong to the view of their rows as they are. Its tables are those of the suite that have a run of it, on whatever data
there are, those of searches, and for runs that no table lists a table of their own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.artefacts.data_captions import describe_splits
from udcd_bench.artefacts.made_from import find_trial_keys
from udcd_bench.artefacts.table import Table
from udcd_bench.errors import UserError
from udcd_bench.grid.cells import TableRequest, parse_row_method
from udcd_bench.grid.row_settings import ALL, parse_settings
from udcd_bench.paper import published
from udcd_bench.runs import names, planner, profiles
from udcd_bench.runs.spec import RunSpec, format_overrides, format_teacher, identify_value, parse_split
from udcd_bench.stats.rules import BEST_VALIDATION
from udcd_bench.tuning.stored import list_stored_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from udcd_bench.runs.results import Results
    from udcd_bench.runs.spec import Overrides
    from udcd_bench.tuning.tuned_table import TunedTable


@dataclass(frozen=True)
class Selection:
    """Which runs of a folder a page is of; None and empty: all. split: a name of ``SPLITS``, or ``val``.

    rule: which of their epochs are reported, of ``stats.rules``; those without validation images have no best on them.
    """

    profile: str | None = None
    split: str | None = None
    datasets: tuple[str, ...] | None = None
    methods: tuple[str, ...] | None = None
    protocol: Overrides = ()
    hparams: Overrides = ()
    rule: str = TableRequest.rule

    def admits(self, spec: RunSpec) -> bool:
        """Tell whether a run is one of them; a hyper-parameter concerns the methods that have it."""
        return (
            self.profile in (None, spec.profile)
            and self.split in (None, spec.split, parse_split(spec.split)[1])
            and (self.datasets is None or any(_is_data(name, spec) for name in self.datasets))
            and (self.methods is None or spec.method in map(parse_row_method, self.methods))
            and (self.rule != BEST_VALIDATION or "validation" in dict(spec.protocol))
            and _has_values(spec, self.protocol, self.hparams)
        )


@dataclass(frozen=True)
class View:
    """Runs of one setting. specs: those done or failed. tables: with the request that has them, in order.

    split: for people, as captions have it.
    """

    request: TableRequest
    split: str
    specs: tuple[RunSpec, ...]
    tables: tuple[tuple[Table, TableRequest], ...]

    @property
    def title(self) -> str:
        """What all its runs have in common, for people."""
        request = self.request
        parts = [f"profile {request.profile}", self.split]
        parts += [f"rule {request.rule}"] if request.rule != TableRequest.rule else []
        parts += [request.backbone] if request.backbone else []
        parts += format_teacher(request.teacher, request.teacher_backbone)
        return ", ".join([*parts, *format_overrides((*request.protocol, *request.hparams))])


def list_stored_specs(results: Results, selection: Selection) -> list[RunSpec]:
    """List the runs of the folder, done or failed, each once, under the spec that it was made as.

    Trials of a search are left out, of which only its own files are made: they would drown all else.
    """
    trials, as_made = find_trial_keys(results.store.root), set(results.list_made())
    return [
        spec
        for spec in results.states
        if selection.admits(spec)
        and (spec not in results.records or results.records[spec]["key"] not in trials)
        and (spec not in results.records or spec in as_made)
    ]


def list_views(results: Results, selection: Selection) -> list[View]:
    """List the views of the selected runs, those of fewer overrides first; no run is in two of them."""
    searches = list_stored_tables(results)
    by_setting: dict[tuple[Any, ...], list[RunSpec]] = {}
    for stored in list_stored_specs(results, selection):
        spec = _find_untuned(stored, searches)
        protocol = tuple((key, identify_value(key, value)) for key, value in spec.protocol)
        teacher = (names.identify_teacher(spec.teacher), spec.teacher_backbone)
        setting = (spec.profile, spec.split, spec.backbone, teacher, protocol)
        by_setting.setdefault(setting, []).append(stored)
    shown: set[RunSpec] = set()
    views = []
    for _, specs in sorted(by_setting.items(), key=_make_sort_key):
        left = [spec for spec in specs if spec not in shown]
        if left:
            view = _build_view(left, results, selection, searches)
            # a table of pairs of backbones shows the teacher's runs, which may be another view's
            view = replace(view, specs=tuple(spec for spec in view.specs if spec not in shown))
            shown.update(view.specs)
            views.append(view)
    return views


def _make_sort_key(item: tuple[tuple[Any, ...], list[RunSpec]]) -> tuple[object, ...]:
    (profile, split, backbone, teacher, protocol), specs = item
    usual = profiles.find_profile(profile).backbone
    return (
        len(protocol),
        backbone != usual,
        any(teacher),
        split != "paper",
        -len(specs),
        profile,
        split,
        str(protocol),
    )


def _find_untuned(spec: RunSpec, searches: Iterable[TunedTable]) -> RunSpec:
    """Find the run beside which a tuned one belongs: that of its row as it is; any other run is its own."""
    at_first_seed = replace(spec, seed=0)
    pairs = (pair for table in searches for pair in table.tuned.items())
    return next((untuned for untuned, tuned in pairs if tuned == at_first_seed), spec)


def _build_view(
    specs: Sequence[RunSpec], results: Results, selection: Selection, searches: Sequence[TunedTable]
) -> View:
    first = _find_untuned(specs[0], searches)
    request = TableRequest(
        profile=first.profile,
        methods=selection.methods,
        datasets=_unique_data(specs),
        folds=tuple(sorted({spec.fold for spec in specs})),
        seeds=tuple(sorted({spec.seed for spec in specs})),
        split=first.split,
        backbone=None if first.backbone == profiles.find_profile(first.profile).backbone else first.backbone,
        teacher_backbone=first.teacher_backbone,
        teacher=first.teacher,
        # a hyper-parameter concerns all methods that have it
        hparams=tuple((key if "." in key else f"*.{key}", value) for key, value in selection.hparams),
        protocol=first.protocol,
        rule=selection.rule,
    )
    listed: dict[RunSpec, None] = {}
    tables = []
    for table, own_request in _list_tables(request, searches):
        runs = [spec for spec in table.list_runs(own_request) if spec in results.states]
        if runs and (set(runs) - listed.keys() or _adds_figures(table)):
            tables.append((table, own_request))
            listed.update(dict.fromkeys(runs))
    left = [spec for spec in specs if spec not in listed]
    tables += _make_further_tables(left, request)
    split = describe_splits(request.split, results.select_records(specs).values())
    return View(request, split, tuple(dict.fromkeys([*listed, *left])), tuple(tables))


def _adds_figures(table: Table) -> bool:
    """Tell whether a table shows more of runs that stand in others: published figures, or further metrics."""
    return published.find_csv(table.name) is not None or len(table.metrics) > len(Table.metrics)


def _list_tables(
    request: TableRequest, searches: Iterable[TunedTable]
) -> Iterator[tuple[Table, TableRequest]]:
    """List the suite's tables, the paper's first, then those of searches, for a request.

    One of several imbalances is on the data that it is about alone.
    """
    profile = profiles.find_profile(request.profile)
    names = sorted(plugins.list_names("tables"), key=lambda name: published.find_csv(name) is None)
    tables: list[Table] = [plugins.load_class("tables", name)() for name in names]
    for table in [*tables, *searches]:
        own = {profile.resolve_dataset(each) for each in table.datasets}
        datasets = request.datasets or ()
        if table.rhos != (None,):
            datasets = tuple(each for each in datasets if each in own)
        hparams = tuple(pair for pair in request.hparams if _knows_hparam(table, request, pair[0]))
        if datasets:
            yield table, replace(request, datasets=datasets, hparams=hparams)


def _knows_hparam(table: Table, request: TableRequest, name: str) -> bool:
    rows = [row for row in table.list_rows(request) if row.in_suite]
    setting = parse_settings(((name, ""),))[0]
    return any(setting.concerns(row) for row in rows)


def _make_further_tables(
    specs: Sequence[RunSpec], request: TableRequest
) -> Iterator[tuple[Table, TableRequest]]:
    """Make a table for the runs that no table of the suite lists, one for each imbalance and share of the images."""
    by_grid: dict[tuple[float | None, float], list[RunSpec]] = {}
    for spec in specs:
        if has_method(spec):
            by_grid.setdefault((spec.rho, spec.fraction), []).append(spec)
    for number, ((rho, fraction), members) in enumerate(by_grid.items(), 1):
        attributes = {
            "name": f"further-{number}",
            "title": "Runs that no table of the suite lists",
            "datasets": _unique_data(members),
            "rows": dict(sorted(_name_row(spec, request) for spec in members)),
            "further": False,
            "rhos": (rho,),
            "fractions": (fraction,),
        }
        table = type("FurtherTable", (Table,), attributes)()
        yield table, replace(request, methods=None, datasets=_unique_data(members), hparams=())


def _name_row(spec: RunSpec, request: TableRequest) -> tuple[str, str]:
    """Name the row of a run: (name, title), with its settings that the request has not."""
    own = (*spec.hparams, *(pair for pair in spec.protocol if pair not in request.protocol))
    settings = ",".join(f"{key}={value}" for key, value in own)
    title = str(plugins.read_attributes("methods", spec.method).get("title", spec.method))
    name = f"{spec.method}:{settings}" if settings else spec.method
    return name, ", ".join([title, *format_overrides(own)])


def _unique_data(specs: Iterable[RunSpec]) -> tuple[str, ...]:
    """List the data sets of runs, each once, whatever two laboratories have called it."""
    return tuple(
        {spec.data_identity: spec.dataset for spec in sorted(specs, key=lambda s: s.dataset)}.values()
    )


def has_method(spec: RunSpec) -> bool:
    """Tell whether a run's method is in a suite here and its file can be read."""
    return not plugins.find_mistake(spec.method)


def _is_data(name: str, spec: RunSpec) -> bool:
    resolved = profiles.find_profile(spec.profile).resolve_dataset(name)
    return spec.data_identity in (names.identify_data(name), names.identify_data(resolved))


def _has_values(spec: RunSpec, protocol: Overrides, hparams: Overrides) -> bool:
    """Tell whether a run was made with these values, by an override or because they are what is usual.

    Of several values of one hyper-parameter, with commas between them, one will do.
    """
    if not has_method(spec):
        return not protocol and not hparams
    numbers, own = asdict(planner.resolve_protocol(spec)), planner.resolve_hparams(spec)
    wanted = asdict(planner.resolve_protocol(planner.normalize_spec(replace(spec, protocol=protocol))))
    general_first = sorted(parse_settings(hparams), key=lambda s: s.row not in ("", ALL))
    of_method = {s.name: s.values for s in general_first if s.row in ("", ALL, spec.method) and s.name in own}
    return all(
        identify_value(key, numbers[key]) == identify_value(key, wanted[key]) for key, _ in protocol
    ) and all(
        own[name] in [planner.resolve_hparams(replace(spec, hparams=((name, v),)))[name] for v in values]
        for name, values in of_method.items()
    )


def explain_nothing_selected(results: Results, root: str, command: str) -> UserError:
    """Make the error for a folder without any of the selected runs."""
    counts: dict[str, int] = {}
    for spec in list_stored_specs(results, Selection()):
        kind, part = parse_split(spec.split)
        test = " --test val" if part == "val" else ""
        test += f" --validation {share}" if (share := dict(spec.protocol).get("validation")) else ""
        choice = f"--profile {spec.profile} --split {kind}{test} --datasets {names.format_data_title(spec.dataset)}"
        counts[choice] = counts.get(choice, 0) + 1
    if not counts:
        return UserError(f"{root} holds no run; make some with {command}, or give another --out.")
    choices = ", ".join(f"{choice} ({n})" for choice, n in sorted(counts.items()))
    return UserError(f"{root} holds no such run; it has those of {choices}.")
