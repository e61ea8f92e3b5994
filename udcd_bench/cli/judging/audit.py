"""``udcd-bench audit`` and ``udcd-bench claims``: the checks of published tables and of the paper's sentences."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from udcd_bench.cli import options
from udcd_bench.cli.options import make_option
from udcd_bench.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from udcd_bench.judging.paper_audit import Audit
    from udcd_bench.paper.published import PublishedValue


def _parse_own_rhos(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    rhos = {}
    for text in values:
        name, _equals, number = text.partition("=")
        try:
            rhos[name.strip()] = float(number)
        except ValueError:
            rhos[name.strip()] = math.nan
        if not name.strip() or not 1 <= rhos[name.strip()] < math.inf:
            raise click.BadParameter(f"{text!r}: give a data set and its imbalance, such as ham10000=58.")
    return rhos


format_option = make_option(
    "--format", "form", default="text", show_default=True, type=click.Choice(["text", "json"]),
    help="For people or for programs.",
)  # fmt: skip


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@make_option(
    "--own-rho", "own", multiple=True, callback=_parse_own_rhos, metavar="DATASET=RHO",
    help="The imbalance of all of a data set's images: rows without rho are rows at this one.",
)  # fmt: skip
@make_option(
    "--their-n", "n_test", type=click.IntRange(1, 10**9), metavar="N",
    help="Test images behind a figure of FILES, for what a margin in accuracy is worth.",
)  # fmt: skip
@format_option
def audit(files: tuple[Path, ...], own: dict[str, float], n_test: int | None, form: str) -> None:
    """Audit published tables by rule: impossible figures, figures that differ between tables, wrong marks, and the
    definition of F1 that was printed.

    Every finding has a severity: impossible, contradiction, mislabelled or unsupported. Of every best accuracy and
    every claimed gain in it, it says how many test images of one fold that is, and how small an exact McNemar p could
    be at best.

    FILES are CSVs with the columns dataset, method, metric, percent and, if there are any, rho and marks (best or
    second); without FILES, the tables of the UDCD paper, and its claims that fail on them. This is a report: the exit
    status is 0 whatever it finds.
    """
    from udcd_bench.judging.paper_audit import audit_other, audit_paper
    from udcd_bench.paper import rounded

    if n_test and not files:
        raise UserError("--their-n is for FILES; the paper's own test folds are known from its data sets.")
    tables = _read_tables(files) if files else rounded.load_published_tables()
    own_rhos = rounded.find_own_rhos() | own
    result = audit_other(tables, own_rhos, n_test) if files else audit_paper(own_rhos)
    if form == "json":
        report = {
            "tables": {name: len(figures) for name, figures in tables.items()},
            "findings": [finding.to_dict() for finding in result.findings],
            "margins": [margin.to_dict() for margin in result.margins],
        }
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo("\n".join(_format_audit(tables, result)))


@click.command()
@make_option("--profile", default="demo", show_default=True, help="Of our runs: demo, lite, quick or paper.")
@options.out
@format_option
def claims(profile: str, out: Path, form: str) -> None:
    """Judge the paper's sentences on the figures it prints and on our runs: holds, fails, cannot tell.

    Our runs are those of the profile in --out, on real data, with the settings that they all have; each gain has its
    95 % interval, of test images drawn by groups and of training. This is a report: the exit status is 0 whatever it
    finds.
    """
    from udcd_bench.judging import claim_check, claim_file
    from udcd_bench.runs.results import load_results
    from udcd_bench.runs.spec import format_overrides
    from udcd_bench.runs.store import Store

    results = load_results(Store(out))
    common = results.find_common_protocol(profile, "paper")
    own_results = claim_check.OwnResults(results, protocol=common)
    verdicts = []
    for claim in claim_file.load_claims(claim_file.find_claims_file()):
        ours = claim_check.check_on_runs(claim, profile, own_results)
        verdicts.append((claim, {"published": claim_check.check_on_paper(claim), "ours": ours}))
    if form == "json":
        fields = ("name", "quote", "where", "reading")
        report = [
            {key: getattr(claim, key) for key in fields} | {key: o.to_dict() for key, o in outcomes.items()}
            for claim, outcomes in verdicts
        ]
        settings = format_overrides(common)
        click.echo(json.dumps({"profile": profile, "settings": settings, "claims": report}, indent=2))
        return
    if common:
        click.echo(f"Our runs are of profile {profile} with {', '.join(format_overrides(common))}.\n")
    for claim, outcomes in verdicts:
        click.echo(f"{claim.name}: “{claim.quote}” ({claim.where})\n  Read as: {claim.reading}")
        for name, outcome in outcomes.items():
            click.echo(f"  {name:9}  {outcome.outcome}: {outcome.reason}.")
        click.echo()


def _read_tables(files: Sequence[Path]) -> dict[str, tuple[PublishedValue, ...]]:
    """Read figures by the file's short name, or its path where two share one."""
    from udcd_bench.paper import published

    stems = [file.stem for file in files]
    tables: dict[str, tuple[PublishedValue, ...]] = {}
    for file in files:
        name = file.stem if stems.count(file.stem) == 1 else str(file)
        if name in tables:
            raise UserError(f"{file} is given twice.")
        tables[name] = published.read_csv(file)
    return tables


def _format_audit(tables: dict[str, tuple[PublishedValue, ...]], result: Audit) -> list[str]:
    from udcd_bench.judging.paper_audit import group_by_rule
    from udcd_bench.paper.findings import AUDIT_RULES

    sizes = ", ".join(f"{name} ({len(figures)} figures)" for name, figures in tables.items())
    lines = [f"{len(result.findings)} finding{'s' * (len(result.findings) != 1)} in {sizes}."]
    for name, of_rule in group_by_rule(result.findings).items():
        rule = AUDIT_RULES[name]
        lines += [
            "",
            f"{name}: {len(of_rule)} ({rule.severity})",
            f"  {rule.description}",
            f"  Source: {rule.source}.",
        ]
        lines += [f"  - {finding.sentence}" for finding in of_rule]
    if result.margins:
        lines += [
            "",
            "What a margin in accuracy is worth on one test fold, for every best and every claimed gain:",
        ]
        lines += [f"  - {margin.describe()}" for margin in result.margins]
    return lines
