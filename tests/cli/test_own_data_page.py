"""docs/own-data.md: each command of its example, as typed, from 200 images to a report and to predictions."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from support import faults
from udcd_bench.cli import cli
from udcd_bench.data import sources, workers

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text()
LINES = [
    line
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
    if line.startswith("udcd-bench ")
]
SMALL = {"SET": "image_size=32 epochs=1 batch_size=64 weights=none threads=1", "BACKBONE": "densenet-tiny",
         "DEVICE": "cpu", "JOBS": "1"}  # fmt: skip
N, CLASSES = 200, ("benign", "malignant", "other")


def bring(root):
    """200 images of 50 patients, some on their side, and three new ones."""
    rng, rows = np.random.default_rng(5), ["path,label,patient_id,age"]
    exif = Image.Exif()
    exif[0x0112] = 6
    for folder in ("images", "new"):
        (root / folder).mkdir(parents=True)
    for i in range(N + 3):
        label = i // 4 % 3
        pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
        pixels[..., label] //= 3
        name = f"images/{i:04d}.jpg" if i < N else f"new/{i}.jpg"
        Image.fromarray(pixels).save(root / name, exif=exif if i % 50 == 7 else Image.Exif())
        rows += [f"{name},{CLASSES[label]},P{i // 4:02d},{40 + i % 9}"] if i < N else []
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Types a command in a folder that holds ``derm``; what it prints, its errors included."""
    monkeypatch.chdir(tmp_path)
    faults.in_threads(monkeypatch)
    monkeypatch.setattr(workers, "count_cores", lambda: 1)
    for name, value in SMALL.items():
        monkeypatch.setenv(f"UDCD_BENCH_{name}", value)

    def run(line):
        done = CliRunner().invoke(cli, shlex.split(line)[1:], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        assert not done.return_value, f"{line}\n{done.output}"
        return done.stdout + done.stderr

    return run


def test_the_example_as_typed(typed, tmp_path):
    bring(tmp_path / "derm")
    printed = {" ".join(line.split()[1:3]): typed(line) for line in LINES}  # of a dry run what the run says
    prepared = printed["data prepare"]
    assert (
        "prepared 200 images of 3 classes at 64×64" in prepared
        and "columns that are not read: age" in prepared
    )
    assert (
        "groups are those of the column patient_id" in prepared
        and "4 images that were turned upright" in prepared
    )
    assert (tmp_path / "derm.png").stat().st_size > 10_000
    text = " ".join(printed["run table2"].split())
    assert re.search(r"table2-grouped: Baselines and UDCD on derm \(([0-9a-f]{4})\)", text), text[:500]
    assert "split grouped, fold 0" in text and "grouped by patient_id, squashed to squares" in text
    assert "Table 2" not in text and "A leak" not in text
    assert "UDCD" in printed["compare table2"] and "split grouped" in printed["compare table2"]
    page = (tmp_path / "results" / "lite" / "report-grouped.html").read_text()
    assert "derm (" in page and "report-grouped.html" in printed["report"]
    frame = pd.read_csv(tmp_path / "predictions.csv")
    assert len(frame) == 3 and [f"p_{name}" in frame for name in CLASSES] == [True] * 3
    dataset = sources.load_dataset("folder:derm/labels.csv", size=32, data=tmp_path / "data")
    assert dataset.group_column == "patient_id" and len(np.unique(dataset.groups)) == 50
