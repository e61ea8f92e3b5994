"""Tables as LaTeX: booktabs rules, a file that compiles alone and can be ``\\input``."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from udcd_bench.errors import make_printable
from udcd_bench.render.sheet import Sheet

if TYPE_CHECKING:
    import jinja2

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "[": "{[}", "*": "{*}", "`": r"\textasciigrave{}",
    "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "{''}",
    "±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "−": "$-$", "≥": r"$\geq$", "≤": r"$\leq$",
    "²": "$^2$", "³": "$^3$", "ρ": r"$\rho$", "κ": r"$\kappa$", "λ": r"$\lambda$", "ψ": r"$\psi$",
    "–": r"\textendash{}", "—": r"\textemdash{}", "…": r"\ldots{}", "’": "'", "‘": "`", "“": "``", "”": "''",
}  # fmt: skip
_ACCENTS = {
    "\u0300": r"\`", "\u0301": r"\'", "\u0302": r"\^", "\u0303": r"\~", "\u0304": r"\=", "\u0306": r"\u",
    "\u0308": r"\"", "\u030a": r"\r", "\u030c": r"\v", "\u0327": r"\c",
}  # fmt: skip


def escape_latex(text: object) -> str:
    """Escape text for LaTeX, on one line; what plain pdflatex cannot set becomes its code point."""
    escaped = "".join(_escape_character(character) for character in re.sub(r"\s+", " ", str(text)))
    return escaped.replace("--", "-{}-")


def _escape_character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isascii():
        return character if character.isprintable() else ""
    plain = unicodedata.normalize("NFKD", character)
    if len(plain) > 1 and plain[0].isascii() and plain[0].isalpha() and plain[1:] in _ACCENTS:
        return _ACCENTS[plain[1:]] + "{" + plain[0] + "}"
    return f"{{[}}U+{ord(character):04X}]"


@cache
def _make_environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("udcd_bench.render"),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # everything printed goes through the filter ``tex``
    )
    environment.filters["tex"] = escape_latex
    environment.filters["printable"] = make_printable  # in a comment nothing but the end of the line matters
    return environment


def render_latex(sheet: Sheet) -> str:
    r"""Render a document that is the table alone; where another document ``\input``s it, only the table."""
    number = re.search(r"\d+", sheet.name)
    columns = max(len(band.groups) * len(band.metrics) for band in sheet.bands)
    before = int(number[0]) - 1 if number else 0
    template = _make_environment().get_template("table.tex.jinja")
    return template.render(sheet=sheet, columns=columns, before=before)
