"""Styled text: its width in points, and how it is broken into lines."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from udcd_bench.render.fonts import FONTS, find_fallbacks

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

FONT_SIZE = 10.0
MEASURING_DPI = 250
"""Dots per inch at which text is measured."""


@dataclass(frozen=True)
class StyledText:
    """Some text in one style; ``rise`` in points above the base line."""

    text: str
    size: float = FONT_SIZE
    bold: bool = False
    italic: bool = False
    underlined: bool = False
    rise: float = 0.0
    colour: str = "black"
    sans: bool = False


def measure_width(pieces: Sequence[StyledText]) -> float:
    """Measure the width of pieces side by side, points."""
    return sum(_measure_piece(piece) for piece in pieces)


@lru_cache(4096)
def _measure_piece(piece: StyledText) -> float:
    if not piece.text:
        return 0.0
    # a space at either end has no extent of its own
    long, extra = (_measure_extent(replace(piece, text=text)) for text in (f"|{piece.text}|", "||"))
    return (long - extra) * 72 / MEASURING_DPI


@lru_cache(4096)
def _measure_extent(piece: StyledText) -> float:
    width, _, _ = _make_renderer().get_text_width_height_descent(piece.text, make_font(piece), False)  # type: ignore[no-untyped-call]
    return float(width)


@cache
def _make_renderer() -> RendererAgg:
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(8, 8, MEASURING_DPI)  # type: ignore[no-untyped-call]


def wrap_text(text: str, width: float, style: StyledText) -> Iterator[StyledText]:
    """Break text into lines no wider than ``width`` points, where its words allow."""
    space = _measure_piece(replace(style, text=" "))
    line, long = "", 0.0
    for word in text.replace("'", "’").split():
        wide = _measure_piece(replace(style, text=word))
        if line and long + space + wide > width:
            yield replace(style, text=line)
            line, long = "", 0.0
        line, long = f"{line} {word}".strip(), long + bool(line) * space + wide
    if line:
        yield replace(style, text=line)


def make_font(piece: StyledText) -> FontProperties:
    """Make matplotlib's font of a piece."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(
        family=[*(FONTS[::-1] if piece.sans else FONTS), *find_fallbacks(piece.text)],
        size=piece.size,
        weight="bold" if piece.bold else "normal",
    )
    font.set_style("italic" if piece.italic else "normal")
    return font


@contextmanager
def ignore_missing_glyphs() -> Iterator[None]:
    """Silence matplotlib's warnings on letters that no font has, one a letter; ``fonts`` says it once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s)Glyph .* missing from (current )?font")
        yield
