"""One page of everything in a results folder: a single HTML file that needs nothing else and no network.

It trains nothing and reads no data. The same folder gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections import Counter
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from udcd_bench.artefacts import captions
from udcd_bench.errors import UserError
from udcd_bench.grid.cells import TableRequest
from udcd_bench.judging import claim_check, claim_file, uncertainty, verdicts
from udcd_bench.paper import audit, rounded
from udcd_bench.render.sheet import MARKS_LEGEND
from udcd_bench.report import parts as parts
from udcd_bench.report import runs as of_runs
from udcd_bench.runs import profiles
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import jinja2

    from udcd_bench.judging.claim_check import ClaimVerdict
    from udcd_bench.judging.claim_file import Claim
    from udcd_bench.judging.uncertainty import Results
    from udcd_bench.paper.audit import Finding
    from udcd_bench.report.runs import ReportRun
    from udcd_bench.runs.store import Store


def render_page(store: Store, profile: str, split: str = "paper") -> bytes:
    """The report on one profile and split, as UTF-8 HTML.

    Raises UserError when the folder is not there or has no run of these, and for runs that are damaged.
    """
    about = profiles.find_profile(profile)
    there = uncertainty.load_results(store) if store.root.is_dir() else None
    if there is None:
        raise UserError(f"{store.root}: there is no such folder; --out names one that a run has made.")
    others = _count_other_runs(there, profile, split)
    ask = uncertainty.select_available_repeats(TableRequest(profile, split=split), there, None, None)
    runs = of_runs.list_runs(ask, there)
    if not runs:
        raise UserError(_explain_no_runs(store, profile, split, others))
    stand_ins = [run.spec.dataset for run in runs if run.record and run.record["synthetic"]]
    template = _make_environment().get_template("report.html.jinja")
    style, script = (_read_template(name) for name in ("report.css", "report.js"))
    html = template.render(
        profile=about,
        ask=ask,
        warning=captions.format_warning(sorted(stand_ins)),
        others=others,
        runs=runs,
        unfinished=[row for row in store.summarize() if row[0] not in ("done", "failed")],
        states=Counter("done" if run.record else "failed" for run in runs),
        newest=_find_newest_day(store, runs),
        facts=_collect_facts(runs),
        tables=list(parts.build_tables(ask, there, store, verdicts.load_tolerances())),
        figures=list(parts.build_figures(ask, store)),
        claims=list(_judge_claims(profile, store)),
        findings=list(_collect_findings()),
        settings=of_runs.group_by_setting(runs, store),
        splits=of_runs.list_splits(runs),
        environment=of_runs.count_environments(runs),
        metrics=METRICS,
        verdicts=verdicts.VERDICTS,
        symbols=parts.SYMBOLS,
        marks=MARKS_LEGEND,
        command=shlex.join(["udcd-bench", "report", "--profile", profile, "--split", split]),
        curve=of_runs,
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return html.encode()


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
    return environment


def _count_other_runs(results: Results, profile: str, split: str) -> list[tuple[str, str, int]]:
    """(profile, split, runs) of what else the folder holds."""
    counts = Counter((spec.profile, spec.split) for spec in results.states)
    return [(*place, n) for place, n in sorted(counts.items()) if place != (profile, split)]


def _explain_no_runs(store: Store, profile: str, split: str, others: Iterable[tuple[str, str, int]]) -> str:
    """Why there is nothing to report, and what to do."""
    what = f"{store.root} holds no run of profile {profile} with split {split}"
    choices = [f"--profile {name} --split {kind} ({n})" for name, kind, n in others]
    if choices:
        return f"{what}; it has those of {', '.join(choices)}."
    return f"{what}; make some with udcd-bench run table2 --profile {profile}, or give another --out."


def _find_newest_day(store: Store, runs: Iterable[ReportRun]) -> str:
    """The day of the newest finished run, in UTC; its file's, so that a page is the same whenever it is written."""
    files = [store.runs / run.record["key"] / "record.json" for run in runs if run.record]
    newest = max((file.stat().st_mtime for file in files), default=None)
    return datetime.fromtimestamp(newest, UTC).strftime("%-d %B %Y") if newest is not None else ""


def _collect_facts(runs: Iterable[ReportRun]) -> list[tuple[str, list[str]]]:
    """What heads the page: each fact's values, once each."""
    records = [run.record for run in runs if run.record]
    found: dict[str, dict[str, None]] = {}

    def tell(name: str, value: str) -> None:
        found.setdefault(name, {})[value] = None

    for record in records:
        environment = record["environment"]
        tell("Data", record["dataset_title"])
        if record["incomplete"]:
            tell("Incomplete", f"{record['dataset_title']}: {record['incomplete']}")
        tell("Reported", record["reporting"])
        threads = f"{environment['threads']} CPU thread{'s' * (environment['threads'] != 1)}"
        tell("Hardware", f"{environment['device']}, {threads}, {environment['precision']}")
        tell("Versions", ", ".join(f"{name} {environment[name]}" for name in ("python", "torch", "timm")))
        tell(
            "Commit",
            f"udcd-bench {environment['udcd_bench']}, {environment['commit'] or 'not from a checkout'}",
        )
    return [(name, sorted(values)) for name, values in found.items()]


def _judge_claims(profile: str, store: Store) -> Iterator[tuple[Claim, ClaimVerdict, ClaimVerdict]]:
    """Each sentence of the paper, judged on its figures and on ours."""
    if not claim_file.find_claims_file().is_file():
        return
    runs = claim_check.OwnResults(store)
    for claim in claim_file.load_claims(claim_file.find_claims_file()):
        yield claim, claim_check.check_on_paper(claim), claim_check.check_on_runs(claim, profile, runs)


def _collect_findings() -> Iterator[tuple[str, audit.AuditRule, list[Finding]]]:
    """What the published tables say about themselves, by rule."""
    tables = rounded.load_published_tables()
    found = audit.audit_tables(tables, rounded.find_own_rhos()) + list(claim_check.find_failed_claims())
    for name, rule in audit.AUDIT_RULES.items():
        if of_rule := [finding for finding in found if finding.rule == name]:
            yield name, rule, of_rule
