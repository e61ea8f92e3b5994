"""``--split all``: the paper's split, the leak-free one and the official test set side by side, from stored runs."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from support import tables
from support.stored import ROWS, keep, table2
from udcd_bench.cli import cli
from udcd_bench.errors import UserError
from udcd_bench.grid.cells import TableRequest, split_request
from udcd_bench.render import picture, plots
from udcd_bench.runs.store import Store

pytestmark = pytest.mark.slow

ASK = TableRequest("paper", methods=ROWS, datasets=("aptos", "ham10000"), split="all")
WORDS = ("--profile=paper", "--methods=scratch,mtg,udcd", "--datasets=aptos,ham10000", "--split=all")
STEM = "table2-scratch-mtg-udcd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One seed of three rows: HAM10000 on all three splits, APTOS on two, since it has no official test set."""
    folder = tmp_path_factory.mktemp("splits")
    for request in split_request(ASK):
        right = {"paper": 0.85, "grouped": 0.75, "official": 0.7}[request.split]
        for spec in table2().list_runs(request):
            keep(Store(folder), spec, n=400, right=right)
    return folder


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Pictures of few dots, which are made sooner."""
    for module in (plots, picture):
        monkeypatch.setattr(module, "DPI", 100)


def typed(folder, *words):
    options = () if words[0] == "report" else WORDS
    result = CliRunner().invoke(cli, [*words, *options, f"--out={folder}"], standalone_mode=False)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_official_split_is_of_the_sets_that_have_it():
    requests = split_request(ASK)
    assert [(r.split, r.datasets) for r in requests] == [
        ("paper", ASK.datasets), ("grouped", ASK.datasets), ("official", ("ham10000",)),
    ]  # fmt: skip
    assert split_request(replace(ASK, split="grouped")) == [replace(ASK, split="grouped")]
    official = split_request(replace(ASK, datasets=("aptos",)))[-1]
    with pytest.raises(UserError, match="aptos has no official test set"):
        table2().list_runs(official)


def test_a_table_side_by_side(folder):
    """The same figures as the tables of each split, in one picture, and what the leak is worth."""
    result = typed(folder, "run", "table2", "--stored")
    assert result.return_value == 0, result.output
    made = folder / "paper"
    frame = tables.read_csv(made / f"{STEM}-splits.csv")
    assert list(dict.fromkeys(zip(frame["dataset"], frame["split"], strict=True))) == [
        (name, split)
        for name, splits in (("ham10000", ("paper", "grouped", "official")), ("aptos", ("paper", "grouped")))
        for split in splits
    ]
    for split, ending in (("paper", ""), ("grouped", "-grouped"), ("official", "-official")):
        alone = tables.read_csv(made / f"{STEM}{ending}.csv").set_index(["dataset", "method", "metric"])[
            "ours"
        ]
        here = frame[frame["split"] == split].set_index(["dataset", "method", "metric"])["ours"]
        assert here.sort_index().equals(alone.sort_index())
    assert "HAM10000, official" in result.output and (made / f"{STEM}-leak.csv").is_file()
    assert (made / f"{STEM}-splits.png").stat().st_size > 10_000
    assert len(json.loads((made / f"{STEM}-splits.runs.json").read_text())["runs"]) == 15


def test_a_check_of_all_splits(folder):
    result = typed(folder, "check", "table2", "--format=json", "--compare")
    checks = json.loads(result.stdout)
    assert [check["split"] for check in checks] == ["paper", "grouped", "official"]
    assert [check["kind"] for check in checks] == ["reproduction", "comparison", "comparison"]
    assert result.return_value == max(check["status"] for check in checks) == 1
    suites = ElementTree.fromstring(
        typed(folder, "check", "table2", "--format=junit").stdout.split("\n", 1)[1]
    )
    assert len(suites.findall("testsuite")) == 3
    text = typed(folder, "check", "table2")
    assert text.output.count("check table2 against paper") == 3
    assert "another protocol than the paper's (split official)" in text.stderr
    with pytest.raises(UserError, match="--record stores the figures of one split"):
        typed(folder, "check", "table2", "--record=x.json")


def test_a_comparison_of_all_splits(folder):
    result = typed(folder, "compare", "table2", "--format=json")
    assert result.return_value == 0 and len(json.loads(result.stdout)) == 3
    assert (folder / "paper" / f"{STEM}-official-compare.csv").is_file()
    with pytest.raises(UserError, match="--format csv is of one split"):
        typed(folder, "compare", "table2", "--format=csv")


def test_a_page_of_all_splits(folder):
    result = typed(folder, "report", "--profile=paper", "--split=all")
    page = folder / "report.html"
    assert result.stdout.split() == [str(page)]
    assert all(f"split {split}" in page.read_text() for split in ("paper", "grouped", "official"))


def test_stored_runs_are_drawn_without_data_and_none_is_made(folder, tmp_path):
    result = typed(folder, "plot", "confusion", "--stored", f"--data={tmp_path / 'none'}")
    assert (
        result.return_value == 0 and (folder / "paper" / "confusion-scratch-udcd-mtg-official.png").is_file()
    )
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="holds no finished run of these"):
        typed(tmp_path, "plot", "confusion", "--stored")
    with pytest.raises(UserError, match="--stored trains nothing, so --dry-run has nothing to say"):
        typed(folder, "run", "table2", "--stored", "--dry-run")
