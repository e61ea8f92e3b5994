"""Letters that matplotlib's own fonts lack: further fonts of this machine, or numbers in place of names."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.text import Text

# both come with matplotlib, so a picture whose letters they have is the same on every machine
FONTS = ["STIXGeneral", "DejaVu Sans"]
PACKAGES = dict.fromkeys(("CJK", "HIRAGANA", "KATAKANA", "HANGUL"), "fonts-noto-cjk")
"""First word of a letter's name → the package of a font that has it."""
SYMBOLS, OTHER_LETTERS = "fonts-symbola", "fonts-noto-core"
"""The packages for pictographs, and for all others."""
MAX_NAMED = 3
"""Most letters that a sentence names."""
_BOXES: list[str] = []
"""Letters of the one warning of this process."""


def find_fallbacks(text: str) -> tuple[str, ...]:
    """Find families on this machine with the letters that ``FONTS`` lack; log letters that none has, once."""
    missing = _list_missing(text)
    return _find_families(missing) if missing else ()


def list_undrawable(text: str) -> str:
    """List the letters of a text that no font here has, or that must be joined or set from right to left."""
    missing = _list_missing(text)
    unjoined = set() if text.isascii() else {letter for letter in text if _needs_shaping(letter)}
    return "".join(sorted(unjoined | (set(missing) - _cover(missing).keys() if missing else set())))


def label_classes(names: Sequence[str]) -> list[str]:
    """Return the names of classes, or their numbers from 1 where not all letters can be drawn."""
    if list_undrawable("".join(names)):
        return [str(number) for number in range(1, len(names) + 1)]
    return list(names)


def describe_numbers(names: Sequence[str]) -> str:
    """Describe why classes are numbered, in one sentence; empty where they are not."""
    letters = list_undrawable("".join(names))
    if not letters:
        return ""
    named = _name_letters(letters)
    return f"Classes are numbered in their order: no font here can draw {named} of their names; {_advise(letters)}."


def use_fallbacks(figure: Figure) -> None:
    """Give every text of a figure the further fonts that its letters need."""
    for axes in figure.axes:
        if axes.axison:
            axes.get_xticklabels(), axes.get_yticklabels()  # makes the ticks that drawing would make
    for text in _list_texts(figure):
        if families := find_fallbacks(text.get_text()):
            text.set_fontfamily([*text.get_fontfamily(), *families])


def _list_texts(artist: Artist) -> Iterator[Text]:
    """List the texts of an artist and of all in it, but those of an axis that is off: asking for them makes ticks."""
    from matplotlib.axis import Axis
    from matplotlib.text import Text

    if isinstance(artist, Text):
        yield artist
    if not isinstance(artist, Axis) or artist.axes.axison:
        for child in artist.get_children():
            yield from _list_texts(child)


def _advise(letters: str) -> str:
    """Advise which fonts to install for letters."""
    packages = set()
    for letter in letters:
        other = SYMBOLS if unicodedata.category(letter) == "So" else OTHER_LETTERS
        packages.add(PACKAGES.get(unicodedata.name(letter, "").partition(" ")[0], other))
    noun = "package" if len(packages) == 1 else "packages"
    return f"install a font that has them, such as the {noun} {' and '.join(sorted(packages))}"


def _name_letters(letters: str) -> str:
    named = [f"U+{ord(letter):04X}" for letter in letters[:MAX_NAMED]]
    return ", ".join(named) + (" …" if len(letters) > MAX_NAMED else "")


def _needs_shaping(letter: str) -> bool:
    """Tell whether this matplotlib, which before 3.11 set letters one by one from the left, draws a letter wrongly."""
    import matplotlib

    if matplotlib.__version_info__ >= (3, 11):
        return False
    return unicodedata.bidirectional(letter) in ("R", "AL") or unicodedata.category(letter) == "Mc"


def _list_missing(text: str) -> str:
    """List the letters that ``FONTS`` lack, sorted, each once."""
    if text.isascii():
        return ""
    return "".join(sorted({c for c in text if c.isprintable() and not c.isspace()} - _load_own_letters()))


@cache
def _load_own_letters() -> frozenset[str]:
    from matplotlib import font_manager

    paths = [font_manager.findfont(family) for family in FONTS]
    return frozenset(chr(code) for path in paths for code in font_manager.get_font(path).get_charmap())


@cache
def _find_families(missing: str) -> tuple[str, ...]:
    family_by_letter = _cover(missing)
    lacking = "".join(letter for letter in missing if letter not in family_by_letter)
    if lacking and not _BOXES:
        _BOXES.append(lacking)
        logging.getLogger(__name__).warning(
            "No font here can draw %s: boxes stand for such letters in pictures; %s.",
            _name_letters(lacking),
            _advise(lacking),
        )
    return tuple(dict.fromkeys(family_by_letter.values()))


@cache
def _cover(missing: str) -> dict[str, str]:
    """Find letter → the first family of this machine, by name, that has it."""
    from matplotlib import font_manager

    families: dict[str, str] = {}
    for family, path in _list_fonts():
        lacking = [letter for letter in missing if letter not in families]
        if not lacking:
            break
        try:
            letters = font_manager.get_font(path).get_charmap()
        except (OSError, RuntimeError):  # gone since the list was made, or of a kind that is not drawn
            continue
        families |= {letter: family for letter in lacking if ord(letter) in letters}
    return families


def _list_fonts() -> list[tuple[str, str]]:
    """List (family, path) of the fonts on this machine, but for matplotlib's that has a box for every letter."""
    from matplotlib import font_manager

    entries = font_manager.fontManager.ttflist
    return sorted((entry.name, entry.fname) for entry in entries if not entry.name.startswith("Last Resort"))
