"""A drawn eye: ground, disc, vessels, and one function per sign of retinopathy.

A change in this module changes pixels, so it raises ``fundus.VERSION``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from udcd_bench.data.synthetic.drawing import (
    Field,
    SpotStyle,
    Stroke,
    draw_spots,
    draw_strokes,
    make_grid,
    make_noise,
    smoothstep,
)
from udcd_bench.data.synthetic.vessels import DISC, FOVEA, Pose, grow_tangle, grow_vessels

RED = (0.60, 1.15, 0.85)
"""What blood in the retina absorbs of red, green and blue."""


@dataclass
class Retina:
    """A retina while it is drawn.

    Attributes
    ----------
    rng: of this eye. pose: of the photograph. number: how many there are of each lesion.
    fine: a (side, side) noise map. picture: (3, side, side), drawn over in place.
    """

    rng: np.random.Generator
    pose: Pose
    number: dict[str, int]
    fine: Field
    picture: Field

    @property
    def side(self) -> int:
        """Pixels a side."""
        return len(self.fine)

    def draw_spots(self, centres: Field, style: SpotStyle, angles: Field | None = None) -> Field:
        """Draw spots on a map of their own."""
        return draw_spots(self.rng, self.side, centres, style, angles)


def draw_retina(rng: np.random.Generator, side: int, pose: Pose, mean: dict[str, float]) -> Field:
    """Draw the eye as it is, (3, side, side): ground, disc, vessels and disease.

    mean: the expected number of each lesion, and ``dilation``, by what share the veins are widened.
    """
    number = {name: int(rng.poisson(m)) for name, m in mean.items()}
    fine = make_noise(rng, side, 24, 2)
    retina = Retina(rng, pose, number, fine, _draw_ground(rng, fine))
    _add_macula(retina)
    _add_disc(retina)
    _add_vessels(retina, mean["dilation"])
    _add_haemorrhages(retina)
    _add_wool(retina)
    _add_exudates(retina)
    if number["laser"]:
        _add_laser_scars(retina)
    if number["new_vessels"]:
        _add_new_vessels(retina)
    if number["preretinal"]:
        _add_preretinal_blood(retina)
    return retina.picture


def absorb(picture: Field, amount: Field, density: tuple[float, float, float]) -> None:
    """Darken a picture (3, side, side) by a pigment in front, ``amount`` (side, side), in place."""
    if not amount.any():  # a healthy eye has none of most
        return
    for plane, d in zip(picture, density, strict=True):
        plane *= np.exp(-d * amount)


def blend(picture: Field, alpha: Field, tone: tuple[float, ...]) -> None:
    """Cover a picture (3, side, side) with a colour of opacity ``alpha`` (side, side), in place."""
    if not alpha.any():
        return
    for plane, level in zip(picture, tone, strict=True):
        plane += alpha * (level - plane)


# --- the healthy eye ------------------------------------------------------------------------------------------------


def _draw_ground(rng: np.random.Generator, fine: Field) -> Field:
    """Draw the ground: orange, redder or browner by the eye, mottled by the choroid behind it."""
    side = len(fine)
    x, y = make_grid(side)
    brown = rng.beta(2.2, 3.0)
    ground = np.array([0.86, 0.45, 0.22]) * np.exp(-brown * np.array([0.38, 0.62, 0.75]))
    ground *= rng.normal(1, (0.03, 0.06, 0.15))
    mottle = 1 + 0.04 * make_noise(rng, side, 5, 3) + 0.018 * fine
    stripes = np.abs(make_noise(rng, side, 7, 2))
    mottle -= rng.uniform(0, 0.10) * np.exp(-((stripes * 3) ** 2)) * (x * x + y * y)
    picture: Field = ground.astype(np.float32)[:, None, None] * mottle
    return picture


def _add_macula(retina: Retina) -> None:
    x, y = make_grid(retina.side)
    ((fx, fy),) = retina.pose(np.array([FOVEA])).tolist()
    macula = np.exp(-((x - fx) ** 2 + (y - fy) ** 2) / 0.055)
    pit = np.exp(-((x - fx) ** 2 + (y - fy) ** 2) / 0.006)
    shade = retina.rng.uniform(0.5, 1.0) * (0.42 * macula + 0.30 * pit)
    absorb(retina.picture, shade, (0.55, 1.0, 1.0))


def _add_disc(retina: Retina) -> None:
    rng, picture = retina.rng, retina.picture
    x, y = make_grid(retina.side)
    ((dx, dy),) = retina.pose(np.array([DISC])).tolist()
    radius = rng.uniform(0.115, 0.145)
    distance = np.hypot((x - dx) * 1.06, y - dy) + 0.006 * retina.fine
    glow = smoothstep(distance, radius * 2.2, radius)  # nerve fibres brighten the rim
    blend(picture, 0.18 * glow, (0.95, 0.66, 0.38))
    disc = smoothstep(distance, radius * 1.08, radius * 0.90)
    blend(picture, 0.88 * disc, tuple((np.array([0.97, 0.78, 0.50]) * rng.uniform(0.9, 1.03, 3)).tolist()))
    inner = np.hypot(x - dx + 0.02 * retina.pose.mirror, y - dy)
    cup = smoothstep(inner, radius * rng.uniform(0.45, 0.65), radius * 0.25)
    blend(picture, 0.65 * cup, (1.0, 0.93, 0.74))


def _add_vessels(retina: Retina, dilation: float) -> None:
    arteries, veins = (
        draw_strokes(retina.side, tree) for tree in grow_vessels(retina.rng, retina.pose, dilation)
    )
    absorb(retina.picture, veins, (0.32, 0.66, 0.50))
    absorb(retina.picture, arteries * (1 - 0.6 * veins), (0.17, 0.46, 0.40))


# --- disease --------------------------------------------------------------------------------------------------------


def _sample_points(rng: np.random.Generator, n: int, spread: float = 0.55) -> Field:
    """Sample ``n`` points in the posterior pole, off the disc."""
    points = rng.normal(0, spread, (3 * n + 8, 2)) * (1, 0.85) + (-0.05, 0)
    good = (np.hypot(points[:, 0], points[:, 1]) < 0.9) & (np.hypot(*(points - np.array(DISC)).T) > 0.22)
    chosen: Field = points[good][:n]
    return chosen


def _add_haemorrhages(retina: Retina) -> None:
    """Draw microaneurysms, blots and flames."""
    rng, pose, number, fine = retina.rng, retina.pose, retina.number, retina.fine
    small = pose(_sample_points(rng, number["microaneurysms"], 0.42))
    absorb(retina.picture, retina.draw_spots(small, SpotStyle((0.017, 0.031), (0.8, 1.3))), RED)
    blots = pose(_sample_points(rng, number["blots"]))
    large = rng.random(len(blots)) < 0.3
    dots = retina.draw_spots(blots[~large], SpotStyle((0.016, 0.04), (0.5, 1), 0.7, 2, 0.2 * fine))
    absorb(retina.picture, dots, RED)
    pools = retina.draw_spots(blots[large], SpotStyle((0.04, 0.085), (0.5, 1), 0.7, 2, 0.25 * fine))
    absorb(retina.picture, pools, RED)
    flames = pose(_sample_points(rng, number["flames"]))
    ((dx, dy),) = pose(np.array([DISC])).tolist()
    along = np.arctan2(flames[:, 1] - dy, flames[:, 0] - dx)  # with the nerve fibres
    style = SpotStyle((0.022, 0.045), (0.6, 1), 0.8, 12, 0.16 * fine)
    absorb(retina.picture, retina.draw_spots(flames, style, along), RED)


def _add_wool(retina: Retina) -> None:
    centres = retina.pose(_sample_points(retina.rng, retina.number["wool"]))
    fluff = retina.draw_spots(centres, SpotStyle((0.035, 0.075), (0.4, 0.75), 1.3, 2.0, 0.2 * retina.fine))
    blend(retina.picture, fluff, (0.97, 0.86, 0.66))


def _add_exudates(retina: Retina) -> None:
    rng = retina.rng
    for centre in _sample_points(rng, retina.number["exudates"], 0.36):
        n = int(rng.integers(6, 26))
        circinate = rng.random() < 0.35  # a ring around the leak
        distance = rng.normal(0.13, 0.02, n) if circinate else np.abs(rng.normal(0, 0.075, n))
        angle = rng.uniform(0, 2 * np.pi, n)
        points = retina.pose(centre + distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))
        style = SpotStyle((0.008, 0.022), (0.55, 0.92), 0.45, 2.0, 0.2 * retina.fine)
        blend(retina.picture, retina.draw_spots(points, style), (1.0, 0.90, 0.52))


def _add_laser_scars(retina: Retina) -> None:
    rng = retina.rng
    n = 60 * min(2, retina.number["laser"])
    distance, angle = rng.uniform(0.62, 0.98, n), rng.uniform(0, 2 * np.pi, n)
    points = retina.pose(np.stack([distance * np.cos(angle), distance * np.sin(angle)], 1))
    scars = retina.draw_spots(points, SpotStyle((0.018, 0.034), (0.3, 0.75), 0.5, 1.3, 0.2 * retina.fine))
    blend(retina.picture, scars, (0.93, 0.76, 0.48))
    pigment = retina.draw_spots(points, SpotStyle((0.008, 0.017), (0, 0.9), 0.6))
    absorb(retina.picture, pigment, (0.7, 0.8, 0.7))


def _add_new_vessels(retina: Retina) -> None:
    rng = retina.rng
    tangle: list[Stroke] = []
    for i in range(retina.number["new_vessels"]):
        root = np.array(DISC) if i == 0 and rng.random() < 0.6 else _sample_points(rng, 1, 0.5)[0]
        tangle += grow_tangle(rng, root)
    posed = [(retina.pose(line), first, last) for line, first, last in tangle]
    absorb(retina.picture, draw_strokes(retina.side, posed), (0.30, 0.85, 0.65))


def _add_preretinal_blood(retina: Retina) -> None:
    """Draw blood that has settled before the retina: level above, round below."""
    rng, fine = retina.rng, retina.fine
    x, y = make_grid(retina.side)
    (bx, by), wide = retina.pose(_sample_points(rng, 1, 0.4))[0].tolist(), rng.uniform(0.12, 0.26)
    boat = smoothstep(np.hypot(x - bx, (y - by) * rng.uniform(1.0, 1.6)) + 0.012 * fine, wide, wide * 0.9)
    boat *= smoothstep(y - by + 0.01 * fine, -0.03 - 0.15 * wide, 0.01 - 0.15 * wide)
    absorb(retina.picture, boat, (0.75, 1.8, 1.2))
