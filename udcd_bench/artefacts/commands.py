"""The command that makes a table or a figure as it is, or checks it."""

from __future__ import annotations

import shlex

from udcd_bench import plugins
from udcd_bench.errors import make_printable, quote_name
from udcd_bench.grid.cells import TableRequest
from udcd_bench.runs import names
from udcd_bench.runs.spec import format_split_options


def format_artefact_command(verb: str, name: str, request: TableRequest) -> str:
    """Format the shell line that makes or checks an artefact as requested.

    Own images stand in it by name and digest, and a file of weights or a suite of one's own by its name, since nobody
    stores where they lie.
    """
    words = ["udcd-bench", *(word for suite in plugins.list_named_suites() for word in ("--suite", suite))]
    words += [verb, name, "--profile", request.profile]
    words += format_split_options(request.split, request.datasets or ())
    words += ["--datasets", ",".join(map(quote_name, request.datasets))] if request.datasets else []
    words += ["--methods", ",".join(map(quote_name, request.methods))] if request.methods else []
    words += ["--backbone", request.backbone] if request.backbone else []
    words += ["--teacher-backbone", request.teacher_backbone] if request.teacher_backbone else []
    words += ["--teacher", names.format_teacher_option(request.teacher)] if request.teacher else []
    for key, value in (*request.protocol, *request.hparams):
        words += ["--set", f"{key}={names.parse_name(str(value)).name if key == 'weights' else value}"]
    words += ["--rule", request.rule] if request.rule != TableRequest.rule else []
    if verb != "check":  # which takes all in the folder
        words += ["--folds", ",".join(map(str, request.folds))] if request.folds != (0,) else []
        words += ["--seeds", str(max(request.seeds) + 1)] if max(request.seeds) else []
    if verb == "run":
        words += ["--marks", request.marks] if request.marks != TableRequest.marks else []
        words += ["--plain"] if request.plain else []
    words += ["--bare"] if request.bare else []
    words += ["--name", request.name] if request.name else []
    return make_printable(shlex.join(words))
