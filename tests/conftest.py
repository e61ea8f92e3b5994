"""Fixtures that every test may use, and the order of the test files. This folder is on the path: ``import support``."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

import pytest

DURATIONS = Path(__file__).with_name("durations.json")
"""Test file → seconds on one core, as ``nox -s durations`` writes them."""
WRITE_DURATIONS = os.environ.get("UDCD_BENCH_DURATIONS") == "write"
N_DRAWN = 100
"""Images of the prepared stand-in that the tests share."""

seconds_by_file: dict[str, float] = defaultdict(float)


def pytest_sessionstart():
    """Collect no garbage while the tests are imported: it takes a fifth of the time and finds next to nothing.

    Nor wait for the disk in this process, whose files nobody reads after a power cut; other processes flush as ever.
    """
    gc.disable()
    os.fsync = lambda descriptor: None


def pytest_collection_finish():
    """Collect garbage again, and never visit what is imported by now: torch and timm are a million objects.

    But at the interpreter's own end, of which some libraries report what it leaves; pytest collects before that.
    """
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)


def pytest_collection_modifyitems(config, items):
    """Put the slowest files first, so that no worker is left with a long one at the end."""
    if not hasattr(config, "workerinput") or not DURATIONS.exists():
        return
    seconds = json.loads(DURATIONS.read_text())
    items.sort(key=lambda item: -seconds.get(item.path.relative_to(config.rootpath).as_posix(), 0))


def pytest_runtest_logreport(report):
    """Add up what each file takes, its fixtures included."""
    seconds_by_file[report.nodeid.partition("::")[0]] += report.duration


def pytest_sessionfinish(session):
    """Write the sums, the slowest first, when ``nox -s durations`` asks for them."""
    if WRITE_DURATIONS and not hasattr(session.config, "workerinput"):
        rows = sorted(seconds_by_file.items(), key=lambda row: -row[1])
        slow = {path: round(seconds, 1) for path, seconds in rows if seconds >= 1}
        DURATIONS.write_text(json.dumps(slow, indent=1) + "\n")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Start each test with the suite's own content and with torch on one thread, whatever the test before did."""
    _reset_globals()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """Forget content that a test added."""
    _reset_globals()


def _reset_globals():
    # neither is imported here: a test of a small module need not wait for the tensor library
    if (plugins := sys.modules.get("udcd_bench.plugins")) is not None:
        plugins.find_files.cache_clear()
        plugins.list_shipped_suites.cache_clear()
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


@pytest.fixture
def own_suites(monkeypatch):
    """Undo at the end whatever suites the test, or a command that it types, adds."""
    from udcd_bench import plugins

    monkeypatch.setattr(plugins.suites, "_ADDED_SUITES", [])
    monkeypatch.setenv("UDCD_BENCH_SUITE", "")
    plugins.find_files.cache_clear()
    yield
    plugins.find_files.cache_clear()


@pytest.fixture
def shipped_suites(own_suites):
    """Have the content of every suite that the package brings."""
    from udcd_bench import plugins

    for name in plugins.list_shipped_suites():
        plugins.add_suite(name)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@contextlib.contextmanager
def _locked(path):
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def prepared_lesions(shared_folder):
    """A data folder with 100 drawn lesions prepared at 32 pixels, made once for all workers; tests only read it."""
    from udcd_bench.data import sources

    data = shared_folder / "drawn"
    with _locked(shared_folder / "drawn.lock"):
        sources.prepare_dataset("synthetic-lesions", size=32, data=data, n_images=N_DRAWN)
    return data
