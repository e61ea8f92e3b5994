"""Tables of labels as programs write them: their encodings and separators, cells that are missing, whole numbers."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from decimal import Decimal, InvalidOperation

from udcd_bench.data.files.archives import Archives, FileRef
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import make_forbidden_error
from udcd_bench.errors import UserError

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip
"""The cells that pandas reads as missing."""
SEPARATORS = ",;\t|"


def normalize_nfc(text: str) -> str:
    """Compose accents: a letter with an accent is one character on some systems and two on others."""
    return unicodedata.normalize("NFC", text)


def parse_number(text: str) -> Decimal | None:
    """Read a number however it is written (2, 02, 2.0, 2,0, +2, 2e0); None if it is none, or an endless one."""
    try:
        number = Decimal(text.strip().replace(",", ".")) if len(text) <= 20 else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() and abs(number) < 10**15 else None


def parse_whole(text: str) -> int | None:
    """Read a whole number however it is written; None if it is none."""
    number = parse_number(text)
    return None if number is None or number != number.to_integral_value() else int(number)


def _format_number(number: Decimal) -> str:
    """Write a number in its one form: without a plus, leading or trailing zeros, or an exponent."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def normalize_cells(cells: Iterable[str]) -> list[str]:
    """Bring the cells of a column to one spelling each, missing ones to the empty text.

    If all that are not missing are numbers they are compared as numbers: a column with one gap leaves pandas as ``0.0``
    where it was ``0``. Otherwise as text, accents composed.
    """
    texts = [normalize_nfc(cell.strip()) for cell in cells]
    texts = ["" if text in MISSING else text for text in texts]
    spelling = {"": ""}
    for text in set(texts) - {""}:
        if (number := parse_number(text)) is None:
            return texts
        spelling[text] = _format_number(number)
    return [spelling[text] for text in texts]


def find_alike(names: Iterable[str]) -> list[list[str]]:
    """Find the names that differ only in case or spaces, together."""
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(re.sub(r"[\s_-]+", "", name).casefold(), []).append(name)
    return [same for same in alike.values() if len(same) > 1]


def read_table(
    file: FileRef, report: ValidationReport, *columns: str, optional: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Read a table: the cells of each column as stripped text. Empty lines are left out.

    report: is told what of the encoding or the header was not as expected. columns: those that the table must have,
    optional: those that it may have; they are found in any case, and come out as they are called here.

    Raises UserError when the file is no table, or a column is missing or ambiguous.
    """
    text = _read_text(file, report)
    rows = _parse_rows(file, text, columns)
    header = _rename(rows.pop(0), [*columns, *optional])
    for column in columns:
        if column not in header:
            names = ", ".join(header[:50])
            raise UserError(
                f"{file.display_path} has no column {column!r}; it has: {names[:1000]}; rename the one that is meant, "
                "or add a header line."
            )
    if twice := [name for name, n in Counter(header).items() if name and n > 1]:
        raise UserError(f"{file.display_path} has two columns {twice[0]!r}.")
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _rename(header: list[str], columns: Sequence[str]) -> list[str]:
    """Give the columns that differ from a wanted name in case only that name."""
    wanted = {column.lower(): column for column in columns if column not in header}
    lower = Counter(name.lower() for name in header)
    return [wanted.get(name.lower(), name) if lower[name.lower()] == 1 else name for name in header]


def _read_text(file: FileRef, report: ValidationReport) -> str:
    """Decode a table by trial. Raises UserError when it cannot be read or is no text."""
    with closing(Archives()) as archives:
        try:
            data = archives.read(file)
        except PermissionError as error:
            raise make_forbidden_error(file.path, error) from error
        except OSError as error:
            raise UserError(f"{file.display_path} cannot be read: {error}.") from error
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding, text = "UTF-16", data.decode("utf-16")
        elif b"\0" in data[:200]:
            encoding = "UTF-16-BE" if data[:1] == b"\0" else "UTF-16-LE"
            text = data.decode(encoding)
        else:
            return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\0" in data:
            raise UserError(
                f"{file.display_path} cannot be read: {error}; save it as a CSV in UTF-8."
            ) from error
        # Latin-1 has no gaps, so it is the last resort; the letters that it shares with Windows-1252 are the same
        encoding = "Windows-1252" if _decodes(data, "cp1252") else "Latin-1"
        text = data.decode("cp1252" if encoding == "Windows-1252" else "latin-1")
    report.note(
        f"{file.display_path} is read as {encoding}, as it is not UTF-8; if names look wrong, save it as UTF-8"
    )
    return text


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _parse_rows(file: FileRef, text: str, columns: Sequence[str]) -> list[list[str]]:
    """Split a table into rows, its header first. Raises UserError when it has none or their lengths differ."""
    hint = re.match(r"sep=(.)\r?\n", text)  # Excel's own first line
    if hint:
        text = text[hint.end() :]
    separator = hint[1] if hint else _find_separator(text, columns)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    try:
        for cells in lines:
            if rows and any(cells) and len(cells) != len(rows[0]):
                widths = f"{len(cells)} cells, and the header names {len(rows[0])} columns"
                raise UserError(f"{file.display_path} is not a table: line {lines.line_num} has {widths}.")
            if any(cells):
                rows.append([cell.strip() for cell in cells])
    except csv.Error as error:
        raise UserError(f"{file.display_path} is not a table: line {lines.line_num}: {error}.") from error
    if not rows:
        raise UserError(f"{file.display_path} is not a table: it is empty.")
    return rows


def _find_separator(text: str, columns: Sequence[str]) -> str:
    """Find the separator by which the header has most of the columns; of several, the most frequent one."""
    header = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]

    def count_columns(separator: str) -> tuple[int, int]:
        names = [name.strip().strip('"').strip().lower() for name in header.split(separator)]
        return len({column.lower() for column in columns} & set(names)), len(names)

    return max(SEPARATORS, key=count_columns)
