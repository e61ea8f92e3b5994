"""Names in any script: drawn by a font that has the letters, or numbered and said once; never raw warnings."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
from matplotlib.text import Text

from support import factories
from udcd_bench import plugins
from udcd_bench.data import contact_sheet
from udcd_bench.render import fonts, plots

CHINESE = ("良性", "恶性 肿瘤", "plain", "b")


@pytest.fixture(autouse=True)
def only_own_fonts(monkeypatch):
    """A machine with no font but matplotlib's, whose DejaVu Serif stands for one that more people could install."""
    folder = Path(matplotlib.__file__).parent
    own = [entry for entry in fonts._list_fonts() if folder in Path(entry[1]).parents]
    monkeypatch.setattr(fonts, "_list_fonts", lambda: own)
    monkeypatch.setattr(fonts, "_BOXES", [])
    fonts._cover.cache_clear()
    fonts._find_families.cache_clear()
    yield
    fonts._cover.cache_clear()
    fonts._find_families.cache_clear()


@pytest.fixture
def serif_alone(monkeypatch):
    """As if matplotlib's two fonts had Latin letters alone, and DejaVu Serif were an installed font with Greek."""
    monkeypatch.setattr(fonts, "_load_own_letters", lambda: frozenset(map(chr, range(256))))
    entries = [entry for entry in fonts._list_fonts() if entry[0] == "DejaVu Serif"]
    monkeypatch.setattr(fonts, "_list_fonts", lambda: entries)


def test_names_that_can_be_drawn_stay():
    for names in (("a", "b"), ("naïve", "Übel", "болезнь", "νόσος")):
        assert fonts.label_classes(names) == list(names)
        assert fonts.describe_numbers(names) == "" and fonts.find_fallbacks("".join(names)) == ()


def test_names_that_no_font_has_become_numbers_with_a_sentence():
    assert fonts.label_classes(CHINESE) == ["1", "2", "3", "4"]
    assert fonts.describe_numbers(CHINESE) == (
        "Classes are numbered in their order: no font here can draw U+6027, U+6076, U+7624 … of their names; "
        "install a font that has them, such as the package fonts-noto-cjk."
    )


def test_the_advice_names_the_package_that_has_the_letters():
    assert fonts.describe_numbers(["🦠", "b"]).endswith("such as the package fonts-symbola.")
    assert fonts.describe_numbers(["ሀ", "疒"]).endswith("the packages fonts-noto-cjk and fonts-noto-core.")


def test_a_font_of_this_machine_that_has_the_letters_is_used(serif_alone):
    assert fonts.find_fallbacks("νόσος") == ("DejaVu Serif",) and fonts.find_fallbacks("plain") == ()
    assert fonts.label_classes(("νόσος", "a")) == ["νόσος", "a"]
    with plots.apply_style():
        page = plots.FigurePage((3.5, 1), title="νόσος", warning="", caption=["plain"])
        page.add_panels(1, 1)[0, 0].set_xticks([0, 1], ["ν", "b"])
        page.encode_files()
    families = {text.get_text(): text.get_fontfamily() for text in page.figure.findobj(Text)}
    assert families["νόσος."][-1] == families["ν"][-1] == "DejaVu Serif"
    assert "DejaVu Serif" not in families["plain"] + families["b"]


def test_scripts_that_an_older_matplotlib_sets_wrongly_are_numbered(monkeypatch):
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 10, 0))
    assert fonts.label_classes(("سرطان", "a")) == ["1", "2"] and fonts.label_classes(("é", "a")) == ["é", "a"]
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 11, 0))
    assert fonts.label_classes(("سرطان", "a")) == ["سرطان", "a"]


def test_letters_of_a_title_are_told_once_and_matplotlib_is_silent(tmp_path, caplog):
    data = dataclasses.replace(factories.dataset(), classes=CHINESE, title="照片")
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        contact_sheet.draw_sheet(data, tmp_path / "sheet.png")
        with plots.apply_style():
            plots.FigurePage((3.5, 1), title="照片", warning="", caption=["性"]).encode_files()
        # the contact sheet's own letters are drawn by matplotlib alone
        fonts.find_fallbacks("他")
    (message,) = [record.getMessage() for record in caplog.records if record.name == fonts.__name__]
    assert message.startswith(
        "No font here can draw U+7167, U+7247: boxes stand for such letters in pictures"
    )


def test_the_contact_sheet_labels_rows_by_number(tmp_path, monkeypatch):
    labels = []
    monkeypatch.setattr(contact_sheet._Sheet, "write_label", lambda self, y, text: labels.append(text))
    contact_sheet.draw_sheet(
        dataclasses.replace(factories.dataset(), classes=CHINESE), tmp_path / "sheet.png"
    )
    assert labels[:4] == ["1", "2", "3", "4"]


def test_the_confusion_matrix_and_the_legend_of_tsne_use_numbers():
    confusion = plugins.load_module("figures", "confusion")
    assert confusion.split_labels(CHINESE) == ("", ["1", "2", "3", "4"])
    assert confusion.split_labels(["grade 1", "grade 2"]) == ("grade", ["1", "2"])
    tsne = plugins.load_module("figures", "tsne")
    import pandas as pd

    points = pd.DataFrame(
        {"dataset": ["x"] * 3, "id": ["1", "2", "3"], "label": [0, 0, 1], "class": ["良性", "良性", "plain"]}
    )
    assert tsne.count_classes(points) == [("x", 0, "class 1", 2), ("x", 1, "class 2", 1)]
    points["class"] = ["a", "a", "b"]
    assert tsne.count_classes(points) == [("x", 0, "a", 2), ("x", 1, "b", 1)]


def test_the_caption_says_so():
    import pandas as pd

    figure = plugins.load_class("figures", "confusion")()
    frame = pd.DataFrame({"dataset": ["x", "x"], "true": ["良性", "b"]})
    (sentence,) = figure.describe(SimpleNamespace(), {".csv": frame})
    assert sentence.startswith("Classes are numbered in their order")
    assert figure.describe(SimpleNamespace(), {".csv": frame.assign(true=["a", "b"])}) == []


BEGINS = "squamous cell carcinoma of the upper and lower "
NAMES = {
    "short": ["a", "b"],
    "common words": [BEGINS + "arm", BEGINS + "leg"],
    "one word": ["adenocarcinomaofthelungwithmetastases" + end for end in ("left", "right")],
    "alike at both ends": [f"{'a' * 30}{middle}{'b' * 30}" for middle in "xyz"],
    "wide": ["W" * 22, "W" * 21 + "M", "Щ" * 22],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_that_are_too_wide_stay_apart(names):
    fitted = plots.fit_names(names, 150, 11)
    assert len(set(fitted)) == len(names) and all(plots.measure_text(name, 11) <= 150 for name in fitted)
    assert names[0] != "a" or fitted == names
