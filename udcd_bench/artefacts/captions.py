"""Captions of tables and figures: sentences on what was measured, on what, how, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from udcd_bench.artefacts import data_captions
from udcd_bench.grid.cells import STAND_IN, describe_untested_classes
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.judging.uncertainty import describe_training_noise, list_training_noise
from udcd_bench.render.sheet import has_both_spreads
from udcd_bench.runs import names, profiles
from udcd_bench.runs.records import describe_origins
from udcd_bench.runs.results import Results
from udcd_bench.runs.spec import RunSpec, format_overrides, format_teacher
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS
from udcd_bench.stats.rules import BEST_VALIDATION, CHOSEN_BY

if TYPE_CHECKING:
    import pandas as pd

    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.store import Store

REPORTING_RULES = {
    "last": "last epoch",
    "best": "best epoch by accuracy on the test set itself, which is optimistic",
    BEST_VALIDATION: f"epoch of the best {METRICS[CHOSEN_BY].title} on the validation images",
}


LAID_OUT = ", laid out as the paper's "
"""What a title says where a table or figure is on the paper's data or stand-ins for them."""


def format_title(title: str, grid: Grid, request: TableRequest) -> str:
    """Format the title of a table or figure: on other data than its own it is not the paper's, and says on which."""
    profile = profiles.find_profile(request.profile)
    usual = {name for each in grid.datasets for name in (each, profile.resolve_dataset(each))}
    groups = grid.list_column_groups(request)
    if all(group.source in usual for group in groups):
        return title
    titles = list(dict.fromkeys(group.title for group in groups))
    shown = " and ".join([", ".join(titles[:-1]), titles[-1]] if len(titles) > 1 else titles)
    return f"{title.partition(LAID_OUT)[0]} on {shown}"


class RunCounts(NamedTuple):
    """How many runs an artefact needs, and how many are behind each of its figures."""

    planned: int
    per_cell: tuple[int, ...]


def format_warning(synthetic_sources: Sequence[str]) -> str:
    """Format the warning that images of these sources are synthetic; empty for no sources."""
    if not synthetic_sources:
        return ""
    images = " and ".join(dict.fromkeys(synthetic_sources))
    return (
        f"{STAND_IN.capitalize()}: the images of {images} are drawn by a program, not taken from patients; "
        "no published figure has anything to do with them."
    )


def build_table_caption(
    grid: Grid, request: TableRequest, results: Results, frame: pd.DataFrame
) -> tuple[str, ...]:
    """Build the sentences of a table's caption: metrics, runs, intervals where the frame has any, hardware."""
    metrics = [f"{METRICS[metric].title}: {_describe_metric(metric)}" for metric in grid.metrics]
    sentences = [f"In percent; {'; '.join(metrics)}."]
    if frame["published"].notna().any():
        sentences.append("Lines marked published: what the paper prints.")
    specs = grid.list_runs(request)
    *runs, hardware = describe_runs(
        request,
        results.select_records(specs),
        RunCounts(len(specs), tuple(int(n) for n in frame["n"])),
        spread=_describe_spread(frame),
    )
    intervals = [_describe_intervals(grid, request, results)] if frame["low"].notna().any() else []
    if intervals and frame["published"].notna().any():
        intervals.append(
            "A verdict there is of its cell alone, and allows for the error of the published figure too."
        )
    return (*sentences, *runs, *intervals, hardware)


def describe_runs(
    request: TableRequest,
    records: Mapping[RunSpec, Record],
    counts: RunCounts,
    *,
    spread: str = "",
    reported: bool = True,
) -> tuple[str, ...]:
    """Describe finished runs: profile, rule, split, folds, seeds, images, hardware.

    spread: what ± is of, where figures have one. reported: whether figures are of the reported epochs, by the rule.
    """
    if not records:
        split = data_captions.describe_splits(request.split, ())
        return (f"Profile {request.profile}, {split}. {_describe_none(counts.planned)}",)
    rule = describe_rule(request.rule, records.values())
    parts = [
        f"Profile {request.profile}: {_describe_training(records)}{_join_unique(spec.backbone for spec in records)}"
        f"{_format_overrides(request)}; {f'{rule}; ' * reported}"
        f"{_describe_repeats(request, counts, records, spread)}."
    ]
    parts += [
        f"The teacher {names.format_teacher_title(teacher)} is a file: which images it has learned from is known only "
        "where export wrote it."
        for teacher in names.split_teachers(request.teacher)
        if names.parse_name(teacher).digest
    ]
    for source in dict.fromkeys(spec.data_identity for spec in records):
        parts += data_captions.describe_dataset(source, records)
    if _has_mixed_splits(records):
        parts.append("Not all rows were tested on the same images: split hashes differ.")
    parts += [origins] if (origins := describe_origins(records.values())) else []
    hardware = _join_unique(_describe_hardware(record["environment"]) for record in records.values())
    parts.append(f"Trained on {hardware}.")
    return tuple(parts)


def describe_rule(rule: str, records: Iterable[Record]) -> str:
    """Describe which epochs a rule takes the figures of finished runs from."""
    return REPORTING_RULES.get(rule) or _join_unique(record["reporting"] for record in records)


def _describe_none(planned: int) -> str:
    return "Its one run is not done." if planned == 1 else f"None of {planned} runs is done."


def describe_record(record: Record, store: Store) -> list[str]:
    """Describe one finished run: what a reader must know of its data, then what its figures are of."""
    spec = RunSpec.from_dict(record["spec"])
    title = record["dataset_title"]
    synthetic = [f"{title}: drawn by a program; no published figure compares with these."]
    left_out = [record["incomplete"]] if record["incomplete"] else []
    untested = describe_untested_classes([spec], Results(store, {spec: record}, {}))
    is_usual = spec.split == "paper" and not record.get("own_split")
    split = "" if is_usual else f", {data_captions.describe_splits(spec.split, [record])}"
    copies = f" ({text})" if (text := record.get("copies")) else ""
    head = f"{record['method_title']} on {title}{copies}{split}, {record['reporting']}, n=1:"
    sides = data_captions.describe_sides(spec.split, [record])
    return [*(synthetic if record["synthetic"] else []), *left_out, *sides, *untested, head]


def _describe_metric(metric: str) -> str:
    return METRICS[metric].description + (", lower is better" if METRICS[metric].better == "lower" else "")


def _describe_intervals(grid: Grid, request: TableRequest, results: Results) -> str:
    """Describe what is in the intervals, and what is not."""
    tolerances = load_tolerances()
    without = [METRICS[name].title for name in grid.metrics if name not in statistics.CONFUSION_METRICS]
    noise = describe_training_noise(list_training_noise(grid, request, results))
    return (
        f"In the CSV, low to high is a {100 * tolerances.level:g} % interval of the mean, from {tolerances.draws} "
        "bootstrap draws of groups of test images (lesions, duplicates) within classes, and from training's noise. "
        "That folds share training images is not in it. "
        + " ".join([*noise, *([f"No interval for {', '.join(without)}."] if without else [])])
    )


def _describe_repeats(
    request: TableRequest, counts: RunCounts, records: Mapping[RunSpec, Record], spread: str
) -> str:
    """Describe folds, seeds, n and what the spread is of."""
    done = len(records)
    folds = f"fold{'s' * (len(request.folds) > 1)} {', '.join(map(str, request.folds))}, "
    if all(record.get("own_split") for record in records.values()):
        folds = ""  # of one division there are none
    seeds = f"seed{'s' * (len(request.seeds) > 1)} {', '.join(map(str, request.seeds))}"
    n = sorted({value for value in counts.per_cell if value})
    runs = "–".join(map(str, dict.fromkeys([n[0], n[-1]])))
    text = f"{data_captions.describe_splits(request.split, records.values())}, {folds}{seeds}; n = {runs}"
    if n[-1] == 1:
        text += ", so there is no spread"
    elif spread:
        text += f"; {spread}"
    return text + (f"; {done} of {counts.planned} runs are done" if done < counts.planned else "")


def _describe_training(records: Mapping[RunSpec, Record]) -> str:
    """Describe the size of the images and the number of epochs, where the records say them."""
    protocols = [p for record in records.values() if (p := record.get("protocol"))]
    parts = []
    for name, unit in (("image_size", "pixels"), ("epochs", "epochs")):
        if numbers := sorted({p[name] for p in protocols if name in p}):
            shown = (f"{n}×{n}" if unit == "pixels" else str(n) for n in numbers)
            parts.append(f"{' and '.join(shown)} {'epoch' if numbers == [1] else unit}, ")
    return "".join(parts)


def _describe_spread(frame: pd.DataFrame) -> str:
    """Describe what ± is of; empty where none is shown."""
    if frame[["spread_folds", "spread_seeds"]].isna().all(axis=None):
        return ""
    seeds = "between seeds of one fold"
    if has_both_spreads(frame):
        return f"±a/b are sample standard deviations, a between folds (of the seeds' means), b {seeds}"
    between = "between folds" if frame["spread_folds"].notna().any() else seeds
    return f"± is the sample standard deviation {between}"


def _has_mixed_splits(records: Mapping[RunSpec, Record]) -> bool:
    """Tell whether some methods were tested on other images than others."""
    hashes: dict[tuple[object, ...], set[str]] = {}
    for spec, record in records.items():
        setting = (spec.data_identity, spec.rho, spec.fraction, spec.fold, spec.seed)
        hashes.setdefault(setting, set()).add(record["split_hash"])
    return any(len(values) > 1 for values in hashes.values())


def _describe_hardware(environment: Mapping[str, Any]) -> str:
    threads = f"{environment['threads']} CPU thread{'s' * (environment['threads'] != 1)}"
    return ", ".join(
        [environment["device"], threads, environment["precision"], f"torch {environment['torch']}"]
    )


def _format_overrides(request: TableRequest) -> str:
    overrides = format_overrides((*request.protocol, *request.hparams))
    teacher = format_teacher(request.teacher, request.teacher_backbone)
    return "".join(f", {text}" for text in [*teacher, *overrides])


def _join_unique(texts: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(texts))
