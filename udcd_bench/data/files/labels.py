"""Labels as people write them: names that hardly differ, several in one, words for none; reported, never merged."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Set

from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.tables import format_number, parse_number

NO_LABELS = frozenset(
    ("-", "--", "?", "??", "#n/a", "#n/d", "#nv", "<na>", "<null>", "blank", "empty", "missing", "n.a", "n.a.", "n/a",
     "na", "nan", "nil", "none", "not available", "null", "undefined", "unlabeled", "unlabelled")
)  # fmt: skip
"""Names, in lower case, that often stand for a missing label and that pandas does not read as one in that spelling."""
QUOTES = "\"'`´‘’‚“”„«»"
MINUS = "\N{MINUS SIGN}"
THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+")


def find_alike(names: Iterable[str]) -> list[list[str]]:
    """Find the names that are one number, or differ only in case, spaces, dashes, quotes or what is not seen."""
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(_fold(name), []).append(name)
    return [same for same in alike.values() if len(same) > 1]


def find_alike_groups(names: Iterable[str]) -> list[list[str]]:
    """Find the groups that differ only in case, spaces, or how a number is written: P1, p1 and P 01.

    Unlike in a class's name a dash tells 1-11 from 11-1.
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        number = parse_number(name)
        text = unicodedata.normalize("NFKC", name).casefold() if number is None else format_number(number)
        text = re.sub(r"\s+(?=\D)|(?<=\D)\s+", "", text) if number is None else text
        alike.setdefault(re.sub(r"(?<![\d.])0+(?=\d)", "", text), []).append(name)
    return [same for same in alike.values() if len(same) > 1]


def _fold(name: str) -> str:
    text = unicodedata.normalize("NFKC", name.strip().strip(QUOTES))
    text = "".join(
        "-" if (kind := unicodedata.category(char)) == "Pd" or char == MINUS else "" if kind == "Cf" else char
        for char in text
    )
    if "," not in text and (number := parse_number(text)) is not None:
        return format_number(number)
    # a dash at either end may be a minus, as in HER2-
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)|[\s_]+", "", text).casefold()


def find_joined(labels: Collection[str]) -> tuple[list[str], list[str]]:
    """Find the labels that are several labels in one: those that surely are, and those that may be.

    Of ``Cardiomegaly|Effusion`` one part need be a label, of ``A and B``, ``A+B``, ``[0, 1]`` all. Words beside one
    another (sea lion, beside sea and lion) are surely several only if there are three, or two such labels.
    """
    known = {_strip(label) for label in labels}
    surely, maybe, by_space = [], [], []
    for label in sorted(labels):
        if THOUSANDS.fullmatch(label):
            continue
        verdicts = {_judge_parts(_strip(label), pattern, known) for pattern in (r"[|;]", r"[|;,/+&]|\band\b")}
        words = [word for word in map(_strip, re.split(r"\s+", _strip(label))) if word]
        n_words = sum(word in known for word in words) if len(words) > 1 else 0
        if "surely" in verdicts or n_words == len(words) >= 3:
            surely.append(label)
        elif n_words and n_words == len(words):
            by_space.append(label)
        elif "maybe" in verdicts or n_words >= 2 or _is_compound(_strip(label), known):
            maybe.append(label)
    numeric = any(re.fullmatch(r"[\d\s]+", _strip(label)) for label in by_space)
    (surely if len(by_space) > 1 or numeric else maybe).extend(by_space)
    return sorted(surely), sorted(maybe)


def _strip(label: str) -> str:
    return label.strip(" \t[](){}" + QUOTES).casefold()


def _judge_parts(label: str, pattern: str, known: Set[str]) -> str:
    """Judge a label by its parts: ``surely`` or ``maybe`` several labels, or neither."""
    parts = [part for part in map(_strip, re.split(pattern, label)) if part]
    n_known = sum(part in known for part in parts)
    if len(parts) < 2 or not n_known:
        return ""
    all_numbers = all(part.isdecimal() for part in parts)
    return "surely" if n_known == len(parts) or pattern == r"[|;]" or all_numbers else "maybe"


def _is_compound(label: str, known: Set[str]) -> bool:
    """Whether all parts between dashes or underlines are labels, as in mild-moderate: often a class of its own."""
    parts = re.split(r"[_-]+", label)
    return len(parts) > 1 and all(part in known for part in parts)


def report_labels(parts: Mapping[str, Set[str]], report: ValidationReport) -> None:
    """Report class names that hardly differ, that join several, or that often stand for none.

    parts: class name → the parts of the split in which it has images; no class may be two in two parts.
    """
    for same in find_alike(parts):
        report.add("alike", " and ".join(same))
        if not set.intersection(*(set(parts[name]) for name in same)):
            report.block("alike")  # Benign in train and benign in test are one class, and would be two
    surely, maybe = find_joined(parts.keys())
    for kind, labels in (("several", surely), ("joined", maybe)):
        for label in labels:
            report.add(kind, label)
    for name in sorted(parts):
        if name.strip().casefold() in NO_LABELS:
            report.add("no_label", name)
        if name.startswith("="):
            report.add("formula", name)
