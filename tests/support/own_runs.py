"""A folder of one's own images, and runs on it as small as they get, trained in this process."""

from __future__ import annotations

import numpy as np
from PIL import Image

import udcd_bench as ub

COUNTS = {"mole": 16, "scar, old": 12, "wart": 12}
"""Class → images; one name has a comma, as people's have."""
TINY = {"image_size": 32, "epochs": 1, "batch_size": 8, "threads": 1}


def draw(folder):
    """PNG images of 40 × 52 pixels in a folder a class, noise whose colours differ by class."""
    rng = np.random.default_rng(3)
    for c, (name, n) in enumerate(COUNTS.items()):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 256, (40, 52, 3), np.uint8)
            pixels[..., c] //= 2
            Image.fromarray(pixels).save(folder / name / f"{name[:4]}-{i}.png")


def train(home, method="scratch", **options):
    """A run of one epoch on ``home/skin``, in ``home/results``."""
    settings = TINY | options.pop("settings", {})
    return ub.train(
        method,
        f"folder:{home / 'skin'}",
        home / "results",
        settings,
        data=home / "data",
        device="cpu",
        **options,
    )
