"""The ``data`` commands, as typed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from support import layouts
from udcd_bench.cli.data import data
from udcd_bench.data import sources
from udcd_bench.data.layouts import ham10000
from udcd_bench.errors import UserError


@pytest.fixture
def ham(tmp_path, monkeypatch):
    monkeypatch.setattr(ham10000, "EXPECTED_COUNTS", layouts.HAM_PUBLISHED)
    monkeypatch.setenv("UDCD_BENCH_DATA", str(tmp_path / "data"))
    return layouts.ham_dataverse(tmp_path / "my downloads" / "HAM", zips=True, table=".tab")


def run(*arguments):
    result = CliRunner().invoke(data, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, (UserError, SystemExit)), result.exception
    return result


def test_prepare_verify_list_show(ham, tmp_path):
    first = run("prepare", "ham10000", "--from", ham, "--size", 32, "--jobs", 1)
    assert first.exit_code == 0 and "prepared 17 images of 7 classes at 32×32" in first.output
    assert "already prepared" in run("prepare", "ham10000", "--from", ham, "--size", 32).output
    assert "is whole" in run("verify", "ham10000").output
    listed = run("list").output
    assert "prepared: 32 pixels (17 images)" in listed
    for name in (*sources.list_names(), "medmnist:NAME", "folder:PATH"):
        assert name in listed
    out = tmp_path / "new folder" / "sheet.png"
    assert run("show", "ham10000", "--out", out).exit_code == 0
    with Image.open(out) as sheet:
        assert sheet.format == "PNG" and sheet.width > 800
    array = tmp_path / "data" / "ham10000" / "32" / "images.npy"
    array.write_bytes(array.read_bytes()[:-1] + b"x")
    assert "checksum differs" in str(run("verify", "ham10000").exception)
    array.unlink()
    assert "is missing" in str(run("verify", "ham10000").exception)


def test_incomplete_is_said_in_red_and_on_the_sheet(ham, tmp_path):
    (ham / "HAM10000_images_part_2.zip").unlink()
    refused = run("prepare", "ham10000", "--from", ham, "--size", 32)
    assert isinstance(refused.exception, UserError) and "ids without a file" in str(refused.exception)
    allowed = run("prepare", "ham10000", "--from", ham, "--size", 32, "--allow-incomplete")
    assert allowed.exit_code == 0 and "Incomplete HAM10000: 9 images" in allowed.output
    assert "incomplete" in run("list").output
    assert run("show", "ham10000", "--out", tmp_path / "a.png").exit_code == 0


def test_a_folder_with_odd_names(ham, tmp_path):
    root = layouts.class_folders(tmp_path / "it's $mine$, déjà", each=4)
    name = f"folder:{root}"
    assert run("prepare", name, "--size", 32).exit_code == 0
    assert f"{name}: 32 pixels (12 images)" in run("list").output
    assert run("show", name, "--out", tmp_path / "a.png").exit_code == 0
    assert "is whole" in run("verify", name).output


def test_what_is_left_out_is_said_and_stops_where_it_matters(ham, tmp_path):
    root = layouts.class_folders(tmp_path / "set", ("a", "b"), each=4)
    (root / "c").mkdir()
    layouts.write(root / "notes.txt", "x")
    name = f"folder:{root}"
    refused = run("prepare", name, "--size", 32)
    assert isinstance(refused.exception, UserError)
    assert "✗ 1 classes without an image that is read: c (empty)" in str(refused.exception)
    command = f"udcd-bench data prepare {name} --size 32 --data {tmp_path / 'data'} --allow-incomplete"
    assert command in str(refused.exception)
    allowed = run(*command.split()[2:])
    assert allowed.exit_code == 0 and "Incomplete set: 8 images" in allowed.output
    assert "  · 1 other files: notes.txt" in allowed.output


def test_the_depth_of_grey_images(ham, tmp_path):
    for i, c in enumerate("aabb"):
        values = Image.fromarray(np.full((9, 9), 700 + 80 * i, np.uint16))
        layouts.write(tmp_path / "set" / c / f"{i}.png", layouts.encode(values, "PNG"))
    name = f"folder:{tmp_path / 'set'}"
    assert "give --depth 10" in str(run("prepare", name, "--size", 32).exception)
    done = run("prepare", name, "--size", 32, "--depth", 10)
    assert done.exit_code == 0 and "16-bit images are read as of 10 bits" in done.output


def test_a_stand_in_says_so_on_its_sheet(ham, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    said = []
    write = Figure.text
    monkeypatch.setattr(
        Figure, "text", lambda self, x, y, s, **k: (said.append(s), write(self, x, y, s, **k))[1]
    )
    out = tmp_path / "a.png"
    done = run("show", "synthetic-lesions", "--n-images", 10, "--size", 32, "--out", out)
    assert done.exit_code == 0
    assert any(words.startswith("synthetic stand-in") for words in said)
    assert "lesions (synthetic stand-in)" in said


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["prepare", "ham10000"], "Harvard Dataverse"),
        (["prepare", "nothing"], "Unknown data set"),
        (["prepare", "nothing", "--from", "x", "--depth", "12"], "Unknown data set"),
        (["prepare", "digits", "--from", "x"], "needs no --from"),
        (["prepare", "digits", "--size", "4"], "32 to 512"),
        (["prepare", "digits", "--n-images", "4"], "--n-images is for the synthetic sets"),
        (["prepare", "medmnist:bloodmnist", "--from", "x"], "bloodmnist.npz"),
        (["verify", "ham10000"], "Nothing of ham10000 is prepared"),
        (["show", "aptos"], "aptos2019-blindness-detection"),
        (["prepare", "synthetic-lesions", "--size", "300"], "32 to 224"),
    ],
)
def test_what_the_user_can_fix(arguments, said, ham):
    result = run(*arguments)
    assert isinstance(result.exception, UserError) and said in str(result.exception)


def test_medmnist_from_a_file(ham, tmp_path):
    file = layouts.medmnist_file(tmp_path / "elsewhere" / "pathmnist_64.npz", grey=False)
    done = run("prepare", "medmnist:pathmnist_64", "--from", file.parent, "--size", 32)
    assert done.exit_code == 0 and "22 images of 3 classes" in done.output
    assert "already" in run("prepare", "medmnist:pathmnist_64", "--from", file, "--size", 32).output
    assert "medmnist:pathmnist_64: 32 pixels" in run("list").output


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from udcd_bench.cli.data import data\n"
        "data(['prepare', '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'PIL', 'rich', 'matplotlib', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
