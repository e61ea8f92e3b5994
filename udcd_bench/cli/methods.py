"""Commands: methods list, show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

HEAD = ("method", "suite", "family", "citation", "teacher", "views", "levels")
"""Facts that stand above a method's docstring."""


@click.group()
def methods() -> None:
    """The rows of the tables: list, show."""


@methods.command("list")
def list_() -> int:
    """Every method: its suite, family and teacher, what a step costs beside the Scratch row's where that was measured
    on a CPU, its source.

    A file that cannot be read as a method is left out and named below, with exit status 1.
    """
    from udcd_bench import plugins

    lines, problems = [("method", "suite", "family", "teacher", "cost", "citation")], []
    for name in plugins.list_names("methods"):
        try:
            lines.append(_describe_method(name))
        except UserError as error:
            problems.append(str(error))
    widths = [max(map(len, column)) for column in zip(*lines)][:-1]
    for *cells, citation in lines:
        click.echo("  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths)), citation]))
    for problem in problems:
        click.echo(f"left out: {problem}", err=True)
    return 1 if problems else 0


def _describe_method(name: str) -> tuple[str, str, str, str, str, str]:
    """Describe a method for the list of all."""
    from udcd_bench import plugins
    from udcd_bench.plugins.suites import find_content
    from udcd_bench.runs.rates import compare_steps
    from udcd_bench.runs.spec import TEACHER_METHOD

    attributes, cost = plugins.read_attributes("methods", name), compare_steps(name, TEACHER_METHOD)
    teacher = attributes.get("teacher")
    rows = plugins.parse_trained_rows(teacher)
    teachers = {
        None: "no teacher",
        "ema": "running average",
        "trained": "trained teacher",
        "own": "own teacher",
    }
    return (
        name,
        find_content("methods", name).suite.name,
        attributes.get("family", ""),
        f"taught by {' + '.join(row or TEACHER_METHOD for row in rows)}" if any(rows) else teachers[teacher],
        "not measured" if cost is None else f"{cost:.1f}×",
        attributes.get("citation", ""),
    )


@methods.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME [NAME]")
def show(names: tuple[str, ...]) -> None:
    """Print a method's citation, equations, hyper-parameters with sources, and differences; or two side by side."""
    if len(names) > 2:
        raise click.UsageError("show takes one method, or two to compare.")
    if len(names) == 1:
        click.echo(
            "\n".join(f"{label:>22}  {text}" if label else text for label, text in _list_facts(names[0]))
        )
    else:
        _print_comparison(*names)


def _list_facts(name: str) -> list[tuple[str, str]]:
    """List (label, text) of a method: its attributes, unlabelled docstring paragraphs, its hyper-parameters.

    In this order, as the sources of hyper-parameters refer to numbers in the docstring as above.
    """
    from udcd_bench import plugins
    from udcd_bench.plugins.suites import find_content
    from udcd_bench.tuning.ranges import format_range

    attributes = plugins.read_attributes("methods", name)
    teacher = attributes.get("teacher")
    comments = plugins.read_comments("methods", name, "hparams")
    lines = [
        ("method", f"{name}: {attributes.get('title', name)}"),
        ("file", str(plugins.find_file("methods", name))),
        ("suite", find_content("methods", name).suite.name),
        *([("family", attributes["family"])] if attributes.get("family") else []),
        ("citation", attributes.get("citation", "")),
        ("teacher", ", ".join(teacher) if isinstance(teacher, list | tuple) else str(teacher)),
        ("views", str(attributes.get("views", 1))),
        *([("levels", "of student and teacher")] if attributes.get("levels") else []),
        *(("", paragraph + "\n") for paragraph in ["", *attributes["doc"].replace("``", "").split("\n\n")]),
    ]
    for key, value in attributes.get("hparams", {}).items():
        choices = attributes.get("choices", {}).get(key)
        allowed = f", one of {'|'.join(map(str, choices))}" if choices else ""
        lines.append((key, f"{value!r}{allowed}  [{comments.get(key, 'no source given')}]"))
    lines += [(f"search {key}", format_range(values)) for key, values in attributes.get("search", {}).items()]
    return lines + [
        (key, f"{value!r}, of the protocol") for key, value in attributes.get("protocol", {}).items()
    ]


def _print_comparison(left: str, right: str) -> None:
    """Print both methods in two columns, with a mark where a fact differs."""
    from itertools import zip_longest

    from rich.console import Console
    from rich.table import Table

    facts = [_list_facts(left), _list_facts(right)]
    labelled = [{label: text for label, text in side if label and label != "file"} for side in facts]
    table = Table(show_header=False, box=None, padding=(0, 1), expand=True)
    for ratio in (3, 0, 8, 8):
        table.add_column(ratio=ratio or None, width=None if ratio else 1)

    def add_labelled(labels: Iterable[str]) -> None:
        for label in labels:
            a, b = (side.get(label, "–") for side in labelled)
            # the sources of one value may be worded differently
            table.add_row(label, "≠" if a.partition("  [")[0] != b.partition("  [")[0] else "", a, b)

    labels = dict.fromkeys([*labelled[0], *labelled[1]])
    add_labelled(label for label in labels if label in HEAD)
    for a, b in zip_longest(*([text for label, text in side if not label] for side in facts), fillvalue=""):
        table.add_row("", "≠" if a != b else "", a, b)
    add_labelled(label for label in labels if label not in HEAD)
    Console(markup=False, highlight=False, emoji=False, width=_get_console_width()).print(table, markup=False)


def _get_console_width() -> int:
    import shutil

    return max(100, shutil.get_terminal_size((160, 24)).columns)
