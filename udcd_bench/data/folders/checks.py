"""Checks that folders side by side are classes, or parts of one split, and nothing else."""

from __future__ import annotations

import re
from collections import Counter

from udcd_bench.data.files.kinds import is_zip
from udcd_bench.data.folders.masks import MASK_FOLDER
from udcd_bench.data.folders.name_words import find_own_word, is_numbered, is_variant
from udcd_bench.data.folders.part_names import find_parts, find_split, list_mentions
from udcd_bench.data.folders.tree import IMAGE_FOLDER, Tree
from udcd_bench.errors import UserError

_WAYS_OUT = (
    "put the class folders at the top with nothing but images in them, or list the images in a CSV with the columns "
    "path and label, and group where a folder is a patient"
)
_DATA_FOLDER = re.compile(r"images?|imgs?|pictures|photos|data(set)?", re.I)


def join_names(names: list[str]) -> str:
    """Join names for a sentence; of many the first."""
    shown = names if len(names) <= 5 else [*names[:4], f"{len(names) - 4} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def get_path(node: Tree, root: str) -> str:
    """Return the path of a folder as the user would write it. root: the path that was given."""
    return f"{root}/{node.place}" if node.place else root


def advise_giving(node: Tree, root: str) -> str:
    """Say how to give a folder in place of what was given; one in an archive has to be unpacked."""
    parts = get_path(node, root).split("/")
    zips = [i for i, part in enumerate(parts[:-1]) if is_zip(part)]
    if not zips:
        return f"give {'/'.join(parts)}"
    return f"unpack {'/'.join(parts[: zips[0] + 1])} and give its folder {'/'.join(parts[zips[0] + 1 :])}"


def check_parts(top: Tree, levels: dict[str, Tree], root: str) -> None:
    """Check that folders are the parts of one split and nothing else. Raises UserError.

    levels: by the part's name, the folder whose folders are its classes. root: the path that was given.
    """
    where, names = get_path(top, root), join_names(sorted(levels))
    _refuse_others(top, levels, root)
    parts = find_parts(levels)
    for split in sorted(set(parts.values())):
        same = [name for name in sorted(parts) if parts[name] == split]
        if len(same) > 1:
            raise UserError(
                f"{where} holds {join_names(same)}, which both mean {split}: leave one, or make them one."
            )
    if "train" not in parts.values():
        raise UserError(
            f"{where} holds {names} and no folder train: add it, or rename them if they are classes."
        )
    flat = [name for name, node in levels.items() if node.images and not node.has_class_folders()]
    if flat and len(flat) < len(levels):
        raise UserError(
            f"{where} holds {join_names(flat)} with images and without class folders: sort them into a subfolder a "
            f"class, or, if they have no labels, move {join_names(flat)} out."
        )
    if not any(node.has_class_folders() for node in levels.values()):
        raise UserError(
            f"{where} holds {names} with images and without class folders: sort the images into a subfolder a class, "
            "or list them in a CSV with the columns path, label and split."
        )


def _refuse_others(top: Tree, levels: dict[str, Tree], root: str) -> None:
    """Refuse folders beside the parts of a split."""
    holders = top.list_holders()
    others = [name for name in holders if name not in levels]
    if not others:
        return
    copy = next((name for name in others if find_parts(holders[name].folders)), "")
    a_part = "which is a part of a split" if len(levels) == 1 else "which are parts of a split"
    fix = (
        f"move {copy} out, or {advise_giving(holders[copy], root)}, which holds the same again"
        if copy
        else f"move one side out, {join_names(others)} if without labels, rename the parts if they are classes"
    )
    raise UserError(
        f"{get_path(top, root)} holds {join_names(sorted(levels))}, {a_part}, and moreover {join_names(others)}, so "
        f"its classes are unclear: {fix}, or list the images in a CSV with the columns path, label and split."
    )


def check_classes(level: Tree, root: str, split: str = "") -> None:
    """Check that folders are classes and nothing else. split: the part that they lie in. Raises UserError."""
    holders = level.list_holders()
    inner = {name: list(_unwrap(node).list_holders()) for name, node in holders.items()}
    where = get_path(level, root)
    _refuse_parts_within(holders, split, where)
    _refuse_mentions(holders, where)
    _refuse_split_below(holders, root, where)
    _refuse_classes_again(holders, inner, root, where)
    _refuse_lone_holder(holders, inner, root, where)
    _refuse_images_and_masks(level, root, where)
    _refuse_shared(level, root, where)
    _refuse_two_levels(holders, where)


def _refuse_parts_within(holders: dict[str, Tree], split: str, where: str) -> None:
    """Refuse the name of a part within a part: train/test, beside train/cat."""
    within = [name for name in holders if split and find_split(name)]
    if within:
        raise UserError(
            f"{where}, a part of a split, holds {join_names(within)}, which is called like another part, beside its "
            f"classes: move {join_names(within)} out, or rename it if it is a class."
        )


def _unwrap(node: Tree) -> Tree:
    """Go down folders that hold nothing but one folder of images."""
    while not node.images and len(holders := node.list_holders()) == 1:
        ((name, child),) = holders.items()
        if not IMAGE_FOLDER.fullmatch(name):
            break
        node = child
    return node


def _refuse_mentions(holders: dict[str, Tree], where: str) -> None:
    """Refuse folders such as train_aug and test_orig. Flat ones beside others may be a train station, a test tube."""
    mentions = list_mentions(holders)
    if mentions and (
        len(mentions) == len(holders) or any(holders[name].has_class_folders() for name in mentions)
    ):
        raise UserError(
            f"{where} holds {join_names(mentions)}, which are called like parts of a split, but not alike: rename them "
            "train and test with a subfolder a class in each, rename them otherwise if they are classes, or list the "
            "images in a CSV with the columns path, label and split."
        )


def _refuse_split_below(holders: dict[str, Tree], root: str, where: str) -> None:
    below = {name: parts for name, node in holders.items() if (parts := find_parts(node.list_holders()))}
    if not below:
        return
    name = next(iter(below))
    if all(holders[name].folders[part].has_class_folders() for name in below for part in below[name]):
        ways = " or ".join(advise_giving(holders[name], root) for name in list(below)[:5])
        raise UserError(
            f"{where} holds {join_names(list(below))}, with parts of a split and classes below: {ways}, as data sets "
            "of their own."
        )
    raise UserError(
        f"{where} holds a part of a split below a class, {name}/{next(iter(below[name]))}: put the parts at the top, "
        "as in train/CLASS and test/CLASS, or list the images in a CSV with the columns path, label and split."
    )


def _refuse_classes_again(
    holders: dict[str, Tree], inner: dict[str, list[str]], root: str, where: str
) -> None:
    """Refuse a folder that holds its neighbours again, in whatever case: augmented/cat and augmented/dog."""
    for name, names in inner.items():
        others = {other.casefold() for other in holders} - {name.casefold()}
        again = [child for child in names if child.casefold() in others]
        if not again or (len(holders) < 3 and not is_variant(name)):
            continue
        if len(again) > 1 or len(again) == len(names) or is_variant(name):
            raise UserError(
                f"{where} holds {join_names([n for n in holders if n != name])} and {name}, which holds "
                f"{join_names(again)} again: move {name} out, or {advise_giving(holders[name], root)}."
            )


def _refuse_lone_holder(holders: dict[str, Tree], inner: dict[str, list[str]], root: str, where: str) -> None:
    """Refuse data/cat and data/dog beside a stray folder of images."""
    full = [name for name in holders if holders[name].has_class_folders()]
    if len(full) == 1 and len(holders) > 1 and _DATA_FOLDER.fullmatch(full[0]) and len(inner[full[0]]) > 1:
        others = join_names([name for name in holders if name != full[0]])
        raise UserError(
            f"{where} holds {full[0]} with the folders {join_names(inner[full[0]])}, and beside it {others}, so its "
            f"classes are unclear: {advise_giving(holders[full[0]], root)}, or put all class folders side by side."
        )


def _refuse_images_and_masks(level: Tree, root: str, where: str) -> None:
    names = [name for name, node in level.folders.items() if node.count_images() or node.left_out["masks"]]
    images = [name for name in names if re.fullmatch(r"images?|imgs?", name, re.I)]
    masks = [name for name in sorted(names) if MASK_FOLDER.fullmatch(name)]
    if images and masks:
        raise UserError(
            f"{where} holds {images[0]} and {join_names(masks)}, which are images and their masks and no classes: make "
            "one subfolder a class, or list the images in a CSV with the columns path and label."
        )


def _refuse_shared(level: Tree, root: str, where: str) -> None:
    """Refuse folders that share the names of their folders: magnifications, patients, variants are no classes.

    Sites, patients and variants below a class may be called alike.
    """
    holders = level.list_holders()
    nodes = {name: _unwrap(node) for name, node in holders.items()}
    while True:  # what lies in one folder in every class is no sign
        children = {name: node.list_holders() for name, node in nodes.items()}
        lone = {next(iter(below)) for below in children.values() if len(below) == 1}
        if len(lone) != 1 or any(len(below) != 1 or nodes[name].images for name, below in children.items()):
            break
        nodes = {name: node.folders[next(iter(lone))] for name, node in nodes.items()}
    inner = {name: {child.casefold() for child in below} for name, below in children.items()}
    counts = Counter(child for below in inner.values() for child in below)
    is_numbering = any(child.isdecimal() and int(child) > 9 for child in counts)
    meant = {c for c in counts if not (is_variant(c) or (is_numbering and c.isdecimal()))}
    shared = sorted(child for child in meant if counts[child] > 1)
    sharing = [name for name in holders if inner[name] & set(shared)]
    numbered = all(is_numbered(name) for name in holders)
    if numbered and len(holders) > 1 and all(below & meant for below in inner.values()):
        sharing, shared = list(holders), shared or sorted(meant)
    is_certain = any(is_variant(name) or name.isdecimal() for name in sharing)
    every = len(sharing) == len(holders) and (
        len(shared) > 1 or not any(node.images for node in nodes.values())
    )
    if sharing and (is_certain or every):
        raise UserError(
            f"{where} holds {join_names(sharing)}, with the folders {join_names(shared)} in several of them, so its "
            f"classes are unclear: {advise_giving(holders[sharing[0]], root)} alone, {_WAYS_OUT}."
        )


def _refuse_two_levels(holders: dict[str, Tree], where: str) -> None:
    """Refuse classes whose images all lie in folders with words for names: these may be the classes.

    Below folders of patients such words are labels where most patients have one of them, and series where they have
    all.
    """
    classes = {name: [node] for name, node in holders.items() if node.count_images()}
    is_top = True
    while len(classes) > 1 and not any(node.images for nodes in classes.values() for node in nodes):
        below = {name: [_list_filled(node) for node in nodes] for name, nodes in classes.items()}
        children = [child for folders in below.values() for folder in folders for child in folder]
        if _are_labels(list(below.values()), _list_own_words(children), is_top=is_top):
            raise UserError(
                f"{where} holds {join_names(list(classes))}, and all their images lie in "
                f"{join_names(sorted(set(children)))}, so either may be its classes: {_WAYS_OUT}."
            )
        is_top = is_top and all(len(folder) == 1 for folders in below.values() for folder in folders)
        classes = {
            name: [c for folder in folders for c in folder.values()] for name, folders in below.items()
        }


def _are_labels(classes: list[list[dict[str, Tree]]], words: dict[str, str], *, is_top: bool) -> bool:
    """Whether the folders at one depth are called by labels, of which a class has several.

    classes: the folders above them, each with those that it holds. words: what each says itself. is_top: whether each
    class is one folder here.
    """
    words_of = [[{words[name] for name in folder} for folder in folders] for folders in classes]
    single = [len(one) == 1 for folders in words_of for one in folders]
    every = [set.union(*folders) for folders in words_of]
    return (
        (is_top or 2 * sum(single) > len(single))
        and "" not in set.union(*every)
        and any(len(of_class) > 1 for of_class in every)
    )


def _list_filled(node: Tree) -> dict[str, Tree]:
    return {name: child for name, child in node.folders.items() if child.count_images()}


def _list_own_words(names: list[str]) -> dict[str, str]:
    """List what each of these names says itself; what is in one name with digits alone is part of its number."""
    words = {name: find_own_word(name) for name in names}
    counts = Counter(words[name] for name in names)
    return {
        name: word if counts[word] > 1 or not re.search(r"\d", name) else "" for name, word in words.items()
    }
