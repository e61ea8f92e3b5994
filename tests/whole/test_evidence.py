"""``evidence/``: read as it is, from any folder and without data, with the verdicts that are claimed of it.

After runs were added: type the ``command`` of ``verdicts.json``, look at what it says, and put the counts there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from udcd_bench import plugins
from udcd_bench.cli import cli
from udcd_bench.judging.verdicts import VERDICTS
from udcd_bench.render import plots
from udcd_bench.runs import inputs, planner
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store

EVIDENCE = Path(__file__).parents[2] / "evidence"
CLAIMED = json.loads((EVIDENCE / "verdicts.json").read_text(encoding="utf-8"))
WORDS = CLAIMED["command"].split()[2:]
OPTIONS = [word for word in WORDS if word != "--compare"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder that holds the evidence and nothing else: no data, no weights."""
    shutil.copytree(EVIDENCE, tmp_path / "evidence")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(*words):
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done


def test_the_verdicts_on_table_2_are_those_that_are_claimed(elsewhere):
    done = typed("check", *CLAIMED["command"].split()[2:], "--format=json")
    whole = json.loads(done.stdout)
    assert whole["counts"] == CLAIMED["counts"] and whole["status"] == done.return_value == CLAIMED["status"]
    assert whole["kind"] == "comparison" and sum(CLAIMED["counts"].values()) == len(whole["cells"])
    assert set(CLAIMED["counts"]) <= set(VERDICTS)


@pytest.mark.slow
def test_everything_else_reads_it_as_it_is(elsewhere, monkeypatch):
    monkeypatch.setattr(plots, "DPI", 100)
    assert typed("compare", *OPTIONS).return_value == 0
    typed("plot", "gradients", *OPTIONS[1:], "--stored")
    (drawn,) = (elsewhere / "evidence" / "lite").glob("gradients*.png")
    assert drawn.stat().st_size > 10_000
    page = Path(typed("report", "--profile=lite", "--out=evidence").stdout.strip()).read_text(
        encoding="utf-8"
    )
    assert "No verdict on the paper: the runs follow another protocol" in page
    assert (
        "Our runs are of profile lite with weights="
        in typed("claims", "--profile=lite", "--out=evidence").stdout
    )
    assert sorted(path.name for path in elsewhere.iterdir()) == ["evidence"]


@pytest.mark.parametrize("key", Store(EVIDENCE).list_keys())
def test_a_run_is_what_the_code_as_it_is_would_make(key, shipped_suites):
    """Its method, hyper-parameters and protocol are today's, so the same command takes it for done."""
    record = Store(EVIDENCE).read_record(key)
    made_of, spec = inputs.RunInputs(**record["made_of"]), RunSpec.from_dict(record["spec"])
    assert made_of.compute_key() == key
    assert made_of.sources == plugins.hash_sources("methods", spec.method)
    assert made_of.hparams == planner.resolve_hparams(spec)
    assert made_of.protocol == inputs.select_numbers(vars(planner.resolve_protocol(spec)))
