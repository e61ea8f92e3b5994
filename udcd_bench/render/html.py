"""Tables as a piece of HTML that a notebook shows: no script, no style but its own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import jinja2

from udcd_bench.errors import make_printable

if TYPE_CHECKING:
    from udcd_bench.render.sheet import Sheet


def render_html(sheet: Sheet) -> str:
    """Render the table with its title and warning above, footnotes and caption below; all text is escaped."""
    return _make_environment().get_template("table.html.jinja").render(sheet=sheet)


@cache
def _make_environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("udcd_bench.render"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: (
            make_printable(value) if type(value) is str else value
        ),  # what is HTML already stays
    )
