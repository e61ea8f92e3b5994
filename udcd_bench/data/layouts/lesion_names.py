"""What others call HAM10000's classes: written out, and in the ISIC Archive's words of 2024 and since."""

from __future__ import annotations

import re

_NAMES = {
    "akiec": (
        "Actinic keratosis", "Actinic keratoses", "Actinic keratoses and intraepithelial carcinoma",
        "Actinic keratoses and intraepithelial carcinoma / Bowen's disease",
        "Actinic keratosis / Bowen's disease (intraepithelial carcinoma)", "Bowen's disease",
        "Intraepithelial carcinoma", "Solar or actinic keratosis", "Squamous cell carcinoma",
        "Squamous cell carcinoma, NOS", "Squamous cell carcinoma in situ",
        "Squamous cell carcinoma in situ, Bowens disease",
    ),
    "bcc": ("Basal cell carcinoma", "Basal cell carcinomas"),
    "bkl": (
        "Benign keratosis", "Benign keratoses", "Benign keratosis-like lesion", "Benign keratosis-like lesions",
        "Benign keratosis-like lesions (solar lentigines / seborrheic keratoses and lichen-planus like keratoses)",
        "Pigmented benign keratosis", "Seborrheic keratosis", "Solar lentigo", "Lichenoid keratosis",
        "Lichen planus like keratosis",
    ),
    "df": ("Dermatofibroma", "Dermatofibromas"),
    "mel": ("Melanoma", "Melanomas", "Melanoma, NOS", "Melanoma Invasive", "Melanoma in situ"),
    "nv": ("Nevus", "Nevi", "Melanocytic nevus", "Melanocytic nevi", "Nevus, NOS"),
    "vasc": (
        "Vascular lesion", "Vascular lesions", "Angioma", "Hemangioma", "Angiokeratoma", "Pyogenic granuloma",
        "Benign soft tissue proliferations - Vascular",
    ),
}  # fmt: skip
"""Class → what it is called. The archive splits akiec in two, and has no finer word for most vascular lesions."""


def _keep_letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


_CLASSES = {_keep_letters(text): name for name, texts in _NAMES.items() for text in (name, *texts)}


def find_class(text: str) -> str | None:
    """Find the class that a text means, by its letters alone; None if it means none."""
    return _CLASSES.get(_keep_letters(text))
