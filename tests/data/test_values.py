"""What decoded images show: 16 bits of which few are used, darkness, transparency; all of it is said or stops."""

from __future__ import annotations

import io
import itertools
import re
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from support import layouts
from udcd_bench.data import own_images, sources
from udcd_bench.data.cache import decode
from udcd_bench.data.cache.options import Decoding, PrepareOptions
from udcd_bench.errors import UserError

SEEDS = itertools.count(1000)


def tree(root, *folders, n=3):
    for folder, i in itertools.product(folders, range(n)):
        layouts.write(root / folder / f"{i}.png", layouts.encode(layouts.picture(next(SEEDS)), "PNG"))
    return root


def grey_set(root, largest, dtype=np.uint16):
    rng = np.random.default_rng(0)
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        values = rng.integers(0, largest + 1, (40, 40)).astype(dtype)
        values[0, 0] = largest
        layouts.write(root / name, layouts.encode(Image.fromarray(values), "PNG"))
    return f"folder:{root}"


def test_12_bits_in_16_stop_and_depth_fixes_them(tmp_path):
    name, data = grey_set(tmp_path / "set", 4095), tmp_path / "data"
    with pytest.raises(
        UserError, match=r"✗ 4 16-bit images whose values use fewer bits(.|\n)*give --depth 12"
    ):
        sources.load_dataset(name, size=40, data=data)
    done = sources.prepare_dataset(name, size=40, data=data, options=PrepareOptions(depth=12))
    assert done.report == ["· 16-bit images are read as of 12 bits (--depth 12)"] and not done.incomplete
    images = sources.load_dataset(name, size=40, data=data).images
    with Image.open(tmp_path / "set" / "a" / "0.png") as image:
        values = np.asarray(image).astype(int)
    assert np.array_equal(images[0][..., 0], values * 255 // 4095) and images[0].max() == 255
    assert not sources.prepare_dataset(name, size=40, data=data).fresh, "and stays so"
    as_is = sources.prepare_dataset(name, size=40, data=data, options=PrepareOptions(depth=16))
    assert as_is.fresh and as_is.report[0].startswith("· 4 images without a value above 15")
    assert sources.load_dataset(name, size=40, data=data).images.max() == 15
    with pytest.raises(UserError, match=r"a value of 4095 does not fit --depth 10"):
        sources.prepare_dataset(name, size=40, data=data, options=PrepareOptions(depth=10))


def test_the_command_that_goes_on_repeats_the_depth_and_changed_images_keep_it(tmp_path):
    name, data = grey_set(tmp_path / "set", 4095), tmp_path / "data"
    sources.prepare_dataset(name, size=40, data=data, options=PrepareOptions(depth=12))
    (tmp_path / "set" / "a" / "0.png").chmod(0o600)
    assert sources.load_dataset(name, size=40, data=data).images.max() == 255, "decoded again, as before"
    (tmp_path / "set" / "c").mkdir()
    for load in (
        lambda: sources.load_dataset(name, size=40, data=data),
        lambda: sources.prepare_dataset(name, size=40, data=data, options=PrepareOptions(depth=12)),
    ):
        with pytest.raises(UserError) as error:
            load()
        command = f"udcd-bench data prepare {name} --size 40 --depth 12 --data {data} --allow-incomplete"
        assert f"`{command}`" in str(error.value)


def test_a_few_of_12_bits_among_16_are_told_and_a_whole_class_stops(tmp_path):
    """As of two scanners: by the whole set the depth is 16. Where the dark ones are a class, it is the exposure."""
    root = tmp_path / "set"
    grey_set(root, 4095)
    for i in range(2):
        (root / "a" / f"{i}.png").rename(root / "a" / f"dark{i}.png")
    grey_set(tmp_path / "other", 65535)
    shutil.copytree(tmp_path / "other" / "b", root / "b", dirs_exist_ok=True)
    dark = (
        "· 2 images without a value above 15 of 255 (masks? label maps?): a/dark0.png (at most 15), "
        "a/dark1.png (at most 15)"
    )
    told = "1 classes whose 16-bit images are all darker than another's: a (12 bits of 16)"
    with pytest.raises(UserError, match=f"✗ {re.escape(told)}(.|\n)*give --depth 16 to leave them"):
        sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / "data")
    as_is = PrepareOptions(depth=16)
    assert sources.prepare_dataset(
        f"folder:{root}", size=32, data=tmp_path / "data", options=as_is
    ).report == [
        f"· {told}",
        dark,
        "· 16-bit images are read as of 16 bits (--depth 16)",
    ]
    shutil.copytree(tmp_path / "other" / "a", root / "a", dirs_exist_ok=True)
    assert dark in sources.prepare_dataset(f"folder:{root}", size=32, data=tmp_path / "data").report


def test_a_few_bright_pixels_do_not_hide_the_bits(tmp_path):
    name, data = grey_set(tmp_path / "set", 4095), tmp_path / "data"
    for path in sorted((tmp_path / "set").glob("*/*.png")):
        with Image.open(path) as image:
            values = np.asarray(image).copy()
        values[0, :3] = 65535  # a dead pixel, or the mark of a side
        layouts.write(path, layouts.encode(Image.fromarray(values), "PNG"))
    with pytest.raises(UserError, match="use 12 bits come out dark: give --depth 12"):
        sources.load_dataset(name, size=40, data=data)
    report = sources.prepare_dataset(name, size=40, data=data, options=PrepareOptions(depth=12)).report
    assert report[0].startswith(
        "· 4 16-bit images with a few pixels beyond --depth, which become white: a/0.png"
    )
    images = sources.load_dataset(name, size=40, data=data).images
    assert (images[:, 0, :3] == 255).all()
    assert np.array_equal(images[-1][1:, :, 0], values[1:].astype(int) * 255 // 4095)


def png16(values):
    """Encode a PNG of 16 bits a sample, which Pillow cannot write: (h, w, channels) of grey+alpha, RGB or RGBA."""
    height, width, channels = values.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("bits", [12, 14, 16])
def test_colour_of_fewer_bits_stops_whatever_depth_says(channels, bits, tmp_path):
    rng, root, data = np.random.default_rng(0), tmp_path / "set", tmp_path / "data"
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        values = rng.integers(0, 2**bits, (40, 40, channels))
        if channels != 3:
            values[..., -1] = 65535  # opaque
        layouts.write(root / name, png16(values))
    if bits == 16:
        assert sources.prepare_dataset(f"folder:{root}", size=32, data=data).report == []
        return
    for depth in (None, 12):
        with pytest.raises(UserError, match=f"✗ 4 16-bit colour images(.|\n)*use {bits} bits .* is for grey"):
            sources.prepare_dataset(f"folder:{root}", size=32, data=data, options=PrepareOptions(depth=depth))
    left = sources.prepare_dataset(f"folder:{root}", size=32, data=data, options=PrepareOptions(depth=16))
    assert not left.incomplete


def test_colour_tiffs_of_16_bits_are_seen(tmp_path):
    """A TIFF of 48 bits a pixel, written by hand: one strip, without compression."""
    values = np.random.default_rng(0).integers(0, 4096, (40, 40, 3)).astype("<u2")
    tags = [(256, 3, 1, 40), (257, 3, 1, 40), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 200),
            (277, 3, 1, 3), (278, 3, 1, 40), (279, 4, 1, values.nbytes)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", 16) + struct.pack("<3H", 16, 16, 16) + b"\0\0"
    head += struct.pack("<H", len(tags)) + entries + bytes(4)
    data = head.ljust(200, b"\0") + values.tobytes()
    for name in ("a/0.tif", "b/0.tif"):
        layouts.write(tmp_path / "set" / name, data)
    with pytest.raises(UserError, match="16-bit colour images that use 12 bits come out dark"):
        sources.load_dataset(f"folder:{tmp_path / 'set'}", size=32, data=tmp_path / "data")


def test_16_bits_whose_zero_is_white_are_turned_round(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (9, 7)).astype(np.uint16)
    data = layouts.encode(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    with Image.open(io.BytesIO(data)) as image:
        assert image.tag_v2[262] == 0 and np.array_equal(np.asarray(image), values)
    assert np.array_equal(np.asarray(decode.to_rgb(data))[..., 0], (65535 - values.astype(int)) // 257)
    few = layouts.encode(Image.fromarray(values >> 4), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(
        np.asarray(decode.to_rgb(few, Decoding(12)))[..., 0], (4095 - (values >> 4).astype(int)) * 255 // 4095
    )


def test_transparency_without_a_channel_is_told(tmp_path):
    root = tree(tmp_path / "set", "a", "b")
    palette = layouts.picture(3).quantize(8)
    for image, form, key in (
        (palette, "PNG", bytes([255, 9])),
        (palette, "GIF", 1),
        (layouts.picture(4), "PNG", layouts.picture(4).getpixel((2, 2))),
        (layouts.picture(4).convert("L"), "PNG", layouts.picture(4).convert("L").getpixel((2, 2))),
    ):
        name = f"{image.mode}.{form.lower()}"
        layouts.write(root / "b" / name, layouts.encode(image, form, transparency=key))
    layouts.write(root / "b" / "none.png", layouts.encode(palette, "PNG", transparency=bytes([255] * 8)))
    (line,) = sources.prepare_dataset(f"folder:{root}", size=32, data=tmp_path / "data").report[:1]
    assert line.startswith(
        "· 4 images with transparent parts, whose hidden colours are used: b/L.png, b/P.gif"
    )


@pytest.mark.parametrize("largest, bits", [(200, 8), (1023, 10), (32767, 15)])
def test_the_depth_that_is_named_fits(largest, bits, tmp_path):
    with pytest.raises(UserError, match=f"use {bits} bits come out dark: give --depth {bits}"):
        sources.load_dataset(grey_set(tmp_path / "set", largest), size=32, data=tmp_path / "data")


def test_16_bits_that_are_used_and_8_bits_stay_as_they_are(tmp_path):
    for largest, dtype in ((32768, np.uint16), (65535, np.uint16), (200, np.uint8)):
        name = grey_set(tmp_path / str(largest), largest, dtype)
        assert sources.prepare_dataset(name, size=32, data=tmp_path / "data").report == []


def test_label_maps_given_as_images(tmp_path):
    name = grey_set(tmp_path / "set", 7, np.uint8)
    with pytest.raises(UserError, match=r"✗ 4 images without a value above 15 of 255"):
        sources.load_dataset(name, size=32, data=tmp_path / "data")
    tree(tmp_path / "set", "a", "b", n=4)
    layouts.write(tmp_path / "set" / "a" / "grey.png", layouts.encode(Image.new("L", (9, 9), 90), "PNG"))
    layouts.write(tmp_path / "set" / "a" / "9.png", layouts.encode(Image.new("L", (9, 9), 3), "PNG"))
    report = sources.prepare_dataset(name, size=32, data=tmp_path / "data").report
    assert report == [
        "· 1 images without a value above 15 of 255 (masks? label maps?): a/9.png (at most 3)",
        "· 1 images of a single colour: a/grey.png",
    ]


def test_what_an_image_has_and_its_row_has_not_is_told(tmp_path):
    root = tree(tmp_path / "set", "a", "b")
    frames = {"save_all": True, "append_images": [layouts.picture(4)]}
    layouts.write(root / "a" / "stack.tif", layouts.encode(layouts.picture(3), "TIFF", **frames))
    layouts.write(root / "a" / "moving.gif", layouts.encode(layouts.picture(5), "GIF", **frames))
    exif = Image.Exif()
    exif[0x0112] = 6
    layouts.write(root / "b" / "turned.jpg", layouts.encode(layouts.picture(6), exif=exif))
    exif[0x0112] = 1
    layouts.write(root / "b" / "upright.jpg", layouts.encode(layouts.picture(7), exif=exif))
    for name, opacity in (("solid", 255), ("clear", 9)):
        image = layouts.picture(8 + opacity).convert("RGBA")
        image.putalpha(opacity)
        layouts.write(root / "b" / f"{name}.png", layouts.encode(image, "PNG"))
    report = sources.prepare_dataset(f"folder:{root}", size=32, data=tmp_path / "data").report
    assert report == [
        "· 2 images of several frames, of which the first is used: a/moving.gif, a/stack.tif",
        "· 1 images that were turned upright by their EXIF orientation: b/turned.jpg",
        "· 1 images with transparent parts, whose hidden colours are used: b/clear.png",
    ]
    dataset = sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / "data")
    assert list(dataset.report) == report


@pytest.mark.parametrize("depth", [7, 17])
def test_a_depth_that_no_image_has(depth, tmp_path):
    with pytest.raises(UserError, match="--depth must be 8 to 16"):
        sources.prepare_dataset(
            grey_set(tmp_path, 9), size=32, data=tmp_path / "data", options=PrepareOptions(depth=depth)
        )
    with pytest.raises(UserError, match="--depth is for sets of image files, and digits is none"):
        sources.prepare_dataset("digits", size=32, data=tmp_path, options=PrepareOptions(depth=12))


# --- files that end too early -----------------------------------------------------------------------------------------


def photo(kind="JPEG", **options):
    """A file of a picture so rich that zeros in place of its second half decode."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    return layouts.encode(Image.fromarray(noise), kind, **options)


@pytest.mark.parametrize(
    "data",
    [photo(quality=90), photo(quality=90, progressive=True), photo("WEBP", quality=90), photo("GIF"),
     layouts.encode(Image.new("RGB", (500, 500), "white"), "PNG")],
    ids=["jpeg", "progressive", "webp", "gif", "png"],
)  # fmt: skip
def test_a_file_whose_end_is_zeros_is_not_read(data, tmp_path):
    root = tree(tmp_path / "set", "a", "b")
    layouts.write(root / "a" / "x.jpg", data)
    whole = sources.prepare_dataset(f"folder:{root}", size=32, data=tmp_path / "data")
    assert not any("truncated" in line or "cut" in line for line in whole.report)
    layouts.write(root / "a" / "x.jpg", data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(UserError, match=r"✗ 1 files that are truncated or not images: a/x.jpg"):
        sources.prepare_dataset(f"folder:{root}", size=32, data=tmp_path / "data")


def test_zeros_that_decode_are_said(tmp_path):
    data = photo(quality=90)
    with pytest.raises(ValueError, match="bytes are all 0, as of a copy that was not finished"):
        decode.to_rgb(data[: len(data) // 2] + bytes(len(data) // 2))
    assert decode.to_rgb(data + bytes(500)).size == (300, 300), "behind its end a file may be filled"


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_was_cut_and_closed_is_told(mode, progressive, tmp_path):
    root = tree(tmp_path / "set", "a", "b")
    image = layouts.picture(5, 300, 200).convert(mode)
    whole = layouts.encode(image, quality=92, progressive=progressive)
    layouts.write(root / "a" / "whole.jpg", whole)
    layouts.write(root / "a" / "x.jpg", whole[: len(whole) // 2] + b"\xff\xd9")
    report = sources.prepare_dataset(f"folder:{root}", size=32, data=tmp_path / "data").report
    assert report == [
        "· 1 JPEG files that seem cut: their lowest rows are one middle grey, or scans are missing: a/x.jpg"
    ]


@pytest.mark.parametrize("largest, colour", [(1, 0), (0, 90)])
def test_a_class_with_nothing_to_see_stops(largest, colour, tmp_path):
    root = tree(tmp_path / "set", "a", "b")
    for i in range(3):
        values = np.random.default_rng(i).integers(0, largest + 1, (12, 9), np.uint8) + np.uint8(colour + i)
        layouts.write(root / "a" / f"{i}.png", layouts.encode(Image.fromarray(values), "PNG"))
    said = "classes whose images are all black to the eye, or of a single colour each: a"
    with pytest.raises(UserError, match=f"✗ 1 {said}"):
        sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / "data")
    layouts.write(root / "a" / "9.png", layouts.encode(layouts.picture(3), "PNG"))
    assert len(sources.load_dataset(f"folder:{root}", size=32, data=tmp_path / "data").ids) == 7


def test_the_depth_that_was_given_is_repeated_and_kept(tmp_path):
    name, data = grey_set(tmp_path / "set", 4095), tmp_path / "data"
    (tmp_path / "set" / "c").mkdir()
    with pytest.raises(UserError, match=r"--size 40 --depth 12 --data .* --allow-incomplete"):
        sources.prepare_dataset(name, size=40, data=data, options=PrepareOptions(depth=12))
    (tmp_path / "set" / "c").rmdir()
    sources.prepare_dataset(name, size=40, data=data, options=PrepareOptions(depth=12))
    shutil.copy(tmp_path / "set" / "a" / "0.png", tmp_path / "set" / "a" / "new.png")
    dataset = sources.load_dataset(name, size=40, data=data)
    assert len(dataset.ids) == 5 and dataset.images.max() == 255


def test_a_set_prepared_at_two_sizes_is_known_by_both(tmp_path):
    root, data = tree(tmp_path / "set", "a", "b"), tmp_path / "data"
    name = f"folder:{root}"
    first = sources.load_dataset(name, size=32, data=data)
    (root / "a" / "0.png").unlink()
    second = sources.load_dataset(name, size=40, data=data)
    digests = own_images.find_prepared_digests(root, data)
    for size, dataset in ((32, first), (40, second)):
        assert digests[size] and digests[size].startswith(dataset.identity.partition("folder#")[2])
    assert digests[32] != digests[40]
