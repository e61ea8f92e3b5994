"""Every layout the real data sets come in, made from small generated images."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from udcd_bench.data import sources
from udcd_bench.data.cache.options import PrepareOptions
from udcd_bench.data.layouts.image_index import ExpectedCounts

HAM_COUNTS = {"akiec": 2, "bcc": 2, "bkl": 2, "df": 1, "mel": 3, "nv": 6, "vasc": 1}
HAM_IDS = [f"ISIC_{24306 + 7 * i:07d}" for i in range(sum(HAM_COUNTS.values()))]
# Labels are dealt out at random, so that nothing about a class can be read off the order.
HAM_LABELS = (
    np.random.default_rng(3).permutation(np.repeat(list(HAM_COUNTS), list(HAM_COUNTS.values()))).tolist()
)
# Two neighbours of one class are one lesion.
HAM_LESIONS = [
    f"HAM_{(i - 1 if i and HAM_LABELS[i] == HAM_LABELS[i - 1] and i % 2 else i):07d}"
    for i in range(len(HAM_IDS))
]
HAM_PUBLISHED = ExpectedCounts(HAM_COUNTS, groups=len(set(HAM_LESIONS)), group_word="lesions")

APTOS_COUNTS = {"0": 5, "1": 2, "2": 3, "3": 1, "4": 2}
APTOS_IDS = [f"{(i * 2654435761) % 2**32:012x}" for i in range(1, 14)]
APTOS_GRADES = np.repeat(list(APTOS_COUNTS), list(APTOS_COUNTS.values())).tolist()
APTOS_PUBLISHED = ExpectedCounts(APTOS_COUNTS)


def picture(seed: int, width: int = 60, height: int = 45) -> Image.Image:
    """A smooth colour picture, different for every seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "JPEG", **options: int) -> bytes:
    """The bytes of an image file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def write(path: Path, data: bytes | str) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def zipped(folder: Path, *, keep: bool = False) -> Path:
    """Turn a folder into a zip of the same name that holds its files at the top, as Dataverse does."""
    path = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    if not keep:
        shutil.rmtree(folder)
    return path


def ham_images(*folders: Path) -> None:
    """The images, dealt out to the folders in turn."""
    for i, id_ in enumerate(HAM_IDS):
        write(folders[i * len(folders) // len(HAM_IDS)] / f"{id_}.jpg", encode(picture(i)))


def ham_metadata(separator: str = ",") -> str:
    """HAM10000_metadata in the order of the original, which is not that of the ids."""
    rows = [["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]]
    order = np.random.default_rng(5).permutation(len(HAM_IDS))
    rows += [[HAM_LESIONS[i], HAM_IDS[i], HAM_LABELS[i], "histo", "80.0", "male", "scalp"] for i in order]
    if separator == "\t":  # Dataverse quotes the text in its .tab files
        rows = [[f'"{cell}"' for cell in row] for row in rows]
    return "\n".join(separator.join(row) for row in rows) + "\n"


def ham_dataverse(root: Path, *, zips: bool = False, table: str = ".csv", bundle: bool = False) -> Path:
    """The two parts as folders or zips, or all in one zip, and the metadata under one of its names."""
    parts = [root / "HAM10000_images_part_1", root / "HAM10000_images_part_2"]
    ham_images(*parts)
    write(root / f"HAM10000_metadata{table}", ham_metadata("\t" if table == ".tab" else ","))
    if zips:
        for part in parts:
            zipped(part)
    return zipped(root) if bundle else root


def ham_kaggle(root: Path, *, nested: bool = False, doubled: bool = False) -> Path:
    """The Kaggle set of kmader, with the oddities of its several versions."""
    inner = [root / f"HAM10000_images_part_{i}" for i in (1, 2)]
    ham_images(*([part / part.name for part in inner] if nested else inner))
    if doubled:
        for part in inner:
            shutil.copytree(part, root / part.name.lower())
    write(root / "HAM10000_metadata.csv", ham_metadata())
    write(root / "hmnist_8_8_L.csv", "pixel0000,label\n1,2\n")
    return root


def ham_isic(root: Path, *, folder: bool = True) -> Path:
    """ISIC 2018 Task 3: one-hot labels in the challenge's own class order."""
    order = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    ham_images(root / "ISIC2018_Task3_Training_Input")
    write(root / "ISIC2018_Task3_Training_Input" / "LICENSE.txt", "CC BY-NC")
    truth = [",".join(["image", *order])]
    truth += [
        ",".join([id_, *(f"{float(label == name.lower())}" for name in order)])
        for id_, label in zip(HAM_IDS, HAM_LABELS, strict=True)
    ]
    place = root / "ISIC2018_Task3_Training_GroundTruth" if folder else root
    write(place / "ISIC2018_Task3_Training_GroundTruth.csv", "\n".join(truth) + "\n")
    lesions = ["image,lesion_id,diagnosis_confirm_type"]
    lesions += [f"{id_},{lesion},histopathology" for id_, lesion in zip(HAM_IDS, HAM_LESIONS, strict=True)]
    write(root / "ISIC2018_Task3_Training_LesionGroupings.csv", "\n".join(lesions) + "\n")
    write(root / "ISIC2018_Task3_Test_Input" / "ISIC_0034524.jpg", encode(picture(99)))
    return root


ARCHIVE_WORDS = {
    "nv": ("Benign", "Benign melanocytic proliferations", "Nevus"),
    "mel": ("Malignant", "Malignant melanocytic proliferations (Melanoma)", "Melanoma, NOS"),
    "bkl": ("Benign", "Benign epidermal proliferations", "Pigmented benign keratosis"),
    "bcc": ("Malignant", "Malignant adnexal epithelial proliferations - Follicular", "Basal cell carcinoma"),
    "akiec": ("Indeterminate", "Indeterminate epidermal proliferations", "Solar or actinic keratosis"),
    "scc": ("Malignant", "Malignant epidermal proliferations", "Squamous cell carcinoma, NOS"),
    "vasc": ("Benign", "Benign soft tissue proliferations - Vascular", ""),
    "df": ("Benign", "Benign soft tissue proliferations - Fibro-histiocytic", "Dermatofibroma"),
}
"""The three diagnoses of the ISIC Archive; half of akiec is scc there."""
WRITTEN_OUT = {
    "nv": "Melanocytic nevi", "mel": "Melanoma", "bkl": "Benign keratosis-like lesions ", "bcc": "Basal cell carcinoma",
    "akiec": "Actinic keratoses", "vasc": "Vascular lesions", "df": "Dermatofibroma",
}  # fmt: skip


def ham_archive(root: Path, *, one_column: bool = False) -> Path:
    """The export of the ISIC Archive, by three diagnoses or one; one of the challenge's test images is among them."""
    single = {
        "nv": "nevus",
        "akiec": "actinic keratosis",
        "vasc": "vascular lesion",
        "scc": "squamous cell carcinoma",
    }
    rows = [
        "isic_id,age_approx,"
        + ("diagnosis" if one_column else "diagnosis_1,diagnosis_2,diagnosis_3")
        + ",lesion_id"
    ]
    images = zip([*HAM_IDS, "ISIC_0034524"], [*HAM_LABELS, "nv"], [*HAM_LESIONS, "HAM_9"], strict=True)
    n_akiec = 0
    for i, (id_, label, lesion) in enumerate(images):
        n_akiec += label == "akiec"
        key = "scc" if label == "akiec" and n_akiec % 2 else label
        words = (
            [single.get(key, ARCHIVE_WORDS[key][2].lower().removesuffix(", nos"))]
            if one_column
            else ARCHIVE_WORDS[key]
        )
        cells = [f'"{word}"' if "," in word else word for word in words]
        rows.append(",".join([id_, "80", *cells, lesion.replace("HAM", "IL")]))
        write(root / "ISIC-images" / f"{id_}.jpg", encode(picture(i)))
    write(root / "metadata.csv", "\n".join(rows) + "\n")
    write(root / "licenses" / "CC-BY-NC.txt", "licence")
    return root


def ham_written_out(root: Path, *, separator: str = ",", encoding: str = "utf-8") -> Path:
    """The metadata with the classes written out, by another separator and in another encoding."""
    ham_dataverse(root)
    lines = [line.split(",") for line in ham_metadata().splitlines()]
    lines[1:] = [[*cells[:2], WRITTEN_OUT[cells[2]], *cells[3:]] for cells in lines[1:]]
    text = "".join(separator.join(cells) + "\n" for cells in lines)
    (root / "HAM10000_metadata.csv").write_bytes(text.encode(encoding))
    return root


def ham_class_folders(root: Path) -> Path:
    """Class folders, as they are made for readers of folders; the files keep their ids."""
    for i, (id_, label) in enumerate(zip(HAM_IDS, HAM_LABELS, strict=True)):
        name = WRITTEN_OUT[label].strip() if label in ("nv", "mel") else label
        write(root / ("test" if i % 5 == 0 else "train") / name / f"{id_}.jpg", encode(picture(i)))
    return root


def _grades(rows: range, columns: str = "id_code,diagnosis") -> str:
    return "\n".join([columns, *(f"{APTOS_IDS[i]},{APTOS_GRADES[i]}" for i in rows)]) + "\n"


def aptos_competition(root: Path) -> Path:
    """The competition's own files, with its unlabelled test images."""
    for i, id_ in enumerate(APTOS_IDS):
        write(root / "train_images" / f"{id_}.png", encode(picture(100 + i), "PNG"))
    write(root / "train.csv", _grades(range(len(APTOS_IDS))))
    write(root / "test.csv", "id_code\n0005cfc8afb6\n")
    write(root / "test_images" / "0005cfc8afb6.png", encode(picture(200), "PNG"))
    return root


def aptos_resized(root: Path) -> Path:
    """The resized 2015 and 2019 set: folders with spaces in their names, JPEG, another year beside it."""
    for i, id_ in enumerate(APTOS_IDS):
        write(root / "resized train 19" / f"{id_}.jpg", encode(picture(100 + i)))
    write(root / "labels" / "trainLabels19.csv", _grades(range(len(APTOS_IDS))))
    write(root / "labels" / "trainLabels15.csv", "image,level\n10_left,0\n")
    write(root / "labels" / "testImages19.csv", "id_code\n0005cfc8afb6\n")
    write(root / "resized train 15" / "10_left.jpg", encode(picture(201)))
    write(root / "resized test 19" / "0005cfc8afb6.jpg", encode(picture(200)))
    return root


def aptos_three_way(root: Path) -> Path:
    """Split in three by someone, all three labelled, every folder nested in itself."""
    n = len(APTOS_IDS)
    for table, name, rows in (
        ("train_1.csv", "train_images", range(n - 4)),
        ("valid.csv", "val_images", range(n - 4, n - 2)),
        ("test.csv", "test_images", range(n - 2, n)),
    ):
        write(root / table, _grades(rows))
        for i in rows:
            write(root / name / name / f"{APTOS_IDS[i]}.png", encode(picture(100 + i), "PNG"))
    return root


def aptos_class_folders(
    root: Path, name: str = "gaussian_filtered_images", *, filtered: bool = False
) -> Path:
    """The copies sorted by grade, 32×32, with the table; filtered: around the eye they are mid-grey."""
    grades = ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR")
    for i, id_ in enumerate(APTOS_IDS):
        folder = root / name / name / grades[int(APTOS_GRADES[i])]
        image = Image.new("RGB", (32, 32), (128, 128, 129) if filtered else (0, 0, 0))
        image.paste(picture(100 + i, 20, 20), (6, 6))
        write(folder / f"{id_}.png", encode(image, "PNG"))
    write(root / "train.csv", _grades(range(len(APTOS_IDS))))
    return root


def aptos_numbered(root: Path) -> Path:
    """Sorted into folders called by the grades, in parts, without a table; unlabelled test images beside them."""
    write(root / "test_images" / "0005cfc8afb6.png", encode(picture(200), "PNG"))
    for i, id_ in enumerate(APTOS_IDS):
        part = "test" if i % 4 == 0 else "train"
        write(root / part / str(APTOS_GRADES[i]) / f"{id_}.png", encode(picture(100 + i), "PNG"))
    return root


def class_folders(
    root: Path, classes: tuple[str, ...] = ("bénin", "mal'in", 'x "y" z'), each: int = 3
) -> Path:
    """One subfolder a class, with names that trip careless code."""
    for c, name in enumerate(classes):
        for i in range(each):
            write(root / name / f"image {i} é'.png", encode(picture(300 + 10 * c + i), "PNG"))
    return root


def medmnist_file(
    path: Path,
    n: tuple[int, int, int] = (12, 4, 6),
    *,
    grey: bool = True,
    labels: int = 1,
    **replaced: object,
) -> Path:
    """An npz file as MedMNIST ships it."""
    rng = np.random.default_rng(0)
    arrays: dict[str, object] = {}
    for split, count in zip(("train", "val", "test"), n, strict=True):
        shape = (count, 28, 28) if grey else (count, 28, 28, 3)
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count * labels).reshape(count, labels) % 3).astype(np.uint8)
    arrays |= replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def published(ham: Path, aptos: Path) -> None:
    """HAM10000 and APTOS 2019 with as many images, classes and lesions as published, all of them specks of noise.

    The first comes in two zips, as Dataverse has it, the second as files.
    """
    rng = np.random.default_rng(11)
    counts = {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
    second = 10015 - 7470  # so many photographs show a lesion again, all of them of the first class
    rows = ["lesion_id,image_id,dx"]
    ham.mkdir(parents=True)
    parts = [zipfile.ZipFile(ham / f"HAM10000_images_part_{part}.zip", "w") for part in (1, 2)]
    for i, label in enumerate(np.repeat(list(counts), list(counts.values()))):
        lesion = i - second if second <= i < 2 * second else i
        rows.append(f"HAM_{lesion:07d},ISIC_{i:07d},{label}")
        parts[i % 2].writestr(zipfile.ZipInfo(f"ISIC_{i:07d}.jpg"), _speck(rng, "JPEG"))
    for part in parts:
        part.close()
    write(ham / "HAM10000_metadata.csv", "\n".join(rows) + "\n")
    rows = ["id_code,diagnosis"]
    for i, grade in enumerate(np.repeat(range(5), [1805, 370, 999, 193, 295])):
        rows.append(f"{i:012x},{grade}")
        write(aptos / "train_images" / f"{i:012x}.png", _speck(rng, "PNG"))
    write(aptos / "train.csv", "\n".join(rows) + "\n")


def _speck(rng: np.random.Generator, kind: str) -> bytes:
    return encode(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)), kind)


def isic_part(root: Path, part: str, n_per_class: int, *, folders: tuple[str, ...] = ()) -> Path:
    """The challenge's ``Test`` or ``Validation`` images with their ground truth; folders: between the two and root."""
    order = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    rows = [",".join(["image", *order])]
    images = Path(root, *folders, f"ISIC2018_Task3_{part}_Input")
    for number in range(n_per_class * len(order)):
        id_, label = f"ISIC_{34524 + number:07d}", order[number % len(order)]
        write(images / f"{id_}.jpg", encode(picture(500 + number)))
        rows.append(",".join([id_, *(f"{float(label == name)}" for name in order)]))
    write(images / "ATTRIBUTION.txt", "CC BY-NC")
    write(root / f"ISIC2018_Task3_{part}_GroundTruth.csv", "\n".join(rows) + "\n")
    return root


def prepare(name, root, data, **options):
    """Prepare a set from such a folder at 32 pixels."""
    return sources.prepare_dataset(name, size=32, data=data, options=PrepareOptions(root, **options))
