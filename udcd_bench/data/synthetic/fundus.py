"""Drawn fundus photographs: a stand-in for APTOS 2019, five grades of retinopathy in its proportions.

None of it comes from a patient, and no figure on it says anything about one. An eye (left or right, its disc, vessels
and pigment) is laid out in the units of the picture, diseased by a grade, then photographed: posed, unevenly lit, hazy
or out of focus. Lesion counts are Poisson with means that overlap between grades.
"""

from __future__ import annotations

import math

import numpy as np

from udcd_bench.data.dataset import Images, Ints
from udcd_bench.data.synthetic.drawing import (
    Field,
    compute_canvas_side,
    finish,
    make_generator,
    make_grid,
    make_noise,
    smoothstep,
)
from udcd_bench.data.synthetic.retina import blend, draw_retina
from udcd_bench.data.synthetic.series import make_proportional_labels
from udcd_bench.data.synthetic.vessels import Pose

VERSION = 4
CLASSES = tuple(f"synthetic grade {grade}" for grade in range(5))
PUBLISHED_COUNTS = (1805, 370, 999, 193, 295)

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
"""The mean number of each lesion, grade by grade, and by what share the veins are widened."""
DRIFT = 0.13
"""Standard deviation, in grades, of the position between the grades at which an eye's means are read."""


def make_labels(n: int, seed: int) -> Ints:
    """Make shuffled grades (n,) in APTOS's proportions, every grade at least ten times where n allows."""
    return make_proportional_labels(n, PUBLISHED_COUNTS, seed)


def make_groups(n: int, labels: Ints, seed: int) -> Ints:
    """Make eye numbers (n,): every image shows an eye of its own."""
    return np.arange(n, dtype=np.int64)


def sample_burden(group: int, label: int, seed: int) -> dict[str, float]:
    """Sample the expected number of each of ``BURDEN`` in the eye ``group``, which is of grade ``label``."""
    rng = make_generator(seed, group, 0)
    position = float(np.clip(label + DRIFT * rng.standard_normal(), 0, 4))
    burden = {}
    for name, means in BURDEN.items():
        mean = float(np.interp(position, np.arange(5), means))
        burden[name] = mean * rng.gamma(8.0, 1 / 8)  # eyes of one grade differ in what they have most of
    return burden


def draw_image(index: int, label: int, size: int, seed: int, group: int) -> Images:
    """Draw photograph ``index`` of eye ``group``, (size, size, 3) uint8, from these arguments alone."""
    side = compute_canvas_side(size)
    eye, shot = make_generator(seed, group, 1), make_generator(seed, index, 2)
    mirror = 1.0 if eye.random() < 0.5 else -1.0
    pose = Pose(mirror, shot.normal(0, 0.07), shot.uniform(0.94, 1.1), *shot.normal(0, 0.05, 2).tolist())
    picture = draw_retina(eye, side, pose, sample_burden(group, label, seed))
    return _expose(shot, picture, size)


def _expose(rng: np.random.Generator, picture: Field, size: int) -> Images:
    """Photograph a picture (3, side, side): uneven light, haze, colour cast, the round field in black, focus."""
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
        blend(picture, haze, (0.66, 0.55, 0.42))
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
