"""Predictions for files that a user names: every image of folders and zips, in batches, with what is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from udcd_bench.data.cache import decode
from udcd_bench.data.cache.problems import report_file
from udcd_bench.data.files.archives import FileRef, make_stamp
from udcd_bench.data.files.kinds import is_zip
from udcd_bench.data.files.report import ValidationReport
from udcd_bench.data.files.scan import scan_files
from udcd_bench.errors import UserError, make_printable
from udcd_bench.inference import frames

if TYPE_CHECKING:
    from udcd_bench.data.dataset import Images
    from udcd_bench.inference.stored_run import StoredRun
    from udcd_bench.stats.metrics import Floats


@dataclass(frozen=True)
class ImageFiles:
    """The image files below the paths of a user, in their order.

    report: lines that say what else lay there. n_lost: archives that cannot be read, links that lead nowhere, and DICOM
    files without pydicom.
    """

    files: tuple[FileRef, ...]
    report: tuple[str, ...]
    n_lost: int


class Unreadable(NamedTuple):
    """A file that is no whole image, and what is wrong with it."""

    file: str
    problem: str


@dataclass(frozen=True)
class Predictions:
    """A row a file with ``file`` and the columns of ``frames``, and the files that could not be read.

    report: lines that say what else the files have, or seem to lack, as ``data prepare`` says it of a data set.
    """

    frame: pd.DataFrame
    unreadable: tuple[Unreadable, ...]
    report: tuple[str, ...]


def list_images(paths: Sequence[Path]) -> ImageFiles:
    """List the images that are named, and those of the folders and zips that are. Raises UserError for none."""
    files: dict[tuple[str, ...], FileRef] = {}
    report = ValidationReport()
    for path in paths:
        if not os.path.lexists(path):
            raise UserError(f"There is no file or folder {path}; give images, folders of images, or zips.")
        if path.is_dir() or is_zip(path.name):
            scanned = scan_files(path, own=True)
            scanned.report_left_out(report)
            listed = sorted(scanned.list_images(), key=lambda file: file.display_path)
        else:
            stat = path.stat()
            listed = [FileRef(str(path), (), path.name, stat.st_size, make_stamp(stat))]
        files |= {(file.path, *file.inside): file for file in listed}
    if not files:
        others = report.format_sentence(kind for kind, n in report.counts.items() if n)
        raise UserError(
            f"There is no image in {', '.join(map(str, paths))}{': ' + others if others else ''}."
        )
    n_lost = sum(report.counts[kind] for kind in ("unreadable", "dangling", "no_dicom"))
    return ImageFiles(tuple(files.values()), tuple(report.format_lines()), n_lost)


def predict_files(
    runs: Sequence[StoredRun], files: Sequence[FileRef], progress: Callable[[int], object] = lambda more: None
) -> Predictions:
    """Predict files with a run's network, or with the mean of several runs' probabilities.

    runs: of the same classes and preprocessing. progress: called with how many more files are done.
    """
    first, rows, unreadable = runs[0], [pd.DataFrame(columns=["file"])], []
    report, deepest = ValidationReport(), -1
    for chunk in _split(files, first.batch_size):
        names, pixels = [], []
        for file in chunk:
            result, image = decode.decode_file(0, file, first.transform.decoding)
            if image is None:
                unreadable.append(Unreadable(format_path(file), make_printable(result.problem)))
            else:
                report_file(result, make_printable(format_path(file)), report)
                deepest = max(deepest, result.deep_max)
                names.append(format_path(file))
                pixels.append(decode.resize(image, first.transform.size, first.transform.decoding.resize))
        if pixels:
            columns = frames.build_probability_columns(_average(runs, np.stack(pixels)), first.classes)
            column = pd.Series(names, name="file", dtype=object)  # a path need not be valid text
            rows.append(pd.concat([column, columns], axis=1))
        progress(len(chunk))
    decode.close_archives()
    if 0 <= deepest < 2 ** ((first.transform.decoding.depth or decode.MAX_DEPTH) - 1):
        report.note(
            f"16-bit images use {deepest.bit_length()} bits at most, and come out darker than the run's"
        )
    frame = pd.concat(rows[1:] or rows, ignore_index=True)
    return Predictions(frame, tuple(unreadable), tuple(report.format_lines()))


def format_path(file: FileRef) -> str:
    """Format where a file lies: its path, and within an archive the members that lead to it."""
    return "/".join((file.path, *file.inside))


def _split(files: Sequence[FileRef], n: int) -> Iterator[Sequence[FileRef]]:
    return (files[start : start + n] for start in range(0, len(files), n))


def _average(runs: Sequence[StoredRun], pixels: Images) -> Floats:
    """Average the probabilities (n, C) of several networks."""
    each = [frames.compute_probabilities(run.compute_logits(pixels)) for run in runs]
    mean: Floats = np.mean(each, axis=0)
    return mean
