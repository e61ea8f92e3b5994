"""Tables of labels as programs write them: their encodings and separators, cells that are missing, whole numbers."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from contextlib import closing
from decimal import Decimal, InvalidOperation

from udcd_bench.data.files.archives import Archives, FileRef
from udcd_bench.data.files.kinds import describe_pointer
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import make_forbidden_error
from udcd_bench.errors import UserError

MISSING = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
     "NULL", "NaN", "None", "n/a", "nan", "null")
)  # fmt: skip
"""The cells that pandas reads as missing."""
SPREADSHEET_ERROR = re.compile(r"#[A-ZÀ-Ý0-9/]+[!?]|Err:\d{3}")
"""What a spreadsheet writes into a cell that it could not compute: #REF!, #NAME?, also in other languages."""
SEPARATORS = ",;\t|"


def normalize_nfc(text: str) -> str:
    """Compose accents: a letter with an accent is one character on some systems and two on others."""
    return unicodedata.normalize("NFC", text)


def is_missing(cell: str) -> bool:
    """Whether a cell says nothing: pandas reads it as missing, or a spreadsheet could not compute it."""
    return cell in MISSING or SPREADSHEET_ERROR.fullmatch(cell) is not None


_PLATE = re.compile(r"\d+[Ee]\d+")


def parse_number(text: str) -> Decimal | None:
    """Read a number however it is written (2, 02, 2.0, 2,0, +2, 2e0); None if it is none, or an endless one."""
    if len(text) > 20 or "_" in text:  # Decimal reads 1_0 as 10
        return None
    try:
        number = Decimal(text.strip().replace(",", "."))
    except InvalidOperation:
        return None
    if number.is_finite() and number == 0:
        return Decimal(0)  # 0e-999999999 would be written with all its zeros
    return number if number.is_finite() and 1e-15 < abs(number) < 10**15 else None


def parse_whole(text: str) -> int | None:
    """Read a whole number however it is written; None if it is none."""
    number = parse_number(text)
    return None if number is None or number != number.to_integral_value() else int(number)


def _has_decimal_commas(texts: Set[str]) -> bool:
    """Whether commas stand for decimal points: in every cell, or in some where they could be nothing else.

    Beside 0 and 1, ``1,0`` may be two labels, and ``1,000`` a thousand.
    """
    some = {text for text in texts if "," in text}
    if len(some) == len(texts):
        return True
    return not any(set(text.split(",")) <= texts or re.fullmatch(r"\d{1,3}(,\d{3})+", text) for text in some)


def format_number(number: Decimal) -> str:
    """Write a number in its one form: without a plus, leading or trailing zeros, or an exponent."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def normalize_cells(cells: Iterable[str], separator: str = ",") -> list[str]:
    """Bring the cells of a column to one spelling each, missing ones to the empty text.

    If all that are not missing are numbers they are compared as numbers: a column with one gap leaves pandas as ``0.0``
    where it was ``0``. Otherwise as text, accents composed; so are 1E2 and 10E1, names of plates and cell lines, if all
    are in that form. separator: the table's.
    """
    texts = [normalize_nfc(cell.strip()) for cell in cells]
    texts = ["" if is_missing(text) else text for text in texts]
    spelling = {"": ""}
    spelt = set(texts) - {""}
    if any("," in text for text in spelt) and not (separator == ";" and _has_decimal_commas(spelt)):
        return texts
    if all(_PLATE.fullmatch(text) for text in spelt):
        return texts
    for text in spelt:
        if (number := parse_number(text)) is None:
            return texts
        spelling[text] = format_number(number)
    return [spelling[text] for text in texts]


class Table(dict[str, list[str]]):
    """The cells of a table by column. separator: what stands between them."""

    def __init__(self, columns: dict[str, list[str]], separator: str) -> None:
        super().__init__(columns)
        self.separator = separator


def read_table(file: FileRef, report: ValidationReport, *columns: str, optional: Sequence[str] = ()) -> Table:
    """Read a table: the cells of each column as stripped text. Empty lines, and comments at the top, are left out.

    report: is told what of the encoding or the header was not as expected. columns: those that the table must have,
    optional: those that it may have; they are found in any case, and come out as they are called here.

    Raises UserError when the file is no table, or a column is missing or ambiguous.
    """
    text = _skip_comments(_read_text(file, report), columns)
    hint = re.match(r"sep=(.)\r?\n", text)  # Excel's own first line
    if hint:
        text = text[hint.end() :]
    separator = hint[1] if hint else _find_separator(text, columns)
    rows = _parse_rows(file, text, separator)
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
    return Table({name: [row[i] for row in rows] for i, name in enumerate(header)}, separator)


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
    if pointer := describe_pointer(data):
        raise UserError(f"{file.display_path} is {pointer}.")
    n_zeros = len(data) - len(data.rstrip(b"\0"))
    if n_zeros and b"\0" not in data[:-n_zeros]:
        raise UserError(
            f"{file.display_path} ends in {n_zeros} zero bytes, as a copy does that was not finished: copy it again, "
            "or remove them if all rows are there."
        )
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


def _skip_comments(text: str, columns: Sequence[str]) -> str:
    """Leave out lines at the top that begin with #; where such a line names the columns, only its #."""
    while match := re.match(r"\s*#([^\r\n]*)(\r\n|\r|\n)", text):
        if {column.lower() for column in columns} <= set(re.split(r"[\s,;|\"']+", match[1].lower())):
            return text[match.start(1) :]
        text = text[match.end() :]
    return text


def _parse_rows(file: FileRef, text: str, separator: str) -> list[list[str]]:
    """Split a table into rows, its header first; empty cells beyond the header's are left out.

    Raises UserError when it has no row, or their lengths differ.
    """
    stream = io.StringIO(text, newline="")
    lines = csv.reader(stream, delimiter=separator, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    try:
        for cells in lines:
            if rows and len(cells) > len(rows[0]) and not any(cells[len(rows[0]) :]):
                cells = cells[: len(rows[0])]
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
