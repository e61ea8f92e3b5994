"""The report: everything in a results folder on one HTML page that needs no other file and no network.

It trains nothing and reads no data. The same folder gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections import Counter
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from udcd_bench.artefacts import captions
from udcd_bench.errors import UserError, quote_command
from udcd_bench.grid.cells import TableRequest
from udcd_bench.judging import claim_check, claim_file
from udcd_bench.judging.paper_audit import audit_paper, group_by_rule
from udcd_bench.judging.uncertainty import select_available_repeats
from udcd_bench.judging.verdicts import VERDICTS
from udcd_bench.paper import rounded
from udcd_bench.paper.findings import AUDIT_RULES
from udcd_bench.render.sheet import MARKS_LEGEND
from udcd_bench.report import parts
from udcd_bench.report import runs as report_runs
from udcd_bench.runs import profiles
from udcd_bench.runs.records import describe_ages
from udcd_bench.runs.results import load_results
from udcd_bench.runs.spec import describe_split, format_split_options
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import jinja2

    from udcd_bench.judging.claim_check import ClaimVerdict
    from udcd_bench.judging.claim_file import Claim
    from udcd_bench.judging.paper_audit import Audit
    from udcd_bench.paper.findings import AuditRule, Finding
    from udcd_bench.report.runs import ReportRun
    from udcd_bench.runs.records import Record
    from udcd_bench.runs.results import Results
    from udcd_bench.runs.store import Store


def render_page(store: Store, profile: str, split: str = "paper") -> bytes:
    """Render the report on one profile and split, as UTF-8 HTML.

    Raises UserError when the folder does not exist or has no run of these, and for runs that are damaged.
    """
    declared = profiles.find_profile(profile)
    if not store.root.is_dir():
        raise UserError(f"{store.root}: there is no such folder; --out names one that a run has made.")
    results = load_results(store)
    others = _count_other_runs(results, profile, split)
    request = select_available_repeats(TableRequest(profile, split=split), results, None, None)
    runs = report_runs.list_runs(request, results)
    if not runs:
        raise UserError(_explain_no_runs(store, profile, split, others))
    template = _make_environment().get_template("report.html.jinja")
    script = _read_template("report.js")
    return template.render(
        **_collect_head(runs, store),
        **_collect_results(request, results),
        **_collect_runs(runs, store),
        profile=declared,
        request=request,
        others=others,
        command=f"udcd-bench report --profile {shlex.quote(profile)} {_format_split(split)}",
        style=_read_template("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    ).encode()


def _collect_head(runs: Sequence[ReportRun], store: Store) -> dict[str, Any]:
    """Collect what the template shows at the head of the page."""
    stand_ins = [run.spec.dataset for run in runs if run.record and run.record["synthetic"]]
    return {
        "warning": captions.format_warning(sorted(stand_ins)),
        "states": Counter("done" if run.record else "failed" for run in runs),
        "newest": _find_newest_day(store, runs),
        "facts": _collect_facts(runs),
    }


def _collect_results(request: TableRequest, results: Results) -> dict[str, Any]:
    """Collect what the template shows of tables, figures, claims and findings."""
    audited = audit_paper(rounded.find_own_rhos())
    return {
        "tables": list(parts.build_tables(request, results)),
        "figures": list(parts.build_figures(request, results.store)),
        "claims": list(_judge_claims(request.profile, results)),
        "findings": list(_collect_findings(audited)),
        "margins": audited.margins,
        "metrics": METRICS,
        "verdicts": VERDICTS,
        "symbols": parts.SYMBOLS,
        "marks": MARKS_LEGEND,
    }


def _collect_runs(runs: Sequence[ReportRun], store: Store) -> dict[str, Any]:
    """Collect what the template shows of the runs themselves."""
    return {
        "runs": runs,
        "unfinished": [row for row in store.summarize() if row.state not in ("done", "failed")],
        "settings": report_runs.group_by_setting(runs, store),
        "splits": report_runs.list_splits(runs),
        "environment": report_runs.count_environments(runs),
        "curve": report_runs,
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
    environment.filters["number"] = parts.format_number
    environment.filters["split_text"] = describe_split
    environment.filters["split_options"] = _format_split
    return environment


def _count_other_runs(results: Results, profile: str, split: str) -> list[tuple[str, str, int]]:
    """Count what else the folder holds: (profile, split, runs)."""
    counts = Counter((spec.profile, spec.split) for spec in results.states)
    return [(*key, n) for key, n in sorted(counts.items()) if key != (profile, split)]


def _format_split(name: str) -> str:
    """Format the options that choose a split, the default one too."""
    return " ".join(format_split_options(name)) or f"--split {name}"


def _explain_no_runs(store: Store, profile: str, split: str, others: Iterable[tuple[str, str, int]]) -> str:
    """Explain why there is nothing to report, and what to do."""
    nothing = f"{store.root} holds no run of profile {profile} with split {describe_split(split)}"
    choices = [f"--profile {name} {_format_split(kind)} ({n})" for name, kind, n in others]
    if choices:
        return f"{nothing}; it has those of {', '.join(choices)}."
    split_words = () if split == "paper" else ("--split", split)
    command = quote_command("run", "table2", "--profile", profile, *split_words, "--out", store.root)
    return f"{nothing}; make some with `{command}`, or give another --out."


def _find_newest_day(store: Store, runs: Iterable[ReportRun]) -> str:
    """Find the day of the newest finished run, in UTC: its file's, so that the same folder gives the same page."""
    newest = max((store.finished_at(run.record["key"]) for run in runs if run.record), default=None)
    return datetime.fromtimestamp(newest / 1e9, UTC).strftime("%-d %B %Y") if newest is not None else ""


def _collect_facts(runs: Sequence[ReportRun]) -> list[tuple[str, list[str]]]:
    """Collect the facts at the head of the page: each one's values, once each."""
    facts: dict[str, set[str]] = {}
    for run in runs:
        if run.record:
            for name, value in _list_facts(run.record):
                facts.setdefault(name, set()).add(value)
    older = describe_ages([run.record for run in runs if run.record])
    return [(name, sorted(values)) for name, values in facts.items()] + [("Revision", [older])] * bool(older)


def _list_facts(record: Record) -> Iterator[tuple[str, str]]:
    environment = record["environment"]
    yield "Data", record["dataset_title"]
    if record["incomplete"]:
        yield "Incomplete", f"{record['dataset_title']}: {record['incomplete']}"
    yield "Reported", record["reporting"]
    threads = f"{environment['threads']} CPU thread{'s' * (environment['threads'] != 1)}"
    yield "Hardware", f"{environment['device']}, {threads}, {environment['precision']}"
    yield "Versions", ", ".join(f"{name} {environment[name]}" for name in ("python", "torch", "timm"))
    yield (
        "Commit",
        f"udcd-bench {environment['udcd_bench']}, {environment['commit'] or 'not from a checkout'}",
    )


def _judge_claims(profile: str, results: Results) -> Iterator[tuple[Claim, ClaimVerdict, ClaimVerdict]]:
    """Judge each sentence of the paper on its figures and on ours."""
    if not claim_file.find_claims_file().is_file():
        return
    own_results = claim_check.OwnResults(results)
    for claim in claim_file.load_claims(claim_file.find_claims_file()):
        on_runs = claim_check.check_on_runs(claim, profile, own_results)
        yield claim, claim_check.check_on_paper(claim), on_runs


def _collect_findings(result: Audit) -> Iterator[tuple[str, AuditRule, list[Finding]]]:
    """Collect what the published tables show of themselves, by rule."""
    for name, findings in group_by_rule(result.findings).items():
        yield name, AUDIT_RULES[name], findings
