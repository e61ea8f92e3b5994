"""What was measured, in lines that a person can paste."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Rows = Sequence[Mapping[str, Any]]


def format_summary(result: Mapping[str, Any]) -> str:
    """Format the result of ``measure_everything``, part by part, with what is missing and why."""
    ask = result["ask"]
    lines = [
        f"{ask['backbone']}, B={ask['batch']}. Steps are on random images, runs on {result['run_images']}.",
    ]
    for name, entry in result["parts"].items():
        remark = f" ({entry['reason']})" if entry["reason"] else ""
        lines += ["", f"{entry['title'].capitalize()}: {entry['state']}{remark}, {entry['seconds']:.0f} s"]
        lines += _FORMATS[name](entry["rows"])
    return "\n".join(lines)


def _format_steps(rows: Rows) -> Iterator[str]:
    if rows:
        yield (
            f"{'method':15}{'size':>6}{'step/floor':>12}{'quartiles':>14}{'step ms':>9}{'images/s':>10}"
            f"{'launches':>10}{'busy':>7}{'floor busy':>12}{'peak MiB':>10}"
        )
    for row in rows:
        head = f"{row['method']:15}{row['image_size']:5}²"
        if "error" in row:
            yield f"{head}  {row['error']}"
            continue
        ratio = row["ratio"]
        line = (
            f"{head}{ratio['median']:12.3f}{ratio['q25']:8.3f}–{ratio['q75']:.3f}{row['step_ms']:9.1f}"
            f"{row['images_per_s']:10.0f}"
        )
        if "step_launches" in row:
            peak = row["memory_peak_bytes"] / 2**20
            line += f"{row['step_launches']:10}{row['step_busy']:7.0%}{row['floor_busy']:12.0%}{peak:10.0f}"
        yield line
    if rows and any("step_launches" in row for row in rows):
        yield "Busy: kernels' time over the step's; what is left of the floor is launches and waiting."
    elif rows:
        yield "Launches, the device's busy time and peak memory: left out, they need a GPU."


def _format_repeats(rows: Rows) -> Iterator[str]:
    for row in rows:
        how = "with --deterministic" if row["deterministic"] else "as by default"
        if "error" in row:
            yield f"{row['method']} {how}: {row['error']}"
            continue
        outcome = "bit for bit" if row["bit_for_bit"] else "not bit for bit"
        first, second = (100 * value for value in row["rec"])
        yield (
            f"{row['method']} {how}: {outcome}, logits differ by {row['largest_logit_difference']:.2g} at most, "
            f"balanced accuracy {first:.2f} and {second:.2f} %"
        )


def _format_memory(rows: Rows) -> Iterator[str]:
    for row in rows:
        yield f"With {row['bytes_left'] / 2**30:.1f} GiB for both, the ordinary run is done: {row['ordinary_is_done']}"
        yield f"The other failed as it should: {row['greedy_failed'] and row['says_that_memory_ran_out']}"
        yield f"It says: {row['message'] or 'nothing'}"


def _format_together(rows: Rows) -> Iterator[str]:
    for row in rows:
        failed = f", {row['failed']} failed" if row["failed"] else ""
        yield f"{row['runs']} at a time: {row['images_per_s']:.0f} images/s together{failed}"
    if len(rows) == 2:
        yield f"Four are {rows[1]['images_per_s'] / rows[0]['images_per_s']:.2f} times one"


def _format_input(rows: Rows) -> Iterator[str]:
    for row in rows:
        yield (
            f"{row['images']}: {row['one_view_per_s']:.0f} images/s in one view, {row['two_views_per_s']:.0f} in two; "
            f"{row['method']} trains {row['step_images_per_s']:.0f}"
        )


def _format_precision(rows: Rows) -> Iterator[str]:
    by_precision = {name: [row for row in rows if row["precision"] == name] for name in ("bf16", "fp32")}
    for name, some in by_precision.items():
        if some:
            values = {key: 100 * np.array([row[key] for row in some]) for key in ("acc", "rec")}
            rate = np.median([row["images_per_s"] for row in some])
            yield (
                f"{name}: accuracy {values['acc'].mean():.2f} %, balanced {values['rec'].mean():.2f} % "
                f"(seeds differ by {np.ptp(values['acc']):.2f} and {np.ptp(values['rec']):.2f}), {rate:.0f} images/s"
            )


_FORMATS: dict[str, Callable[[Rows], Iterator[str]]] = {
    "steps": _format_steps,
    "repeats": _format_repeats,
    "memory": _format_memory,
    "together": _format_together,
    "input": _format_input,
    "precision": _format_precision,
}
"""Part → the lines of its rows."""
