"""The vessels of a drawn eye, and the map from the eye to its photograph.

A change in this module changes pixels, so it raises ``fundus.VERSION``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from udcd_bench.data.synthetic.drawing import Field, Stroke

DISC, FOVEA = (0.50, -0.02), (-0.19, 0.03)
"""Of a right eye; a left one is its mirror image."""


@dataclass(frozen=True)
class Pose:
    """The map from the eye's own units to the picture's."""

    mirror: float
    turn: float
    zoom: float
    right: float
    down: float

    def __call__(self, points: Field) -> Field:
        """Map (n, 2) points of the eye to the picture."""
        x, y = points[:, 0] * self.mirror, points[:, 1]
        c, s = math.cos(self.turn) * self.zoom, math.sin(self.turn) * self.zoom
        return np.stack([c * x - s * y + self.right, s * x + c * y + self.down], 1)


def grow_vessels(rng: np.random.Generator, pose: Pose, dilation: float) -> tuple[list[Stroke], list[Stroke]]:
    """Grow arteries and veins: arcades round the macula, straighter ones to the nose, and their branches."""
    trees: tuple[list[Stroke], list[Stroke]] = ([], [])
    shoots = _start_vessels(rng, dilation)
    for knots, forks, unrest in ((24, 6, 0.07), (12, 3, 0.08), (8, 0, 0.08)):
        # all vessels of one order are grown together
        t = np.arange(knots) / knots
        headings = shoots.heading[:, None] + (shoots.curve * shoots.length)[:, None] * t
        headings += np.cumsum(rng.normal(0, unrest, headings.shape), 1)
        steps = np.stack([np.cos(headings), np.sin(headings)], -1) * (shoots.length / knots)[:, None, None]
        n = len(shoots.start)
        lines = shoots.start[:, None] + np.concatenate([np.zeros((n, 1, 2)), np.cumsum(steps, 1)], 1)
        posed = pose(lines.reshape(-1, 2)).reshape(lines.shape)
        # none crosses the fovea, and the finest start off the disc
        clear = np.hypot(*np.moveaxis(lines - FOVEA, -1, 0)).min(1) > 0.13
        for line, width, vein, is_clear in zip(posed, shoots.width, shoots.vein, clear, strict=True):
            if is_clear:
                trees[int(vein)].append((line, width * pose.zoom, width * pose.zoom * 0.42))
        if forks:
            shoots = _branch(rng, shoots, lines, headings, forks)
    return trees


def grow_tangle(rng: np.random.Generator, root: Field) -> list[Stroke]:
    """Grow a frond of new vessels: fine and looped."""
    paths: list[Stroke] = []
    for heading in rng.uniform(0, 2 * np.pi, rng.integers(9, 16)):
        k = 14
        headings = heading + np.cumsum(rng.normal(0, 0.55, k) + rng.normal(0, 0.18))
        step = rng.uniform(0.010, 0.022)
        moves = np.stack([np.cos(headings), np.sin(headings)], 1) * step
        line = np.cumsum(np.concatenate([root[None], moves]), 0)
        width = rng.uniform(0.008, 0.014)
        paths.append((line, width, width * 0.7))
    return paths


@dataclass
class _Shoots:
    """The n vessels of one order, before they grow; arrays of n but for ``start``.

    start: (n, 2) points. heading: in radians. curve: change of heading over the length. length. width. vein: 0 or 1.
    """

    start: Field
    heading: Field
    curve: Field
    length: Field
    width: Field
    vein: Field


def _start_vessels(rng: np.random.Generator, dilation: float) -> _Shoots:
    """Start four arteries and four veins at the disc."""
    up = np.tile([-1.0, 1.0], 4)
    vein = np.repeat([0.0, 1.0], 4)
    nasal = np.tile([False, False, True, True], 2)
    apart = np.where(vein == 1, 0.16, -0.08) + rng.normal(0, 0.08, 8)
    # the temporal ones go up or down first and somewhat outwards, then bend round the fovea
    heading = up * np.where(nasal, 0.85 + apart, 1.75 + apart)
    curve = up * np.where(nasal, -rng.uniform(0, 0.5, 8), rng.uniform(0.75, 1.05, 8))
    length = np.where(nasal, 0.8, 1.5)
    calibre = np.where(vein == 1, 0.029 * (1 + dilation), 0.020)
    width = calibre * np.where(nasal, 0.7, 1.0) * rng.uniform(0.85, 1.15, 8)
    return _Shoots(np.tile(DISC, (8, 1)), heading, curve, length, width, vein)


def _branch(rng: np.random.Generator, shoots: _Shoots, lines: Field, headings: Field, forks: int) -> _Shoots:
    """Start ``forks`` branches along each of the grown vessels."""
    n, knots = headings.shape
    shape = (n, forks)
    fraction = np.sort((np.arange(forks) + rng.uniform(0.1, 1, shape)) / (forks + 0.3), 1)
    fork = (fraction * knots).astype(np.intp)
    row = np.arange(n)[:, None]
    turn = np.where((np.arange(forks) + rng.integers(0, 2, (n, 1))) % 2, 1.0, -1.0)
    heading = (headings[row, fork] + turn * rng.uniform(0.45, 0.85, shape)).ravel()
    curve = (-turn * rng.uniform(0.2, 1.1, shape)).ravel()
    width = (shoots.width[:, None] * rng.uniform(0.40, 0.62, shape) * (1 - 0.4 * fraction)).ravel()
    length = (shoots.length[:, None] * rng.uniform(0.25, 0.5, shape) * (1.1 - 0.4 * fraction)).ravel()
    start = lines[row, fork].reshape(-1, 2)
    return _Shoots(start, heading, curve, length, width, np.repeat(shoots.vein, forks))
