"""Every console and machine: any encoding, other systems, no home, closed pipes, full disks; a sentence at most."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.faults import command
from udcd_bench import cli
from udcd_bench.cli.judging.build_servers import format_junit
from udcd_bench.cli.judging.check_report import CheckReport
from udcd_bench.data import workers
from udcd_bench.data.cache import prepared
from udcd_bench.engines import local
from udcd_bench.errors import UserError
from udcd_bench.runs.finished import DamagedRunError
from udcd_bench.runs.store import Store

ENGINE = Path(cli.__file__).parents[1]
ASCII = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


def start(words, folder, *, shell="", **environment):
    """Run the command as a process of its own; shell: what stands behind it in the shell."""
    line = f'"{sys.executable}" -m udcd_bench "$@" {shell}'
    env = {key: value for key, value in (os.environ | environment).items() if value is not None}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, "bash", *words], cwd=folder, env=env, capture_output=True, timeout=120
    )  # fmt: skip


def format_training(data):
    """A run of one epoch on images that are prepared in ``data``."""
    size = ("--set=n_images=100", "--set=image_size=32", "--set=epochs=1")
    return ("train", "scratch", "--dataset=synthetic-lesions", f"--data={data}", *size)


# --- encodings ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "encoding",
    [{"PYTHONIOENCODING": name} for name in ("ascii", "latin-1", "cp1252:strict")] + [ASCII],
    ids=str,
)
def test_any_encoding_shows_what_it_can(encoding, tmp_path):
    for words in (("methods", "show", "udcd", "kd"), ("audit",)):
        done = start(words, tmp_path, **encoding)
        assert done.returncode == 0 and not done.stderr, done.stderr.decode()
        assert b"?" in done.stdout or words == ("audit",), "no encoding of these has the sign of what differs"


@pytest.mark.slow
def test_what_programs_read_is_whole_in_any_encoding(tmp_path, prepared_lesions):
    words = ("audit", "--format=json")
    plain, poor = (start(words, tmp_path, **env).stdout for env in ({}, {"PYTHONIOENCODING": "ascii"}))
    assert json.loads(plain) == json.loads(poor) and "“" in str(json.loads(poor))
    name = "фото é"
    words = (*format_training(prepared_lesions), "--dry-run", "--format=commands", f"--out={name}")
    assert f"--out '{name}'" in start(words, tmp_path, PYTHONIOENCODING="ascii").stdout.decode()


def test_junit_has_letters_beyond_ascii_as_numbers():
    report = CheckReport(
        {"table": "t", "against": "é≠", "profile": "demo", "split": "paper", "rule": "mean"}, [], [], 0, "κ"
    )
    text = format_junit(report)
    assert text.isascii() and "é≠" in ElementTree.fromstring(text).get("name")


def test_every_file_of_text_is_opened_with_its_encoding():
    for path in ENGINE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr in ("read_text", "write_text"):
                assert any(k.arg == "encoding" for k in node.keywords), f"{path}:{node.lineno}"


# --- systems --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["data", "list"], ["train", "scratch"], ["--help"], ["nonsense"]], ids=str)
@pytest.mark.parametrize("lack", ["sched_getaffinity", "posix_fallocate", "fcntl", "darwin", "win32"])
def test_another_system_is_told_in_a_sentence(lack, words, monkeypatch, capsys):
    if lack in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", lack)
    elif lack == "fcntl":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        monkeypatch.delattr(os, lack)
    monkeypatch.setattr(sys, "argv", ["udcd-bench", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith("udcd-bench: udcd-bench runs on Linux, and this is Python for ") and "WSL2" in err
    assert lack in err


def test_a_container_counts_the_cores_of_its_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(workers, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(local, "list_gpus", lambda device: [])
    for text, cores in ((None, 64), ("max 100000", 64), ("150000 100000", 2), ("1000 100000", 1), ("x", 64)):
        if text is not None:
            (tmp_path / "cpu.max").write_text(text)
        assert workers.count_cores() == local.count_slots("cpu", 1, None) == cores, text


# --- folders and pipes ----------------------------------------------------------------------------------------


def refuse(folder, *words, shell="", **environment):
    done = start(words, folder, shell=shell, **environment)
    return check_refusal(done.returncode, done.stderr.decode())


def check_refusal(code, err):
    *above, last = err.splitlines()
    assert code == 2 and last.startswith("udcd-bench: ") and "Traceback" not in err, err
    assert all(re.match(r"digits: |  \S", line) for line in above), "but for what was understood of the data"
    return err


@pytest.mark.slow
def test_a_place_where_nothing_can_be_written(tmp_path):
    def refuse_forked(*words):
        out, err = tmp_path / "out.txt", tmp_path / "err.txt"
        return check_refusal(command(out, *words, errors=err, cwd=tmp_path), err.read_text())

    train = ("train", "scratch", "--dataset=digits", "--set=epochs=1")
    assert "/proc/x cannot be written" in refuse_forked(*train, "--out=/proc/x", "--data=d")
    assert "choose another --data" in refuse_forked(*train, "--data=/proc/x")
    assert "File name too long" in refuse_forked(*train, f"--out={'a' * 300}")
    Store(tmp_path / "results").create()
    assert "/proc/x.csv cannot be written" in refuse_forked("results", "export", "/proc/x.csv")


@pytest.mark.slow
def test_a_folder_that_is_gone_and_output_that_is_full(tmp_path):
    (tmp_path / "gone").mkdir()
    line = f'cd gone; rmdir ../gone; exec "{sys.executable}" -m udcd_bench status'
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith(
        "udcd-bench: The folder you are in has been removed"
    )
    assert "The disk is full: the output could not be written" in refuse(
        tmp_path, "methods", "list", shell=">/dev/full"
    )


@pytest.mark.slow
def test_output_that_nobody_reads_on_ends_quietly(tmp_path):
    done = start(["methods", "list"], tmp_path, shell="| true")
    assert done.returncode in (0, 141) and not done.stderr  # 0 where all was written before
    for shell in (">&-", ">&- 2>&-", "<&-"):
        assert start(["methods", "list"], tmp_path, shell=shell).returncode == 0, shell


@pytest.mark.slow
def test_a_folder_for_temporary_files_is_needed(tmp_path, prepared_lesions):
    (tmp_path / "sitecustomize.py").write_text(
        "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/proc/none']\n"
    )
    paths = os.pathsep.join(map(str, [tmp_path, ENGINE.parent]))
    said = refuse(tmp_path, *format_training(prepared_lesions), shell="2> >(tail -1 >&2)", PYTHONPATH=paths)
    assert "set TMPDIR to one that can" in said


# --- scripts --------------------------------------------------------------------------------------------------


SCRIPT = """
from pathlib import Path
from udcd_bench.data import sources
print('once')
sources.load_dataset('synthetic-fundus', size=32, data=Path('d'), n_images=60,
                     options=sources.LoadOptions(jobs=2))
from udcd_bench.cli import cli
cli(['train', 'scratch', '--dataset=synthetic-fundus', '--data=d', '--device=cpu', '--set=epochs=1',
     '--set=image_size=32', '--set=n_images=60'])
"""


def run_script(folder, *, piped, **environment):
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-" if piped else "script.py"],
        input=SCRIPT if piped else "",
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ENGINE.parent)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def run_from_file(tmp_path_factory):
    """The script run as a file, with a folder for temporary files whose path is too long for a socket's."""
    folder = tmp_path_factory.mktemp("script")
    long = folder / ("long" * 20)
    long.mkdir()
    return run_script(folder, piped=False, TMPDIR=str(long))


@pytest.mark.slow
@pytest.mark.parametrize("piped", [True, False], ids=["piped", "file"])
def test_a_script_without_a_guard_of_its_main_part_runs_once(piped, tmp_path, request):
    done = run_script(tmp_path, piped=True) if piped else request.getfixturevalue("run_from_file")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1 and "record.json" in done.stdout


@pytest.mark.slow
def test_a_temporary_folder_of_a_long_path_is_no_hindrance(run_from_file):
    assert run_from_file.returncode == 0, run_from_file.stderr


def test_matplotlib_gives_no_advice_on_home_folders(monkeypatch, caplog):
    monkeypatch.setattr(sys, "argv", ["udcd-bench", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    import logging

    logging.getLogger("matplotlib").warning("Matplotlib created a temporary cache directory")
    assert not caplog.records


def test_bench_lists_are_names_too():
    assert "no method 'nosuch'" in str(
        CliRunner().invoke(cli.cli, ["bench", "--methods", "kd", "--methods", "nosuch"]).exception
    )


def test_shared_memory_that_is_full_is_told_by_its_name(monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workers, "ProcessPoolExecutor", full)
    with pytest.raises(
        UserError, match=r"/dev/shm cannot be written \(No space left on device\); give it room"
    ):
        workers.open_pool(2)


def test_a_record_that_may_not_be_read_is_not_damaged(tmp_path, monkeypatch):
    """Moved aside as damaged, it would be made again for nothing."""
    folder = tmp_path / "runs" / "k"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text("{}")
    read = Path.read_bytes

    def denied(path):
        if path.name == "record.json":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    for look in (Store(tmp_path).find_damage, Store(tmp_path).get_state, Store(tmp_path).read_record):
        with pytest.raises(UserError, match=r"record\.json may not be read; ask its owner") as error:
            look("k")
        assert not isinstance(error.value, DamagedRunError)


# --- Ctrl-C ---------------------------------------------------------------------------------------------------


def count_processes(group):
    """How many processes the group has."""
    count = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            count += int(stat.read_text().rpartition(")")[2].split()[2]) == group
    return count


def is_drawn(folder):
    """Whether the first images of a set that is being drawn are there."""
    for path in folder.rglob(prepared.ARRAY):
        with path.open("rb") as file:
            file.seek(prepared.HEADER_BYTES)
            return any(file.read(3000))
    return False


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["one imports", "both import", "they draw"])
def test_an_interrupted_drawing_prints_one_line(moment, tmp_path):
    """At whatever moment: workers start one after another, and Ctrl-C reaches those that only import yet."""
    words = ["data", "prepare", "synthetic-fundus", "--n-images=5000", "--jobs=2"]
    typed = [sys.executable, "-m", "udcd_bench", *words]
    process = subprocess.Popen(
        typed, cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    others = 2  # the command itself, and what tracks its workers' semaphores
    end = time.monotonic() + 60
    while (
        not is_drawn(tmp_path)
        if moment == "they draw"
        else count_processes(process.pid) < others + ["one imports", "both import"].index(moment) + 1
    ):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    time.sleep(0.06)  # it takes less to begin, and more to be deaf to Ctrl-C by itself
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.strip() == f"Interrupted. Nothing is lost; go on with: udcd-bench {' '.join(words)}"
