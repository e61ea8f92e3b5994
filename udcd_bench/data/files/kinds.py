"""What a file is by its name and its first bytes: an image, a table, an image of another format, a cache."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Collection

from udcd_bench.storage.file_names import decode_name as decode_name
from udcd_bench.storage.file_names import encode_name as encode_name

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff",
     ".webp", ".gif")
)  # fmt: skip
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
"""Read of one's own images, where pydicom is installed."""
OWN_SUFFIXES = IMAGE_SUFFIXES | DICOM_SUFFIXES
TABLE_SUFFIXES = frozenset({".csv", ".tab", ".tsv", ""})
UNREAD_FORMATS = frozenset(
    (".dcm", ".dicom", ".ima", ".nii", ".mha", ".mhd", ".nrrd", ".hdr", ".svs", ".ndpi", ".scn", ".mrxs", ".czi",
     ".lif", ".vsi", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".jxl", ".raw", ".cr2", ".cr3",
     ".nef", ".arw", ".dng", ".orf", ".rw2", ".psd", ".svg", ".pgm", ".ppm", ".pnm", ".pbm", ".tga", ".exr", ".fits",
     ".npy", ".npz", ".mat", ".h5", ".hdf5", ".tfrecord", ".parquet", ".crdownload", ".part", ".download")
)  # fmt: skip
"""Images, or arrays of them, that are not read; converted to PNG they would be."""
UNREAD_ARCHIVES = frozenset([".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".001", ".z01"])
TEXT_SUFFIXES = frozenset(
    (".txt", ".md", ".rst", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".html", ".htm", ".pdf",
     ".doc", ".docx", ".xls", ".xlsx", ".py", ".ipynb", ".m", ".r", ".sh", ".log", ".bib", ".tex", ".pt", ".pth",
     ".ckpt", ".safetensors", ".onnx", ".pkl", ".db", ".dvc", ".cff")
)  # fmt: skip
"""Never images, so their bytes are not looked at."""
CACHE_NAMES = frozenset(
    ("__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "recycler", "lost+found",
     "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")
)  # fmt: skip
"""What file managers and file servers leave in folders, in lower case."""

ZIP_START = b"PK\x03\x04"
_SIGNATURES = (
    (b"\xff\xd8\xff", "a JPEG file"),
    (b"\x89PNG", "a PNG file"),
    (b"GIF8", "a GIF file"),
    (b"BM", "a BMP file"),
    (b"II*\0", "a TIFF file"),
    (b"MM\0*", "a TIFF file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\0\0\0\x0cjP", "a JPEG 2000 file"),
    (b"8BPS", "a Photoshop file"),
)

_NO_TABLES = (
    (ZIP_START, "a damaged zip or spreadsheet"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet, to be saved as a CSV in UTF-8"),
    (b"%PDF", "a PDF file"),
    (b"PAR1", "a Parquet file"),
    (b"MATLAB 5", "a MATLAB file"),
    (b"\x1f\x8b", "a gzip archive"),
)


def get_suffix(name: str) -> str:
    """Return the suffix of a name in lower case, with its dot; ``.nii`` also for ``.nii.gz``."""
    lower = name.lower()
    # pathlib takes twice as long, and this is called ten thousand times
    return ".nii" if lower.endswith(".nii.gz") else os.path.splitext(lower)[1]  # noqa: PTH122


def name_format(name: str) -> str:
    """Name the format of a file that is not read by its suffix, ``.nii.gz`` by both."""
    if name.lower().endswith(".nii.gz"):
        return ".nii.gz"
    suffix = get_suffix(name)
    return suffix if suffix in UNREAD_FORMATS else "by another name"


def can_read_dicom() -> bool:
    """Whether pydicom, an extra, is installed."""
    return importlib.util.find_spec("pydicom") is not None


def is_zip(name: str) -> bool:
    """Whether a file is called a zip."""
    return name.lower().endswith(".zip")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or a cache of a file manager."""
    return name.startswith(".") or name.lower() in CACHE_NAMES


def is_placeholder(name: str) -> bool:
    """Whether a file stands for one that a cloud service keeps elsewhere, as in ``.x.jpg.icloud``."""
    return name.endswith(".icloud")


def is_own_folder(names: Collection[str]) -> bool:
    """Whether a folder with these entries was written by this program: results, or prepared images.

    Told by what it holds, since ``--out`` and ``--data`` may call it anything.
    """
    return (
        {"store.json", "runs"} <= set(names)
        or {"images.npy", "manifest.json"} <= set(names)
        or any(re.fullmatch(r"\.\d+\.lock|\.incoming-\d+-.+", name) for name in names)
    )


def describe_image_format(data: bytes) -> str:
    """Name the image format that the first bytes of a file show; empty if they show none."""
    if data[128:132] == b"DICM":
        return "a DICOM file"
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return "a HEIC file" if brand in (b"heic", b"heix", b"mif1", b"msf1") else (
            "an AVIF file" if brand == b"avif" else ""
        )  # fmt: skip
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "a WebP file"
    return next((name for start, name in _SIGNATURES if data.startswith(start)), "")


def describe_pointer(data: bytes) -> str:
    """Say that a file stands for one that Git keeps elsewhere, and how to get that; empty if it does not."""
    start = data[:512].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself: run `git lfs pull`"
    if b"/annex/objects/" in start:
        return "a git-annex pointer, not the file itself: run `git annex get`"
    return ""


def describe_no_image(data: bytes) -> str:
    """Say what a file is that no decoder reads, if its bytes tell."""
    start = data[:512].lstrip().lower()
    if not data:
        return "an empty file"
    if pointer := describe_pointer(data):
        return pointer
    if start.startswith((b"<!doctype html", b"<html")):
        return "not an image but a web page"
    if not data.strip(b"\0"):
        return "nothing but zero bytes"
    name = describe_image_format(data)
    if name == "a DICOM file" and not can_read_dicom():
        return f"{name}: `pip install 'udcd-bench[dicom]'` reads it"
    readable = name.endswith(
        ("JPEG file", "PNG file", "GIF file", "BMP file", "TIFF file", "WebP file", "DICOM file")
    )
    return f"{name}, which is not read: convert it to PNG" if name and not readable else ""


def describe_no_table(start: bytes) -> str:
    """Say what a file is that is given as a table and is none, if its first bytes tell."""
    if start.lstrip().lower().startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the table (run `git lfs pull`)"
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page"
    for begin, name in _NO_TABLES:
        if start.startswith(begin):
            return name
    if start and not start.strip(b"\0"):
        return "nothing but zero bytes"
    return describe_image_format(start) if b"\0" in start else ""  # a header may begin with BM
