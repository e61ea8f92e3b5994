"""Hostile input: strategies that spoil valid files, and the guard in which readers meet them.

A reader passes when it returns, or raises UserError; anything else, a minute of silence or a gigabyte taken is a fault.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import resource
import signal
import unicodedata
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from udcd_bench.errors import UserError

LONG = os.environ.get("UDCD_BENCH_FUZZ") == "long"
"""An hour's worth of cases, different ones each time, instead of the same few every time."""
EXAMPLES = 12_000 if LONG else 120
"""Of a target of weight 1."""
HANG_SECONDS = 20
"""Seconds after which a reader hangs."""
ROOM = 1 << 30
"""Bytes that a reader may take beyond what the process has."""

counts: dict[str, Counter[str]] = {}
"""Target → how many inputs were read and how many refused."""


def campaign(weight=1.0):
    """Hypothesis settings of a target."""
    return settings(
        max_examples=max(10, int(weight * EXAMPLES)),
        derandomize=not LONG,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


class HangError(BaseException):
    """No Exception, so that no reader can take it for a bad file."""


@contextlib.contextmanager
def guarded():
    """Bounds on time and memory."""

    def hang(*_):
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (held + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(target, read, *arguments):
    """What a reader makes of its input, None where it refuses it in words."""
    seen = counts.setdefault(target, Counter())
    try:
        with guarded():
            found = read(*arguments)
    except UserError as error:
        told = str(error)
        assert told.strip() and "Traceback" not in told
        assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in told.replace("\n", "")), (
            "it can be printed"
        )
        seen["refused"] += 1
        return None
    seen["read"] += 1
    return found


# --- what is put where something else should be ---------------------------------------------------------------

WORDS = (
    "", " ", '"', '""', "'", ",", "\t", "\n", "\r", "\r\n", "\x00", "\x1b[31m", "\u2028", "\u0085", "\ufeff", "#", ";",
    "nan", "NaN", "inf", "-inf", "1e999", "-1e999", "1e-320", "-0", "-1", "0", "0.5", "1", "2", "7", "80.", "1_0", "٣",
    "0x10", "9" * 400, "9" * 5000, "-" + "9" * 5000, "1e5", "true", "None", "null", "é", "e\u0301", "日本", "a" * 300,
    "a" * 140_000, "../../x.png", "/etc/passwd", "/dev/zero", ".", "..", "a/b", "C:\\x", "=1+1", "{}", "[]", "%s",
    "<b>&amp;", "\\input{x}", "$", "mel", "udcd", "acc", "path", "label", "group", "split", "train", "dx", "best",
)  # fmt: skip
words = st.one_of(st.sampled_from(WORDS), st.text(max_size=8), st.integers().map(str), st.floats().map(str))

VALUES = (
    None, True, False, 0, 1, -1, 2, 2**31, 2**63, -(2**63) - 1, 2**64, 10**30, 0.5, -0.0, 1e308, float("inf"),
    float("nan"), [], {}, [[]], [{}], {"a": 1}, ["a"], [["a", 1]], [["a", []]], [["a"]], [1, 2], [[1, 2, 3]], "\0DEEP",
    "\0LONG",
)  # fmt: skip
values = st.one_of(st.sampled_from(VALUES), words)
"""What JSON can hold."""


# --- bytes ----------------------------------------------------------------------------------------------------


def _flip(draw, data):
    place = draw(st.integers(0, len(data) - 1))
    return data[:place] + bytes([data[place] ^ 1 << draw(st.integers(0, 7))]) + data[place + 1 :]


def _cut(draw, data):
    return data[: draw(st.integers(0, len(data) - 1))]


def _drop(draw, data):
    place = draw(st.integers(0, len(data) - 1))
    return data[:place] + data[place + draw(st.integers(1, 64)) :]


def _again(draw, data):
    place, size = draw(st.integers(0, len(data) - 1)), draw(st.integers(1, 200))
    return data[: place + size] + data[place : place + size] * draw(st.integers(1, 3)) + data[place + size :]


def _put(draw, data):
    place = draw(st.integers(0, len(data)))
    what = draw(st.one_of(words.map(lambda word: word.encode("utf-8", "replace")), st.binary(max_size=8)))
    return data[:place] + what + data[place + draw(st.sampled_from((0, len(what)))) :]


def _number(draw, data):
    """A few bytes that say how large something is, at their least or greatest."""
    place = draw(st.integers(0, len(data) - 1))
    what = draw(st.sampled_from((b"\0", b"\xff", b"\x7f", b"\x80"))) * draw(st.sampled_from((1, 2, 4, 8)))
    return data[:place] + what + data[place + len(what) :]


BYTES = (_flip, _cut, _drop, _again, _put, _number)


def _encoded(draw, data):
    coding = draw(
        st.sampled_from(("utf-16", "utf-16-le", "latin-1", "cp1252", "utf-7", "utf-8-sig", "utf-32"))
    )
    return data.decode("utf-8", "replace").encode(coding, "replace")


def _lines(draw, data):
    return data.replace(b"\n", draw(st.sampled_from((b"\r\n", b"\r", b"\n\n", b"", b"\x0b", b"\x00\n"))))


TEXT = (*BYTES, _encoded, _lines)


@st.composite
def spoiled(draw, valid, damages=BYTES):
    """One of some valid byte strings, damaged; now and then anything at all."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200))
    data = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data = draw(st.sampled_from(damages))(draw, data)
    return data


# --- tables ---------------------------------------------------------------------------------------------------


@st.composite
def tables(draw, valid, separator=","):
    """A valid CSV with cells, rows and columns replaced, left out, doubled; half of them then damaged as bytes."""
    rows = [list(row) for row in csv.reader(io.StringIO(draw(st.sampled_from(valid))), delimiter=separator)]
    for _ in range(draw(st.integers(0, 4))):
        row = draw(st.integers(0, len(rows) - 1))
        column = draw(st.integers(0, max(0, len(rows[row]) - 1)))
        change = draw(
            st.sampled_from(("cell", "cell", "cell", "head", "less", "more", "twice", "wide", "row", "gone"))
        )
        if change == "cell" and rows[row]:
            rows[row][column] = draw(words)
        elif change == "head" and rows[0]:
            rows[0][draw(st.integers(0, len(rows[0]) - 1))] = draw(words)
        elif change in ("less", "more", "twice"):  # of every row, or of this one
            for each in rows if draw(st.booleans()) else rows[row : row + 1]:
                if change == "more":
                    each.insert(column, draw(words))
                elif column < len(each):
                    each[column : column + 1] = [] if change == "less" else [each[column]] * 2
        elif change == "wide":
            rows[row] += [""] * draw(st.sampled_from((1, 2, 5000)))
        elif change == "row":
            rows.insert(row, list(rows[row]))
        elif change == "gone" and len(rows) > 1:
            del rows[row]
    out = io.StringIO()
    quoting = draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    ending = draw(st.sampled_from(("\n", "\r\n", "\r")))
    csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=ending).writerows(rows)
    data = out.getvalue().encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 2)) == 0 and data:
        data = draw(st.sampled_from(TEXT))(draw, data)
    return data


# --- JSON and TOML ----------------------------------------------------------------------------------------------


def _places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in items:
        yield from _places(below, (*path, key))


def replaced(value, path, what):
    """A JSON value with another in one place; ``...`` leaves out what is there."""
    if not path:
        return what
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and what is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = replaced(copy[path[0]], path[1:], what)
    return copy


@st.composite
def changed(draw, value, most=3):
    """A JSON value with some of its parts replaced, left out or added."""
    for _ in range(draw(st.integers(0, most))):
        path = draw(st.sampled_from(list(_places(value))))
        how = draw(st.integers(0, 4))
        if how == 0 and path:
            value = replaced(value, path, ...)
        elif how == 1:
            value = replaced(value, path, draw(st.sampled_from(({"": 1}, {"x": [None]}, ["x", "x"]))))
        else:
            value = replaced(value, path, draw(values))
    return value


def dumped(value):
    """JSON text, with what Python's own writer would not write."""
    text = json.dumps(value, indent=1, sort_keys=True)
    text = text.replace('"\\u0000DEEP"', "[" * 20_000 + "]" * 20_000).replace('"\\u0000LONG"', "9" * 5000)
    return text.encode()


@st.composite
def json_files(draw, value):
    """A JSON file, changed in what it says, or damaged."""
    if draw(st.integers(0, 2)) == 0:
        return draw(spoiled((dumped(value),), TEXT))
    return dumped(draw(changed(value)))


TOML = (
    "nan", "inf", "-inf", "-1", "0", "1", "2.5", "1e300", "9" * 5000, "true", '""', '"x"', "[]", "[1, 'a']", "[[]]",
    "{}", "{x = 1}", "1979-05-27", "[" * 5000 + "]" * 5000, '["nan"]', "['acc']", "[0.5, 2.0]", "'table2'",
    "['table9']", "1_0", "10_000_000_000_000",
)  # fmt: skip


@st.composite
def toml_files(draw, text):
    """A TOML file with values, keys and lines replaced, left out, doubled; or damaged."""
    if draw(st.integers(0, 2)) == 0:
        return draw(spoiled((text.encode(),), TEXT))
    lines = text.splitlines()
    keyed = [i for i, line in enumerate(lines) if " = " in line]
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.sampled_from(keyed))
        key, _, value = lines[place].partition(" = ")
        how = draw(st.integers(0, 5))
        if how == 0:
            lines[place] = ""
        elif how == 1:
            lines[place] = (
                f"{draw(st.sampled_from(('x', 'low', 'points', 'dataset', 'tables', 'other')))} = {value}"
            )
        else:
            lines[place] = f"{key} = {draw(st.sampled_from(TOML))}"
    return "\n".join(lines).encode()
