"""What the name of a folder says: a number of something, a variant of images, nothing at all, or words of its own."""

from __future__ import annotations

import re

from udcd_bench.data.folders.masks import MASK_FOLDER
from udcd_bench.data.folders.part_names import FILLERS, SPLIT_ALIASES

_DIVISIONS = (
    r"folds?|splits?|parts?|batch(es)?|cv|chunks?|shards?|patients?|subjects?|participants?|subj|sub|cases?|pat|pt|"
    r"slides?|studies|study|sessions?"
)
"""Words that, with a number, divide images and never say what they show."""
_NUMBERED = re.compile(
    rf"((.*[ _-])?({_DIVISIONS}|sets?|groups?|sites?|hospitals?|cent(er|re)s?|rounds?|years?|scanners?"
    r"|raters?|persons?|p|images?|imgs?|cameras?|devices?|dataset|data)[ _-]*\d+"
    r"|[a-z]{1,3}[ _-]?\d{2,}|\d+x|x\d+)",
    re.I,
)
"""Names that number what is no class: fold1, HAM10000_images_part_2, P001, 40X."""
_DIVISION = re.compile(rf"(.*[ _-])?({_DIVISIONS})[ _-]*\d+", re.I)
_VARIANTS = frozenset(
    ("original", "originals", "orig", "resized", "resize", "rescaled", "augmented", "augmentation", "augmentations",
     "aug", "cropped", "crop", "crops", "raw", "processed", "preprocessed", "enhanced", "filtered", "normalized",
     "normalised", "denoised", "clahe", "gray", "grey", "grayscale", "greyscale", "colour", "color", "colored", "rgb",
     "sample", "samples", "example", "examples", "copy", "copies", "backup", "old", "new", "extra", "left", "right",
     "front", "back")
)  # fmt: skip
"""Words for a variant of images: originals and resized are no classes where they hold the same folders."""
_MADE = r"aug(ment(ed|ations?)?)?|flip(ped)?|[hv]flip|rotat(ed|ions?)|rot(?=[ _-]*\d)|resized?|rescaled|cropped|copy of"
_MADE_BEHIND = rf"{_MADE}|mirrored|crops?|rois?|copy|copies|backup|normali[sz]ed|denoised|preprocessed|clahe"
"""What is made of images; rot, grey or enhanced may be what they show."""
_VARIANT_OF = re.compile(
    rf"(?P<behind>.+?)[ _-]+\(?({_MADE_BEHIND})\)?[ _-]*\d*( *\(\d+\))?|({_MADE})[ _-]+(?P<before>.+)", re.I
)
"""A name that puts such a word beside another name: benign_aug, a_rot90, Copy of benign."""
_NAMELESS = re.compile(
    r"(images?|imgs?|pictures?|files|unsorted|untitled|(new|untitled)[ _-]?folder"
    r"|neuer[ _-]ordner|nouveau[ _-]dossier|dossier[ _-]sans[ _-]titre|nueva[ _-]carpeta|nuova[ _-]cartella)"
    r"([ _-]*\(?\d+\)?)?",
    re.I,
)
"""What a folder is called before anybody says what it holds."""
_PLACES = frozenset(
    ("study", "series", "session", "visit", "site", "hospital", "center", "centre", "clinic", "patient", "case",
     "subject", "participant", "person", "slide", "scan", "batch", "part", "fold", "scanner", "camera", "device",
     "group", "set", "year", "lesion", "image", "view", "frame")
)  # fmt: skip
"""Words that say from where images are, and not what they show."""


def is_numbered(name: str) -> bool:
    """Whether a name numbers what is no class: fold1, images_part_2, P001, 40X."""
    return bool(_NUMBERED.fullmatch(name))


def are_divisions(names: list[str]) -> bool:
    """Whether names are one word that divides images, such as patient or fold, each with its number."""
    return all(_DIVISION.fullmatch(name) for name in names) and (
        len({re.sub(r"\d+", "", name).casefold() for name in names}) == 1
    )


def is_variant(name: str) -> bool:
    """Whether a name says a part or a variant of images, and no class."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    is_said = bool(words) and set(words) <= _VARIANTS | FILLERS
    return is_said or is_numbered(name) or bool(MASK_FOLDER.fullmatch(name))


def is_nameless(name: str) -> bool:
    """Whether a folder is called as folders are that nobody has named after what they hold."""
    return bool(_NAMELESS.fullmatch(name))


def find_variants(names: list[str]) -> list[tuple[str, str]]:
    """Find the names that are another one and a word for what was made of its images, each with that other one."""
    by_fold = {_fold(name): name for name in names}
    variants = []
    for name in sorted(names):
        match = _VARIANT_OF.fullmatch(name)
        base = by_fold.get(_fold(match["behind"] or match["before"])) if match else None
        if base is not None:
            variants.append((name, base))
    return variants


def _fold(name: str) -> str:
    return re.sub(r"[ _-]+", "", name).casefold()


def find_own_word(name: str) -> str:
    """Find what a name says beside numbers, places, variants and single letters; empty if nothing.

    study1_positive says positive; site A, Patient_JD, 2019 and left say nothing: short words beside digits or a place
    are codes.
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[\W\d_]+", spaced.casefold()) if word]
    is_code = re.search(r"\d", name) or any(word.removesuffix("s") in _PLACES for word in words)
    least = 4 if is_code else 2
    known = _PLACES | _VARIANTS | FILLERS | SPLIT_ALIASES.keys()
    own = [w for w in words if len(w) >= least and w not in known and w.removesuffix("s") not in known]
    return " ".join(own)
