"""The command line: the group of all commands, and exit codes.

Commands import what is heavy inside their functions, so that ``--help`` answers at once. Knows no numbers of its own:
it parses options, calls the other wings and prints.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from udcd_bench import __version__
from udcd_bench.cli.audit import audit, claims
from udcd_bench.cli.bench import bench
from udcd_bench.cli.check import check
from udcd_bench.cli.compare import compare
from udcd_bench.cli.data import data
from udcd_bench.cli.methods import methods
from udcd_bench.cli.report import report
from udcd_bench.cli.results import results
from udcd_bench.cli.run import plot, run, status, train
from udcd_bench.errors import UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="udcd-bench")
@click.option(
    "--suite",
    "suites",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of further methods, tables and figures. May be given again.",
)
def cli(suites: tuple[Path, ...]) -> None:
    """Does that distillation paper hold? Reproduce the tables and figures of UDCD (MICCAI 2024).

    Without data, network or GPU: udcd-bench run table2
    """
    from udcd_bench import plugins

    for suite in suites:
        plugins.add_suite(suite)


COMMANDS = (run, plot, train, status, methods, data, audit, claims, check, compare, report, bench, results)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point: 0 done, 1 a run or a check failed, 2 something the user can fix, 130 interrupted."""
    try:
        code = cli.main(standalone_mode=False)
    except UserError as error:
        click.echo(f"udcd-bench: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"\nInterrupted. Nothing is lost; go on with: {_format_command_line()}", err=True)
        sys.exit(130)
    except OSError as error:
        from udcd_bench.storage.atomic import as_user_error

        user_error = as_user_error(error, Path(error.filename or "."))
        if not isinstance(user_error, UserError):
            raise
        click.echo(f"udcd-bench: {user_error}", err=True)
        sys.exit(2)
    sys.exit(code or 0)


def _format_command_line() -> str:
    import shlex

    return shlex.join(["udcd-bench", *sys.argv[1:]])
