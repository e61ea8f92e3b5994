"""Python's and NumPy's global generators: the loop draws from neither, and a method that does draws the same again."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


def seed_global_generators(*seeds: int) -> None:
    """Seed both, from numbers such as a run's seed and the step that an epoch begins with."""
    sequence = np.random.SeedSequence(seeds)
    random.seed(int(sequence.generate_state(1, np.uint64)[0]))
    np.random.seed(sequence.generate_state(4))


@contextlib.contextmanager
def keep_global_generators() -> Iterator[None]:
    """Leave both as they were, whatever is drawn in the meantime."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
