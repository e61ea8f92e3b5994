"""What runs cost before their data are here, ``--dry-run``: runs, epochs, images and, roughly, hours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from udcd_bench.cli import cli
from udcd_bench.cli.training.estimates import format_duration
from udcd_bench.data import published_sizes
from udcd_bench.data.dataset import Dataset
from udcd_bench.data.splits import SplitOptions, split_dataset
from udcd_bench.errors import UserError
from udcd_bench.runs import rates

PAPER = ("run", "table2", "--profile=paper", "--dry-run", "--device=cpu")


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Types a command where no data are, and checks that it leaves nothing behind."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = CliRunner().invoke(cli, [*words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    yield run
    assert not (tmp_path / "results").exists()


def make_dataset(name):
    """A data set of the published counts, without pixels."""
    counts = published_sizes.find_counts(name)
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    n, classes = len(labels), tuple(map(str, range(len(counts))))
    images = np.zeros((n, 0, 0, 3), np.uint8)
    return Dataset(name, name, images, labels, tuple(map(str, range(n))), np.arange(n), classes, "0")


@pytest.mark.parametrize("name", ["aptos", "ham10000"])
def test_published_sizes_train_on_as_many_images_as_the_split_does(name):
    dataset = make_dataset(name)
    options = [SplitOptions(fold=fold) for fold in range(5)]
    options += [SplitOptions(fold=fold, rho=20.0) for fold in (0, 4)] + [SplitOptions(rho=200.0)]
    for option in options:
        counted = published_sizes.count_training_images(name, option)
        assert counted == len(split_dataset(dataset, option).train), option
    for kind, fraction in (("grouped", 1.0), ("paper", 0.1)):
        option = SplitOptions(kind=kind, fraction=fraction)
        counted = published_sizes.count_training_images(name, option)
        assert counted == pytest.approx(len(split_dataset(dataset, option).train), abs=4), option


def test_the_official_split_trains_on_all_of_ham10000():
    assert published_sizes.count_training_images("ham10000", SplitOptions(kind="official")) == 10_015
    assert published_sizes.find_counts("isic2018-test").sum() == 1512
    assert published_sizes.find_counts("digits") is None


def test_a_table_of_the_papers_data_says_what_it_costs_without_them(typed):
    done = typed(*PAPER)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 22 and re.search(r"^udcd ham10000 .* 80 epochs of 8012 images$", done.stdout, re.M)
    epochs = [re.search(r" (\d+) epochs of (\d+) images$", line).groups() for line in lines]
    images = sum(int(n) * int(size) for n, size in epochs)
    assert "Not prepared in data: APTOS 2019 (3,662 images) and HAM10000 (10,015 images)." in done.stderr
    assert f"That is {sum(int(n) for n, _ in epochs)} epochs and {images:,} images" in done.stderr
    assert "22 runs to make, 1 at a time: 22 runs nobody has timed here yet." in done.stderr
    assert f"of {rates.MEASURED_ON}. udcd-bench bench --json FILE measures your machine or GPU" in done.stderr


def test_rough_hours_are_images_by_the_measured_rate(typed):
    done = typed(*PAPER, "--methods=scratch,kd")
    (measured,) = [each for each in rates.MEASURED if each.image_size == 224]
    seconds = sum(80 * (2929 + 8012) / measured.images_per_s[name] for name in ("scratch", "kd"))
    assert f"Roughly, these take {format_duration(seconds)} of one core" in done.stderr
    assert "4 runs to make" in done.stderr and "kd ham10000" in done.stdout
    # a teacher that no row names is a run too
    assert "4 runs to make" in typed(*PAPER, "--methods=kd").stderr
    done = typed(*PAPER, "--methods=scratch", "--backbone=resnet50")
    assert "Roughly" not in done.stderr, "nothing like it was measured"


def test_rates_of_this_machine_count_where_they_are_given(typed, tmp_path):
    rows = [{"method": "scratch", "images_per_s": 1000.0}]
    file = tmp_path / "bench.json"
    file.write_text(
        json.dumps({"ask": {"backbone": "densenet121", "image_size": 224, "batch": 64}, "methods": rows})
    )
    done = typed(*PAPER, "--methods=scratch", f"--rates={file}")
    duration = format_duration(80 * (2929 + 8012) / 1000)
    assert f"2 runs to make, 1 at a time: about {duration}." in done.stderr and "Roughly" not in done.stderr
    with pytest.raises(UserError, match="which no run here is"):
        typed(*PAPER, "--methods=udcd", f"--rates={file}")


def test_a_split_of_two_sets_names_both_and_one_run_has_a_cost_too(typed):
    done = typed(*PAPER, "--methods=scratch", "--split=official", "--datasets=ham10000")
    assert "HAM10000 (10,015 images) and ISIC 2018 Task 3 test (1,512 images)" in done.stderr
    assert "80 epochs of 10015 images" in done.stdout
    done = typed(
        "train", "udcd", "--dataset=aptos", "--profile=quick", "--fold=3", "--dry-run", "--device=cpu"
    )
    assert done.exit_code == 0 and "20 epochs of 2930 images" in done.stdout


def test_data_that_are_here_count_as_they_are(typed, prepared_lesions):
    small = ("--set=n_images=100", "--set=image_size=32", "--set=epochs=2", f"--data={prepared_lesions}")
    words = ("run", "table2", "--methods=scratch", "--dry-run", *small)
    lite = ("--profile=lite", "--backbone=densenet-tiny", "--set=weights=none", "--device=cpu")
    done = typed(*words, *lite, "--datasets=synthetic-lesions,aptos")
    assert "2 epochs of 80 images" in done.stdout and "2 epochs of 2929 images" in done.stdout
    assert "That is 4 epochs and 6,018 images" in done.stderr
    done = typed(*words, "--datasets=synthetic-lesions")
    assert "not made yet" in done.stdout and "1 of 1 run to make" in done.stderr
    assert "That is 2 epochs and 160 images" in done.stderr and "Not prepared" not in done.stderr


def test_what_needs_the_keys_of_runs_needs_the_data(typed):
    with pytest.raises(UserError, match="is not prepared at 224 pixels"):
        typed(*PAPER, "--format=commands")
    with pytest.raises(UserError, match="is not prepared at 224 pixels"):
        typed("run", "table2", "--profile=paper", "--device=cpu")


def test_the_measured_rates_stand_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in page.splitlines()
        if line.startswith("| ")
    ]
    (head,) = (row for row in table if row[0] == "method")
    for column, measured in enumerate(rates.MEASURED, 1):
        assert f"{measured.image_size}², B={measured.batch}" in head[column]
        shown = {
            row[0]: float(row[column])
            for row in table
            if len(row) == len(head) and row[0] in measured.images_per_s
        }
        assert shown == dict(measured.images_per_s)
    assert re.search(r"AMD EPYC \(Zen 4\)", page) and "AMD EPYC (Zen 4)" in rates.MEASURED_ON
