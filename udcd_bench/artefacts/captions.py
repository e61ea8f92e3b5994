"""The sentences below a table: what was measured, on what, how, and how often."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from udcd_bench.grid.cells import STAND_IN
from udcd_bench.render.sheet import both_spreads
from udcd_bench.stats import statistics
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

    from udcd_bench.grid.cells import Ask
    from udcd_bench.judging.verdicts import Rules
    from udcd_bench.runs.spec import RunSpec

RULES = {"last": "last epoch", "best": "best epoch by accuracy on the test set itself, which is optimistic"}
MOST_HASHES = 6
"""Split hashes of one source that a caption lists."""


def warning(drawn: Sequence[str]) -> str:
    """Says that images were drawn, where they were; empty elsewhere."""
    if not drawn:
        return ""
    images = " and ".join(dict.fromkeys(drawn))
    return (
        f"{STAND_IN.capitalize()}: the images of {images} are drawn by a program, not taken from patients; "
        "no published figure has anything to do with them."
    )


def sentences(
    ask: Ask,
    metrics: Sequence[str],
    records: Mapping[RunSpec, Mapping[str, Any]],
    planned: int,
    frame: pd.DataFrame,
    rules: Rules,
) -> tuple[str, ...]:
    """Everything a caption says but the title and the warning.

    records: of finished runs. rules: by which the frame's intervals were made, where it has any.
    """
    abouts = [f"{METRICS[metric].title}: {_about(metric)}" for metric in metrics]
    parts = [f"In percent; {'; '.join(abouts)}."]
    if frame["published"].notna().any():
        parts.append("Lines marked published: what the paper prints.")
    *of_runs, hardware = provenance(
        ask, records, planned, [int(n) for n in frame["n"]], spread=_spread(frame)
    )
    of_intervals = [_intervals(metrics, rules)] if frame["low"].notna().any() else []
    return (*parts, *of_runs, *of_intervals, hardware)


def provenance(
    ask: Ask,
    records: Mapping[RunSpec, Mapping[str, Any]],
    planned: int,
    n: Iterable[int],
    *,
    spread: str = "",
) -> tuple[str, ...]:
    """What finished runs are of: profile, rule, split, folds, seeds, images, hardware.

    n: runs behind each figure. spread: what ± is of, where figures stand with it.
    """
    found = list(records.values())
    if not found:
        return (f"Profile {ask.profile}, split {ask.split}. None of {planned} runs is done.",)
    rule = RULES.get(ask.rule) or _listed(record["reporting"] for record in found)
    parts = [
        f"Profile {ask.profile}: {_listed(spec.backbone for spec in records)}"
        f"{_overrides(ask)}; {rule}; {_repeats(ask, n, planned, len(found), spread)}."
    ]
    for source in dict.fromkeys(spec.dataset for spec in records):
        parts += _data(source, records)
    if _mixed(records):
        parts.append("Not all rows were tested on the same images: split hashes differ.")
    parts.append(f"Trained on {_listed(_hardware(record['environment']) for record in found)}.")
    return tuple(parts)


def _about(metric: str) -> str:
    return METRICS[metric].about + (", lower is better" if METRICS[metric].better == "lower" else "")


def _intervals(metrics: Sequence[str], rules: Rules) -> str:
    """What is in the intervals, and what is not."""
    without = [METRICS[metric].title for metric in metrics if metric not in statistics.METRICS]
    noise: dict[float, list[str]] = {}
    for metric in metrics:
        if metric in statistics.METRICS:
            noise.setdefault(rules.noise(metric), []).append(METRICS[metric].title)
    assumed = "; ".join(f"{', '.join(titles)} {points:g}" for points, titles in noise.items())
    return (
        f"In the CSV, low to high is a {100 * rules.level:g} % interval of the mean, from {rules.draws} bootstrap "
        "draws of groups of test images (lesions, duplicates) within classes, and from training's noise: an assumed "
        f"standard deviation in points ({assumed}) and what seeds show. That folds share training images is not in it."
        + (f" No interval for {', '.join(without)}." if without else "")
    )


def _repeats(ask: Ask, of_each: Iterable[int], planned: int, done: int, spread: str) -> str:
    """Folds, seeds, n and what the spread is of."""
    folds = f"fold{'s' * (len(ask.folds) > 1)} {', '.join(map(str, ask.folds))}"
    seeds = f"seed{'s' * (len(ask.seeds) > 1)} {', '.join(map(str, ask.seeds))}"
    n = sorted({value for value in of_each if value})
    text = f"split {ask.split}, {folds}, {seeds}; n = {'–'.join(map(str, dict.fromkeys([n[0], n[-1]])))}"
    if n[-1] == 1:
        text += ", so there is no spread"
    elif spread:
        text += f"; {spread}"
    return text + (f"; {done} of {planned} runs are done" if done < planned else "")


def _spread(frame: pd.DataFrame) -> str:
    seeds = "between seeds of one fold"
    if both_spreads(frame):
        return f"±a/b are sample standard deviations, a between folds (of the seeds' means), b {seeds}"
    between = "between folds" if frame["spread_folds"].notna().any() else seeds
    return f"± is the sample standard deviation {between}"


def _data(source: str, records: Mapping[RunSpec, Mapping[str, Any]]) -> list[str]:
    """Sizes and split hashes of one source, a hash for each fold in order; and what was left out of it."""
    of_source = [(spec, record) for spec, record in records.items() if spec.dataset == source]
    title = of_source[0][1]["dataset_title"]
    train, test = (_span(record[side] for _, record in of_source) for side in ("n_train", "n_test"))
    hashes = list(dict.fromkeys(record["split_hash"] for _, record in of_source))
    left_out = dict.fromkeys(record["incomplete"] for _, record in of_source if record["incomplete"])
    split = f"split hash{'es' * (len(hashes) > 1)} {', '.join(hashes)}"
    if len(hashes) > MOST_HASHES:
        split = f"{len(hashes)} splits, whose hashes stand in the CSV"
    return [
        f"{title}: {train} training and {test} test images, {split}.",
        *(f"{title} is incomplete: {text.rstrip('.')}." for text in left_out),
    ]


def _mixed(records: Mapping[RunSpec, Mapping[str, Any]]) -> bool:
    """Whether some methods were tested on other images than others."""
    hashes: dict[tuple[object, ...], set[str]] = {}
    for spec, record in records.items():
        of = (spec.dataset, spec.rho, spec.fraction, spec.fold, spec.seed)
        hashes.setdefault(of, set()).add(record["split_hash"])
    return any(len(values) > 1 for values in hashes.values())


def _hardware(environment: Mapping[str, Any]) -> str:
    threads = f"{environment['threads']} CPU thread{'s' * (environment['threads'] != 1)}"
    return ", ".join(
        [environment["device"], threads, environment["precision"], f"torch {environment['torch']}"]
    )


def _overrides(ask: Ask) -> str:
    given = [f"{key}={value}" for key, value in (*ask.protocol, *ask.hparams)]
    teacher = [f"teacher {ask.teacher_backbone}"] if ask.teacher_backbone else []
    return "".join(f", {text}" for text in [*teacher, *given])


def _listed(texts: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(texts))


def _span(numbers: Iterable[int]) -> str:
    ends = sorted(set(numbers))
    return "–".join(map(str, dict.fromkeys([ends[0], ends[-1]])))
