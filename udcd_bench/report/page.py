"""The report: everything in a results folder, or what the paper alone shows, on one HTML page that needs nothing else.

It trains nothing, reads no data and no network. The same folder gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from udcd_bench.artefacts import captions
from udcd_bench.artefacts.commands import format_artefact_command
from udcd_bench.errors import UserError
from udcd_bench.judging.paper_audit import audit_paper
from udcd_bench.judging.verdicts import VERDICTS
from udcd_bench.paper import rounded
from udcd_bench.report import answer, classes, figures, paper, tables
from udcd_bench.report import runs as report_runs
from udcd_bench.report.views import explain_nothing_selected, list_views
from udcd_bench.runs.records import describe_origins
from udcd_bench.runs.results import load_results
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import jinja2

    from udcd_bench.report.runs import ReportRun
    from udcd_bench.report.tables import TablePart
    from udcd_bench.report.views import Selection, View
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.store import Store

NO_RUNS: Mapping[str, Any] = {
    "warning": "", "facts": [], "states": {}, "newest": "", "unfinished": [], "views": [], "figures": [], "undrawn": [],
    "runs": [], "settings": [], "splits": [], "environment": [], "plot_command": "", "rule": "",
}  # fmt: skip
"""What the template shows of a folder, where there is none."""


@dataclass(frozen=True)
class Page:
    """A report as UTF-8 HTML, and the view that answers; None for a page of the paper alone. views: how many."""

    html: bytes
    chief: View | None = None
    views: tuple[View, ...] = ()


def render_page(store: Store, selection: Selection) -> Page:
    """Render the report on the selected runs of a folder.

    Raises UserError when the folder does not exist or has no such run, and for runs that are damaged.
    """
    if not store.root.is_dir():
        raise UserError(f"{store.root}: there is no such folder; --out names one that a run has made.")
    results = load_results(store)
    views = list_views(results, selection)
    chief = answer.choose_chief(views, results)
    if chief is None:
        command = f"`udcd-bench run table2 --out {shlex.quote(str(store.root))}`"
        raise explain_nothing_selected(results, str(store.root), command)
    parts = [list(tables.build_tables(view, results, _prefix(n, views))) for n, view in enumerate(views, 1)]
    own = parts[views.index(chief)]
    claims = paper.judge_claims(chief, results)
    return Page(
        _render(
            **_collect_paper(own),
            claims=claims,
            answer=answer.answer_by_runs(chief, views, results, (claims, own)),
            chief=chief,
            **_collect_folder(views, parts, results),
        ),
        chief,
        tuple(views),
    )


def render_paper_page() -> Page:
    """Render the page of the paper alone: its tables, claims and what the audit finds."""
    content = _collect_paper([])
    claims = paper.judge_claims(None, None)
    box = answer.answer_by_paper(claims, content["audited"].findings)
    return Page(_render(**content, claims=claims, answer=box, chief=None, **NO_RUNS))


def _prefix(number: int, views: Sequence[View]) -> str:
    """Return what the names of a view's tables begin with on the page; the first view's are plain."""
    return "" if number == 1 or len(views) == 1 else f"{number}-"


def _render(**content: Any) -> bytes:
    script = _read_template("report.js")
    parts = [part for _, of_view in content["views"] for part in of_view]
    # a figure that several tables of a view show stands in it once, with the verdict of the first
    by_cell = {
        (line["setting"], line["data"], line["row"], line["metric"]): line
        for part in reversed(parts)
        for line in part.lines
    }
    lines = list(reversed(by_cell.values()))
    lines += paper.list_printed_lines(content["printed"])
    return (
        _make_environment()
        .get_template("report.html.jinja")
        .render(
            **content,
            metrics=METRICS,
            verdicts=VERDICTS,
            symbols=tables.SYMBOLS,
            class_metrics=classes.CLASS_METRICS,
            curve=report_runs,
            # no text may end the element that holds it
            lines=json.dumps(lines, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
            style=_read_template("report.css"),
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
        .encode()
    )


def _collect_paper(parts: Sequence[TablePart]) -> dict[str, Any]:
    """Collect what the template shows of the paper. parts: our tables beside its own."""
    audited = audit_paper(rounded.find_own_rhos())
    return {
        "audited": audited,
        "printed": list(paper.build_printed_tables(audited.findings, parts)),
        "findings": list(paper.list_findings(audited.findings)),
    }


def _collect_folder(
    views: Sequence[View], parts: Sequence[Sequence[TablePart]], results: Results
) -> dict[str, Any]:
    """Collect what the template shows of a folder."""
    runs = report_runs.list_runs(views, results)
    store, rule = results.store, views[0].request.rule
    stand_ins = {run.spec.dataset for run in runs if run.record and run.record["synthetic"]}
    pictures = list(figures.build_figures(store.root, [view.request for view in views]))
    return {
        "warning": captions.format_warning(sorted(stand_ins)),
        "states": Counter("done" if run.record else "failed" for run in runs),
        "newest": _find_newest_day(store, runs),
        "facts": _collect_facts(runs, rule),
        "rule": rule,
        "views": list(zip(views, parts)),
        "figures": pictures,
        "undrawn": figures.list_undrawn(pictures),
        "plot_command": format_artefact_command("plot", "all", views[0].request),
        "runs": runs,
        "unfinished": [row for row in store.summarize() if row.state not in ("done", "failed")],
        "settings": report_runs.group_by_setting(runs, store, rule),
        "splits": report_runs.list_splits(runs),
        "environment": report_runs.count_environments(runs),
    }


def _read_template(name: str) -> str:
    loader = _make_environment().loader
    assert loader is not None
    return loader.get_source(_make_environment(), name)[0]


@cache
def _make_environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("udcd_bench.report"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=True,
    )
    environment.filters["number"] = tables.format_number
    return environment


def _find_newest_day(store: Store, runs: Iterable[ReportRun]) -> str:
    """Find the day of the newest finished run, in UTC: its file's, so that the same folder gives the same page."""
    newest = max((store.finished_at(run.record["key"]) for run in runs if run.record), default=None)
    return datetime.fromtimestamp(newest / 1e9, UTC).strftime("%-d %B %Y") if newest is not None else ""


def _collect_facts(runs: Sequence[ReportRun], rule: str) -> list[tuple[str, list[str]]]:
    """Collect the facts on how the runs were made: each one's values, once each."""
    facts: dict[str, set[str]] = {}
    for run in runs:
        if run.record:
            for name, value in _list_facts(run.record, rule):
                facts.setdefault(name, set()).add(value)
    origins = describe_origins([run.record for run in runs if run.record])
    return [(name, sorted(values)) for name, values in facts.items()] + [("Not alike", [origins])] * bool(
        origins
    )


def _list_facts(record: Record, rule: str) -> Iterator[tuple[str, str]]:
    environment = record["environment"]
    if copies := record.get("copies"):
        yield "Copies", f"{record['dataset_title']}: {copies}"
    if record["incomplete"]:
        yield "Incomplete", f"{record['dataset_title']}: {record['incomplete']}"
    yield "Reported", captions.describe_rule(rule, [record])
    threads = f"{environment['threads']} CPU thread{'s' * (environment['threads'] != 1)}"
    yield "Hardware", f"{environment['device']}, {threads}, {environment['precision']}"
    yield "Versions", ", ".join(f"{name} {environment[name]}" for name in ("python", "torch", "timm"))
    yield (
        "Commit",
        f"udcd-bench {environment['udcd_bench']}, {environment['commit'] or 'not from a checkout'}",
    )
