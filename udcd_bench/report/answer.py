"""The box at the head of the report: what was asked, of what data, how much was run, and three sentences of answer."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from udcd_bench.errors import format_count
from udcd_bench.judging.paper_check import list_other_protocol
from udcd_bench.paper.findings import SEVERITIES
from udcd_bench.runs.spec import format_overrides

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from udcd_bench.judging.claim_check import ClaimVerdict, Gain
    from udcd_bench.judging.claim_file import Claim
    from udcd_bench.paper.findings import Finding
    from udcd_bench.report.paper import JudgedClaim
    from udcd_bench.report.tables import TablePart
    from udcd_bench.report.views import View
    from udcd_bench.runs.results import Results

OUTCOMES = ("holds", "fails", "cannot tell")
"""Outcomes of a claim, in the order of the answer."""


@dataclass(frozen=True)
class Answer:
    """The box. facts: (what, text). sentences: (outcome, text), three of them. caveat: what it is no answer to."""

    facts: tuple[tuple[str, str], ...]
    sentences: tuple[tuple[str, str], ...]
    caveat: str = ""


def choose_chief(views: Iterable[View], results: Results) -> View | None:
    """Choose the view that answers: the paper's protocol before others, then that of the most runs on real images."""

    def rank(view: View) -> tuple[bool, int, int]:
        records = results.select_records(view.specs).values()
        real = sum(not record["synthetic"] for record in records)
        return bool(real) and not list_other_protocol(view.request), real, len(records)

    return max(views, key=rank, default=None)


def answer_by_runs(
    view: View,
    views: Sequence[View],
    results: Results,
    witnesses: tuple[Sequence[JudgedClaim], Sequence[TablePart]],
) -> Answer:
    """Answer by our runs. view: the one that answers, of all views. witnesses: the judged claims, and its tables."""
    claims, parts = witnesses
    verdicts = [(claim, ours) for claim, _, ours in claims if ours is not None]
    cells = {cell.key: cell.verdict for part in parts for cell in part.cells if cell.n}
    counts = Counter(cells.values())
    figures = {
        "holds": _count_cells(counts, ("reproduced",), "agree with ours, within tolerance or chance"),
        "fails": _count_cells(
            counts,
            ("lower", "higher"),
            f"differ from ours by more than tolerance and chance{_describe_worse(parts)}",
        ),
        "cannot tell": _count_cells(counts, ("underpowered",), "cannot be judged by so few images and runs"),
    }
    return Answer(
        facts=(
            ("Asked", "Whether the paper’s claims and figures hold on runs of one’s own."),
            ("Data", "; ".join(_describe_data(views, results)) or "none"),
            ("Run", _describe_amount(views, results)),
            *([("Answered by", view.title)] if len(views) > 1 else []),
        ),
        sentences=tuple(
            (outcome, _write_sentence(verdicts, outcome, figures[outcome])) for outcome in OUTCOMES
        ),
        caveat=_describe_caveat(view, results),
    )


def answer_by_paper(claims: Sequence[JudgedClaim], findings: Sequence[Finding]) -> Answer:
    """Answer by the paper alone: its claims on the figures that it prints, and what they say of themselves."""
    verdicts = [(claim, theirs) for claim, theirs, _ in claims]
    gravest = {name: [f for f in findings if f.severity == name] for name in SEVERITIES}
    counts = ", ".join(f"{len(some)} {name}" for name, some in gravest.items() if some)
    first = next((f.sentence for f in findings if f.severity == next(iter(SEVERITIES))), "")
    extra = (
        f"the audit has {format_count(len(findings), 'finding')} ({counts}), among the gravest: {first}"
        if first
        else ""
    )
    return Answer(
        facts=(
            (
                "Asked",
                "Whether the paper’s claims follow from the figures that it prints, and whether these agree.",
            ),
            ("Data", "Its printed tables alone."),
            ("Run", "Nothing."),
        ),
        sentences=(
            ("holds", _write_sentence(verdicts, "holds", "")),
            ("fails", _write_sentence(verdicts, "fails", extra)),
            ("cannot tell", _write_sentence(verdicts, "cannot tell", "")),
        ),
    )


def _write_sentence(verdicts: Sequence[tuple[Claim, ClaimVerdict]], outcome: str, figures: str) -> str:
    """Write what has one outcome: how many claims, with the strongest witness, and the published figures."""
    some = [(claim, verdict) for claim, verdict in verdicts if verdict.outcome == outcome]
    text = f"{len(some)} of {format_count(len(verdicts), 'claim')}"
    if some:
        # a sentence that another reading makes otherwise is no strong witness
        other = {claim.quote for claim, verdict in verdicts if verdict.outcome != outcome}
        claim, verdict = max(
            some, key=lambda pair: (pair[0].quote not in other, _find_witness(pair[1], outcome)[0])
        )
        gain = _find_witness(verdict, outcome)[1]
        witness = gain.format_text() if gain else verdict.reason
        text += f", {'for instance' if outcome == 'cannot tell' else 'above all'} “{claim.quote}”: {witness}"
    return f"{'; '.join(filter(None, [text, figures])).rstrip('.')}."


def _find_witness(verdict: ClaimVerdict, outcome: str) -> tuple[float, Gain | None]:
    """Find the gain that speaks most for an outcome, and how many half-widths of its interval it is from 0."""
    sign = -1 if outcome == "fails" else 1

    def measure(gain: Gain) -> float:
        # the half towards 0: the other end is unknown where rows are missing
        half = abs((gain.high if outcome == "fails" else gain.low) - gain.gain)
        return sign * gain.gain / half if 0 < half < math.inf else 0.0

    best = max(verdict.gains, key=measure, default=None)
    return (measure(best), best) if best is not None and measure(best) > 0 else (0.0, None)


def _count_cells(counts: Counter[str], words: Sequence[str], text: str) -> str:
    total, some = sum(counts.values()), sum(counts[word] for word in words)
    return f"{some} of {format_count(total, 'published figure')} {text}" if total and some else ""


def _describe_worse(parts: Sequence[TablePart]) -> str:
    """Describe how many of the cells are worse when their table is judged as a whole."""
    worse = {cell.key for part in parts for cell in part.cells if cell.fails_table}
    return (
        f", each judged alone, and {len(worse)} are worse by their tables as a whole"
        if worse
        else ", each judged alone"
    )


def _describe_data(views: Iterable[View], results: Results) -> list[str]:
    """Describe the data sets of finished runs, with the sizes of their largest folds, by split where these differ."""
    sizes: dict[str, dict[str, set[tuple[int, int]]]] = {}
    for view in views:
        for record in results.select_records(view.specs).values():
            by_split = sizes.setdefault(record["dataset_title"], {})
            by_split.setdefault(view.split, set()).add((record["n_train"], record["n_test"]))
    texts = []
    for title, by_split in sizes.items():
        alike = len({frozenset(pairs) for pairs in by_split.values()}) == 1
        for split, pairs in list(by_split.items())[: 1 if alike else None]:
            train, test = max(pairs)
            of, most = "" if alike else f", {split}", "up to " if len(pairs) > 1 else ""
            texts.append(f"{title}{of}: {most}{train} training and {test} test images")
    return texts


def _describe_amount(views: Sequence[View], results: Results) -> str:
    specs = [spec for view in views for spec in view.specs]
    done = results.select_records(specs)
    failed = len(specs) - len(done)
    folds, seeds = ({getattr(spec, name) for spec in done} for name in ("fold", "seed"))
    text = format_count(len(done), "run") + (f", {failed} failed" if failed else "")
    if not done:
        return f"{text}."
    methods = format_count(len({spec.method for spec in done}), "method")
    return f"{text}: {methods}, {format_count(len(folds), 'fold')}, {format_count(len(seeds), 'seed')}."


def _describe_caveat(view: View, results: Results) -> str:
    """Describe why the answer is none to whether the paper is true; empty where it is one."""
    records = results.select_records(view.specs).values()
    if records and all(record["synthetic"] for record in records):
        return "No run is on real images, so nothing here speaks about the paper."
    other = list_other_protocol(view.request)
    if not other:
        return ""
    return (
        f"The runs follow another protocol than the paper’s ({', '.join(map(_shorten, other))}): they say what holds "
        "under it, and are no verdict on the paper."
    )


def _shorten(text: str) -> str:
    key, equals, value = text.partition("=")
    return format_overrides(((key, value),))[0] if equals else text
