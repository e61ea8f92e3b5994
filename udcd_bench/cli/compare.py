"""``udcd-bench compare``: each row of a table against one of them, on the same images, folds and seeds."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from udcd_bench.cli import options
from udcd_bench.cli.check import STORED, stored
from udcd_bench.cli.options import option

if TYPE_CHECKING:
    from udcd_bench.judging.comparisons import Compared


@click.command()
@click.argument("table", metavar="TABLE")
@option("--with", "other", default="udcd", show_default=True, metavar="ROW", help="The row to compare with.")
@options.adding(STORED)
@option(
    "--format", "form", default="text", show_default=True, type=click.Choice(["text", "json", "csv"]),
    help="What is printed.",
)  # fmt: skip
def compare(table: str, **asked: Any) -> int:
    """Compare each row of a table with UDCD, or another row, in pairs; trains nothing, needs no data.

    A pair is of one fold and seed, tested on the same images. Prints the difference with its 95 % interval, p of no
    difference corrected over the rows of a column, the corrected resampled t-test over folds, and how probable it is
    that the best row is truly the best; and writes it all as TABLE-compare.csv. Exit 1 when nothing was compared or
    runs were refused as pairs.
    """
    from udcd_bench import plugins
    from udcd_bench.artefacts import captions
    from udcd_bench.judging import comparisons, verdicts
    from udcd_bench.stats import statistics
    from udcd_bench.stats.metrics import METRICS

    made = plugins.load_class("tables", table)()
    store, there, ask = stored(made, asked)
    rules = verdicts.rules()
    compared = comparisons.compare(made, ask, there, store, rules, asked["other"])
    found = [row for row in compared if row.n]
    without = [METRICS[metric].title for metric in made.metrics if metric not in statistics.METRICS]
    about = {
        "title": f"compare {table} with {asked['other']} (profile {ask.profile}, split {ask.split})",
        "warning": captions.warning([group.source for group in made.groups(ask) if group.synthetic]),
        **comparisons.contents(rules, asked["other"]),
        **(
            {"not compared": f"{', '.join(without)}: predictions alone do not determine them"}
            if without
            else {}
        ),
    }
    csv = comparisons.csv(compared)
    if asked["form"] == "csv":
        click.echo(csv, nl=False)
    else:
        click.echo({"text": _text, "json": _json}[asked["form"]](about, compared))
    if not found:
        again = f"udcd-bench run {table} --profile {ask.profile} --out {asked['out']}"
        click.echo(
            f"udcd-bench: Nothing was compared: {asked['out']} holds no two rows to pair; make them with {again}",
            err=True,
        )
        return 1
    (file,) = made.write(ask, store, {"-compare.csv": csv.encode()})
    click.echo(file, err=asked["form"] != "text")
    return 1 if any(row.refused for row in compared) else 0


def _text(about: dict[str, str], compared: list[Compared]) -> str:
    from udcd_bench.judging import comparisons

    lines = [about["title"], *([f"!! {about['warning']}"] if about["warning"] else [])]
    wide = max((len(row.method_title) for row in compared), default=0)
    for title, rows in comparisons.columns(compared):
        head = f"{'difference [95 % interval]':31} {'p':>7} {'Holm':>7}   t-test over folds"
        lines += ["", title, f"  {'':{wide}} {'ours':>6} {'other':>6}  {head}"]
        lines += [f"  {_line(row, wide)}" for row in rows if row.method != row.other]
        family = comparisons.family(rows)
        told = [f"Holm over {family} rows"] if family else []
        told += [
            f"best: {row.method_title}, truly the best with probability {row.best:.2f}"
            for row in rows
            if not math.isnan(row.best)
        ]
        lines += [f"  {'; '.join(told)}"] if told else []
    lines += ["", *(f"{name}: {told}." for name, told in about.items() if name not in ("title", "warning"))]
    return "\n".join(line.rstrip() for line in lines)


def _line(row: Compared, wide: int) -> str:
    if row.reason:
        return f"{row.method_title:{wide}} {row.reason}"
    difference = f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}] n={row.n}"
    test = "n/a" if math.isnan(row.p_t) else f"t={row.t:.2f}, p={row.p_t:.4f}, Holm {row.p_t_holm:.4f}"
    figures = f"{row.ours:6.2f} {row.theirs:6.2f}  {difference:31} {row.p:7.4f} {row.p_holm:7.4f}"
    return f"{row.method_title:{wide}} {figures}   {test}"


def _json(about: dict[str, str], compared: list[Compared]) -> str:
    from udcd_bench.judging import comparisons

    rows = comparisons.frame(compared).to_dict("records")
    plain = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    return json.dumps({**about, "rows": plain}, indent=1, ensure_ascii=False, allow_nan=False)
