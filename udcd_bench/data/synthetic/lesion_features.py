"""Features of the seven kinds of drawn lesion: overlapping distributions of what a dermatologist scores.

A change in this module changes pixels, so it raises ``lesions.VERSION``.
"""

from __future__ import annotations

from udcd_bench.data.synthetic.drawing import make_generator

CLASS_NAMES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")

FEATURES = {
    "size": (0.55, 0.45, 0.60, 0.40, 0.80, 0.40, 0.35),
    "oval": (0.40, 0.35, 0.45, 0.25, 0.50, 0.40, 0.35),
    "asymmetry": (0.50, 0.40, 0.40, 0.20, 0.80, 0.25, 0.30),
    "ragged": (0.45, 0.35, 0.40, 0.25, 0.60, 0.20, 0.25),
    "fade": (0.85, 0.75, 0.15, 0.85, 0.40, 0.55, 0.45),
    "pigment": (0.08, 0.06, 0.28, 0.40, 0.95, 0.44, 0.02),
    "red": (0.85, 0.45, 0.06, 0.12, 0.12, 0.14, 0.70),
    "wax": (0.05, 0.10, 0.85, 0.05, 0.00, 0.00, 0.00),
    "colours": (0.30, 0.30, 0.35, 0.15, 0.75, 0.20, 0.25),
    "network": (0.10, 0.02, 0.08, 0.50, 0.40, 0.55, 0.00),
    "globules": (0.05, 0.10, 0.10, 0.05, 0.45, 0.30, 0.00),
    "veil": (0.00, 0.10, 0.00, 0.00, 0.60, 0.02, 0.10),
    "scar": (0.05, 0.08, 0.02, 0.95, 0.12, 0.02, 0.02),
    "crust": (0.85, 0.10, 0.20, 0.02, 0.02, 0.00, 0.00),
    "vessels": (0.20, 0.90, 0.05, 0.08, 0.10, 0.03, 0.05),
    "lacunae": (0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.95),
    "cysts": (0.02, 0.05, 0.75, 0.00, 0.05, 0.04, 0.00),
    "fissures": (0.05, 0.00, 0.60, 0.00, 0.02, 0.02, 0.00),
    "nests": (0.00, 0.80, 0.03, 0.00, 0.08, 0.01, 0.03),
    "ulcer": (0.12, 0.45, 0.02, 0.00, 0.05, 0.00, 0.03),
}
"""The mean of each feature (0 absent, 1 strongest) by class, in the order of ``CLASS_NAMES``."""
SPREAD = 0.11
"""Standard deviation of a feature about its mean."""

LOOK_ALIKES = {
    "akiec": {"bkl": 0.5, "bcc": 0.4, "nv": 0.1},
    "bcc": {"akiec": 0.5, "bkl": 0.2, "nv": 0.2, "vasc": 0.1},
    "bkl": {"nv": 0.4, "mel": 0.35, "akiec": 0.25},
    "df": {"nv": 0.6, "bkl": 0.3, "bcc": 0.1},
    "mel": {"nv": 0.6, "bkl": 0.4},
    "nv": {"nv": 0.4, "mel": 0.3, "bkl": 0.2, "df": 0.05, "akiec": 0.05},  # most are just nevi
    "vasc": {"bcc": 0.4, "mel": 0.3, "nv": 0.3},
}
"""The classes that a lesion of each class may resemble, and how likely."""
RESEMBLANCE = (0.7, 4.0)
"""Of a Beta distribution: a seventh of the way on average, beyond halfway for one in thirty."""


def sample_features(group: int, label: int, seed: int) -> dict[str, float]:
    """Sample the features of the lesion numbered ``group``: each of ``FEATURES``, 0..1, in part a look-alike's."""
    rng = make_generator(seed, group, 0)
    kin = LOOK_ALIKES[CLASS_NAMES[label]]
    other = CLASS_NAMES.index(list(kin)[int(rng.choice(len(kin), p=list(kin.values())))])
    t = rng.beta(*RESEMBLANCE)
    features = {}
    deviations = rng.standard_normal(len(FEATURES)).tolist()
    for (name, means), deviation in zip(FEATURES.items(), deviations, strict=True):
        mean = (1 - t) * means[label] + t * means[other]
        # spread alone must not bring out what a class hardly ever has
        features[name] = min(1.0, max(0.0, mean + SPREAD * min(1.0, mean / 0.25) * deviation))
    return features
