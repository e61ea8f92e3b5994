"""One's own images: which column groups them, what they are called, how their files are read."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from support import layouts
from udcd_bench.data import own_images, sources
from udcd_bench.data.cache import decode, prepared
from udcd_bench.data.cache.options import Decoding, PrepareOptions
from udcd_bench.data.files import kinds
from udcd_bench.data.layouts import folder
from udcd_bench.errors import UserError
from udcd_bench.runs import names

N = 12


def table(root, head, *columns):
    """A CSV of twelve images of two classes, with further columns."""
    rows = ["path,label," + head] if head else ["path,label"]
    for i in range(N):
        layouts.write(root / "im" / f"{i}.png", layouts.encode(layouts.picture(i, 40, 30), "PNG"))
        rows.append(",".join([f"im/{i}.png", "ab"[i % 2], *(str(column[i]) for column in columns)]))
    return layouts.write(root / "labels.csv", "\n".join(rows) + "\n")


def prepare(path, **options):
    """The set, prepared beside its table under these options, and its report."""
    target = sources.prepare_dataset(
        f"folder:{path}", size=32, data=path.parent / "data", options=PrepareOptions(**options)
    )
    return prepared.load(target.path), list(target.report)


def load(path, size=32, **reading):
    options = sources.LoadOptions(reading=PrepareOptions(**reading))
    return sources.load_dataset(f"folder:{path}", size=size, data=path.parent / "data", options=options)


# --- groups -------------------------------------------------------------------------------------------------------

PATIENTS = [i // 2 for i in range(N)]


@pytest.mark.parametrize(
    "name",
    ["patient", "patient_id", "Patient ID", "PATIENTID", "subject", "Subject_No", "case", "lesion_id", "group",
     "Groups", "PID", "MRN", "StudyInstanceUID", "participant_code"],
)  # fmt: skip
def test_the_usual_names_of_a_group_are_taken_and_said(name, tmp_path):
    index = folder.read_index(table(tmp_path, name, PATIENTS))
    assert [item.group for item in sorted(index.items, key=lambda item: int(item.id[:-4]))] == list(
        map(str, PATIENTS)
    )
    assert index.group_column == name
    assert index.report.notes == [f"groups are those of the column {name}; --group-column takes another"]


@pytest.mark.parametrize("name", ["age_group", "lesion_type", "patient_sex", "casework", "path2", "id"])
def test_other_names_are_no_groups(name, tmp_path):
    index = folder.read_index(table(tmp_path, name, PATIENTS))
    assert not index.group_column and index.report.notes == [f"columns that are not read: {name}"]


def test_of_several_columns_the_one_that_holds_the_others_is_taken(tmp_path):
    lesions = list(range(N))
    index = folder.read_index(table(tmp_path, "lesion_id,patient_id,age", lesions, PATIENTS, lesions))
    assert index.group_column == "patient_id"
    assert index.report.notes[1] == "columns that are not read: lesion_id, age"


def test_case_and_control_is_no_group_and_that_is_said(tmp_path):
    index = folder.read_index(table(tmp_path, "case,study", [i % 2 for i in range(N)], ["X"] * N))
    assert not index.group_column and index.report.notes == [
        "the column case has 2 values and is not taken for groups",
        "the column study has 1 values and is not taken for groups",
        "columns that are not read: case, study",
    ]
    assert folder.read_index(tmp_path / "labels.csv", "case").group_column == "case"


def test_a_nameless_first_column_is_no_group(tmp_path):
    """What pandas writes: its own numbers, without a name."""
    rows = [f"{i},im/{i}.png,{'ab'[i % 2]}" for i in range(N)]
    table(tmp_path, "")
    index = folder.read_index(layouts.write(tmp_path / "t.csv", "\n".join([",path,label", *rows])))
    assert not any(item.group for item in index.items)


def test_a_named_column_is_taken_and_remembered_at_every_size(tmp_path):
    path = table(tmp_path, "site,patient_id", [i % 3 for i in range(N)], PATIENTS)
    dataset, report = prepare(path, group_column="Site")
    assert dataset.group_column == "site" and len(set(dataset.groups.tolist())) == 3
    assert report[0] == "· groups are those of the column site, by --group-column"
    for size in (32, 48):
        assert load(path, size).group_column == "site", "as it was said before"
    again, _ = prepare(path)
    assert again.group_column == "site"
    other = load(path, group_column="patient_id")
    assert other.group_column == "patient_id" and other.identity != dataset.identity
    assert load(path).group_column == "patient_id"


def test_a_column_that_is_not_there_is_refused(tmp_path):
    path = table(tmp_path, "site,age", PATIENTS, PATIENTS)
    with pytest.raises(
        UserError, match=r"has no column 'ward' to group by; give --group-column one of: site, age"
    ):
        prepare(path, group_column="ward")
    with pytest.raises(UserError, match="im is none; list its images in one"):
        prepare(tmp_path / "im", group_column="site")
    with pytest.raises(
        UserError, match="--group-column is for images of your own, folder:PATH, and digits is none"
    ):
        sources.prepare_dataset("digits", size=32, data=tmp_path, options=PrepareOptions(group_column="x"))


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, name",
    [
        ("derm/labels.csv", "derm"),
        ("derm/group.csv", "derm"),
        ("derm/data/Metadata.csv", "derm"),
        ("derm/derm2020.csv", "derm2020"),
        ("/labels.csv", "labels"),
        ("derm", "derm"),
        ("derm/labels.zip", "labels"),
        ("derm/labels.csv@skin lesions", "skin lesions"),
        ("a@b/c", "c"),
        ("x@", "x@"),
        ("x@y#z", "x@y#z"),
    ],
)
def test_what_own_images_are_called(path, name):
    assert names.parse_place(path).name == name
    assert names.parse_place(f"folder:{path}").path == path.partition("@skin")[0]


def test_a_path_with_an_at_is_a_path(tmp_path):
    (tmp_path / "me@home").mkdir()
    assert names.parse_place(f"{tmp_path}/me@home") == (f"{tmp_path}/me@home", "me@home")


def test_a_given_name_is_the_title_and_changes_nothing_else(tmp_path):
    path = table(tmp_path / "derm", "patient", PATIENTS)
    plain = load(path)
    named = sources.load_dataset(f"folder:{path}@skin", size=32, data=path.parent / "data")
    digest = plain.identity.partition("#")[2][:4]
    assert (plain.title, named.title) == (f"derm ({digest})", f"skin ({digest})")
    assert (plain.identity, plain.fingerprint) == (named.identity, named.fingerprint)
    assert len(sources.list_prepared(f"folder:{path}@skin", path.parent / "data")) == 1


# --- orientation and proportions ----------------------------------------------------------------------------------


def turned(orientation):
    """A JPEG of 40 × 30 pixels whose left half is white, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((30, 40), np.uint8)
    pixels[:, :20] = 255
    return layouts.encode(Image.fromarray(pixels).convert("RGB"), "JPEG", quality=100, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_is_applied_as_pillow_applies_it(orientation):
    from PIL import ImageOps

    data = turned(orientation)
    with Image.open(io.BytesIO(data)) as image:
        wanted = ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(decode.to_rgb(data, Decoding(exif="apply")), wanted)
    assert decode.to_rgb(data).size == (40, 30), "as the released code"


def exif_set(root):
    layouts.class_folders(root, ("a", "b"), 3)
    layouts.write(root / "a" / "turned.jpg", turned(6))
    return root


def test_own_images_are_upright_and_may_be_left_as_they_are_stored(tmp_path):
    root = exif_set(tmp_path / "set")
    dataset, report = prepare(root)
    assert report == ["· 1 images that were turned upright by their EXIF orientation: a/turned.jpg"]
    row = dataset.images[dataset.ids.index("a/turned.jpg")]
    assert row[:12].min() > 200 and row[20:].max() < 60, "white is above"
    stored, report = prepare(root, exif="ignore")
    assert report == ["· 1 images with an EXIF orientation, which is ignored: a/turned.jpg"]
    row = stored.images[stored.ids.index("a/turned.jpg")]
    assert row[:, :12].min() > 200 and stored.identity != dataset.identity
    assert load(root).exif == "ignore", "as it was said before"
    manifest = json.loads(
        (tmp_path / "data" / sources.make_slug(f"folder:{root}") / "32/manifest.json").read_text()
    )
    assert (manifest["exif"], manifest["resize"]) == ("ignore", "squash")


def test_sets_that_no_reading_changes_keep_their_identity(tmp_path):
    """What earlier versions called them: runs on them stay theirs."""
    layouts.class_folders(tmp_path / "set", ("a", "b"), 3)
    one, other = prepare(tmp_path / "set")[0], prepare(tmp_path / "set", exif="ignore")[0]
    assert one.identity == other.identity and one.fingerprint == other.fingerprint


@pytest.mark.parametrize("how", ["squash", "pad", "crop"])
def test_what_becomes_of_proportions(how):
    image = Image.new("RGB", (64, 32), (255, 255, 255))
    image.paste((255, 0, 0), (0, 0, 16, 32))
    pixels = decode.resize(image, 32, how)
    is_black, is_red = (pixels == 0).all(2), (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
    assert pixels.shape == (32, 32, 3)
    assert is_black[[0, 31]].all() == is_black.any() == (how == "pad")
    assert is_red[16, 0] == (how != "crop"), "the centre has no red"
    assert is_black.mean() == (0.5 if how == "pad" else 0)


def test_proportions_are_remembered_in_the_manifest_and_told_apart(tmp_path):
    path = table(tmp_path, "patient", PATIENTS)
    squashed = load(path)
    padded = load(path, resize="pad")
    assert (squashed.resize, padded.resize, load(path).resize) == ("squash", "pad", "pad")
    assert padded.identity != squashed.identity and padded.fingerprint != squashed.fingerprint
    assert prepare(path, resize="squash")[0].identity == squashed.identity


def test_a_set_of_an_earlier_version_is_prepared_again(tmp_path, caplog):
    from udcd_bench.data.cache.staging import hash_manifest

    path = table(tmp_path, "patient", PATIENTS)
    dataset, _ = prepare(path)
    file = next((tmp_path / "data").glob("*/32/manifest.json"))
    manifest = json.loads(file.read_text())
    for name in ("exif", "resize", "group_column", "column_given"):
        del manifest[name]
    manifest["sha256"]["manifest"] = hash_manifest(manifest)
    file.write_text(json.dumps(manifest))
    again = load(path)
    assert again.group_column == "patient" and again.identity == dataset.identity
    assert "prepared by an earlier version" in caplog.text
    assert own_images.find_depth(file.parent) is None


# --- DICOM and other formats --------------------------------------------------------------------------------------


def dicom(values, pixels=None, **tags):
    """The bytes of a DICOM file of these values, (h, w) or (frames, h, w) uint16 or int16, of 12 bits.

    pixels: that are stored in place of the values.
    """
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = (values if pixels is None else pixels).tobytes()
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def grey(data):
    pixels = np.asarray(decode.to_rgb(data))
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


def test_the_window_of_the_file_is_used():
    """DICOM PS3.3 C.11.2.1.2.1: below centre − 0.5 − (width − 1) / 2 black, above it white, a line between."""
    data = dicom(RAMP, WindowCenter=1000, WindowWidth=400)
    x = RAMP.astype(float)
    wanted = np.clip((x - 999.5) / 399 + 0.5, 0, 1) * 255
    assert np.abs(grey(data) - wanted).max() <= 0.51
    several = dicom(RAMP, WindowCenter=[1000, 50], WindowWidth=[400, 10])
    assert np.array_equal(grey(several), grey(data)), "the first of several"


@pytest.mark.parametrize("slope", [2, -2])
def test_a_window_is_in_the_units_of_the_rescaled_values(slope):
    values = RAMP.astype(np.int16) - 2048
    data = dicom(values, RescaleSlope=slope, RescaleIntercept=-100, WindowCenter=40, WindowWidth=400)
    wanted = np.clip((values * slope - 100.0 - 39.5) / 399 + 0.5, 0, 1) * 255
    assert np.abs(grey(data) - wanted).max() <= 0.51


def test_a_file_without_a_window_is_scaled_by_its_bits_not_by_its_own_extremes():
    assert np.abs(grey(dicom(RAMP // 2)) - (RAMP // 2) * (255 / 4095)).max() <= 0.51
    assert np.array_equal(grey(dicom(RAMP, PhotometricInterpretation="MONOCHROME1")), 255 - grey(dicom(RAMP)))


def test_a_lookup_table_in_place_of_a_window():
    """VOI LUT: 4096 entries of 8 bits, here the values backwards."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 8])
    table.add_new("LUTData", "US", [255 - i // 16 for i in range(4096)])
    assert np.array_equal(grey(dicom(RAMP, VOILUTSequence=Sequence([table]))), 255 - RAMP // 16)


def test_colour_is_read_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    data = dicom(pixels[..., 0], PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0,
                 BitsAllocated=8, BitsStored=8, HighBit=7, pixels=pixels)  # fmt: skip
    assert np.array_equal(decode.to_rgb(data), pixels)


def test_dicom_that_grows_or_is_no_photograph_is_not_read():
    with pytest.raises(ValueError, match="deflated DICOM, which is not read"):
        decode.to_rgb(dicom(RAMP).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"))
    with pytest.raises(ValueError, match="more pixels than any photograph"):
        decode.to_rgb(dicom(RAMP, Rows=65000, Columns=65000))
    with pytest.raises(ValueError, match="pydicom cannot read it"):
        decode.to_rgb(dicom(RAMP)[:-100])


def dicom_set(root):
    for c, name in enumerate("ab"):
        for i in range(3):
            stack = np.stack([np.roll(RAMP, 700 * c + 90 * i), RAMP[::-1]])
            window = {} if i else {"WindowCenter": 2000, "WindowWidth": 4000}
            layouts.write(root / name / f"{i}.dcm", dicom(stack if i == 2 else stack[0], **window))
    return root


def test_dicom_files_are_images_and_what_was_read_of_them_is_in_the_manifest(tmp_path):
    root = dicom_set(tmp_path / "set")
    dataset, report = prepare(root)
    assert len(dataset.ids) == 6 and dataset.ids[0] == "a/0.dcm"
    assert report == [
        "· 2 images of several frames, of which the first is used: a/2.dcm, b/2.dcm",
        "· 6 DICOM images, read by pydicom: the first frame, through the window that the file states: a/0.dcm, "
        "a/1.dcm, a/2.dcm, …",
        "· 4 DICOM images that state no window, scaled by all bits that they may use: a/1.dcm, a/2.dcm, b/1.dcm, …",
    ]
    first = decode.resize(
        Image.fromarray(grey(dicom(np.roll(RAMP, 180))).astype(np.uint8)).convert("RGB"), 32
    )
    assert np.array_equal(dataset.images[2], first)
    rows = "\n".join(["path,label", *(f"set/{name},{name[0]}" for name in dataset.ids)])
    listed, _ = prepare(layouts.write(tmp_path / "t.csv", rows))
    assert np.array_equal(listed.images, dataset.images)


def test_without_pydicom_the_install_line_is_said_and_nothing_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(kinds, "can_read_dicom", lambda: False)
    root = dicom_set(tmp_path / "set")
    for name in "ab":
        layouts.write(root / name / "x.png", layouts.encode(layouts.picture(ord(name)), "PNG"))
    line = r"DICOM files \(`pip install 'udcd-bench\[dicom\]'` reads them\): a/0.dcm"
    with pytest.raises(UserError, match=f"✗ 6 {line}"):
        prepare(root)
    assert not list((tmp_path / "data").glob("*/32"))
    for file in root.glob("*/x.png"):
        file.unlink()
    line = r"set holds 6 DICOM files, such as a/0.dcm: `pip install 'udcd-bench\[dicom\]'` reads them"
    with pytest.raises(UserError, match=line):
        prepare(root)


def test_other_formats_are_counted_by_name(tmp_path):
    root = tmp_path / "set"
    layouts.class_folders(root, ("a", "b"), 100)
    for i, suffix in enumerate((".nii.gz", ".nii.gz", ".nii.gz", ".svs", ".svs", ".heic")):
        layouts.write(root / "a" / f"{i}{suffix}", "x")
    notes = folder.read_index(root).report.notes
    assert notes == ["files of formats that are not read are skipped: 3 .nii.gz, 2 .svs, 1 .heic"]
