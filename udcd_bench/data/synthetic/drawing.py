"""What the two procedurally drawn stand-ins share: noise, spots, strokes, labels, and a process pool.

Everything is drawn in units of the picture (it spans -1..1 both ways, y downwards) on a canvas of at least
`FINEST` pixels a side that is averaged down at the end, so one index is the same picture at every size.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from udcd_bench.data import workers
from udcd_bench.data.dataset import Images, Ints
from udcd_bench.errors import UserError

Field = npt.NDArray[np.floating]
"""A (side, side) map, or (3, side, side) where it is a colour."""

MIN_SIZE, MAX_SIZE = 32, 224
MIN_CANVAS_SIDE = 96
PRODUCT_ROWS = 16
CHUNK = 16  # images a worker draws per task: 2.4 MB at 224, so neither pickling nor waiting shows


class DrawFunction(Protocol):
    """How one image is made; a module-level function, so that worker processes can import it."""

    def __call__(self, index: int, label: int, size: int, seed: int, group: int) -> Images:
        """The (size, size, 3) image, from nothing but these arguments."""


def compute_canvas_side(size: int) -> int:
    """The side to draw at for an image of ``size``: a multiple of it, at least `FINEST`."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UserError(
            f"synthetic images are drawn at {MIN_SIZE} to {MAX_SIZE} pixels a side, not at {size}"
        )
    return size * math.ceil(MIN_CANVAS_SIDE / size)


def make_generator(seed: int, number: int, stream: int) -> np.random.Generator:
    """The random numbers of image (or lesion, by ``stream``) ``number``, independent of all the others."""
    return np.random.default_rng(np.random.SeedSequence([seed, number, stream]))


@lru_cache(maxsize=8)
def make_grid(side: int) -> tuple[Field, Field]:
    """The x (1, side) and y (side, 1) of pixel centres."""
    line = ((2 * np.arange(side, dtype=np.float32) + 1) / side - 1).astype(np.float32)
    return line[None, :], line[:, None]


@lru_cache(maxsize=8)
def make_polar_grid(side: int) -> tuple[Field, Field]:
    """Radius and angle (-pi..pi) of pixel centres."""
    x, y = make_grid(side)
    return np.hypot(x, y), np.arctan2(y, x)


@lru_cache(maxsize=64)
def _make_spline_basis(side: int, cells: int, octaves: int) -> Field:
    """Cubic B-spline weights, all octaves side by side: two products make smooth noise of lattices."""
    columns = []
    for octave in range(octaves):
        at = (np.arange(side) + 0.5) / side * (cells << octave)
        d = np.abs(at[:, None] - (np.arange((cells << octave) + 3)[None, :] - 1.0))
        columns.append(np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0.0)))
    return np.concatenate(columns, 1).astype(np.float32)


def make_noise(
    rng: np.random.Generator, side: int, cells: int, octaves: int = 1, gain: float = 0.55
) -> Field:
    """Smooth noise, mean 0 and deviation about 1; ``cells`` features across, twice as many each octave."""
    basis = _make_spline_basis(side, cells, octaves)
    lattice = np.zeros((basis.shape[1], basis.shape[1]), np.float32)
    # 0.479: the mean sum of squared B-spline weights along one axis
    scale = 1 / (0.479 * math.sqrt(sum(gain ** (2 * octave) for octave in range(octaves))))
    start = 0
    for octave in range(octaves):
        k = (cells << octave) + 3
        block = rng.standard_normal((k, k), dtype=np.float32)
        lattice[start : start + k, start : start + k] = block * np.float32(scale * gain**octave)
        start += k
    # A few rows at a time: BLAS would spread a larger product over all cores, which costs many times what it
    # saves at this size, and in every process at once.
    rows = np.pad(basis, ((0, -side % PRODUCT_ROWS), (0, 0))).reshape(-1, PRODUCT_ROWS, start)
    field: Field = (rows @ lattice @ basis.T).reshape(-1, side)[:side]
    return field


def make_mesh(rng: np.random.Generator, side: int, cells: int, jitter: float = 0.75) -> tuple[Field, Field]:
    """A net of irregular meshes: distance to the nearest mesh centre and to the nearest line, in meshes."""
    lattice = rng.uniform(0.5 - jitter / 2, 0.5 + jitter / 2, (2, cells + 4, cells + 4)).astype(np.float32)
    lattice[0, ::2] += 0.5  # every second row half a mesh on: honeycomb rather than chessboard
    lattice[0] += np.arange(cells + 4, dtype=np.float32)[None, :] - 2
    lattice[1] += np.arange(cells + 4, dtype=np.float32)[:, None] - 2
    at = ((np.arange(side, dtype=np.float32) + 0.5) * (cells / side)).astype(np.float32)
    cell = at.astype(np.intp) + 2
    first = np.full((side, side), 9, np.float32)
    second = first.copy()
    for dy in (-1, 0, 1):
        row = lattice[:, cell + dy]
        for dx in (-1, 0, 1):
            px, py = row[0].take(cell + dx, 1), row[1].take(cell + dx, 1)
            px -= at[None, :]
            py -= at[:, None]
            px *= px
            py *= py
            px += py
            np.maximum(first, np.minimum(second, px, out=second), out=second)
            np.minimum(first, px, out=first)
    np.sqrt(first, out=first)
    np.sqrt(second, out=second)
    return first, second - first


def smoothstep(value: Field, low: float, high: float) -> Field:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t: Field = np.clip((value - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def draw_spots(
    rng: np.random.Generator,
    side: int,
    centres: Field,
    radius: tuple[float, float],
    amount: tuple[float, float],
    soft: float = 0.5,
    flat: float = 1.3,
    angle: Field | None = None,
    wobble: Field | None = None,
) -> Field:
    """A map of discs or ellipses at the (n, 2) places ``at``; where they overlap the stronger counts.

    Radii, amounts and flattening (at most ``flat``) are uniform between their bounds; ``soft`` is the share
    of the radius over which the rim fades; ``angle`` is random if not given; ``wobble``, a noise map, dents
    the rims.
    """
    field = np.zeros((side, side), np.float32)
    n = len(centres)
    sizes, strengths = rng.uniform(*radius, n), rng.uniform(*amount, n)
    oval = np.sqrt(rng.uniform(1, flat, n))
    turns = rng.uniform(0, np.pi, n) if angle is None else angle
    xs, ys = make_grid(side)
    todo = np.stack([*centres.T, sizes * oval, sizes / oval, strengths, turns], 1)
    for x, y, a, b, strength, turn in todo.tolist():
        reach = 1.5 * a + 2 / side
        left, right = int((x - reach + 1) / 2 * side), int((x + reach + 1) / 2 * side) + 1
        top, bottom = int((y - reach + 1) / 2 * side), int((y + reach + 1) / 2 * side) + 1
        window = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
        dx, dy = xs[:, window[1]] - x, ys[window[0]] - y
        c, s = math.cos(turn), math.sin(turn)
        d = np.sqrt(((c * dx + s * dy) * (1 / a)) ** 2 + ((c * dy - s * dx) * (1 / b)) ** 2)
        if wobble is not None:
            d += wobble[window]
        fade = max(soft, 2.0 / side / b)  # never sharper than a pixel
        d = np.clip((1 + fade / 2 - d) * (strength / fade), 0, strength)
        np.maximum(field[window], d, out=field[window])
    return field


Stroke = tuple[Field, float, float]
"""(k, 2) points, the width at the first and at the last."""


def draw_strokes(side: int, paths: Sequence[Stroke]) -> Field:
    """How much of each pixel the paths cover, 0..1."""
    factor = 4  # a hair is about a pixel at 224, so its width needs quarters
    large = side * factor
    image = Image.new("L", (large, large))
    pen = ImageDraw.Draw(image)
    for points, first, last in paths:
        pixels = [tuple(p) for p in ((points + 1) * (large / 2)).tolist()]
        pieces = 1 if first == last else min(len(pixels) // 4, 4)
        for piece in range(pieces):
            start, stop = (len(pixels) - 1) * piece // pieces, (len(pixels) - 1) * (piece + 1) // pieces
            width = max(1, round((first + (last - first) * (piece + 0.5) / pieces) * large / 2))
            joint = "curve" if width > 9 else None  # rounding the joints is slow, and unseen where thin
            pen.line(pixels[start : stop + 1], fill=255, width=width, joint=joint)
    return np.asarray(image.reduce(factor), np.float32) * np.float32(1 / 255)


def to_image(planes: Field) -> Image.Image:
    """(3, side, side) in 0..1 as an 8-bit picture. Planar until here, since numpy is fast along rows."""
    levels = np.clip(planes * 255 + np.float32(0.5), 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(levels, 0, -1)))


def finish(planes: Field, size: int, blur: float = 0.0) -> Images:
    """The (3, side, side) canvas out of focus by ``blur`` (in units of the picture), averaged to ``size``."""
    picture = to_image(planes)
    if blur > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(blur * picture.width / 2))
    return np.array(picture.reduce(picture.width // size))


def make_proportional_labels(n: int, counts: Sequence[int], seed: int, least: int = 10) -> Ints:
    """Shuffled (n,) labels in the proportions of ``counts``, by largest remainder.

    Every class has at least ``least`` images when n allows that: a rare one is raised to it and the others
    share what is left.
    """
    C = len(counts)
    share = np.zeros(C, np.int64)
    free = np.ones(C, bool)
    while free.any():
        left = n - int(share[~free].sum())
        quota = np.where(free, counts, 0) * left / np.asarray(counts)[free].sum()
        floor = np.floor(quota).astype(np.int64)
        order = np.argsort(np.where(free, floor - quota, 1), kind="stable")
        floor[order[: left - int(floor.sum())]] += 1
        share[free] = floor[free]
        rare = free & (share < least)
        if n < least * C or not rare.any():
            break
        share[rare] = least
        free &= ~rare
    labels = np.repeat(np.arange(C, dtype=np.int64), share)
    return np.random.default_rng(np.random.SeedSequence([seed, n, C])).permutation(labels)


def _draw_rows(
    draw: DrawFunction, start: int, labels: Ints, groups: Ints, size: int, seed: int
) -> tuple[int, Images]:
    """A worker's task: the images from row ``start`` on."""
    rows = [
        draw(start + i, int(label), size, seed, int(group))
        for i, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]
    return start, np.stack(rows)


def draw_all(
    draw: DrawFunction,
    labels: Ints,
    size: int,
    seed: int,
    jobs: int = 1,
    progress: Callable[[int], object] | None = None,
    groups: Ints | None = None,
    out: Images | None = None,
) -> Images:
    """Draw an image for each label, in ``jobs`` processes; the pixels do not depend on how many.

    ``progress`` is told how many images each finished piece held; ``groups`` is the lesion or eye of each
    image (default: all distinct); ``out``, such as a memory map, takes the images in place of a new array.
    """
    compute_canvas_side(size)  # a bad size is refused here, once, and not from within a worker
    n = len(labels)
    groups = np.arange(n, dtype=np.int64) if groups is None else groups
    images = np.empty((n, size, size, 3), np.uint8) if out is None else out
    tasks = [
        (draw, start, labels[start : start + CHUNK], groups[start : start + CHUNK], size, seed)
        for start in range(0, n, CHUNK)
    ]

    def store_rows(start: int, rows: Images) -> None:
        images[start : start + len(rows)] = rows
        if progress is not None:
            progress(len(rows))

    if jobs <= 1 or len(tasks) <= 1:
        for task in tasks:
            store_rows(*_draw_rows(*task))
        return images
    # spawn everywhere: a fork of a process that has used CUDA or threads may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context, initializer=workers.start) as pool:
        try:
            for done in as_completed([pool.submit(_draw_rows, *task) for task in tasks]):
                store_rows(*done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return images
