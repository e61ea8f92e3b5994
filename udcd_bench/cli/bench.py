"""Command ``udcd-bench bench``: each method's step against its floor, and what else training costs on a machine."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import PATH_TYPE, make_option
from udcd_bench.errors import format_count

if TYPE_CHECKING:
    from collections.abc import Callable

AXIS_LABELS = {"batch": "B", "n_train": "n_train", "negatives": "K", "classes": "C"}
"""Names of the sizes that ``--growth`` varies, as its table prints them."""


@click.command()
@options.methods
@make_option("--backbone", default="densenet121", show_default=True, help="A timm name.")
@make_option("--image-size", type=click.IntRange(8), help="[default: 64; with --everything 128, then 224]")
@make_option("--batch", default=64, show_default=True, type=click.IntRange(3))
@make_option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@make_option("--threads", default=0, type=click.IntRange(0), help="Of a CPU.  [default: the framework's]")
@make_option("--rounds", type=click.IntRange(3), help="Pairs a method.  [default: 21; with --everything 5]")
@make_option(
    "--growth", is_flag=True, help="Instead: how each method's own terms grow with B, n_train, K, C."
)
@make_option(
    "--forms", is_flag=True, help="Instead: the cheaper forms of the losses against the direct ones."
)
@make_option(
    "--everything", is_flag=True, help="All that a GPU shows, within ten minutes: steps, short runs, memory."
)
@options.data
@make_option("--json", "file", type=PATH_TYPE, help="Also write the measurements to this file.")
def bench(
    growth: bool,
    forms: bool,
    everything: bool,
    file: Path | None,
    methods: tuple[str, ...] | None,
    data: Path,
    **params: Any,
) -> None:
    """Time each method's step against its floor: the networks and the optimiser alone.

    Medians of paired ratios in one process, on random images, with the allocator's settings of a run.
    --everything makes short training runs too: of images in --data, if HAM10000 or APTOS 2019 is prepared there.
    """
    from udcd_bench import plugins

    names = methods or plugins.list_names("methods")
    for name in names:
        plugins.find_file("methods", name)
    if everything:
        _measure_everything(names, data, file, params)
        return
    params = {**params, "image_size": params["image_size"] or 64, "rounds": params["rounds"] or 21}
    if growth:
        result = _call_in_process(_measure_growth, names)
        click.echo(_format_growth_table(result["growth"]))
    elif forms:
        result = _call_in_process(_measure_forms, params["threads"])
        click.echo(_format_forms_table(result["forms"]))
    else:
        result = _call_in_process(_measure_steps, {"methods": names, **params})
        click.echo(_format_step_table(result))
    if file is not None:
        _write_json(file, result)
        click.echo(file)


def _write_json(file: Path, result: dict[str, Any]) -> None:
    from udcd_bench.storage.atomic import write_atomically

    write_atomically(file, f"{json.dumps(result, indent=1)}\n".encode())


def _measure_everything(
    names: tuple[str, ...], data: Path, file: Path | None, params: dict[str, Any]
) -> None:
    """Measure all parts, print the summary, and keep ``file`` up to date meanwhile."""
    from udcd_bench.bench.everything import session, summary
    from udcd_bench.bench.everything.request import Request
    from udcd_bench.engines.environment import check_early, pick_device
    from udcd_bench.runs.spec import RunSpec

    check_early([RunSpec(names[0], "digits", "quick", params["backbone"])], params["device"])
    device = pick_device(params["device"])
    size, rounds = params["image_size"], params["rounds"] or 5
    request = Request(
        methods=names,
        backbone=params["backbone"],
        image_sizes=(size,) if size else (128, 224),
        batch=params["batch"],
        # one of several: runs side by side are to share it
        device=f"cuda:{device.index or 0}" if device.type == "cuda" else "cpu",
        threads=params["threads"],
        rounds=rounds,
        data=data,
    )
    _set_allocator()
    result = session.measure_everything(
        request, lambda result: _write_json(file, result) if file else None, _echo_progress
    )
    click.echo(summary.format_summary(result))
    click.echo(_format_environment(result))
    if file:
        click.echo(file)


def _call_in_process(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Call a function in a process started anew, with the allocator's settings of a run; it reads them at the start."""
    from udcd_bench.data import workers

    _set_allocator()
    with workers.open_pool(1) as pool:
        (future,) = workers.submit_all(pool, function, [args])
        result: dict[str, Any] = future.result()
        return result


def _set_allocator() -> None:
    """Give the allocator of processes that start from now on the settings of a run."""
    from udcd_bench.engines.server import ALLOCATOR_ENV

    for name, value in ALLOCATOR_ENV.items():
        os.environ.setdefault(name, value)


def _echo_progress(line: str) -> None:
    click.echo(line, err=True)


def _measure_steps(params: dict[str, Any]) -> dict[str, Any]:
    from udcd_bench.bench.ratio import measure_ratios
    from udcd_bench.bench.step import BenchConfig

    return measure_ratios(BenchConfig(**params), _echo_progress)


def _measure_growth(methods: tuple[str, ...]) -> dict[str, Any]:
    from udcd_bench.bench import ratio

    rows = []
    for row in ratio.measure_growth(methods):
        _echo_progress(f"{row['method']} {row['axis']}={row['value']}: {row['ms']:.1f} ms")
        rows.append(row)
    return {"growth": rows} | ratio.describe_machine()


def _measure_forms(threads: int) -> dict[str, Any]:
    from udcd_bench.bench import ratio, reference_forms

    return {"forms": reference_forms.compare_forms(threads, _echo_progress)} | ratio.describe_machine()


def _format_environment(result: dict[str, Any]) -> str:
    e = result["environment"]
    return (
        f"{e['device']}, {format_count(e['threads'], 'thread')}, {e['precision']}, torch {e['torch']}, "
        f"torchvision {e['torchvision']}, timm {e['timm']}, Python {e['python']}, {result['machine']}"
    )


def _format_step_table(result: dict[str, Any]) -> str:
    parts = list(result["methods"][0]["parts"])
    lines = [
        f"{'method':15}{'step/floor':>15}{'quartiles':>16}{'step ms':>9}{'images/s':>9}"
        + "".join(f"{p:>10}" for p in parts)
    ]
    lines += [_format_step_row(row, parts, result["ask"]["rounds"]) for row in result["methods"]]
    lines.append(
        "Step and floor are paired; ± is how well their median is known, at 95 %: more --rounds, less."
    )
    lines.append("The parts are shares of the floor, each timed alone.")
    for views, rate in result["input_images_per_s"].items():
        lines.append(f"Input path alone, {views} view{'s' * (views > 1)}: {rate:.0f} images/s")
    peak = result["memory_peak_bytes"]
    lines.append(f"Memory peak, all methods at once: {peak / 2**20:.0f} MiB")
    return "\n".join([*lines, *_format_gpu_lines(result["methods"]), _format_environment(result)])


def _format_step_row(row: dict[str, Any], parts: list[str], rounds: int) -> str:
    ratio = row["ratio"]
    # the notch of a box plot: McGill, Tukey & Larsen, Variations of box plots, 1978
    uncertainty = 1.57 * (ratio["q75"] - ratio["q25"]) / math.sqrt(rounds)
    return (
        f"{row['method']:15}{ratio['median']:7.3f} ± {uncertainty:.3f}{ratio['q25']:9.3f}–{ratio['q75']:.3f} "
        f"{row['step_ms']:9.1f}{row['images_per_s']:9.0f}"
        + "".join(f"{row['parts'][p]['share']:10.2%}" for p in parts)
    )


def _format_gpu_lines(rows: list[dict[str, Any]]) -> list[str]:
    if any(row["kernel_launches"] is None for row in rows):
        return ["Kernel launches and share of the copy bandwidth: not measured on a CPU."]
    return [
        f"{row['method']:15}{row['kernel_launches']:6} kernel launches a step, "
        f"{row['share_of_copy_bandwidth']:.0%} of the copy bandwidth were every operand moved once, "
        f"peak {row['memory_peak_bytes'] / 2**20:.0f} MiB"
        for row in rows
    ]


def _format_growth_table(rows: list[dict[str, Any]]) -> str:
    columns = [
        ("ms", "ms of one core", 1),
        ("largest", "largest tensor, MB", 1e6),
        ("moved", "moved, MB", 1e6),
    ]
    lines = [f"{'method':15}{'with':24}" + "".join(f"{title:>30}" for _, title, _ in columns)]
    for name, axis in dict.fromkeys((row["method"], row["axis"]) for row in rows):
        matching = [row for row in rows if (row["method"], row["axis"]) == (name, axis)]
        setting = f"{AXIS_LABELS[axis]}={','.join(str(row['value']) for row in matching)}"
        cells = ("".join(f"{row[key] / unit:10.1f}" for row in matching) for key, _, unit in columns)
        lines.append(f"{name:15}{setting:24}{''.join(cells)}")
    return "\n".join(lines)


def _format_forms_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'what':46}{'ours, ms':>10}{'direct, ms':>12}{'faster':>9}{'quartiles':>16}  error, ours and direct"
    ]
    for row in rows:
        ratio = row["ratio"]
        errors = row.get("errors")
        lines.append(
            f"{row['what']:46}{row['ours_ms']:10.2f}{row['direct_ms']:12.1f}{ratio['median']:8.1f}×"
            f"{ratio['q25']:9.1f}–{ratio['q75']:.1f}"
            + (f"  {errors[0]:.1e}, {errors[1]:.1e}" if errors else "")
        )
    return "\n".join(lines)
