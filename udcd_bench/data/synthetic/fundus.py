"""Drawn fundus photographs: a stand-in for APTOS 2019, five grades of retinopathy in its proportions.

Nothing here comes from a patient, and no figure on it says anything about one. An eye (left or right, its
disc, vessels and pigment) is laid out in the units of the picture, diseased by a grade, then photographed:
posed, unevenly lit, hazy or out of focus. Lesion counts are Poisson with means that overlap between grades.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

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
    make_noise,
    make_proportional_labels,
    smoothstep,
)

VERSION = 4
CLASSES = tuple(f"synthetic grade {grade}" for grade in range(5))
PUBLISHED_COUNTS = (1805, 370, 999, 193, 295)

# The mean number of each lesion, grade by grade, and by what share the veins are widened.
BURDEN = {
    "microaneurysms": (0.1, 14.0, 16.0, 22.0, 12.0),
    "blots": (0.0, 0.1, 4.0, 30.0, 6.0),
    "flames": (0.0, 0.0, 1.2, 9.0, 2.0),
    "exudates": (0.0, 0.0, 4.5, 3.0, 2.0),  # clusters
    "wool": (0.0, 0.0, 0.3, 6.0, 1.0),
    "new_vessels": (0.0, 0.0, 0.0, 0.0, 3.0),
    "preretinal": (0.0, 0.0, 0.0, 0.0, 1.6),
    "laser": (0.0, 0.0, 0.0, 0.0, 1.6),  # treated eyes: rings of scars
    "dilation": (0.0, 0.15, 0.35, 0.75, 0.60),
}
DRIFT = 0.13  # deviation, in grades, of the place on this scale an eye's means are read at
RED = (0.60, 1.15, 0.85)  # what blood in the retina absorbs of red, green and blue
DISC, FOVEA = (0.50, -0.02), (-0.19, 0.03)  # of a right eye; a left one is its mirror image


def make_labels(n: int, seed: int) -> Ints:
    """(n,) grades in APTOS's proportions, every grade at least ten times where n allows, shuffled."""
    return make_proportional_labels(n, PUBLISHED_COUNTS, seed)


def make_groups(n: int, labels: Ints, seed: int) -> Ints:
    """(n,) eye numbers: every image shows an eye of its own."""
    return np.arange(n, dtype=np.int64)


def sample_burden(group: int, label: int, seed: int) -> dict[str, float]:
    """What is expected of each of `BURDEN` in the eye ``group``, which is of grade ``label``."""
    rng = make_generator(seed, group, 0)
    at = float(np.clip(label + DRIFT * rng.standard_normal(), 0, 4))
    found = {}
    for name, means in BURDEN.items():
        mean = float(np.interp(at, np.arange(5), means))
        found[name] = mean * rng.gamma(8.0, 1 / 8)  # eyes of one grade differ in what they have most of
    return found


@dataclass(frozen=True)
class Pose:
    """From the eye's own units to the picture's."""

    mirror: float
    turn: float
    zoom: float
    right: float
    down: float

    def __call__(self, points: Field) -> Field:
        """(n, 2) points as photographed."""
        x, y = points[:, 0] * self.mirror, points[:, 1]
        c, s = math.cos(self.turn) * self.zoom, math.sin(self.turn) * self.zoom
        return np.stack([c * x - s * y + self.right, s * x + c * y + self.down], 1)


def draw_image(index: int, label: int, size: int, seed: int, group: int) -> Images:
    """Photograph ``index`` of eye ``group``: (size, size, 3) uint8, from nothing but the arguments."""
    side = compute_canvas_side(size)
    eye, shot = make_generator(seed, group, 1), make_generator(seed, index, 2)
    mirror = 1.0 if eye.random() < 0.5 else -1.0
    pose = Pose(mirror, shot.normal(0, 0.07), shot.uniform(0.94, 1.1), *shot.normal(0, 0.05, 2).tolist())
    picture = _draw_retina(eye, side, pose, sample_burden(group, label, seed))
    return _expose(shot, picture, size)


def _grow_vessels(rng: np.random.Generator, pose: Pose, dilation: float) -> tuple[list[Stroke], list[Stroke]]:
    """The arteries and the veins: arcades round the macula, straighter ones to the nose, their branches."""
    trees: tuple[list[Stroke], list[Stroke]] = ([], [])
    up = np.tile([-1.0, 1.0], 4)
    vein = np.repeat([0.0, 1.0], 4)
    nasal = np.tile([False, False, True, True], 2)
    apart = np.where(vein == 1, 0.16, -0.08) + rng.normal(0, 0.08, 8)
    # the temporal ones go up or down first and somewhat outwards, then bend round the fovea
    way = up * np.where(nasal, 0.85 + apart, 1.75 + apart)
    curve = up * np.where(nasal, -rng.uniform(0, 0.5, 8), rng.uniform(0.75, 1.05, 8))
    run = np.where(nasal, 0.8, 1.5)
    wide = (
        np.where(vein == 1, 0.029 * (1 + dilation), 0.020)
        * np.where(nasal, 0.7, 1.0)
        * rng.uniform(0.85, 1.15, 8)
    )
    at = np.tile(DISC, (8, 1))
    for knots, forks, unrest in ((24, 6, 0.07), (12, 3, 0.08), (8, 0, 0.08)):
        # all vessels of one order are grown together
        t = np.arange(knots) / knots
        ways = way[:, None] + (curve * run)[:, None] * t
        ways += np.cumsum(rng.normal(0, unrest, ways.shape), 1)
        steps = np.stack([np.cos(ways), np.sin(ways)], -1) * (run / knots)[:, None, None]
        lines = at[:, None] + np.concatenate([np.zeros((len(at), 1, 2)), np.cumsum(steps, 1)], 1)
        shown = pose(lines.reshape(-1, 2)).reshape(lines.shape)
        # none crosses the fovea, and the finest start off the disc
        clear = np.hypot(*np.moveaxis(lines - FOVEA, -1, 0)).min(1) > 0.13
        for line, first, kind, keep in zip(shown, wide, vein, clear, strict=True):
            if keep:
                trees[int(kind)].append((line, first * pose.zoom, first * pose.zoom * 0.42))
        if not forks:
            break
        shape = (len(at), forks)
        place = np.sort((np.arange(forks) + rng.uniform(0.1, 1, shape)) / (forks + 0.3), 1)
        fork = (place * knots).astype(np.intp)
        row = np.arange(len(at))[:, None]
        turn = np.where((np.arange(forks) + rng.integers(0, 2, (len(at), 1))) % 2, 1.0, -1.0)
        at = lines[row, fork].reshape(-1, 2)
        way = (ways[row, fork] + turn * rng.uniform(0.45, 0.85, shape)).ravel()
        curve = (-turn * rng.uniform(0.2, 1.1, shape)).ravel()
        vein = np.repeat(vein, forks)
        wide = (wide[:, None] * rng.uniform(0.40, 0.62, shape) * (1 - 0.4 * place)).ravel()
        run = (run[:, None] * rng.uniform(0.25, 0.5, shape) * (1.1 - 0.4 * place)).ravel()
    return trees


def _sample_places(rng: np.random.Generator, n: int, spread: float = 0.55) -> Field:
    """``n`` places in the posterior pole, off the disc."""
    at = rng.normal(0, spread, (3 * n + 8, 2)) * (1, 0.85) + (-0.05, 0)
    good = (np.hypot(at[:, 0], at[:, 1]) < 0.9) & (np.hypot(*(at - np.array(DISC)).T) > 0.22)
    found: Field = at[good][:n]
    return found


def _draw_retina(rng: np.random.Generator, side: int, pose: Pose, mean: dict[str, float]) -> Field:
    """The eye as it is, (3, side, side): ground, disc, vessels and disease."""
    x, y = make_grid(side)
    number = {name: int(rng.poisson(m)) for name, m in mean.items()}
    fine = make_noise(rng, side, 24, 2)

    # Ground: orange, redder or browner by the eye, mottled by the choroid behind it.
    brown = rng.beta(2.2, 3.0)
    ground = np.array([0.86, 0.45, 0.22]) * np.exp(-brown * np.array([0.38, 0.62, 0.75]))
    ground *= rng.normal(1, (0.03, 0.06, 0.15))
    mottle = 1 + 0.04 * make_noise(rng, side, 5, 3) + 0.018 * fine
    stripes = np.abs(make_noise(rng, side, 7, 2))
    mottle -= rng.uniform(0, 0.10) * np.exp(-((stripes * 3) ** 2)) * (x * x + y * y)
    picture = ground.astype(np.float32)[:, None, None] * mottle

    (fx, fy), (dx, dy) = pose(np.array([FOVEA, DISC])).tolist()
    macula = np.exp(-((x - fx) ** 2 + (y - fy) ** 2) / 0.055)
    pit = np.exp(-((x - fx) ** 2 + (y - fy) ** 2) / 0.006)
    shade = rng.uniform(0.5, 1.0) * (0.42 * macula + 0.30 * pit)
    _absorb(picture, shade, (0.55, 1.0, 1.0))

    radius = rng.uniform(0.115, 0.145)
    away = np.hypot((x - dx) * 1.06, y - dy) + 0.006 * fine
    glow = smoothstep(away, radius * 2.2, radius)  # nerve fibres brighten the rim
    _blend(picture, 0.18 * glow, (0.95, 0.66, 0.38))
    disc = smoothstep(away, radius * 1.08, radius * 0.90)
    _blend(picture, 0.88 * disc, tuple((np.array([0.97, 0.78, 0.50]) * rng.uniform(0.9, 1.03, 3)).tolist()))
    inner = np.hypot(x - dx + 0.02 * pose.mirror, y - dy)
    cup = smoothstep(inner, radius * rng.uniform(0.45, 0.65), radius * 0.25)
    _blend(picture, 0.65 * cup, (1.0, 0.93, 0.74))

    arteries_at, veins_at = (draw_strokes(side, tree) for tree in _grow_vessels(rng, pose, mean["dilation"]))
    _absorb(picture, veins_at, (0.32, 0.66, 0.50))
    _absorb(picture, arteries_at * (1 - 0.6 * veins_at), (0.17, 0.46, 0.40))

    small = pose(_sample_places(rng, number["microaneurysms"], 0.42))
    _absorb(picture, draw_spots(rng, side, small, (0.017, 0.031), (0.8, 1.3)), RED)
    blots = pose(_sample_places(rng, number["blots"]))
    large = rng.random(len(blots)) < 0.3
    _absorb(
        picture, draw_spots(rng, side, blots[~large], (0.016, 0.04), (0.5, 1), 0.7, 2, None, 0.2 * fine), RED
    )
    _absorb(
        picture, draw_spots(rng, side, blots[large], (0.04, 0.085), (0.5, 1), 0.7, 2, None, 0.25 * fine), RED
    )
    flames = pose(_sample_places(rng, number["flames"]))
    along = np.arctan2(flames[:, 1] - dy, flames[:, 0] - dx)  # with the nerve fibres
    _absorb(
        picture, draw_spots(rng, side, flames, (0.022, 0.045), (0.6, 1), 0.8, 12, along, 0.16 * fine), RED
    )
    wool = pose(_sample_places(rng, number["wool"]))
    fluff = draw_spots(rng, side, wool, (0.035, 0.075), (0.4, 0.75), 1.3, 2.0, None, 0.2 * fine)
    _blend(picture, fluff, (0.97, 0.86, 0.66))
    for centre in _sample_places(rng, number["exudates"], 0.36):
        n = int(rng.integers(6, 26))
        circinate = rng.random() < 0.35  # a ring around the leak
        far = rng.normal(0.13, 0.02, n) if circinate else np.abs(rng.normal(0, 0.075, n))
        way = rng.uniform(0, 2 * np.pi, n)
        at = pose(centre + far[:, None] * np.stack([np.cos(way), np.sin(way)], 1))
        hard = draw_spots(rng, side, at, (0.008, 0.022), (0.55, 0.92), 0.45, 2.0, None, 0.2 * fine)
        _blend(picture, hard, (1.0, 0.90, 0.52))

    if number["laser"]:
        n = 60 * min(2, number["laser"])
        far, way = rng.uniform(0.62, 0.98, n), rng.uniform(0, 2 * np.pi, n)
        at = pose(np.stack([far * np.cos(way), far * np.sin(way)], 1))
        scars = draw_spots(rng, side, at, (0.018, 0.034), (0.3, 0.75), 0.5, 1.3, None, 0.2 * fine)
        _blend(picture, scars, (0.93, 0.76, 0.48))
        _absorb(picture, draw_spots(rng, side, at, (0.008, 0.017), (0, 0.9), 0.6), (0.7, 0.8, 0.7))
    if number["new_vessels"]:
        tangle: list[Stroke] = []
        for i in range(number["new_vessels"]):
            root = np.array(DISC) if i == 0 and rng.random() < 0.6 else _sample_places(rng, 1, 0.5)[0]
            tangle += _grow_tangle(rng, root)
        _absorb(
            picture, draw_strokes(side, [(pose(line), a, b) for line, a, b in tangle]), (0.30, 0.85, 0.65)
        )
    if number["preretinal"]:
        # blood before the retina settles: level above, round below
        (bx, by), wide = pose(_sample_places(rng, 1, 0.4))[0].tolist(), rng.uniform(0.12, 0.26)
        boat = smoothstep(np.hypot(x - bx, (y - by) * rng.uniform(1.0, 1.6)) + 0.012 * fine, wide, wide * 0.9)
        boat *= smoothstep(y - by + 0.01 * fine, -0.03 - 0.15 * wide, 0.01 - 0.15 * wide)
        _absorb(picture, boat, (0.75, 1.8, 1.2))
    return picture


def _grow_tangle(rng: np.random.Generator, root: Field) -> list[Stroke]:
    """A frond of new vessels: fine, looped, going nowhere."""
    paths: list[Stroke] = []
    for way in rng.uniform(0, 2 * np.pi, rng.integers(9, 16)):
        k = 14
        ways = way + np.cumsum(rng.normal(0, 0.55, k) + rng.normal(0, 0.18))
        step = rng.uniform(0.010, 0.022)
        line = np.cumsum(np.concatenate([root[None], np.stack([np.cos(ways), np.sin(ways)], 1) * step]), 0)
        width = rng.uniform(0.008, 0.014)
        paths.append((line, width, width * 0.7))
    return paths


def _absorb(picture: Field, amount: Field, density: tuple[float, float, float]) -> None:
    """Darken by a pigment in front, in place."""
    if not amount.any():  # a healthy eye has none of most
        return
    for plane, d in zip(picture, density, strict=True):
        plane *= np.exp(-d * amount)


def _blend(picture: Field, alpha: Field, tone: tuple[float, ...]) -> None:
    """Cover with a colour, in place."""
    if not alpha.any():
        return
    for plane, level in zip(picture, tone, strict=True):
        plane += alpha * (level - plane)


def _expose(rng: np.random.Generator, picture: Field, size: int) -> Images:
    """The photograph: uneven light, haze, colour cast, the round field with black around it, focus."""
    side = picture.shape[-1]
    x, y = make_grid(side)
    far = np.hypot(x, y)
    way = rng.uniform(0, 2 * np.pi)
    light = 1.06 + rng.uniform(0, 0.2) * (math.cos(way) * x + math.sin(way) * y)
    light -= rng.uniform(0.10, 0.42) * far**2
    picture *= light * rng.normal(1.0, 0.10)
    if rng.random() < 0.3:  # a small pupil or cataract veils the edge, or all of it
        haze = rng.uniform(0.05, 0.30) * (
            0.4 + 0.6 * smoothstep(far + 0.1 * make_noise(rng, side, 3), 0.3, 1.1)
        )
        _blend(picture, haze, (0.66, 0.55, 0.42))
    cast = rng.normal(1, (0.03, 0.05, 0.10)).astype(np.float32)
    picture *= cast[:, None, None]
    picture += 0.008 * make_noise(rng, side, 110)

    # the round field just fits, or is cropped all round
    rim = float(rng.choice((0.96, 0.985, 1.10), p=(0.35, 0.4, 0.25))) + rng.normal(0, 0.008)
    field = smoothstep(far, rim + 0.012, rim - 0.012)
    if rng.random() < 0.35:  # many cameras cut the disc above and below
        cut = rng.uniform(0.78, 0.9)
        field = field * smoothstep(np.abs(y), cut + 0.01, cut - 0.01)
    picture *= field
    picture += 0.012
    return finish(picture, size, 0.0 if rng.random() < 0.45 else rng.gamma(1.5, 0.004))
