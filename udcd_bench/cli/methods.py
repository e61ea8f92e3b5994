"""``udcd-bench methods``: what rows there are."""

from __future__ import annotations

import click


@click.group()
def methods() -> None:
    """The rows of the tables: list, show."""


@methods.command("list")
def list_() -> None:
    """Every method, its teacher and its source."""
    from udcd_bench import plugins

    teachers = {
        None: "no teacher",
        "ema": "running average",
        "trained": "trained teacher",
        "own": "own teacher",
    }
    for name in plugins.names("methods"):
        about = plugins.declared("methods", name)
        click.echo(f"{name:15} {teachers[about.get('teacher')]:17} {about.get('citation', '')}")


@methods.command()
@click.argument("name")
def show(name: str) -> None:
    """A method's citation, equations, hyper-parameters with their sources, and where it differs."""
    from udcd_bench import plugins

    about = plugins.declared("methods", name)
    click.secho(f"{about.get('title', name)}  ({plugins.find('methods', name)})", bold=True)
    click.echo(about["doc"])
    sources = plugins.comments("methods", name, "hparams")
    if about.get("hparams"):
        click.echo("\nHyper-parameters (--set name=value):")
    for key, value in about.get("hparams", {}).items():
        choices = about.get("choices", {}).get(key)
        allowed = f"  one of {', '.join(map(str, choices))}" if choices else ""
        click.echo(f"  {key} = {value!r}{allowed}  [{sources.get(key, 'no source given')}]")
