"""Drawn dermoscopy: a stand-in for HAM10000, seven kinds of skin lesion in its proportions.

Nothing here comes from a patient, and no figure on it says anything about one. A lesion is first drawn by
itself as what it absorbs (melanin, blood, melanin seen deep in the skin) and scatters (scale, scar, veil,
cysts), then photographed: posed on skin, under a light, behind hair. Classes are distributions over the
features a dermatologist scores, and each lesion borrows some of a look-alike class, so none is separable.
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
    draw_spots,
    draw_strokes,
    finish,
    make_generator,
    make_grid,
    make_mesh,
    make_noise,
    make_polar_grid,
    make_proportional_labels,
    smoothstep,
    to_image,
)
from udcd_bench.data.synthetic.lesion_features import CLASS_NAMES, sample_features

VERSION = 4
CLASSES = tuple(f"synthetic {name}" for name in CLASS_NAMES)
PUBLISHED_COUNTS = (327, 514, 1099, 115, 1113, 6705, 142)
REPEAT_SHARE = 1 - 7470 / 10015  # HAM10000: 10 015 photographs of 7 470 lesions

# Absorbance per unit in red, green, blue.
MELANIN = (0.50, 0.86, 1.06)
BLOOD = (0.12, 0.88, 0.72)
DEEP = (1.00, 0.74, 0.46)


def make_labels(n: int, seed: int) -> Ints:
    """(n,) labels in HAM10000's proportions, every class at least ten times where n allows, shuffled."""
    return make_proportional_labels(n, PUBLISHED_COUNTS, seed)


def make_groups(n: int, labels: Ints, seed: int) -> Ints:
    """(n,) lesion numbers: about a quarter of the images show an earlier image's lesion, of the same class.

    A lesion's number is the index of its first photograph.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, n, 7470]))
    again, which = rng.random(n) < REPEAT_SHARE, rng.random(n)
    found = np.arange(n, dtype=np.int64)
    lesions: dict[int, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        known = lesions.setdefault(label, [])
        if again[i] and known:
            found[i] = known[int(which[i] * len(known))]
        else:
            known.append(i)
    return found


def draw_image(index: int, label: int, size: int, seed: int, group: int) -> Images:
    """Photograph ``index`` of lesion ``group``: (size, size, 3) uint8, from nothing but the arguments."""
    side = compute_canvas_side(size)
    lesion = _draw_lesion(make_generator(seed, group, 1), side, sample_features(group, label, seed))
    person = make_generator(seed, group, 2)
    picture, blur = _photograph(make_generator(seed, index, 3), person, side, *lesion)
    return finish(picture, size, blur)


def _sample_outline(rng: np.random.Generator, side: int, f: dict[str, float]) -> tuple[Field, Field]:
    """How far inside the border each point is (in radii, negative outside), and how wide the rim is there."""
    radius, angle = make_polar_grid(side)
    turn = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    n = np.arange(1, 25)
    size = np.where(n <= 4, 0.20 * f["asymmetry"], 0.26 * f["ragged"]) / n ** np.where(n <= 4, 1.0, 1.15)
    waves = rng.standard_normal((2, 24)) * size
    waves[:, 1] += rng.standard_normal(2) * 0.03
    reach = waves[0] @ np.cos(n[:, None] * turn) + waves[1] @ np.sin(n[:, None] * turn)
    oval = 1 + 0.38 * f["oval"]
    lean = rng.uniform(0, np.pi)
    reach = np.exp(reach) / np.sqrt((np.cos(turn - lean) / oval) ** 2 + (np.sin(turn - lean) * oval) ** 2)
    reach *= (0.30 + 0.34 * f["size"]) * min(1.0, 0.93 / ((0.30 + 0.34 * f["size"]) * reach.max()))
    slot = ((angle + np.float32(np.pi)) * np.float32(720 / (2 * np.pi))).astype(np.intp) % 720
    inside = 1 - radius / reach.astype(np.float32)[slot]
    inside += (0.015 + 0.05 * f["ragged"]) * make_noise(rng, side, 14, 2)
    sharp = 0.05 + 0.55 * f["fade"] * (0.65 + 0.35 * np.sin(turn - rng.uniform(0, 2 * np.pi)))
    return inside, sharp.astype(np.float32)[slot]


def _scatter_places(rng: np.random.Generator, n: int, inside: Field, low: float, high: float) -> Field:
    """(<= n, 2) places whose depth inside the border lies between ``low`` and ``high``."""
    side = inside.shape[0]
    at = rng.uniform(-0.95, 0.95, (12 * n, 2))
    cell = ((at + 1) * (side / 2)).astype(np.intp)
    depth = inside[cell[:, 1], cell[:, 0]]
    found: Field = at[(depth > low) & (depth < high)][:n]
    return found


def _grow_tree(
    rng: np.random.Generator, start: Field, heading: float, length: float, width: float
) -> list[Stroke]:
    """A vessel that arborises: a bent line, and shorter, thinner ones that leave it."""
    paths: list[Stroke] = []
    todo = [(start, heading, length, width)]
    while todo:
        at, way, run, wide = todo.pop()
        k = max(5, int(run / 0.03))
        ways = way + np.cumsum(rng.normal(0, 0.28, k))
        line = at + np.cumsum(np.stack([np.cos(ways), np.sin(ways)], 1), 0) * (run / k)
        line = np.concatenate([at[None], line])
        paths.append((line, wide, wide * 0.55))
        if run > 0.12:
            for place in rng.uniform(0.2, 0.9, rng.integers(2, 4)):
                fork = int(place * k)
                side = rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.1)
                todo.append((line[fork], ways[fork] + side, run * rng.uniform(0.35, 0.6), wide * 0.62))
    return paths


def _draw_lesion(rng: np.random.Generator, side: int, f: dict[str, float]) -> tuple[Field, Field | None]:
    """The lesion alone: the share of light it takes, (3, side, side), and the light it adds, if any."""
    inside, sharp = _sample_outline(rng, side, f)
    body = smoothstep(inside / sharp, -0.35, 1.0)
    coarse, fine = make_noise(rng, side, 4, 3), make_noise(rng, side, 18, 2)

    # Ground colour: even, or in patches where there are several colours.
    patch = make_noise(rng, side, 3, 3)
    melanin = (0.06 + 1.25 * f["pigment"]) * (1 + 0.13 * coarse + 0.07 * fine)
    uneven = f["colours"]
    melanin *= 1 + uneven * (0.95 * smoothstep(patch, 0.1, 1.2) - 0.6 * smoothstep(-patch, 0.2, 1.3))
    melanin += 0.22 * f["pigment"] * smoothstep(inside, 0.1, 0.7)
    blood = (0.04 + 0.62 * f["red"]) * (1 + 0.2 * make_noise(rng, side, 6, 2))
    blood += 0.5 * uneven * smoothstep(make_noise(rng, side, 3, 2), 0.5, 1.6)
    deep = np.zeros((side, side), np.float32)
    scatter: list[tuple[Field, tuple[float, float, float]]] = []

    if f["network"] > 0.12:
        _, line = make_mesh(rng, side, int(rng.integers(28, 40)), 0.6 + 0.35 * f["asymmetry"])
        thick = 0.20 + 0.06 * np.clip(make_noise(rng, side, 6), -1.5, 2) * (0.4 + f["asymmetry"])
        net = np.exp(-((line / thick) ** 2))
        where = smoothstep(make_noise(rng, side, 4, 2) - 1.0 * inside, -1.2, 1.0 - f["network"])
        melanin += (net - 0.3) * where * (1.5 * f["network"] * (0.25 + f["pigment"]))
    if f["fissures"] > 0.12:
        ridge = np.exp(-((make_noise(rng, side, 9, 2) * 4) ** 2)) - 0.25
        melanin += ridge * (1.3 * f["fissures"] * (0.2 + f["pigment"]))
    if f["globules"] > 0.12:
        at = _scatter_places(rng, int(6 + 70 * f["globules"]), inside, -0.02, 0.95)
        dots = draw_spots(rng, side, at, (0.010, 0.020 + 0.020 * f["globules"]), (0.4, 1.0), 0.6)
        melanin += dots * (0.4 + 0.9 * f["globules"])
    if f["nests"] > 0.15:
        at = _scatter_places(rng, int(1 + 9 * f["nests"] * rng.random()), inside, 0.02, 0.8)
        nests = draw_spots(rng, side, at, (0.04, 0.10), (0.5, 1.2), 0.5, 2.2, None, 0.10 * fine)
        deep += 0.7 * nests
        melanin += 0.15 * nests
        scatter.append((0.3 * nests * body, (0.45, 0.50, 0.60)))
    if f["lacunae"] > 0.15:
        at = _scatter_places(rng, int(5 + 30 * f["lacunae"] * rng.random()), inside, 0.08, 1.0)
        lakes = draw_spots(rng, side, at, (0.05, 0.15), (0.6, 1.0), 0.35, 1.6, None, 0.08 * fine)
        blood += lakes * (0.5 + 1.2 * f["lacunae"])
        deep += lakes * max(0.0, rng.normal(0.15, 0.35))
    melanin *= body
    blood *= smoothstep(inside / sharp, -0.8, 0.8)

    if f["vessels"] > 0.2:
        paths: list[Stroke] = []
        for start in _scatter_places(rng, int(1 + 4 * f["vessels"]), inside, 0.0, 0.6):
            inwards = math.atan2(-start[1], -start[0]) + rng.normal(0, 0.7)
            paths += _grow_tree(rng, start, inwards, rng.uniform(0.25, 0.55), rng.uniform(0.010, 0.022))
        red = draw_strokes(side, paths) * smoothstep(inside, -0.2, 0.05)
        blood += red * (0.5 + 0.9 * f["vessels"])
    if f["ulcer"] > 0.2:
        at = _scatter_places(rng, int(1 + 3 * f["ulcer"] * rng.random()), inside, 0.25, 1.0)
        crater = draw_spots(
            rng, side, at, (0.05, 0.16), (f["ulcer"], f["ulcer"]), 0.5, 2.0, None, 0.25 * fine
        )
        blood += 1.6 * crater
        melanin += 0.9 * crater
    if f["veil"] > 0.15:
        cloud = smoothstep(patch + 0.8 * inside, 0.6, 1.6) * body
        deep += 0.45 * f["veil"] * cloud
        scatter.append((0.62 * f["veil"] * cloud, (0.50, 0.55, 0.66)))
    if f["wax"] > 0.12:
        film = smoothstep(inside / sharp, 0.0, 0.5) * (0.85 + 0.12 * np.clip(coarse, -1, 1))
        scatter.append((0.62 * f["wax"] * film, (0.70, 0.54, 0.32)))
    if f["scar"] > 0.15:
        centre = smoothstep(inside + 0.13 * coarse + 0.08 * fine, 0.15, 0.85)
        scatter.append((0.9 * f["scar"] * centre, (0.95, 0.84, 0.80)))
    if f["crust"] > 0.15:
        rough = make_noise(rng, side, 8, 3) + 0.4 * coarse
        flake = smoothstep(rough, 0.75 - 0.7 * f["crust"], 1.9 - 0.5 * f["crust"])
        scatter.append((0.85 * f["crust"] * flake * body, (0.93, 0.87, 0.74)))
        melanin += 0.3 * f["crust"] * np.roll(flake, 2, 0) * body * (1 - flake)
    if f["cysts"] > 0.15:
        for radius, tone in (
            ((0.012, 0.034), (0.96, 0.92, 0.80)),  # milia-like cysts shine
            ((0.016, 0.040), (0.28, 0.17, 0.10)),  # comedo-like openings are plugged, brown
        ):
            at = _scatter_places(rng, int(2 + 22 * f["cysts"] * rng.random()), inside, 0.08, 1.0)
            scatter.append((draw_spots(rng, side, at, radius, (0.4, 0.85), 0.7), tone))

    melanin, blood = np.maximum(melanin, 0), np.maximum(blood, 0)
    deep *= body
    through = np.exp(
        np.stack([-m * melanin - b * blood - d * deep for m, b, d in zip(MELANIN, BLOOD, DEEP, strict=True)])
    )
    if not scatter:
        return 1 - through, None
    added = np.zeros_like(through)
    for alpha, tone in scatter:
        through *= 1 - alpha
        added *= 1 - alpha
        for k in range(3):
            added[k] += alpha * tone[k]
    return 1 - through, added


def _photograph(
    rng: np.random.Generator, person: np.random.Generator, side: int, taken: Field, added: Field | None
) -> tuple[Field, float]:
    """The lesion posed on its bearer's skin, lit, with hair in front of it; and how far out of focus."""
    x, y = make_grid(side)
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
    picture = (1 - _pose(taken, turn, zoom, *shift)) * (relief * skin.astype(np.float32)[:, None, None])
    if added is not None:
        picture += _pose(added, turn, zoom, *shift)

    hairs = _sample_hairs(rng, int(rng.poisson(2 + 45 * (hairy - 0.6)))) if hairy > 0.6 else []
    if hairs:
        shade = draw_strokes(side, hairs) * 0.88
        picture *= 1 - 0.25 * np.roll(shade, max(1, side // 110), 0)  # the shadow it casts
        picture *= 1 - shade
        picture += shade * dye.astype(np.float32)[:, None, None]

    # Light: a gradient, the dark corners of the optics, the camera's white balance and exposure.
    way, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.13)
    light = 1 + slope * (math.cos(way) * x + math.sin(way) * y)
    light -= rng.uniform(0.05, 0.28) * (x * x + y * y) ** 1.5 / 2
    if rng.random() < 0.08:
        light *= smoothstep(np.hypot(x, y), 1.22 + rng.uniform(-0.12, 0.1), 1.10)
    balance = rng.normal((0.99, 0.98, 0.96), (0.02, 0.02, 0.035)) * rng.uniform(0.86, 1.08)
    picture *= light * balance.astype(np.float32)[:, None, None]
    picture += 0.010 * make_noise(rng, side, 110)
    return picture, rng.gamma(1.5, 0.0035) if rng.random() < 0.6 else 0.0


def _pose(planes: Field, turn: float, zoom: float, right: float, down: float) -> Field:
    """``planes`` turned, magnified and shifted (in units of the picture); nothing beyond their edge."""
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
    """``n`` bent hairs, mostly lying the same way."""
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
