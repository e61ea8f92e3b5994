"""Captions of tables and figures: sentences on what was measured, on what, how, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from udcd_bench.data import official, sources
from udcd_bench.grid.cells import STAND_IN, describe_untested_classes
from udcd_bench.judging.tolerances import load_tolerances
from udcd_bench.render.sheet import has_both_spreads
from udcd_bench.runs.records import describe_origins
from udcd_bench.runs.results import Results
from udcd_bench.runs.spec import RunSpec, describe_split, format_overrides, parse_split
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.store import Store

REPORTING_RULES = {
    "last": "last epoch",
    "best": "best epoch by accuracy on the test set itself, which is optimistic",
}


class RunCounts(NamedTuple):
    """How many runs an artefact needs, and how many are behind each of its figures."""

    planned: int
    per_cell: tuple[int, ...]


MAX_HASHES = 6
"""Most split hashes of one source that a caption lists."""


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
    intervals = [_describe_intervals(grid.metrics)] if frame["low"].notna().any() else []
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
        return (
            f"Profile {request.profile}, split {describe_split(request.split)}. {_describe_none(counts.planned)}",
        )
    rule = REPORTING_RULES.get(request.rule) or _join_unique(
        record["reporting"] for record in records.values()
    )
    parts = [
        f"Profile {request.profile}: {_describe_training(records)}{_join_unique(spec.backbone for spec in records)}"
        f"{_format_overrides(request)}; {f'{rule}; ' * reported}"
        f"{_describe_repeats(request, counts, len(records), spread)}."
    ]
    for source in dict.fromkeys(spec.data_identity for spec in records):
        parts += _describe_dataset(source, records)
    if _has_mixed_splits(records):
        parts.append("Not all rows were tested on the same images: split hashes differ.")
    parts += [origins] if (origins := describe_origins(records.values())) else []
    hardware = _join_unique(_describe_hardware(record["environment"]) for record in records.values())
    parts.append(f"Trained on {hardware}.")
    return tuple(parts)


def _describe_none(planned: int) -> str:
    return "Its one run is not done." if planned == 1 else f"None of {planned} runs is done."


def describe_record(record: Record, store: Store) -> list[str]:
    """Describe one finished run: what a reader must know of its data, then what its figures are of."""
    spec = RunSpec.from_dict(record["spec"])
    title = record["dataset_title"]
    synthetic = [f"{title}: drawn by a program; no published figure compares with these."]
    left_out = [record["incomplete"]] if record["incomplete"] else []
    untested = describe_untested_classes([spec], Results(store, {spec: record}, {}))
    split = f", split {describe_split(spec.split)}" if spec.split != "paper" else ""
    copies = f" ({text})" if (text := record.get("copies")) else ""
    head = f"{record['method_title']} on {title}{copies}{split}, {record['reporting']}, n=1:"
    return [*(synthetic if record["synthetic"] else []), *left_out, *untested, head]


def _describe_metric(metric: str) -> str:
    return METRICS[metric].description + (", lower is better" if METRICS[metric].better == "lower" else "")


def _describe_intervals(metrics: Sequence[str]) -> str:
    """Describe what is in the intervals, and what is not."""
    tolerances = load_tolerances()
    without = [METRICS[metric].title for metric in metrics if metric not in statistics.CONFUSION_METRICS]
    noise: dict[float, list[str]] = {}
    for metric in metrics:
        if metric in statistics.CONFUSION_METRICS:
            noise.setdefault(tolerances.get_noise(metric), []).append(METRICS[metric].title)
    assumed = "; ".join(f"{', '.join(titles)} {points:g}" for points, titles in noise.items())
    return (
        f"In the CSV, low to high is a {100 * tolerances.level:g} % interval of the mean, from {tolerances.draws} "
        "bootstrap draws of groups of test images (lesions, duplicates) within classes, and from training's noise: "
        f"an assumed standard deviation in points ({assumed}) and what seeds show. That folds share training images "
        "is not in it." + (f" No interval for {', '.join(without)}." if without else "")
    )


def _describe_repeats(request: TableRequest, counts: RunCounts, done: int, spread: str) -> str:
    """Describe folds, seeds, n and what the spread is of."""
    folds = f"fold{'s' * (len(request.folds) > 1)} {', '.join(map(str, request.folds))}"
    seeds = f"seed{'s' * (len(request.seeds) > 1)} {', '.join(map(str, request.seeds))}"
    n = sorted({value for value in counts.per_cell if value})
    runs = "–".join(map(str, dict.fromkeys([n[0], n[-1]])))
    text = f"split {describe_split(request.split)}, {folds}, {seeds}; n = {runs}"
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
            parts.append(f"{' and '.join(shown)} {unit}, ")
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


def _describe_dataset(source: str, records: Mapping[RunSpec, Record]) -> list[str]:
    """Describe sizes and split hashes of one source, a hash for each fold in order, and what was left out of it.

    source: the identity of the data.
    """
    of_source = [(spec, record) for spec, record in records.items() if spec.data_identity == source]
    title = of_source[0][1]["dataset_title"]
    train, test = (_format_range(record[side] for _, record in of_source) for side in ("n_train", "n_test"))
    hashes = list(dict.fromkeys(record["split_hash"] for _, record in of_source))
    left_out = dict.fromkeys(record["incomplete"] for _, record in of_source if record["incomplete"])
    on_val = parse_split(of_source[0][0].split)[1] == "val"
    copies = dict.fromkeys(text for _, record in of_source if (text := record.get("copies")))
    shown = f"{title} ({', '.join(copies)})" if copies else title
    split = f"split hash{'es' * (len(hashes) > 1)} {', '.join(hashes)}"
    if len(hashes) > MAX_HASHES:
        split = f"{len(hashes)} splits, whose hashes stand in the CSV"
    return [
        f"{shown}: {train} training and {test} {'validation' if on_val else 'test'} images"
        f"{_describe_official_test(of_source[0][0])}, {split}.",
        *(f"{title} is incomplete: {text.rstrip('.')}." for text in left_out),
    ]


def _describe_official_test(spec: RunSpec) -> str:
    if spec.split != official.SPLIT:
        return ""
    return f" (those of {sources.find_title(official.TESTS[spec.dataset])})"


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
    teacher = [f"teacher {request.teacher_backbone}"] if request.teacher_backbone else []
    return "".join(f", {text}" for text in [*teacher, *overrides])


def _join_unique(texts: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(texts))


def _format_range(numbers: Iterable[int]) -> str:
    ends = sorted(set(numbers))
    return "–".join(map(str, dict.fromkeys([ends[0], ends[-1]])))
