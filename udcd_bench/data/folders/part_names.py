"""Names of folders that say a part of a split: train, Validation_set, seg_train beside seg_test."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator

SPLIT_ALIASES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
FILLERS = frozenset(
    ("dir", "set", "data", "dataset", "folder", "split", "images", "image", "imgs", "img", "pictures", "photos")
)  # fmt: skip
"""Words beside train or test in the name of a folder that change nothing: train_dir, Test Set 2."""


@functools.cache
def list_words(name: str) -> tuple[str, ...]:
    """List the words of a folder's name in lower case, without numbers and fillers: TrainImages_2 is train."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [re.sub(r"(?<=.)(set|dir)$", "", word) for word in re.split(r"[^a-z]+", spaced.lower())]
    return tuple(word for word in words if word and word not in FILLERS)


def find_split(name: str) -> str:
    """Return the part of a split that a folder's name says: ``val`` for Validation_set; empty if it says none."""
    words = list_words(name)
    return SPLIT_ALIASES.get(words[0], "") if len(words) == 1 else ""


def find_parts(names: Collection[str]) -> dict[str, str]:
    """Return the parts of a split among folders that lie side by side, by name.

    Either their names say it, or they differ in nothing else: seg_train beside seg_test.
    """
    if parts := {name: split for name in names if (split := find_split(name))}:
        return parts
    by_rest: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        for split, rest in _list_readings(name):
            by_rest.setdefault(rest, {}).setdefault(name, split)
    sets = [same for same in by_rest.values() if len(set(same.values())) > 1]
    return sets[0] if len(sets) == 1 else {}


def list_mentions(names: Collection[str]) -> list[str]:
    """List the names with a word for a part of a split, if train and another part are among them."""
    mentions = {
        name: SPLIT_ALIASES[word] for name in names for word in list_words(name) if word in SPLIT_ALIASES
    }
    return sorted(mentions) if "train" in mentions.values() and len(set(mentions.values())) > 1 else []


def _list_readings(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each part that a name may mean, with what is left of the name: seg_train and segtrain are train of seg."""
    words = list_words(name)
    for i, word in enumerate(words):
        for alias, split in SPLIT_ALIASES.items():
            if word.endswith(alias):
                before = (word.removesuffix(alias),) if word != alias else ()
                yield split, (*words[:i], *before, *words[i + 1 :])
