"""What captions say of one's own images: their own split, what is not used, how they are grouped, leaks; and titles."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

import udcd_bench as ub
from support import layouts
from udcd_bench import plugins
from udcd_bench.artefacts import captions
from udcd_bench.artefacts.table import TableRequest

TINY = {"image_size": 32, "epochs": 1, "batch_size": 8, "threads": 1}


def bring(root):
    """40 images of two classes, in tables with a split of their own, with patients, and with both."""
    parts, rows = (*["train"] * 3, "val", "test"), []
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (30, 40, 3), np.uint8)
        layouts.write(root / "im" / f"{i}.png", layouts.encode(Image.fromarray(pixels), "PNG"))
        rows.append((f"im/{i}.png,{'ab'[i // 5 % 2]}", parts[i % 5], f"P{i % 7}", f"P{i % 31}"))
    for name, head, columns in (
        ("labels", "split", (1,)),
        ("clinic", "patient", (2,)),
        ("both", "split,patient", (1, 3)),
    ):
        lines = [",".join([row[0], *(row[c] for c in columns)]) for row in rows]
        layouts.write(root / f"{name}.csv", "\n".join([f"path,label,{head}", *lines]))


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Trains Scratch on one of the tables; returns the run and the text of Table 2."""
    home = tmp_path_factory.mktemp("captions")
    bring(home / "derm")

    def make(name, **options):
        out, data = home / "results", home / "data"
        dataset = f"folder:{home / 'derm' / name}"
        run = ub.train("scratch", dataset, out, TINY, data=data, device="cpu", **options)
        split = run.spec.split
        shown = ub.table(
            "table2", out, datasets=dataset, methods="scratch", data=data, settings=TINY, split=split
        )
        return run, " ".join(repr(shown).split())

    return make


def test_a_split_of_ones_own_is_said_as_such(train):
    run, text = train("labels.csv")
    assert run.spec.split == "paper" and run.record["own_split"] == {
        "whose": "own", "unused": "val", "n_unused": 8, "n_left_out": 0,
    }  # fmt: skip
    assert "; own split, seed 0; n = 1" in text and "split paper" not in text and "fold 0" not in text
    assert "24 training and 8 test images, squashed to squares" in text
    assert re.search(r"The val of derm \(\w{4}\), 8 images, is not used\.", text)
    assert any("own split" in line for line in captions.describe_record(run.record, run.store))


def test_val_in_place_of_test_is_said(train):
    _, text = train("labels.csv", split="paper-val")
    assert "; own split, tested on val, seed 0" in text and "8 validation images" in text
    assert re.search(r"The test of derm \(\w{4}\), 8 images, is not used\.", text)


def test_an_own_split_with_patients_on_both_sides_loses_those_that_train(train):
    run, text = train("both.csv")
    assert run.spec.split == "grouped" and run.record["n_train"] == 23 and run.record["n_shared"] == 0
    assert "; own split, grouped, seed 0" in text and "A leak" not in text
    assert re.search(r"1 training image of both \(\w{4}\) left out: of a group with a test image\.", text)


def test_a_split_by_group_and_a_leak_are_said(train):
    run, text = train("clinic.csv")
    assert "; split grouped, fold 0, seed 0" in text and "grouped by patient, squashed" in text
    assert run.record["group_column"] == "patient" and "A leak" not in text
    run, text = train("clinic.csv", split="paper")
    assert "; split paper, fold 0, seed 0" in text and run.record["n_shared"] == 8
    assert re.search(r"A leak: up to 8 test images of clinic \(\w{4}\) have one of the same group", text)
    assert set(run.scores["group"]) <= set(range(7))


def test_titles_are_the_papers_on_the_papers_data_alone():
    table = plugins.load_class("tables", "table2")()
    figure = plugins.load_class("figures", "scarcity")()

    def title(artefact, *datasets, profile="demo"):
        return captions.format_title(
            artefact.title, artefact, TableRequest(profile, datasets=datasets or None)
        )

    assert title(table) == title(table, profile="paper") == table.title
    assert title(table, "aptos", profile="paper") == title(table, "synthetic-lesions") == table.title
    assert title(table, "folder:derm#0123456789ab") == "Baselines and UDCD on derm (0123)"
    assert title(table, "medmnist:pathmnist", "aptos", "folder:x", profile="paper") == (
        "Baselines and UDCD on pathmnist, APTOS 2019 and x"
    )
    assert title(figure, "folder:derm#0123456789ab") == "Fewer training images on derm (0123)"
