"""The cache holds either a whole, checked set or nothing; everything wrong is found and told together."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import layouts
from udcd_bench.data import sources
from udcd_bench.data.cache import decode, prepared, staging
from udcd_bench.data.cache import prepare as preparing
from udcd_bench.data.cache.options import PrepareOptions
from udcd_bench.data.layouts import ham10000
from udcd_bench.errors import UserError
from udcd_bench.storage import owners

pytestmark = pytest.mark.usefixtures("small_published")

IDS = layouts.HAM_IDS
CHECK = sources.LoadOptions(check_pixels=True)


@pytest.fixture
def ham(tmp_path):
    return layouts.ham_kaggle(tmp_path / "ham")


def prepare(root, tmp_path, **options):
    options = PrepareOptions(root, **options)
    return sources.prepare_dataset("ham10000", size=32, data=tmp_path / "data", options=options)


def file(root, i):
    return next(root.rglob(f"{IDS[i]}.jpg"))


def of(name, k=0):
    """The place of the k-th image of a class."""
    return [i for i, label in enumerate(layouts.HAM_LABELS) if label == name][k]


def everything_wrong(root):
    """One of each: returns what must be said of each."""
    broken, no_image, gone, wild, twice = of("nv", 5), of("nv", 4), of("mel", 2), of("bkl", 1), of("bcc", 1)
    file(root, broken).write_bytes(file(root, broken).read_bytes()[:-200])
    file(root, no_image).write_text("<html>Please log in</html>")
    file(root, gone).unlink()
    layouts.write(root / "HAM10000_images_part_1" / "stray é.jpg", layouts.encode(layouts.picture(77)))
    table = root / "HAM10000_metadata.csv"
    text = table.read_text().replace(f"{IDS[wild]},bkl", f"{IDS[wild]},wart")
    table.write_text(text + f"HAM_1,{IDS[twice]},nv,,,,\nHAM_2,{IDS[of('df')]},df,,,,\n")
    # Identical bytes, one class; identical pixels in another file format, two classes.
    shutil.copy(file(root, of("akiec", 0)), file(root, of("akiec", 1)))
    with Image.open(file(root, of("mel", 0))) as image:
        file(root, of("vasc")).write_bytes(layouts.encode(image, "PNG"))
    return {
        "2 files that are truncated or not images": [IDS[broken], IDS[no_image], "not an image", "truncated"],
        "1 ids without a file": [IDS[gone]],
        "1 labels out of range": [f"{IDS[wild]} (wart)"],
        "1 ids listed twice with different labels, groups or splits": [IDS[twice]],
        "1 ids listed twice with the same label": [IDS[of("df")]],
        "1 image files without an id": ["stray é.jpg"],
        "1 images byte-identical to another": [IDS[of("akiec", 1)], IDS[of("akiec", 0)]],
        "1 images pixel-identical to another": [IDS[of("vasc")], IDS[of("mel", 0)]],
        "1 groups of identical images with conflicting labels": [IDS[of("vasc")]],
        "1 classes whose images are all copies of another class's": ["vasc = mel"],
        "counts that differ from the published ones": ["bcc 1 instead of 2", "bkl 1 instead of 2"],
        "1 other files": ["hmnist_8_8_L.csv"],
        "12 images of one size that the originals do not have": ["(60×45)"],
    }


def test_all_that_is_wrong_is_told_together_and_nothing_written(ham, tmp_path):
    expected = everything_wrong(ham)
    with pytest.raises(UserError) as error:
        prepare(ham, tmp_path)
    lines = str(error.value).splitlines()
    for words, examples in expected.items():
        line = next(line for line in lines if words in line)
        assert all(example in line for example in examples), line
    assert "--allow-incomplete" in lines[-1]
    assert (
        sum(line.startswith("  ✗") for line in lines) == 6
        and sum(line.startswith("  ·") for line in lines) == 7
    )
    assert [p.name for p in (tmp_path / "data").rglob("*") if not p.is_dir()] == [".32.lock"]


def test_incomplete_only_when_allowed_and_then_it_says_so(ham, tmp_path):
    everything_wrong(ham)
    done = prepare(ham, tmp_path, allow_incomplete=True)
    dataset = sources.load_dataset("ham10000", size=32, data=tmp_path / "data")
    assert len(dataset.ids) == len(IDS) - 5
    assert dataset.incomplete == done.incomplete
    assert dataset.incomplete.startswith("Incomplete HAM10000: 12 images, with ")
    assert "1 ids without a file" in dataset.incomplete and dataset.incomplete.endswith(".")
    index = {id_: row for row, id_ in enumerate(dataset.ids)}
    with Image.open(file(ham, of("df"))) as image:  # rows moved up over the gaps
        assert np.array_equal(dataset.images[index[IDS[of("df")]]], decode.resize(image.convert("RGB"), 32))
    for a, b in ((of("akiec", 0), of("akiec", 1)), (of("vasc"), of("mel", 0))):
        assert dataset.groups[index[IDS[a]]] == dataset.groups[index[IDS[b]]]
    prepared.verify(done.path)
    assert not prepare(ham, tmp_path, allow_incomplete=True).fresh
    with pytest.raises(UserError, match="not complete"):
        prepare(ham, tmp_path)
    assert (
        sources.load_dataset("ham10000", size=32, data=tmp_path / "data").fingerprint == dataset.fingerprint
    )


def test_duplicates_alone_do_not_block(ham, tmp_path):
    shutil.copy(file(ham, of("nv", 0)), file(ham, of("mel", 0)))
    done = prepare(ham, tmp_path)
    assert len(done.report) == 4 and done.incomplete == ""


def test_an_id_with_two_different_files_is_told(ham, tmp_path):
    layouts.write(
        ham / "HAM10000_images_part_2" / f"{IDS[0]}.png", layouts.encode(layouts.picture(55), "PNG")
    )
    with pytest.raises(
        UserError, match=rf"1 ids with several different files \(leave one of each\): {IDS[0]}"
    ):
        prepare(ham, tmp_path)


def test_a_broken_zip_is_told(ham, tmp_path):
    part = layouts.zipped(ham / "HAM10000_images_part_2")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"HAM10000_images_part_2.zip \(File is not a zip file\)"):
        prepare(ham, tmp_path)


def test_a_zip_with_damaged_members_is_told(ham, tmp_path):
    part = layouts.zipped(ham / "HAM10000_images_part_2")
    data = bytearray(part.read_bytes())
    data[400:420] = bytes(20)
    part.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"1 files that are truncated or not images.*CRC"):
        prepare(ham, tmp_path)


def test_the_second_call_is_instant_and_a_changed_source_is_noticed(ham, tmp_path, monkeypatch):
    first = prepare(ham, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(decode, "decode_rows", None)  # nothing may be decoded
        again = prepare(ham, tmp_path)
    assert first.fresh and not again.fresh and again.path == first.path
    before = sources.load_dataset("ham10000", size=32, data=tmp_path / "data")
    file(ham, 0).write_bytes(layouts.encode(layouts.picture(500)))
    assert prepare(ham, tmp_path).fresh
    after = sources.load_dataset("ham10000", size=32, data=tmp_path / "data")
    assert after.fingerprint != before.fingerprint
    assert before.images[0].shape == (32, 32, 3)  # an open map outlives the set it came from


def test_processes_give_the_same_array(tmp_path):
    root = layouts.class_folders(tmp_path / "a", ("x", "y"), each=40)
    told = []
    for data, jobs in (("one", 1), ("two", 2)):
        options = PrepareOptions(jobs=jobs, progress=lambda more, total: told.append((more, total)))
        sources.prepare_dataset(f"folder:{root}", size=32, data=tmp_path / data, options=options)
    one, two = (sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / d) for d in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    assert sum(more for more, _ in told) == 160 and {total for _, total in told} == {80}


KILLED = """
import os, signal
from pathlib import Path
from udcd_bench.data import sources
from udcd_bench.data.cache.options import PrepareOptions
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if {where!r} == "decoding":
    seen = []
    progress = lambda more, total: (seen.append(more), die() if len(seen) == 2 else None)
else:
    progress, Path.rename = None, die
sources.prepare_dataset({name!r}, size=32, data=Path({data!r}), options=PrepareOptions(progress=progress))
"""


@pytest.mark.parametrize("where", ["decoding", "renaming"])
def test_kill_leaves_nothing_that_passes_for_finished(where, tmp_path):
    root = layouts.class_folders(tmp_path / "a", ("x", "y"), each=20)
    name, data = f"folder:{root}", tmp_path / "data"
    code = KILLED.format(where=where, name=name, data=str(data))
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    target = data / sources.make_slug(name) / "32"
    assert not target.exists() and list(target.parent.glob(".incoming-*"))
    assert sources.list_prepared(name, data) == []
    assert sources.prepare_dataset(name, size=32, data=data).fresh
    assert not list(target.parent.glob(".incoming-*"))
    prepared.verify(target)


def test_workers_end_with_a_killed_parent(tmp_path):
    root = layouts.class_folders(tmp_path / "a", ("x", "y"), each=40)
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from udcd_bench.data import sources\n"
        "from udcd_bench.data.cache.options import PrepareOptions\n"
        f"data, name = Path({str(tmp_path)!r}), 'folder:{root}'\n"
        "kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "options = PrepareOptions(jobs=2, progress=kill)\n"
        "sources.prepare_dataset(name, size=32, data=data, options=options)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    parent.communicate(timeout=60)  # to the end of the output, which the workers share
    assert parent.returncode == -signal.SIGKILL


def test_an_exception_leaves_nothing(ham, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(ham, tmp_path, progress=interrupt)
    assert [p.name for p in (tmp_path / "data").rglob("*") if not p.is_dir()] == [".32.lock"]


def test_a_full_disk(ham, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 0))
        with pytest.raises(UserError, match=r"full: 52352 bytes .* are needed for .*32"):
            prepare(ham, tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("posix_fallocate", "pwrite"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(UserError, match=f"disk that holds {tmp_path}"):
                prepare(ham, tmp_path)
    assert sources.list_prepared("ham10000", tmp_path / "data") == []


def test_a_file_system_that_cannot_allocate(ham, tmp_path, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    prepared.verify(prepare(ham, tmp_path).path)


def test_a_data_folder_that_is_a_file(ham, tmp_path):
    layouts.write(tmp_path / "data", "")
    with pytest.raises(UserError, match="cannot be written"):
        prepare(ham, tmp_path)


def edit(target, **changes):
    path = target / prepared.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip_a_bit(target):
    data = bytearray((target / prepared.ARRAY).read_bytes())
    data[-1] ^= 1
    (target / prepared.ARRAY).write_bytes(bytes(data))


DAMAGE = {
    "array gone": (lambda t: (t / prepared.ARRAY).unlink(), "images.npy is missing"),
    "array short": (lambda t: os.truncate(t / prepared.ARRAY, 1000), "has 1000 bytes instead of 52352"),
    "manifest gone": (lambda t: (t / prepared.MANIFEST).unlink(), "manifest.json is missing"),
    "manifest cut": (lambda t: os.truncate(t / prepared.MANIFEST, 50), "cannot be read"),
    "manifest of something else": (lambda t: (t / prepared.MANIFEST).write_text("[]"), "not one of this"),
    "labels edited": (lambda t: edit(t, labels=[0] * len(IDS)), "were changed"),
    "newer": (lambda t: edit(t, schema=99), "newer udcd-bench"),
    "wrong size": (lambda t: edit(t, size=64), "bytes instead of"),
    "no array": (lambda t: (t / prepared.ARRAY).write_bytes(bytes(52352)), "cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_seen_on_loading(kind, ham, tmp_path):
    target = prepare(ham, tmp_path).path
    damage, said = DAMAGE[kind]
    damage(target)
    for check in (
        lambda: sources.load_dataset("ham10000", size=32, data=tmp_path / "data"),
        lambda: prepared.verify(target),
    ):
        with pytest.raises(UserError, match=said) as error:
            check()
        assert str(target) in str(error.value) and "\n" not in str(error.value)
    if kind != "newer":
        assert prepare(ham, tmp_path).fresh  # and made anew on request
        prepared.verify(target)


def test_whatever_is_flipped_in_a_manifest_is_seen(ham, tmp_path):
    target = prepare(ham, tmp_path).path
    path = target / prepared.MANIFEST
    whole = path.read_bytes()
    for place in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 7]) + whole[place + 1 :])
        with contextlib.suppress(ValueError):
            if json.loads(path.read_bytes()) == json.loads(whole):
                continue  # white space has become other white space
        with pytest.raises(UserError):
            prepared.load(target)
    path.write_bytes(whole)
    prepared.load(target)


def test_a_manifest_from_before_it_had_a_checksum_is_read(ham, tmp_path):
    target = prepare(ham, tmp_path).path
    sums = json.loads((target / prepared.MANIFEST).read_text())["sha256"]
    edit(target, sha256={name: value for name, value in sums.items() if name != "manifest"})
    prepared.load(target, check_pixels=True)


def test_a_start_sees_a_single_bit(ham, tmp_path):
    target = prepare(ham, tmp_path).path
    flip_a_bit(target)
    with pytest.raises(prepared.DamagedDataError, match="checksum differs"):
        sources.load_dataset("ham10000", size=32, data=tmp_path / "data", options=CHECK)
    assert prepare(ham, tmp_path).fresh, "and preparing makes it anew"
    sources.load_dataset("ham10000", size=32, data=tmp_path / "data", options=CHECK)


def test_verify_sees_a_single_bit(ham, tmp_path):
    target = prepare(ham, tmp_path).path
    prepared.verify(target)
    flip_a_bit(target)
    sources.load_dataset("ham10000", size=32, data=tmp_path / "data")
    with pytest.raises(UserError, match="checksum differs"):
        prepared.verify(target)


def test_rows_past_counting_in_the_header():
    for n in (0, 7, 10_015, 10**9):
        head = prepared.make_header(n, 224)
        assert len(head) == prepared.HEADER_BYTES
        file = BytesIO(head)
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        assert (shape, fortran, dtype) == (
            (n, 224, 224, 3),
            False,
            np.uint8,
        ) and file.tell() == prepared.HEADER_BYTES


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK", "I;16", "YCbCr"])
def test_every_kind_of_pixel_becomes_rgb(mode):
    if mode == "I;16":
        ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
        data, expected = layouts.encode(Image.fromarray(ramp), "PNG"), (ramp // 257).astype(np.uint8)
        assert np.array_equal(np.asarray(decode.to_rgb(data))[..., 1], expected)
        return
    image = layouts.picture(1, 64, 64).convert(mode)
    data = layouts.encode(image, {"CMYK": "TIFF", "YCbCr": "JPEG"}.get(mode, "PNG"))
    assert decode.to_rgb(data).mode == "RGB"


def test_transparent_palettes_and_float_pixels():
    image = layouts.picture(1).convert("P")
    assert decode.to_rgb(layouts.encode(image, "PNG", transparency=bytes(range(256)))).mode == "RGB"
    with pytest.raises(ValueError, match="floating-point"):
        decode.to_rgb(layouts.encode(Image.new("F", (8, 8)), "TIFF"))


def test_a_bomb_is_a_bad_file_not_a_crash(ham, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 45)
    file(ham, 0).write_bytes(
        layouts.encode(layouts.picture(1, 70, 70))
    )  # over the limit: a warning in Pillow
    file(ham, 1).write_bytes(layouts.encode(layouts.picture(2, 200, 200)))  # over twice the limit: an error
    with pytest.raises(UserError, match=r"2 files that are truncated.*more pixels than any photograph"):
        prepare(ham, tmp_path)


def test_a_member_that_claims_too_much_is_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.jpg", b"0")
    where = next(iter(ham10000.scan_files(tmp_path).images.values()))[0]
    done = decode.decode_rows(os.devnull, 0, 32, [(0, replace(where, size=2**40))])
    decode.close_archives()
    assert done[0].problem == "larger than 512 MB"


def test_truncated_images_stay_bad_whatever_others_set(monkeypatch):
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = layouts.encode(layouts.picture(1), "PNG")
    with pytest.raises(OSError):
        decode.to_rgb(data[: len(data) // 2])


def test_merge_groups():
    keys = [["a"], ["b"], ["c", "a"], ["d"], ["b", "d"], ["e"]]
    assert preparing.merge_groups(keys) == [0, 1, 0, 1, 1, 2]


def test_nothing_readable(tmp_path):
    for c in "xy":
        layouts.write(tmp_path / "a" / c / "1.jpg", "no image")
    with pytest.raises(UserError, match="not one image could be read"):
        sources.prepare_dataset(
            f"folder:{tmp_path / 'a'}",
            size=32,
            data=tmp_path / "data",
            options=PrepareOptions(allow_incomplete=True),
        )


def sweep(target):
    with contextlib.suppress(KeyboardInterrupt), staging.open_staging_dir(target, 1, 32):
        raise KeyboardInterrupt


def test_stale_folders_of_dead_processes_only(tmp_path):
    machine, _, mark = owners.format_owner().split("-")
    parent = os.getppid()
    ours, theirs, dead, reused = (
        tmp_path / f".incoming-32-{name}"
        for name in (
            f"{machine}-{parent}-{owners.read_process_start_time(parent)}",
            "00000000-1-1",
            f"{machine}-999999999-{mark}",
            f"{machine}-{parent}-1",  # its number is another process's by now
        )
    )
    for folder in (ours, theirs, dead, reused):
        folder.mkdir()
    sweep(tmp_path / "32")
    assert ours.exists() and theirs.exists() and not dead.exists() and not reused.exists()


def test_leftovers_by_the_name_of_earlier_versions_are_removed_after_a_day(tmp_path):
    host = __import__("socket").gethostname()
    new, old, aside = (
        tmp_path / f".incoming-32-{name}" for name in (f"{host}-12", f"{host}-999999999", f"old-{host}-7")
    )
    for folder in (new, old, aside):
        (folder / "deep").mkdir(parents=True)
    for folder in (old, aside):
        os.utime(folder, (0, 0))
    sweep(tmp_path / "32")
    assert new.exists() and not old.exists() and not aside.exists()


def test_a_set_prepared_by_an_earlier_version_is_read(tmp_path):
    stored = Path(__file__).parents[1] / "fixtures" / "revision4" / "data"
    (target,) = stored.glob("folder-*/32")
    shutil.copytree(target, tmp_path / "32")
    prepared.verify(tmp_path / "32")
    dataset = prepared.load(tmp_path / "32")
    assert len(dataset.ids) == len(dataset.images) > 0
