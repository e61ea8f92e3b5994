"""Drawing tools of the two stand-ins: noise, meshes, spots, strokes.

Everything is drawn in units of the picture (it spans -1..1 in both directions, y downwards) on a canvas of at least
``MIN_CANVAS_SIDE`` pixels a side that is averaged down at the end, so one index is the same picture at every size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from udcd_bench.data.dataset import Images
from udcd_bench.errors import UserError

Field = npt.NDArray[np.floating]
"""A (side, side) map, a (3, side, side) colour image, or (n, 2) points."""

MIN_SIZE, MAX_SIZE = 32, 224
MIN_CANVAS_SIDE = 96
PRODUCT_ROWS = 16


def compute_canvas_side(size: int) -> int:
    """Compute the side to draw at for an image of side ``size``: a multiple of it, at least ``MIN_CANVAS_SIDE``.

    Raises UserError when ``size`` is out of range.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UserError(
            f"synthetic images are drawn at {MIN_SIZE} to {MAX_SIZE} pixels a side, not at {size}"
        )
    return size * math.ceil(MIN_CANVAS_SIDE / size)


def make_generator(seed: int, number: int, stream: int) -> np.random.Generator:
    """Make the generator of image (or lesion, by ``stream``) ``number``, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence([seed, number, stream]))


@lru_cache(maxsize=8)
def make_grid(side: int) -> tuple[Field, Field]:
    """Make the coordinates of pixel centres, x (1, side) and y (side, 1)."""
    line = ((2 * np.arange(side, dtype=np.float32) + 1) / side - 1).astype(np.float32)
    return line[None, :], line[:, None]


@lru_cache(maxsize=8)
def make_polar_grid(side: int) -> tuple[Field, Field]:
    """Make the radius and angle (-π..π) of pixel centres, (side, side) each."""
    x, y = make_grid(side)
    return np.hypot(x, y), np.arctan2(y, x)


@lru_cache(maxsize=64)
def _make_spline_basis(side: int, cells: int, octaves: int) -> Field:
    """Make cubic B-spline weights, all octaves side by side: two products turn lattices into smooth noise."""
    columns = []
    for octave in range(octaves):
        at = (np.arange(side) + 0.5) / side * (cells << octave)
        d = np.abs(at[:, None] - (np.arange((cells << octave) + 3)[None, :] - 1.0))
        columns.append(np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0.0)))
    return np.concatenate(columns, 1).astype(np.float32)


@lru_cache(maxsize=64)
def _group_rows(side: int, cells: int, octaves: int) -> Field:
    """Group the rows of the basis, filled up with zeros, into a few at a time.

    BLAS would spread a larger product over all cores, in every process at once, which costs many times what it saves at
    this size.
    """
    basis = _make_spline_basis(side, cells, octaves)
    rows: Field = np.pad(basis, ((0, -side % PRODUCT_ROWS), (0, 0))).reshape(-1, PRODUCT_ROWS, basis.shape[1])
    return rows


def make_noise(
    rng: np.random.Generator, side: int, cells: int, octaves: int = 1, gain: float = 0.55
) -> Field:
    """Make smooth noise (side, side), mean 0, deviation about 1: ``cells`` features across, doubled each octave."""
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
    field: Field = (_group_rows(side, cells, octaves) @ lattice @ basis.T).reshape(-1, side)[:side]
    return field


def make_mesh(rng: np.random.Generator, side: int, cells: int, jitter: float = 0.75) -> tuple[Field, Field]:
    """Make a net of irregular meshes: distance to the nearest mesh centre and to the nearest line, in meshes."""
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
    """Map ``value`` to 0 below ``low``, 1 above ``high``, smooth between."""
    t: Field = np.clip((value - low) * (1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class SpotStyle:
    """How the spots of one kind look; sizes in units of the picture.

    Attributes
    ----------
    radius, amount: bounds of the uniform distributions of radii and strengths.
    soft: the share of the radius over which the rim fades.
    flat: largest ratio of the two half-axes; 1 makes discs.
    wobble: a (side, side) noise map that dents the rims.
    """

    radius: tuple[float, float]
    amount: tuple[float, float]
    soft: float = 0.5
    flat: float = 1.3
    wobble: Field | None = None


def draw_spots(
    rng: np.random.Generator, side: int, centres: Field, style: SpotStyle, angles: Field | None = None
) -> Field:
    """Draw discs or ellipses at ``centres`` (n, 2) as a (side, side) map; where they overlap the stronger counts.

    angles: (n,) of the long axes in radians; random by default.
    """
    field = np.zeros((side, side), np.float32)
    n = len(centres)
    sizes, strengths = rng.uniform(*style.radius, n), rng.uniform(*style.amount, n)
    oval = np.sqrt(rng.uniform(1, style.flat, n))
    turns = rng.uniform(0, np.pi, n) if angles is None else angles
    xs, ys = make_grid(side)
    spots = np.stack([*centres.T, sizes * oval, sizes / oval, strengths, turns], 1)
    for x, y, a, b, strength, turn in spots.tolist():
        reach = 1.5 * a + 2 / side
        left, right = int((x - reach + 1) / 2 * side), int((x + reach + 1) / 2 * side) + 1
        top, bottom = int((y - reach + 1) / 2 * side), int((y + reach + 1) / 2 * side) + 1
        window = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
        dx, dy = xs[:, window[1]] - x, ys[window[0]] - y
        c, s = math.cos(turn), math.sin(turn)
        d = np.sqrt(((c * dx + s * dy) * (1 / a)) ** 2 + ((c * dy - s * dx) * (1 / b)) ** 2)
        if style.wobble is not None:
            d += style.wobble[window]
        fade = max(style.soft, 2.0 / side / b)  # never sharper than a pixel
        d = np.clip((1 + fade / 2 - d) * (strength / fade), 0, strength)
        np.maximum(field[window], d, out=field[window])
    return field


Stroke = tuple[Field, float, float]
"""(k, 2) points, the width at the first point and at the last."""


def draw_strokes(side: int, paths: Sequence[Stroke]) -> Field:
    """Draw paths as a (side, side) map of the share of each pixel that they cover, 0..1."""
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
    """Turn (3, side, side) in 0..1 into an 8-bit picture. Planes until now, since numpy is fast along rows."""
    levels = np.clip(planes * 255 + np.float32(0.5), 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(levels, 0, -1)))


def finish(planes: Field, size: int, blur: float = 0.0) -> Images:
    """Blur a (3, side, side) canvas by ``blur`` (in units of the picture) and average it to (size, size, 3) uint8."""
    picture = to_image(planes)
    if blur > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(blur * picture.width / 2))
    return np.array(picture.reduce(picture.width // size))
