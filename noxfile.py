"""Everything that is checked, by one command: ``nox`` runs ``tests`` and ``lint``; the rest on request."""

import nox

nox.options.sessions = ["tests", "lint"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True

# what a step frees, the next one needs again: docs/performance.md
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "67108864",
}
# runs share the cores: one thread each. The first process that imports a module writes its bytecode, for a third of the
# modules that are installed; to compile them all takes three times as long
RUN = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "", "MPLBACKEND": "agg", **ALLOCATOR}

# two workers, each taking a file at a time, in the order that tests/conftest.py puts them in: the slowest first
TWO_WORKERS = ("-n2", "--dist=loadfile", "--no-loadscope-reorder")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, the README's commands among them; further arguments go to pytest."""
    session.install("-e", ".[test]")
    if session.posargs:
        session.run("pytest", *session.posargs, env=RUN)
        return
    session.run("pytest", *TWO_WORKERS, "--durations=10", env=RUN)


@nox.session(reuse_venv=True)
def fast(session: nox.Session) -> None:
    """Run the tests that take little time, while you work; the others are marked slow."""
    session.install("-e", ".[test]")
    session.run("pytest", *TWO_WORKERS, "-m", "not slow", *session.posargs, env=RUN)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    # no bytecode: mypy reads the sources, and nothing else is imported
    session.install("-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "--num-workers=2")


@nox.session
def durations(session: nox.Session) -> None:
    """Measure the test files and write tests/durations.json, which the order of the tests follows."""
    session.install("-e", ".[test]")
    session.run("pytest", *TWO_WORKERS, env=RUN | {"UDCD_BENCH_DURATIONS": "write"})


@nox.session
def golden(session: nox.Session) -> None:
    """Rewrite the stored tables that the tests compare with; look at the difference before you commit it."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/artefacts/test_artefacts.py", env=RUN | {"UDCD_BENCH_GOLDEN": "write"})
    session.run("git", "diff", "--stat", "tests/goldens", external=True)


@nox.session
def calibration(session: nox.Session) -> None:
    """Simulate true tables and write docs/calibration.csv and .png; then bring docs/statistics.md up to date."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/judging/test_calibration.py", env=RUN | {"UDCD_BENCH_CALIBRATION": "write"})


@nox.session
def gpu(session: nox.Session) -> None:
    """Measure all that a GPU shows, into gpu.json, then run the tests that need one."""
    session.install("-e", ".[test]")
    session.run("udcd-bench", "bench", "--device", "cuda", "--everything", "--json", "gpu.json")
    session.run("pytest", "-m", "gpu", *session.posargs, env=RUN)


@nox.session
def ray(session: nox.Session) -> None:
    """Run the tests of ``--engine ray`` on a Ray cluster of several machines' worth of processes."""
    session.install("-e", ".[test,ray]")
    session.run("pytest", "tests/engines/test_ray.py", *session.posargs, env=RUN)


@nox.session(python="3.11", venv_backend="uv")
def oldest(session: nox.Session) -> None:
    """Run the tests with the oldest libraries that setup.cfg admits; further arguments go to pytest."""
    session.install("--resolution=lowest-direct", "-e", ".[test]")
    # old libraries warn of what is newer than they are
    session.run("pytest", *TWO_WORKERS, "-W", "default", *session.posargs, env=RUN)


# what a method file imports
API = ["udcd_bench.method", "udcd_bench.losses", "udcd_bench.memory", "udcd_bench.sampling"]


@nox.session
def docs(session: nox.Session) -> None:
    """Write the API pages for method authors to docs/api, from the docstrings."""
    session.install("-e", ".[test]")
    session.run("pdoc", "--no-show-source", "--output-directory", "docs/api", *API, env=RUN)
