"""Files that mean harm and names that trip: nothing is executed or unpacked beyond bounds, names come out right."""

from __future__ import annotations

import ast
import csv
import hashlib
import io
import json
import pickle
import re
import shutil
import stat
import subprocess
import unicodedata
import warnings
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from support import layouts, records
from support.sheets import frame_of, sheet_of
from udcd_bench import plugins
from udcd_bench.cli import cli
from udcd_bench.data import sources
from udcd_bench.data.cache import decode, prepared
from udcd_bench.data.files import scan
from udcd_bench.data.layouts import folder, medmnist
from udcd_bench.errors import UserError, make_printable
from udcd_bench.render import sheet
from udcd_bench.render.latex import render_latex
from udcd_bench.render.markdown import render_markdown
from udcd_bench.report import page
from udcd_bench.report.views import Selection
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import DamagedRunError, Store
from udcd_bench.storage.checksums import dump_with_checksum
from udcd_bench.training import network

ENGINE = Path(plugins.__file__).parents[1]

# --- nothing is unpickled or executed ---------------------------------------------------------------------------

FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {"torch.load", "yaml.load", "pd.read_pickle", "pandas.read_pickle", "joblib.load"}


def suspicious(tree):
    """Lines that could execute what a file holds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN
        elif isinstance(node, ast.ImportFrom):
            found = {(node.module or "").split(".")[0]} & FORBIDDEN
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found = ({name} & CALLS) | {a for a in ATTRIBUTES if name == a}
            if any(
                word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords
            ):
                found -= {"torch.load"}  # then it reads tensors and plain values alone
            for word in node.keywords:
                unsafe = {"allow_pickle": True, "weights_only": False}
                value = getattr(word.value, "value", ...)
                if word.arg in unsafe and value is not (not unsafe[word.arg]):
                    found = found | {f"{word.arg}={ast.unparse(word.value)}"}
            if name == "np.load" and not {"allow_pickle", "mmap_mode"} & {word.arg for word in node.keywords}:
                found = found | {"np.load without allow_pickle=False"}
        else:
            continue
        for what in found:
            yield node.lineno, what


def test_the_engine_has_nothing_that_executes_a_file():
    paths = [path for path in ENGINE.rglob("*.py") if path != ENGINE / "plugins" / "loading.py"]
    paths += [
        plugins.find_file(kind, name) for kind in plugins.CONTENT_CLASSES for name in plugins.list_names(kind)
    ]
    assert len(paths) > 60
    found = [(path.name, *one) for path in paths for one in suspicious(ast.parse(path.read_text()))]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from joblib import load", "torch.load(f)",
        "np.load(f, allow_pickle=True)", "np.load(f)",
        "np.load(f, allow_pickle=x)", "eval(text)", "exec(text)", "yaml.load(f)",
        "load_state_dict(f, weights_only=False)", "torch.load(f, weights_only=False)", "torch.load(f, weights_only=x)",
    ],
)  # fmt: skip
def test_what_would_execute_a_file_is_seen(line):
    assert list(suspicious(ast.parse(line)))


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def harm(tmp_path):
    """An object that says when it has been unpickled; it must not."""
    mark = tmp_path / "harmed"
    pickle.loads(pickle.dumps(Harm(mark)))
    assert mark.exists(), "it works"
    mark.unlink()
    yield Harm(mark)
    assert not mark.exists()


def finished(root, name, data):
    """A store with a run whose file is this, as its record has it."""
    store = Store(root / "results")
    records.store_run(store, records.record(RunSpec("kd", "aptos", "paper", "x"), key="k"))
    folder_ = store.runs / "k"
    (folder_ / name).write_bytes(data)
    record = json.loads((folder_ / "record.json").read_bytes())
    record["files"][name], record["bytes"][name] = hashlib.sha256(data).hexdigest(), len(data)
    (folder_ / "record.json").write_bytes(dump_with_checksum(record))
    return store


def saved(harm, write=np.savez):
    out = io.BytesIO()
    write(out, np.array([harm, None], object))
    return out.getvalue()


def test_arrays_of_objects_are_refused(harm, tmp_path):
    for data in (saved(harm), saved(harm, np.save), pickle.dumps(harm)):
        store = finished(tmp_path, "scores.npz", data)
        with pytest.raises(DamagedRunError, match=r"scores\.npz is damaged"):
            store.read_scores("k")
        shutil.rmtree(tmp_path / "results")
    kept = dict.fromkeys(f"{split}_{what}" for split in medmnist.PARTS for what in ("images", "labels"))
    np.savez(tmp_path / "x.npz", **{name: np.array([harm], object) for name in kept})
    with pytest.raises(UserError, match="damaged or no npz"):
        medmnist.read_arrays(tmp_path / "x.npz", "x")
    root = layouts.class_folders(tmp_path / "mine", ("a", "b"))
    target = sources.prepare_dataset(f"folder:{root}", size=32, data=tmp_path / "data").path
    data = saved(harm, np.save)
    array = target / prepared.ARRAY
    array.write_bytes(data + bytes(array.stat().st_size - len(data)))
    with pytest.raises(UserError, match="cannot be read"):
        prepared.load(target)


def test_a_pickle_is_no_checkpoint(harm, tmp_path):
    store = Store(tmp_path / "results")
    store.create()
    store.start_run("k", RunSpec("kd", "aptos", "paper", "x"))
    path = store.work / "k" / "checkpoint.safetensors"
    path.write_bytes(pickle.dumps(harm))
    assert store.open_checkpoint("k").load() is None and path.with_suffix(".damaged").exists()


def test_a_checkpoint_without_its_checksum_is_none(tmp_path):
    """Found by the long campaign: two damages, one of them in the name of the checksum's field."""
    store = Store(tmp_path / "results")
    store.create()
    store.open_checkpoint("k").save({"a": np.ones(3)}, {"epoch": 1})
    path = store.work / "k" / "checkpoint.safetensors"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"sha256", b"sha257")[:-1] + b"\0")
    assert store.open_checkpoint("k").load() is None


def test_pickled_weights_are_refused(harm, tmp_path):
    import torch

    for suffix in (".pth", ".bin", ".safetensors"):
        file = tmp_path / f"weights{suffix}"
        torch.save({"a": harm}, file)
        with pytest.raises(UserError, match="cannot be read as weights"):
            network.build_backbone("resnet18", str(file))


@pytest.mark.parametrize("size", [2**63, 2**40, 10**8, 200])
def test_a_header_that_claims_too_much_is_refused(size, tmp_path):
    for header in (
        b"{" + b" " * 100 + b"}",
        json.dumps({"w": {"dtype": "F64", "shape": [2**50], "data_offsets": [0, 2**53]}}).encode(),
    ):
        store = finished(tmp_path, "student.safetensors", size.to_bytes(8, "little") + header)
        with pytest.raises(DamagedRunError, match=r"student\.safetensors is damaged"):
            store.read_weights("k")
        shutil.rmtree(tmp_path / "results")


def test_a_file_that_says_it_is_postscript_starts_no_interpreter(monkeypatch):
    from PIL import EpsImagePlugin

    def started(*_, **__):
        raise AssertionError("an interpreter was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    out = io.BytesIO()
    layouts.picture(1).save(out, "EPS")
    with pytest.raises(OSError, match="cannot identify"):
        decode.to_rgb(out.getvalue())


# --- archives -----------------------------------------------------------------------------------------------------

PNG = layouts.encode(layouts.picture(1, 12, 9), "PNG")


def archive(path, members, method=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, bytes), names as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as made:
        warnings.simplefilter("ignore")  # of two members with one name
        for name, data in members:
            made.writestr(name, data, method)
    return path


def rows(root, tmp_path):
    """What becomes of the images below a folder, by the name shown."""
    found = scan.scan_files(root)
    wheres = [where for same in found.images.values() for where in same]
    out = tmp_path / "rows.bin"
    out.touch()
    done = decode.decode_rows(str(out), 0, 32, list(enumerate(wheres)))
    decode.close_archives()
    broken = {entry.path: entry.detail for entry in found.left_out if entry.kind == "unreadable"}
    return {wheres[row.row].display_path: row.problem for row in done}, broken


def test_members_stay_where_they_are(tmp_path):
    link = zipfile.ZipInfo("a/link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    members = [
        ("../../out.png", PNG),
        ("/abs.png", PNG),
        ("..\\w.png", PNG),
        ("C:\\c.png", PNG),
        (link, b"/etc/passwd"),
    ]
    archive(tmp_path / "in" / "a.zip", [*members, ("b/same.png", b"first"), ("b/same.png", PNG)])
    before = sorted(tmp_path.rglob("*"))
    found, broken = rows(tmp_path / "in", tmp_path)
    assert not broken and found.pop("a.zip/a/link.png") == "not an image"
    assert found == dict.fromkeys(
        [f"a.zip/{name}" for name in ("../../out.png", "/abs.png", "../w.png", "C:/c.png", "b/same.png")],
        "",
    )
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "rows.bin"])


def test_a_member_without_a_name_is_none(tmp_path):
    """Found by the long campaign."""
    path = archive(tmp_path / "in" / "a.zip", [("x.png", PNG), ("b.png", PNG)])
    path.write_bytes(path.read_bytes().replace(b"x.png", b"\0.png"))
    found, broken = rows(tmp_path / "in", tmp_path)
    assert found == {"a.zip/b.png": ""} and not broken


def test_bombs_are_not_unpacked(tmp_path):
    """What a member says it holds is the most that is read of it; what says too much is not read."""
    inner = archive(tmp_path / "inner.zip", [("x.png", PNG)]).read_bytes()
    archive(tmp_path / "in" / "nested.zip", [("inner.zip", inner + bytes(110 << 20))])
    archive(tmp_path / "in" / "lzma.zip", [("a/l.png", bytes(20 << 20))], zipfile.ZIP_LZMA)
    archive(tmp_path / "in" / "bzip2.zip", [("a/b.png", bytes(20 << 20))], zipfile.ZIP_BZIP2)
    lying = archive(tmp_path / "in" / "lying.zip", [("a/y.png", bytes(20 << 20))])
    data = bytearray(lying.read_bytes())
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # 20 MB are there, 100 bytes are said to be
        place = data.index(mark) + at
        data[place : place + 4] = (100).to_bytes(4, "little")
    lying.write_bytes(data)
    import tracemalloc

    tracemalloc.start()
    found, broken = rows(tmp_path / "in", tmp_path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 16 << 20
    assert broken == {"nested.zip/inner.zip": "says that it unpacks to more than 100 times its size"}
    packed = "neither stored nor deflated; zip it again"
    assert found["lzma.zip/a/l.png"] == packed and found["bzip2.zip/a/b.png"] == packed
    assert found["lying.zip/a/y.png"]


def test_an_npz_that_unpacks_to_too_much_is_refused(tmp_path):
    arrays = {f"{split}_images": np.zeros((48_000, 28, 28), np.uint8) for split in medmnist.PARTS}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match="unpacks to more than 100 times its size"):
        medmnist.read_arrays(tmp_path / "x.npz", "x")


# --- images -------------------------------------------------------------------------------------------------------


def png_of(width, height):
    """A PNG that says it is this large."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


BAD = {
    "empty": (b"", "an empty file"),
    "cut": (layouts.encode(layouts.picture(1))[:-200], "truncated"),
    "cut png": (layouts.encode(layouts.picture(1), "PNG")[:-500], "truncated|broken"),
    "text": (b"<svg/>", "not an image"),
    "9 gigapixels": (png_of(95_000, 95_000), "more pixels than any photograph"),
    "90 megapixels": (png_of(10_000, 9_000), "more pixels than any photograph"),
    "2³¹ wide": (png_of(2**31 - 1, 1), "more pixels than any photograph"),
    "no width": (png_of(0, 5), "."),
    "fewer rows than said": (png_of(100, 100), "truncated|broken"),
    "float": (layouts.encode(Image.new("F", (8, 8)), "TIFF"), "floating-point"),
    "32 bits": (
        layouts.encode(Image.fromarray(np.full((8, 8), 10**6, np.int32)), "TIFF"),
        "more than 16 bits",
    ),
}


def test_images_that_cannot_be_read_say_why(tmp_path):
    for name, (data, _) in BAD.items():
        layouts.write(tmp_path / "in" / f"{name}.png", data)
    found, _ = rows(tmp_path / "in", tmp_path)
    assert found.keys() == {f"{name}.png" for name in BAD}
    for name, (_, says) in BAD.items():
        assert re.search(says, found[f"{name}.png"]), (name, found[f"{name}.png"])


def test_images_of_every_kind_come_out_right():
    picture = layouts.picture(3, 64, 48)
    right = np.asarray(picture).astype(int)

    def read(kind, image=picture, **how):
        return np.asarray(decode.to_rgb(layouts.encode(image, kind, **how))).astype(int)

    assert abs(read("JPEG", picture.convert("CMYK"), quality=100) - right).mean() < 3
    assert abs(read("TIFF", picture.convert("CMYK")) - right).max() <= 1
    grey = np.asarray(picture.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert np.array_equal(read("TIFF", deep), np.repeat(grey[..., None], 3, 2))
    frames = {"save_all": True, "append_images": [layouts.picture(4, 64, 48)]}
    for kind, more in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        assert np.array_equal(read(kind, **frames, **more), right), f"of an animated {kind} the first frame"
    assert abs(read("GIF", **frames) - right).mean() < 12
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by a quarter
    assert np.array_equal(read("PNG", exif=exif), right), "orientation is ignored, as in the released code"


# --- names --------------------------------------------------------------------------------------------------------

NAMES = (
    "a b", " lead", "it's", 'x "y" z', "a,b;c\td", "two\nlines", "\r\n", "$x_1^2$ & 50% #~{}\\",
    "\\input{/etc/passwd}", "<script>alert('x')</script>", "&amp; <b>", "]]>", "--help", "-rf", "=1+1", "@x",
    "| a | b |", "`code` *b* _i_ [l](u)", "bénin", unicodedata.normalize("NFD", "bénin"), "日本語", "العربية", "🩺",
    "\u202eabc", "\x1b[31mred", "a" * 240, "%s{0}",
)  # fmt: skip


def frame_and_sheet(names):
    frame = frame_of({name: {"acc": 80.0 + i, "f1": 70.0} for i, name in enumerate(names)}, dataset=names[0])
    frame["note"] = [names[i % len(names)] for i in range(len(frame))]
    return frame, sheet_of(frame, title=names[1], caption=names, warning=names[2], headings=[names[0]])


def test_names_in_a_csv():
    frame, _ = frame_and_sheet(NAMES)
    back = list(csv.DictReader(io.StringIO(sheet.format_table_csv(frame), newline="")))
    assert [row["method"] for row in back] == frame["method"].tolist()
    assert [row["note"] for row in back] == frame["note"].tolist()
    read = pd.read_csv(io.StringIO(sheet.format_table_csv(frame)), keep_default_na=False, lineterminator="\n")
    assert read["method"].tolist() == frame["method"].tolist()


def test_names_on_the_console():
    _, laid = frame_and_sheet(NAMES)
    text = sheet.render_console(laid)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in text.replace("\n", ""))
    body = text[text.index("ACC") :]
    assert sum(line.rstrip().endswith("70.00") or "70.00" in line for line in body.splitlines()) == len(NAMES)


def test_names_in_the_command_that_a_file_holds(tmp_path):
    from udcd_bench.artefacts.commands import format_artefact_command
    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.render.csv_text import add_command, read_command

    frame, laid = frame_and_sheet(NAMES)
    command = format_artefact_command("run", "table2", TableRequest(methods=tuple(NAMES)))
    first, _, rest = add_command(sheet.format_table_csv(frame), command).decode().partition("\n")
    assert read_command(first) == command and rest == sheet.format_table_csv(frame)
    (line,) = (each for each in render_latex(replace(laid, command=command)).split("\n") if command in each)
    assert line == f"% {command}" and "Made by udcd-bench run" in render_markdown(
        replace(laid, command=command)
    )


def test_names_in_latex(tmp_path):
    _, laid = frame_and_sheet(NAMES)
    text = render_latex(laid)
    assert "\\input{/etc" not in text and text.replace("\n", "").isprintable(), "no control character passes"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex here: nothing was compiled")
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert ran.returncode == 0, ran.stdout[-3000:]
    if shutil.which("pdftotext"):
        said = subprocess.run(
            ["pdftotext", "-layout", "t.pdf", "-"], cwd=tmp_path, capture_output=True, text=True
        ).stdout
        for word in ("it", "50%", "\\input{/etc/passwd}", "--help", "-rf"):
            assert word in said.replace("’", "'"), word


def test_names_in_the_picture():
    from udcd_bench.render.picture import render_png

    _, laid = frame_and_sheet(NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert render_png(laid).startswith(b"\x89PNG")


def test_names_in_markdown():
    _, laid = frame_and_sheet(NAMES)
    text = render_markdown(laid)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables}) == 1, "no name adds a column"
    assert len(tables) >= len(NAMES) + 2
    assert "<script" not in text and "<b>" not in text
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in text.replace("\n", ""))


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_names_in_html(tmp_path):
    store = Store(tmp_path / "results")
    store.create()
    pages = []
    for title in ("plain", NAMES[9] + NAMES[10] + NAMES[3]):
        store = Store(tmp_path / title[:5].strip("<"))
        store.create()
        spec = RunSpec("scratch", "aptos", "paper", "densenet121")
        record = records.record(
            spec,
            dataset_title=title,
            incomplete=title,
            reporting=title,
            classes=[title, "b", "c"],
            method_title=title,
        )
        generator = np.random.default_rng(0)
        scores = records.arrays(generator.normal(size=(2, 30, 3)).astype(np.float32), np.arange(30) % 3)
        history = pd.DataFrame(
            {"stage": ["train"] * 2, "epoch": [0, 1], "loss": [1.0, 0.5], "acc": [None, 0.5]}
        )
        store.finish_run(record["key"], record, history, scores, {"w": np.zeros(1, np.float32)})
        parsed = Tags()
        parsed.feed(page.render_page(store, Selection(profile="paper")).html.decode())
        pages.append(parsed)
    assert pages[0].tags == pages[1].tags, "a name adds no element"
    assert NAMES[9] in "".join(pages[1].text)


@pytest.mark.slow
def test_names_of_classes_and_files_from_folder_to_sheet(tmp_path, monkeypatch):
    """What the file system takes: prepared, listed, verified, shown."""
    monkeypatch.chdir(tmp_path)
    names = [name for name in NAMES if "/" not in name and len(name.encode()) < 250]
    for i, name in enumerate(names):
        for j in range(2):
            file = f"{name[:100]}{j}.png"
            layouts.write(
                tmp_path / "my $set$" / name / file, layouts.encode(layouts.picture(2 * i + j), "PNG")
            )
    name = f"folder:{tmp_path / 'my $set$'}"
    dataset = sources.load_dataset(name, size=32, data=tmp_path / "data")
    # two ways to write one accent are one class
    wanted = {make_printable(unicodedata.normalize("NFC", name)) for name in names}
    assert set(dataset.classes) == wanted and len(wanted) == len(names) - 1
    assert all(c not in text for text in (*dataset.classes, *dataset.ids) for c in "\n\r\x1b")
    for words in (["prepare", name], ["list"], ["verify", name], ["show", name, "--out", "sheet.png"]):
        size = ["--size", "32"] if words[0] in ("prepare", "show") else []
        ran = CliRunner().invoke(cli, ["data", *words, *size, "--data", "data"])
        assert ran.exit_code == 0, (words, ran.output, ran.exception)
        assert "\x1b" not in ran.output


def test_names_in_a_csv_of_ones_own(tmp_path):
    (tmp_path / "a").mkdir()
    names = [f"{i} {name.replace('/', '')[:80]}.png" for i, name in enumerate(NAMES)]
    for i, name in enumerate(names):
        layouts.write(tmp_path / "a" / name, layouts.encode(layouts.picture(i), "PNG"))
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["path", "label"])
    # the table writes accents the other way round
    forms = [unicodedata.normalize("NFC" if i % 2 else "NFD", f"a/{name}") for i, name in enumerate(names)]
    table.writerows([form, f"c {NAMES[i // 2]}"] for i, form in enumerate(forms))
    (tmp_path / "t.csv").write_bytes(out.getvalue().encode())
    listing = folder.read_index(tmp_path / "t.csv")
    assert len(listing.items) == len(names) and not listing.report.list_blocking()


@pytest.mark.parametrize("name", ["a" * 5000, "x\udcff", "a\nb", "\x1b[2J"])
def test_names_that_no_file_has_are_refused(name, tmp_path):
    for words in (["data", "prepare", f"folder:{name}"], ["data", "prepare", "ham10000", "--from", name]):
        ran = CliRunner().invoke(cli, [*words, "--data", str(tmp_path / "data")])
        assert isinstance(ran.exception, UserError), ran.exception
        assert "\x1b" not in str(ran.exception) and "There is no" in str(ran.exception)
