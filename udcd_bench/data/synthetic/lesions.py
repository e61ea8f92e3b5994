"""Drawn dermoscopy: a stand-in for HAM10000, seven kinds of skin lesion in its proportions.

None of it comes from a patient, and no figure on it says anything about one. A lesion is first drawn by itself, as what
it absorbs (melanin, blood, melanin seen deep in the skin) and scatters (scale, scar, veil, cysts), then photographed:
posed on skin, lit, behind hair. Classes are distributions over the features that a dermatologist scores, and each
lesion borrows some of a look-alike class, so no class is separable.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from udcd_bench.data.dataset import Images, Ints
from udcd_bench.data.synthetic.drawing import (
    Field,
    Stroke,
    compute_canvas_side,
    draw_strokes,
    finish,
    make_generator,
    make_grid,
    make_noise,
    smoothstep,
    to_image,
)
from udcd_bench.data.synthetic.lesion_features import CLASS_NAMES, sample_features
from udcd_bench.data.synthetic.lesion_layers import BLOOD, MELANIN, draw_lesion
from udcd_bench.data.synthetic.series import make_proportional_labels

VERSION = 4
CLASSES = tuple(f"synthetic {name}" for name in CLASS_NAMES)
PUBLISHED_COUNTS = (327, 514, 1099, 115, 1113, 6705, 142)
REPEAT_SHARE = 1 - 7470 / 10015
"""Of photographs that show an earlier one's lesion: HAM10000 has 10 015 photographs of 7 470 lesions."""


def make_labels(n: int, seed: int) -> Ints:
    """Make shuffled labels (n,) in HAM10000's proportions, every class at least ten times where n allows."""
    return make_proportional_labels(n, PUBLISHED_COUNTS, seed)


def make_groups(n: int, labels: Ints, seed: int) -> Ints:
    """Make lesion numbers (n,): about a quarter of the images show an earlier image's lesion, of the same class.

    A lesion's number is the index of its first photograph.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 7470]))
    repeats, choice = rng.random(n) < REPEAT_SHARE, rng.random(n)
    groups = np.arange(n, dtype=np.int64)
    lesions: dict[int, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        known = lesions.setdefault(label, [])
        if repeats[i] and known:
            groups[i] = known[int(choice[i] * len(known))]
        else:
            known.append(i)
    return groups


def draw_image(index: int, label: int, size: int, seed: int, group: int) -> Images:
    """Draw photograph ``index`` of lesion ``group``, (size, size, 3) uint8, from these arguments alone."""
    side = compute_canvas_side(size)
    absorbed, added = draw_lesion(make_generator(seed, group, 1), side, sample_features(group, label, seed))
    person = make_generator(seed, group, 2)
    picture, blur = _photograph(make_generator(seed, index, 3), person, side, absorbed, added)
    return finish(picture, size, blur)


def _photograph(
    rng: np.random.Generator, person: np.random.Generator, side: int, absorbed: Field, added: Field | None
) -> tuple[Field, float]:
    """Photograph the lesion on the patient's skin: the picture (3, side, side), and how far it is out of focus."""
    tone = person.beta(1.2, 3.4)
    hairy = person.random()
    dye = np.array([0.17, 0.12, 0.10]) * person.uniform(0.5, 2.6)
    skin = np.exp(-np.array(MELANIN) * (0.05 + 0.45 * tone) - np.array(BLOOD) * person.uniform(0.12, 0.30))

    # Skin: blotches, and the fine furrows that divide it.
    relief = (
        1 + 0.025 * make_noise(rng, side, 4, 3) - 0.035 * np.exp(-((make_noise(rng, side, 30, 2) * 3) ** 2))
    )

    turn, zoom = rng.uniform(0, 2 * np.pi), rng.uniform(0.85, 1.3)
    shift = rng.normal(0, 0.07, 2).tolist()
    picture = (1 - _pose(absorbed, turn, zoom, *shift)) * (relief * skin.astype(np.float32)[:, None, None])
    if added is not None:
        picture += _pose(added, turn, zoom, *shift)
    hairs = _sample_hairs(rng, int(rng.poisson(2 + 45 * (hairy - 0.6)))) if hairy > 0.6 else []
    if hairs:
        _cover_with_hairs(picture, hairs, dye)
    _light(rng, picture)
    return picture, rng.gamma(1.5, 0.0035) if rng.random() < 0.6 else 0.0


def _cover_with_hairs(picture: Field, hairs: list[Stroke], dye: Field) -> None:
    """Draw hairs of the colour ``dye`` (3,) over a picture, in place."""
    side = picture.shape[-1]
    shade = draw_strokes(side, hairs) * 0.88
    picture *= 1 - 0.25 * np.roll(shade, max(1, side // 110), 0)  # the shadow it casts
    picture *= 1 - shade
    picture += shade * dye.astype(np.float32)[:, None, None]


def _light(rng: np.random.Generator, picture: Field) -> None:
    """Light a picture, in place: a gradient, the dark corners of the optics, white balance, exposure, grain."""
    side = picture.shape[-1]
    x, y = make_grid(side)
    way, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.13)
    light = 1 + slope * (math.cos(way) * x + math.sin(way) * y)
    light -= rng.uniform(0.05, 0.28) * (x * x + y * y) ** 1.5 / 2
    if rng.random() < 0.08:
        light *= smoothstep(np.hypot(x, y), 1.22 + rng.uniform(-0.12, 0.1), 1.10)
    balance = rng.normal((0.99, 0.98, 0.96), (0.02, 0.02, 0.035)) * rng.uniform(0.86, 1.08)
    picture *= light * balance.astype(np.float32)[:, None, None]
    picture += 0.010 * make_noise(rng, side, 110)


def _pose(planes: Field, turn: float, zoom: float, right: float, down: float) -> Field:
    """Turn, magnify and shift planes (3, side, side); ``right`` and ``down`` are in units of the picture."""
    side = planes.shape[-1]
    c, s = math.cos(turn) / zoom, math.sin(turn) / zoom
    half = side / 2
    dx, dy = half * (1 + right), half * (1 + down)
    matrix = (c, s, half - c * dx - s * dy, -s, c, half + s * dx - c * dy)
    posed = to_image(planes).transform(
        (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    return np.moveaxis(np.asarray(posed), -1, 0).astype(np.float32, order="C") * np.float32(1 / 255)


def _sample_hairs(rng: np.random.Generator, n: int) -> list[Stroke]:
    """Sample ``n`` bent hairs, mostly lying the same way."""
    way = rng.uniform(0, np.pi)
    t = np.linspace(0, 1, 14)[:, None]
    paths: list[Stroke] = []
    for _ in range(n):
        lean = way + rng.normal(0, 0.3)
        along = np.array([math.cos(lean), math.sin(lean)]) * rng.uniform(0.3, 1.3)
        bend = rng.normal(0, 0.16, 2)
        centre = rng.uniform(-1, 1, 2)
        line = centre + (2 * t - 1) * along + (1 - (2 * t - 1) ** 2) * bend
        width = rng.uniform(0.006, 0.015)
        paths.append((line, width, width * 0.6))
    return paths
