"""Stored runs of a few images, as the engine leaves them, for whatever reads a results folder."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from support import records as make
from udcd_bench import cli, plugins
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.runs.results import load_results
from udcd_bench.runs.store import Store
from udcd_bench.stats import metrics

ROWS = ("scratch", "mtg", "udcd")
RIGHT = {"scratch": 0.75, "mtg": 0.8, "udcd": 0.9}
N = 4000


PLAIN = ("--profile=paper", "--methods=scratch,mtg,udcd", "--datasets=aptos", "--out=kept")


def typist(command, plain, folder, monkeypatch, capsys):
    """Types ``<command> table2`` with these plain options, or others, in a folder; returns (status, out, err)."""
    monkeypatch.chdir(folder)

    def typed(*words, plain=plain):
        monkeypatch.setattr(sys, "argv", ["udcd-bench", command, "table2", *plain, *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return ended.value.code, out, err

    return typed


def table2():
    return plugins.load_class("tables", "table2")()


def keep(store, spec, *, n=N, right=None, shift=0, **changes):
    """A finished run as the engine leaves it: a method's share of right answers, the images its fold's."""
    images = np.random.default_rng([spec.fold, shift])
    labels = images.integers(0, 5, n)
    own = np.random.default_rng([spec.fold, spec.seed, ROWS.index(spec.method)])
    hit = own.random((2, n)) < (RIGHT[spec.method] if right is None else right)
    scores = np.eye(5, dtype=np.float32)[np.where(hit, labels, (labels + 1 + own.integers(0, 4, n)) % 5)]
    record = make.record(spec, **{"classes": list("abcde"), "n_test": n} | changes)
    record["figures"] = metrics.summarize_epochs(scores, labels, ordered=record["ordered"])
    make.store_run(store, record, make.arrays(scores, labels))
    return record


def fill(out, ask, methods=ROWS, **changes):
    """Runs of these methods on APTOS; returns the table's frame."""
    store = Store(out)
    for spec in table2().list_runs(ask):
        if spec.method in methods:
            keep(store, spec, **changes)
    return table2().build_frame(ask, load_results(store))


def paper(**changes):
    return TableRequest("paper", methods=ROWS, datasets=("aptos",), **changes)
