"""The layers of a drawn lesion: its outline, its ground colour, and one function per dermatoscopic feature.

A change in this module changes pixels, so it raises ``lesions.VERSION``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from udcd_bench.data.synthetic.drawing import (
    Field,
    SpotStyle,
    Stroke,
    draw_spots,
    draw_strokes,
    make_mesh,
    make_noise,
    make_polar_grid,
    smoothstep,
)

MELANIN = (0.50, 0.86, 1.06)
BLOOD = (0.12, 0.88, 0.72)
DEEP = (1.00, 0.74, 0.46)
"""Absorbance per unit in red, green, blue; ``DEEP`` is melanin seen deep in the skin."""


@dataclass
class Lesion:
    """A lesion while it is drawn; all maps are (side, side).

    Attributes
    ----------
    rng: of this lesion. side: pixels of the canvas. features: strength of each feature, 0..1.
    inside: how far inside the border each point is, in radii, negative outside.
    edge: the same in widths of the rim at that point. body: 0 outside the border to 1 inside.
    coarse, fine, patch: noise maps.
    melanin, blood, deep: what the lesion absorbs.
    scatter: what it scatters, as maps of opacity with a colour each.
    """

    rng: np.random.Generator
    side: int
    features: dict[str, float]
    inside: Field
    edge: Field
    body: Field
    coarse: Field
    fine: Field
    patch: Field
    melanin: Field
    blood: Field
    deep: Field
    scatter: list[tuple[Field, tuple[float, float, float]]] = field(default_factory=list)

    def draw_spots(self, centres: Field, style: SpotStyle) -> Field:
        """Draw spots on a map of their own."""
        return draw_spots(self.rng, self.side, centres, style)


def draw_lesion(
    rng: np.random.Generator, side: int, features: dict[str, float]
) -> tuple[Field, Field | None]:
    """Draw the lesion alone: the share of light it absorbs, (3, side, side), and the light it adds, if any."""
    lesion = _start_lesion(rng, side, features)
    for layers in (PIGMENT_LAYERS, SURFACE_LAYERS):
        for name, threshold, add_layer in layers:
            if features[name] > threshold:
                add_layer(lesion, features[name])
        if layers is PIGMENT_LAYERS:
            lesion.melanin *= lesion.body
            lesion.blood *= smoothstep(lesion.edge, -0.8, 0.8)
    return _compose(lesion)


def _start_lesion(rng: np.random.Generator, side: int, features: dict[str, float]) -> Lesion:
    """Draw outline and ground colour: even, or in patches if there are several colours."""
    inside, rim = _sample_outline(rng, side, features)
    edge = inside / rim
    body = smoothstep(edge, -0.35, 1.0)
    coarse, fine = make_noise(rng, side, 4, 3), make_noise(rng, side, 18, 2)
    patch = make_noise(rng, side, 3, 3)
    melanin = (0.06 + 1.25 * features["pigment"]) * (1 + 0.13 * coarse + 0.07 * fine)
    uneven = features["colours"]
    melanin *= 1 + uneven * (0.95 * smoothstep(patch, 0.1, 1.2) - 0.6 * smoothstep(-patch, 0.2, 1.3))
    melanin += 0.22 * features["pigment"] * smoothstep(inside, 0.1, 0.7)
    blood = (0.04 + 0.62 * features["red"]) * (1 + 0.2 * make_noise(rng, side, 6, 2))
    blood += 0.5 * uneven * smoothstep(make_noise(rng, side, 3, 2), 0.5, 1.6)
    deep = np.zeros((side, side), np.float32)
    return Lesion(
        rng, side, features, inside, edge, body, coarse, fine, patch, melanin=melanin, blood=blood, deep=deep
    )


@cache
def _make_harmonics() -> tuple[Field, NDArray[np.intp], Field, Field]:
    """Make 720 angles of a turn, the numbers of 24 harmonics, and their cosines and sines, a row a harmonic."""
    turn = np.linspace(-np.pi, np.pi, 720, endpoint=False)
    n = np.arange(1, 25)
    return turn, n, np.cos(n[:, None] * turn), np.sin(n[:, None] * turn)


def _sample_outline(rng: np.random.Generator, side: int, features: dict[str, float]) -> tuple[Field, Field]:
    """Sample how far inside the border each point is (in radii, negative outside), and how wide the rim is there."""
    radius, angle = make_polar_grid(side)
    turn, n, cosines, sines = _make_harmonics()
    size = np.where(n <= 4, 0.20 * features["asymmetry"], 0.26 * features["ragged"])
    size = size / n ** np.where(n <= 4, 1.0, 1.15)
    waves = rng.standard_normal((2, 24)) * size
    waves[:, 1] += rng.standard_normal(2) * 0.03
    reach = waves[0] @ cosines + waves[1] @ sines
    oval = 1 + 0.38 * features["oval"]
    lean = rng.uniform(0, np.pi)
    reach = np.exp(reach) / np.sqrt((np.cos(turn - lean) / oval) ** 2 + (np.sin(turn - lean) * oval) ** 2)
    scale = 0.30 + 0.34 * features["size"]
    reach *= scale * min(1.0, 0.93 / (scale * reach.max()))
    slot = ((angle + np.float32(np.pi)) * np.float32(720 / (2 * np.pi))).astype(np.intp) % 720
    inside = 1 - radius / reach.astype(np.float32)[slot]
    inside += (0.015 + 0.05 * features["ragged"]) * make_noise(rng, side, 14, 2)
    fade = 0.65 + 0.35 * np.sin(turn - rng.uniform(0, 2 * np.pi))
    rim = 0.05 + 0.55 * features["fade"] * fade
    return inside, rim.astype(np.float32)[slot]


def _scatter_points(lesion: Lesion, n: int, low: float, high: float) -> Field:
    """Sample (<= n, 2) points whose depth inside the border lies between ``low`` and ``high``."""
    points = lesion.rng.uniform(-0.95, 0.95, (12 * n, 2))
    cell = ((points + 1) * (lesion.side / 2)).astype(np.intp)
    depth = lesion.inside[cell[:, 1], cell[:, 0]]
    chosen: Field = points[(depth > low) & (depth < high)][:n]
    return chosen


# --- layers that are part of the pigment: they end at the border ----------------------------------------------------


def _add_network(lesion: Lesion, strength: float) -> None:
    rng, side, features = lesion.rng, lesion.side, lesion.features
    _, line = make_mesh(rng, side, int(rng.integers(28, 40)), 0.6 + 0.35 * features["asymmetry"])
    thick = 0.20 + 0.06 * np.clip(make_noise(rng, side, 6), -1.5, 2) * (0.4 + features["asymmetry"])
    net = np.exp(-((line / thick) ** 2))
    extent = smoothstep(make_noise(rng, side, 4, 2) - 1.0 * lesion.inside, -1.2, 1.0 - strength)
    lesion.melanin += (net - 0.3) * extent * (1.5 * strength * (0.25 + features["pigment"]))


def _add_fissures(lesion: Lesion, strength: float) -> None:
    ridge = np.exp(-((make_noise(lesion.rng, lesion.side, 9, 2) * 4) ** 2)) - 0.25
    lesion.melanin += ridge * (1.3 * strength * (0.2 + lesion.features["pigment"]))


def _add_globules(lesion: Lesion, strength: float) -> None:
    centres = _scatter_points(lesion, int(6 + 70 * strength), -0.02, 0.95)
    dots = lesion.draw_spots(centres, SpotStyle((0.010, 0.020 + 0.020 * strength), (0.4, 1.0), 0.6))
    lesion.melanin += dots * (0.4 + 0.9 * strength)


def _add_nests(lesion: Lesion, strength: float) -> None:
    centres = _scatter_points(lesion, int(1 + 9 * strength * lesion.rng.random()), 0.02, 0.8)
    nests = lesion.draw_spots(centres, SpotStyle((0.04, 0.10), (0.5, 1.2), 0.5, 2.2, 0.10 * lesion.fine))
    lesion.deep += 0.7 * nests
    lesion.melanin += 0.15 * nests
    lesion.scatter.append((0.3 * nests * lesion.body, (0.45, 0.50, 0.60)))


def _add_lacunae(lesion: Lesion, strength: float) -> None:
    centres = _scatter_points(lesion, int(5 + 30 * strength * lesion.rng.random()), 0.08, 1.0)
    lakes = lesion.draw_spots(centres, SpotStyle((0.05, 0.15), (0.6, 1.0), 0.35, 1.6, 0.08 * lesion.fine))
    lesion.blood += lakes * (0.5 + 1.2 * strength)
    lesion.deep += lakes * max(0.0, lesion.rng.normal(0.15, 0.35))


# --- layers on top of it --------------------------------------------------------------------------------------------


def _add_vessels(lesion: Lesion, strength: float) -> None:
    rng = lesion.rng
    paths: list[Stroke] = []
    for start in _scatter_points(lesion, int(1 + 4 * strength), 0.0, 0.6):
        inwards = math.atan2(-start[1], -start[0]) + rng.normal(0, 0.7)
        paths += _grow_tree(rng, start, inwards, rng.uniform(0.25, 0.55), rng.uniform(0.010, 0.022))
    red = draw_strokes(lesion.side, paths) * smoothstep(lesion.inside, -0.2, 0.05)
    lesion.blood += red * (0.5 + 0.9 * strength)


def _grow_tree(
    rng: np.random.Generator, start: Field, heading: float, length: float, width: float
) -> list[Stroke]:
    """Grow a vessel that branches: a bent line, and shorter, thinner ones that leave it."""
    paths: list[Stroke] = []
    open_ends = [(start, heading, length, width)]
    while open_ends:
        start, heading, length, width = open_ends.pop()
        k = max(5, int(length / 0.03))
        headings = heading + np.cumsum(rng.normal(0, 0.28, k))
        line = start + np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1), 0) * (length / k)
        line = np.concatenate([start[None], line])
        paths.append((line, width, width * 0.55))
        if length > 0.12:
            for fraction in rng.uniform(0.2, 0.9, rng.integers(2, 4)):
                fork = int(fraction * k)
                turn = rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 1.1)
                branch = length * rng.uniform(0.35, 0.6)
                open_ends.append((line[fork], headings[fork] + turn, branch, width * 0.62))
    return paths


def _add_ulcer(lesion: Lesion, strength: float) -> None:
    centres = _scatter_points(lesion, int(1 + 3 * strength * lesion.rng.random()), 0.25, 1.0)
    style = SpotStyle((0.05, 0.16), (strength, strength), 0.5, 2.0, 0.25 * lesion.fine)
    crater = lesion.draw_spots(centres, style)
    lesion.blood += 1.6 * crater
    lesion.melanin += 0.9 * crater


def _add_veil(lesion: Lesion, strength: float) -> None:
    cloud = smoothstep(lesion.patch + 0.8 * lesion.inside, 0.6, 1.6) * lesion.body
    lesion.deep += 0.45 * strength * cloud
    lesion.scatter.append((0.62 * strength * cloud, (0.50, 0.55, 0.66)))


def _add_wax(lesion: Lesion, strength: float) -> None:
    film = smoothstep(lesion.edge, 0.0, 0.5) * (0.85 + 0.12 * np.clip(lesion.coarse, -1, 1))
    lesion.scatter.append((0.62 * strength * film, (0.70, 0.54, 0.32)))


def _add_scar(lesion: Lesion, strength: float) -> None:
    centre = smoothstep(lesion.inside + 0.13 * lesion.coarse + 0.08 * lesion.fine, 0.15, 0.85)
    lesion.scatter.append((0.9 * strength * centre, (0.95, 0.84, 0.80)))


def _add_crust(lesion: Lesion, strength: float) -> None:
    rough = make_noise(lesion.rng, lesion.side, 8, 3) + 0.4 * lesion.coarse
    flake = smoothstep(rough, 0.75 - 0.7 * strength, 1.9 - 0.5 * strength)
    lesion.scatter.append((0.85 * strength * flake * lesion.body, (0.93, 0.87, 0.74)))
    lesion.melanin += 0.3 * strength * np.roll(flake, 2, 0) * lesion.body * (1 - flake)


def _add_cysts(lesion: Lesion, strength: float) -> None:
    for radius, tone in (
        ((0.012, 0.034), (0.96, 0.92, 0.80)),  # milia-like cysts shine
        ((0.016, 0.040), (0.28, 0.17, 0.10)),  # comedo-like openings are plugged, brown
    ):
        centres = _scatter_points(lesion, int(2 + 22 * strength * lesion.rng.random()), 0.08, 1.0)
        lesion.scatter.append((lesion.draw_spots(centres, SpotStyle(radius, (0.4, 0.85), 0.7)), tone))


PIGMENT_LAYERS = (
    ("network", 0.12, _add_network),
    ("fissures", 0.12, _add_fissures),
    ("globules", 0.12, _add_globules),
    ("nests", 0.15, _add_nests),
    ("lacunae", 0.15, _add_lacunae),
)
SURFACE_LAYERS = (
    ("vessels", 0.2, _add_vessels),
    ("ulcer", 0.2, _add_ulcer),
    ("veil", 0.15, _add_veil),
    ("wax", 0.12, _add_wax),
    ("scar", 0.15, _add_scar),
    ("crust", 0.15, _add_crust),
    ("cysts", 0.15, _add_cysts),
)
"""Feature, the strength above which it shows, and the function that draws it; in the order of drawing."""


def _compose(lesion: Lesion) -> tuple[Field, Field | None]:
    """Turn the maps into the share of light absorbed and the light added, (3, side, side) each."""
    melanin, blood = np.maximum(lesion.melanin, 0), np.maximum(lesion.blood, 0)
    deep = lesion.deep * lesion.body
    through = np.exp(
        np.stack([-m * melanin - b * blood - d * deep for m, b, d in zip(MELANIN, BLOOD, DEEP, strict=True)])
    )
    if not lesion.scatter:
        return 1 - through, None
    added = np.zeros_like(through)
    for alpha, tone in lesion.scatter:
        through *= 1 - alpha
        added *= 1 - alpha
        for k in range(3):
            added[k] += alpha * tone[k]
    return 1 - through, added
