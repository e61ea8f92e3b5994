"""The command line: the group of all commands, what it needs of a machine and its console, and exit codes.

Commands import what is heavy inside their functions, so that ``--help`` answers at once. Knows no numbers of its own:
it parses options, calls the other wings and prints.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import logging
import os
import sys
from pathlib import Path

import click

from udcd_bench import __version__
from udcd_bench.cli.bench import bench
from udcd_bench.cli.data import data
from udcd_bench.cli.inference.export import export
from udcd_bench.cli.inference.predict import predict
from udcd_bench.cli.inference.predictions import predictions
from udcd_bench.cli.judging.audit import audit, claims
from udcd_bench.cli.judging.check import check
from udcd_bench.cli.judging.compare import compare
from udcd_bench.cli.methods import methods
from udcd_bench.cli.report import report
from udcd_bench.cli.results import results, status
from udcd_bench.cli.run import plot, run, train
from udcd_bench.cli.training.search import search
from udcd_bench.errors import UserError


class _SuiteAnywhereGroup(click.Group):
    """Takes ``--suite`` behind the command too, since people type what they add last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _move_suites_first(args))


def _move_suites_first(words: list[str]) -> list[str]:
    """Move each ``--suite NAME`` and ``--suite=NAME`` before the command; what follows ``--`` stays."""
    first: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            others += [word, *rest]
        elif word == "--suite":
            value = [*itertools.islice(rest, 1)]
            (first if value else others).extend([word, *value])
        else:
            (first if word.startswith("--suite=") else others).append(word)
    return first + others


@click.group(
    cls=_SuiteAnywhereGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="udcd-bench")
@click.option(
    "--suite",
    "suites",
    multiple=True,
    # text, as pathlib takes ./modern for modern, which is a name
    help="Further methods, tables and figures: modern, or a folder of your own. May be given again.",
)
def cli(suites: tuple[str, ...]) -> None:
    """Does that distillation paper hold? Reproduce the tables and figures of UDCD (MICCAI 2024).

    Without data, network or GPU: udcd-bench run table2
    """
    from udcd_bench import plugins

    for suite in suites:
        plugins.add_suite(suite)


results.add_command(predictions)
COMMANDS = (
    *(run, plot, train, search, status, methods, data, audit, claims, check, compare, report, bench, results),
    *(predict, export),
)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Entry point: 0 done, 1 a run or a check failed, 2 something the user can fix, 130 interrupted, 141 unread."""
    _tolerate_console()
    # everything is drawn to files, and a notebook's shell names a backend of its own
    os.environ["MPLBACKEND"] = "agg"
    console = sys.stdout
    try:
        _check_machine()
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
    except SystemExit as ended:
        # click wraps both streams and exits when nobody reads on, as after `| head -1`; 141 is a shell's for SIGPIPE
        sys.exit(ended.code if sys.stdout is console else 141)
    except OSError as error:
        _close_full_streams()
        click.echo(f"udcd-bench: {_explain(error)}", err=True)
        sys.exit(2)
    sys.exit(code or 0)


def _tolerate_console() -> None:
    """Let a console show what it can: ``?`` for a letter that its encoding lacks, and no advice of matplotlib's."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    # it would say on every start that a home folder cannot be written, and that it caches fonts
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def _check_machine() -> None:
    """Raise UserError on a system other than Linux, and in a folder that is gone."""
    lacks = [f"os.{name}" for name in ("sched_getaffinity", "posix_fallocate") if not hasattr(os, name)]
    lacks += ["fcntl"] if importlib.util.find_spec("fcntl") is None else []
    if sys.platform != "linux" or lacks:
        reason = f", which has no {lacks[0]}" if lacks else ""
        raise UserError(
            f"udcd-bench runs on Linux, and this is Python for {sys.platform}{reason}; use a Linux machine, a "
            "container or, on Windows, WSL2."
        )
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("The folder you are in has been removed; go to one that exists, with cd.") from error


def _close_full_streams() -> None:
    """Point output that cannot be written at nothing, so that Python's end does not report it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _explain(error: OSError) -> Exception:
    """Return what the user can do about an error of the system. Raises it anew where that is not known."""
    from udcd_bench.storage.atomic import as_user_error

    if "temporary directory" in str(error):
        return UserError("No folder for temporary files can be written; set TMPDIR to one that can.")
    path = error.filename or "the output"
    if isinstance(error, PermissionError):
        return UserError(
            f"{path} may not be read or written; ask its owner for the right, or give another folder."
        )
    user_error = as_user_error(error, Path(os.fsdecode(path)), "--out or --data")
    # a file that is missing may as well be one of this program's own
    if not isinstance(user_error, UserError) or isinstance(error, FileNotFoundError):
        raise error
    return user_error


def _format_command_line() -> str:
    import shlex

    return shlex.join(["udcd-bench", *sys.argv[1:]])
